//! Decoders against themselves: a batch against its records one by one, and against what a person is shown.
//!
//! In: lines. Invariants: every record ends in events or in exactly one dead letter; rows are in order of record; a
//! record's cells do not depend on its neighbours; the inspector reads what the decoder reads; what no field took is a record
//! itself, of which nothing is left out where no field takes anything.

use std::{cell::RefCell, collections::BTreeSet, sync::Arc};

use vedette_decode::{Decoder, Inspector, detect};
use vedette_event::{Cell, DeadLetter, EventBatch, Kind, Micros, Projection, RawBatch, SourceIx};

use crate::{SECRET, SOURCES, batch};

/// Names that no schema has, for source `json`.
const FREE: [&str; 12] = [
    "a",
    "a.b",
    "a.b.c",
    "b",
    "product",
    "category",
    "service",
    "CommandLine",
    "EventID",
    "cs-uri-query",
    "list",
    "",
];

/// What no field took.
const UNMAPPED: &str = "event.unmapped";

/// Records of an input that are also read alone.
const ALONE: u32 = 3;

/// Decoders of one source.
struct Bench {
    whole: Decoder,
    alone: Decoder,
    /// Of source `json`, with what no field took alone.
    left: Decoder,
    /// The column of what no field took, of the others.
    unmapped: usize,
    inspector: Inspector,
}

impl Bench {
    fn new(source: SourceIx) -> Self {
        let def = SOURCES.get(source);
        let mut names: BTreeSet<Arc<str>> =
            SOURCES.fields.0.keys().map(|name| name.as_str().into()).collect();
        names.extend(def.fields.keys().map(|name| Arc::<str>::from(name.as_str())));
        names.extend(FREE.map(Arc::<str>::from));
        let projection = Projection::new(names);
        let decoder = || {
            Decoder::new(def, &SOURCES.fields, &projection, SECRET)
                .expect("a valid zone")
                .searched(def, SECRET)
        };
        let unmapped = projection.fields().iter().position(|name| **name == *UNMAPPED);
        let json = SOURCES.get(SOURCES.find("json").expect("one of the project's sources"));
        let left = Decoder::new(json, &SOURCES.fields, &Projection::new([UNMAPPED.into()]), SECRET);
        let inspector = Inspector::new(def, &SOURCES.fields, SECRET).expect("a valid zone");
        Self {
            whole: decoder(),
            alone: decoder(),
            left: left.expect("a valid zone"),
            unmapped: unmapped.expect("a canonical field"),
            inspector,
        }
    }
}

thread_local! {
    static BENCHES: RefCell<Vec<Option<Bench>>> = const { RefCell::new(Vec::new()) };
}

fn decode(decoder: &mut Decoder, raw: &RawBatch) -> (Vec<EventBatch>, Vec<DeadLetter>) {
    let (mut out, mut dead) = (Vec::new(), Vec::new());
    decoder.decode(raw, &mut out, &mut dead);
    (out, dead)
}

/// A row: offset, index, claimed time, its cells, and the event's text.
type Row<'a> = (i64, u32, Option<Micros>, Vec<Cell<'a>>, Cell<'a>);

/// All that is known of the rows of one record.
fn rows(batches: &[EventBatch], record: u32) -> Vec<Row<'_>> {
    let mut rows = Vec::new();
    for batch in batches {
        for row in (0..batch.rows()).filter(|row| batch.records[*row] == record) {
            let cells = batch.columns().iter().map(|column| column.cell(row)).collect();
            let original = batch.original().cell(row);
            rows.push((batch.offsets()[row], batch.indexes()[row], batch.claimed(row), cells, original));
        }
    }
    rows
}

/// Decodes the lines as records of a source, in every way there is.
pub fn check(name: &str, data: &[u8]) {
    let source = SOURCES.find(name).expect("one of the project's sources");
    let raw = batch(source, data, 0, None);
    BENCHES.with_borrow_mut(|benches| {
        let at = usize::from(source.0);
        benches.resize_with(benches.len().max(at + 1), || None);
        let bench = benches[at].get_or_insert_with(|| Bench::new(source));
        check_with(bench, &raw);
    });
    for record in &raw.records {
        let _ = detect(raw.payload(record).unwrap_or_default(), &SOURCES);
    }
}

/// What was left of each record, read as a record of source `json`, is left as it is.
fn check_left(bench: &mut Bench, out: &[EventBatch]) {
    for batch in out {
        for row in 0..batch.rows() {
            let cell = batch.columns()[bench.unmapped].cell(row);
            if cell.kind == Kind::Missing {
                continue;
            }
            assert_eq!(cell.kind, Kind::Object);
            let (again, dead) = decode(&mut bench.left, &crate::batch(batch.source, cell.text.as_bytes(), 0, None));
            assert!(dead.is_empty(), "{} is no record: {dead:?}", cell.text);
            assert_eq!(again[0].columns()[0].cell(0), cell);
        }
    }
}

fn check_with(bench: &mut Bench, raw: &RawBatch) {
    let (out, dead) = decode(&mut bench.whole, raw);
    for batch in &out {
        assert_eq!((batch.records.len(), batch.records.is_sorted()), (batch.rows(), true));
    }
    check_left(bench, &out);
    for (record, number) in raw.records.iter().zip(0..) {
        let together = rows(&out, number);
        let letters = dead.iter().filter(|letter| letter.offset == record.offset).count();
        assert_eq!(usize::from(together.is_empty()), letters, "record {number} is lost or told twice");

        let payload = raw.payload(record);
        if number >= ALONE {
            continue;
        }
        let one = batch(raw.source, payload.unwrap_or(&[0]), record.offset, None);
        let (alone, _) = decode(&mut bench.alone, &one);
        assert_eq!(together, rows(&alone, 0), "record {number} reads differently alone");

        let shown = bench.inspector.inspect(record.offset, payload);
        assert_eq!(shown.is_err(), together.is_empty(), "record {number} is shown otherwise: {shown:?}");
        if let Some(text) = payload.and_then(|bytes| std::str::from_utf8(bytes).ok()) {
            let _ = bench.inspector.mask(text);
        }
    }
}
