//! The alert queue: views, filters and times in the address, tallies, rows or groups, one form for what is selected.
//!
//! In: the address. Out: the page, whose first answer has the rows. Invariants: every figure is counted by the filter that a link beside
//! it opens; the number on a button is that of the rows that it changes.

pub(super) mod acts;
pub(super) mod live;
mod params;
pub(super) mod row;

use std::sync::Arc;

use askama::Template;
use axum::{Extension, extract::State, response::Response};
use vedette_event::{Severity, Span};
use vedette_store::{
    MAX_FOUND,
    model::{Filter, Group, ListQuery, RowState, Status, Summary, SummaryBy},
};

use self::row::{Row, of_then};
use super::{Frame, Stamp, alert::Past, events::entity_href, href, render, segment, words};
use crate::{
    access::Permission,
    app::App,
    attack::Attack,
    auth::Caller,
    desk::{
        queue::{Asked, QueueParams},
        view,
    },
    live::Live,
    metrics::now,
    params::Strict,
    problem::Problem,
};

/// Groups that are looked through at once; more is for a filter.
const GROUPS: usize = 100;

/// Saved views that the page names; all of them are on their own.
const SAVED: usize = 12;

struct Tally {
    name: &'static str,
    label: String,
    count: u64,
    href: String,
    current: bool,
}

struct Choice {
    label: String,
    href: String,
    current: bool,
}

struct Set {
    label: &'static str,
    choices: Vec<Choice>,
}

/// A filter that is on, with a link that takes it off.
pub(super) struct Chip {
    pub name: &'static str,
    pub value: String,
    pub href: String,
}

/// What rows have in common, and how many.
struct GroupRow {
    name: String,
    kind: Option<String>,
    /// The page of what they have in common.
    about: Option<String>,
    severity: &'static str,
    severity_label: String,
    count: String,
    href: String,
}

#[derive(Template)]
#[template(path = "queue.html")]
struct QueuePage {
    frame: Frame,
    stream: String,
    past: Option<Past>,
    /// This page as it is shown, for ever.
    lasting: String,
    /// Whether who looks may change what is shown.
    triages: bool,
    /// True where new rows belong to the top of what is shown; elsewhere nothing comes by itself.
    first: bool,
    /// When the page was made, and its own address.
    made: Stamp,
    again: String,
    views: Vec<Choice>,
    tallies: Vec<Tally>,
    sets: Vec<Set>,
    sorts: Vec<Choice>,
    groupings: Vec<Choice>,
    chips: Vec<Chip>,
    /// How many rows snoozes hide, and where they are.
    snoozed: Option<(u64, String)>,
    kept: Vec<(&'static str, String)>,
    kept_times: Vec<(&'static str, String)>,
    since: String,
    until: String,
    ranges: Vec<Choice>,
    q: String,
    filtered: bool,
    capped: Option<String>,
    rows: Vec<Row>,
    groups: Option<Vec<GroupRow>>,
    more_groups: bool,
    next: Option<String>,
    newest: Option<String>,
    /// As of which `seq` the page is, and how many rows match.
    seq: i64,
    matching: u64,
    matching_text: String,
    query: String,
    save: String,
    /// The change on the way here, and how many rows it changed.
    did: Option<(i64, String)>,
    watched: String,
}

/// `GET /`.
pub(super) async fn page(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Strict(params): Strict<QueueParams>,
) -> Result<Response, Problem> {
    let seq = app.store.newest_seq().await?;
    let Asked { query, group, at } = params.asked(&app).await?;
    // What is shown of the past can be looked at only.
    let triages = caller.may(Permission::Triage) && at.is_none();
    let shown = async {
        match at {
            None => present(&app, &params, &query, group, triages).await,
            Some(seq) => past(&app, &params, &query, group, seq).await,
        }
    };
    let (shown, views, did) =
        tokio::try_join!(shown, views(&app, &params, &caller), did(&app, &params, &caller))?;
    let Shown { listed: Listed { rows, groups, more_groups, next }, counts, hidden } = shown;
    let (tallies, capped) = (tallies(&params, &counts), counts.capped);
    let chosen = |tally: &&Tally| params.severity.is_none() || tally.current;
    let matching: u64 = tallies.iter().filter(chosen).map(|tally| tally.count).sum();
    let live = app.live.now();
    let sources: Vec<String> = live.sources.iter().map(|source| source.name.clone()).collect();
    let kept = |but: &[&str]| {
        let kept = params.pairs().filter(|(name, _)| !but.contains(name));
        kept.filter_map(|(name, value)| value.map(|value| (name, value.to_owned()))).collect()
    };
    let own = params.query();
    render(&QueuePage {
        frame: Frame::new(&live, "/"),
        stream: params.stream(seq),
        past: at.map(|seq| Past { seq, exact: true, now: params.with("as_of", None) }),
        lasting: params.with("as_of", Some(&at.unwrap_or(seq).to_string())),
        triages,
        made: Stamp::of(now()),
        again: params.with("cursor", params.cursor.as_deref()),
        first: params.cursor.is_none() && params.sort.is_none() && group.is_none(),
        views,
        snoozed: Some((hidden, params.with("snoozed", Some("yes")))).filter(|_| hidden > 0),
        sets: sets(&params, &sources),
        sorts: sorts(&params),
        groupings: groupings(&params),
        chips: chips(&params, &live),
        kept: kept(&["q"]),
        kept_times: kept(&["since", "until"]),
        since: params.since.clone().unwrap_or_default(),
        until: params.until.clone().unwrap_or_default(),
        ranges: ranges(&params),
        q: params.q.clone().unwrap_or_default(),
        filtered: params.filters(),
        capped: capped.then(|| words::number(MAX_FOUND.unsigned_abs())),
        rows,
        groups,
        more_groups,
        next: next.map(|cursor| params.with("cursor", Some(&cursor))),
        newest: params.cursor.is_some().then(|| params.with("cursor", None)),
        seq,
        // What a search leaves out would be changed, too.
        matching: if capped || at.is_some() { 0 } else { matching },
        matching_text: words::number(matching),
        save: href("/views", &[("query", &own)]),
        query: own,
        did,
        watched: watched(&live),
        tallies,
    })
}

/// What the page lists.
struct Listed {
    rows: Vec<Row>,
    groups: Option<Vec<GroupRow>>,
    more_groups: bool,
    next: Option<String>,
}

/// What is in the queue.
struct Shown {
    listed: Listed,
    /// By severity, of what the other filters leave.
    counts: Summary,
    /// How many rows snoozes keep out of the page.
    hidden: u64,
}

/// The queue as it is. Its parts are asked for side by side, because a search is looked for three times: for its rows, for the
/// counts, and for what snoozes hide of it.
async fn present(
    app: &App,
    params: &QueueParams,
    query: &ListQuery,
    group: Option<SummaryBy>,
    triages: bool,
) -> Result<Shown, Problem> {
    let listed = async {
        if let Some(by) = group {
            return Ok(grouped(
                (params, None),
                by,
                app.store.summary(by, &query.filter).await?,
                &app.live.now(),
            ));
        }
        let page = app.store.list(query).await?;
        Ok::<_, Problem>(Listed::of(row::rows(app, page.items, triages).await?, page.next_cursor))
    };
    let all = of_any_severity(&query.filter);
    let counts = async { Ok(app.store.summary(SummaryBy::Severity, &all).await?) };
    let hidden = async {
        match snoozed(&query.filter) {
            Some(hidden) if app.store.hides_any().await? => {
                Ok(total(&app.store.summary(SummaryBy::Severity, &hidden).await?))
            }
            _ => Ok(0),
        }
    };
    let (listed, counts, hidden) = tokio::try_join!(listed, counts, hidden)?;
    Ok(Shown { listed, counts, hidden })
}

/// The queue as it was: one after the other, since all is asked of one snapshot.
async fn past(
    app: &App,
    params: &QueueParams,
    query: &ListQuery,
    group: Option<SummaryBy>,
    seq: i64,
) -> Result<Shown, Problem> {
    let mut then = app.store.then(seq).await?;
    let at = Some(seq);
    let listed = match group {
        Some(by) => grouped((params, at), by, then.summary(by, &query.filter).await?, &app.live.now()),
        None => {
            let page = then.list(query).await?;
            Listed::of(row::past(app, page.items, &mut then, seq).await?, page.next_cursor)
        }
    };
    let counts = then.summary(SummaryBy::Severity, &of_any_severity(&query.filter)).await?;
    let hidden = match snoozed(&query.filter) {
        Some(hidden) => total(&then.summary(SummaryBy::Severity, &hidden).await?),
        None => 0,
    };
    Ok(Shown { listed, counts, hidden })
}

impl Listed {
    fn of(rows: Vec<Row>, next: Option<String>) -> Self {
        Self { rows, groups: None, more_groups: false, next }
    }
}

fn grouped(of: (&QueueParams, Option<i64>), by: SummaryBy, summary: Summary, live: &Live) -> Listed {
    let more_groups = summary.more || summary.groups.len() > GROUPS;
    let groups = summary.groups.into_iter().take(GROUPS).map(|group| group_row(of, by, group, live));
    Listed { rows: Vec::new(), groups: Some(groups.collect()), more_groups, next: None }
}

/// The change on the way here, if who looks made it.
async fn did(app: &App, params: &QueueParams, caller: &Caller) -> Result<Option<(i64, String)>, Problem> {
    let Some(change) = params.did.as_deref().and_then(|did| did.parse().ok()) else { return Ok(None) };
    let changed = app.store.change_of(change, &caller.name).await?;
    Ok(changed.map(|n| (change, words::number(n))))
}

/// What an empty queue rests on.
fn watched(live: &Live) -> String {
    let rules = words::number(live.rules.len() as u64);
    let sources = live.sources.len();
    match live.sources.iter().filter_map(|source| source.watermark).min() {
        Some(until) => format!(
            "{rules} rules over {sources} source{} are evaluated up to {} UTC.",
            if sources == 1 { "" } else { "s" },
            Stamp::of(until).text
        ),
        None => format!("{rules} rules wait for the first events of {sources} sources."),
    }
}

fn group_row(
    (params, at): (&QueueParams, Option<i64>),
    by: SummaryBy,
    group: Group,
    live: &Live,
) -> GroupRow {
    let Group { name, entity_type, count, severity } = group;
    let none = name.is_empty();
    let (parameter, about, shown) = match by {
        SummaryBy::Rule => {
            let title = live.rule(&name).map_or_else(|| name.clone(), |rule| rule.title.clone());
            ("rule", Some(segment("/rules/", &name)), title)
        }
        SummaryBy::Entity => {
            let about = entity_type.as_deref().map(|kind| of_then(entity_href(kind, &name), at));
            ("entity", about, name.clone())
        }
        _ => ("technique", None, attack_name(&name)),
    };
    let href = match (by, entity_type.as_deref()) {
        (SummaryBy::Entity, kind) => {
            params.changed(&[("group", None), ("entity", Some(&name)), ("entity_type", kind)])
        }
        _ => params.changed(&[("group", None), (parameter, Some(&name))]),
    };
    GroupRow {
        name: if none { "None".to_owned() } else { words::cut(&shown) },
        kind: entity_type,
        about: about.filter(|_| !none),
        severity: severity.name(),
        severity_label: words::label(severity.name()),
        count: words::number(count),
        href: if none { String::new() } else { href },
    }
}

/// `T1110 Brute Force`.
fn attack_name(id: &str) -> String {
    let known = Attack::of(&format!("attack.{}", id.to_ascii_lowercase())).and_then(|attack| attack.name);
    known.map_or_else(|| id.to_owned(), |name| format!("{id} {name}"))
}

/// The built-in views and the saved ones.
async fn views(app: &App, params: &QueueParams, caller: &Caller) -> Result<Vec<Choice>, Problem> {
    let built_in = [
        ("Open", Vec::new()),
        ("Mine", vec![("assignee", caller.name.as_str())]),
        ("Unowned", vec![("assignee", "")]),
        ("Notices", vec![("state", "notice")]),
        ("All", vec![("status", "all")]),
    ];
    let own = params.changed(&[("sort", None), ("group", None)]);
    let choice = |(label, pairs): (&str, Vec<(&str, &str)>)| {
        let href = href("/", &pairs);
        Choice { label: label.to_owned(), current: href == own, href }
    };
    let mut views: Vec<Choice> = built_in.into_iter().map(choice).collect();
    for view in view::list(app, caller).await?.items.into_iter().take(SAVED) {
        let href = format!("/?{}", view.query);
        views.push(Choice { label: view.name, current: href == params.changed(&[]), href });
    }
    Ok(views)
}

fn sorts(params: &QueueParams) -> Vec<Choice> {
    let orders = [
        (None, "Newest first"),
        (Some("-severity"), "Most severe first"),
        (Some("-last_seen"), "Last seen first"),
        (Some("-count"), "Most events first"),
        (Some("crossed_at"), "Oldest first"),
    ];
    let current = params.sort.as_deref().filter(|sort| *sort != "-crossed_at");
    let choice = |(sort, label): (Option<&str>, &str)| Choice {
        label: label.to_owned(),
        href: params.with("sort", sort),
        current: current == sort,
    };
    orders.into_iter().map(choice).collect()
}

fn groupings(params: &QueueParams) -> Vec<Choice> {
    let by = [
        (None, "Rows"),
        (Some("entity"), "By entity"),
        (Some("rule"), "By rule"),
        (Some("technique"), "By technique"),
    ];
    let choice = |(group, label): (Option<&str>, &str)| Choice {
        label: label.to_owned(),
        href: params.with("group", group),
        current: params.group.as_deref() == group,
    };
    by.into_iter().map(choice).collect()
}

/// Ranges of whole days, so that a link means tomorrow what it means today.
fn ranges(params: &QueueParams) -> Vec<Choice> {
    let today = now().midnight();
    let since = |days: i64| {
        let day = today.minus(Span::secs(days * 86_400)).to_string();
        day.get(..10).unwrap_or_default().to_owned()
    };
    let ranges = [
        ("Any time", None),
        ("Today", Some(since(0))),
        ("7 days", Some(since(6))),
        ("30 days", Some(since(29))),
    ];
    let choice = |(label, since): (&str, Option<String>)| Choice {
        label: label.to_owned(),
        href: params.changed(&[("since", since.as_deref()), ("until", None)]),
        current: params.until.is_none() && params.since == since,
    };
    ranges.into_iter().map(choice).collect()
}

fn of_any_severity(filter: &Filter) -> Filter {
    Filter { severity: std::collections::BTreeSet::new(), ..filter.clone() }
}

/// What snoozes keep out of a page, if they keep anything out of it.
fn snoozed(filter: &Filter) -> Option<Filter> {
    (filter.snoozed == Some(false)).then(|| Filter { snoozed: Some(true), ..filter.clone() })
}

fn total(counts: &Summary) -> u64 {
    counts.groups.iter().map(|group| group.count).sum()
}

/// Counts by severity of what the other filters leave.
fn tallies(params: &QueueParams, counts: &Summary) -> Vec<Tally> {
    let tally = |severity: Severity| {
        let name = severity.name();
        let current = params.severity.as_deref() == Some(name);
        Tally {
            name,
            label: words::label(name),
            count: counts.groups.iter().find(|group| group.name == name).map_or(0, |group| group.count),
            href: params.with("severity", if current { None } else { Some(name) }),
            current,
        }
    };
    Severity::ALL.into_iter().rev().map(tally).collect()
}

fn sets(params: &QueueParams, sources: &[String]) -> Vec<Set> {
    let choices = |name: &str, current: Option<&str>, all: &[(Option<&str>, String)]| {
        let choice = |(value, label): &(Option<&str>, String)| Choice {
            label: label.clone(),
            href: params.with(name, *value),
            current: current == *value,
        };
        all.iter().map(choice).collect::<Vec<_>>()
    };
    let named = |name: &'static str| (Some(name), words::label(name));
    let mut status = vec![(None, "Open".to_owned())];
    status.extend(Status::ALL.iter().map(|status| named(status.name())));
    status.push((Some("all"), "All".to_owned()));
    let mut state = vec![(None, "Any state".to_owned())];
    state.extend(RowState::ALL.iter().map(|state| named(state.name())));
    let mut source = vec![(None, "All sources".to_owned())];
    source.extend(sources.iter().map(|name| (Some(name.as_str()), name.clone())));
    let mut sets = vec![
        Set { label: "Status", choices: choices("status", params.status.as_deref(), &status) },
        Set { label: "State", choices: choices("state", params.state.as_deref(), &state) },
    ];
    if sources.len() > 1 {
        sets.push(Set { label: "Source", choices: choices("source", params.source.as_deref(), &source) });
    }
    sets
}

fn chips(params: &QueueParams, live: &Live) -> Vec<Chip> {
    let rule =
        params.rule.as_ref().map(|id| live.rule(id).map_or_else(|| id.clone(), |rule| rule.title.clone()));
    let on = [
        ("rule", rule),
        ("entity", params.entity.clone()),
        ("entity type", params.entity_type.clone()),
        (
            "owner",
            params.assignee.clone().map(|name| if name.is_empty() { "nobody".to_owned() } else { name }),
        ),
        ("technique", params.technique.clone()),
        ("since", params.since.clone().filter(|since| !since.is_empty())),
        ("until", params.until.clone().filter(|until| !until.is_empty())),
        ("case", params.case.clone()),
        ("snoozed", params.snoozed.clone()),
        ("q", params.q.clone().filter(|q| !q.is_empty())),
    ];
    let chip = |(name, value): (&'static str, Option<String>)| {
        let (parameter, shown) = match name {
            "q" => ("q", "search"),
            "owner" => ("assignee", "owner"),
            "entity type" => ("entity_type", "entity type"),
            name => (name, name),
        };
        value.map(|value| Chip { name: shown, value, href: params.with(parameter, None) })
    };
    on.into_iter().filter_map(chip).collect()
}
