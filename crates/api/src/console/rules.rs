//! The pages of rules: all in force with what came of them, one of them, and what was refused.
//!
//! In: the snapshot, the figures of thirty days. Out: a table that is sorted and filtered by its address, a rule's page. Invariants: what
//! is shown of a rule is what `/api/v1/rules`, its coverage and its outcomes say; a page is one look at all rules.

use std::{cmp::Reverse, collections::BTreeMap, sync::Arc};

use askama::Template;
use axum::{Extension, extract::State, response::Response};
use serde::Deserialize;
use utoipa::IntoParams;
use vedette_event::Severity;

use super::{Frame, Stamp, backtests::SPANS, href, queue::Chip, render, segment, words};
use crate::{
    access::Permission,
    app::App,
    attack::Attack,
    auth::Caller,
    desk::{
        outcomes::{self, RuleOutcome, RuleVerdicts},
        rules::{RuleCoverage, find},
    },
    live::{Coverage, Degradation, Live, Rejected, RuleStatus},
    params::{NoParams, Segment, Strict},
    problem::{Kind, Problem, short},
};

/// From so many verdicts on a share says something.
const ENOUGH: u64 = 5;

/// Which rules, in which order.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct RulesParams {
    show: Option<String>,
    level: Option<String>,
    source: Option<String>,
    technique: Option<String>,
    q: Option<String>,
    sort: Option<String>,
}

impl RulesParams {
    /// This page with one parameter replaced or left out.
    fn with(&self, name: &str, value: Option<&str>) -> String {
        let Self { show, level, source, technique, q, sort } = self;
        let own = [
            ("show", show),
            ("level", level),
            ("source", source),
            ("technique", technique),
            ("q", q),
            ("sort", sort),
        ];
        let pairs = own.iter().filter_map(|(other, kept)| {
            let value = if *other == name { value } else { kept.as_deref() };
            value.filter(|value| !value.is_empty()).map(|value| (*other, value))
        });
        href("/rules", &pairs.collect::<Vec<_>>())
    }

    /// True if it shows this rule.
    fn shows(
        &self,
        rule: &RuleStatus,
        outcome: &RuleOutcome,
        show: Option<Show>,
        level: Option<Severity>,
    ) -> bool {
        let q = self.q.as_deref().unwrap_or_default().trim().to_lowercase();
        let named = |technique: &String| {
            let wanted = Attack::of(&format!("attack.{technique}"));
            wanted.is_some() && rule.tags.iter().any(|tag| Attack::of(tag) == wanted)
        };
        show.is_none_or(|show| show.of(rule, outcome))
            && level.is_none_or(|level| rule.level == level)
            && self.source.as_ref().is_none_or(|source| rule.sources.contains(source))
            && self.technique.as_ref().is_none_or(named)
            && [&rule.title, &rule.id, &rule.file].iter().any(|text| text.to_lowercase().contains(&q))
    }
}

/// Rules that somebody should look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Show {
    Impaired,
    Noisy,
    Quiet,
    Serving,
}

impl Show {
    const ALL: [Self; 4] = [Self::Impaired, Self::Noisy, Self::Quiet, Self::Serving];

    const fn parts(self) -> (&'static str, &'static str) {
        match self {
            Self::Impaired => ("impaired", "Impaired"),
            Self::Noisy => ("noisy", "Mostly false"),
            Self::Quiet => ("quiet", "No alert in 30 days"),
            Self::Serving => ("serving", "No alerts of its own"),
        }
    }

    fn of(self, rule: &RuleStatus, outcome: &RuleOutcome) -> bool {
        match self {
            Self::Impaired => impaired(rule),
            Self::Noisy => {
                let RuleVerdicts { closed, false_positive, .. } = outcome.verdicts;
                closed >= ENOUGH && false_positive * 2 > closed
            }
            Self::Quiet => rule.emits && outcome.alerts == 0,
            Self::Serving => !rule.emits,
        }
    }
}

fn impaired(rule: &RuleStatus) -> bool {
    let Coverage { degradations, silent_sources, lost, unevaluated, .. } = &rule.coverage;
    !degradations.is_empty() || !silent_sources.is_empty() || *lost > 0 || *unevaluated > 0
}

/// What a table of rules can be sorted by.
const SORTS: [(&str, &str, bool); 8] = [
    ("level", "Level", false),
    ("title", "Rule", false),
    ("matched", "Matched", true),
    ("cost", "Cost", true),
    ("alerts", "Alerts", true),
    ("false_positive", "Verdicts", false),
    ("last", "Last alert", true),
    ("through", "Through", true),
];

fn sort(rows: &mut [(&RuleStatus, RuleOutcome)], given: Option<&str>) -> Result<(), Problem> {
    let text = given.unwrap_or("-level");
    let (key, down) = text.strip_prefix('-').map_or((text, false), |key| (key, true));
    rows.sort_by(|(a, _), (b, _)| a.title.cmp(&b.title).then_with(|| a.id.cmp(&b.id)));
    let share = |verdicts: RuleVerdicts| (verdicts.false_positive * 1_000).checked_div(verdicts.closed);
    let by = |(rule, outcome): &(&RuleStatus, RuleOutcome)| -> Option<i64> {
        Some(match key {
            "level" => rule.level as i64 + 100 * i64::from(rule.emits),
            "matched" => i64::try_from(rule.coverage.matched).unwrap_or(i64::MAX),
            "cost" => rule.coverage.time_us.map_or(-1, |us| i64::try_from(us).unwrap_or(i64::MAX)),
            "alerts" => i64::try_from(outcome.alerts).unwrap_or(i64::MAX),
            "false_positive" => share(outcome.verdicts).map_or(-1, |n| n as i64),
            "last" => outcome.last_alert.map_or(i64::MIN, |at| at.0),
            "through" => rule.coverage.through.map_or(i64::MIN, |at| at.0),
            _ => return None,
        })
    };
    match key {
        "title" if down => rows.reverse(),
        "title" => {}
        _ if !SORTS.iter().any(|(known, ..)| *known == key) => {
            let valid = SORTS.iter().flat_map(|(key, ..)| [(*key).to_owned(), format!("-{key}")]);
            let detail = format!("`sort={}` is no order of the rules.", short(text));
            return Err(Problem::new(Kind::InvalidParameter, detail).valid(valid));
        }
        _ if down => rows.sort_by_key(|row| Reverse(by(row))),
        _ => rows.sort_by_key(by),
    }
    Ok(())
}

struct Column {
    label: &'static str,
    number: bool,
    href: String,
    direction: Option<&'static str>,
}

fn columns(params: &RulesParams) -> Vec<Column> {
    let sorted = params.sort.as_deref().unwrap_or("-level");
    let column = |(key, label, number): &(&str, &'static str, bool)| {
        let (up, down) = (*key == sorted, sorted.strip_prefix('-') == Some(*key));
        // A first click on a figure: the highest first; on a name: from the first on.
        let next = if down || (*key == "title" && !up) { (*key).to_owned() } else { format!("-{key}") };
        Column {
            label,
            number: *number,
            href: params.with("sort", Some(&next)),
            direction: if up { Some("ascending") } else { down.then_some("descending") },
        }
    };
    SORTS.iter().map(column).collect()
}

/// A choice that narrows the table down, with how many it leaves.
struct Choice {
    label: String,
    count: usize,
    href: String,
    current: bool,
}

/// Verdicts in words and as parts of a bar of 100.
struct Shares {
    closed: String,
    words: String,
    parts: Vec<Part>,
}

struct Part {
    class: &'static str,
    x: u64,
    width: u64,
}

impl Shares {
    fn of(verdicts: RuleVerdicts) -> Option<Self> {
        let RuleVerdicts { closed, true_positive, benign, false_positive, duplicate } = verdicts;
        if closed == 0 {
            return None;
        }
        let undecided = closed - (true_positive + benign + false_positive + duplicate).min(closed);
        let named = [
            ("tp", true_positive, "true"),
            ("benign", benign, "benign"),
            ("fp", false_positive, "false"),
            ("dup", duplicate, "duplicate"),
            ("none", undecided, "undecided"),
        ];
        let percent = |n: u64| n * 100 / closed;
        let told = named.iter().filter(|(_, n, _)| *n > 0);
        let words = told.map(|(_, n, word)| format!("{} {word} ({} %)", words::number(*n), percent(*n)));
        let mut before = 0;
        let part = |(class, n, _): &(&'static str, u64, &str)| {
            let (x, end) = (percent(before), percent(before + n));
            before += n;
            Part { class, x, width: end - x }
        };
        Some(Self {
            closed: words::number(closed),
            words: words.collect::<Vec<_>>().join(", "),
            parts: named.iter().map(part).filter(|part| part.width > 0).collect(),
        })
    }
}

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
    warming: Option<Stamp>,
    seen: String,
    matched: String,
    /// In all, and of an event.
    cost: Option<(String, String)>,
    alerts: String,
    alerts_href: String,
    shares: Option<Shares>,
    last: Option<Stamp>,
    through: Option<Stamp>,
}

impl RuleRow {
    fn of(rule: &RuleStatus, outcome: &RuleOutcome) -> Self {
        let RuleStatus { id, title, level, kind, sources, emits, coverage, .. } = rule;
        let window = rule.timespan.map(|span| format!("within {span}"));
        let condition: Vec<String> = rule.condition.iter().cloned().chain(window).collect();
        let warming = coverage.warming_until.filter(|until| coverage.through.is_none_or(|at| at < *until));
        Self {
            href: segment("/rules/", id),
            id: id.clone(),
            title: words::cut(title),
            level: level.name(),
            level_label: words::label(level.name()),
            kind: words::label(kind),
            condition: condition.join(" "),
            sources: sources.join(", "),
            emits: *emits,
            impaired: impaired(rule),
            warming: warming.map(Stamp::of),
            seen: words::number(coverage.seen),
            matched: words::number(coverage.matched),
            cost: cost(coverage),
            alerts: words::number(outcome.alerts),
            alerts_href: href("/", &[("status", "all"), ("rule", id)]),
            shares: Shares::of(outcome.verdicts),
            last: outcome.last_alert.map(Stamp::of),
            through: coverage.through.map(Stamp::of),
        }
    }
}

/// What a rule cost since the process started, and of that an event's part.
fn cost(Coverage { time_us, seen, .. }: &Coverage) -> Option<(String, String)> {
    let us = (*time_us)?;
    let all = match us {
        0..10_000 => format!("{:.1} ms", us as f64 / 1_000.0),
        10_000..1_000_000 => format!("{} ms", us / 1_000),
        _ => format!("{:.1} s", us as f64 / 1_000_000.0),
    };
    let each = us.saturating_mul(1_000).checked_div(*seen);
    Some((all, each.map_or_else(String::new, |ns| format!("{} ns an event", words::number(ns)))))
}

struct Refused {
    place: String,
    rule_id: Option<String>,
    message: String,
    code: String,
    help: Option<String>,
    kept: bool,
}

impl Refused {
    fn of(item: &Rejected) -> Self {
        let Rejected { file, line, column, rule_id, code, message, help, kept } = item.clone();
        Self { place: format!("{file}:{line}:{column}"), rule_id, message, code, help, kept }
    }
}

#[derive(Template)]
#[template(path = "rules.html")]
struct RulesPage {
    frame: Frame,
    version: String,
    number: u64,
    in_force_from: Option<Stamp>,
    total: usize,
    as_of: Stamp,
    choices: Vec<Choice>,
    chips: Vec<Chip>,
    q: String,
    kept: Vec<(&'static str, String)>,
    columns: Vec<Column>,
    rules: Vec<RuleRow>,
    refused: Vec<Refused>,
}

/// `GET /rules`.
pub(super) async fn page(
    State(app): State<Arc<App>>,
    Strict(params): Strict<RulesParams>,
) -> Result<Response, Problem> {
    let live = app.live.now();
    let outcomes = outcomes::of(&app).await?;
    let mut outcomes: BTreeMap<String, RuleOutcome> =
        outcomes.items.into_iter().map(|of| (of.rule_id.clone(), of)).collect();
    let mut all: Vec<(&RuleStatus, RuleOutcome)> = Vec::new();
    for rule in live.rules.iter() {
        // Adopted between the two looks: nothing has come of it yet.
        let outcome = outcomes.remove(&rule.id).unwrap_or_else(|| RuleOutcome {
            rule_id: rule.id.clone(),
            alerts: 0,
            last_alert: None,
            verdicts: RuleVerdicts::default(),
        });
        all.push((rule, outcome));
    }
    let show = parsed("show", params.show.as_deref(), &Show::ALL, |show| show.parts().0)?;
    let level = parsed("level", params.level.as_deref(), &Severity::ALL, |level| level.name())?;
    let total = all.len();
    let choices = choices(&params, &all, show);
    all.retain(|(rule, outcome)| params.shows(rule, outcome, show, level));
    sort(&mut all, params.sort.as_deref())?;
    render(&RulesPage {
        frame: Frame { rejected: 0, ..Frame::new(&live, "/rules") },
        version: live.status.rule_set.version.clone(),
        number: live.status.rule_set.number,
        in_force_from: live.status.rule_set.in_force_from.map(Stamp::of),
        total,
        as_of: Stamp::of(live.as_of),
        choices,
        chips: chips(&params),
        q: params.q.clone().unwrap_or_default(),
        kept: kept(&params),
        columns: columns(&params),
        rules: all.iter().map(|(rule, outcome)| RuleRow::of(rule, outcome)).collect(),
        refused: live.rejected.iter().map(Refused::of).collect(),
    })
}

fn choices(params: &RulesParams, all: &[(&RuleStatus, RuleOutcome)], current: Option<Show>) -> Vec<Choice> {
    let every = Choice {
        label: "All".to_owned(),
        count: all.len(),
        href: params.with("show", None),
        current: current.is_none(),
    };
    let one = |show: Show| Choice {
        label: show.parts().1.to_owned(),
        count: all.iter().filter(|(rule, outcome)| show.of(rule, outcome)).count(),
        href: params.with("show", Some(show.parts().0)),
        current: current == Some(show),
    };
    std::iter::once(every).chain(Show::ALL.map(one)).collect()
}

/// One of several values by name.
fn parsed<T: Copy>(
    name: &str,
    given: Option<&str>,
    all: &[T],
    name_of: impl Fn(T) -> &'static str,
) -> Result<Option<T>, Problem> {
    let Some(given) = given.filter(|given| !given.is_empty()) else { return Ok(None) };
    let found = all.iter().copied().find(|value| name_of(*value) == given);
    found.map(Some).ok_or_else(|| {
        let detail = format!("`{}` is no value of `{name}`.", short(given));
        Problem::new(Kind::InvalidParameter, detail).valid(all.iter().map(|value| name_of(*value)))
    })
}

fn chips(params: &RulesParams) -> Vec<Chip> {
    let on = [
        ("level", &params.level),
        ("source", &params.source),
        ("technique", &params.technique),
        ("q", &params.q),
    ];
    let chip = |(name, value): (&'static str, &Option<String>)| {
        let value = value.clone().filter(|value| !value.is_empty())?;
        Some(Chip { name: if name == "q" { "search" } else { name }, value, href: params.with(name, None) })
    };
    on.into_iter().filter_map(chip).collect()
}

/// What the search form keeps.
fn kept(params: &RulesParams) -> Vec<(&'static str, String)> {
    let own = [
        ("show", &params.show),
        ("level", &params.level),
        ("source", &params.source),
        ("technique", &params.technique),
        ("sort", &params.sort),
    ];
    own.into_iter().filter_map(|(name, value)| value.clone().map(|value| (name, value))).collect()
}

/// A tag of ATT&CK with its page, or another.
struct Tag {
    text: String,
    href: Option<String>,
    title: Option<String>,
}

impl Tag {
    fn of(tag: &str) -> Self {
        match Attack::of(tag) {
            Some(attack) => Self {
                text: attack
                    .name
                    .as_ref()
                    .map_or_else(|| attack.id.clone(), |name| format!("{} {name}", attack.id)),
                href: Some(attack.url()),
                title: Some(tag.to_owned()),
            },
            None => Self { text: tag.to_owned(), href: None, title: None },
        }
    }
}

#[derive(Template)]
#[template(path = "rule.html")]
struct RulePage {
    frame: Frame,
    rule: RuleRow,
    description: Option<String>,
    verdict: &'static str,
    verdict_detail: String,
    gaps: Vec<String>,
    as_of: Stamp,
    without_key: String,
    flagged: String,
    facts: Vec<(&'static str, String)>,
    refers_to: Vec<(String, String)>,
    serves: Vec<(String, String)>,
    false_positives: Vec<String>,
    tags: Vec<Tag>,
    next_steps: Vec<String>,
    /// Its document.
    text: Arc<str>,
    version: String,
    coverage: Vec<(&'static str, String)>,
    degradations: Vec<Degradation>,
    refused: Vec<Refused>,
    /// How far back it can be tried, for who may and where events are kept.
    spans: &'static [(&'static str, &'static str, Option<i64>)],
}

/// `GET /rules/{id}`.
pub(super) async fn one(
    State(app): State<Arc<App>>,
    Segment(id): Segment,
    Extension(caller): Extension<Caller>,
    Strict(NoParams {}): Strict<NoParams>,
) -> Result<Response, Problem> {
    let live = app.live.now();
    let rule = find(&live, &id)?;
    let tries = app.backtests.is_some() && caller.may(Permission::Operate);
    let outcome = outcomes::of_one(&app, &rule.id).await?;
    let judged = RuleCoverage::of(rule, &live);
    let serves = live.rules.iter().filter(|other| other.refers_to.contains(&rule.id));
    let title = |id: &String| live.rule(id).map_or_else(|| id.clone(), |rule| rule.title.clone());
    let Coverage { flagged, without_key, .. } = rule.coverage;
    render(&RulePage {
        frame: Frame::new(&live, "/rules"),
        description: rule.description.clone(),
        verdict: match (rule.emits, judged.complete) {
            (false, _) => "No",
            (true, true) => "Yes",
            (true, false) => "With gaps",
        },
        verdict_detail: match &*judged.gaps {
            [] => "it saw everything".to_owned(),
            [gap] => gap.clone(),
            [gap, rest @ ..] => format!("{gap} And {} more, below.", rest.len()),
        },
        gaps: judged.gaps,
        as_of: Stamp::of(live.as_of),
        without_key: words::number(without_key),
        flagged: words::number(flagged),
        facts: facts(rule),
        refers_to: rule.refers_to.iter().map(|id| (segment("/rules/", id), title(id))).collect(),
        serves: serves.map(|rule| (segment("/rules/", &rule.id), rule.title.clone())).collect(),
        false_positives: rule.false_positives.clone(),
        tags: rule.tags.iter().map(|tag| Tag::of(tag)).collect(),
        next_steps: rule.next_steps.clone(),
        text: rule.text.clone(),
        version: rule.version.clone(),
        coverage: coverage(rule, &live),
        degradations: rule.coverage.degradations.clone(),
        refused: live.rejected.iter().filter(|item| item.file == rule.file).map(Refused::of).collect(),
        spans: if tries { &SPANS } else { &[] },
        rule: RuleRow::of(rule, &outcome),
    })
}

fn facts(rule: &RuleStatus) -> Vec<(&'static str, String)> {
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
    facts
}

fn coverage(rule: &RuleStatus, live: &Live) -> Vec<(&'static str, String)> {
    let Coverage { through, in_force_from, counted_since, unevaluated, dead_lettered, lost, .. } =
        rule.coverage;
    let at = |at| format!("{} UTC", Stamp::of(at).text);
    let mut all = vec![("Evaluated through", through.map_or_else(|| "nothing yet".to_owned(), at))];
    all.push(("In force from", in_force_from.map_or_else(|| "the beginning".to_owned(), at)));
    all.push(("Version of the rules", live.status.rule_set.number.to_string()));
    all.push(("Counted since", at(counted_since)));
    all.push(("Not evaluated", words::number(unevaluated)));
    all.push(("Dead letters", words::number(dead_lettered)));
    all.push(("Lost unread", words::number(lost)));
    let cost = cost(&rule.coverage).map(|(all, each)| format!("{all}, {each}"));
    all.push(("Cost, estimated", cost.unwrap_or_else(|| "not timed yet".to_owned())));
    all
}
