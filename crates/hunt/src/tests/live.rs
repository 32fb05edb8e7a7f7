//! What waits for its file and what the files hold: each event once, at every moment.

use std::{
    path::Path,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
};

use tokio::runtime::Handle;
use vedette_event::{Flags, Placed};
use vedette_store::{
    Access, Store, StoreSettings,
    model::{DropReason, LakeCatalog, LakePosition, LostInterval},
};

use super::*;
use crate::{
    RecordBatch, Supply,
    lake::{Lake, LakeReader, Live, Missing, Writer, lean, placed},
};

pub fn lake_columns() -> Columns {
    Columns::of_lake(["source.ip", "source.port", "message"], &declared(), true)
}

/// Events with these offsets, each a second after the one before.
pub fn of(source: &str, offsets: impl Iterator<Item = i64>) -> RecordBatch {
    let mut converter = lake_columns().converter().unwrap();
    let projection = Projection::new(converter.fields().cloned());
    let mut batch = BatchBuilder::new(projection.clone());
    let at = projection.fields().iter().position(|field| &**field == "source.ip").unwrap();
    let mut places = Vec::new();
    for (row, offset) in offsets.enumerate() {
        batch.put(at, Cell { kind: Kind::Text, text: &format!("10.0.0.{}", offset % 7) });
        let time = Micros(NOON + offset * 1_000_000);
        batch.end_row(offset, 0, row as u32, Some(time));
        places.push(Placed { time, flags: Flags::NONE });
    }
    let logs: Vec<Micros> = places.iter().map(|placed| placed.time).collect();
    let origin = Origin { source: source.into(), topic: "t".into(), partition: 0 };
    let batch = batch.finish(SourceIx(0), PARTITION);
    let made = converter.convert(&batch, &origin, |_| Vec::new()).unwrap();
    lean(&placed(&made, &places, &logs, 0).unwrap()).unwrap()
}

pub fn position(topic: &str, next_offset: i64) -> LakePosition {
    LakePosition {
        topic: topic.to_owned(),
        incarnation: 0,
        partition: 0,
        next_offset,
        newest_log: Some(Micros(NOON + (next_offset - 1) * 1_000_000)),
        last_hash: None,
        through: None,
    }
}

fn asked(lake: Lake, sql: &str) -> Vec<Value> {
    all(Query::new(sql)
        .unwrap()
        .ask(lake_columns(), Supply::Lake(Box::new(lake)), Limits::default())
        .unwrap())
    .unwrap()
}

/// The offsets that there are, in order, each as often as it is there.
pub fn offsets(lake: &Lake) -> Vec<i64> {
    let rows = asked(lake.clone(), "select vedette.offset as o from events order by o");
    rows.iter().map(|row| row["o"].as_i64().unwrap()).collect()
}

fn lake(folder: &Path, catalog: LakeCatalog, live: &Live, source: Option<&str>) -> Lake {
    let lake = Lake::new(folder, catalog.files).unwrap();
    lake.with_newest(live.newest(), &catalog.positions, source).unwrap()
}

#[test]
fn what_waits_and_what_is_in_files_is_there_once() {
    let folder = tempfile::tempdir().unwrap();
    let live = Live::default();
    let mut writer = Writer::new(folder.path());
    let fw: Arc<str> = "fw".into();
    for (from, to) in [(0, 5), (5, 9)] {
        writer.push(&fw, &of("fw", from..to), 1).unwrap();
        live.take(&fw, &position("t", to), vec![of("fw", from..to)]);
    }
    let files = writer.write(Micros(NOON)).unwrap();
    live.take(&fw, &position("t", 12), vec![of("fw", 9..12)]);
    let all: Vec<i64> = (0..12).collect();
    // The catalog does not name the files yet, then it does; by another word of where records end as well; then the files are all there is.
    for (files, upto, waiting) in [
        (vec![], None, 12),
        (files.clone(), Some(9), 3),
        (files.clone(), Some(7), 5),
        (files.clone(), Some(12), 0),
    ] {
        let positions = upto.map(|upto| position("t", upto)).into_iter().collect();
        let lake =
            lake(folder.path(), LakeCatalog { files, positions, ..LakeCatalog::default() }, &live, None);
        assert_eq!(lake.live_events(), waiting, "{upto:?}");
        if upto == Some(9) || upto.is_none() {
            assert_eq!(offsets(&lake), all);
            assert_eq!(lake.events(), 12);
        }
        assert_eq!(lake.reached()[0].position, position("t", 12));
    }
    // A topic that was made anew begins anew: its offsets are others.
    let other = LakePosition { incarnation: 1, ..position("t", 100) };
    let catalog = LakeCatalog { positions: vec![other], ..LakeCatalog::default() };
    assert_eq!(lake(folder.path(), catalog, &live, None).live_events(), 12);
    live.written();
    assert_eq!(live_events(&live), 0);
    live.take(&fw, &position("t", 13), vec![of("fw", 12..13)]);
    assert_eq!(live_events(&live), 1);
    live.begin(&[position("t", 12)]);
    assert_eq!(live_events(&live), 0, "it is read again");
}

fn live_events(live: &Live) -> u64 {
    let folder = tempfile::tempdir().unwrap();
    lake(folder.path(), LakeCatalog::default(), live, None).live_events()
}

#[test]
fn one_source_alone_is_asked_and_how_far_all_is_complete() {
    let folder = tempfile::tempdir().unwrap();
    let live = Live::default();
    let (fw, waf): (Arc<str>, Arc<str>) = ("fw".into(), "waf".into());
    live.take(&fw, &position("t", 5), vec![of("fw", 0..5)]);
    live.take(&waf, &position("u", 3), vec![of("waf", 0..3)]);
    // Records of which nothing came.
    live.take(&waf, &position("u", 4), vec![]);
    live.idle("u", 0, 0, Micros(NOON + 60_000_000));
    live.idle("nowhere", 0, 0, Micros(NOON));
    let waf = lake(folder.path(), LakeCatalog::default(), &live, Some("waf"));
    assert_eq!(offsets(&waf), [0, 1, 2]);
    assert_eq!(waf.reached().len(), 2);
    let through = |lake: &Lake| -> Vec<i64> {
        lake.reached().iter().map(|of| (of.through.unwrap().0 - NOON) / 1_000_000).collect()
    };
    assert_eq!(through(&waf), [4, 60]);
    // Another partition that is in files alone, and one that has got further in files.
    let positions = vec![position("s", 2), position("t", 7)];
    let catalog = LakeCatalog { positions, ..LakeCatalog::default() };
    assert_eq!(through(&lake(folder.path(), catalog, &live, None)), [1, 6, 60]);
}

#[test]
fn what_waits_is_asked_as_files_are() {
    let folder = tempfile::tempdir().unwrap();
    let live = Live::default();
    let mut writer = Writer::new(folder.path());
    writer.push(&"fw".into(), &of("fw", 0..50), 1).unwrap();
    let files = writer.write(Micros(NOON)).unwrap();
    for from in (50..100).step_by(10) {
        live.take(&"fw".into(), &position("t", from + 10), vec![of("fw", from..from + 10)]);
    }
    let catalog = LakeCatalog { files, positions: vec![position("t", 50)], ..LakeCatalog::default() };
    let lake = lake(folder.path(), catalog, &live, None);
    for (sql, expected) in [
        ("select count(*) as n from events", 100),
        ("select count(*) as n from events where source.ip = '10.0.0.3'", 14),
        ("select count(*) as n from events where source.ip = '10.0.0.8'", 0),
        ("select count(*) as n from events where source.port is null and message is null", 100),
        ("select count(*) as n from events where vedette.source = 'fw'", 100),
        ("select count(*) as n from events where \"@timestamp\" >= '2026-01-01T12:00:40Z'", 60),
        ("select count(*) as n from events where cidr_match(source.ip, '10.0.0.0/30')", 58),
        ("select count(distinct source.ip) as n from events", 7),
        ("select max(vedette.offset) as n from events", 99),
        ("select count(*) as n from events a join events b on a.vedette.offset = b.vedette.offset", 100),
        ("select vedette.offset as n from events order by \"@timestamp\" desc limit 1", 99),
        ("select count(*) as n from (select * from events limit 70)", 70),
    ] {
        assert_eq!(asked(lake.clone(), sql), [json!({"n": expected})], "{sql}");
    }
}

pub fn topics() -> BTreeMap<String, String> {
    BTreeMap::from([("t".to_owned(), "fw".to_owned()), ("u".to_owned(), "waf".to_owned())])
}

#[test]
fn how_far_it_is_complete_is_said_of_the_topics_that_are_read() {
    let data = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let store = runtime.block_on(Store::open(StoreSettings::new(data.path(), Access::Engine))).unwrap();
    let older = LakePosition { newest_log: Some(Micros(1)), ..position("t", 50) };
    let newer = LakePosition { incarnation: 1, ..position("t", 7) };
    let positions = [older, newer.clone(), position("u", 3), position("gone", 1)];
    runtime.block_on(store.add_to_lake(&[], &positions)).unwrap();
    let live = Live::default();
    let reader = LakeReader::new(store, &data.path().join("lake"), live.clone(), topics());
    let through = |source| {
        let lake = runtime.block_on(reader.now(source)).unwrap();
        lake.through().map(|(time, of)| ((time.0 - NOON) / 1_000_000, of.clone()))
    };
    assert_eq!(through(None), Some((2, position("u", 3))));
    assert_eq!(through(Some("fw")), Some((6, newer)));
    assert_eq!(through(Some("api")), None);
    let renewed = |source| runtime.block_on(reader.now(source)).unwrap().missing().renewed.clone();
    assert_eq!(renewed(None), [("t".to_owned(), Some(Micros(1)))]);
    assert_eq!(renewed(Some("waf")), []);
    live.begin(&positions);
    live.idle("u", 0, 0, Micros(NOON + 9_000_000));
    assert_eq!(through(Some("waf")), Some((9, position("u", 3))));
    // One that is begun and of which nothing has been read.
    assert!(!live.assigned(&position("u", 3)));
    let begun = LakePosition { partition: 1, newest_log: None, ..position("u", 0) };
    assert!(live.assigned(&begun));
    assert_eq!(through(Some("waf")), None);
    live.idle("u", 0, 1, Micros(NOON + 4_000_000));
    assert_eq!(through(Some("waf")), Some((4, begun.clone())));
    let noted = live.positions();
    assert_eq!(noted.last(), Some(&LakePosition { through: Some(Micros(NOON + 4_000_000)), ..begun }));
    assert_eq!(live.read_since(), None);
    let first = runtime.block_on(reader.now(None)).unwrap();
    let since = live.read_since().unwrap();
    let second = runtime.block_on(reader.now(None)).unwrap();
    drop(first);
    assert!(live.read_since().unwrap() >= since);
    drop(second.clone());
    assert!(live.read_since().is_some());
    drop(second);
    assert_eq!(live.read_since(), None, "nobody reads");
}

#[test]
fn what_is_missing_comes_with_the_lake() {
    let data = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let store = runtime.block_on(Store::open(StoreSettings::new(data.path(), Access::Engine))).unwrap();
    let folder = data.path().join("lake");
    let mut writer = Writer::new(&folder);
    writer.push(&"fw".into(), &of("fw", 0..3), 1).unwrap();
    let files = writer.write(Micros(NOON)).unwrap();
    let lost = |topic: &str| LostInterval {
        topic: topic.to_owned(),
        incarnation: 0,
        partition: 0,
        from: 3,
        to: 9,
        noticed_at: Micros(NOON),
    };
    runtime.block_on(async {
        store.add_to_lake(&files, &[position("t", 3)]).await.unwrap();
        store.drop_from_lake(&files, DropReason::Age).await.unwrap();
        store.lost_for_lake(&lost("t")).await.unwrap();
        store.lost_for_lake(&lost("gone")).await.unwrap();
    });
    let reader = LakeReader::new(store, &folder, Live::default(), topics());
    let missing = |source| runtime.block_on(reader.now(source)).unwrap().missing().clone();
    assert_eq!(missing(None).lost, [lost("t")]);
    let dropped: Vec<_> = missing(Some("fw")).dropped.iter().map(|of| (of.events, of.through)).collect();
    assert_eq!(dropped, [(3, Micros(NOON + 2_000_000))]);
    assert_eq!(missing(Some("waf")), Missing::default());
}

/// Takes, writes and has the catalog name events, as the service does, for so many rounds and until it is enough.
fn fill(store: &Store, folder: &Path, live: &Live, runtime: &Handle, rounds: i64, enough: impl Fn() -> bool) {
    let mut writer = Writer::new(folder);
    let fw: Arc<str> = "fw".into();
    let mut next = 0;
    for round in 0.. {
        if round >= rounds && enough() {
            return;
        }
        for _ in 0..=round % 3 {
            let to = next + 1 + round % 5;
            let events = of("fw", next..to);
            writer.push(&fw, &events, 1).unwrap();
            live.take(&fw, &position("t", to), vec![events]);
            next = to;
        }
        if round % 40 == 39 {
            // The stage has begun anew, as after a store that did not answer: what waited is read again.
            let positions = runtime.block_on(store.lake_positions()).unwrap();
            writer = Writer::new(folder);
            live.begin(&positions);
            next = positions[0].next_offset;
            continue;
        }
        let files = writer.write(Micros(NOON + round)).unwrap();
        runtime.block_on(store.add_to_lake(&files, &[position("t", next)])).unwrap();
        writer.written();
        live.written();
    }
}

#[test]
fn each_event_is_there_once_while_files_are_closed() {
    let data = tempfile::tempdir().unwrap();
    let folder = data.path().join("lake");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let store = runtime.block_on(Store::open(StoreSettings::new(data.path(), Access::Engine))).unwrap();
    let live = Live::default();
    let done = AtomicBool::new(false);
    let satisfied = AtomicUsize::new(0);
    let looks = thread::scope(|scope| {
        let reader = LakeReader::new(store.clone(), &folder, live.clone(), topics());
        let looks: Vec<_> = (0..2)
            .map(|_| {
                let (reader, runtime, done, satisfied) =
                    (reader.clone(), runtime.handle(), &done, &satisfied);
                scope.spawn(move || {
                    let (mut looks, mut mixed, mut had) = (0, 0, false);
                    while !done.load(Ordering::Relaxed) {
                        let lake = runtime.block_on(reader.now(None)).unwrap();
                        // Without a query, so that there are many looks.
                        let next = lake.reached().first().map_or(0, |of| of.position.next_offset);
                        assert_eq!(lake.events(), next.unsigned_abs());
                        looks += 1;
                        mixed += u64::from(lake.live_events() > 0 && !lake.files().is_empty());
                        if looks % 20 == 0 {
                            assert_eq!(offsets(&lake), (0..next).collect::<Vec<_>>());
                        }
                        if !had && looks > 40 && mixed > 0 {
                            had = true;
                            satisfied.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                    (looks, mixed)
                })
            })
            .collect();
        // Where the machine is busy 120 rounds are over before each has looked so often.
        let enough = || satisfied.load(Ordering::Relaxed) == 2 || looks.iter().any(|look| look.is_finished());
        fill(&store, &folder, &live, runtime.handle(), 120, enough);
        done.store(true, Ordering::Relaxed);
        looks.into_iter().map(|look| look.join().unwrap()).collect::<Vec<_>>()
    });
    assert!(looks.iter().all(|(looks, mixed)| *looks > 40 && *mixed > 0), "{looks:?}");
    runtime.block_on(store.close());
}
