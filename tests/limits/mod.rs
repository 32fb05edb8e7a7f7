//! What hostile records, rule files and floods of keys may cost, by count: steps, allocations, bytes held.
//!
//! Nothing here looks at a clock, so that no machine is too slow for it. Allocations are those of the thread at hand
//! (`allocation_counter` counts them), which is why everything under test runs on it.

mod budget;
mod chains;
mod files;
mod floods;
mod groups;
mod keys;
mod records;
mod rules;
mod streams;

use std::sync::Arc;

use allocation_counter::AllocationInfo;
use vedette_engine::Compiled;
use vedette_event::{
    Fields, Flags, Micros, Partition, RawBatch, RawBatchBuilder, SourceDef, SourceIx, Sources, TopicIx,
    Topics,
};
use vedette_sigma::{Lists, RuleFile, RuleSet};

const SOURCE: SourceIx = SourceIx(0);
const PARTITION: Partition = Partition { topic: TopicIx(0), number: 0 };

/// One source of plain JSON.
fn sources() -> Sources {
    let json = serde_json::json!({
        "name": "json", "description": "", "form": "json", "disorder": "1s", "future": "1s", "entity": ["host"],
    });
    let def: SourceDef = serde_json::from_value(json).expect("the definition is sound");
    Sources::new(Fields::default(), vec![def])
}

fn load(text: &str) -> RuleSet {
    let file = RuleFile { path: "rules.yml".into(), text: text.to_owned() };
    vedette_sigma::load(&[file], &Lists::new(), &sources())
}

fn compile(rules: RuleSet) -> Arc<Compiled> {
    Compiled::new(Arc::new(rules), Arc::new(sources()), Arc::new(Topics::new(["json"])), [7; 32])
}

/// Records from an offset on, a second apart.
fn batch(first: i64, records: &[String]) -> RawBatch {
    let mut batch = RawBatchBuilder::new(SOURCE, PARTITION);
    for (offset, record) in (first..).zip(records) {
        batch.push(offset, Some(Micros(offset * 1_000_000)), Flags::NONE, Some(record.as_bytes()));
    }
    batch.take()
}

/// What a task allocates on this thread, beside what it gives.
fn measured<T>(task: impl FnOnce() -> T) -> (T, AllocationInfo) {
    let mut given = None;
    let info = allocation_counter::measure(|| given = Some(task()));
    (given.expect("the task was done"), info)
}
