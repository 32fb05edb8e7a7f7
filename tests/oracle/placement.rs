//! When an event happened, and its place among all others.
//!
//! In: records with broker time and claims. Out: [`Event`]s in the total order.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json};
use vedette_event::{Flags, SourceIx, Sources, StoredPlacement};

/// "The total order (`ts_event`, topic, partition, offset, event index); for files the topic is the source's name."
/// The derived comparison is that order. A topic that was made anew is another one, which stands behind the one before.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    pub time: i64,
    pub topic: String,
    pub incarnation: u32,
    pub partition: i32,
    pub offset: i64,
    pub index: u32,
}

/// A stored placement, and the incarnation of its topic.
pub type Stored = (u32, StoredPlacement);

/// The records of one partition (or file), in order.
#[derive(Debug, Clone)]
pub struct Log {
    pub topic: String,
    pub incarnation: u32,
    pub partition: i32,
    pub source: SourceIx,
    pub records: Vec<Record>,
}

/// A record: broker time (none in a plain file) and the events in it; one without events is a dead letter.
#[derive(Debug, Clone)]
pub struct Record {
    pub offset: i64,
    pub ts_log: Option<i64>,
    pub events: Vec<Claimed>,
}

/// What an event says of itself.
#[derive(Debug, Clone)]
pub struct Claimed {
    /// `ts_raw`; none if missing or unreadable.
    pub ts_raw: Option<i64>,
    /// Its fields: as they are (form `json`), or canonical names.
    pub fields: Map<String, Json>,
}

/// A placed event.
#[derive(Debug, Clone)]
pub struct Event {
    pub at: Position,
    /// `ts_log`, non-decreasing in its partition: by it, the version of the rules in force is told.
    pub log: i64,
    pub flags: Flags,
    pub source: SourceIx,
    pub fields: Map<String, Json>,
    /// "Meets single-event rules only, takes part in no correlation."
    pub undated: bool,
}

/// All events, placed and sorted.
pub fn place_all(logs: &[Log], sources: &Sources, stored: &[Stored]) -> Vec<Event> {
    let mut events = Vec::new();
    for log in logs {
        let in_files = file_times(&log.records);
        let mut running = i64::MIN;
        // No file here is longer than 8 MiB.
        let timed = log.records.iter().flat_map(|r| &r.events).any(|e| e.ts_raw.is_some());
        for record in &log.records {
            let kept = |flag: Flags| {
                let of_log = stored.iter().filter(|(incarnation, _)| *incarnation == log.incarnation);
                of_log.map(|(_, s)| s).find(|s| {
                    *s.topic == *log.topic
                        && s.partition == log.partition
                        && s.offset == record.offset
                        && s.flag == flag
                })
            };
            // "A `ts_log` more than S ahead of ingest's clock is replaced by that clock (`clock=broker`)."
            let replaced = kept(Flags::CLOCK_BROKER);
            let ts_log = replaced.map(|s| s.time.0).or(record.ts_log);
            let ts_log = ts_log.unwrap_or_else(|| in_files[&record.offset]);
            running = running.max(ts_log);
            for (index, claimed) in record.events.iter().enumerate() {
                let (mut time, mut flags) = place(claimed.ts_raw, ts_log, log.source, sources);
                if replaced.is_some() {
                    flags = flags.with(Flags::CLOCK_BROKER);
                }
                // "An event below its source's watermark all the same is placed at that watermark (`clock=overtaken`)."
                if let Some(s) = kept(Flags::CLOCK_OVERTAKEN)
                    && time < s.time.0
                {
                    time = s.time.0;
                    flags = flags.with(Flags::CLOCK_OVERTAKEN);
                }
                events.push(Event {
                    at: Position {
                        time,
                        topic: log.topic.clone(),
                        incarnation: log.incarnation,
                        partition: log.partition,
                        offset: record.offset,
                        index: index as u32,
                    },
                    log: running,
                    flags,
                    source: log.source,
                    fields: claimed.fields.clone(),
                    undated: record.ts_log.is_none() && !timed,
                });
            }
        }
    }
    events.sort_by(|a, b| a.at.cmp(&b.at));
    events
}

/// "`ts_raw` missing, unreadable or above `ts_log + F` → `ts_event = ts_log` (`clock=missing`, `clock=future`); below
/// `ts_log − D` → `ts_log − D` (`clock=late`); otherwise `ts_event = ts_raw`."
fn place(ts_raw: Option<i64>, ts_log: i64, source: SourceIx, sources: &Sources) -> (i64, Flags) {
    let def = sources.get(source);
    let lowest = ts_log.saturating_sub(def.disorder.0);
    let highest = ts_log.saturating_add(def.future.0);
    match ts_raw {
        None => (ts_log, Flags::CLOCK_MISSING),
        Some(claim) if claim > highest => (ts_log, Flags::CLOCK_FUTURE),
        Some(claim) if claim < lowest => (lowest, Flags::CLOCK_LATE),
        Some(claim) => (claim, Flags::NONE),
    }
}

/// "In plain files `ts_log` is the running maximum of the readable `ts_raw` so far (before the first: that first one …; in a
/// file without any it is undated: … at 1970-01-01); a dead letter has a number and moves no clock."
fn file_times(records: &[Record]) -> BTreeMap<i64, i64> {
    let claims = |upto: usize| records[..upto].iter().flat_map(|r| &r.events).filter_map(|e| e.ts_raw);
    let first = claims(records.len()).next();
    let at = |upto: usize| claims(upto).max().or(first).unwrap_or(0);
    records.iter().enumerate().map(|(i, record)| (record.offset, at(i + 1))).collect()
}
