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

/// The cells of CSV, by a plain reading: quotes around a cell, doubled quotes in it.
fn cells(csv: &str) -> Vec<String> {
    let (mut cells, mut cell, mut quoted) = (Vec::new(), String::new(), false);
    let mut chars = csv.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => cell.extend(chars.next()),
            '"' if quoted || cell.is_empty() => quoted = !quoted,
            ',' if !quoted => cells.push(std::mem::take(&mut cell)),
            c => cell.push(c),
        }
    }
    cells.push(cell);
    cells
}

/// Whether a field's value is what a cell says.
fn says(value: &str, cell: &str) -> bool {
    let number = |text: &str| text.parse::<u128>().ok();
    let address = |text: &str| text.parse::<std::net::IpAddr>().ok();
    let duration = |text: &str| number(text).map(|n| n * 1_000_000_000);
    value == cell
        || number(value).is_some_and(|n| Some(n) == number(cell) || Some(n) == duration(cell))
        || address(value).is_some_and(|ip| Some(ip) == address(cell))
}

#[test]
fn of_panos_lines_nothing_is_lost() {
    let Some(root) = corpus() else { return };
    let mut inspector = inspector("paloalto").unmapped();
    let (mut lines, mut held, mut left) = (0, 0, 0);
    for case in cases(&root.join("panos/panos.ndjson")) {
        let Ok(mut events) = inspector.inspect(0, Some(case.raw.as_bytes())) else { continue };
        let mut event = events.remove(0);
        let unmapped = event.remove("event.unmapped").unwrap_or_default();
        let unmapped = unmapped.as_object().cloned().unwrap_or_default();
        let header = unmapped.get("syslog_header").map(text).unwrap_or_default();
        let csv = case.raw.trim_start().strip_prefix(&header).expect("what stands before the CSV");
        let threat = |part: &str| event.get(part).map(text).unwrap_or_default();
        let threat = format!("{}({})", threat("panw.threat_name"), threat("panw.threat_id"));
        let mut nowhere = Vec::new();
        for cell in cells(csv.trim()) {
            let cell = cell.trim();
            if cell.is_empty() || cell == "-" {
                continue;
            }
            let in_field = event.values().any(|value| says(&text(value), cell)) || cell == threat;
            let in_rest = unmapped.values().any(|value| text(value) == cell);
            held += usize::from(in_field);
            left += usize::from(in_rest);
            if !in_field && !in_rest {
                nowhere.push(cell.to_owned());
            }
        }
        // The claimed time is held in a spelling of its own.
        nowhere.retain(|cell| !(cell.starts_with("20") && cell.contains(':')));
        assert_eq!(nowhere, Vec::<String>::new(), "{}", case.id);
        lines += 1;
    }
    assert_eq!(lines, 165);
    assert!(held > 5_000 && left > 500, "{held} cells held, {left} left");
}

/// The scalars of a value with the way to each, lists and objects without any among them.
fn leaves(way: &str, value: &Value, out: &mut BTreeMap<String, Value>) {
    match value {
        Value::Object(members) if !members.is_empty() => {
            members.iter().for_each(|(name, value)| leaves(&format!("{way}/{name}"), value, out));
        }
        Value::Array(list) if !list.is_empty() => {
            list.iter().enumerate().for_each(|(at, value)| leaves(&format!("{way}/{at}"), value, out));
        }
        leaf => drop(out.insert(way.to_owned(), leaf.clone())),
    }
}

#[test]
fn of_an_aws_waf_record_nothing_is_lost() {
    let Some(root) = corpus() else { return };
    let mut inspector = inspector("aws_waf").unmapped();
    for case in cases(&root.join("waf/aws_waf.ndjson")) {
        let record: Value = serde_json::from_str(&case.raw).expect("a record");
        let event = inspector.inspect(0, Some(case.raw.as_bytes())).expect("an event").remove(0);
        let (mut all, mut left) = (BTreeMap::new(), BTreeMap::new());
        leaves("", &record, &mut all);
        leaves("", &event["event.unmapped"], &mut left);
        assert!(left.iter().all(|(way, leaf)| all.get(way) == Some(leaf)), "{left:?}");
        all.retain(|way, leaf| left.get(way) != Some(leaf) && way != "/timestamp");
        for (way, leaf) in &all {
            assert!(event.values().any(|value| value == leaf), "{way} is nowhere: {leaf}");
        }
        assert!(all.len() > 10 && left.len() > 10, "{} held, {} left", all.len(), left.len());
    }
}

#[test]
fn of_json_without_a_mapping_all_is_left() {
    let Some(root) = corpus() else { return };
    let mut inspector = inspector("json").unmapped();
    let mut records = 0;
    let files =
        ["panos/panos", "panther/rule_tests", "access/envoy_kong", "sigma/eval_cases", "crs/regression"];
    for file in files {
        let lines = std::fs::read_to_string(root.join(format!("{file}.ndjson"))).expect("a file of cases");
        for line in lines.lines() {
            let record: Value = serde_json::from_str(line).expect("a record");
            let event = inspector.inspect(0, Some(line.as_bytes())).expect("an event").remove(0);
            assert_eq!(event["event.unmapped"], record, "{file}");
            records += 1;
        }
    }
    assert!(records > 1_500, "{records}");
}
