//! Random rule files.
//!
//! In: proptest's choices. Out: YAML texts, and which of their rules must raise alerts themselves.
//! There are three detections, `p`, `q`, `r` (events whose `k` is or holds that name), and up to four correlations.

use std::fmt::Write as _;

use proptest::{prelude::*, sample};

/// The detections.
pub const DETECTIONS: [&str; 3] = ["p", "q", "r"];

/// A correlation to be.
#[derive(Debug, Clone)]
struct Choice {
    kind: &'static str,
    /// The detections it refers to, in order.
    detections: Vec<&'static str>,
    /// Which earlier correlations it refers to, by number; those it may not are left out.
    children: Vec<usize>,
    by: &'static [&'static str],
    timespan: &'static str,
    condition: Vec<(&'static str, u64)>,
    fields: &'static [&'static str],
    rearm: Option<&'static str>,
    update: Option<&'static str>,
    entity: bool,
    /// `generate` inside `correlation:` and beside it.
    generate: (Option<bool>, Option<bool>),
    /// In a file of its own.
    apart: bool,
}

impl Choice {
    fn judged(&self) -> bool {
        self.condition.iter().any(|(cmp, _)| ["lt", "lte", "eq", "neq"].contains(cmp))
    }

    /// "The inner one counts."
    fn generates(&self) -> bool {
        self.generate.0.or(self.generate.1).unwrap_or(false)
    }
}

fn condition() -> impl Strategy<Value = Vec<(&'static str, u64)>> {
    prop_oneof![
        6 => (1..5_u64).prop_map(|n| vec![("gte", n)]),
        1 => (5..12_u64).prop_map(|n| vec![("gte", n)]),
        2 => (0..4_u64).prop_map(|n| vec![("gt", n)]),
        1 => (1..4_u64, 0..3_u64).prop_map(|(n, m)| vec![("gte", n), ("lte", n + m)]),
        1 => (sample::select(vec!["lt", "lte", "eq", "neq"]), 1..4_u64).prop_map(|(cmp, n)| vec![(cmp, n)]),
    ]
}

fn spans() -> impl Strategy<Value = Option<&'static str>> {
    prop_oneof![
        2 => Just(None),
        4 => sample::select(vec![Some("1s"), Some("3s"), Some("10s"), Some("20s"), Some("1m")]),
        1 => sample::select(vec![Some("1h"), Some("2d")]),
    ]
}

fn choice() -> impl Strategy<Value = Choice> {
    let kind = sample::select(vec!["event_count", "value_count", "temporal", "temporal_ordered"]);
    let detections = Just(DETECTIONS.to_vec()).prop_shuffle();
    let by: Vec<&'static [&'static str]> =
        vec![&["u"], &["u"], &["u"], &["u", "o.v"], &["o.v"], &[], &["ip"], &["ip", "o.v"]];
    let fields: Vec<&'static [&'static str]> = vec![&["d"], &["d", "e"], &["e"], &["k"], &["e", "k"]];
    let generate = sample::select(vec![None, None, Some(true), Some(false)]);
    (
        (kind, detections, 0..4_usize, prop::collection::vec(0..4_usize, 0..3)),
        (sample::select(by), sample::select(vec!["5s", "10s", "10s", "1m", "1h"]), condition()),
        (sample::select(fields), spans(), spans(), any::<bool>()),
        (generate.clone(), generate, prop::bool::weighted(0.2)),
    )
        .prop_map(
            |((kind, mut detections, most, children), (by, timespan, condition), rest, (g, h, apart))| {
                detections.truncate(most);
                let (fields, rearm, update, entity) = rest;
                let generate = (g, h);
                Choice {
                    kind,
                    detections,
                    children,
                    by,
                    timespan,
                    condition,
                    fields,
                    rearm,
                    update,
                    entity,
                    generate,
                    apart,
                }
            },
        )
}

/// Rule files, and whether each rule of them must raise alerts, by name.
pub fn files() -> impl Strategy<Value = (Vec<String>, Vec<(String, bool)>)> {
    let base = (spans(), spans(), any::<bool>(), any::<bool>());
    (prop::collection::vec(base, 3), prop::collection::vec(choice(), 1..5)).prop_map(
        |(bases, mut choices)| {
            for at in 0..choices.len() {
                let (before, rest) = choices.split_at_mut(at);
                settle(&mut rest[0], before);
            }
            let mut text = String::new();
            for (name, (rearm, update, entity, logsource)) in DETECTIONS.into_iter().zip(bases) {
                let category = if logsource { "{category: test}" } else { "{product: anything}" };
                let _ = write!(
                    text,
                    "title: Events of {name}\nname: {name}\nlevel: low\nlogsource: {category}\n"
                );
                let _ = write!(text, "detection:\n  selection:\n    k: {name}\n  condition: selection\n");
                extras(&mut text, rearm, update, entity.then_some("o.v"));
                text.push_str("---\n");
            }
            let mut apart = Vec::new();
            for (at, choice) in choices.iter().enumerate() {
                let rendered = correlation(at, choice);
                if choice.apart { apart.push(rendered) } else { text.push_str(&(rendered + "---\n")) }
            }
            let emits = emits(&choices);
            apart.insert(0, text);
            (apart, emits)
        },
    )
}

/// Makes a choice one that the rule language allows.
fn settle(choice: &mut Choice, before: &[Choice]) {
    choice.children.sort_unstable();
    choice.children.dedup();
    choice.children.retain(|child| before.get(*child).is_some_and(|c| !c.judged()));
    let names = choice.detections.len() + choice.children.len();
    let least = if choice.kind.starts_with("temporal") { 2 } else { 1 };
    for name in DETECTIONS.into_iter().take(least.max(names) - names) {
        let missing = DETECTIONS.into_iter().find(|d| !choice.detections.contains(d));
        choice.detections.push(missing.unwrap_or(name));
    }
    if choice.kind == "temporal_ordered" {
        choice.condition.clear();
    }
}

/// "`generate` governs the rules referred to directly in the same file, one `true` is enough; it never silences a rule of
/// another file."
fn emits(choices: &[Choice]) -> Vec<(String, bool)> {
    let here = || choices.iter().filter(|c| !c.apart);
    let emits =
        |refers: &dyn Fn(&Choice) -> bool| !here().any(refers) || here().any(|c| refers(c) && c.generates());
    let mut all: Vec<(String, bool)> = DETECTIONS
        .into_iter()
        .map(|d| (d.to_owned(), emits(&|c: &Choice| c.detections.contains(&d))))
        .collect();
    for (at, choice) in choices.iter().enumerate() {
        let referred = emits(&|c: &Choice| c.children.contains(&at));
        all.push((format!("c{at}"), choice.apart || referred));
    }
    all
}

fn correlation(at: usize, choice: &Choice) -> String {
    let mut text = format!("title: Correlation {at}\nname: c{at}\nlevel: high\n");
    if let Some(outer) = choice.generate.1 {
        let _ = writeln!(text, "generate: {outer}");
    }
    let children = choice.children.iter().map(|child| format!("c{child}"));
    let names: Vec<String> = choice.detections.iter().map(|d| (*d).to_owned()).chain(children).collect();
    let _ = write!(text, "correlation:\n  type: {}\n  rules: [{}]\n", choice.kind, names.join(", "));
    if !choice.by.is_empty() {
        let _ = writeln!(text, "  group-by: [{}]", choice.by.join(", "));
    }
    let _ = writeln!(text, "  timespan: {}", choice.timespan);
    if choice.by.contains(&"ip") {
        // The first rule's source, all other rules' destination; the last rule keeps the plain field `ip`.
        let _ = writeln!(text, "  aliases:\n    ip:");
        let field = |i: usize| if i == 0 { "src" } else { "dst" };
        for (i, name) in names.iter().enumerate().take(names.len().saturating_sub(1).max(1)) {
            let _ = writeln!(text, "      {name}: {}", field(i));
        }
    }
    if !choice.condition.is_empty() {
        let parts: Vec<String> = choice.condition.iter().map(|(cmp, n)| format!("{cmp}: {n}")).collect();
        let _ = write!(text, "  condition:\n    {}\n", parts.join("\n    "));
        if choice.kind == "value_count" {
            let _ = writeln!(text, "    field: [{}]", choice.fields.join(", "));
        }
    }
    if let Some(inner) = choice.generate.0 {
        let _ = writeln!(text, "  generate: {inner}");
    }
    let rearm = if choice.judged() { None } else { choice.rearm };
    let update = if choice.judged() { None } else { choice.update };
    let entity = choice.by.last().copied().filter(|_| choice.entity);
    extras(&mut text, rearm, update, entity);
    text
}

fn extras(text: &mut String, rearm: Option<&str>, update: Option<&str>, entity: Option<&str>) {
    if rearm.is_none() && update.is_none() && entity.is_none() {
        return;
    }
    text.push_str("vedette:\n");
    let emit: Vec<String> = [rearm.map(|r| format!("rearm: {r}")), update.map(|u| format!("update: {u}"))]
        .into_iter()
        .flatten()
        .collect();
    if !emit.is_empty() {
        let _ = writeln!(text, "  emit: {{{}}}", emit.join(", "));
    }
    if let Some(entity) = entity {
        let _ = writeln!(text, "  entity: {entity}");
    }
}
