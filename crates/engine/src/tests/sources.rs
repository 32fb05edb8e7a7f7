//! Which sources a rule reads.

use serde_json::json;

use super::Bench;
use crate::EngineSettings;

/// Events of form `json` name their logsource themselves, whatever the definition says, so such a source is read by every
/// rule, and what it gives is released.
#[test]
fn a_json_source_with_a_logsource_of_its_own_is_read_by_every_rule() {
    let rule = "title: R\nid: 00000000-0000-4000-8000-000000000001\nlogsource: {product: linux}\n\
                detection: {a: {k: x}, condition: a}\n";
    let sources = [("lab", json!({"logsource": {"product": "windows"}}))];
    let mut bench = Bench::new(&sources, &["lab"], rule, EngineSettings::new([0; 32]));
    bench.read(("lab", 0), [(0, 100, json!({"product": "linux", "k": "x", "host": "h"}))]);
    bench.idle("lab", 0, 200);
    assert_eq!(bench.alerted(), ["R"]);
    assert_eq!(bench.compiled.sources_of(vedette_event::RuleIx(0)), ["lab"]);
}
