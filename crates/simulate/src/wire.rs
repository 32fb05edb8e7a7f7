//! The wire formats: PAN-OS CSV in a syslog envelope, AWS WAF JSON, the exchange's API JSON.
//!
//! In: what happened. Out: one line as the real source would write it.

use chrono::DateTime;
use serde_json::{Value, json};
use vedette_event::Micros;

use crate::{Feed, Record};

/// A session that the firewall logs.
#[derive(Debug, Clone)]
pub struct Session<'a> {
    pub source: &'a str,
    pub destination: &'a str,
    pub source_port: u64,
    pub port: u64,
    pub from: &'a str,
    pub to: &'a str,
    pub application: &'a str,
    pub action: &'a str,
    pub bytes: u64,
}

/// A threat that the firewall saw in a session.
#[derive(Debug, Clone)]
pub struct Threat<'a> {
    pub subtype: &'a str,
    pub name: &'a str,
    pub category: &'a str,
    pub severity: &'a str,
    pub url: &'a str,
}

fn stamp(time: Micros, format: &str) -> String {
    DateTime::from_timestamp_micros(time.0).unwrap_or_default().format(format).to_string()
}

/// Envelope and the fields that TRAFFIC and THREAT share: all up to the action.
fn panos_head(time: Micros, kind: &str, subtype: &str, s: &Session<'_>) -> String {
    let (header, at) = (stamp(time, "%b %e %H:%M:%S"), stamp(time, "%Y/%m/%d %H:%M:%S"));
    let id = (time.0 as u64).wrapping_mul(31) % 1_000_000;
    let natted = if s.from == "untrust" { "0.0.0.0" } else { "192.0.2.10" };
    format!(
        "<14>{header} fw-edge-1 1,{at},013201001234,{kind},{subtype},2561,{at},{},{},{natted},0.0.0.0,{}-to-{},,,{},vsys1,\
         {},{},ethernet1/1,ethernet1/2,forward-siem,{at},{id},1,{},{},0,0,0x400019,tcp,{}",
        s.source, s.destination, s.from, s.to, s.application, s.from, s.to, s.source_port, s.port, s.action,
    )
}

/// A TRAFFIC record.
pub fn traffic(time: Micros, s: &Session<'_>, label: Option<&'static str>) -> Record {
    let (subtype, end) = if s.action == "allow" { ("end", "tcp-fin") } else { ("drop", "policy-deny") };
    let (sent, at) = (s.bytes / 4, stamp(time, "%Y/%m/%d %H:%M:%S"));
    let line = format!(
        "{},{},{sent},{},12,{at},3,any,0,{},0x8000000000000000,United States,10.0.0.0-10.255.255.255,0,7,5,{end},0,0,0,0,,fw-edge-1,from-policy",
        panos_head(time, "TRAFFIC", subtype, s),
        s.bytes,
        s.bytes - sent,
        time.0,
    );
    Record { time, feed: Feed::Firewall, line, label, source: s.source.to_owned() }
}

/// A THREAT record.
pub fn threat(time: Micros, s: &Session<'_>, t: &Threat<'_>, label: Option<&'static str>) -> Record {
    let line = format!(
        "{},\"{}\",{},{},{},client-to-server,{},0x8000000000000000,United States,10.0.0.0-10.255.255.255,0,,0,,,1,,,,,,,,0,0,0,0,0,,fw-edge-1",
        panos_head(time, "THREAT", t.subtype, s),
        t.url,
        t.name,
        t.category,
        t.severity,
        time.0,
    );
    Record { time, feed: Feed::Firewall, line, label, source: s.source.to_owned() }
}

/// A request that the web application firewall logs.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    pub client: &'a str,
    pub method: &'a str,
    pub path: &'a str,
    pub query: &'a str,
    pub agent: &'a str,
    /// Rule and label of the managed rule that blocked it.
    pub blocked: Option<(&'a str, &'a str)>,
}

/// An AWS WAF record.
pub fn waf(time: Micros, r: &Request<'_>, id: u64, label: Option<&'static str>) -> Record {
    let (action, rule, kind) = match r.blocked {
        Some((rule, _)) => ("BLOCK", rule, "MANAGED_RULE_GROUP"),
        None => ("ALLOW", "Default_Action", "REGULAR"),
    };
    let labels: Vec<Value> = r.blocked.iter().map(|(_, label)| json!({"name": label})).collect();
    let line = json!({
        "timestamp": time.0 / 1_000,
        "formatVersion": 1,
        "webaclId": "arn:aws:wafv2:eu-central-1:123456789012:regional/webacl/exchange/0a1b2c3d",
        "terminatingRuleId": rule,
        "terminatingRuleType": kind,
        "action": action,
        "terminatingRuleMatchDetails": [],
        "httpSourceName": "ALB",
        "httpSourceId": "123456789012-app/exchange/50dc6c495c0c9188",
        "ruleGroupList": [],
        "rateBasedRuleList": [],
        "nonTerminatingMatchingRules": [],
        "httpRequest": {
            "clientIp": r.client,
            "country": "DE",
            "headers": [
                {"name": "host", "value": "www.exchange.example"},
                {"name": "user-agent", "value": r.agent},
                {"name": "accept", "value": "*/*"},
            ],
            "uri": r.path,
            "args": r.query,
            "httpVersion": "HTTP/2.0",
            "httpMethod": r.method,
            "requestId": format!("1-{id:016x}"),
        },
        "labels": labels,
        "ja4Fingerprint": "t13d1516h2_8daaf6152771_02713d6af862",
    });
    Record { time, feed: Feed::Waf, line: line.to_string(), label, source: r.client.to_owned() }
}

/// A record of the exchange's own API log: what all have, then `more`.
pub fn api(time: Micros, action: &str, outcome: &str, more: Value, label: Option<&'static str>) -> Record {
    let mut line = json!({
        "ts": stamp(time, "%Y-%m-%dT%H:%M:%S%.3fZ"),
        "event": action,
        "outcome": outcome,
    });
    if let (Some(line), Value::Object(more)) = (line.as_object_mut(), more) {
        line.extend(more);
    }
    let source = line["client_ip"].as_str().unwrap_or_default().to_owned();
    Record { time, feed: Feed::Api, line: line.to_string(), label, source }
}

/// Where a PAN-OS record has its action, counted from 0.
const ACTION: usize = 30;

/// A line of somebody who is let through no more.
pub fn denied(feed: Feed, line: &str) -> String {
    match feed {
        // No field before the action is quoted.
        Feed::Firewall => {
            let fields = line.split(',').enumerate();
            let fields = fields.map(|(at, field)| if at == ACTION { "drop" } else { field });
            fields.collect::<Vec<_>>().join(",")
        }
        Feed::Waf => with(line, &[("action", json!("BLOCK")), ("responseCodeSent", json!(403))]),
        Feed::Api => with(line, &[("outcome", json!("failure")), ("status", json!(403))]),
    }
}

/// A JSON object with some of its members set.
fn with(line: &str, set: &[(&str, Value)]) -> String {
    let Ok(Value::Object(mut object)) = serde_json::from_str(line) else { return line.to_owned() };
    object.extend(set.iter().map(|(key, value)| ((*key).to_owned(), value.clone())));
    Value::Object(object).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_denied_line_is_the_same_but_for_what_became_of_it() {
        let session = Session {
            source: "203.0.113.9",
            destination: "10.20.0.5",
            source_port: 4_000,
            port: 443,
            from: "untrust",
            to: "dmz",
            application: "ssl",
            action: "allow",
            bytes: 900,
        };
        let allowed = traffic(Micros(0), &session, None);
        let line = allowed.clone().denied().line;
        assert_eq!(line, allowed.line.replacen(",allow,", ",drop,", 1));
        let blocked = api(Micros(0), "login", "success", json!({"client_ip": "203.0.113.9"}), None);
        assert_eq!(blocked.source, "203.0.113.9");
        let blocked = blocked.denied().line;
        assert!(
            blocked.contains("\"status\":403") && blocked.contains("\"outcome\":\"failure\""),
            "{blocked}"
        );
    }
}
