//! How the fields of an alert's body follow from a rule and an episode, where the semantics leave room.
//!
//! In: a rule, a key, what an episode measured. Out: rule reference, entity, summary, explanation, storm prefix.
//! Everything here is a pure function of its arguments and knows nothing of the engine's state.
//!
//! # Rulings
//!
//! **Events and keys.** An event is one (record, index); it is one event however many rules it matches.
//! - A key part's cell is that of the first column of [`SourceDef::resolve`](vedette_event::SourceDef::resolve) that is
//!   neither missing nor null. If that one is a list or an object the part is missing: later columns are not tried.
//! - A part whose column has the declared type `ip`, in a source whose form is not `json`, and whose text is an IPv6
//!   address, is cut to its /64 and written `2001:db8::/64` (text). This holds for group-by parts and for the entities of
//!   single-event rules, not for the values of `value_count`.
//! - A part whose text is longer than [`KEY_PART_BYTES`](vedette_event::KEY_PART_BYTES) is shortened
//!   ([`vedette_event::key_part`]), in group-by and in entities; values of `value_count` are told apart in full.
//! - `rule.emits == false`: no alert and no notice, but chains over it work as ever.
//! - `value_count`: an event's value of one field is its cell (kind and canonical text; `int` and `float` are both numbers),
//!   or for a list each scalar element (numbers canonical as in [`vedette_event::cell::number`], one outside its range
//!   is no value); nulls, lists and objects inside a list, and an object in place of a list are no values. Text that is
//!   equal as text is one value. Several fields: all tuples (the product). An event without a single tuple does not
//!   take part.
//! - Weight (`event_count` only): the cell of the source's `weight` field if it is a whole number, clamped to 1..=10,000;
//!   else 1. In a chain an event that also matches a detection rule listed in the parent has its own weight, else 1.
//! - A chain: an event that crosses a child (not as a continuation) matches the child, once, however many keys of the
//!   child it crosses. The parent's key is taken from that event by the part's field for the child
//!   ([`KeyPart::field_of`](vedette_sigma::ir::KeyPart::field_of)).
//! - Two aliases of one event that give equal keys are one group: it takes part once, for both rules.
//!
//! **Key of a single-event rule.** `vedette: entity` names one field (resolved as above; the key bears the name as written).
//! Without it, the first name in the source's `entity` list (canonical columns, not resolved) with a scalar that is neither
//! missing nor null. None: key `{}`, and each event is its own episode: nothing extends it, it is no continuation and
//! it ends at `crossed_at + rearm` or at the next 00:00, whichever is first.
//!
//! **Episodes.** `rearm` is `emit.rearm`, else the timespan, else (single event) 1 h; `update` is `emit.update`, else 1 m.
//! - An episode ends at `min(last held + rearm, next 00:00 UTC)`; the last revision, state `ended`, is due then, and its
//!   body covers the events of the episode, however late that instant is. An episode that ends gives this revision always.
//! - An open episode's events (also those at which the condition does not hold) are those of its key that take part
//!   before it ends. An event exactly at the next 00:00 is not among them.
//! - Continuation: there was an event at which the condition held on the UTC day before that of the crossing, and the
//!   crossing is at most `rearm` after the last such event.
//! - Judged rules: one revision, number 1, state `ended`, no continuation, no `rearm`, not cut at midnight.
//! - `flags`: union over all events of the episode, `capped` where the semantics say so, and `storm`. `capped` of
//!   `value_count` is set if there were more than `max(1,000, N)` distinct values among the events, and `value` is then
//!   `max(1,000, N)`; `N` is [`Correlation::threshold`](vedette_sigma::ir::Correlation::threshold), for a judged rule
//!   the greatest number in its condition.
//! - `value` is always a whole number here. Single event: 1, whatever `count` is. `temporal`: how many distinct referenced
//!   rules the episode's events matched (for this key). `temporal_ordered`: how many steps the rule has. Judged: over the events of its window.
//! - `evidence`: the first five and the last five of the episode's events in total order, each once, in total order.
//!   `evidence_total` = `count`.
//! - `severity` is the rule's level; `risk` is `risk.score`, else the level's.
//! - `rule.type` is `single` or the correlation's type; `rule.version` the first 16 hexadecimal digits of the meaning.
//!
//! **Entity.** Of a correlation: the key part named by `vedette: entity`, if there is one of that name, else the first
//! group-by part; of a single-event rule: the one part of its key. `type` is the part's name, `value` its value. With key `{}`: none (`null`).
//!
//! **Children.** The explanation of a rule that refers to correlations (but not a storm's) has `children` and `children_total`. For each of
//! the events in `evidence` that is a child event, in total order, `children` lists the child episodes that cross at it and brought it
//! to this key: by the child's place in `rules`, then by the key's JSON text.
//! - Told is the child's episode *as it was at its crossing*: its revision 1, whatever it grew to later. So `last_seen` = `crossed_at`, the
//!   last of its `evidence` is the child event, and a revision of the parent tells what its condition saw.
//! - An entry has `rule`, `key`, `first_seen`, `crossed_at`, `last_seen`, `count`, `value`, `evidence` and `flags` as a body would;
//!   `alert_id` if the child's rule raises alerts (its episode can be folded into a storm all the same); and, if the child is a chain
//!   itself, `children` of its own evidence.
//! - A body lists 128 of them, of all levels together: the upper levels first, each in order. `children_total` says how many there are.
//! - A key keeps what child events crossed while they are in its window or among its evidence, and is forgotten with it.
//!
//! **Storms.** Count the crossings of one emitting rule by the UTC clock hour of `crossed_at`, continuations included.
//! The first 1,000 in total order (crossings at one event by the key's JSON text) raise alerts; the others are folded: silent to
//! their end. One storm alert stands for all folded episodes of the hour; its events are their crossing events:
//! - key `{}`, entity `null`, flag `storm` besides the flags of its events; crossing: that of the first folded episode;
//! - `first_seen` = `crossed_at`; `last_seen`: time of the last; `count` = `value` = `evidence_total`: episodes folded;
//!   evidence: their crossing events, the first and last five, each once; `continuation` false;
//! - revision 1 at its crossing, then by `update` like any other; it ends at the end of its clock hour. An event exactly
//!   then is of the next hour. Of a judged rule: one revision, number 1, state `ended`.
//! - Episodes of a child inside a chain are no alerts: neither counted nor folded there.
//!
//! **Summary** ([`summary`]), **explanation** ([`explanation`]), **prefix** ([`prefix`]): see the functions.

mod emit;

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde_json::{Map, json};
use vedette_event::{Entity, Micros, RuleIx, RuleRef, Span, Value, time::HOUR};
use vedette_sigma::ir::{Cmp, Correlation, CorrelationKind, Rule, RuleKind, RuleSet};

pub(crate) use self::emit::{Bodies, key_of};

/// A group key, by part name.
pub type Key = BTreeMap<Arc<str>, Value>;

/// Episodes of one rule that cross in one UTC clock hour and raise alerts of their own; the rest are one storm alert.
pub const STORM_AFTER: u64 = 1_000;
/// How often an episode is revised by default.
pub const UPDATE: Span = Span::secs(60);
/// Distinct values that are counted in an episode before it is `capped`, unless the threshold is higher.
pub const VALUES: u64 = 1_000;
/// Prefixes in a storm's explanation.
pub const PREFIXES: usize = 20;
/// Characters of a value in a summary.
const SHOWN: usize = 256;

/// What an explanation needs to know of an episode beside its rule.
#[derive(Debug, Clone, Copy)]
pub enum Detail<'a> {
    /// A single-event rule, or a sliding `event_count` or `value_count`.
    Plain,
    /// `temporal`: the distinct referenced rules that the episode's events matched, in any order.
    Matched(&'a [RuleIx]),
    /// `temporal_ordered`: the times of the witness of the crossing, by step.
    Steps(&'a [Micros]),
    /// A judged window that starts here; for `temporal`, the distinct referenced rules matched in it.
    Window {
        /// Its start.
        start: Micros,
        /// Of `temporal`; empty for others.
        matched: &'a [RuleIx],
    },
    /// A storm.
    Storm {
        /// The start of its clock hour.
        hour: Micros,
        /// Every prefix of the folded keys ([`prefix`]) with the number of episodes, in any order.
        prefixes: &'a [(String, u64)],
    },
}

/// The rule as alerts name it.
#[must_use]
pub fn rule_ref(rule: &Rule) -> RuleRef {
    let meaning = blake3::Hash::from(rule.meaning).to_hex();
    RuleRef {
        id: Arc::clone(&rule.id),
        title: Arc::clone(&rule.title),
        level: rule.level,
        kind: rule.kind.name().into(),
        version: meaning[..16].into(),
        tags: Arc::clone(&rule.tags),
    }
}

/// When an episode of the rule ends.
#[must_use]
pub fn rearm(rule: &Rule) -> Span {
    rule.extras.rearm.unwrap_or(match &rule.kind {
        RuleKind::Detection(_) => HOUR,
        RuleKind::Correlation(correlation) => correlation.timespan,
    })
}

/// How often an episode of the rule is revised.
#[must_use]
pub fn update(rule: &Rule) -> Span {
    rule.extras.update.unwrap_or(UPDATE)
}

/// What an alert of the rule adds to its entity's risk.
#[must_use]
pub fn risk(rule: &Rule) -> u32 {
    rule.extras.risk.unwrap_or(rule.level.risk())
}

/// Whom an alert with this key is about.
#[must_use]
pub fn entity(rule: &Rule, key: &Key) -> Option<Entity> {
    let name = match &rule.kind {
        RuleKind::Detection(_) => key.keys().next(),
        RuleKind::Correlation(correlation) => {
            let named = rule.extras.entity.as_ref().filter(|name| key.contains_key(*name));
            named.or_else(|| correlation.group_by.first().map(|part| &part.name))
        }
    }?;
    let value = key.get(name)?.clone();
    Some(Entity { kind: Arc::clone(name), value })
}

/// One line for an analyst.
///
/// With a template (`vedette: summary`): `{title}`, `{count}`, `{value}` and `{<key part>}` are replaced in one pass from left
/// to right (a key part of the same name wins over none of the first three); any other `{…}` stays as it is. Without one:
/// - single event: `<title>: <key>, <count> events`
/// - `event_count`: `<title>: <key>, <value> events`
/// - `value_count`: `<title>: <key>, <value> distinct values of <fields>`
/// - `temporal`: `<title>: <key>, <value> of <number of referenced rules> rules`
/// - `temporal_ordered`: `<title>: <key>, <value> steps`
///
/// where `<key>` is `<part> <value>` for each part in the key's order, joined by `, ` (with key `{}`, it and its comma are left out),
/// `<fields>` are joined by `, `, and `1 event` is singular. A storm: `<title>: <count> more episodes within an hour`, template or not
/// (`1 more episode within an hour`).
/// Every text put in is one line: control characters become blanks; longer than 256 characters, it is cut there and `…` follows.
#[must_use]
pub fn summary(rule: &Rule, key: &Key, count: u64, value: u64, detail: &Detail<'_>) -> String {
    if let Detail::Storm { .. } = detail {
        let s = if count == 1 { "" } else { "s" };
        return format!("{}: {count} more episode{s} within an hour", one_line(&rule.title));
    }
    if let Some(template) = &rule.extras.summary {
        return fill(template, rule, key, count, value);
    }
    let mut text = one_line(&rule.title);
    text.push_str(": ");
    for (name, part) in key {
        let _ = write!(text, "{} {}, ", one_line(name), one_line(part.text()));
    }
    let events = |n: u64| if n == 1 { "1 event".to_owned() } else { format!("{n} events") };
    text.push_str(&match &rule.kind {
        RuleKind::Detection(_) => events(count),
        RuleKind::Correlation(correlation) => match &correlation.kind {
            CorrelationKind::EventCount => events(value),
            CorrelationKind::ValueCount(fields) => {
                format!("{value} distinct values of {}", one_line(&fields.join(", ")))
            }
            CorrelationKind::Temporal => format!("{value} of {} rules", correlation.rules.len()),
            CorrelationKind::TemporalOrdered => format!("{value} steps"),
        },
    });
    text
}

fn fill(template: &str, rule: &Rule, key: &Key, count: u64, value: u64) -> String {
    let (mut out, mut rest) = (String::with_capacity(template.len() + 32), template);
    while let Some(open) = rest.find('{') {
        let (before, after) = rest.split_at(open);
        out.push_str(before);
        let Some(close) = after.find('}') else {
            rest = after;
            break;
        };
        let (hole, next) = after.split_at(close + 1);
        match &hole[1..close] {
            "title" => out.push_str(&one_line(&rule.title)),
            "count" => out.push_str(&count.to_string()),
            "value" => out.push_str(&value.to_string()),
            name => match key.get(name) {
                Some(part) => out.push_str(&one_line(part.text())),
                None => {
                    // Not a hole: keep the brace and look again behind it.
                    out.push('{');
                    rest = &after[1..];
                    continue;
                }
            },
        }
        rest = next;
    }
    out.push_str(rest);
    out.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn one_line(text: &str) -> String {
    let mut line: String = text.chars().take(SHOWN).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(SHOWN).is_some() {
        line.push('…');
    }
    line
}

/// The window, threshold and values that made an alert fire. Keys are inserted in alphabetical order.
///
/// - single event: `{"rearm": "1h", "type": "single"}`
/// - correlation: `condition` (an object such as `{"gte": 10}`; left out for `temporal_ordered`), `fields` (`value_count`: as
///   written), `group_by` (names as written), `matched` (`temporal`: ids of the rules matched, in the order written in the rule),
///   `rearm` (not if judged), `rules` (ids, as written), `steps` (`temporal_ordered`: `[{"rule", "time"}]` of the witness), `type`,
///   `window` (`"5m"`), `window_end` and `window_start` (judged only)
/// - storm: `{"alerts_before": 1000, "hour": "…", "prefixes": [{"episodes": 12, "prefix": "203.0.113.0/24"}], "type": "event_count"}`:
///   the 20 most frequent prefixes, ties by their text
#[must_use]
pub fn explanation(rules: &RuleSet, rule: RuleIx, detail: &Detail<'_>) -> Map<String, serde_json::Value> {
    let rule = rules.get(rule);
    let mut map = Map::new();
    if let Detail::Storm { hour, prefixes } = detail {
        let mut sorted: Vec<_> = prefixes.iter().collect();
        sorted.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        let shown: Vec<_> = sorted
            .iter()
            .take(PREFIXES)
            .map(|(prefix, episodes)| json!({"episodes": episodes, "prefix": prefix}))
            .collect();
        map.insert("alerts_before".into(), json!(STORM_AFTER));
        map.insert("hour".into(), json!(hour));
        map.insert("prefixes".into(), json!(shown));
        map.insert("type".into(), json!(rule.kind.name()));
        return map;
    }
    match &rule.kind {
        RuleKind::Detection(_) => {
            map.insert("rearm".into(), json!(rearm(rule)));
            map.insert("type".into(), json!("single"));
        }
        RuleKind::Correlation(correlation) => explain(rules, rule, correlation, detail, &mut map),
    }
    map
}

fn explain(
    rules: &RuleSet,
    rule: &Rule,
    correlation: &Correlation,
    detail: &Detail<'_>,
    map: &mut Map<String, serde_json::Value>,
) {
    let id = |rule: &RuleIx| Arc::clone(&rules.get(*rule).id);
    if correlation.kind != CorrelationKind::TemporalOrdered {
        let mut terms: Vec<_> = correlation.condition.iter().map(|(cmp, n)| (cmp_name(*cmp), *n)).collect();
        terms.sort_unstable();
        let terms: Map<_, _> = terms.into_iter().map(|(cmp, n)| (cmp.to_owned(), json!(n))).collect();
        map.insert("condition".into(), json!(terms));
    }
    if let CorrelationKind::ValueCount(fields) = &correlation.kind {
        map.insert("fields".into(), json!(fields));
    }
    let names: Vec<_> = correlation.group_by.iter().map(|part| &part.name).collect();
    map.insert("group_by".into(), json!(names));
    if let (Detail::Matched(matched) | Detail::Window { matched, .. }, CorrelationKind::Temporal) =
        (detail, &correlation.kind)
    {
        let ids: Vec<_> = correlation.rules.iter().filter(|rule| matched.contains(rule)).map(id).collect();
        map.insert("matched".into(), json!(ids));
    }
    if !matches!(detail, Detail::Window { .. }) {
        map.insert("rearm".into(), json!(rearm(rule)));
    }
    map.insert("rules".into(), json!(correlation.rules.iter().map(id).collect::<Vec<_>>()));
    if let Detail::Steps(times) = detail {
        let steps: Vec<_> = (correlation.rules.iter().zip(*times))
            .map(|(rule, time)| json!({"rule": id(rule), "time": time}))
            .collect();
        map.insert("steps".into(), json!(steps));
    }
    map.insert("type".into(), json!(correlation.kind.name()));
    map.insert("window".into(), json!(correlation.timespan));
    if let Detail::Window { start, .. } = detail {
        map.insert("window_end".into(), json!(start.plus(correlation.timespan)));
        map.insert("window_start".into(), json!(start));
    }
}

const fn cmp_name(cmp: Cmp) -> &'static str {
    match cmp {
        Cmp::Lt => "lt",
        Cmp::Lte => "lte",
        Cmp::Gt => "gt",
        Cmp::Gte => "gte",
        Cmp::Eq => "eq",
        Cmp::Neq => "neq",
    }
}

/// Under what a folded key is counted in a storm: the network of its first part, in the key's order, whose text is an address or
/// a network (`203.0.113.0/24`, `2001:db8:1::/48`), else the whole key as JSON text.
#[must_use]
pub fn prefix(key: &Key) -> String {
    let network = key.values().find_map(|value| {
        let text = value.text();
        let address = text.parse::<IpAddr>().ok();
        let address = address.or_else(|| text.parse::<IpNet>().ok().map(|net| net.addr()))?;
        match address {
            IpAddr::V4(v4) => Ipv4Net::new(v4, 24).ok().map(|net| net.trunc().to_string()),
            IpAddr::V6(v6) => Ipv6Net::new(v6, 48).ok().map(|net| net.trunc().to_string()),
        }
    });
    network.unwrap_or_else(|| vedette_event::key_text(key))
}

/// The /64 of an IPv6 address as a key bears it; `None` for any other text.
#[must_use]
pub fn slash64(text: &str) -> Option<String> {
    let address: Ipv6Addr = text.contains(':').then(|| text.parse().ok())??;
    Ipv6Net::new(address, 64).ok().map(|net| net.trunc().to_string())
}
