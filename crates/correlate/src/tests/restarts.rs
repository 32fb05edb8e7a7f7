//! The same bodies whatever the batches, the interleaving, the watermarks and the restarts; no bytes make a restore panic.

use std::collections::BTreeMap;

use proptest::prelude::*;
use vedette_event::{Flags, Kind, Micros, Partition, RuleIx, TopicIx};
use vedette_sigma::ir::{Cmp, CorrelationKind::*, Extras, Rule, RuleKind};

use super::harness::*;
use crate::{Correlated, Correlator, Error, GROUPS};

/// Everything there is, in one rule set.
pub fn everything() -> World {
    let quick = |rule| Rule {
        extras: Extras { rearm: Some(span("7s")), update: Some(span("3s")), ..Extras::default() },
        ..rule
    };
    let mut alias = correlation("alias", Temporal, &[0, 1], &["who"], "20s", &[(Cmp::Gte, 2)]);
    let RuleKind::Correlation(inner) = &mut alias.kind else { unreachable!() };
    inner.group_by[0].fields = vec![(RuleIx(0), "user".into()), (RuleIx(1), "host".into())];
    world(vec![
        quick(single("fw-a", true)),
        single("b", false),
        single("c", true),
        correlation("count", EventCount, &[0, 1], &["user"], "10s", &[(Cmp::Gte, 4)]),
        quick(correlation("pairs", EventCount, &[0], &["user", "host"], "30s", &[(Cmp::Gt, 1)])),
        correlation("values", ValueCount(vec!["port".into()]), &[0, 2], &["host"], "10s", &[(Cmp::Gte, 3)]),
        quick(correlation("any", Temporal, &[0, 1, 2], &["user"], "10s", &[(Cmp::Gte, 2)])),
        correlation("order", TemporalOrdered, &[0, 1, 2], &["user"], "20s", &[]),
        correlation("judged", EventCount, &[1], &["user"], "9s", &[(Cmp::Lte, 2)]),
        correlation(
            "range",
            ValueCount(vec!["port".into()]),
            &[0, 1, 2],
            &[],
            "15s",
            &[(Cmp::Gt, 1), (Cmp::Neq, 4)],
        ),
        quick(correlation("chain", EventCount, &[6, 4], &["user"], "40s", &[(Cmp::Gte, 2)])),
        quick(correlation("wide", Temporal, &[10, 2], &["host"], "40s", &[(Cmp::Gte, 2)])),
        alias,
    ])
}

fn event() -> impl Strategy<Value = Ev> {
    let fields = (0..4_u8, 0..4_u8, 0..6_u8, 0..3_u8);
    let step = prop_oneof![4 => 0..3_i64, 1 => 5..15_i64];
    (0..3_u16, 0..2_i32, -3..=0_i64, step, fields, 1..8_u8, 0..8_u16).prop_map(
        |(source, partition, back, step, (user, host, port, repeat), rules, flags)| {
            let mut fields = Vec::new();
            if user > 0 {
                fields.push(("user", Kind::Text, format!("u{user}")));
            }
            if host > 0 {
                fields.push(("host", Kind::Text, format!("u{host}")));
            }
            fields.push(("port", Kind::Int, port.to_string()));
            if repeat > 0 {
                fields.push(("repeat", Kind::Int, repeat.to_string()));
            }
            let rules = (0..3_u32).filter(|bit| rules & (1 << bit) != 0);
            Ev {
                source,
                partition,
                offset: step,
                time: Micros(back),
                flags: Flags(if flags == 0 { 4 } else { 0 }),
                fields,
                // Rule 0 concerns the firewall only.
                rules: rules.filter(|rule| *rule != 0 || source != 0).collect(),
            }
        },
    )
}

/// A log: about the turn of a day, offsets rising in each partition, times nearly so.
pub fn log() -> impl Strategy<Value = Vec<Ev>> {
    prop::collection::vec(event(), 1..120).prop_map(|mut events| {
        let mut now = 12 * 3600 - 60;
        for (at, event) in events.iter_mut().enumerate() {
            now += event.offset;
            event.time = secs(now + event.time.0);
            event.offset = at as i64 * 2;
        }
        events.retain(|event| !event.rules.is_empty());
        events
    })
}

pub type Bodies = BTreeMap<(String, u32), String>;

fn collect(out: &mut Correlated, into: &mut Bodies) -> Result<(), TestCaseError> {
    for published in out.alerts.drain(..) {
        let body = serde_json::to_string(&published.alert).unwrap();
        let key = (published.alert.alert_id.to_string(), published.alert.revision);
        if let Some(before) = into.insert(key, body.clone()) {
            prop_assert_eq!(before, body);
        }
    }
    Ok(())
}

pub fn baseline(world: &World, log: &[Ev]) -> Bodies {
    let (mut out, mut bodies) = (world.run(log), Bodies::new());
    collect(&mut out, &mut bodies).unwrap();
    bodies
}

/// What a checkpoint needs beside its bytes.
#[derive(Clone)]
struct Saved {
    bytes: Vec<u8>,
    resume: BTreeMap<Partition, i64>,
}

/// A run of the log: partitions read in any order, with checkpoints and crashes.
struct Run<'a> {
    world: &'a World,
    /// By partition, in order of offset.
    partitions: Vec<Vec<Ev>>,
    read: Vec<usize>,
    correlator: Correlator,
    out: Correlated,
    bodies: Bodies,
    saved: Vec<Option<Saved>>,
}

impl<'a> Run<'a> {
    fn new(world: &'a World, log: &[Ev]) -> Self {
        let mut partitions: BTreeMap<(u16, i32), Vec<Ev>> = BTreeMap::new();
        for event in log {
            partitions.entry((event.source, event.partition)).or_default().push(event.clone());
        }
        let partitions: Vec<_> = partitions.into_values().collect();
        Self {
            read: vec![0; partitions.len()],
            partitions,
            correlator: world.correlator(),
            out: Correlated::default(),
            bodies: Bodies::new(),
            saved: vec![None; usize::from(GROUPS)],
            world,
        }
    }

    fn push(&mut self, at: usize, n: usize) {
        let Some(at) = at.checked_rem(self.partitions.len()) else { return };
        let (from, all) = (self.read[at], &self.partitions[at]);
        let to = all.len().min(from + n);
        push(&mut self.correlator, &all[from..to], &mut self.out);
        self.read[at] = to;
    }

    /// A source's watermark: nothing unread lies below it. `most`: of so many more alerts it stops.
    fn release(&mut self, most: usize) {
        let mut marks = [secs(1_000_000); 3];
        for (events, read) in self.partitions.iter().zip(&self.read) {
            for event in &events[*read..] {
                let mark = &mut marks[usize::from(event.source)];
                *mark = event.time.min(*mark);
            }
        }
        // At the end of everything it stands still.
        let top = self.partitions.iter().flatten().map(|event| event.time).max().unwrap_or_default();
        let most = self.out.alerts.len().saturating_add(most);
        self.correlator.release(&marks.map(|mark| mark.min(top)), most, &mut self.out);
    }

    fn checkpoint(&mut self, group: u8) -> Result<(), TestCaseError> {
        // Published first.
        collect(&mut self.out, &mut self.bodies)?;
        let mut resume: BTreeMap<Partition, i64> = BTreeMap::new();
        for ((partition, _), offset) in self.correlator.unreleased(group) {
            resume.entry(partition).and_modify(|low| *low = offset.min(*low)).or_insert(offset);
        }
        for (events, read) in self.partitions.iter().zip(&self.read) {
            let first = events.first().unwrap();
            let partition = Partition { topic: TopicIx(first.source), number: first.partition };
            let next = events.get(*read).map_or(i64::MAX, |event| event.offset);
            let lowest = resume.entry(partition).or_insert(next);
            prop_assert!(*lowest <= next);
        }
        self.saved[usize::from(group)] = Some(Saved { bytes: self.correlator.checkpoint(group), resume });
        Ok(())
    }

    fn crash(&mut self) {
        self.out = Correlated::default();
        self.correlator = self.world.correlator();
        for (at, events) in self.partitions.iter().enumerate() {
            let first = events.first().unwrap();
            let partition = Partition { topic: TopicIx(first.source), number: first.partition };
            let resume = self
                .saved
                .iter()
                .map(|saved| saved.as_ref().map_or(i64::MIN, |saved| saved.resume[&partition]));
            let resume = resume.min().unwrap_or(i64::MIN);
            self.read[at] = events.partition_point(|event| event.offset < resume);
        }
        for (group, saved) in self.saved.iter().enumerate() {
            if let Some(saved) = saved {
                self.correlator.restore(group as u8, &saved.bytes).unwrap();
            }
        }
    }

    fn finish(mut self) -> Result<Bodies, TestCaseError> {
        for at in 0..self.partitions.len() {
            self.push(at, usize::MAX / 2);
        }
        self.correlator.finish(&mut self.out);
        collect(&mut self.out, &mut self.bodies)?;
        Ok(self.bodies)
    }
}

#[derive(Debug, Clone)]
pub enum Op {
    Push(usize, usize),
    Release(usize),
    Checkpoint(u8, u8),
    Crash,
}

pub fn ops(crashes: bool) -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        6 => (0..8_usize, 1..20_usize).prop_map(|(at, n)| Op::Push(at, n)),
        3 => prop_oneof![Just(usize::MAX), 1..4_usize].prop_map(Op::Release),
        2 => (0..GROUPS, 1..=GROUPS).prop_map(|(from, n)| Op::Checkpoint(from, n)),
        1 => Just(if crashes { Op::Crash } else { Op::Release(usize::MAX) }),
    ];
    prop::collection::vec(op, 0..60)
}

pub fn play(world: &World, log: &[Ev], ops: &[Op]) -> Result<Bodies, TestCaseError> {
    let mut run = Run::new(world, log);
    for op in ops {
        match op {
            Op::Push(at, n) => run.push(*at, *n),
            Op::Release(most) => run.release(*most),
            Op::Checkpoint(from, n) => {
                for group in 0..*n {
                    run.checkpoint((from + group) % GROUPS)?;
                }
            }
            Op::Crash => run.crash(),
        }
    }
    run.finish()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn batches_and_interleaving_change_nothing(log in log(), ops in ops(false)) {
        let world = everything();
        prop_assert_eq!(play(&world, &log, &ops)?, baseline(&world, &log));
    }

    #[test]
    fn restarts_change_nothing(log in log(), ops in ops(true)) {
        let world = everything();
        prop_assert_eq!(play(&world, &log, &ops)?, baseline(&world, &log));
    }

    #[test]
    fn no_bytes_make_a_restore_panic(log in log(), edits in prop::collection::vec((any::<u16>(), any::<u8>()), 1..6), cut in 0..40_usize) {
        let world = everything();
        let (mut run, mut all) = (Run::new(&world, &log), Vec::new());
        for at in 0..8 {
            run.push(at, 10);
        }
        run.release(usize::MAX);
        for group in 0..GROUPS {
            all.push(run.correlator.checkpoint(group));
        }
        for (group, bytes) in all.iter().enumerate() {
            let mut bytes = bytes.clone();
            for (at, byte) in &edits {
                let at = 14 + usize::from(*at) % (bytes.len() - 14);
                bytes[at] = *byte;
            }
            bytes.truncate(bytes.len().saturating_sub(16 + cut));
            // Sealed again, as if the writer had gone wrong: what is inside must still be read with care.
            let mut correlator = world.correlator();
            let seal = correlator.seal(&bytes);
            bytes.extend(seal);
            let mut out = Correlated::default();
            if correlator.restore(group as u8, &bytes).is_ok() {
                for event in &log {
                    push(&mut correlator, std::slice::from_ref(event), &mut out);
                }
                correlator.finish(&mut out);
            }
        }
    }
}

/// Sixteen hundred users, two a second: a sliding rule, one with many revisions and a judged one.
fn stormy() -> (World, Vec<Ev>) {
    let quick = Extras { rearm: Some(span("7s")), update: Some(span("3s")), ..Extras::default() };
    let world = world(vec![
        single("s", true),
        Rule { extras: quick, ..correlation("c", EventCount, &[0], &["user"], "5s", &[(Cmp::Gte, 1)]) },
        correlation("few", EventCount, &[0], &["user"], "9m", &[(Cmp::Lte, 2)]),
    ]);
    let event = |n: i64| {
        let user = format!("u{}", n % 1_600);
        Ev { partition: (n % 2) as i32, offset: n, ..ev(n / 2, &[0], &[("user", &user)]) }
    };
    (world, (0..1_800).map(event).collect())
}

#[test]
fn storms_survive_restarts_of_groups_at_different_watermarks() {
    let (world, log) = stormy();
    let expected = baseline(&world, &log);
    let storms = expected.values().filter(|body| body.contains("more episode"));
    assert!(storms.clone().count() > 30, "{}", storms.count());
    // How much is read and let through at once, every how many of these a checkpoint, after which of them a crash.
    for (each, every, crashes) in
        [(5, 1, vec![40, 101, 110, 159]), (37, 1, vec![14, 15, 20]), (400, 3, vec![1, 2])]
    {
        for crash in crashes {
            let mut run = Run::new(&world, &log);
            for step in 0..log.len() / 2 / each + 1 {
                run.push(0, each);
                run.push(1, each);
                run.release([usize::MAX, 1 + step % 7, 40][step % 3]);
                for group in 0..(each as u8).min(GROUPS) {
                    if step % every == 0 {
                        run.checkpoint((step as u8).wrapping_mul(7).wrapping_add(group) % 64).unwrap();
                    }
                }
                if step == crash {
                    run.crash();
                }
            }
            let bodies = run.finish().unwrap();
            assert!(bodies == expected, "crash at {crash} of {each}");
        }
    }
}

#[test]
fn other_secrets_layouts_and_damage_are_told_apart() {
    let world = everything();
    let bytes = world.correlator().checkpoint(3);
    assert_eq!(world.correlator().restore(3, &bytes), Ok(()));
    assert!(matches!(world.correlator().restore(4, &bytes), Err(Error::Damaged(_))));
    assert!(matches!(world.correlator().restore(3, b""), Err(Error::Damaged(_))));
    let mut other = bytes.clone();
    other[4] = 9;
    assert!(matches!(world.correlator().restore(3, &other), Err(Error::Foreign(_))));
    let mut other = bytes.clone();
    other[6] ^= 1;
    assert!(matches!(world.correlator().restore(3, &other), Err(Error::Foreign(_))));
    let mut other = bytes;
    *other.last_mut().unwrap() ^= 1;
    assert!(matches!(world.correlator().restore(3, &other), Err(Error::Damaged(_))));
}

#[test]
fn unchanged_rules_keep_their_state_when_others_change() {
    let rule = || correlation("c", EventCount, &[0], &["user"], "1m", &[(Cmp::Gte, 2)]);
    let before = world(vec![detection("d"), rule(), single("old", true)]);
    let after = world(vec![detection("d"), single("new", true), rule()]);
    let (mut correlator, mut out) = (before.correlator(), Correlated::default());
    push(&mut correlator, &[ev(0, &[0], &[("user", "u")])], &mut out);
    correlator.release(&[secs(10); 3], usize::MAX, &mut out);
    let mut next = after.correlator();
    for group in 0..GROUPS {
        next.restore(group, &correlator.checkpoint(group)).unwrap();
    }
    push(&mut next, &[ev(0, &[0], &[("user", "u")]), ev(20, &[0], &[("user", "u")])], &mut out);
    next.finish(&mut out);
    let alerts = last(&out);
    assert_eq!(alerts.iter().map(|a| a.count).collect::<Vec<_>>(), [2]);
}

/// What a storm said last is known to a restart also where another group's checkpoint is the newest.
#[test]
fn a_storm_of_one_group_goes_on_where_the_newest_checkpoint_left_it() {
    let quick = Extras { rearm: Some(span("7s")), update: Some(span("3s")), ..Extras::default() };
    let world = world(vec![Rule { extras: quick, ..single("s", true) }]);
    // Events without an entity all lie in one group.
    let log: Vec<Ev> = (0..2_400).map(|n| Ev { offset: n, ..ev(n, &[0], &[("host", "h")]) }).collect();
    let expected = baseline(&world, &log);
    let mut run = Run::new(&world, &log);
    run.push(0, 1_200);
    run.release(usize::MAX);
    (0..GROUPS).for_each(|group| run.checkpoint(group).unwrap());
    let size = |group: &u8| run.saved[usize::from(*group)].as_ref().map_or(0, |saved| saved.bytes.len());
    let busy = (0..GROUPS).max_by_key(size).unwrap();
    run.push(0, 300);
    run.release(usize::MAX);
    (0..GROUPS).filter(|group| *group != busy).for_each(|group| run.checkpoint(group).unwrap());
    run.crash();
    assert!(run.finish().unwrap() == expected);
}

/// Two releases of the same log: second by second, and in one step up to some second.
fn agree_however_far_a_release_goes(world: &World, log: &[Ev], far: i64) {
    let run = |marks: &[i64]| {
        let (mut correlator, mut out, mut bodies) =
            (world.correlator(), Correlated::default(), Bodies::new());
        let mut at = 0;
        for mark in marks {
            let to = log.partition_point(|event| event.time < secs(*mark));
            push(&mut correlator, &log[at..to], &mut out);
            at = to;
            correlator.release(&[secs(*mark); 3], usize::MAX, &mut out);
            collect(&mut out, &mut bodies).unwrap();
        }
        push(&mut correlator, &log[at..], &mut out);
        correlator.finish(&mut out);
        collect(&mut out, &mut bodies).unwrap();
        bodies
    };
    let fine: Vec<i64> = (far - 35..far + 25).collect();
    let (fine, coarse) = (run(&fine), run(&[far]));
    assert!(fine == coarse, "{} revisions or {}", fine.len(), coarse.len());
}

/// A release goes over the end of an hour in which a storm began: what it folds are those episodes and no later ones.
#[test]
fn only_the_episodes_of_a_storm_s_hour_fall_silent() {
    let quick = |update| Extras { rearm: Some(span("2s")), update: Some(span(update)), ..Extras::default() };
    // By others: states of keys that are forgotten give their places away.
    let world_of_others = world(vec![Rule { extras: quick("1s"), ..single("s", true) }]);
    let before = |n: i64| Ev { offset: n, ..ev(3_570 + n / 550, &[0], &[("user", &format!("u{n}"))]) };
    let mut log: Vec<Ev> = (0..1_100).map(before).collect();
    for (time, n) in (3_601..3_608).flat_map(|time| (0..980).map(move |n| (time, n))) {
        let offset = log.len() as i64;
        log.push(Ev { offset, ..ev(time, &[0], &[("user", &format!("v{n}"))]) });
    }
    agree_however_far_a_release_goes(&world_of_others, &log, 3_605);

    // By the same keys again.
    let rule = correlation("c", EventCount, &[0], &["user"], "1h", &[(Cmp::Gte, 1)]);
    let world_of_the_same = world(vec![detection("d"), Rule { extras: quick("1s"), ..rule }]);
    let before = |n: i64| Ev { offset: n, ..ev(3_590 + n / 550, &[0], &[("user", &format!("u{n}"))]) };
    let mut log: Vec<Ev> = (0..1_100).map(before).collect();
    for (time, n) in (3_601..3_608).flat_map(|time| (900..1_100).map(move |n| (time, n))) {
        let offset = log.len() as i64;
        log.push(Ev { offset, ..ev(time, &[0], &[("user", &format!("u{n}"))]) });
    }
    agree_however_far_a_release_goes(&world_of_the_same, &log, 3_605);
}
