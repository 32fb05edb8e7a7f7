//! Records as they came: found by the rows of a query, wherever they are, and nobody else pays for them.

use std::{collections::BTreeSet, fs, path::Path};

use arrow_array::{ArrayRef, StringViewArray, cast::AsArray as _};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use proptest::prelude::*;
use vedette_event::{Flags, Placed};
use vedette_store::model::{Holds, LakeFile, LakePosition};

use super::*;
use crate::{
    RecordBatch, Supply,
    lake::{Lake, LakeError, Live, Writer, beside, lean, merge, placed, remove_orphans, verify},
};

const SECOND: i64 = 1_000_000;

fn lake_columns() -> Columns {
    Columns::of_lake(["source.ip", "source.port", "message"], &declared(), true)
}

/// Where a record stands.
type Spot = (i32, i64);

fn text((partition, offset): Spot) -> String {
    // Not all alike, so that they do not pack to nothing.
    let noise = blake3::hash(format!("{partition} {offset}").as_bytes()).to_hex();
    format!("<14> \"{partition}\" {offset} {noise} é")
}

/// Events of a partition at these offsets, a second after each other; every third record is not kept.
fn of(source: &str, partition: i32, offsets: &[i64]) -> RecordBatch {
    let mut converter = lake_columns().converter().unwrap();
    let projection = Projection::new(converter.fields().cloned());
    let mut batch = BatchBuilder::new(projection.clone());
    let at = projection.fields().iter().position(|field| &**field == "source.ip").unwrap();
    let mut places = Vec::new();
    for (row, offset) in offsets.iter().enumerate() {
        batch.put(
            at,
            Cell { kind: Kind::Text, text: &format!("10.0.{}.{}", offset / 250 % 250, offset % 250) },
        );
        if is_kept(*offset) {
            batch.keep_original(&text((partition, *offset)));
        }
        let time = Micros(NOON + offset * SECOND);
        batch.end_row(*offset, 0, row as u32, Some(time));
        places.push(Placed { time, flags: Flags::NONE });
    }
    let logs: Vec<Micros> = places.iter().map(|placed| placed.time).collect();
    let origin = Origin { source: source.into(), topic: "t".into(), partition };
    let batch = batch.finish(SourceIx(0), PARTITION);
    let made = converter.convert(&batch, &origin, |_| Vec::new()).unwrap();
    beside(&lean(&placed(&made, &places, &logs, 0).unwrap()).unwrap(), batch.originals().clone()).unwrap()
}

fn is_kept(offset: i64) -> bool {
    offset % 3 != 0
}

fn position(partition: i32, next_offset: i64) -> LakePosition {
    LakePosition {
        topic: "t".to_owned(),
        incarnation: 0,
        partition,
        next_offset,
        newest_log: None,
        last_hash: None,
        through: None,
    }
}

fn lake(folder: &Path, files: &[LakeFile]) -> Lake {
    let (events, originals): (Vec<_>, Vec<_>) =
        files.iter().cloned().partition(|file| file.holds == Holds::Events);
    Lake::new(folder, events).unwrap().with_originals(originals)
}

fn begun(lake: Lake, sql: &str) -> Result<Answer, Error> {
    Query::new(sql)?.ask(lake_columns(), Supply::Lake(Box::new(lake)), Limits::default())
}

fn asked(lake: Lake, sql: &str) -> Result<Vec<Value>, Error> {
    all(begun(lake, sql)?)
}

/// What each event's original is, by where it stands; each event once.
fn found(lake: Lake) -> BTreeMap<Spot, Option<String>> {
    let sql = "select vedette.partition as p, vedette.offset as o, event.original as line from events";
    let mut found = BTreeMap::new();
    for row in asked(lake, sql).unwrap() {
        let spot = (row["p"].as_i64().unwrap() as i32, row["o"].as_i64().unwrap());
        assert_eq!(found.insert(spot, row["line"].as_str().map(str::to_owned)), None, "{spot:?} twice");
    }
    found
}

fn expected(spots: impl IntoIterator<Item = Spot>) -> BTreeMap<Spot, Option<String>> {
    spots.into_iter().map(|spot| (spot, is_kept(spot.1).then(|| text(spot)))).collect()
}

/// The places of the rows of a file of originals, in their order there.
fn spots(folder: &Path, file: &LakeFile) -> Vec<Spot> {
    let opened = fs::File::open(folder.join(&file.path)).unwrap();
    let reader = ParquetRecordBatchReaderBuilder::try_new(opened).unwrap().build().unwrap();
    let mut spots = Vec::new();
    for batch in reader {
        let batch = batch.unwrap();
        let partitions: Vec<i32> = batch
            .column_by_name("vedette.partition")
            .unwrap()
            .as_primitive::<arrow_array::types::Int32Type>()
            .values()
            .to_vec();
        let offsets = batch.column_by_name("vedette.offset").unwrap();
        let offsets = offsets.as_primitive::<arrow_array::types::Int64Type>().values();
        spots.extend(partitions.into_iter().zip(offsets.iter().copied()));
    }
    spots
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn each_row_has_its_original_wherever_that_is(
        pieces in proptest::collection::vec((0..4_i32, proptest::collection::btree_set(0..9_000_i64, 1..40), any::<bool>()), 1..12),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let fw: Arc<str> = "fw".into();
        let mut there: BTreeSet<Spot> = BTreeSet::new();
        let mut writer = Writer::new(folder.path());
        let mut files: Vec<LakeFile> = Vec::new();
        let live = Live::default();
        for (partition, offsets, write) in pieces {
            let offsets: Vec<i64> = offsets.into_iter().filter(|of| !there.contains(&(partition, *of))).collect();
            there.extend(offsets.iter().map(|offset| (partition, *offset)));
            let batch = of("fw", partition, &offsets);
            writer.push(&fw, &batch, 1).unwrap();
            live.take(&fw, &position(partition, 9_000), vec![batch]);
            if write {
                files.extend(writer.write(Micros(NOON + files.len() as i64)).unwrap());
                writer.written();
                live.written();
            }
        }
        // What waits, and what is in files.
        let now = lake(folder.path(), &files).with_newest(live.newest(), &[], None).unwrap();
        prop_assert_eq!(found(now), expected(there.iter().copied()));
        files.extend(writer.write(Micros(NOON + 99)).unwrap());
        writer.written();
        prop_assert_eq!(found(lake(folder.path(), &files)), expected(there.iter().copied()));
        // Many become one.
        let (events, originals): (Vec<_>, Vec<_>) = files.into_iter().partition(|file| file.holds == Holds::Events);
        let mut merged = events;
        let mut by_hour: BTreeMap<i64, Vec<LakeFile>> = BTreeMap::new();
        for file in originals {
            prop_assert!(spots(folder.path(), &file).is_sorted(), "{}", file.path);
            prop_assert!(file.path.starts_with("originals/fw/") && file.index_bytes == 0);
            by_hour.entry(file.hour).or_default().push(file);
        }
        for (hour, files) in by_hour {
            let one = merge(folder.path(), &files, Micros(NOON + 100 + hour), &mut || true).unwrap().unwrap();
            verify(folder.path(), &one).unwrap();
            prop_assert_eq!((one.holds, one.hour), (Holds::Originals, hour));
            prop_assert!(spots(folder.path(), &one).is_sorted());
            merged.push(one);
        }
        prop_assert_eq!(found(lake(folder.path(), &merged)), expected(there.iter().copied()));
        // Without them the events are there all the same.
        merged.retain(|file| file.holds == Holds::Events);
        let none = found(lake(folder.path(), &merged));
        prop_assert!(none.len() == there.len() && none.values().all(Option::is_none));
    }
}

/// Files of so many events of two partitions.
fn filled(folder: &Path, events: i64) -> Vec<LakeFile> {
    let mut writer = Writer::new(folder);
    for partition in 0..2 {
        let offsets: Vec<i64> = (0..events).collect();
        for some in offsets.chunks(512) {
            writer.push(&"fw".into(), &of("fw", partition, some), 1).unwrap();
        }
    }
    writer.write(Micros(NOON)).unwrap()
}

#[test]
fn who_names_them_gets_them_however_they_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let files = filled(folder.path(), 20);
    let lake = || lake(folder.path(), &files);
    let one = |sql: &str| {
        let rows = asked(lake(), sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
        assert_eq!(rows.len(), 1, "{sql}: {rows:?}");
        rows[0].clone()
    };
    let line = text((1, 7));
    for sql in [
        "select event.original from events where vedette.offset = 7 and vedette.partition = 1",
        "select \"event.original\" from events where vedette.offset = 7 and vedette.partition = 1",
        "select e.event.original from events e where e.vedette.offset = 7 and e.vedette.partition = 1",
        "select e.\"event.original\" from events e where vedette.offset = 7 and vedette.partition = 1",
        "select event.original from events where event.original like '%\"1\" 7 %'",
        "select event.original from events where match(event.original, '7') and vedette.partition = 1 and vedette.offset < 8",
        "select event.original from (select * from events) e where vedette.offset = 7 and vedette.partition = 1",
        "with e as (select * from events limit 100) select event.original from e where vedette.offset = 7 and vedette.partition = 1",
        "select event.original, count(*) as n from events where vedette.offset = 7 and vedette.partition = 1 group by event.original",
        "select *, event.original from events where vedette.offset = 7 order by vedette.partition desc limit 1",
        "select event.original from events where vedette.offset in (7, 8) and vedette.partition = 1 order by event.original limit 1",
        "select e.event.original from events e join events f on e.vedette.offset = f.vedette.offset and f.vedette.partition = 0 \
         where e.vedette.partition = 1 and e.vedette.offset = 7",
        "select event.original from events where vedette.partition = 1 and vedette.offset = 7 union all select event.original from events where 1 = 2",
    ] {
        assert_eq!(one(sql)["event.original"], line, "{sql}");
    }
    let star = one("select * from events where vedette.offset = 7 and vedette.partition = 1");
    assert!(!star.as_object().unwrap().keys().any(|name| name.contains("original")), "{star}");
    let both = one("select *, event.original from events where vedette.offset = 7 and vedette.partition = 1");
    assert_eq!(both.as_object().unwrap().len(), star.as_object().unwrap().len() + 1, "{both}");
    let named = one("select 'x' as \"event.original\" from events limit 1");
    assert_eq!(named["event.original"], "x");
    let counts = one(
        "select count(*) as n, count(event.original) as kept, sum(length(event.original)) as bytes from events",
    );
    let kept = (0..20).filter(|offset| is_kept(*offset)).count() * 2;
    assert_eq!((&counts["n"], &counts["kept"]), (&json!(40), &json!(kept)));
    let null =
        one("select event.original as line from events where vedette.offset = 6 and vedette.partition = 1");
    assert_eq!(null["line"], Value::Null, "it is not kept");
    let sources = asked(lake(), "explain select event.original from events limit 1").unwrap();
    assert!(!sources.is_empty());
}

#[test]
fn where_they_are_not_it_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let files = filled(folder.path(), 20);
    let said = |sql: &str| asked(lake(folder.path(), &files), sql).unwrap_err().to_string();
    let message = said("select event.original from (select event.original from events) e");
    assert!(message.contains("take it along by another name: `event.original as line`"), "{message}");
    let message =
        said("select event.original from events e join events f on e.vedette.offset = f.vedette.offset");
    assert!(message.contains("write which (`e.event.original`)"), "{message}");
    let near = said("select event.orginal from events");
    assert!(near.contains("did you mean `event.original`"), "{near}");
    assert!(lake_columns().shown().any(|column| column == ("event.original", "text")));
    let query = |sql: &str| Query::new(sql).unwrap().names_originals();
    for sql in [
        "select event.original from events",
        "select E.\"event.original\" from x",
        "select 1 order by event.original",
    ] {
        assert!(query(sql), "{sql}");
    }
    for sql in [
        "select * from events",
        "select 'event.original'",
        "select event.original.x from events",
        "select 1 -- event.original",
    ] {
        assert!(!query(sql), "{sql}");
    }
}

#[test]
fn one_is_found_by_reading_little_and_none_are_read_by_who_names_none() {
    let folder = tempfile::tempdir().unwrap();
    // Within one hour; each page of texts has some hundred.
    let files = filled(folder.path(), 3_599);
    let wide: Vec<LakeFile> = files.iter().filter(|file| file.holds == Holds::Originals).cloned().collect();
    assert_eq!(wide.len(), 1);
    let read = |sql: &str| {
        let mut answer = begun(lake(folder.path(), &files), sql).unwrap();
        while answer.next().unwrap().is_some() {}
        answer.gauge().read()
    };
    let place = "from events where vedette.partition = 1 and vedette.offset = 3001";
    let (without, with) = (
        read(&format!("select source.ip {place}")),
        read(&format!("select source.ip, event.original {place}")),
    );
    let more = with.bytes - without.bytes;
    assert!(more > 0 && more < wide[0].bytes / 3, "{more} of {} bytes", wide[0].bytes);
    assert_eq!((without.files, with.files), (1, 2));
    // What is behind conditions and limits is not looked for.
    let few = read("select event.original from events where source.ip like '10.0.1%' limit 3");
    let all = read("select max(event.original) from events");
    let newest = "from events order by \"@timestamp\" desc, vedette.partition limit 3";
    let newest =
        read(&format!("select *, event.original {newest}")).bytes - read(&format!("select * {newest}")).bytes;
    assert!(newest < more * 3, "{newest} for three and {more} for one");
    assert!(few.bytes < all.bytes / 2, "{} and {}", few.bytes, all.bytes);
    fs::remove_file(folder.path().join(&wide[0].path)).unwrap();
    asked(lake(folder.path(), &files), "select * from events").unwrap();
    let error = asked(lake(folder.path(), &files), &format!("select event.original {place}")).unwrap_err();
    assert!(
        matches!(error, Error::Source(_)) && error.to_string().contains("vedette lake verify"),
        "{error}"
    );
    assert!(matches!(verify(folder.path(), &wide[0]), Err(LakeError::Damaged { .. })));
}

#[test]
fn originals_that_are_named_stay_and_others_are_orphans() {
    let folder = tempfile::tempdir().unwrap();
    let files = filled(folder.path(), 20);
    let named: BTreeSet<String> = files.iter().map(|file| file.path.clone()).collect();
    assert_eq!(named.len(), 2);
    assert_eq!(remove_orphans(folder.path(), &named).unwrap(), 0);
    let events: BTreeSet<String> =
        named.iter().filter(|path| !path.starts_with("originals/")).cloned().collect();
    assert_eq!(remove_orphans(folder.path(), &events).unwrap(), 1);
    assert!(!folder.path().join(named.difference(&events).next().unwrap()).exists());
}

#[test]
fn what_cannot_be_written_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    // Where originals are to go there is a file.
    fs::write(folder.path().join("originals"), "x").unwrap();
    let mut writer = Writer::new(folder.path());
    writer.push(&"fw".into(), &of("fw", 0, &[1, 2]), 1).unwrap();
    writer.write(Micros(NOON)).unwrap_err();
    let left = fs::read_dir(folder.path().join("fw/2026-01-01")).unwrap().count();
    assert_eq!(left, 0, "events without their originals");
}

#[test]
fn without_texts_nothing_is_beside() {
    let batch = of("fw", 0, &[0, 3]);
    assert!(batch.column_by_name("vedette.original").is_none(), "none of them is kept");
    let texts: ArrayRef = Arc::new(StringViewArray::from(vec![Some("x")]));
    beside(&batch, texts).unwrap_err();
    let folder = tempfile::tempdir().unwrap();
    let mut writer = Writer::new(folder.path());
    writer.push(&"fw".into(), &batch, 1).unwrap();
    assert_eq!(writer.write(Micros(NOON)).unwrap().len(), 1, "and no file is written");
}
