//! Chains of two, three and four levels: what an alert tells of the episodes below it.
//!
//! In: rules of every type over one another, random logs. Out: agreement of the kernel with the oracle, body by body.

#![allow(clippy::unwrap_used)]

use std::{fmt::Write as _, sync::Arc};

use proptest::{prelude::*, sample, strategy::ValueTree as _};
use serde_json::{Value as Json, json};
use vedette_event::alert::{Child, Number};

use super::{
    generate::{Shape, World, records},
    kernel::{Drive, Step, steps},
    property::{config, difference, one_log, oracle},
};

/// Levels of rules over `p`, `q`, `r`: each level is of any type, over the one below it and a detection.
fn rules() -> impl Strategy<Value = String> {
    let kind = sample::select(vec!["event_count", "value_count", "temporal", "temporal_ordered", "judged"]);
    let by = sample::select(vec!["[u]", "[u]", "[u]", "[u, o.v]", "[o.v]"]);
    let span = sample::select(vec!["10s", "1m", "1h"]);
    let rearm = sample::select(vec!["1s", "3s", "20s"]);
    let level = (kind, by, span, rearm, 1..4_u32, any::<[bool; 3]>());
    prop::collection::vec(level, 2..5).prop_map(|levels| {
        let mut text = String::new();
        for (name, category) in [("p", "test"), ("q", "test"), ("r", "test")] {
            let _ = write!(
                text,
                "title: {name}\nname: {name}\nlogsource: {{category: {category}}}\ndetection:\n  \
                 selection:\n    k: {name}\n  condition: selection\n---\n"
            );
        }
        let top = levels.len() - 1;
        for (at, (kind, by, span, rearm, n, [generate, also, beside])) in levels.into_iter().enumerate() {
            // Only the last can be judged: there is nothing over it.
            let (kind, cmp) = match kind {
                "judged" if at == top => ("event_count", "lte"),
                "judged" => ("event_count", "gte"),
                other => (other, "gte"),
            };
            let detection = ["p", "q", "r"][at % 3];
            let below = if at == 0 { "q".to_owned() } else { format!("c{}", at - 1) };
            let mut refs = vec![below];
            // One further down, too, so that one event crosses two children.
            refs.extend((also && at > 1).then(|| format!("c{}", at - 2)));
            refs.extend((beside || kind.starts_with("temporal")).then(|| detection.to_owned()));
            let _ = write!(text, "title: Level {at}\nname: c{at}\ncorrelation:\n  type: {kind}\n");
            let _ = write!(text, "  rules: [{}]\n  group-by: {by}\n  timespan: {span}\n", refs.join(", "));
            let _ = writeln!(text, "  generate: {generate}");
            match kind {
                "temporal" => text.push_str("  condition: {gte: 1}\n"),
                "temporal_ordered" => {}
                "value_count" => {
                    let _ = write!(text, "  condition:\n    gte: {n}\n    field: [d]\n");
                }
                _ => {
                    let _ = writeln!(text, "  condition: {{{cmp}: {n}}}");
                }
            }
            if cmp == "gte" {
                let _ = writeln!(text, "vedette:\n  emit: {{rearm: {rearm}, update: 3s}}");
            }
            text.push_str("---\n");
        }
        text
    })
}

fn worlds() -> impl Strategy<Value = World> {
    let logs = records::logs(Shape::Topics);
    (rules(), logs).prop_map(|(text, logs)| World { files: vec![text], emits: Vec::new(), logs })
}

/// How many levels of children some list has.
fn levels(children: Option<&[Child]>) -> usize {
    children.into_iter().flatten().map(|child| 1 + levels(child.children.as_deref())).max().unwrap_or(0)
}

fn agrees(world: &World, steps: &[Step]) -> Result<(), TestCaseError> {
    let mut drive = Drive::new(world, None, steps.len().is_multiple_of(2));
    drive.run(steps);
    let difference = difference(world, &drive, &oracle(world, &world.replaced()));
    prop_assert!(difference.is_none(), "{}", difference.unwrap_or_default());
    Ok(())
}

proptest! {
    #![proptest_config(config(192))]

    #[test]
    fn chains_give_the_oracles_bodies(world in worlds(), steps in steps()) {
        agrees(&world, &steps)?;
    }
}

/// The levels of one kind, each over the one below it.
fn tower(kind: &str, levels: usize, n: u32, condition: &str) -> String {
    let of = |at: usize| {
        let below = if at == 0 { "p".to_owned() } else { format!("c{}", at - 1) };
        format!(
            "title: Level {at}\nname: c{at}\ncorrelation:\n  type: {kind}\n  rules: [{below}]\n  group-by: [u]\n  \
             timespan: 1h\n  generate: {}\n  condition:\n    gte: {n}\n{condition}vedette:\n  emit: {{rearm: 1s}}\n",
            at.is_multiple_of(2)
        )
    };
    (0..levels).map(of).collect::<Vec<_>>().join("---\n")
}

/// Events of one user three seconds apart, so that each crosses anew.
fn apart(n: i64) -> impl Iterator<Item = (i64, Json)> {
    (0..n).map(|i| (3 * i, json!({"u": "x", "d": i})))
}

const RESTARTED: [Step; 5] =
    [Step::Read(0, 17), Step::Checkpoint(0, 1), Step::Read(0, 9), Step::Checkpoint(0, 1), Step::Kill];

#[test]
fn each_level_is_told_with_those_below() {
    let world = one_log(&tower("event_count", 3, 2, ""), apart(6));
    let outcome = oracle(&world, &[]);
    let last = outcome.last_revisions().find(|alert| &*alert.rule.title == "Level 2").unwrap();
    assert_eq!(levels(last.explanation.children.as_deref()), 2);
    let children = last.explanation.children.as_deref().unwrap();
    // The two crossings of level 1 that made it cross, each with the two of level 0 below it.
    assert_eq!((children.len(), last.explanation.children_total), (2, Some(6)));
    assert!(children.iter().all(|child| child.count == 2 && child.value == Number::Int(2)));
    let below = children.iter().flat_map(|child| child.children.as_ref().unwrap());
    assert!(below.clone().all(|child| child.children.is_none()));
    // Who raises alerts bears the id of the alert; level 0 raises none.
    assert!(below.clone().all(|child| child.alert_id.is_none()));
    assert!(children.iter().all(|child| outcome.revisions.contains_key(child.alert_id.as_deref().unwrap())));
    // Each of the four is an event of the level above, and rests on two events of its own.
    assert!(below.clone().all(|child| child.evidence.len() == 2));
    agrees(&world, &RESTARTED).unwrap();
}

/// Ten children with ten each and so on: what is beyond the bound is left out from below, and counted.
#[test]
fn a_body_lists_as_many_as_there_is_room_for() {
    for kind in ["event_count", "value_count"] {
        let condition = if kind == "value_count" { "    field: [d]\n" } else { "" };
        let world = one_log(&tower(kind, 4, 12, condition), apart(60));
        let outcome = oracle(&world, &[]);
        let last = outcome.last_revisions().filter(|alert| &*alert.rule.title == "Level 3").last().unwrap();
        assert!(last.explanation.children_total.unwrap() > 1_000);
        let text = serde_json::to_string(&last.explanation.children).unwrap();
        assert_eq!(text.matches("\"first_seen\"").count(), 128);
        assert_eq!(levels(last.explanation.children.as_deref()), 3);
        agrees(&world, &RESTARTED).unwrap();
    }
}

/// A storm of the child folds what it would say itself, and changes nothing of what its chain says.
#[test]
fn a_childs_storm_changes_nothing_of_what_its_chain_tells() {
    let child = "title: Child\nname: child\ncorrelation:\n  type: event_count\n  rules: [p]\n  group-by: [u]\n  \
                 timespan: 10s\n  condition: {gte: 1}\n  generate: true\n---\n";
    let chain = "title: Chain\nname: chain\ncorrelation:\n  type: event_count\n  rules: [child]\n  timespan: 1h\n  \
                 generate: true\n  condition: {gte: 1050}\n";
    let user = |i: i64| (i / 100, json!({"u": format!("u{i}")}));
    let world = one_log(&format!("{child}{chain}"), (0..1_100).map(user));
    let outcome = oracle(&world, &[]);
    let told = outcome.last_revisions().find(|alert| &*alert.rule.title == "Chain").unwrap();
    let ids: Vec<_> = told.explanation.children.iter().flatten().flat_map(|c| c.alert_id.clone()).collect();
    assert_eq!(ids.len(), 10);
    let known = |id: &&Arc<str>| outcome.revisions.contains_key(&***id);
    // The last five are folded: they have no alert of their own.
    assert_eq!(ids.iter().filter(known).count(), 5);
    agrees(&world, &[Step::Read(0, 500), Step::Checkpoint(0, 1), Step::Read(0, 505), Step::Kill]).unwrap();
}

/// What random worlds have of it, so that the property above is known to be about something.
#[test]
fn random_chains_have_children() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut found = [0; 4];
    for _ in 0..60 {
        let world = worlds().new_tree(&mut runner).unwrap().current();
        for alert in oracle(&world, &[]).last_revisions() {
            found[levels(alert.explanation.children.as_deref()).min(3)] += 1;
        }
    }
    assert!(found.iter().all(|n| *n > 5), "{found:?}");
}
