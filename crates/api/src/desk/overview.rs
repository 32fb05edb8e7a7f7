//! How the watch goes: first what it could not see, then events and alerts over time, and how late alerts are.
//!
//! In: the snapshot, the last hour of its counters, the store. Out: one picture with `as_of`. Invariants: what could not be seen is told
//! with how much and since when, and never left out because there is much else; each figure has one source, the one that the page it
//! leads to shows.

use serde::Serialize;
use utoipa::ToSchema;
use vedette_event::{Micros, Span, time::HOUR};

use super::took::Took;
use crate::{
    app::App,
    live::{Health, Live},
    metrics::now,
    problem::Problem,
};

/// Alerts and dead letters are told of so long.
pub(crate) const DAY: Span = Span::secs(24 * 60 * 60);
/// First words that the figure is made of.
const FIRST_WORDS: u32 = 1_000;
/// Of so much each, alerts over time.
const ALERT_STEP: Span = Span::secs(30 * 60);
/// Of one kind; what is more is told as one, with its number.
const MAX_OF_A_KIND: usize = 10;

/// How the watch goes.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Overview {
    /// What could not be seen, the worst first; empty if everything was.
    pub unseen: Vec<Unseen>,
    /// Events evaluated in the last hour, by steps from the oldest to the newest; only of what this process has watched.
    pub events: Vec<EventStep>,
    /// Alerts and notices of the last day, by steps from the oldest to the newest.
    pub alerts: Vec<AlertStep>,
    /// From the event that met a condition to when its notice, or where none came its alert, was there to be read: of the newest of the last
    /// hour, at most 1,000.
    pub first_word: Took,
    /// Watermarks and counters are as of then.
    #[schema(value_type = String, format = DateTime)]
    pub as_of: Micros,
}

/// Something that the rules in force could not see, or not as they should have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Unseen {
    /// What kind of thing.
    pub kind: UnseenKind,
    /// What it is and what it means, for a person.
    pub message: String,
    /// How much, where it is counted.
    #[schema(required = true)]
    pub count: Option<u64>,
    /// Since when, or from when it is counted; null for what is counted since the store was made.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    pub since: Option<Micros>,
}

/// The kinds, the worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum UnseenKind {
    /// Nothing is evaluated until this is solved.
    Obstacle,
    /// Something is not watched while the rest is.
    Degraded,
    /// A source gives nothing, or less than it should.
    Source,
    /// Records were lost unread.
    Lost,
    /// Events matched a rule and were not evaluated.
    Unevaluated,
    /// A rule's state is over its budget.
    OverBudget,
    /// Records could not be read.
    DeadLetters,
    /// Events bore a time that could not be theirs.
    TimeReplaced,
    /// A rule was refused.
    RefusedRules,
}

/// Events between two looks at the counters.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EventStep {
    /// From then on.
    #[schema(value_type = String, format = DateTime)]
    pub from: Micros,
    /// Until then.
    #[schema(value_type = String, format = DateTime)]
    pub until: Micros,
    /// Events evaluated.
    pub events: u64,
    /// Seconds that the slowest source was behind at its end; null while none had a watermark.
    #[schema(required = true)]
    pub behind_seconds: Option<i64>,
}

/// Alerts of one step.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AlertStep {
    /// From then on.
    #[schema(value_type = String, format = DateTime)]
    pub from: Micros,
    /// Until then.
    #[schema(value_type = String, format = DateTime)]
    pub until: Micros,
    /// Alerts and notices whose condition was met.
    pub alerts: u64,
}

/// How the watch goes.
pub(crate) async fn of(app: &App) -> Result<Overview, Problem> {
    let live = app.live.now();
    let now = now();
    let letters = app.store.dead_letter_totals(now.minus(DAY)).await?;
    let lost = app.store.lost_intervals().await?;
    let lost: u64 = lost.iter().map(|of| of.to.saturating_sub(of.from).unsigned_abs()).sum();
    let letters: u64 = letters.iter().map(|of| of.count).sum();
    let steps = app.pace.steps().into_iter().map(|step| EventStep {
        from: step.from,
        until: step.until,
        events: step.events,
        behind_seconds: step.behind.map(|behind| behind.0 / 1_000_000),
    });
    Ok(Overview {
        unseen: unseen(&live, lost, letters, now),
        events: steps.collect(),
        alerts: alerts(app, now).await?,
        first_word: Took::of(app.store.first_words(now.minus(HOUR), FIRST_WORDS).await?),
        as_of: live.as_of,
    })
}

async fn alerts(app: &App, now: Micros) -> Result<Vec<AlertStep>, Problem> {
    // Whole steps, so that a bar does not change while it is looked at, and the one that is not over.
    let until = now.floor(ALERT_STEP).plus(ALERT_STEP);
    let since = until.minus(DAY);
    let counts = app.store.alert_counts(since, until, ALERT_STEP).await?;
    let steps = (0..DAY.0 / ALERT_STEP.0).map(|n| {
        let from = since.plus(Span(n * ALERT_STEP.0));
        AlertStep {
            from,
            until: from.plus(ALERT_STEP),
            alerts: counts.get(&from).copied().unwrap_or_default(),
        }
    });
    Ok(steps.collect())
}

fn unseen(live: &Live, lost: u64, letters: u64, now: Micros) -> Vec<Unseen> {
    let started = Some(live.status.started_at);
    let of = |kind, message: String, count, since| Unseen { kind, message, count, since };
    let mut all = Vec::new();
    let obstacles = live.ready.obstacles.iter();
    all.extend(few(obstacles.map(|o| of(UnseenKind::Obstacle, o.message.clone(), None, Some(o.since)))));
    let degraded = live.ready.degraded.iter();
    all.extend(few(degraded.map(|d| of(UnseenKind::Degraded, d.message.clone(), None, Some(d.since)))));
    let poor = live.sources.iter().filter(|source| !matches!(source.health, Health::Ok | Health::Starting));
    all.extend(few(poor.map(|source| {
        let message = source.message.clone().unwrap_or_else(|| "It is not read as it should be.".to_owned());
        let message = format!("{} is {}: {message}", source.name, source.health.name());
        of(UnseenKind::Source, message, None, source.newest)
    })));
    if lost > 0 {
        let message = "records were lost: the broker had deleted them before they were read.".to_owned();
        all.push(of(UnseenKind::Lost, message, Some(lost), None));
    }
    let short: Vec<u64> =
        live.rules.iter().map(|rule| rule.coverage.unevaluated).filter(|n| *n > 0).collect();
    if !short.is_empty() {
        let message =
            format!("matches were not evaluated, of {}, since too many waited.", rules(short.len()));
        all.push(of(UnseenKind::Unevaluated, message, Some(short.iter().sum()), started));
    }
    let over = live.status.degradations.iter().filter(|degradation| degradation.until.is_none());
    all.extend(few(over.map(|d| {
        let title = live.rule(&d.rule_id).map_or(d.rule_id.as_str(), |rule| rule.title.as_str());
        of(UnseenKind::OverBudget, format!("{title}: {}", d.message), None, Some(d.since))
    })));
    if letters > 0 {
        let message = "dead letters in the last day: records that could not be read.".to_owned();
        all.push(of(UnseenKind::DeadLetters, message, Some(letters), Some(now.minus(DAY))));
    }
    let replaced: u64 = live.sources.iter().flat_map(|source| source.flags.values()).sum();
    if replaced > 0 {
        let message = "events bore a time that cannot be theirs and were placed by the broker's.".to_owned();
        all.push(of(UnseenKind::TimeReplaced, message, Some(replaced), started));
    }
    if !live.rejected.is_empty() {
        let kept = live.rejected.iter().filter(|item| item.kept).count();
        let message = format!("refused rules; of {kept} of them what was in force before stays.");
        all.push(of(UnseenKind::RefusedRules, message, Some(live.rejected.len() as u64), None));
    }
    all
}

fn rules(n: usize) -> String {
    if n == 1 { "one rule".to_owned() } else { format!("{n} rules") }
}

/// The first of a kind, and one for the rest with their number.
fn few(all: impl Iterator<Item = Unseen>) -> Vec<Unseen> {
    let mut all: Vec<Unseen> = all.collect();
    let more = all.len().saturating_sub(MAX_OF_A_KIND);
    if more > 0 {
        all.truncate(MAX_OF_A_KIND);
        if let Some(last) = all.last().cloned() {
            all.push(Unseen {
                message: "more of the same kind.".to_owned(),
                count: Some(more as u64),
                since: None,
                ..last
            });
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        live::{Degraded, Mode},
        tests::{NOON, seed},
    };

    #[test]
    fn what_could_not_be_seen_comes_worst_first_and_counted() {
        let live = seed::live(NOON);
        let all = unseen(&live, 200, 7, NOON);
        let told: Vec<_> = all.iter().map(|of| (of.kind, of.count)).collect();
        assert_eq!(
            told,
            [
                (UnseenKind::Source, None),
                (UnseenKind::Lost, Some(200)),
                (UnseenKind::DeadLetters, Some(7)),
                (UnseenKind::TimeReplaced, Some(36)),
                (UnseenKind::RefusedRules, Some(1)),
            ]
        );
        assert!(all.iter().any(|of| of.message.starts_with("waf is lagging: ")), "{all:?}");
    }

    #[test]
    fn nothing_is_told_where_nothing_is_wrong_and_much_is_told_short() {
        let mut live = Live::starting(Mode::Run, "0", NOON);
        live.ready.obstacles.clear();
        assert_eq!(unseen(&live, 0, 0, NOON), []);
        let degraded = Degraded { reason: "topic-missing".into(), message: "m".into(), since: NOON };
        live.ready.degraded = vec![degraded; 30];
        let all = unseen(&live, 0, 0, NOON);
        assert_eq!((all.len(), all.last().and_then(|last| last.count)), (MAX_OF_A_KIND + 1, Some(20)));
    }
}
