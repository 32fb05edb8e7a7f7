//! How fast what is enforced is fetched: a hundred thousand decisions, fifty bouncers that poll, lookups meanwhile.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
    time::{Instant, sleep},
};
use vedette_act::{Board, Outlet};
use vedette_event::{Micros, Span};
use vedette_respond::{Action, ConnectorKind, Target, desired::InForce};
use vedette_store::{Access, Store};

use super::{NOON, watched};
use crate::{
    Metrics, Server, ServerSettings, SessionLimits,
    live::{Live, Mode},
    metrics::now,
};

const DECISIONS: u32 = 100_000;
const BOUNCERS: usize = 50;
const LOOKUPS: usize = 5_000;

/// Every fourth one a range, all of them far apart; those of a later round differ in a hundred.
fn in_force(round: u32, until: Micros) -> Vec<InForce> {
    let one = |n: u32| {
        let shift = if n < 100 { round } else { 0 };
        let address = Ipv4Addr::from(0x1000_0000 + n * 0x2000 + shift * 16);
        let bits = if n.is_multiple_of(4) { 28 } else { 32 };
        let net = ipnet::IpNet::new(address.into(), bits).unwrap();
        InForce {
            action: Action::BlockAddress,
            target: Target::Network(net),
            until,
            except: Vec::new(),
            playbook: "perimeter-block".into(),
        }
    };
    (0..DECISIONS).map(one).collect()
}

async fn serve(board: Board) -> (SocketAddr, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(vedette_store::StoreSettings::new(folder.path(), Access::Engine)).await.unwrap();
    let (sender, live) = watched(Live::starting(Mode::Run, "0.1.0", NOON));
    let settings = ServerSettings {
        address: "127.0.0.1:0".parse().unwrap(),
        open_loopback: true,
        console: false,
        oidc: None,
        sessions: SessionLimits::USUAL,
        proxy_tls: false,
        tls: None,
        hosts: Vec::new(),
        reloads: None,
        check: super::check(),
        backtests: None,
        response: None,
        hunts: None,
        board: Some(board),
    };
    let metrics = Arc::new(Metrics::new(live.clone()));
    let server = Server::bind(settings, store, live, metrics).await.unwrap();
    let address = server.address();
    tokio::spawn(async move {
        let _sender = sender;
        server.run(std::future::pending()).await;
    });
    (address, folder)
}

/// The bytes of an answer on a connection of its own.
async fn fetch(address: SocketAddr, path: &str) -> usize {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let (mut piece, mut all, mut first) = (vec![0; 256 * 1024], 0, true);
    loop {
        let n = stream.read(&mut piece).await.unwrap();
        if std::mem::replace(&mut first, false) {
            assert!(piece.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&piece[..n.min(300)]));
        }
        if n == 0 {
            return all;
        }
        all += n;
    }
}

/// One lookup on a connection that stays open.
async fn look_up(stream: &mut TcpStream, address: Ipv4Addr) -> Duration {
    let began = Instant::now();
    let head = format!("GET /v1/decisions?ip={address} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !(answer.ends_with(b"null") || answer.ends_with(b"]")) {
        assert!(stream.read_buf(&mut answer).await.unwrap() > 0);
    }
    began.elapsed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement: cargo test --release -p vedette-api fetching -- --ignored --nocapture"]
async fn measure_a_hundred_thousand_decisions() {
    let board = Board::new(vec![Outlet {
        name: "crowdsec".into(),
        kind: ConnectorKind::Crowdsec,
        capacity: 200_000,
    }]);
    let until = now().plus(Span::secs(3_600));
    let set = in_force(0, until);
    let began = Instant::now();
    board.show("crowdsec", set, now());
    println!("first shown in {:?}", began.elapsed());
    let set = in_force(1, until);
    let began = Instant::now();
    board.show("crowdsec", set, now());
    println!("shown anew in {:?}", began.elapsed());
    let (address, _folder) = serve(board.clone()).await;
    for what in ["written", "from the buffer"] {
        let mut times = Vec::new();
        for _ in 0..7 {
            let began = Instant::now();
            let bytes = fetch(address, "/v1/decisions/stream?startup=true").await;
            times.push((began.elapsed(), bytes));
            if what == "written" {
                sleep(Duration::from_millis(1_100)).await;
            }
        }
        times.sort();
        println!(
            "the whole stream, {what}: {:?} in the middle, {:?} at most, {} bytes",
            times[3].0, times[6].0, times[0].1
        );
    }
    let mut others = JoinSet::new();
    for n in 0..BOUNCERS {
        others.spawn(async move {
            // Ten times as often as bouncers do by themselves; one of them starts anew each time.
            loop {
                fetch(address, &format!("/v1/decisions/stream?startup={}", n == 0)).await;
                sleep(Duration::from_secs(1)).await;
            }
        });
    }
    let changing = board.clone();
    others.spawn_blocking(move || {
        for round in 2..30 {
            changing.show("crowdsec", in_force(round, until), now());
            std::thread::sleep(Duration::from_secs(1));
        }
    });
    let mut stream = TcpStream::connect(address).await.unwrap();
    let mut times = Vec::new();
    for n in 0..LOOKUPS as u32 {
        times.push(
            look_up(&mut stream, Ipv4Addr::from(0x1000_0000 + (n * 7_919 % DECISIONS) * 0x2000 + n % 3))
                .await,
        );
        sleep(Duration::from_millis(1)).await;
    }
    times.sort();
    let at = |part: usize| times[(times.len() * part / 1_000).min(times.len() - 1)];
    println!(
        "lookups while {BOUNCERS} poll: p50 {:?}, p99 {:?}, p99.9 {:?}, most {:?}",
        at(500),
        at(990),
        at(999),
        at(1_000)
    );
    others.abort_all();
}
