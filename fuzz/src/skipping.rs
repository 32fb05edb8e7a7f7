//! Skip indexes of any quality beside a file of the lake.
//!
//! In: how the index differs from the one that was written. Out: nothing, or a panic that says what does not hold.
//! Checked: whatever the index says, a query answers what it answers without one.

use std::{fs, path::PathBuf, sync::LazyLock};

use vedette_decode::{Decoder, all_fields};
use vedette_event::{Flags, Micros, Placed, Projection, SourceDef};
use vedette_hunt::{
    Columns, Limits, Origin, Query, Supply,
    lake::{Lake, Writer, placed},
};
use vedette_store::model::LakeFile;

use crate::{NAMES, SECRET, SOURCES, batch};

const LINES: &str = include_str!("../rules/paloalto.csv");
/// Conditions that an index is asked about.
const CONDITIONS: [&str; 5] = [
    "match(rule.name, 'allow')",
    "source.ip = '10.1.2.3' or destination.ip = '192.0.2.7'",
    "event.action in ('allow', 'deny', 'drop')",
    "network.application like '%-browsing'",
    "match(observer.name, 'nowhere')",
];

/// A file, its index as it was written, and how many events each condition holds for.
struct Written {
    folder: PathBuf,
    file: LakeFile,
    index: Vec<u8>,
    events: Vec<u64>,
}

static WRITTEN: LazyLock<Written> = LazyLock::new(|| {
    let folder = std::env::temp_dir().join(format!("vedette-fuzz-skipping-{}", std::process::id()));
    let def = def();
    let projection = Projection::new(all_fields(def, &SOURCES.fields));
    let mut decoder = Decoder::new(def, &SOURCES.fields, &projection, SECRET).expect("a decoder");
    let mut writer = Writer::new(&folder);
    let mut converter = columns().converter().expect("columns");
    let from = Origin { source: def.name.clone(), topic: "log".into(), partition: 0 };
    let raw = batch(SOURCES.find(NAMES[0]).expect("the firewalls"), LINES.as_bytes(), 0, None);
    let (mut events, mut dead) = (Vec::new(), Vec::new());
    decoder.decode(&raw, &mut events, &mut dead);
    for events in &events {
        let at = Placed { time: Micros(1_767_268_800_000_000), flags: Flags::NONE };
        let made = converter.convert(events, &from, |_| Vec::new()).expect("a batch");
        let made =
            placed(&made, &vec![at; events.rows()], &vec![at.time; events.rows()], 0).expect("a batch");
        writer.push(&def.name, &made, 1).expect("times");
    }
    let file = writer.write(Micros(0)).expect("a file").remove(0);
    let index = fs::read(folder.join(name(&file))).expect("an index");
    let bare = LakeFile { index_bytes: 0, ..file.clone() };
    let events = CONDITIONS.iter().map(|condition| count(&folder, &bare, condition)).collect();
    Written { folder, file, index, events }
});

fn def() -> &'static SourceDef {
    SOURCES.get(SOURCES.find(NAMES[0]).expect("the firewalls"))
}

fn columns() -> Columns {
    let fields = all_fields(def(), &SOURCES.fields);
    Columns::of_lake(fields.iter().map(|name| &**name), &SOURCES.fields, true)
}

fn name(file: &LakeFile) -> String {
    file.path.replace(".parquet", ".skip")
}

fn count(folder: &std::path::Path, file: &LakeFile, condition: &str) -> u64 {
    let query = Query::new(&format!("select vedette.offset from events where {condition}")).expect("a query");
    let lake = Lake::new(folder, vec![file.clone()]).expect("a lake");
    let mut answer = query.ask(columns(), Supply::Lake(Box::new(lake)), Limits::default()).expect("an answer");
    let mut rows = 0;
    while let Some(more) = answer.next().expect("rows") {
        rows += more.len() as u64;
    }
    rows
}

/// Puts an index beside the file, and asks.
pub fn check(data: &[u8]) {
    let Some((how, data)) = data.split_first() else { return };
    let Written { folder, file, index, events } = &*WRITTEN;
    let place = |bytes: &[u8]| usize::from(u16::from_le_bytes([bytes[0], bytes[1]])) % index.len();
    let mut bent = index.clone();
    match how % 4 {
        0 => bent = data.to_vec(),
        1 => data.chunks_exact(3).for_each(|change| bent[place(change)] ^= change[2]),
        2 => data.chunks_exact(2).for_each(|cut| bent.truncate(place(cut))),
        _ => {
            for from_to in data.chunks_exact(4) {
                let (from, to) = (place(from_to), place(&from_to[2..]));
                let length = 64.min(index.len() - from.max(to));
                bent.copy_within(from..from + length, to);
            }
        }
    }
    fs::write(folder.join(name(file)), &bent).expect("room");
    let lengths = [file.index_bytes, bent.len() as u64];
    for index_bytes in lengths {
        let file = LakeFile { index_bytes, ..file.clone() };
        for (condition, expected) in CONDITIONS.iter().zip(events) {
            assert_eq!(count(folder, &file, condition), *expected, "{condition}");
        }
    }
}
