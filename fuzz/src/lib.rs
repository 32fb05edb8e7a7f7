//! What the fuzz targets share: the sources, batches of lines, and the checks themselves.
//!
//! In: bytes of any quality. Out: nothing, or a panic that says what does not hold.
//! Decoders and evaluators are kept from input to input on purpose: what one input leaves behind must not change the
//! next one's outcome, and a failure that does not repeat from its file alone is such a leak.

pub mod answers;
pub mod decoding;
pub mod detection;
pub mod hunting;
pub mod playbooks;
pub mod restoring;
pub mod skipping;
pub mod views;

use std::sync::{Arc, LazyLock};

use vedette_event::{
    Fields, Flags, MAX_ROWS, Micros, Partition, RawBatch, RawBatchBuilder, SourceDef, SourceIx, Sources,
    TopicIx,
};
use vedette_sigma::RuleFile;

/// The secret of all targets.
pub const SECRET: [u8; 32] = [7; 32];

/// Names of the sources in [`SOURCES`].
pub const NAMES: [&str; 4] = ["paloalto", "aws_waf", "exchange_api", "json"];

/// The project's own sources.
pub static SOURCES: LazyLock<Arc<Sources>> = LazyLock::new(|| {
    let fields: Fields = yaml(include_str!("../../schemas/fields.yml"));
    let defs: Vec<SourceDef> = vec![
        yaml(include_str!("../../schemas/sources/paloalto.yml")),
        yaml(include_str!("../../schemas/sources/aws_waf.yml")),
        yaml(include_str!("../../schemas/sources/exchange_api.yml")),
        yaml(include_str!("../../schemas/sources/json.yml")),
    ];
    Arc::new(Sources::new(fields, defs))
});

/// Rules that use every modifier, and correlations of every kind.
pub const RULES: &str = include_str!("../rules/every_modifier.yml");
/// Correlations of every kind, over the feeds of the simulator.
pub const CORRELATIONS: &str = include_str!("../rules/every_correlation.yml");

fn yaml<T: serde::de::DeserializeOwned>(text: &str) -> T {
    serde_saphyr::from_str(text).expect("the project's own schemas are valid")
}

/// A rule file.
#[must_use]
pub fn file(name: &str, text: &str) -> RuleFile {
    RuleFile { path: name.into(), text: text.to_owned() }
}

/// The lines of some bytes as records of one partition of a source; `ts_log` is their broker time, one second apart,
/// or that of a file.
#[must_use]
pub fn batch(source: SourceIx, data: &[u8], from: i64, ts_log: Option<Micros>) -> RawBatch {
    let partition = Partition { topic: TopicIx(source.0), number: 0 };
    let mut builder = RawBatchBuilder::new(source, partition);
    for (line, offset) in data.split(|b| *b == b'\n').take(MAX_ROWS).zip(from..) {
        // A lone NUL stands for a null payload.
        let payload = (line != [0]).then_some(line);
        builder.push(offset, ts_log.map(|t| Micros(t.0 + offset * 1_000_000)), Flags::NONE, payload);
    }
    builder.take()
}
