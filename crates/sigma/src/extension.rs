//! The `vedette:` map: what Sigma cannot say.
//!
//! In: the node and the body it belongs to. Out: [`Extension`]. Keys planned but not there yet are refused as such.

use crate::{
    Extras, RuleTest,
    document::Body,
    fault::{Fault, Place, did_you_mean, shown},
    yaml::Node,
};

/// What the map says.
#[derive(Debug, Clone, Default)]
pub(crate) struct Extension {
    pub extras: Extras,
    pub tests: Vec<RuleTest>,
    /// Where it says `mode: off`.
    pub off: Option<Place>,
}

const KEYS: [&str; 6] = ["emit", "entity", "risk", "summary", "mode", "tests"];

/// Reads the map.
pub(crate) fn read(node: &Node, body: &Body) -> Result<Extension, Fault> {
    let _ = body;
    if let Some(entry) = node.map("`vedette`")?.first() {
        let message = format!("{} is no key of `vedette`", shown(&entry.key));
        return Err(Fault::new(entry.key_at, "unknown-key", message).help(did_you_mean(&entry.key, &KEYS)));
    }
    Ok(Extension::default())
}
