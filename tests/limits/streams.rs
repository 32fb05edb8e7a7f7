//! Five hundred readers of the stream over loopback: each gets every change, what is held for them is bounded, and those that do not
//! keep up are ended and go on without a gap.

use std::{collections::HashMap, net::SocketAddr, sync::Arc, time::Duration};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpSocket, TcpStream},
    sync::{Semaphore, oneshot, watch},
    task::JoinSet,
    time::timeout,
};
use vedette_api::{
    Server,
    live::{Live, LiveView, Mode},
};
use vedette_event::{Micros, Severity, Span, State};
use vedette_store::{
    Access, Store, StoreSettings,
    model::{AlertRevision, Publication},
};

use super::measured;
use crate::served;

const READERS: usize = 500;
/// Of these, so many stop reading until all others have everything.
const SLOW: usize = 40;
const ROWS: usize = 160;
const ROUNDS: u32 = 2;
/// A row, written out; all changes are some times what is held for readers that are behind.
const BYTES: usize = 16 * 1024;
/// For anything: only a test that fails waits for it.
const PATIENCE: Duration = Duration::from_secs(300);
const AT: Micros = Micros(1_769_860_800_000_000);

fn revision(row: usize, revision: u32) -> AlertRevision {
    let id = format!("a{row:063}");
    AlertRevision {
        body: format!(r#"{{"alert_id":"{id}","revision":{revision},"padding":"{}"}}"#, "x".repeat(BYTES)),
        alert_id: id,
        revision,
        state: State::Active,
        continuation: false,
        rule_id: "rule".into(),
        rule_title: "A rule".into(),
        tags: Vec::new(),
        severity: Severity::Medium,
        key: format!(r#"{{"host":"h{row}"}}"#),
        entity: None,
        sources: vec!["json".into()],
        first_seen: AT,
        crossed_at: AT,
        last_seen: AT,
        covers_until: AT.plus(Span::secs(300)),
        count: u64::from(revision),
        measured: None,
        summary: String::new(),
        concerns: Vec::new(),
    }
}

async fn bind(store: &Store) -> Server {
    served::bind(store, LiveView::new(|| Live::starting(Mode::Run, "test", AT)), None).await.expect("bound")
}

/// What a reader has seen: the newest revision of each row, and the last id.
#[derive(Default)]
struct Seen {
    rows: HashMap<String, u32>,
    last: String,
    told_to_go_on: bool,
}

impl Seen {
    fn has_all(&self) -> bool {
        self.rows.len() == ROWS && self.rows.values().all(|revision| *revision == ROUNDS)
    }
}

struct Reader {
    lines: BufReader<TcpStream>,
    seen: Seen,
}

impl Reader {
    /// Follows from the beginning, or from where one stopped.
    async fn open(address: SocketAddr, seen: Seen, buffer: u32) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(buffer).expect("a buffer");
        let mut stream = socket.connect(address).await.expect("connected");
        let last =
            if seen.last.is_empty() { String::new() } else { format!("Last-Event-ID: {}\r\n", seen.last) };
        let head = format!("GET /api/v1/alerts/stream?after=0 HTTP/1.1\r\nHost: localhost\r\n{last}\r\n");
        stream.write_all(head.as_bytes()).await.expect("asked");
        let mut reader = Self { lines: BufReader::with_capacity(4_096, stream), seen };
        let mut status = String::new();
        reader.lines.read_line(&mut status).await.expect("answered");
        assert!(status.starts_with("HTTP/1.1 200"), "{status}");
        reader
    }

    /// Reads until `enough`, or until the service ends the stream; true if it did not.
    async fn read(&mut self, enough: impl Fn(&Seen) -> bool) -> bool {
        let (mut line, mut id, mut event, mut data) = (Vec::new(), None, String::new(), None);
        while !enough(&self.seen) {
            line.clear();
            // An end that is no whole event is dropped, as browsers do.
            if !self.lines.read_until(b'\n', &mut line).await.is_ok_and(|n| n > 0) {
                return false;
            }
            let text = line.strip_suffix(b"\n").unwrap_or_default();
            let text = std::str::from_utf8(text).unwrap_or_default();
            match text.split_once(": ") {
                Some(("id", value)) => id = Some(value.to_owned()),
                Some(("event", value)) => value.clone_into(&mut event),
                Some(("data", value)) => data = Some(newest(value)),
                Some(("retry", _)) => self.seen.told_to_go_on = true,
                _ if text.is_empty() => {
                    self.seen.last = id.take().unwrap_or(std::mem::take(&mut self.seen.last));
                    if let Some((row, revision)) = data.take() {
                        assert_eq!(event, "alert");
                        let known = self.seen.rows.insert(row, revision);
                        assert!(known.is_none_or(|known| known <= revision), "a row went back");
                    }
                }
                _ => {}
            }
        }
        true
    }
}

/// Row and revision, which the body begins with.
fn newest(data: &str) -> (String, u32) {
    let after = |name: &str| {
        let at = data.find(name).expect("a member") + name.len();
        data.get(at..).and_then(|rest| rest.split(['"', ',']).next()).expect("a value")
    };
    (after("\"alert_id\":\"").to_owned(), after("\"revision\":").parse().expect("a number"))
}

/// Serves on this thread alone, and publishes once all readers are there.
fn serve(address: oneshot::Sender<SocketAddr>, ready: &Semaphore, done: watch::Receiver<bool>) {
    let folder = tempfile::tempdir().expect("a folder");
    let serving = async {
        let store = Store::open(StoreSettings::new(folder.path(), Access::Engine)).await.expect("opened");
        let server = bind(&store).await;
        address.send(server.address()).expect("somebody waits for it");
        let mut done = done;
        let publishing = async {
            ready.acquire_many(READERS as u32).await.expect("never closed").forget();
            for round in 1..=ROUNDS {
                for rows in (0..ROWS).collect::<Vec<_>>().chunks(20) {
                    let alerts = rows.iter().map(|row| revision(*row, round)).collect();
                    store
                        .publish(&Publication { alerts, ..Publication::default() })
                        .await
                        .expect("published");
                }
            }
        };
        let stop = async {
            publishing.await;
            let _ = done.wait_for(|done| *done).await;
        };
        server.run(stop).await;
    };
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(serving);
}

#[test]
fn five_hundred_readers_get_every_change_and_slow_ones_go_on_where_they_were_dropped() {
    // Both ends of each connection are here, and systems begin with 1,024 descriptors.
    let bound = getrlimit(Resource::Nofile);
    let wanted = bound.maximum.map_or(4_096, |most| most.min(4_096));
    if bound.current.is_some_and(|now| now < wanted) {
        setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), ..bound }).expect("more descriptors");
    }
    let (send, address) = oneshot::channel();
    let (over, done) = watch::channel(false);
    let ready = Arc::new(Semaphore::new(0));
    let server = std::thread::spawn({
        let ready = Arc::clone(&ready);
        move || measured(|| serve(send, &ready, done)).1
    });
    let reading = async {
        let address = address.await.expect("it serves");
        let (all_read, mut prompt, mut slow) = (Arc::new(Semaphore::new(0)), JoinSet::new(), JoinSet::new());
        for n in 0..READERS {
            let (ready, all_read) = (Arc::clone(&ready), Arc::clone(&all_read));
            if n < SLOW {
                slow.spawn(async move {
                    let mut reader = Reader::open(address, Seen::default(), 4_096).await;
                    ready.add_permits(1);
                    reader.read(|seen| !seen.rows.is_empty()).await;
                    all_read.acquire().await.expect("never closed").forget();
                    let kept_up = reader.read(Seen::has_all).await;
                    let told = reader.seen.told_to_go_on;
                    let mut again = Reader::open(address, reader.seen, 1 << 20).await;
                    assert!(again.read(Seen::has_all).await, "ended again");
                    (kept_up, told)
                });
            } else {
                prompt.spawn(async move {
                    let mut reader = Reader::open(address, Seen::default(), 1 << 20).await;
                    ready.add_permits(1);
                    assert!(reader.read(Seen::has_all).await, "one that reads was ended");
                });
            }
        }
        while let Some(read) = prompt.join_next().await {
            read.expect("it has everything");
        }
        all_read.add_permits(SLOW);
        let (mut kept_up, mut told) = (0, 0);
        while let Some(read) = slow.join_next().await {
            let (kept, was_told) = read.expect("it has everything");
            kept_up += usize::from(kept);
            told += usize::from(was_told);
        }
        over.send_replace(true);
        (kept_up, told)
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let (kept_up, told) = runtime
        .block_on(async { timeout(PATIENCE, reading).await })
        .expect("they have everything in the end");
    let held = server.join().expect("it served").bytes_max;
    println!(
        "{held} bytes at most for {READERS} readers; {told} of {SLOW} slow ones were told where to go on"
    );
    assert_eq!(kept_up, 0, "nobody held for them what they did not read");
    assert!(held < (READERS * 128 * 1024) as u64, "{held} bytes");
}
