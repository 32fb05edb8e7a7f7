//! Files of the lake: what goes in comes out, whatever is skipped on the way, and what is damaged is said.

use std::{collections::BTreeSet, fs, path::Path};

use vedette_event::{Flags, Placed};
use vedette_store::model::LakeFile;

use super::*;
use crate::{
    Supply,
    lake::{Lake, LakeError, Writer, placed, remove_orphans, verify},
};

const HOUR: i64 = 3_600_000_000;

/// With the two that are the lake's own.
pub(super) fn declared() -> Fields {
    let mut all = super::declared();
    for (name, kind) in [("event.ingested", FieldType::Time), ("vedette.clock", FieldType::Text)] {
        all.0.insert(name.to_owned(), FieldDef { kind, description: "d".to_owned() });
    }
    all
}

fn lake_columns() -> Columns {
    let declared = declared();
    let names = declared.0.keys().map(String::as_str).filter(|name| !name.ends_with('*'));
    Columns::of_lake(names.chain(["Upper.Case"]), &declared, true)
}

/// Writes the six events, `times` over, each time an hour later; every third time by an older mapping that knows fewer fields.
fn filled(folder: &Path, times: i64) -> Vec<LakeFile> {
    let mut writer = Writer::new(folder);
    let old = Columns::of_lake(["source.ip", "destination.port", "message"], &declared(), true);
    let mut files = Vec::new();
    for time in 0..times {
        let of = if time % 3 == 2 { &old } else { &lake_columns() };
        let mut converter = of.converter().unwrap();
        let projection = Projection::new(converter.fields().cloned());
        let batch = events(&projection, &rows());
        let made = converter.convert(&batch, &origin(), |_| Vec::new()).unwrap();
        let logs: Vec<Micros> = (0..6).map(|row| Micros(NOON + time * HOUR + row * 60_000_000)).collect();
        let late = Placed { time: logs[4], flags: Flags::CLOCK_LATE.with(Flags::CLOCK_BROKER) };
        let mut places: Vec<Placed> =
            logs.iter().map(|log| Placed { time: *log, flags: Flags::NONE }).collect();
        // The last shall be the first, and one is in doubt.
        places[5].time = Micros(NOON + time * HOUR - 1);
        places[4] = late;
        let events = placed(&made, &places, &logs, 0).unwrap();
        writer.push(&"fw".into(), &events, 1_000).unwrap();
        if time % 4 == 3 || time + 1 == times {
            files.extend(writer.write(Micros(NOON)).unwrap());
            writer.written();
            assert_eq!(writer.bytes(), 0);
        }
    }
    files
}

fn asked(folder: &Path, files: &[LakeFile], sql: &str) -> Result<Vec<Value>, Error> {
    let lake = Lake::new(folder, files.to_vec()).unwrap();
    all(Query::new(sql)?.ask(lake_columns(), Supply::Lake(Box::new(lake)), Limits::default())?)
}

#[test]
fn what_goes_in_comes_out() {
    let folder = tempfile::tempdir().unwrap();
    let files = filled(folder.path(), 2);
    let names: Vec<&str> = files.iter().map(|file| file.path.as_str()).collect();
    assert!(
        names[0].starts_with("fw/2026-01-01/11-") && names[2].starts_with("fw/2026-01-01/13-"),
        "{names:?}"
    );
    assert_eq!(files.iter().map(|file| file.events).collect::<Vec<_>>(), [1, 6, 5]);
    assert_eq!((files[1].earliest, files[1].latest), (Micros(NOON), Micros(NOON + HOUR - 1)));
    files.iter().for_each(|file| verify(folder.path(), file).unwrap());
    let rows = asked(
        folder.path(),
        &files,
        "select * from events where destination.port = 22 order by \"@timestamp\"",
    );
    let rows = rows.unwrap();
    assert_eq!(rows.len(), 2);
    let first = &rows[0];
    assert_eq!(first["@timestamp"], "2026-01-01T12:01:00.000000Z");
    assert_eq!(first["event.ingested"], "2026-01-01T12:01:00.000000Z");
    assert_eq!((&first["vedette.source"], &first["vedette.topic"]), (&json!("fw"), &json!("a.log")));
    assert_eq!((&first["vedette.partition"], &first["vedette.offset"]), (&json!(3), &json!(10)));
    assert_eq!(
        (&first["source.bytes"], &first["amount"]),
        (&json!(u64::MAX), &json!("0.000000000000000001"))
    );
    assert_eq!(first["vedette.clock"], Value::Null);
    let doubt = json!({"vedette.offset": 40, "vedette.clock": "clock=broker clock=late"});
    let doubted = "select vedette.offset, vedette.clock from events where vedette.clock is not null";
    assert_eq!(Value::from(asked(folder.path(), &files, doubted).unwrap()), json!([doubt, doubt]));
}

#[test]
fn an_answer_is_the_same_whatever_is_skipped() {
    let folder = tempfile::tempdir().unwrap();
    let files = filled(folder.path(), 9);
    for (sql, expected) in [
        ("select count(*) as n from events", 54),
        ("select count(*) as n from events where source.ip = '10.0.0.2'", 9),
        ("select count(*) as n from events where source.ip = '10.0.0.9'", 0),
        ("select count(*) as n from events where source.ip in ('2001:db8::1', '192.0.2.7')", 18),
        ("select count(*) as n from events where destination.port < 443", 9),
        ("select count(*) as n from events where destination.port is null", 18),
        ("select count(*) as n from events where user.name = 'ann'", 6),
        ("select count(*) as n from events where user.name is null", 54 - 12),
        ("select count(*) as n from events where not (user.name = 'ann')", 6),
        ("select count(*) as n from events where match(message, 'PASSWD')", 9),
        ("select count(*) as n from events where cidr_match(source.ip, '10.0.0.0/8')", 27),
        ("select count(*) as n from events where \"Upper.Case\" = 'x'", 6),
        (
            "select count(*) as n from events where \"@timestamp\" >= '2026-01-01T13:00:00Z' and \"@timestamp\" < '2026-01-01T14:00:00Z'",
            6,
        ),
        ("select count(*) as n from events where \"@timestamp\" < '2026-01-01T12:00:00Z'", 1),
        ("select count(*) as n from (select distinct vedette.offset, \"@timestamp\" from events) as e", 54),
    ] {
        let rows = asked(folder.path(), &files, sql).unwrap();
        assert_eq!(rows, [json!({"n": expected})], "{sql}");
    }
}

#[test]
fn what_is_not_as_the_catalog_says_is_an_error_and_never_a_shorter_answer() {
    let folder = tempfile::tempdir().unwrap();
    let files = filled(folder.path(), 2);
    let newer = LakeFile { layout: crate::lake::LAYOUT + 1, ..files[0].clone() };
    assert!(matches!(Lake::new(folder.path(), vec![newer.clone()]), Err(LakeError::Newer { .. })));
    assert!(matches!(verify(folder.path(), &newer), Err(LakeError::Newer { .. })));
    let path = folder.path().join(&files[1].path);
    let whole = fs::read(&path).unwrap();
    let all = asked(folder.path(), &files, "select * from events").unwrap();
    for at in [4, whole.len() / 3, whole.len() / 2, whole.len() - 6] {
        let mut bent = whole.clone();
        bent[at..].iter_mut().take(32).for_each(|byte| *byte ^= 0x5a);
        fs::write(&path, &bent).unwrap();
        let checked = verify(folder.path(), &files[1]);
        let rows = asked(folder.path(), &files, "select * from events");
        // What the catalog knows as well is not read.
        let right = rows.as_ref().map_or(true, |rows| *rows == all);
        assert!(right || checked.is_ok(), "{at}: {} rows and {checked:?}", rows.unwrap().len());
    }
    fs::write(&path, &whole[..whole.len() - 1]).unwrap();
    let all = "select count(*) as n from events";
    let error = asked(folder.path(), &files, all).unwrap_err().to_string();
    assert!(error.contains(&files[1].path) && error.contains("bytes long and not"), "{error}");
    fs::remove_file(&path).unwrap();
    let error = asked(folder.path(), &files, all).unwrap_err().to_string();
    assert!(error.contains(&files[1].path) && error.contains("vedette lake verify"), "{error}");
    assert!(matches!(verify(folder.path(), &files[1]), Err(LakeError::Damaged { .. })));
}

#[test]
fn a_query_reaches_no_file_but_those_of_the_catalog() {
    let folder = tempfile::tempdir().unwrap();
    let files = filled(folder.path(), 1);
    for sql in [
        format!("select * from '{}'", folder.path().join(&files[0].path).display()),
        "select * from 'lake://files/x.parquet'".to_owned(),
        "select * from \"file:///etc/passwd\"".to_owned(),
    ] {
        assert!(asked(folder.path(), &files, &sql).is_err(), "{sql}");
    }
    // One that is there and not named does not count, and is removed.
    let named: BTreeSet<String> = files[..1].iter().map(|file| file.path.clone()).collect();
    assert_eq!(
        asked(folder.path(), &files[..1], "select * from events").unwrap().len(),
        files[0].events as usize
    );
    fs::write(folder.path().join("fw/other.txt"), "of somebody else").unwrap();
    // Each with its index.
    assert_eq!(remove_orphans(folder.path(), &named).unwrap(), 2 * (files.len() as u64 - 1));
    assert_eq!(remove_orphans(folder.path(), &named).unwrap(), 0);
    assert!(folder.path().join("fw/other.txt").exists() && folder.path().join(&files[0].path).exists());
    assert_eq!(remove_orphans(&folder.path().join("nowhere"), &named).unwrap(), 0);
    assert_eq!(asked(folder.path(), &[], "select * from events").unwrap().len(), 0);
}

#[test]
fn what_cannot_be_written_waits_on() {
    let folder = tempfile::tempdir().unwrap();
    let blocked = folder.path().join("lake");
    fs::write(&blocked, "a file where a folder is to be").unwrap();
    let mut writer = Writer::new(&blocked);
    let mut converter = lake_columns().converter().unwrap();
    let batch = events(&Projection::new(converter.fields().cloned()), &rows());
    let made = converter.convert(&batch, &origin(), |_| Vec::new()).unwrap();
    let at = Placed { time: Micros(NOON), flags: Flags::NONE };
    writer.push(&"fw".into(), &placed(&made, &[at; 6], &[Micros(NOON); 6], 0).unwrap(), 600).unwrap();
    assert!(matches!(writer.write(Micros(NOON)), Err(LakeError::Disk { .. })));
    assert_eq!(writer.bytes(), 600);
    fs::remove_file(&blocked).unwrap();
    let files = writer.write(Micros(NOON)).unwrap();
    assert_eq!(files.iter().map(|file| file.events).sum::<u64>(), 6);
    verify(&blocked, &files[0]).unwrap();
}
