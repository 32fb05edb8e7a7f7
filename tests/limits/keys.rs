//! Keys of hundreds of kilobytes, from a free text in `group-by`: what is held, said and stored of each is bounded.

use vedette_engine::{Engine, EngineSettings, Output};
use vedette_event::{KEY_PART_BYTES, Micros, Partition};
use vedette_store::{
    Access, Store,
    model::{AlertRevision, NewNotice, Publication},
};

use super::{PARTITION, SOURCE, batch, compile, load, measured};

const BASE: &str = r"
title: base
name: base
id: base
logsource: {category: x}
detection:
  s: {f: 1}
  condition: s
vedette: {entity: url, summary: 'of {url}, {url} and {url}'}
---
";

const OVER: [&str; 5] = [
    "type: event_count, rules: [base], condition: {gte: 1}, group-by: [url]",
    "type: event_count, rules: [base], condition: {gte: 1}, group-by: [url, v]",
    "type: value_count, rules: [base], condition: {gte: 1, field: url}, group-by: [v]",
    "type: temporal, rules: [base], group-by: [url]",
    "type: temporal_ordered, rules: [base], group-by: [v, url]",
];

const RECORDS: i64 = 250;
const BYTES: usize = 900_000;
/// What an alert or a notice over two parts may take: each stands in the key, as the entity and in the summary.
const BODY: usize = 8 << 10;

fn rules() -> String {
    let of = |(n, over): (usize, &&str)| {
        format!("title: over {n}\nid: over-{n}\ncorrelation: {{{over}, timespan: 1h, generate: true}}\n---\n")
    };
    format!("{BASE}{}", OVER.iter().enumerate().map(of).collect::<String>())
}

/// What comes of so many records, each with a text of its own, and the bytes that are held then. Not settled, all of them wait
/// for another partition.
fn flood(settle: bool) -> (Output, i64) {
    let rules = load(&rules());
    assert_eq!(rules.rejected, []);
    let compiled = compile(rules);
    let mut detector = compiled.detector().expect("the source is sound");
    let mut engine = Engine::new(compiled, EngineSettings { notices: true, ..EngineSettings::new([7; 32]) });
    engine.assign(PARTITION, SOURCE, 0);
    if !settle {
        engine.assign(Partition { number: 1, ..PARTITION }, SOURCE, 0);
    }
    let long = "x".repeat(BYTES);
    let (out, info) = measured(|| {
        let mut out = Output::default();
        for n in 0..RECORDS {
            let record = format!(r#"{{"category":"x","f":1,"v":"v{n}","url":"https://{long}/{n}"}}"#);
            engine.absorb(detector.detect(&batch(n, &[record])), &mut out);
            if settle {
                engine.idle(PARTITION, Micros((n + 7_200) * 1_000_000), &mut out);
            }
        }
        // So that only what grows with the records counts: the last one's bytes go with the next.
        detector.detect(&batch(RECORDS, &["{}".to_owned()]));
        (out, engine)
    });
    (out.0, info.bytes_current)
}

#[test]
fn long_texts_in_keys_are_held_and_said_in_short() {
    for settle in [false, true] {
        let (out, held) = flood(settle);
        let alerts = &out.correlated.alerts;
        assert_eq!(out.dead.len(), 0);
        assert_eq!(alerts.len() >= 6 * (RECORDS - 1) as usize, settle, "{} alerts", alerts.len());
        assert!(
            out.correlated.notices.len() >= 6 * (RECORDS - 1) as usize,
            "{:?}",
            out.correlated.notices.len()
        );
        let most = 6 * RECORDS * 2 * 16 * KEY_PART_BYTES as i64;
        assert!(held < most, "{held} bytes are held for {RECORDS} records, settled: {settle}");
        println!("settled {settle}: {held} bytes held, {} alerts", alerts.len());
    }
}

#[tokio::test]
async fn rows_of_long_keys_are_short() {
    let (out, _) = flood(true);
    let folder = tempfile::tempdir().expect("a folder");
    let store =
        Store::open(vedette_store::StoreSettings::new(folder.path(), Access::Engine)).await.expect("opened");
    let alerts = out.correlated.alerts.iter().map(|published| {
        AlertRevision::of(&published.alert, Vec::new(), published.covers_until).expect("a body")
    });
    let notices =
        out.correlated.notices.iter().map(|notice| NewNotice::of(notice, Vec::new()).expect("a body"));
    let publication =
        Publication { alerts: alerts.collect(), notices: notices.collect(), ..Default::default() };
    for alert in &publication.alerts {
        let most = [alert.body.len(), alert.key.len(), alert.summary.len()].into_iter().max();
        assert!(most < Some(BODY), "{most:?}");
    }
    let rows = publication.alerts.len() + publication.notices.len();
    store.publish(&publication).await.expect("stored");
    store.close().await;
    let bytes = std::fs::metadata(folder.path().join("vedette.db")).expect("a database").len();
    println!("{rows} rows in {bytes} bytes");
    // Whom a row concerns is found by name: the parts of its key stand once more in the table of names, and in that table's index.
    let names = 2 * 3 * vedette_event::KEY_PART_BYTES;
    assert!(bytes < (rows * (2 * BODY + names)) as u64, "{bytes} bytes for {rows} rows");
}
