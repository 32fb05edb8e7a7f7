//! Backtests from a rule's page: how far one is, and what the rule would have raised.
//!
//! In: a rule in force with those that it is built on, a span of time. Out: a page that renews itself, and is the API's document in words.

use std::{collections::BTreeSet, sync::Arc};

use askama::Template;
use axum::{
    Extension,
    extract::State,
    response::{IntoResponse, Redirect, Response},
};
use serde::Deserialize;
use vedette_event::{Micros, Span};

use super::{Frame, Stamp, desk::Nothing, forms::FormBody, render, segment, words};
use crate::{
    app::App,
    auth::Caller,
    backtests::{BacktestDocument, OfKey, OfRule, Outcome, Report},
    desk::{
        backtests::{self, BacktestBody},
        rules::find,
    },
    live::{Live, RuleStatus},
    metrics::now,
    params::{NoParams, Segment, Strict},
    problem::{Kind, Problem},
};

/// How far back one goes: value, words, hours; none is all there is.
pub(super) const SPANS: [(&str, &str, Option<i64>); 4] = [
    ("24h", "the last 24 hours", Some(24)),
    ("7d", "the last 7 days", Some(168)),
    ("30d", "the last 30 days", Some(720)),
    ("all", "all there is", None),
];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TryForm {
    span: String,
}

/// `POST /rules/{id}/backtests`.
pub(super) async fn begin(
    State(app): State<Arc<App>>,
    Segment(id): Segment,
    Extension(caller): Extension<Caller>,
    FormBody(form): FormBody<TryForm>,
) -> Result<Response, Problem> {
    let live = app.live.now();
    let rule = find(&live, &id)?;
    let known = SPANS.iter().find(|(value, ..)| *value == form.span);
    let (.., hours) =
        known.ok_or_else(|| Problem::new(Kind::InvalidBody, "`span` is one of 24h, 7d, 30d and all."))?;
    let from = hours.map(|hours| now().minus(Span::secs(hours * 3_600)).to_string());
    let body = BacktestBody { rules: with_all_below(&live, rule), from, ..BacktestBody::default() };
    let begun = backtests::begin(&app, &body, &caller).await?;
    Ok(Redirect::to(&format!("/backtests/{}", begun.id)).into_response())
}

/// The text of a rule and of all that it is built on.
fn with_all_below(live: &Live, rule: &RuleStatus) -> String {
    let (mut texts, mut seen, mut left) = (Vec::new(), BTreeSet::new(), vec![rule]);
    while let Some(rule) = left.pop() {
        if seen.insert(&rule.id) {
            texts.push(rule.text.trim_end());
            left.extend(rule.refers_to.iter().filter_map(|id| live.rule(id)));
        }
    }
    texts.join("\n---\n")
}

/// A rule of a report.
struct RuleLine {
    title: String,
    href: String,
    alerts: String,
    a_day: String,
    most: String,
    keys: String,
    fired_then: String,
    new: String,
    no_longer: String,
}

impl RuleLine {
    fn of(rule: &OfRule) -> Self {
        let most = rule.busiest_day.as_ref();
        Self {
            title: rule.title.clone(),
            href: segment("/rules/", &rule.rule_id),
            alerts: words::number(rule.alerts),
            a_day: rule.a_day.to_string(),
            most: most.map_or_else(
                || "–".to_owned(),
                |day| format!("{} on {day}", words::number(rule.most_in_a_day)),
            ),
            keys: words::number(rule.keys),
            fired_then: outcome(&rule.fired_then),
            new: words::number(rule.alerts.saturating_sub(rule.fired_then.alerts)),
            no_longer: outcome(&rule.no_longer),
        }
    }
}

/// A key of a rule that an exception could be made for.
struct KeyLine {
    title: String,
    key: String,
    hidden: String,
    fired_then: String,
}

impl KeyLine {
    fn of(rule: &OfRule, of: &OfKey) -> Self {
        let pairs = of.key.as_object().into_iter().flatten();
        let text =
            |value: &serde_json::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        Self {
            title: rule.title.clone(),
            key: pairs.map(|(name, value)| format!("{name}: {}", text(value))).collect::<Vec<_>>().join(", "),
            hidden: format!("{} of {}", words::number(of.alerts), words::number(rule.alerts)),
            fired_then: outcome(&of.fired_then),
        }
    }
}

/// `12: 3 true positive, 9 open`.
fn outcome(of: &Outcome) -> String {
    let parts: Vec<String> = of.parts().map(|(n, what)| format!("{} {what}", words::number(n))).collect();
    let all = words::number(of.alerts);
    if parts.is_empty() { all } else { format!("{all}: {}", parts.join(", ")) }
}

/// What one came to.
struct Told {
    alerts: String,
    events: String,
    through: Stamp,
    seconds: String,
    each: String,
    days: Vec<(String, String)>,
    rules: Vec<RuleLine>,
    keys: Vec<KeyLine>,
    notes: Vec<String>,
}

impl Told {
    fn of(report: &Report) -> Self {
        let keys = report.rules.iter().flat_map(|rule| rule.noisiest.iter().map(move |of| (rule, of)));
        Self {
            alerts: words::number(report.alerts),
            events: words::number(report.events),
            through: Stamp::of(report.through),
            seconds: format!("{:.1} s", report.seconds),
            each: format!("{:.2} µs", report.nanoseconds_an_event / 1_000.0),
            days: report.days.iter().map(|(day, n)| (day.clone(), words::number(*n))).collect(),
            rules: report.rules.iter().map(RuleLine::of).collect(),
            keys: keys.filter(|(_, of)| of.alerts > 1).map(|(rule, of)| KeyLine::of(rule, of)).collect(),
            notes: report.notes.iter().chain(&report.not_tried).cloned().collect(),
        }
    }
}

#[derive(Template)]
#[template(path = "backtest.html")]
struct BacktestPage {
    frame: Frame,
    id: String,
    by: String,
    asked_at: Stamp,
    from: Option<Stamp>,
    state: &'static str,
    /// Of a hundred, if it is known how much there is to do.
    done: Option<u64>,
    read: String,
    error: Option<String>,
    told: Option<Told>,
}

/// `GET /backtests/{id}`.
pub(super) async fn page(
    State(app): State<Arc<App>>,
    Segment(id): Segment,
    Strict(NoParams {}): Strict<NoParams>,
) -> Result<Response, Problem> {
    let BacktestDocument { id, by, asked_at, state, from, read, events, report, error, .. } =
        backtests::one(&app, &id)?.document(true);
    render(&BacktestPage {
        frame: Frame::new(&app.live.now(), "/rules"),
        id,
        by,
        asked_at: Stamp::of(asked_at),
        from: from.map(|from: Micros| Stamp::of(from)),
        state,
        done: (state == "running")
            .then(|| (read * 100).checked_div(events))
            .flatten()
            .map(|done| done.min(100)),
        read: words::number(read),
        error,
        told: report.as_ref().map(Told::of),
    })
}

/// `POST /backtests/{id}/stop`.
pub(super) async fn stop(
    State(app): State<Arc<App>>,
    Segment(id): Segment,
    FormBody(Nothing {}): FormBody<Nothing>,
) -> Result<Response, Problem> {
    let backtest = backtests::one(&app, &id)?;
    backtest.stop();
    Ok(Redirect::to(&format!("/backtests/{}", backtest.id)).into_response())
}
