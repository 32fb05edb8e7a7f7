//! How long the queue's pages take over HTTP while rows change.
//!
//! In: `cargo bench -p vedette-api --bench pages -- [--rules N] [--entities N] [--ask ROUNDS] [--port P --minutes N]`. Out: with an alert of each
//! rule and entity, and 5,000 rows a minute changing: milliseconds (half, 99 of 100, all) from the question to the last byte of the
//! default queue, of each grouping, of the search for a word that every row has, of the last page by cursor, of an alert and an entity, and each page's
//! bytes. With `--port` it serves on for so many minutes, for a browser to look at.

#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::indexing_slicing)]

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
};
use vedette_api::{
    Metrics, Server, ServerSettings, SessionLimits,
    checking::RuleCheck,
    live::{Live, LiveView, Mode},
};
use vedette_event::{Micros, Severity, Span, State};
use vedette_store::{Access, Store, StoreSettings, model::*};

/// Rows that are published at once at the beginning.
const AT_ONCE: usize = 1_024;
/// So many rows every half second are 5,000 a minute.
const CHANGING: usize = 42;

fn argument(name: &str, default: usize) -> usize {
    let mut args = std::env::args().skip_while(|arg| arg != name).skip(1);
    args.next().map_or(default, |value| value.parse().unwrap())
}

fn alert(rule: usize, entity: usize, revision: u32, now: Micros) -> AlertRevision {
    // Spread like hashes, which is what ids are.
    let mixed = ((rule * 1_000_003 + entity) as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let id = format!("a{mixed:016x}{:047x}", mixed.rotate_left(23));
    let (name, title) =
        (format!("10.0.{}.{}", entity / 256, entity % 256), format!("Rule {rule} of the storm"));
    let at = now.minus(Span(((rule * 1_000_003 + entity * 7_919) % 86_400_000) as i64 * 1_000));
    let evidence = |n: usize| {
        format!(
            "{{\"topic\":\"firewall\",\"partition\":3,\"offset\":{},\"index\":0,\"time\":\"{at}\",\"flags\":[]}}",
            entity * 10 + n
        )
    };
    let evidence: Vec<String> = (0..10).map(evidence).collect();
    let summary = format!("{title}: source.ip {name}, {} refused sessions within 5 minutes", 10 * revision);
    let rule_id = format!("6f4f1d1e-64f5-4a0e-9f0b-{rule:012x}");
    let level = Severity::ALL[rule % Severity::ALL.len()];
    let body = format!(
        "{{\"alert_id\":\"{id}\",\"revision\":{revision},\"state\":\"active\",\"continuation\":false,\"rule\":{{\"id\":\"{rule_id}\",\
         \"title\":\"{title}\",\"level\":\"{}\",\"type\":\"event_count\",\"version\":\"5be1c4d09a77f213\",\"tags\":[\"attack.t1046\"]}},\
         \"key\":{{\"source.ip\":\"{name}\"}},\"entity\":{{\"type\":\"source.ip\",\"value\":\"{name}\"}},\"first_seen\":\"{at}\",\
         \"crossed_at\":\"{at}\",\"last_seen\":\"{at}\",\"count\":{n},\"value\":{n},\"severity\":\"{}\",\"risk\":10,\"summary\":\"{summary}\",\
         \"evidence\":[{}],\"evidence_total\":{n},\"explanation\":{{\"type\":\"event_count\"}},\"flags\":[]}}",
        level.name(),
        level.name(),
        evidence.join(","),
        n = 10 * revision,
    );
    AlertRevision {
        revision,
        state: State::Active,
        continuation: false,
        rule_id,
        rule_title: title,
        tags: vec!["attack.t1046".into(), "attack.discovery".into()],
        severity: level,
        key: format!("{{\"source.ip\":\"{name}\"}}"),
        entity: Some(EntityRef { kind: "source.ip".into(), value: name }),
        sources: vec!["paloalto".into()],
        first_seen: at,
        crossed_at: at,
        last_seen: at,
        covers_until: at.plus(Span::secs(300)),
        count: 10 * u64::from(revision),
        measured: None,
        summary,
        concerns: Vec::new(),
        body,
        alert_id: id,
    }
}

async fn serve(store: &Store, now: Micros) -> SocketAddr {
    let live = LiveView::new(move || Live::starting(Mode::Run, "bench", now));
    let settings = ServerSettings {
        address: format!("127.0.0.1:{}", argument("--port", 0)).parse().unwrap(),
        open_loopback: true,
        console: true,
        oidc: None,
        sessions: SessionLimits::USUAL,
        proxy_tls: false,
        tls: None,
        hosts: Vec::new(),
        reloads: None,
        check: RuleCheck::new(|_| Err("no rules here".to_owned())),
        backtests: None,
        board: None,
        response: None,
        hunts: None,
    };
    let metrics = Arc::new(Metrics::new(live.clone()));
    let server = Server::bind(settings, store.clone(), live, metrics).await.unwrap();
    let address = server.address();
    tokio::spawn(server.run(std::future::pending()));
    address
}

/// One connection, kept from question to question.
struct Browser(BufReader<TcpStream>);

impl Browser {
    async fn to(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self(BufReader::with_capacity(1 << 20, stream))
    }

    async fn get(&mut self, path: &str) -> String {
        let head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: text/html\r\n\r\n");
        self.0.get_mut().write_all(head.as_bytes()).await.unwrap();
        let (mut line, mut length) = (String::new(), 0);
        loop {
            line.clear();
            self.0.read_line(&mut line).await.unwrap();
            if line.starts_with("HTTP/1.1") {
                assert!(line.starts_with("HTTP/1.1 200"), "{path}: {line}");
            }
            match line.trim_end().to_ascii_lowercase().split_once(": ") {
                Some(("content-length", value)) => length = value.parse().unwrap(),
                None if line.trim_end().is_empty() => break,
                _ => {}
            }
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).await.unwrap();
        String::from_utf8(body).unwrap()
    }
}

/// Where the first link of the first cell of this class leads.
fn link(page: &str, class: &str) -> String {
    let cell = page.split_once(&format!("class=\"{class}\"")).unwrap().1;
    let (_, link) = cell.split_once("href=\"").unwrap();
    link.split('"').next().unwrap().replace("&#38;", "&")
}

async fn ask(address: SocketAddr, rounds: usize) {
    let browser = &mut Browser::to(address).await;
    let first = browser.get("/").await;
    let (one, who) = (link(&first, "what"), link(&first, "who"));
    // Through all rows, five hundred at a time.
    let (mut cursor, mut last) = (String::new(), String::new());
    loop {
        let path = format!("/api/v1/alerts?status=new,acknowledged,in_progress&snoozed=no&limit=500{cursor}");
        let page = browser.get(&path).await;
        let Some((_, next)) = page.rsplit_once("\"next_cursor\":\"") else { break };
        let next = &next[..next.find('"').unwrap()];
        cursor = format!("&cursor={next}");
        last = format!("/?cursor={next}");
    }
    for (what, path) in [
        ("the queue", "/"),
        ("by severity", "/?sort=-severity"),
        ("by entity", "/?group=entity"),
        ("by rule", "/?group=rule"),
        ("by technique", "/?group=technique"),
        ("the commonest word", "/?q=storm"),
        ("two words", "/?q=storm+10.0.1"),
        ("the last page", last.as_str()),
        ("an alert", one.as_str()),
        ("an entity", who.as_str()),
    ] {
        let (mut took, mut bytes) = (Vec::with_capacity(rounds), 0);
        for _ in 0..rounds {
            let begun = Instant::now();
            bytes = browser.get(path).await.len();
            took.push(begun.elapsed().as_secs_f64() * 1_000.0);
        }
        took.sort_by(f64::total_cmp);
        let at = |part: usize| took[(took.len() * part / 100).min(took.len() - 1)];
        println!("{what:<28} {:>7.1} {:>7.1} {:>7.1} ms {bytes:>8} bytes", at(50), at(99), at(100));
    }
}

#[tokio::main]
async fn main() {
    let (rules, entities) = (argument("--rules", 100), argument("--entities", 1_000));
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(StoreSettings::new(folder.path(), Access::Engine)).await.unwrap();
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let now = Micros(i64::try_from(since.as_micros()).unwrap());
    let all: Vec<(usize, usize)> =
        (0..entities).flat_map(|entity| (0..rules).map(move |rule| (rule, entity))).collect();
    for rows in all.chunks(AT_ONCE) {
        let alerts = rows.iter().map(|(rule, entity)| alert(*rule, *entity, 1, now)).collect();
        store.publish(&Publication { alerts, ..Publication::default() }).await.unwrap();
    }
    let address = serve(&store, now).await;
    println!("{} alerts at http://{address}/", all.len());
    let writer = tokio::spawn(async move {
        for (round, rows) in all.chunks(CHANGING).cycle().enumerate() {
            let revision = 2 + (round * CHANGING / all.len()) as u32;
            let alerts = rows.iter().map(|(rule, entity)| alert(*rule, *entity, revision, now)).collect();
            store.publish(&Publication { alerts, ..Publication::default() }).await.unwrap();
            tokio::time::sleep(Duration::from_millis(504)).await;
        }
    });
    let rounds = argument("--ask", 100);
    if rounds > 0 {
        ask(address, rounds).await;
    }
    tokio::time::sleep(Duration::from_secs(60 * argument("--minutes", 0) as u64)).await;
    writer.abort();
}
