//! A plausible quarter of an hour at an exchange, as alerts in a store and as a snapshot of the engine.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Value as Json, json};
use vedette_event::{
    Alert, Entity, Evidence, Flags, Micros, Notice, RuleIx, RuleRef, Severity, Span, State, Value,
    alert::{Number, references},
};
use vedette_sigma::{Leaf, Pattern, Piece, Test};
use vedette_store::{
    Store,
    model::{
        AlertRevision, Content, EvidenceContent, EvidenceOf, HealthEvent, LostInterval, NewDeadLetter,
        NewNotice, Publication,
    },
};

use crate::live::{
    BrokerStatus, Coverage, DeadLetterTopicStatus, Degradation, Health, LeaseStatus, Live, LoadStatus,
    MemoryStatus, Mode, PartitionStatus, PublishStatus, Readiness, Rejected, RuleLoad, RuleSetStatus,
    RuleStatus, SourceStatus, StageState, StageStatus, Status, TimeSource, TopicState, TopicStatus,
};

struct Case {
    rule: &'static str,
    title: &'static str,
    kind: &'static str,
    level: Severity,
    source: &'static str,
    tag: &'static str,
    key: &'static [(&'static str, &'static str)],
    explanation: Json,
    /// Seconds before the present of the first and the last event; events; revisions.
    span: (i64, i64, u64, u32),
    state: State,
    flags: Flags,
    event: Json,
}

fn window(kind: &str, rules: &[&str], by: &[&str], condition: Json, window: &str) -> Json {
    json!({"type": kind, "rules": rules, "group_by": by, "condition": condition, "window": window, "rearm": window})
}

fn cases() -> Vec<Case> {
    accounts().into_iter().chain(perimeter()).chain(rest()).collect()
}

/// A failed log-in as the gateway writes it.
fn login(user: &str, ip: &str) -> Json {
    json!({"event.action": "login", "event.outcome": "failure", "event.reason": "bad_password", "user.name": user,
           "client.ip": ip, "source.as.number": 64501, "http.route": "/v1/login", "http.response.status_code": 401,
           "tls.client.ja4": "t13d1516h2_8daaf6152771_b186095e22b6",
           "event.original": format!("{{\"ts\":\"2026-01-31T11:58:02.114Z\",\"action\":\"login\",\"user\":\"{user}\",\"ip\":\"{ip}\",\"ok\":false}}")})
}

/// An episode below an alert.
fn child(
    id: &str,
    title: &str,
    key: &Json,
    times: [&str; 2],
    offsets: std::ops::Range<i64>,
    total: u64,
) -> Json {
    let [first, last] = times;
    let at = |offset| json!({"topic": "api", "partition": 1, "offset": offset, "index": 0, "time": last, "flags": []});
    json!({"rule": {"id": id, "title": title, "level": "low", "type": "event_count", "version": "0c4f", "tags": []},
           "key": key, "first_seen": first, "crossed_at": last, "last_seen": last, "count": total, "value": total,
           "evidence": offsets.map(at).collect::<Vec<_>>(), "flags": []})
}

/// A chain's, silent, over one that raised an alert.
fn resets() -> Json {
    let key = json!({"user.id": "u-48213"});
    let times = ["2026-01-31T11:49:11.000004Z", "2026-01-31T11:53:40.871000Z"];
    let mut guessed = child(
        "bot-stuffing",
        "Credential stuffing from one address",
        &json!({"client.ip": "203.0.113.54"}),
        times,
        70..80,
        15,
    );
    guessed["alert_id"] = json!(blake3::hash(b"bot-stuffing").to_hex().as_str());
    guessed["flags"] = json!(["clock=late"]);
    let mut resets = child("api-login-failed", "Second factor reset again and again", &key, times, 60..65, 5);
    resets["children"] = json!([guessed]);
    resets
}

/// One whose alert is not there: folded into a storm, or removed.
fn guesses() -> Json {
    let times = ["2026-01-31T11:58:02.000000Z", "2026-01-31T11:59:02.233000Z"];
    let mut guesses = child("waf-blocked", "Codes guessed", &json!({"user.id": "u-48213"}), times, 90..91, 1);
    guesses["alert_id"] = json!(blake3::hash(b"folded").to_hex().as_str());
    guesses
}

fn accounts() -> [Case; 3] {
    [
        Case {
            rule: "ato-device-2fa-withdraw",
            title: "New device, 2FA reset, then a withdrawal",
            kind: "temporal_ordered",
            level: Severity::Critical,
            source: "api",
            tag: "attack.t1556.006",
            key: &[("user.id", "u-48213")],
            explanation: json!({"type": "temporal_ordered", "rules": ["api-device-new", "api-mfa-reset", "api-withdraw"],
                "group_by": ["user.id"], "window": "1d", "rearm": "1d",
                "steps": [{"rule": "api-device-new", "time": "2026-01-31T11:49:11.004Z"},
                          {"rule": "api-mfa-reset", "time": "2026-01-31T11:53:40.871Z"},
                          {"rule": "api-withdraw", "time": "2026-01-31T11:59:02.233Z"}],
                "children": [resets(), guesses()], "children_total": 3}),
            span: (649, 58, 3, 1),
            state: State::Active,
            flags: Flags::NONE,
            event: json!({"event.action": "withdraw_request", "event.outcome": "success", "user.id": "u-48213", "client.ip": "198.51.100.77",
                "exchange.withdrawal.asset": "BTC", "exchange.withdrawal.amount": "1.84200000", "exchange.withdrawal.amount_usd": 184211.5,
                "exchange.withdrawal.address": "bc1q9x…7k2f", "http.response.status_code": 202}),
        },
        Case {
            rule: "bot-stuffing",
            title: "Credential stuffing from one address",
            kind: "value_count",
            level: Severity::High,
            source: "api",
            tag: "attack.t1110.004",
            key: &[("client.ip", "203.0.113.54")],
            explanation: {
                let mut e =
                    window("value_count", &["api-login-failed"], &["client.ip"], json!({"gte": 15}), "15m");
                e["fields"] = json!(["user.name"]);
                e
            },
            span: (560, 4, 1_284, 9),
            state: State::Active,
            flags: Flags::CLOCK_LATE,
            event: login("m.okafor", "203.0.113.54"),
        },
        Case {
            rule: "bot-spray",
            title: "Password spraying",
            kind: "temporal",
            level: Severity::High,
            source: "api",
            tag: "attack.t1110.003",
            key: &[("client.ip", "2001:db8:41::/64")],
            explanation: {
                let mut e = window(
                    "temporal",
                    &["api-login-failed", "api-login-locked"],
                    &["client.ip"],
                    json!({"gte": 2}),
                    "1h",
                );
                e["matched"] = json!(["api-login-failed", "api-login-locked"]);
                e
            },
            span: (840, 220, 41, 6),
            state: State::Active,
            flags: Flags::NONE,
            event: login("t.lindqvist", "2001:db8:41::19"),
        },
    ]
}

fn perimeter() -> [Case; 3] {
    [
        Case {
            rule: "waf-class-burst",
            title: "Burst of one attack class at the WAF",
            kind: "event_count",
            level: Severity::Medium,
            source: "waf",
            tag: "attack.t1190",
            key: &[("client.ip", "192.0.2.201"), ("waf.attack_class", "sqli")],
            explanation: window(
                "event_count",
                &["waf-blocked"],
                &["client.ip", "waf.attack_class"],
                json!({"gte": 5}),
                "5m",
            ),
            span: (300, 12, 187, 5),
            state: State::Active,
            flags: Flags::NONE,
            event: json!({"waf.action": "block", "waf.attack_class": "sqli", "client.ip": "192.0.2.201", "http.request.method": "GET",
                "url.domain": "trade.example.net", "url.path": "/api/v2/orders", "url.query": "id=1%27%20UNION%20SELECT%20NULL--",
                "http.response.status_code": 403, "waf.rule.ids": ["AWSManagedRulesSQLiRuleSet"]}),
        },
        Case {
            rule: "fw-scan-vertical",
            title: "Vertical port scan",
            kind: "value_count",
            level: Severity::Medium,
            source: "firewall",
            tag: "attack.t1046",
            key: &[("source.ip", "198.51.100.23"), ("destination.ip", "10.20.4.11")],
            explanation: {
                let mut e = window(
                    "value_count",
                    &["fw-denied"],
                    &["source.ip", "destination.ip"],
                    json!({"gte": 50}),
                    "1m",
                );
                e["fields"] = json!(["destination.port"]);
                e
            },
            span: (430, 371, 2_310, 2),
            state: State::Ended,
            flags: Flags::CAPPED,
            event: json!({"event.action": "deny", "source.ip": "198.51.100.23", "destination.ip": "10.20.4.11", "destination.port": 3389,
                "network.transport": "tcp", "rule.name": "default-deny", "observer.ingress.zone": "untrust", "observer.egress.zone": "dmz"}),
        },
        Case {
            rule: "seg-admin-from-dmz",
            title: "Administration protocol from the DMZ to the core",
            kind: "single",
            level: Severity::Critical,
            source: "firewall",
            tag: "attack.t1021",
            key: &[("source.ip", "10.20.4.11")],
            explanation: json!({"type": "single", "rearm": "1h"}),
            span: (214, 96, 6, 3),
            state: State::Active,
            flags: Flags::NONE,
            event: json!({"event.action": "allow", "source.ip": "10.20.4.11", "destination.ip": "10.40.0.8", "destination.port": 22,
                "network.application": "ssh", "rule.name": "dmz-to-core-temp", "observer.ingress.zone": "dmz", "observer.egress.zone": "core"}),
        },
    ]
}

fn rest() -> [Case; 4] {
    [
        Case {
            rule: "api-sigfail",
            title: "Bad request signatures of one API key",
            kind: "event_count",
            level: Severity::Medium,
            source: "api",
            tag: "attack.t1110",
            key: &[("api_key.id", "ak_7Qd2f0")],
            explanation: window(
                "event_count",
                &["api-signature-bad"],
                &["api_key.id"],
                json!({"gte": 20}),
                "5m",
            ),
            span: (700, 655, 22, 1),
            state: State::Ended,
            flags: Flags::CLOCK_FUTURE,
            event: json!({"event.action": "order_place", "exchange.signature_ok": false, "api_key.id": "ak_7Qd2f0", "client.ip": "203.0.113.9"}),
        },
        Case {
            rule: "fw-threat-passed",
            title: "High-severity threat that was not blocked",
            kind: "single",
            level: Severity::High,
            source: "firewall",
            tag: "attack.t1190",
            key: &[("source.ip", "203.0.113.140")],
            explanation: json!({"type": "single", "rearm": "1h"}),
            span: (122, 122, 1, 1),
            state: State::Active,
            flags: Flags::NONE,
            event: json!({"event.action": "alert", "source.ip": "203.0.113.140", "destination.ip": "10.20.4.30",
                "panw.threat_name": "Apache Log4j Remote Code Execution Vulnerability", "panw.severity": "critical", "panw.threat_id": 91991}),
        },
        Case {
            rule: "waf-fuzz",
            title: "Path fuzzing",
            kind: "event_count",
            level: Severity::Low,
            source: "waf",
            tag: "attack.t1595.003",
            key: &[("client.ip", "192.0.2.88")],
            explanation: window("event_count", &["waf-blocked"], &["client.ip"], json!({"gt": 500}), "10m"),
            span: (810, 402, 3_911, 7),
            state: State::Ended,
            flags: Flags::APPROXIMATE,
            event: json!({"waf.action": "block", "client.ip": "192.0.2.88", "url.path": "/.git/config", "http.request.method": "GET"}),
        },
        Case {
            rule: "ops-quiet-source",
            title: "Fewer log-ins than ever at this hour",
            kind: "event_count",
            level: Severity::Informational,
            source: "api",
            tag: "attack.t1685",
            key: &[],
            explanation: json!({"type": "event_count", "rules": ["api-login-ok"], "group_by": [], "condition": {"lt": 3}, "window": "5m",
                "window_start": "2026-01-31T11:45:00Z", "window_end": "2026-01-31T11:50:00Z"}),
            span: (890, 640, 2, 1),
            state: State::Ended,
            flags: Flags::CLOCK_MISSING,
            event: json!({"event.action": "login", "event.outcome": "success", "user.name": "r.meyer"}),
        },
    ]
}

fn at(now: Micros, seconds_before: i64) -> Micros {
    now.minus(Span::secs(seconds_before))
}

fn rule(case: &Case) -> Arc<RuleRef> {
    Arc::new(RuleRef {
        id: case.rule.into(),
        title: case.title.into(),
        level: case.level,
        kind: case.kind.into(),
        version: "5be1c4d09a77f213".into(),
        tags: [Arc::from(case.tag), Arc::from("attack.initial-access")].into(),
    })
}

fn key(case: &Case) -> BTreeMap<Arc<str>, Value> {
    case.key.iter().map(|(name, value)| (Arc::from(*name), Value::Text((*value).into()))).collect()
}

fn evidence(case: &Case, now: Micros, count: u64) -> Vec<Evidence> {
    let (first, last, ..) = case.span;
    let shown = count.min(10) as i64;
    (0..shown)
        .map(|n| Evidence {
            topic: case.source.into(),
            incarnation: 0,
            partition: (n % 3) as i32,
            offset: 48_000 + n * 17,
            index: 0,
            time: at(now, first - (first - last) * n / (shown - 1).max(1)),
            flags: if n == 1 { case.flags } else { Flags::NONE },
        })
        .collect()
}

fn alert(case: &Case, now: Micros, revision: u32) -> Alert {
    let (first, last, total, revisions) = case.span;
    let share = |whole: u64| (whole * u64::from(revision)).div_ceil(u64::from(revisions)).max(1);
    let count = share(total);
    let key = key(case);
    let explanation = serde_json::from_value(case.explanation.clone()).unwrap();
    let who: String = key.iter().map(|(name, value)| format!("{name} {}, ", value.text())).collect();
    Alert {
        alert_id: blake3::hash(case.rule.as_bytes()).to_hex().as_str().into(),
        revision,
        state: if revision == revisions { case.state } else { State::Active },
        continuation: false,
        rule: rule(case),
        entity: case
            .key
            .first()
            .map(|(name, value)| Entity { kind: (*name).into(), value: Value::Text((*value).into()) }),
        first_seen: at(now, first),
        crossed_at: at(now, first - (first - last) / 20),
        last_seen: at(now, first - (first - last) * i64::from(revision) / i64::from(revisions)),
        count,
        value: Number::Int(if case.kind == "value_count" { count.min(1_000) } else { count }),
        severity: case.level,
        risk: case.level.risk(),
        summary: format!("{}: {who}{count} events", case.title),
        evidence: evidence(case, now, count),
        evidence_total: count,
        explanation,
        flags: case.flags,
        key,
    }
}

/// The last revision of a rule's alert.
pub(super) fn revision(rule: &str, now: Micros) -> AlertRevision {
    let case = cases().into_iter().find(|case| case.rule == rule).unwrap();
    let alert = alert(&case, now, case.span.3);
    AlertRevision::of(&alert, vec![case.source.into()], alert.last_seen.plus(Span::secs(300))).unwrap()
}

/// Publishes everything.
pub(crate) async fn fill(store: &Store, now: Micros) {
    let cases = cases();
    let most = cases.iter().map(|case| case.span.3).max().unwrap();
    for revision in 1..=most {
        let due = cases.iter().filter(|case| revision <= case.span.3);
        let revise = |case: &Case| {
            let alert = alert(case, now, revision);
            AlertRevision::of(&alert, vec![case.source.into()], alert.last_seen.plus(Span::secs(300)))
                .unwrap()
        };
        store
            .publish(&Publication { alerts: due.map(revise).collect(), ..Publication::default() })
            .await
            .unwrap();
    }
    let contents: Vec<EvidenceOf> = cases.iter().map(|case| contents(case, now)).collect();
    store.store_evidence(&contents).await.unwrap();
    let rest = Publication {
        notices: vec![notice(now)],
        dead_letters: dead_letters(now),
        lost: vec![LostInterval {
            incarnation: 0,
            topic: "waf".into(),
            partition: 2,
            from: 1_000,
            to: 1_200,
            noticed_at: at(now, 600),
        }],
        health: vec![HealthEvent {
            key: "lost/waf/2/1000".into(),
            at: at(now, 600),
            kind: "lost".into(),
            severity: Severity::Critical,
            message: "200 records of waf/2 were deleted before they were read".into(),
        }],
        ..Publication::default()
    };
    store.publish(&rest).await.unwrap();
}

fn contents(case: &Case, now: Micros) -> EvidenceOf {
    let alert = alert(case, now, case.span.3);
    let content = |(at, evidence): (usize, Evidence)| EvidenceContent {
        topic: evidence.topic.to_string(),
        incarnation: evidence.incarnation,
        partition: evidence.partition,
        offset: evidence.offset,
        index: evidence.index,
        content: match at {
            2 => Content::Gone,
            3 => Content::Undecodable("the record is no JSON object".to_owned()),
            _ => Content::Present(case.event.to_string()),
        },
    };
    let body = serde_json::to_string(&alert).unwrap();
    let contents = references(&body).into_iter().enumerate().map(content).collect();
    EvidenceOf { id: alert.alert_id.to_string(), contents }
}

fn notice(now: Micros) -> NewNotice {
    let case = Case { key: &[("client.ip", "203.0.113.201")], span: (1, 1, 1, 1), ..cases().remove(1) };
    let notice = Notice {
        notice_id: blake3::hash(b"notice").to_hex().as_str().into(),
        rule_ix: RuleIx(0),
        rule: rule(&case),
        key: key(&case),
        entity: Some(Entity { kind: "client.ip".into(), value: Value::Text("203.0.113.201".into()) }),
        crossed_at: at(now, 1),
        count: 15,
        value: Number::Int(15),
        severity: case.level,
        summary:
            "Credential stuffing from one address: client.ip 203.0.113.201, 15 distinct values of user.name"
                .into(),
        evidence: evidence(&case, now, 1),
    };
    NewNotice::of(&notice, vec!["api".into()]).unwrap()
}

fn dead_letters(now: Micros) -> Vec<NewDeadLetter> {
    let letter = |source: &str, offset, reason: &str, detail: &str, payload: &[u8]| NewDeadLetter {
        source: source.into(),
        topic: source.into(),
        partition: 0,
        offset,
        index: None,
        ts_log: Some(at(now, 700 - offset)),
        reason: reason.into(),
        detail: detail.into(),
        payload: payload.to_vec(),
    };
    vec![
        letter(
            "api",
            311,
            "malformed",
            "not a JSON object: expected value at byte 0",
            b"<html>502 Bad Gateway</html>",
        ),
        letter("api", 312, "invalid_utf8", "invalid byte at 14", b"{\"user\":\"a\xff\"}"),
        letter(
            "firewall",
            94,
            "unsupported",
            "PAN-OS log type HIPMATCH is not read",
            b"1,2026/01/31 11:50:00,0011C1,HIPMATCH,0",
        ),
    ]
}

/// What the case's rule looks for: an address in full, a part of a name.
fn looks_for(case: &Case) -> Arc<[Leaf]> {
    let text = |pieces: Vec<Piece>| Test::Text { pattern: Pattern(pieces), cased: false };
    let leaf = |field: &str, test| Leaf { field: Some(field.into()), test };
    match case.kind {
        "single" => [leaf("destination.ip", text(vec![Piece::Literal("10.40.0.8".into())]))].into(),
        _ => [
            leaf("event.outcome", text(vec![Piece::Literal("failure".into())])),
            leaf("user.name", text(vec![Piece::Many, Piece::Literal("OKA".into()), Piece::Many])),
        ]
        .into(),
    }
}

/// The engine's snapshot.
pub(crate) fn live(now: Micros) -> Live {
    let cases = cases();
    let base = [
        ("api-login-failed", "Failed log-in"),
        ("waf-blocked", "Request blocked by the WAF"),
        ("fw-denied", "Denied session"),
    ];
    let mut rules: Vec<RuleStatus> = cases.iter().map(|case| rule_status(case, now)).collect();
    rules.extend(base.iter().map(|(id, title)| RuleStatus {
        id: (*id).into(),
        title: (*title).into(),
        emits: false,
        ..rule_status(&cases[5], now)
    }));
    rules.sort_by(|a, b| a.id.cmp(&b.id));
    Live {
        as_of: at(now, 1),
        stages: stages(now),
        ready: Readiness { ready: true, ..Readiness::default() },
        status: status(now, rules.len() as u64),
        sources: sources(now),
        rules: Arc::new(rules),
        rejected: Arc::new(vec![Rejected {
            file: "detections/rules/api/travel.yml".into(),
            line: 14,
            column: 7,
            rule_id: Some("ato-travel".into()),
            code: "unknown-modifier".into(),
            message: "`geo_distance` is no modifier".into(),
            help: Some("use one of contains, startswith, endswith, re, cidr, …".into()),
            kept: false,
        }]),
    }
}

fn stages(now: Micros) -> Vec<StageStatus> {
    let names = ["reader", "prober", "kernel", "publisher", "evidence", "api"];
    let stage = |name: &str| StageStatus {
        name: name.into(),
        state: if name == "kernel" { StageState::Working } else { StageState::Idle },
        has_work: name == "kernel",
        moved_at: at(now, 0),
        alive_at: at(now, 0),
        waits_for: None,
    };
    names.map(stage).into()
}

fn status(now: Micros, rules: u64) -> Status {
    Status {
        version: "0.1.0".into(),
        semantics_version: 1,
        mode: Mode::Demo,
        started_at: at(now, 900),
        rule_set: RuleSetStatus {
            version: "9f31aa04c2d7e610".into(),
            number: 3,
            in_force_from: None,
            accepted: rules,
            rejected: 1,
            reloads: 2,
            reloads_refused: 1,
        },
        lease: LeaseStatus { held: true, epoch: 3 },
        broker: BrokerStatus {
            bootstrap: "127.0.0.1:9092".into(),
            connected: true,
            last_error: None,
            last_answer: Some(at(now, 0)),
        },
        publish: PublishStatus {
            seq: 57,
            last_at: Some(at(now, 1)),
            alerts: [(Severity::High, 3), (Severity::Critical, 2)].into(),
            notices: 4,
            oldest_checkpoint: Some(at(now, 31)),
        },
        load: LoadStatus {
            waiting: 812,
            waiting_budget: 4_000_000,
            standing: 0,
            standing_budget: 4_000_000,
            most_waiting: Some(RuleLoad { rule_id: "api-login-failed".into(), count: 391 }),
            keys: 20_114,
            keys_budget: 1 << 20,
            fullest: Some(RuleLoad { rule_id: "api-login-failed".into(), count: 288 }),
        },
        memory: MemoryStatus {
            budget: 8 << 30,
            resident: Some(412 << 20),
            state: 5 << 30,
            waiting: 2 << 30,
            notices: 512 << 20,
            entries: vec![RuleLoad { rule_id: "api-login-failed".into(), count: 1 << 20 }],
        },
        dead_letter_topic: Some(DeadLetterTopicStatus {
            topic: "vedette.dead-letters".into(),
            missed: 2,
            last_error: None,
            since: None,
        }),
        degradations: Vec::new(),
    }
}

fn rule_status(case: &Case, now: Micros) -> RuleStatus {
    let degraded = case.flags == Flags::APPROXIMATE;
    let degradation = Degradation {
        rule_id: case.rule.into(),
        code: "keys-over-budget".into(),
        message: "Too many keys: new ones share a sketch that can only count too high. Most come from 192.0.2.0/24.".into(),
        since: at(now, 400),
        until: None,
    };
    RuleStatus {
        id: case.rule.into(),
        title: case.title.into(),
        description: Some(
            "Looks for what its title says, with thresholds calibrated on a day of traffic.".into(),
        ),
        level: case.level,
        kind: case.kind.into(),
        version: "5be1c4d09a77f213".into(),
        tags: vec![case.tag.into()],
        false_positives: vec!["Registered scanners".into()],
        file: format!("detections/rules/{}/{}.yml", case.source, case.rule),
        line: 1,
        emits: true,
        refers_to: if case.kind == "single" { Vec::new() } else { vec!["api-login-failed".into()] },
        sources: vec![case.source.into()],
        group_by: case.key.iter().map(|(name, _)| (*name).into()).collect(),
        timespan: (case.kind != "single").then_some(Span::secs(300)),
        condition: (case.kind != "single").then(|| "at least 20 events".into()),
        next_steps: vec!["Look whether the address belongs to a customer".into()],
        text: format!("title: {}\nid: {}\n", case.title, case.rule).into(),
        looks_for: looks_for(case),
        coverage: Coverage {
            through: Some(at(now, 4)),
            in_force_from: degraded.then(|| at(now, 60)),
            warming_until: degraded.then(|| at(now, -240)),
            counted_since: at(now, 7_200),
            seen: 1_204_511,
            matched: case.span.2,
            flagged: 12,
            without_key: 0,
            unevaluated: 0,
            dead_lettered: 0,
            lost: 0,
            alerts: 1,
            time_us: (case.rule == "waf-fuzz").then_some(48_211),
            silent_sources: Vec::new(),
            degradations: if degraded { vec![degradation] } else { Vec::new() },
        },
    }
}

fn sources(now: Micros) -> Vec<SourceStatus> {
    let source = |name: &str, description: &str, health, behind: i64, lag: u64, events: u64| SourceStatus {
        name: name.into(),
        description: description.into(),
        topic: name.into(),
        topics: vec![TopicStatus {
            name: name.into(),
            state: TopicState::Read,
            since: at(now, 3_600),
            message: None,
            time_source: Some(TimeSource::Producer),
            partitions: Some(3),
            unassigned: 0,
            paused: u64::from(health == Health::Lagging),
        }],
        health,
        message: (health == Health::Lagging).then(|| "Records come faster than they are read.".into()),
        time_source: TimeSource::Producer,
        disorder: Span::secs(2),
        future: Span::secs(10),
        watermark: Some(at(now, behind)),
        newest: Some(at(now, behind - 3)),
        lag,
        records: events,
        events,
        dead_letters: if name == "waf" { BTreeMap::new() } else { [("malformed".to_owned(), 2)].into() },
        flags: [("clock=late".to_owned(), 12), ("clock=missing".to_owned(), 0)].into(),
        lost: if name == "waf" { 200 } else { 0 },
        partitions: (0..3)
            .map(|number| PartitionStatus {
                topic: name.into(),
                number,
                position: Some(48_000 + i64::from(number) * 311),
                end: Some(48_000 + i64::from(number) * 311 + (lag / 3) as i64),
                lag: lag / 3,
                watermark: Some(at(now, behind + i64::from(number))),
                events: events / 3,
                flags: if number == 1 { [("clock=late".to_owned(), 12)].into() } else { BTreeMap::new() },
                paused: number == 2 && health == Health::Lagging,
            })
            .collect(),
    };
    vec![
        source("api", "Gateway and application events as JSON", Health::Ok, 7, 0, 812_440),
        source("firewall", "PAN-OS TRAFFIC and THREAT logs as CSV over syslog", Health::Ok, 7, 3, 338_071),
        source("waf", "AWS WAF logs as JSON", Health::Lagging, 41, 5_211, 54_000),
    ]
}
