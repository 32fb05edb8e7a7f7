//! Real firewall and WAF records through the decoders.

use std::{collections::BTreeMap, path::Path};

use serde::Deserialize;
use serde_json::{Map, Value};
use vedette_decode::Inspector;
use vedette_event::{DeadReason, Fields, SourceDef};

use super::corpus;

#[derive(Deserialize)]
struct Case {
    id: String,
    #[serde(default)]
    format: String,
    #[serde(default)]
    log_type: String,
    #[serde(default)]
    subtype: String,
    raw: String,
    expected: Option<BTreeMap<String, Value>>,
}

/// Other parsers' names of PAN-OS columns and the canonical ones.
const PANOS: [(&str, &str); 43] = [
    ("action", "event.action"),
    ("app", "network.application"),
    ("bytes", "network.bytes"),
    ("bytes_received", "destination.bytes"),
    ("bytes_sent", "source.bytes"),
    ("category", "panw.category"),
    ("device_name", "observer.name"),
    ("direction", "panw.direction"),
    ("dstloc", "destination.geo.country_iso_code"),
    ("dstuser", "destination.user.name"),
    ("flags", "panw.flags"),
    ("from", "observer.ingress.zone"),
    ("host", "observer.name"),
    ("ip_dst_addr", "destination.ip"),
    ("ip_dst_port", "destination.port"),
    ("ip_src_addr", "source.ip"),
    ("ip_src_port", "source.port"),
    ("natdport", "destination.nat.port"),
    ("natdst", "destination.nat.ip"),
    ("natsrc", "source.nat.ip"),
    ("packets", "network.packets"),
    ("pkts_received", "destination.packets"),
    ("pkts_sent", "source.packets"),
    ("protocol", "network.transport"),
    ("repeatcnt", "panw.repeat_count"),
    ("rule", "rule.name"),
    ("serial", "observer.serial_number"),
    ("severity", "panw.severity"),
    ("srcuser", "source.user.name"),
    ("to", "observer.egress.zone"),
    ("actionflags", "panw.action_flags"),
    ("content_version", "panw.content_version"),
    ("inbound_if", "observer.ingress.interface.name"),
    ("log_action", "panw.log_action"),
    ("natsport", "source.nat.port"),
    ("outbound_if", "observer.egress.interface.name"),
    ("seqno", "panw.sequence_number"),
    ("session_end_reason", "panw.end_reason"),
    ("sessionid", "panw.session_id"),
    ("srcloc", "source.geo.country_iso_code"),
    ("threat_category", "panw.threat_category"),
    ("tunnel_type", "panw.tunnel_type"),
    ("vsys", "panw.vsys"),
];

/// OpenTelemetry's names of AWS WAF fields and the canonical ones.
const AWS_WAF: [(&str, &str); 15] = [
    ("aws.waf.source.id", "waf.source.id"),
    ("aws.waf.source.name", "waf.source.name"),
    ("aws.waf.terminating_rule.id", "waf.rule.id"),
    ("aws.waf.terminating_rule.type", "waf.rule.type"),
    ("client.address", "client.ip"),
    ("cloud.account.id", "cloud.account.id"),
    ("cloud.region", "cloud.region"),
    ("geo.country.iso_code", "client.geo.country_iso_code"),
    ("http.request.header.host", "http.request.headers.host"),
    ("http.request.header.user-agent", "user_agent.original"),
    ("http.request.method", "http.request.method"),
    ("server.address", "url.domain"),
    ("tls.client.ja3", "tls.client.ja3"),
    ("url.path", "url.path"),
    ("url.scheme", "url.scheme"),
];

fn inspector(source: &str) -> Inspector {
    let schemas = Path::new(env!("CARGO_MANIFEST_DIR")).join("../schemas");
    let read = |path: &str| std::fs::read_to_string(schemas.join(path)).expect("a schema file");
    let fields: Fields = serde_saphyr::from_str(&read("fields.yml")).expect("canonical fields");
    let def: SourceDef = serde_saphyr::from_str(&read(&format!("sources/{source}.yml"))).expect("a source");
    Inspector::new(&def, &fields, [0; 32]).expect("a decoder")
}

fn cases(path: &Path) -> Vec<Case> {
    let text = std::fs::read_to_string(path).expect("a file of cases");
    text.lines().map(|line| serde_json::from_str(line).expect("a case")).collect()
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Compares the fields that both sides know; `names` maps theirs to ours. Returns how many agreed.
fn compare(
    id: &str,
    names: &[(&str, &str)],
    expected: &BTreeMap<String, Value>,
    event: &Map<String, Value>,
) -> usize {
    let known = names.iter().filter_map(|(theirs, ours)| Some((ours, expected.get(*theirs)?)));
    let mut agreed = 0;
    for (ours, expected) in known {
        let got = event.get(*ours).map(text);
        assert_eq!(got, Some(text(expected)), "{id}: {ours}");
        agreed += 1;
    }
    agreed
}

#[test]
fn panos_lines() {
    let Some(root) = corpus() else { return };
    let mut inspector = inspector("paloalto");
    let (mut parsed, mut compared) = (0, 0);
    for case in cases(&root.join("panos/panos.ndjson")) {
        let result = inspector.inspect(0, Some(case.raw.as_bytes()));
        let supported = case.format == "csv" && matches!(&*case.log_type, "TRAFFIC" | "THREAT");
        if !supported {
            let refused = result.expect_err(&case.id);
            assert!(matches!(refused.reason, DeadReason::Unsupported | DeadReason::Malformed), "{}", case.id);
            continue;
        }
        let event = result.unwrap_or_else(|refused| panic!("{}: {refused:?}", case.id)).remove(0);
        assert_eq!(event["panw.type"], *case.log_type, "{}", case.id);
        assert_eq!(event["panw.subtype"], *case.subtype, "{}", case.id);
        assert!(event.contains_key("@timestamp"), "{}", case.id);
        compared += compare(&case.id, &PANOS, &case.expected.unwrap_or_default(), &event);
        parsed += 1;
    }
    assert_eq!(parsed, 165);
    assert!(compared > 200, "{compared} fields compared");
}

#[test]
fn aws_waf_record() {
    let Some(root) = corpus() else { return };
    let mut inspector = inspector("aws_waf");
    for case in cases(&root.join("waf/aws_waf.ndjson")) {
        let events = inspector.inspect(0, Some(case.raw.as_bytes()));
        let event = events.unwrap_or_else(|refused| panic!("{}: {refused:?}", case.id)).remove(0);
        let expected = case.expected.unwrap_or_default();
        assert_eq!(compare(&case.id, &AWS_WAF, &expected, &event), AWS_WAF.len());
        assert_eq!(event["waf.action"], text(&expected["aws.waf.action"]).to_lowercase());
        assert_eq!(event["@timestamp"], "2025-05-25T21:31:58.574000Z");
    }
}
