//! The pages about the engine itself: rules and their coverage, sources, dead letters.

use std::sync::Arc;

use askama::Template;
use axum::{Extension, extract::State, response::Response};
use vedette_event::Micros;

use super::{Frame, Stamp, href, queue::Chip, render, segment, words};
use crate::{
    app::App,
    auth::Caller,
    desk::{
        dead_letters::{self, DeadLetter, DeadLetterParams},
        rules::{RuleCoverage, find},
    },
    live::{Coverage, Degradation, PartitionStatus, Rejected, RuleStatus, SourceStatus, TimeSource},
    metrics::now,
    params::{NoParams, Segment, Strict},
    problem::Problem,
};

struct RuleRow {
    href: String,
    id: String,
    title: String,
    level: &'static str,
    level_label: String,
    kind: String,
    condition: String,
    sources: String,
    emits: bool,
    impaired: bool,
    seen: String,
    matched: String,
    alerts: String,
    through: Option<Stamp>,
}

impl RuleRow {
    fn of(rule: &RuleStatus) -> Self {
        let RuleStatus { id, title, level, kind, sources, emits, coverage, .. } = rule;
        let window = rule.timespan.map(|span| format!("within {span}"));
        let condition: Vec<String> = rule.condition.iter().cloned().chain(window).collect();
        Self {
            href: segment("/rules/", id),
            id: id.clone(),
            title: title.clone(),
            level: level.name(),
            level_label: words::label(level.name()),
            kind: words::label(kind),
            condition: condition.join(" "),
            sources: sources.join(", "),
            emits: *emits,
            impaired: !coverage.degradations.is_empty()
                || !coverage.silent_sources.is_empty()
                || coverage.lost > 0,
            seen: words::number(coverage.seen),
            matched: words::number(coverage.matched),
            alerts: words::number(coverage.alerts),
            through: coverage.through.map(Stamp::of),
        }
    }
}

#[derive(Template)]
#[template(path = "rules.html")]
struct RulesPage {
    frame: Frame,
    version: String,
    rules: Vec<RuleRow>,
    refused: Arc<Vec<Rejected>>,
}

/// `GET /rules`.
pub(super) async fn rules(
    State(app): State<Arc<App>>,
    Strict(NoParams {}): Strict<NoParams>,
) -> Result<Response, Problem> {
    let live = app.live.now();
    let mut rules: Vec<&RuleStatus> = live.rules.iter().collect();
    rules.sort_by(|a, b| {
        b.emits.cmp(&a.emits).then(b.level.cmp(&a.level)).then_with(|| a.title.cmp(&b.title))
    });
    render(&RulesPage {
        frame: Frame { rejected: 0, ..Frame::new(&live, "/rules") },
        version: live.status.rule_set.version.clone(),
        rules: rules.into_iter().map(RuleRow::of).collect(),
        refused: live.rejected.clone(),
    })
}

#[derive(Template)]
#[template(path = "rule.html")]
struct RulePage {
    frame: Frame,
    rule: RuleRow,
    description: Option<String>,
    verdict: &'static str,
    verdict_detail: String,
    without_key: String,
    flagged: String,
    alerts_href: String,
    facts: Vec<(&'static str, String)>,
    refers_to: Vec<(String, String)>,
    serves: Vec<(String, String)>,
    false_positives: Vec<String>,
    tags: Vec<String>,
    coverage: Vec<(&'static str, String)>,
    degradations: Vec<Degradation>,
}

/// `GET /rules/{id}`.
pub(super) async fn rule(
    State(app): State<Arc<App>>,
    Segment(id): Segment,
    Strict(NoParams {}): Strict<NoParams>,
) -> Result<Response, Problem> {
    let live = app.live.now();
    let rule = find(&live, &id)?;
    let judged = RuleCoverage::of(rule, &live);
    let serves = live.rules.iter().filter(|other| other.refers_to.contains(&rule.id));
    let title = |id: &String| live.rule(id).map_or_else(|| id.clone(), |rule| rule.title.clone());
    let Coverage { through, flagged, without_key, dead_lettered, lost, time_us, .. } = rule.coverage;
    let mut facts = vec![("Type", words::label(&rule.kind))];
    facts.extend(rule.condition.clone().map(|condition| ("Condition", condition)));
    facts.extend(rule.timespan.map(|span| ("Window", span.to_string())));
    if !rule.group_by.is_empty() {
        facts.push(("For the same", rule.group_by.join(", ")));
    }
    facts.push(("Sources", rule.sources.join(", ")));
    facts.push(("File", format!("{}:{}", rule.file, rule.line)));
    facts.push(("Id", rule.id.clone()));
    facts.push(("Version", rule.version.clone()));
    let mut coverage = vec![
        (
            "Evaluated through",
            through.map_or_else(|| "nothing yet".to_owned(), |at| format!("{} UTC", Stamp::of(at).text)),
        ),
        ("Dead letters", words::number(dead_lettered)),
        ("Lost unread", words::number(lost)),
    ];
    coverage.extend(time_us.map(|us| ("Time spent", format!("{:.1} ms", us as f64 / 1_000.0))));
    render(&RulePage {
        frame: Frame::new(&live, "/rules"),
        description: rule.description.clone(),
        verdict: match (rule.emits, judged.complete) {
            (false, _) => "No",
            (true, true) => "Yes",
            (true, false) => "With gaps",
        },
        verdict_detail: if judged.complete { "it saw everything".to_owned() } else { judged.gaps.join(" ") },
        without_key: words::number(without_key),
        flagged: words::number(flagged),
        alerts_href: href("/", &[("status", "all"), ("rule", &rule.id)]),
        facts,
        refers_to: rule.refers_to.iter().map(|id| (segment("/rules/", id), title(id))).collect(),
        serves: serves.map(|rule| (segment("/rules/", &rule.id), rule.title.clone())).collect(),
        false_positives: rule.false_positives.clone(),
        tags: rule.tags.clone(),
        coverage,
        degradations: rule.coverage.degradations.clone(),
        rule: RuleRow::of(rule),
    })
}

struct PartitionRow {
    name: String,
    paused: bool,
    position: String,
    end: String,
    lag: String,
    watermark: String,
}

struct SourceCard {
    name: String,
    description: String,
    topic: String,
    health: &'static str,
    health_label: String,
    message: Option<String>,
    lag: String,
    lag_plural: &'static str,
    delay: Option<String>,
    events: String,
    dead: String,
    dead_href: String,
    watermark: Option<Stamp>,
    newest: Option<Stamp>,
    time: String,
    flags: Vec<(String, String)>,
    lost: String,
    partitions: Vec<PartitionRow>,
}

impl SourceCard {
    fn of(source: &SourceStatus, now: Micros) -> Self {
        let basis = match source.time_source {
            TimeSource::Broker => "broker time",
            TimeSource::Producer => {
                "producer time (weaker: producers can forge it; message.timestamp.type=LogAppendTime on the topic mends it)"
            }
        };
        let offset = |offset: Option<i64>| offset.map_or_else(|| "–".to_owned(), |offset| offset.to_string());
        let partition = |partition: &PartitionStatus| PartitionRow {
            name: match source.topics.len() {
                0 | 1 => partition.number.to_string(),
                _ => format!("{}/{}", partition.topic, partition.number),
            },
            paused: partition.paused,
            position: offset(partition.position),
            end: offset(partition.end),
            lag: words::number(partition.lag),
            watermark: partition.watermark.map_or_else(|| "–".to_owned(), |at| Stamp::of(at).text),
        };
        Self {
            name: source.name.clone(),
            description: source.description.clone(),
            topic: source.topic.clone(),
            health: source.health.name(),
            health_label: words::label(source.health.name()),
            message: source.message.clone(),
            lag: words::number(source.lag),
            lag_plural: if source.lag == 1 { "" } else { "s" },
            delay: source.watermark.map(|at| words::span(now.since(at))),
            events: words::number(source.events),
            dead: words::number(source.dead_letters.values().sum()),
            dead_href: href("/dead-letters", &[("source", &source.name)]),
            watermark: source.watermark.map(Stamp::of),
            newest: source.newest.map(Stamp::of),
            time: format!("{basis}; up to {} late, {} ahead", source.disorder, source.future),
            flags: source
                .flags
                .iter()
                .filter(|(_, n)| **n > 0)
                .map(|(flag, n)| (flag.clone(), words::number(*n)))
                .collect(),
            lost: words::number(source.lost),
            partitions: source.partitions.iter().map(partition).collect(),
        }
    }
}

#[derive(Template)]
#[template(path = "sources.html")]
struct SourcesPage {
    frame: Frame,
    broker: String,
    sources: Vec<SourceCard>,
}

/// `GET /sources`.
pub(super) async fn sources(
    State(app): State<Arc<App>>,
    Strict(NoParams {}): Strict<NoParams>,
) -> Result<Response, Problem> {
    let live = app.live.now();
    let broker = &live.status.broker;
    let broker = match (broker.connected, &broker.last_error) {
        (true, _) => format!("Connected to {}", broker.bootstrap),
        (false, Some(error)) => format!("Not connected to {}: {error}", broker.bootstrap),
        (false, None) => "Not connected yet".to_owned(),
    };
    let now = now();
    let sources = live.sources.iter().map(|source| SourceCard::of(source, now)).collect();
    render(&SourcesPage { frame: Frame::new(&live, "/sources"), broker, sources })
}

struct LetterRow {
    at: Stamp,
    source: String,
    source_href: String,
    reason: String,
    detail: String,
    payload: Option<String>,
    place: String,
}

impl LetterRow {
    fn of(letter: DeadLetter) -> Self {
        let DeadLetter {
            stored_at, source, topic, partition, offset, index, reason, detail, payload, ..
        } = letter;
        Self {
            at: Stamp::of(stored_at),
            source_href: href("/dead-letters", &[("source", &source)]),
            source,
            reason,
            detail,
            payload: payload.filter(|text| !text.is_empty()),
            place: format!(
                "{topic}/{partition}/{offset}{}",
                index.map(|n| format!("#{n}")).unwrap_or_default()
            ),
        }
    }
}

#[derive(Template)]
#[template(path = "dead_letters.html")]
struct DeadLettersPage {
    frame: Frame,
    chips: Vec<Chip>,
    letters: Vec<LetterRow>,
    next: Option<String>,
}

/// `GET /dead-letters`.
pub(super) async fn dead_letters(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Strict(params): Strict<DeadLetterParams>,
) -> Result<Response, Problem> {
    let page = dead_letters::page(&app, &caller, &params).await?;
    let live = app.live.now();
    let source = params.source.as_deref();
    let chip =
        |value: &str| Chip { name: "source", value: value.to_owned(), href: "/dead-letters".to_owned() };
    let next = page.next_cursor.map(|cursor| {
        let pairs: Vec<_> =
            source.map(|value| ("source", value)).into_iter().chain([("cursor", cursor.as_str())]).collect();
        href("/dead-letters", &pairs)
    });
    render(&DeadLettersPage {
        frame: Frame::new(&live, "/dead-letters"),
        chips: source.map(chip).into_iter().collect(),
        letters: page.items.into_iter().map(LetterRow::of).collect(),
        next,
    })
}
