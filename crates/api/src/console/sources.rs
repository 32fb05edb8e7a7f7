//! The page of sources: those that give too little first.
//!
//! In: the snapshot, the last hour of its counters, dead letters of the last day. Out: a card for each source. Invariants: a source that
//! is silent or not read stands before those that are well; of each reason for dead letters one record is shown, to those only who may
//! see it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use askama::Template;
use axum::{Extension, extract::State, response::Response};
use vedette_event::Micros;

use super::{Frame, Stamp, href, render, words};
use crate::{
    app::App,
    auth::Caller,
    desk::dead_letters::{self, DeadLetter, DeadLetterParams, DeadLetterTotalItem},
    live::{Health, PartitionStatus, SourceStatus, TimeSource, TopicState, TopicStatus},
    metrics::now,
    pace::Pace,
    params::{NoParams, Strict},
    problem::Problem,
};

/// Dead letters looked at for one of each reason.
const SAMPLED: &str = "50";
/// Characters of a record that a sample shows.
const SAMPLE: usize = 300;
/// Reasons and partitions that a card shows.
const REASONS: usize = 12;

struct PartitionRow {
    name: String,
    paused: bool,
    position: String,
    end: String,
    lag: String,
    rate: String,
    flags: Vec<(String, String)>,
    watermark: Option<Stamp>,
}

struct TopicRow {
    name: String,
    state: &'static str,
    since: Stamp,
    message: String,
}

/// Dead letters of a reason and a partition.
struct LetterRow {
    reason: String,
    place: String,
    count: String,
    last: Stamp,
}

/// One record of a reason.
struct Sample {
    reason: String,
    detail: String,
    record: Option<String>,
}

struct SourceCard {
    name: String,
    description: String,
    topic: String,
    health: &'static str,
    health_label: String,
    message: Option<String>,
    rate: Option<String>,
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
    topics: Vec<TopicRow>,
    partitions: Vec<PartitionRow>,
    letters: Vec<LetterRow>,
    more_letters: usize,
    samples: Vec<Sample>,
}

impl SourceCard {
    fn of(source: &SourceStatus, now: Micros, pace: &Pace, letters: &[&DeadLetterTotalItem]) -> Self {
        let basis = match source.time_source {
            TimeSource::Broker => "broker time",
            TimeSource::Producer => {
                "producer time (weaker: producers can forge it; message.timestamp.type=LogAppendTime on the topic mends it)"
            }
        };
        let several = source.topics.len() > 1;
        let place = |topic: &str, number: i32| match several {
            false => number.to_string(),
            true => format!("{topic}/{number}"),
        };
        let unread = |topic: &&TopicStatus| topic.state != TopicState::Read || topic.message.is_some();
        let flags = source.flags.iter().filter(|(_, n)| **n > 0);
        Self {
            name: source.name.clone(),
            description: source.description.clone(),
            topic: source.topic.clone(),
            health: source.health.name(),
            health_label: words::label(source.health.name()),
            message: source.message.clone(),
            rate: pace.rate(source, now).map(per_second),
            lag: words::number(source.lag),
            lag_plural: if source.lag == 1 { "" } else { "s" },
            delay: source.watermark.map(|at| words::span(now.since(at))),
            events: words::number(source.events),
            dead: words::number(letters.iter().map(|of| of.count).sum()),
            dead_href: href("/dead-letters", &[("source", &source.name)]),
            watermark: source.watermark.map(Stamp::of),
            newest: source.newest.map(Stamp::of),
            time: format!("{basis}; up to {} late, {} ahead", source.disorder, source.future),
            flags: flags.map(|(flag, n)| (flag.clone(), words::number(*n))).collect(),
            lost: words::number(source.lost),
            topics: source.topics.iter().filter(unread).map(topic_row).collect(),
            partitions: source
                .partitions
                .iter()
                .map(|of| partition_row(of, pace.partition_rate(of, now), place))
                .collect(),
            letters: letters
                .iter()
                .take(REASONS)
                .map(|of| LetterRow {
                    reason: of.reason.clone(),
                    place: format!("{}/{}", of.topic, of.partition),
                    count: words::number(of.count),
                    last: Stamp::of(of.last),
                })
                .collect(),
            more_letters: letters.len().saturating_sub(REASONS),
            samples: Vec::new(),
        }
    }
}

fn topic_row(topic: &TopicStatus) -> TopicRow {
    TopicRow {
        name: topic.name.clone(),
        state: topic.state.name(),
        since: Stamp::of(topic.since),
        message: topic.message.clone().unwrap_or_default(),
    }
}

fn partition_row(
    partition: &PartitionStatus,
    rate: Option<f64>,
    place: impl Fn(&str, i32) -> String,
) -> PartitionRow {
    let offset = |offset: Option<i64>| offset.map_or_else(|| "–".to_owned(), |offset| offset.to_string());
    PartitionRow {
        name: place(&partition.topic, partition.number),
        paused: partition.paused,
        position: offset(partition.position),
        end: offset(partition.end),
        lag: words::number(partition.lag),
        rate: rate.map_or_else(|| "–".to_owned(), per_second),
        flags: partition.flags.iter().map(|(flag, n)| (flag.clone(), words::number(*n))).collect(),
        watermark: partition.watermark.map(Stamp::of),
    }
}

/// `0.2`, `14`, `1 200`.
fn per_second(rate: f64) -> String {
    if rate > 0.0 && rate < 10.0 { format!("{rate:.1}") } else { words::number(rate.round() as u64) }
}

/// The worst first.
fn rank(health: Health) -> u8 {
    match health {
        Health::Silent => 0,
        Health::Unreachable => 1,
        Health::Stopped => 2,
        Health::Stalled => 3,
        Health::Partial => 4,
        Health::Lagging => 5,
        Health::Starting => 6,
        Health::Ok => 7,
    }
}

/// One of each reason among the newest of a source.
async fn samples(app: &App, caller: &Caller, source: &str) -> Result<Vec<Sample>, Problem> {
    let params =
        DeadLetterParams { source: Some(source.to_owned()), limit: Some(SAMPLED.to_owned()), cursor: None };
    let page = dead_letters::page(app, caller, &params).await?;
    let mut reasons = BTreeSet::new();
    let first = page.items.into_iter().filter(|letter| reasons.insert(letter.reason.clone()));
    let sample = |DeadLetter { reason, detail, payload, .. }: DeadLetter| {
        let record = payload.filter(|text| !text.is_empty());
        Sample {
            reason,
            detail: words::cut(&detail),
            record: record.map(|text| text.chars().take(SAMPLE).collect()),
        }
    };
    Ok(first.map(sample).collect())
}

#[derive(Template)]
#[template(path = "sources.html")]
struct SourcesPage {
    frame: Frame,
    broker: String,
    as_of: Stamp,
    poor: usize,
    sources: Vec<SourceCard>,
}

/// `GET /sources`.
pub(super) async fn page(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
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
    let totals = dead_letters::totals(&app).await?;
    let mut letters: BTreeMap<&str, Vec<&DeadLetterTotalItem>> = BTreeMap::new();
    for total in &totals.items {
        letters.entry(&total.source).or_default().push(total);
    }
    let mut sources: Vec<&SourceStatus> = live.sources.iter().collect();
    // Not by figures: nothing moves while it is looked at.
    sources.sort_by_key(|source| rank(source.health));
    let mut cards = Vec::new();
    for source in sources {
        let own = letters.get(source.name.as_str()).map_or(&[][..], |own| own);
        let mut card = SourceCard::of(source, now, &app.pace, own);
        if !own.is_empty() {
            card.samples = samples(&app, &caller, &source.name).await?;
        }
        cards.push(card);
    }
    render(&SourcesPage {
        frame: Frame::new(&live, "/sources"),
        broker,
        as_of: Stamp::of(live.as_of),
        poor: live.sources.iter().filter(|source| source.health != Health::Ok).count(),
        sources: cards,
    })
}
