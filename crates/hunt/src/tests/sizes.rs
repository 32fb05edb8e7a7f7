//! How large files of originals are, as a part of the text that came, where all records are kept. Of events that is measured elsewhere: their files have
//! blocks of a few rows in these tests.
//!
//! The simulator's lines decide; of lines that others wrote (`VEDETTE_CORPUS`) there are too few for a file, and what they come to is only told.

#![allow(clippy::print_stdout, reason = "what is told is what they come to")]

use std::{env, fs, path::Path};

use serde_json::Value;
use vedette_decode::{Decoder, all_fields};
use vedette_event::{Flags, Micros, Placed, Projection, RawBatchBuilder, SourceDef, SourceIx};
use vedette_simulate::{Feed, Simulator};
use vedette_store::model::{Holds, LakeFile};

use super::{
    NOON, PARTITION,
    recall::{fields, source},
};
use crate::{
    Columns, Origin,
    lake::{Writer, beside, lean, placed},
};

/// What became of lines.
#[derive(Default)]
struct Sizes {
    raw: u64,
    originals: u64,
    records: u64,
    /// Records that are kept by default.
    altered: u64,
}

impl Sizes {
    /// Parts of a hundred of the raw text.
    fn ratio(&self) -> f64 {
        100.0 * self.originals as f64 / self.raw.max(1) as f64
    }

    fn told(&self, what: &str) {
        println!(
            "{what}: {} records of {} B, originals of all {:.1} %; {} are kept by default",
            self.records,
            self.raw / self.records.max(1),
            self.ratio(),
            self.altered
        );
    }
}

fn sizes(def: &SourceDef, lines: &[String]) -> Sizes {
    let names = all_fields(def, &fields());
    let projection = Projection::new(names.iter().cloned());
    let decoder = || Decoder::new(def, &fields(), &projection, [7; 32]).unwrap();
    let (mut all, mut altered) = (decoder().searched(def, [7; 32]), decoder().keeping_altered(def, [7; 32]));
    let columns = Columns::of_lake(names.iter().map(|name| &**name), &fields(), !def.own_logsource());
    let mut converter = columns.converter().unwrap();
    let origin = Origin { source: def.name.clone(), topic: "logs".into(), partition: PARTITION.number };
    let folder = tempfile::tempdir().unwrap();
    let mut writer = Writer::new(folder.path());
    let mut sizes = Sizes::default();
    for (number, some) in (0..).zip(lines.chunks(500)) {
        let mut raw = RawBatchBuilder::new(SourceIx(0), PARTITION);
        for (at, line) in (0..).zip(some) {
            raw.push(number * 500 + at, Some(Micros(NOON)), Flags::NONE, Some(line.as_bytes()));
        }
        let raw = raw.take();
        let (mut out, mut dead) = (Vec::new(), Vec::new());
        altered.decode(&raw, &mut out, &mut dead);
        for events in out.drain(..) {
            let kept = (0..events.rows()).filter(|row| events.original().cell(*row).kind.is_value());
            sizes.altered += kept.count() as u64;
        }
        all.decode(&raw, &mut out, &mut dead);
        for events in out {
            sizes.records += events.rows() as u64;
            sizes.raw += events.records.iter().map(|at| some[*at as usize].len() as u64 + 1).sum::<u64>();
            // One hour's file, as it is once small ones have become one.
            let time = |row: usize| Micros(NOON + events.offsets()[row] * 50_000);
            let places: Vec<Placed> =
                (0..events.rows()).map(|row| Placed { time: time(row), flags: Flags::NONE }).collect();
            let logs: Vec<Micros> = places.iter().map(|placed| placed.time).collect();
            let made = converter.convert(&events, &origin, |_| Vec::new()).unwrap();
            let made = lean(&placed(&made, &places, &logs, 0).unwrap()).unwrap();
            writer.push(&def.name, &beside(&made, events.originals().clone()).unwrap(), 1).unwrap();
        }
    }
    let files = writer.write(Micros(NOON)).unwrap();
    let originals = files.iter().filter(|file| file.holds == Holds::Originals);
    sizes.originals = originals.map(LakeFile::stored).sum();
    sizes
}

#[test]
fn files_are_a_part_of_the_text_that_came() {
    let mut simulator = Simulator::new(5, Micros(NOON), 400);
    let mut lines: Vec<(Feed, Vec<String>)> = Feed::ALL.iter().map(|feed| (*feed, Vec::new())).collect();
    for _ in 0..60_000 {
        let record = simulator.next_record();
        let of = lines.iter_mut().find(|(feed, _)| *feed == record.feed).unwrap();
        of.1.push(record.line);
    }
    for (feed, lines) in &lines {
        let sizes = sizes(&source(feed.source()), lines);
        sizes.told(feed.source());
        let most = if *feed == Feed::Firewall { 12.0 } else { 35.0 };
        assert!(sizes.ratio() < most, "{}: {:.1}", feed.source(), sizes.ratio());
        assert_eq!(sizes.altered, 0, "{}: events say all of them", feed.source());
    }
}

/// The lines of a file of others' that have this member.
fn of_others(folder: &Path, file: &str) -> Vec<String> {
    let text = fs::read_to_string(folder.join(file)).unwrap_or_default();
    let raw = text.lines().filter_map(|line| {
        let case: Value = serde_json::from_str(line).ok()?;
        case["raw"].as_str().map(|raw| raw.replace('\n', " "))
    });
    raw.collect()
}

#[test]
fn what_lines_of_others_come_to_is_told() {
    let folder = env::var("VEDETTE_CORPUS").unwrap_or_else(|_| "../../../shared/data".to_owned());
    let folder = Path::new(&folder);
    if !folder.is_dir() {
        println!("SKIPPED sizes of lines of others: no corpus at {}", folder.display());
        return;
    }
    let panos = sizes(&source("paloalto"), &of_others(folder, "panos/panos.ndjson"));
    panos.told("PAN-OS lines of others");
    let access = of_others(folder, "access/parser_cases.ndjson").into_iter().map(|line| {
        // There is no source for access lines: as a shipper wraps them.
        serde_json::json!({"message": line}).to_string()
    });
    sizes(&source("json"), &access.collect::<Vec<_>>()).told("access lines of others, in JSON");
    assert!(panos.records > 100, "{}", panos.records);
}
