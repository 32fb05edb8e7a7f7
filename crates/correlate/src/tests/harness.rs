//! A small world: rules made by hand, events as lists of cells, and ways to feed them.

use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock},
};

use vedette_event::{
    Alert, BatchBuilder, Cell, FieldType, Fields, Flags, Hit, Incarnation, Kind, LogSource, Micros,
    Partition, PlacedBatch, Projection, RuleIx, Severity, SourceDef, SourceIx, Sources, Span, TopicIx,
    Topics, schema::FieldDef, source::Form,
};
use vedette_sigma::ir::{
    Cmp, Correlation, CorrelationKind, Detection, Expr, Extras, KeyPart, Rule, RuleKind, RuleSet,
};

use crate::{Correlated, Correlator, CorrelatorSettings, Plan, Router, WaitingBudget};

/// 2026-01-01T00:00:00Z.
pub const DAY0: i64 = 1_767_225_600_000_000;
pub const SECRET: [u8; 32] = [7; 32];

pub fn secs(n: i64) -> Micros {
    Micros(DAY0 + 12 * 3_600_000_000 + n * 1_000_000)
}

pub fn span(text: &str) -> Span {
    Span::parse(text).unwrap()
}

fn rule(id: &str, kind: RuleKind) -> Rule {
    Rule {
        id: id.into(),
        name: None,
        title: format!("Title of {id}").into(),
        description: None,
        level: Severity::High,
        tags: Arc::new([]),
        false_positives: Vec::new(),
        file: "test.yml".into(),
        line: 1,
        emits: true,
        kind,
        extras: Extras::default(),
        meaning: *blake3::hash(id.as_bytes()).as_bytes(),
        tests: Vec::new(),
        text: "".into(),
    }
}

/// A detection that only serves correlations.
pub fn detection(id: &str) -> Rule {
    single(id, false)
}

/// A detection for source `fw`, or for all.
pub fn single(id: &str, emits: bool) -> Rule {
    let logsource =
        LogSource { category: id.strip_prefix("fw-").map(|_| "firewall".to_owned()), ..LogSource::default() };
    let detection = Detection { logsource, condition: Expr::And(Vec::new()), leaves: Vec::new() };
    Rule { emits, ..rule(id, RuleKind::Detection(detection)) }
}

pub fn correlation(
    id: &str,
    kind: CorrelationKind,
    rules: &[u32],
    group_by: &[&str],
    timespan: &str,
    condition: &[(Cmp, u64)],
) -> Rule {
    let part = |name: &&str| KeyPart { name: (*name).into(), fields: Vec::new() };
    rule(
        id,
        RuleKind::Correlation(Correlation {
            kind,
            rules: rules.iter().map(|ix| RuleIx(*ix)).collect(),
            group_by: group_by.iter().map(part).collect(),
            timespan: span(timespan),
            condition: condition.to_vec(),
        }),
    )
}

pub fn sources() -> Arc<Sources> {
    let ip = |name: &str| (name.to_owned(), FieldDef { kind: FieldType::Ip, description: String::new() });
    let fields = Fields(BTreeMap::from([ip("source.ip"), ip("client.ip")]));
    let def = |name: &str, form, category: Option<&str>| SourceDef {
        name: name.into(),
        description: String::new(),
        form,
        logsource: LogSource { category: category.map(str::to_owned), ..LogSource::default() },
        disorder: span("60s"),
        future: span("10s"),
        time_zone: "UTC".into(),
        entity: vec!["source.ip".into(), "user".into()],
        weight: Some("repeat".into()),
        secrets: Vec::new(),
        secret_parameters: Vec::new(),
        fields: BTreeMap::new(),
        taxonomy: BTreeMap::from([(
            "either".to_owned(),
            vedette_event::source::OneOrMany::Many(vec!["a".into(), "b".into()]),
        )]),
    };
    Arc::new(Sources::new(
        fields,
        vec![
            def("api", Form::ApiJson, Some("api")),
            def("fw", Form::PanosCsv, Some("firewall")),
            SourceDef { weight: None, ..def("json", Form::Json, None) },
        ],
    ))
}

/// One event and the detections it matched.
#[derive(Debug, Clone)]
pub struct Ev {
    pub source: u16,
    pub partition: i32,
    pub offset: i64,
    pub time: Micros,
    pub flags: Flags,
    pub fields: Vec<(&'static str, Kind, String)>,
    pub rules: Vec<u32>,
}

/// An event of source `fw` (1), offset = second.
pub fn ev(second: i64, rules: &[u32], fields: &[(&'static str, &str)]) -> Ev {
    Ev {
        source: 1,
        partition: 0,
        offset: second,
        time: secs(second),
        flags: Flags::NONE,
        fields: fields.iter().map(|(name, text)| (*name, kind(text), (*text).to_owned())).collect(),
        rules: rules.to_vec(),
    }
}

fn kind(text: &str) -> Kind {
    match text.as_bytes().first() {
        Some(b'[') => Kind::List,
        Some(b'{') => Kind::Object,
        Some(b'0'..=b'9') if text.bytes().all(|b| b.is_ascii_digit()) => Kind::Int,
        _ => Kind::Text,
    }
}

pub const COLUMNS: [&str; 10] =
    ["source.ip", "user", "client.ip", "port", "host", "repeat", "a", "b", "tags", "extra"];

pub struct World {
    pub plan: Arc<Plan>,
    pub topics: Arc<Topics>,
    /// Entries that each rule may hold in a key group.
    pub budget: usize,
    pub notices: bool,
    pub notice_budget: usize,
}

pub fn world(rules: Vec<Rule>) -> World {
    let rules = Arc::new(RuleSet { rules, ..RuleSet::default() });
    World {
        plan: Arc::new(Plan::compile(rules, sources())),
        topics: Arc::new(Topics::new(["api", "fw", "json"])),
        budget: 100_000,
        notices: false,
        notice_budget: 1 << 20,
    }
}

impl World {
    pub fn correlator(&self) -> Correlator {
        self.correlator_with(WaitingBudget { pause: 100_000, refuse: 125_000 })
    }

    pub fn correlator_with(&self, waiting: WaitingBudget) -> Correlator {
        let settings = CorrelatorSettings {
            secret: SECRET,
            notices: self.notices,
            notice_budget: self.notice_budget,
            state: self.plan.bytes_for(self.budget),
            waiting,
        };
        Correlator::new(Arc::clone(&self.plan), Arc::clone(&self.topics), settings)
    }

    /// Every revision, events pushed one by one, released at the end.
    pub fn run(&self, events: &[Ev]) -> Correlated {
        let (mut correlator, mut out) = (self.correlator(), Correlated::default());
        for event in events {
            push(&mut correlator, std::slice::from_ref(event), &mut out);
        }
        correlator.finish(&mut out);
        out
    }

    /// The last revision of each alert, in the order of crossing.
    pub fn alerts(&self, events: &[Ev]) -> Vec<Alert> {
        last(&self.run(events))
    }
}

/// The last revision of each alert by (crossing, rule id, key).
pub fn last(out: &Correlated) -> Vec<Alert> {
    let mut by_id = BTreeMap::new();
    for published in &out.alerts {
        let slot = by_id.entry(Arc::clone(&published.alert.alert_id)).or_insert_with(|| published.clone());
        if published.alert.revision >= slot.alert.revision {
            *slot = published.clone();
        }
    }
    let mut all: Vec<_> = by_id.into_values().collect();
    all.sort_by_cached_key(|p| {
        (p.crossing, Arc::clone(&p.alert.rule.id), serde_json::to_string(&p.alert.key).unwrap())
    });
    all.into_iter().map(|p| p.alert).collect()
}

/// The same for all batches, as of a source.
fn projection() -> Arc<Projection> {
    static PROJECTION: LazyLock<Arc<Projection>> =
        LazyLock::new(|| Projection::new(COLUMNS.iter().map(|name| Arc::from(*name))));
    PROJECTION.clone()
}

/// The incarnation of an event's topic: two of the three are accepted anew where a log is well under way.
pub const fn incarnation(event: &Ev) -> Incarnation {
    if event.source == 1 || event.offset < 60 { 0 } else { 1 }
}

/// Pushes events of one partition, as one batch of each incarnation.
pub fn push(correlator: &mut Correlator, events: &[Ev], out: &mut Correlated) {
    for events in events.chunk_by(|a, b| incarnation(a) == incarnation(b)) {
        push_batch(correlator, events, out);
    }
}

fn push_batch(correlator: &mut Correlator, events: &[Ev], out: &mut Correlated) {
    let Some(first) = events.first() else { return };
    let mut batch = BatchBuilder::new(projection());
    let mut hits = Vec::new();
    for (row, event) in events.iter().enumerate() {
        for (column, name) in COLUMNS.iter().enumerate() {
            if let Some((_, kind, text)) = event.fields.iter().find(|(field, ..)| field == name) {
                batch.put(column, Cell { kind: *kind, text });
            }
        }
        batch.end_row(event.offset, 0, row as u32, Some(event.time));
        let mut rules = event.rules.clone();
        rules.sort_unstable();
        hits.extend(rules.into_iter().map(|rule| Hit { row: row as u32, rule: RuleIx(rule) }));
    }
    let partition = Partition { topic: TopicIx(first.source), number: first.partition };
    let batch = batch.finish(SourceIx(first.source), partition);
    let times: Vec<_> = events.iter().map(|e| e.time).collect();
    let flags: Vec<_> = events.iter().map(|e| e.flags).collect();
    let routed = Router::new(correlator.plan.clone(), &SECRET).route(&batch, 0, &hits);
    let incarnation = incarnation(first);
    let placed = PlacedBatch {
        events: batch,
        version: 0,
        incarnation,
        times,
        flags,
        moved: Vec::new(),
        undated: 0,
        hits,
    };
    correlator.push(&placed, &routed, out);
}
