//! How many changes a second the store takes, and how long the queue waits for its answers meanwhile.
//!
//! In: `cargo bench -p vedette-store --bench publishing -- [--rules N] [--entities N] [--ask ROUNDS]`, with `--profile dev` before the
//! dashes for a build without optimisation. Out: for notices, first revisions and last revisions of every rule and
//! entity, as they come when all fire at once: seconds, changes a second, statements and bytes written a change; then the sizes of
//! database and journal and the most memory resident. With `--bulk`, how long it takes to close all of them and to take that
//! back, and publications meanwhile. With `--ask`, while 5,000 rows a minute change: milliseconds (half, 99 of 100, all) of what the
//! queue's page asks, of each grouping, of the search for a word that every row has, of the last page by cursor.

#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use vedette_event::{Micros, Severity, State};
use vedette_store::{Access, Store, StoreSettings, model::*};

/// Rows that the kernel hands over at once.
const AT_ONCE: usize = 1_024;

fn argument(name: &str, default: usize) -> usize {
    let mut args = std::env::args().skip_while(|arg| arg != name).skip(1);
    args.next().map_or(default, |value| value.parse().unwrap())
}

fn id(rule: usize, entity: usize, kind: &str) -> String {
    // Spread like hashes, which is what ids are.
    let mixed = ((rule * 1_000_003 + entity) as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    format!("{kind}{mixed:016x}{:047x}", mixed.rotate_left(23))
}

fn key(entity: usize) -> String {
    format!("{{\"source.ip\":\"10.{}.{}.{}\"}}", entity / 65_536, entity / 256 % 256, entity % 256)
}

fn body(id: &str, entity: usize, revision: u32) -> String {
    let evidence: Vec<String> = (0..10)
        .map(|n| {
            format!(
                "{{\"topic\":\"firewall\",\"partition\":3,\"offset\":{},\"index\":0,\
                 \"time\":\"2026-01-01T00:00:00.000000Z\",\"flags\":[]}}",
                entity * 10 + n
            )
        })
        .collect();
    format!("{{\"alert_id\":\"{id}\",\"revision\":{revision},\"evidence\":[{}]}}", evidence.join(","))
}

fn alert(rule: usize, entity: usize, revision: u32) -> AlertRevision {
    let id = id(rule, entity, "a");
    let at = Micros((1_000_000 + entity as i64) * 1_000);
    AlertRevision {
        revision,
        state: if revision == 1 { State::Active } else { State::Ended },
        continuation: false,
        rule_id: format!("6f4f1d1e-64f5-4a0e-9f0b-{rule:012x}"),
        rule_title: format!("Rule {rule} of the storm"),
        tags: vec!["attack.t1046".into(), "attack.discovery".into()],
        severity: Severity::Medium,
        key: key(entity),
        entity: Some(EntityRef { kind: "source.ip".into(), value: format!("10.0.0.{entity}") }),
        sources: vec!["paloalto".into()],
        first_seen: at,
        crossed_at: at,
        last_seen: at.plus(vedette_event::Span::secs(1)),
        covers_until: at.plus(vedette_event::Span::secs(300)),
        count: 10 * u64::from(revision),
        measured: None,
        summary: format!("10 refused sessions from 10.0.0.{entity} within 5 minutes"),
        concerns: Vec::new(),
        body: body(&id, entity, revision),
        alert_id: id,
    }
}

fn notice(rule: usize, entity: usize) -> NewNotice {
    let of = alert(rule, entity, 1);
    let id = id(rule, entity, "n");
    NewNotice {
        concerns: Vec::new(),
        body: body(&id, entity, 0),
        notice_id: id,
        rule_id: of.rule_id,
        rule_title: of.rule_title,
        tags: of.tags,
        severity: of.severity,
        key: of.key,
        entity: of.entity,
        sources: of.sources,
        crossed_at: of.crossed_at,
        count: of.count,
        summary: of.summary,
    }
}

fn peak_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok()).unwrap_or_default() / 1024.0
}

/// Bytes that this process has written to files: the journal, and the pages that were folded from it.
fn written_mib() -> f64 {
    let io = std::fs::read_to_string("/proc/self/io").unwrap_or_default();
    let line = io.lines().find_map(|line| line.strip_prefix("wchar:"));
    line.and_then(|line| line.trim().parse::<f64>().ok()).unwrap_or_default() / 1_048_576.0
}

async fn measure(
    store: &Store,
    what: &str,
    all: &[(usize, usize)],
    of: impl Fn(usize, usize) -> Publication,
) {
    let begun = Instant::now();
    let (before, bytes) = (store.written(), written_mib());
    for rows in all.chunks(AT_ONCE) {
        let mut publication = Publication::default();
        for (rule, entity) in rows {
            let one = of(*rule, *entity);
            publication.notices.extend(one.notices);
            publication.alerts.extend(one.alerts);
        }
        let done = store.publish(&publication).await.unwrap();
        assert_eq!(done.applied, rows.len() as u64);
    }
    let (took, after) = (begun.elapsed().as_secs_f64(), store.written());
    println!(
        "{what:<20} {:>8} changes {took:>8.2} s {:>8.0} changes/s {:>6.2} statements and {:>6.1} KiB \
         written a change",
        all.len(),
        all.len() as f64 / took,
        (after.statements - before.statements) as f64 / all.len() as f64,
        (written_mib() - bytes) * 1_024.0 / all.len() as f64,
    );
}

/// What is not closed and not snoozed.
fn open() -> Filter {
    let status = BTreeSet::from([Status::New, Status::Acknowledged, Status::InProgress]);
    Filter { status, snoozed: Some(false), ..Filter::default() }
}

/// What the queue's page asks for.
async fn page(store: &Store, query: &ListQuery) -> Page<AlertRow> {
    let page = store.list(query).await.unwrap();
    let ids: Vec<(&str, u32)> = page.items.iter().map(|row| (row.id.as_str(), row.revision)).collect();
    store.courses(&ids).await.unwrap();
    let pairs: Vec<_> =
        page.items.iter().filter_map(|row| Some((row.rule_id.as_str(), row.entity.as_ref()?))).collect();
    store.verdicts(&pairs, None).await.unwrap();
    store.summary(SummaryBy::Severity, &query.filter).await.unwrap();
    page
}

/// What the queue's page asks for of the past.
async fn past(store: &Store, query: &ListQuery, seq: i64) {
    let mut then = store.then(seq).await.unwrap();
    let page = then.list(query).await.unwrap();
    let pairs: Vec<_> =
        page.items.iter().filter_map(|row| Some((row.rule_id.as_str(), row.entity.as_ref()?))).collect();
    then.verdicts(&pairs).await.unwrap();
    then.summary(SummaryBy::Severity, &query.filter).await.unwrap();
}

async fn told(what: &str, rounds: usize, mut ask: impl AsyncFnMut()) {
    let mut took = Vec::with_capacity(rounds);
    for _ in 0..rounds {
        let begun = Instant::now();
        ask().await;
        took.push(begun.elapsed().as_secs_f64() * 1_000.0);
    }
    took.sort_by(f64::total_cmp);
    let at = |part: usize| took[(took.len() * part / 100).min(took.len() - 1)];
    println!("{what:<28} {:>7.1} {:>7.1} {:>7.1} ms", at(50), at(99), at(100));
}

/// Asks while rows change.
async fn ask(store: &Store, all: &[(usize, usize)], rounds: usize, seqs: [i64; 2]) {
    let closed = Filter { rule: [alert(0, 0, 1).rule_id].into(), ..Filter::default() };
    let as_of = store.newest_seq().await.unwrap();
    let target = BulkTarget::Matching { filter: Box::new(closed), as_of };
    let patch = TriagePatch {
        status: Some(Status::Closed),
        disposition: Some(Disposition::FalsePositive),
        ..TriagePatch::default()
    };
    store.bulk_triage(&target, &patch, "ann", None).await.unwrap();
    let writer = {
        let (store, rows) = (store.clone(), all.to_vec());
        tokio::spawn(async move {
            for (round, rows) in rows.chunks(42).cycle().enumerate() {
                let revision = 3 + (round / rows.len().max(1)) as u32;
                let alerts = rows.iter().map(|(rule, entity)| alert(*rule, *entity, revision)).collect();
                store.publish(&Publication { alerts, ..Publication::default() }).await.unwrap();
                tokio::time::sleep(Duration::from_millis(504)).await;
            }
        })
    };
    let query = ListQuery { filter: open(), limit: 100, ..ListQuery::default() };
    told("the queue", rounds, async || drop(page(store, &query).await)).await;
    for by in [SummaryBy::Entity, SummaryBy::Rule, SummaryBy::Technique] {
        told(by.name(), rounds, async || drop(store.summary(by, &query.filter).await.unwrap())).await;
    }
    let words = Filter { q: Some("storm".to_owned()), ..open() };
    let search = ListQuery { filter: words, ..query.clone() };
    told("the commonest word", rounds, async || drop(page(store, &search).await)).await;
    let rounds_past = rounds.div_ceil(5);
    for (what, seq) in ["the past: one revision ago", "the past: just now"].into_iter().zip(seqs) {
        told(what, rounds_past, async || past(store, &query, seq).await).await;
    }
    let mut last = ListQuery { limit: 500, ..query };
    while let Some(cursor) = store.list(&last).await.unwrap().next_cursor {
        last.cursor = Some(cursor);
    }
    last.limit = 100;
    told("the last page", rounds, async || drop(page(store, &last).await)).await;
    writer.abort();
}

/// Closes all that there is and takes it back, while others publish.
async fn bulk(store: &Store, all: &[(usize, usize)]) {
    let (ended, mut end) = tokio::sync::watch::channel(false);
    let publisher = {
        let (store, rows) = (store.clone(), all.to_vec());
        tokio::spawn(async move {
            let mut took = Vec::new();
            for (round, rows) in rows.chunks(42).cycle().enumerate() {
                let revision = 3 + (round / rows.len().max(1)) as u32;
                let alerts = rows.iter().map(|(rule, entity)| alert(*rule, *entity, revision)).collect();
                let begun = Instant::now();
                store.publish(&Publication { alerts, ..Publication::default() }).await.unwrap();
                took.push(begun.elapsed().as_secs_f64() * 1_000.0);
                tokio::select! {
                    () = tokio::time::sleep(Duration::from_millis(100)) => {}
                    _ = end.changed() => break,
                }
            }
            took.sort_by(f64::total_cmp);
            took
        })
    };
    let patch = TriagePatch {
        status: Some(Status::Closed),
        disposition: Some(Disposition::FalsePositive),
        ..TriagePatch::default()
    };
    let target = BulkTarget::Matching { filter: Box::new(open()), as_of: store.newest_seq().await.unwrap() };
    let begun = Instant::now();
    let Made::New(change) = store.bulk_triage(&target, &patch, "ann", None).await.unwrap() else { return };
    println!("closing {} rows: {:.2} s", change.results.len(), begun.elapsed().as_secs_f64());
    let (begun, id) = (Instant::now(), change.change_id.unwrap());
    println!(
        "counting them: {:?} in {:.1} ms",
        store.change_of(id, "ann").await.unwrap(),
        begun.elapsed().as_secs_f64() * 1e3
    );
    let begun = Instant::now();
    let Made::New(back) = store.undo_triage(id, "ann", None).await.unwrap() else { return };
    println!("taking {} back: {:.2} s", back.results.len(), begun.elapsed().as_secs_f64());
    ended.send_replace(true);
    let took = publisher.await.unwrap();
    let at = |part: usize| took[(took.len() * part / 100).min(took.len() - 1)];
    println!("{} publications meanwhile: {:.1} {:.1} {:.1} ms", took.len(), at(50), at(99), at(100));
}

#[tokio::main]
async fn main() {
    let (rules, entities) = (argument("--rules", 40), argument("--entities", 1_000));
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(StoreSettings::new(folder.path(), Access::Engine)).await.unwrap();
    // As the engine gives them: in order of time, each entity for every rule.
    let all: Vec<(usize, usize)> =
        (0..entities).flat_map(|entity| (0..rules).map(move |rule| (rule, entity))).collect();
    measure(&store, "notices", &all, |rule, entity| Publication {
        notices: vec![notice(rule, entity)],
        ..Publication::default()
    })
    .await;
    let mut seqs = [0; 2];
    for ((what, revision), seq) in [("first revisions", 1), ("last revisions", 2)].into_iter().zip(&mut seqs)
    {
        measure(&store, what, &all, |rule, entity| Publication {
            alerts: vec![alert(rule, entity, revision)],
            ..Publication::default()
        })
        .await;
        *seq = store.newest_seq().await.unwrap();
    }
    let rounds = argument("--ask", 0);
    if rounds > 0 {
        ask(&store, &all, rounds, seqs).await;
    }
    if std::env::args().any(|argument| argument == "--bulk") {
        bulk(&store, &all).await;
    }
    for file in ["vedette.db", "vedette.db-wal"] {
        let bytes = std::fs::metadata(folder.path().join(file)).map_or(0, |file| file.len());
        println!("{file:<20} {:>8.1} MiB", bytes as f64 / 1_048_576.0);
    }
    println!("{:<20} {:>8.1} MiB", "most memory resident", peak_mib());
}
