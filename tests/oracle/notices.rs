//! Notices against the oracle: none that no alert covers, and where events come in order none too few.
//!
//! In: random [`World`]s of several partitions, small ones and ones with thousands of events a key, random [`Step`]s and
//! budgets so small that every limit is met. Out: agreement, or a shrunk difference.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};

use proptest::{prelude::*, sample};
use serde_json::json;
use vedette_correlate::body;
use vedette_event::Alert;
use vedette_sigma::{RuleKind, RuleSet};
use vedette_store::{
    Access,
    model::{AlertRevision, NewNotice, Passed, Publication, Withdrawal},
};

use super::{
    Outcome,
    generate::{
        self, Shape, World,
        records::{self, MIDNIGHT, RawLog},
    },
    kernel::{Drive, Round, Said, Step, steps},
    property::{config, oracle},
};
use crate::crash::stored::with_store;

/// Budgets from next to nothing to plenty.
fn budgets() -> impl Strategy<Value = usize> {
    sample::select(vec![0, 8, 256 * 2, 256 * 8, 1 << 20])
}

/// The rules over whose children late events decide: what a chain counts is not monotone.
fn chains(rules: &RuleSet) -> BTreeSet<String> {
    let refers = |rule: &vedette_sigma::ir::Rule| match &rule.kind {
        RuleKind::Correlation(correlation) => {
            correlation.rules.iter().any(|child| matches!(rules.get(*child).kind, RuleKind::Correlation(_)))
        }
        RuleKind::Detection(_) => false,
    };
    rules.iter().filter(|(_, rule)| refers(rule)).map(|(_, rule)| rule.id.to_string()).collect()
}

fn key(alert: &Alert) -> String {
    serde_json::to_string(&alert.key).unwrap()
}

/// The notices of a run that no alert of the oracle covers.
fn uncovered(drive: &Drive<'_>, outcome: &Outcome) -> Vec<Said> {
    let covered = |rule: &str, of: &str, crossed_at| {
        outcome.last_revisions().any(|alert| {
            *alert.rule.id == *rule
                && key(alert) == of
                && alert.first_seen <= crossed_at
                && crossed_at <= alert.last_seen
        })
    };
    let notices = drive.said.iter().filter(|said| match said {
        Said::Notice { rule, key, crossed_at } => !covered(rule, key, *crossed_at),
        Said::Read(..) | Said::Alert { .. } | Said::Restart => false,
    });
    notices.cloned().collect()
}

/// The alerts of a run before which nothing was announced, though no other notice of their key was waiting for its alert
/// when their crossing was read.
fn unannounced<'a>(drive: &'a Drive<'_>, outcome: &'a Outcome, judged: &BTreeSet<String>) -> Vec<&'a Alert> {
    let announced = |alert: &&Alert| {
        let of = (alert.rule.id.to_string(), key(alert));
        let first = drive.said.iter().position(|said| said.is_alert(&alert.alert_id)).unwrap();
        let Some(Said::Alert { crossing, .. }) = drive.said.get(first) else { unreachable!() };
        let before = &drive.said[..first];
        if before
            .iter()
            .filter_map(|said| said.notice(&of))
            .any(|at| (alert.crossed_at..=alert.last_seen).contains(&at))
        {
            return true;
        }
        // A new process knows of no alert that came before.
        let life = before.iter().rposition(|said| matches!(said, Said::Restart)).unwrap_or(0);
        let read = before[life..].iter().position(|said| said.reads(crossing));
        let until = &before[life..][..read.unwrap_or(0)];
        let waiting = until.iter().filter_map(|said| said.notice(&of)).next_back();
        waiting.is_some_and(|at| !until.iter().filter_map(|said| said.crossing(&of)).any(|come| come >= at))
    };
    outcome.last_revisions().filter(|alert| !judged.contains(&*alert.rule.id) && !announced(alert)).collect()
}

fn judged(rules: &RuleSet) -> BTreeSet<String> {
    let judged = rules.iter().filter(|(_, rule)| match &rule.kind {
        RuleKind::Correlation(correlation) => correlation.judged(),
        RuleKind::Detection(_) => false,
    });
    judged.map(|(_, rule)| rule.id.to_string()).collect()
}

/// All that is needed to understand a failure.
fn told(world: &World, what: &str, said: &[Said]) -> String {
    let mut lines = vec![world.files.join("\n=== next file\n"), what.to_owned()];
    lines.extend(said.iter().map(|said| format!("{said:?}")));
    for log in &world.logs {
        for raw in &log.records {
            let (topic, partition) = (&log.topic, log.partition);
            lines.push(format!("{topic} {partition} {} {:?} {:?}", raw.offset, raw.ts_log, raw.payload));
        }
    }
    lines.join("\n")
}

/// The property: an alert covers every notice, of a chain at least where events come in order.
fn covered(world: &World, drive: &Drive<'_>, outcome: &Outcome, in_order: bool) -> Result<(), TestCaseError> {
    let chains = if in_order { BTreeSet::new() } else { chains(&world.rules()) };
    let mut uncovered = uncovered(drive, outcome);
    uncovered.retain(|said| !matches!(said, Said::Notice { rule, .. } if chains.contains(rule)));
    prop_assert!(uncovered.is_empty(), "{}", told(world, &format!("{uncovered:?}"), &drive.said));
    Ok(())
}

/// How a dense world is made: rules' thresholds, and for each partition its start and its events' gaps, keys and values.
type Dense = ((u64, u64, u64), Vec<(i64, usize, i64, u64)>);

fn dense() -> impl Strategy<Value = Dense> {
    let partition = (0..60_i64, 300..900_usize, 20..200_i64, any::<u64>());
    ((20..1_500_u64, 2..120_u64, 20..1_500_u64), prop::collection::vec(partition, 2..5))
}

/// Thousands of events of one key and a few of others, in partitions that lie up to a minute apart.
fn crowd(((n, values, short), partitions): &Dense) -> World {
    let rule = |name: &str, kind: &str, more: &str| {
        format!(
            "---\ntitle: {name}\nname: {name}\ncorrelation:\n  type: {kind}\n  rules: [p]\n  group-by: [u]\n{more}"
        )
    };
    let rules = [
        rule("many", "event_count", &format!("  timespan: 30s\n  condition:\n    gte: {n}\n")),
        rule(
            "values",
            "value_count",
            &format!("  timespan: 10s\n  condition:\n    gte: {values}\n    field: d\n"),
        ),
        rule(
            "short",
            "event_count",
            &format!("  timespan: 20s\n  condition:\n    gte: {short}\nvedette:\n  emit: {{rearm: 1s}}\n"),
        ),
    ];
    let base = "title: P\nname: p\nlogsource: {category: test}\n\
                detection:\n  selection:\n    k: p\n  condition: selection\n";
    let records = |(start, events, gap, seed): &(i64, usize, i64, u64)| {
        let (mut time, mut state) = (MIDNIGHT - 300_000_000 + start * 1_000_000, *seed | 1);
        let mut next = |below: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % below
        };
        let record = |offset: usize| {
            time += next(*gap as u64) as i64 * 1_000;
            let user = if next(20) == 0 { "other" } else { "busy" };
            let fields = json!({"k": "p", "u": user, "d": next(150)});
            records::plain(offset as i64, time, fields.as_object().unwrap().clone())
        };
        (0..*events).map(record).collect::<Vec<_>>()
    };
    let log = |name: &str, partition: usize, records| RawLog {
        incarnation: records::incarnation(&format!("topic-{name}")),
        topic: format!("topic-{name}"),
        source: generate::source(name),
        partition: partition as i32,
        records,
    };
    let mut logs: Vec<RawLog> =
        partitions.iter().enumerate().map(|(at, of)| log("slow", at, records(of))).collect();
    logs.extend(["quick", "typed"].map(|name| log(name, 0, Vec::new())));
    World { files: vec![format!("{base}{}", rules.concat())], emits: Vec::new(), logs }
}

/// Steps with large batches; the two empty partitions are idle from the start.
fn strides(partitions: usize) -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        12 => (0..partitions, sample::select(vec![1_usize, 20, 150, 700])).prop_map(|(p, n)| Step::Read(p, n)),
        2 => (0..partitions + 2).prop_map(|p| Step::Idle(p, 0)),
        1 => (0..3_u8, 1..4_u8).prop_map(|(from, every)| Step::Checkpoint(from, every)),
        1 => Just(Step::Kill),
    ];
    prop::collection::vec(step, 0..60)
}

proptest! {
    #![proptest_config(config(128))]

    #[test]
    fn an_alert_covers_every_notice(
        world in generate::world(Shape::Topics),
        steps in steps(),
        budget in budgets(),
    ) {
        let mut drive = Drive::announcing(&world, budget);
        drive.run(&steps);
        covered(&world, &drive, &oracle(&world, &world.replaced()), false)?;
    }

    #[test]
    fn what_comes_in_order_is_announced_before_its_alert(
        world in generate::world(Shape::Calm),
        steps in steps(),
    ) {
        let mut drive = Drive::announcing(&world, 1 << 20);
        drive.run_in_order(&steps);
        let outcome = oracle(&world, &[]);
        covered(&world, &drive, &outcome, true)?;
        let unannounced = unannounced(&drive, &outcome, &judged(&world.rules()));
        prop_assert!(unannounced.is_empty(), "{}", told(&world, &format!("{unannounced:?}"), &drive.said));
    }
}

/// What the store makes of a run that asks at every turn which notices nothing can cover any more: by rule, key and
/// time of crossing whether an alert covers each, and that alert's id.
fn stored(world: &World, drive: &Drive<'_>) -> Vec<(NewNotice, Option<String>)> {
    let rules = world.rules();
    let folder = tempfile::tempdir().unwrap();
    with_store(folder.path(), Access::Engine, async |store| {
        let mut raised: BTreeMap<String, NewNotice> = BTreeMap::new();
        for Round { notices, alerts, passed } in &drive.rounds {
            let notices = notices.iter().map(|notice| NewNotice::of(notice, Vec::new()));
            let alerts = alerts.iter().map(|p| AlertRevision::of(&p.alert, Vec::new(), p.covers_until));
            let passed = passed.iter().map(|(ix, below)| {
                let settled = below.minus(body::update(rules.get(*ix)));
                let (rule_id, reason) = (rules.get(*ix).id.to_string(), Withdrawal::Uncovered);
                Passed { rule_id, below: *below, settled, reason }
            });
            let publication = Publication {
                notices: notices.collect::<Result<_, _>>()?,
                alerts: alerts.collect::<Result<_, _>>()?,
                passed: passed.collect(),
                ..Publication::default()
            };
            raised.extend(publication.notices.iter().map(|n| (n.notice_id.clone(), n.clone())));
            store.publish(&publication).await?;
        }
        anyhow::ensure!(store.waiting_notices().await?.is_empty(), "notices wait for ever");
        let mut all = Vec::new();
        for (id, notice) in raised {
            // One that found its alert there, or another notice of its key waiting, was never stored.
            let Some(row) = store.alert(&id).await? else { continue };
            anyhow::ensure!(
                row.id != id || row.withdrawn.is_some(),
                "neither covered nor withdrawn: {row:?}"
            );
            all.push((notice, (row.id != id).then_some(row.id)));
        }
        Ok(all)
    })
    .unwrap()
}

proptest! {
    #![proptest_config(config(16))]

    #[test]
    fn a_stored_notice_is_covered_by_the_alert_of_its_episode_or_withdrawn(
        world in generate::world(Shape::Topics),
        steps in steps(),
        budget in budgets(),
    ) {
        let mut drive = Drive::announcing(&world, budget);
        drive.run(&steps);
        let (outcome, chains) = (oracle(&world, &world.replaced()), chains(&world.rules()));
        for (notice, by) in stored(&world, &drive) {
            let of = by.as_ref().and_then(|id| outcome.revisions.get(id)?.last());
            let takes_in = of.is_some_and(|alert| {
                (alert.first_seen..=alert.last_seen).contains(&notice.crossed_at)
            });
            // That a child crosses can be proved wrong by records that come late: the alert that was open then covers it.
            let open = of.is_some_and(|alert| alert.first_seen <= notice.crossed_at);
            let fine = takes_in || (chains.contains(&notice.rule_id) && (by.is_none() || open));
            prop_assert!(fine, "{}", told(&world, &format!("{notice:?} {by:?} {of:?}"), &drive.said));
        }
    }
}

proptest! {
    #![proptest_config(config(12))]

    #[test]
    fn an_alert_covers_every_notice_of_a_busy_key(
        (dense, steps) in dense().prop_flat_map(|dense| { let n = dense.1.len(); (Just(dense), strides(n)) }),
        budget in sample::select(vec![256 * 8, 256 * 200, 1 << 20]),
    ) {
        let world = crowd(&dense);
        let mut drive = Drive::announcing(&world, budget);
        drive.run(&steps);
        covered(&world, &drive, &oracle(&world, &[]), false)?;
    }
}
