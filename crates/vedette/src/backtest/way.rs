//! How events of a source come back from the lake for rules.
//!
//! In: which fields rules need of a source, rows of the lake. Out: evaluated batches, and which of the rows each event is.
//! Invariants: what rules see is what they saw when the event was read. A source of form `json` has its whole record in the lake, which is
//! decoded once more; of any other the columns are read that rules need, and what no column holds is decoded from what is left of the
//! record. Where neither gives back what the record said, the rule is refused beforehand ([`unanswerable`]).

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use anyhow::{Context as _, Result};
use vedette_decode::{Decoder, UNMAPPED, all_fields};
use vedette_engine::{Compiled, DetectedBatch, Detector};
use vedette_event::{
    Fields, Incarnation, MAX_ROWS, Partition, Projection, RawBatch, SourceDef, SourceIx, Sources, TopicIx,
    raw::RawBatchBuilder, source::Form,
};
use vedette_hunt::{
    RecordBatch,
    lake::{PLACES, Places, Restorer, Wanted, texts},
};
use vedette_sigma::{RuleKind, RuleSet, ir::Rule};

/// Where the claimed time stands that no mapping names.
const TIMES: [&str; 3] = ["@timestamp", "timestamp", "time"];

/// Rows of one batch of the lake, all of one partition and in the order of their offsets.
pub struct Task {
    pub source: SourceIx,
    pub partition: Partition,
    pub incarnation: u16,
    pub events: RecordBatch,
    pub rows: Vec<u32>,
}

/// Cuts rows of a source into tasks; `topic` tells topics apart.
pub fn tasks(
    source: SourceIx,
    events: &RecordBatch,
    chosen: impl IntoIterator<Item = u32>,
    topic: impl Fn(&str) -> Option<TopicIx>,
) -> Result<Vec<Task>> {
    let places = Places::of(events)?;
    let mut rows: BTreeMap<(&str, Incarnation, i32), Vec<u32>> = BTreeMap::new();
    for row in chosen {
        rows.entry(places.partition(row as usize)).or_default().push(row);
    }
    let mut tasks = Vec::new();
    for ((name, incarnation, number), mut rows) in rows {
        let topic = topic(name).context("a topic that nobody named")?;
        rows.sort_by_key(|row| places.offset(*row as usize));
        tasks.extend(rows.chunks(MAX_ROWS).map(|rows| Task {
            source,
            partition: Partition { topic, number },
            incarnation,
            events: events.clone(),
            rows: rows.to_vec(),
        }));
    }
    Ok(tasks)
}

/// What one thread evaluates with.
pub struct Hand {
    detector: Detector,
    ways: BTreeMap<SourceIx, Way>,
}

enum Way {
    /// Records are decoded once more.
    Records,
    /// Columns are read, and what stands beside them decoded.
    Columns(Box<Restorer>, Option<Box<Decoder>>),
}

impl Hand {
    pub fn new(compiled: &Arc<Compiled>, secret: [u8; 32]) -> Result<Self> {
        let way = |(ix, def): (SourceIx, &SourceDef)| {
            if def.own_logsource() {
                return Ok((ix, Way::Records));
            }
            let fields = &compiled.sources.fields;
            let projection = compiled.newest().projection(ix);
            let others = beside(def, fields, projection.fields());
            let beside = (!others.is_empty() && def.form != Form::PanosCsv)
                .then(|| Decoder::new(def, fields, &Projection::new(others), secret))
                .transpose()?;
            let restorer = Restorer::new(projection.clone(), fields);
            Ok((ix, Way::Columns(Box::new(restorer), beside.map(Box::new))))
        };
        let ways = compiled.sources.iter().map(way).collect::<Result<_>>()?;
        Ok(Self { detector: compiled.detector()?, ways })
    }

    /// The events of a task with what they match, and how many ended unevaluated. Each event's record is the number of its row among those
    /// of the task.
    pub fn evaluate(&mut self, task: &Task) -> Result<(Vec<DetectedBatch>, u64)> {
        let Task { source, partition, events, rows, .. } = task;
        match self.ways.get_mut(source).context("a source without a way")? {
            Way::Records => {
                let raw = records(task)?;
                let detected = self.detector.detect(&raw);
                Ok((detected.batches, detected.dead.len() as u64))
            }
            Way::Columns(restorer, beside) => {
                let beside = beside.as_mut().map(|decoder| decode(decoder, task)).transpose()?;
                let events = restorer.restore(events, rows, (*source, *partition), beside.as_ref())?;
                Ok(self.detector.detect_events(&events))
            }
        }
    }
}

/// What the lake has of the records' texts.
fn records(task: &Task) -> Result<RawBatch> {
    let places = Places::of(&task.events)?;
    // A file of events of which nothing is left has no such column.
    let left = texts(&task.events, UNMAPPED);
    let mut raw = RawBatchBuilder::new(task.source, task.partition);
    for row in task.rows.iter().map(|row| *row as usize) {
        let text = left.as_ref().and_then(|left| left(row)).unwrap_or("{}");
        let (offset, _) = places.offset(row);
        raw.push(offset, Some(places.log(row)), places.flags(row), Some(text.as_bytes()));
    }
    Ok(raw.take())
}

fn decode(decoder: &mut Decoder, task: &Task) -> Result<vedette_event::EventBatch> {
    let raw = records(task)?;
    let (mut events, mut dead) = (Vec::new(), Vec::new());
    decoder.decode(&raw, &mut events, &mut dead);
    let whole = events.pop().filter(|events| events.rows() == task.rows.len());
    whole.context("what is left of a record cannot be read")
}

/// The fields of a projection that are no columns of the lake.
fn beside(def: &SourceDef, fields: &Fields, projection: &[Arc<str>]) -> Vec<Arc<str>> {
    let columns: BTreeSet<Arc<str>> = all_fields(def, fields).into_iter().collect();
    projection.iter().filter(|field| !columns.contains(*field)).cloned().collect()
}

/// The columns to be read for rules.
pub fn wanted(compiled: &Compiled) -> Wanted {
    let of = |(ix, def): (SourceIx, &SourceDef)| {
        let mut columns: BTreeSet<Arc<str>> = PLACES.into_iter().map(Arc::from).collect();
        if def.own_logsource() {
            columns.insert(UNMAPPED.into());
            return (def.name.clone(), columns);
        }
        let projection = compiled.newest().projection(ix).fields();
        let others = beside(def, &compiled.sources.fields, projection);
        if !others.is_empty() {
            columns.insert(UNMAPPED.into());
        }
        columns.extend(projection.iter().filter(|field| !others.contains(field)).cloned());
        (def.name.clone(), columns)
    };
    compiled.sources.iter().map(of).collect()
}

/// Why the lake cannot say what a rule would find, if it cannot.
pub fn unanswerable(rules: &RuleSet, rule: &Rule, sources: &Sources) -> Option<String> {
    match &rule.kind {
        RuleKind::Detection(detection) => {
            let concerned = sources.defs.iter().filter(|def| def.concerns(&detection.logsource));
            concerned.filter(|def| !def.own_logsource()).find_map(|def| {
                let name = &def.name;
                if detection.leaves.iter().any(|leaf| leaf.field.is_none()) {
                    return Some(format!(
                        "it searches whole records, which the lake does not have of source `{name}`"
                    ));
                }
                let alone = RuleSet { rules: vec![rule.clone()], ..RuleSet::default() };
                let needed = vedette_detect::needed_fields(&alone, def);
                not_there(&sources.fields, def, needed.iter())
            })
        }
        RuleKind::Correlation(correlation) => {
            let children = correlation.rules.iter().map(|child| rules.get(*child));
            children.into_iter().find_map(|child| unanswerable(rules, child, sources))
        }
    }
}

/// Why one of these fields does not come back as it was.
pub fn not_there<'a>(
    fields: &Fields,
    def: &SourceDef,
    mut asked: impl Iterator<Item = &'a Arc<str>>,
) -> Option<String> {
    if def.own_logsource() || def.form == Form::PanosCsv {
        return None;
    }
    let columns = all_fields(def, fields);
    let below = |outer: &str, inner: &str| {
        inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    asked.find_map(|field| {
        if columns.contains(field) {
            return None;
        }
        let paths = columns.iter().filter(|name| ***name != *UNMAPPED).flat_map(|name| {
            let mapped = def.fields.get(&**name).map(|paths| paths.names()).unwrap_or_default();
            mapped.iter().map(String::as_str).chain([&**name]).map(move |path| (path, name))
        });
        let time = Arc::<str>::from(TIMES[0]);
        let times = TIMES.into_iter().map(|path| (path, &time));
        let taken = paths.chain(times).find(|(path, _)| below(path, field) || below(field, path));
        taken.map(|(_, name)| {
            let source = &def.name;
            format!("of source `{source}` the lake has `{field}` as `{name}` only: ask for that")
        })
    })
}
