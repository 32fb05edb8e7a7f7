//! The oracle's own tests: small cases worked out by hand, one for each sentence of the semantics.
//!
//! Rules are built directly, so that nothing but the oracle is under test. Times are seconds after [`NOON`] unless said
//! otherwise; every event carries `u` (the user, the usual key), `k` (which rule it matches) and what else the case needs.

#![allow(clippy::unwrap_used)]

mod alerts;
mod events;
mod windows;

use std::sync::Arc;

use serde_json::{Map, Value as Json, json};
use vedette_event::{
    Alert, FieldType, Fields, Flags, LogSource, Micros, RuleIx, Severity, SourceDef, SourceIx, Sources, Span,
    State, StoredPlacement, schema::FieldDef, source::Form,
};
use vedette_sigma::{
    Cmp, Correlation, CorrelationKind, Detection, Expr, Extras, KeyPart, Leaf, Pattern, Piece, Rule,
    RuleKind, RuleSet, Test,
};

use super::{
    Input, Outcome, alerts, keys,
    placement::{Claimed, Log, Record},
};

/// 2026-01-02T12:00:00Z.
const NOON: i64 = 1_767_355_200;
/// Seconds from [`NOON`] to 00:00.
const MIDNIGHT: i64 = 12 * 3600;

/// Rules under construction.
#[derive(Default)]
struct Rules(RuleSet);

impl Rules {
    fn push(&mut self, id: &str, kind: RuleKind, emits: bool) -> RuleIx {
        let at = self.0.rules.len();
        self.0.rules.push(Rule {
            id: id.into(),
            name: None,
            title: id.into(),
            description: None,
            level: Severity::Medium,
            tags: Arc::from([]),
            false_positives: Vec::new(),
            file: "case".into(),
            line: 1,
            emits,
            kind,
            extras: Extras::default(),
            meaning: [at as u8; 32],
            tests: Vec::new(),
            text: "".into(),
        });
        RuleIx(at as u32)
    }

    /// A detection of the events whose `k` is (or, a list, holds) its id.
    fn detection(&mut self, id: &str, emits: bool) -> RuleIx {
        let pattern = Pattern(vec![Piece::Literal(id.into())]);
        let leaf = Leaf { field: Some("k".into()), test: Test::Text { pattern, cased: false } };
        let detection =
            Detection { logsource: LogSource::default(), condition: Expr::Leaf(0), leaves: vec![leaf] };
        self.push(id, RuleKind::Detection(detection), emits)
    }

    /// A correlation by `u` over a minute.
    fn correlation(
        &mut self,
        id: &str,
        kind: CorrelationKind,
        rules: &[RuleIx],
        cond: &[(Cmp, u64)],
    ) -> RuleIx {
        let correlation = Correlation {
            kind,
            rules: rules.to_vec(),
            group_by: vec![KeyPart { name: "u".into(), fields: Vec::new() }],
            timespan: Span::secs(60),
            condition: cond.to_vec(),
        };
        self.push(id, RuleKind::Correlation(correlation), true)
    }

    fn edit(&mut self, ix: RuleIx, change: impl FnOnce(&mut Correlation)) {
        if let RuleKind::Correlation(correlation) = &mut self.0.rules[ix.0 as usize].kind {
            change(correlation);
        }
    }

    fn extras(&mut self, ix: RuleIx) -> &mut Extras {
        &mut self.0.rules[ix.0 as usize].extras
    }
}

fn sources() -> Sources {
    let json = SourceDef {
        name: "json".into(),
        description: String::new(),
        form: Form::Json,
        logsource: LogSource::default(),
        disorder: Span::secs(60),
        future: Span::secs(10),
        time_zone: "UTC".into(),
        entity: vec!["host".into(), "u".into()],
        weight: Some("n".into()),
        secrets: Vec::new(),
        secret_parameters: Vec::new(),
        fields: Default::default(),
        taxonomy: Default::default(),
    };
    Sources::new(Fields::default(), vec![json])
}

/// An event at a second, with fields given as JSON.
fn at(second: i64, fields: Json) -> (i64, Map<String, Json>) {
    let Json::Object(fields) = fields else { panic!("an object") };
    (second, fields)
}

/// One partition whose events claim what the broker says.
fn log(events: &[(i64, Map<String, Json>)]) -> Vec<Log> {
    let records = events.iter().enumerate().map(|(offset, (second, fields))| {
        let time = (NOON + second) * 1_000_000;
        let events = vec![Claimed { ts_raw: Some(time), fields: fields.clone() }];
        Record { offset: offset as i64, ts_log: Some(time), events }
    });
    vec![Log {
        topic: "t".into(),
        incarnation: 0,
        partition: 0,
        source: SourceIx(0),
        records: records.collect(),
    }]
}

fn run(rules: &Rules, logs: &[Log]) -> Outcome {
    alerts(&Input { rules: &rules.0, sources: &sources(), logs, placements: &[] })
}

/// One line for each revision of each alert, alerts in the order of `scan`: rule, key, revision and state, first seen,
/// crossing and last seen in seconds after noon, count, value, offsets of the evidence, flags.
fn lines(outcome: &Outcome) -> Vec<String> {
    let second = |t: Micros| t.0 / 1_000_000 - NOON;
    let mut lines = Vec::new();
    for alert in outcome.scan.iter().flat_map(|id| &outcome.revisions[id]) {
        let body: Json = serde_json::to_value(alert).unwrap();
        let offsets: Vec<i64> = alert.evidence.iter().map(|e| e.offset).collect();
        let state = if alert.state == State::Ended { "ended" } else { "active" };
        let more = if alert.continuation { " continues" } else { "" };
        let flags: Vec<&str> = alert.flags.names().collect();
        lines.push(format!(
            "{} {} r{} {state}{more} {}..{}..{} count {} value {} of {offsets:?} {flags:?}",
            alert.rule.id,
            body["key"],
            alert.revision,
            second(alert.first_seen),
            second(alert.crossed_at),
            second(alert.last_seen),
            alert.count,
            body["value"],
        ));
    }
    lines
}

/// An `event_count` of `a` by `u`.
fn counting(n: u64) -> (Rules, RuleIx) {
    let mut rules = Rules::default();
    let a = rules.detection("a", false);
    let c = rules.correlation("count", CorrelationKind::EventCount, &[a], &[(Cmp::Gte, n)]);
    (rules, c)
}

fn a(second: i64) -> (i64, Map<String, Json>) {
    at(second, json!({"k": "a", "u": "x"}))
}
