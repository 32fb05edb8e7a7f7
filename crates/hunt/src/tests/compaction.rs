//! Small files become large ones, and files that cannot matter are not opened.

use std::{fs, path::Path};

use vedette_event::{Flags, Placed, Span, time::HOUR};
use vedette_store::model::{Holds, LakeFile};

use super::*;
use crate::{
    Supply,
    lake::{LAYOUT, Lake, LakeError, Writer, lean, merge, mergeable, placed, verify},
};

const MINUTE: i64 = 60_000_000;

fn columns_of(names: &[&'static str]) -> Columns {
    Columns::of_lake(names.iter().copied(), &declared(), true)
}

/// Files of a source, one for each time, with six events a minute apart from then on; the names of their columns differ.
fn files(folder: &Path, source: &str, times: &[i64]) -> Vec<LakeFile> {
    let mappings: [&[&str]; 3] =
        [&["source.ip", "message"], &["source.ip", "source.port", "user.name"], &["source.ip"]];
    let mut all = Vec::new();
    for (number, time) in times.iter().enumerate() {
        let mut converter = columns_of(mappings[number % 3]).converter().unwrap();
        let batch = events(&Projection::new(converter.fields().cloned()), &rows());
        let origin = Origin { source: source.into(), topic: "t".into(), partition: number as i32 };
        let made = converter.convert(&batch, &origin, |_| Vec::new()).unwrap();
        let at = |row: i64| Micros(NOON + time + row * MINUTE);
        let places: Vec<Placed> = (0..6).map(|row| Placed { time: at(row), flags: Flags::NONE }).collect();
        let logs: Vec<Micros> = (0..6).map(at).collect();
        let events = lean(&placed(&made, &places, &logs, 0).unwrap()).unwrap();
        let mut writer = Writer::new(folder);
        writer.push(&source.into(), &events, 1).unwrap();
        all.extend(writer.write(Micros(NOON + number as i64)).unwrap());
    }
    all
}

fn asked(folder: &Path, files: &[LakeFile], sql: &str) -> Result<Vec<Value>, Error> {
    let columns = columns_of(&["source.ip", "source.port", "user.name", "message"]);
    let lake = Lake::new(folder, files.to_vec()).unwrap();
    all(Query::new(sql)?.ask(columns, Supply::Lake(Box::new(lake)), Limits::default())?)
}

fn count(folder: &Path, files: &[LakeFile], condition: &str) -> Result<Value, Error> {
    let rows = asked(folder, files, &format!("select count(*) as n from events where {condition}"))?;
    Ok(rows[0]["n"].clone())
}

#[test]
fn one_file_holds_what_many_did() {
    let folder = tempfile::tempdir().unwrap();
    // They overlap, and some begin at the same time.
    let files =
        files(folder.path(), "fw", &[20 * MINUTE, 0, 3 * MINUTE, MINUTE / 2, 0, 40 * MINUTE, 3 * MINUTE + 1]);
    let merged = merge(folder.path(), &files, Micros(NOON + 9), &mut || true).unwrap().unwrap();
    assert_eq!((merged.events, merged.hour, &*merged.source), (42, files[0].hour, "fw"));
    assert_eq!((merged.earliest, merged.latest), (Micros(NOON), Micros(NOON + 45 * MINUTE)));
    assert!(merged.path.starts_with("fw/2026-01-01/12-"), "{}", merged.path);
    verify(folder.path(), &merged).unwrap();
    let merged = [merged];
    let every = "select * from events order by \"@timestamp\", vedette.partition, vedette.offset";
    let before = asked(folder.path(), &files, every).unwrap();
    assert_eq!(before.len(), 42);
    assert_eq!(asked(folder.path(), &merged, every).unwrap(), before);
    let times = asked(folder.path(), &merged, "select \"@timestamp\" as t from events").unwrap();
    let times: Vec<&str> = times.iter().map(|row| row["t"].as_str().unwrap()).collect();
    assert!(times.is_sorted(), "as it lies in the file: {times:?}");
    for (condition, expected) in
        [("source.ip = '10.0.0.1'", 14), ("user.name = 'ann'", 2), ("message is null", 33)]
    {
        assert_eq!(count(folder.path(), &merged, condition).unwrap(), expected, "{condition}");
        assert_eq!(count(folder.path(), &files, condition).unwrap(), expected, "{condition}");
    }
}

#[test]
fn what_cannot_be_merged_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let files = files(folder.path(), "fw", &[0, MINUTE]);
    // Each has its index.
    let there = || fs::read_dir(folder.path().join("fw/2026-01-01")).unwrap().count();
    // Told to stop.
    assert_eq!(merge(folder.path(), &files, Micros(NOON + 9), &mut || false).unwrap(), None);
    assert_eq!(there(), 4);
    // With fewer events than the catalog says.
    let wrong = [LakeFile { events: 7, ..files[0].clone() }, files[1].clone()];
    let error = merge(folder.path(), &wrong, Micros(NOON + 9), &mut || true).unwrap_err();
    assert!(matches!(error, LakeError::Damaged { .. }), "{error}");
    assert_eq!(there(), 4);
    let path = folder.path().join(&files[1].path);
    let whole = fs::read(&path).unwrap();
    let mut bent = whole.clone();
    bent[4..whole.len() / 2].fill(0x5a);
    fs::write(&path, &bent).unwrap();
    assert!(matches!(
        merge(folder.path(), &files, Micros(NOON + 9), &mut || true),
        Err(LakeError::Damaged { .. })
    ));
    fs::remove_file(&path).unwrap();
    assert!(matches!(
        merge(folder.path(), &files, Micros(NOON + 9), &mut || true),
        Err(LakeError::Damaged { .. })
    ));
    assert_eq!(there(), 3);
}

#[test]
fn small_files_of_an_hour_that_is_over_are_merged_once() {
    let file = |source: &str, hour: i64, bytes: u64, number: usize| LakeFile {
        path: format!("{source}/{hour}/{bytes}/{number}"),
        layout: LAYOUT,
        holds: Holds::Events,
        source: source.to_owned(),
        hour,
        earliest: Micros(0),
        latest: Micros(0),
        events: 1,
        bytes,
        index_bytes: 0,
        written_at: Micros(HOUR.0 * (hour + 1)),
    };
    const MIB: u64 = 1 << 20;
    let many = |n: usize, bytes: u64| -> Vec<LakeFile> {
        (0..n).map(|number| file("fw", 10, bytes, number)).collect()
    };
    let sizes = |files: Vec<LakeFile>, minutes: i64| -> Vec<usize> {
        mergeable(files, 512 << 20, Micros(11 * HOUR.0).plus(Span::secs(60 * minutes)))
            .iter()
            .map(Vec::len)
            .collect()
    };
    assert_eq!(sizes(many(2, MIB), 11), [2]);
    assert_eq!(sizes(many(2, MIB), 10), [0; 0], "some may still come");
    assert_eq!(sizes(many(31, MIB), 5), [0; 0]);
    assert_eq!(sizes(many(32, MIB), 5), [32], "so many are not waited for");
    assert_eq!(sizes(many(1, MIB), 60), [0; 0]);
    assert_eq!(sizes(many(2, 128 * MIB), 60), [0; 0], "they are large enough");
    assert_eq!(sizes(many(5, 127 * MIB), 60), [4], "no larger than it is to be");
    assert_eq!(sizes(many(100, MIB), 60), [64]);
    assert_eq!(sizes(many(50, 8 * MIB), 60), [21], "reading them takes no more memory than it may");
    let late = LakeFile { written_at: Micros(HOUR.0 * 30), ..file("fw", 10, MIB, 7) };
    let with_late = [many(2, MIB), vec![late]].concat();
    assert_eq!(mergeable(with_late.clone(), 512 << 20, Micros(HOUR.0 * 30)).len(), 0);
    assert_eq!(mergeable(with_late, 512 << 20, Micros(HOUR.0 * 31)).len(), 1);
    let newer = LakeFile { layout: 99, ..file("fw", 10, MIB, 8) };
    assert_eq!(sizes(vec![newer, file("fw", 10, MIB, 1)], 60), [0; 0]);
    let several =
        vec![file("fw", 10, MIB, 1), file("waf", 10, MIB, 1), file("fw", 9, MIB, 1), file("waf", 10, 2, 2)];
    let groups = mergeable(several, 512 << 20, Micros(HOUR.0 * 20));
    assert_eq!(groups.iter().map(Vec::len).collect::<Vec<_>>(), [2]);
    assert!(groups[0].iter().all(|file| file.source == "waf" && file.hour == 10));
}

#[test]
fn a_file_that_cannot_matter_is_not_opened() {
    let folder = tempfile::tempdir().unwrap();
    let mut files = files(folder.path(), "fw", &[0, HOUR.0]);
    files.extend(self::files(folder.path(), "waf", &[0]));
    // Whoever opens one of these two is told that it is not there.
    fs::remove_file(folder.path().join(&files[1].path)).unwrap();
    fs::remove_file(folder.path().join(&files[2].path)).unwrap();
    for (condition, expected) in [
        ("vedette.source = 'fw' and \"@timestamp\" < '2026-01-01T13:00:00Z'", 6),
        (
            "vedette.source = 'fw' and \"@timestamp\" between '2026-01-01T12:01:00Z' and '2026-01-01T12:02:00Z'",
            2,
        ),
        ("\"@timestamp\" < '2026-01-01T12:00:00Z'", 0),
        (
            "vedette.source in ('fw', 'api') and \"@timestamp\" < '2026-01-01T12:30:00Z' and source.ip = '10.0.0.1'",
            2,
        ),
        ("vedette.source = 'api'", 0),
        ("vedette.source != 'waf' and \"@timestamp\" <= '2026-01-01T12:59:59Z'", 6),
    ] {
        assert_eq!(count(folder.path(), &files, condition).unwrap(), expected, "{condition}");
    }
    for condition in [
        "vedette.source = 'fw'",
        "\"@timestamp\" < '2026-01-01T13:00:00Z'",
        "vedette.source = 'fw' or source.ip = '10.0.0.1'",
        "vedette.source like '%f'",
        "true",
    ] {
        let error = count(folder.path(), &files, condition).unwrap_err().to_string();
        assert!(error.contains("the catalog names"), "{condition}: {error}");
    }
}
