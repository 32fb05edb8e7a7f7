//! What rules cost: each is timed alone on samples of what is read.
//!
//! In: now and then a batch that was just evaluated, with the version of the rules that did so. Out: for each rule and source how long an event
//! takes it.
//! Invariants: nothing waits for it (a sample that comes while one is at work is dropped), and it works for [`AT_ONCE`] a sample, of
//! which there are at most one in [`EVERY`], so for a hundredth of a core; it changes nothing that is found.
//!
//! Alone, because rules share nearly all of their work (one look at a field serves all of them), so that there is no part of the time of all of
//! them which is one rule's own. What a rule takes alone is what somebody can act on: it is high where its conditions are dear, and the
//! same whoever else is there.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use anyhow::Result;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use vedette_engine::Version;
use vedette_event::{EventBatch, RuleIx, SourceIx};

use super::supervisor::Stage;

/// Time between two samples, at least.
const EVERY: Duration = Duration::from_millis(500);
/// How long rules are timed on one sample, and one rule more.
const AT_ONCE: Duration = Duration::from_millis(5);
/// How often it looks whether it is to stop.
const LOOK: Duration = Duration::from_millis(200);

/// A batch to time rules on.
struct Sample {
    version: Arc<Version>,
    source: SourceIx,
    events: EventBatch,
}

/// The kernel's end: gives samples, and asks what they showed.
pub struct Costs {
    samples: Sender<Sample>,
    next: Instant,
    timed: Arc<Timed>,
}

/// The other end: to be run on a thread of its own.
pub struct Timer {
    samples: Receiver<Sample>,
    timed: Arc<Timed>,
    /// By source: the rule whose turn it is.
    turn: HashMap<SourceIx, usize>,
    /// The version whose rules are known.
    version: Option<Arc<Version>>,
}

/// By rule: by the name of a source, what was measured.
#[derive(Default)]
struct Timed(Mutex<HashMap<String, HashMap<Arc<str>, Measured>>>);

#[derive(Debug, Default, Clone, Copy)]
struct Measured {
    time: Duration,
    events: u64,
}

/// Both ends.
pub fn timing() -> (Costs, Timer) {
    let (samples, taken) = bounded(1);
    let timed = Arc::<Timed>::default();
    let timer = Timer { samples: taken, timed: timed.clone(), turn: HashMap::new(), version: None };
    (Costs { samples, next: Instant::now(), timed }, timer)
}

impl Costs {
    /// Gives a batch away if it is time for one.
    pub fn offer(&mut self, version: &Arc<Version>, source: SourceIx, events: &EventBatch) {
        let now = Instant::now();
        if now < self.next || events.rows() == 0 {
            return;
        }
        self.next = now + EVERY;
        // One that comes while another is at work is one of many.
        let _ = self.samples.try_send(Sample { version: version.clone(), source, events: events.clone() });
    }

    /// How long so many events of sources took a rule; `None` if that was not measured of one of them.
    pub fn of<'a>(&self, rule: &str, events: impl IntoIterator<Item = (&'a str, u64)>) -> Option<Duration> {
        let timed = self.timed.lock();
        let of_rule = timed.get(rule)?;
        let of_source = |(source, events): (&str, u64)| {
            let Measured { time, events: measured } = of_rule.get(source)?;
            Some(time.mul_f64(events as f64 / (*measured).max(1) as f64))
        };
        events.into_iter().filter(|(_, events)| *events > 0).map(of_source).sum()
    }
}

impl Timer {
    /// Times rules until there is nobody to give samples.
    ///
    /// # Errors
    /// Never.
    pub fn run(mut self, stage: &Stage) -> Result<()> {
        while !stage.stopping() {
            stage.rests();
            match self.samples.recv_timeout(LOOK) {
                Ok(sample) => {
                    stage.works();
                    self.time(&sample, AT_ONCE);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        Ok(())
    }

    /// Times the rules whose turn it is, at least one, until the time is over or all had their turn.
    fn time(&mut self, Sample { version, source, events }: &Sample, at_once: Duration) {
        if self.version.as_ref().is_none_or(|known| !Arc::ptr_eq(known, version)) {
            self.version = Some(version.clone());
            let ids: HashSet<&str> = version.rules.rules.iter().map(|rule| &*rule.id).collect();
            self.timed.lock().retain(|id, _| ids.contains(&**id));
        }
        let name: Arc<str> = version.sources.get(*source).name.clone();
        let (rules, turn) = (version.rules.rules.len(), self.turn.entry(*source).or_default());
        let end = Instant::now() + at_once;
        for _ in 0..rules {
            let rule = RuleIx((*turn % rules) as u32);
            *turn = (*turn + 1) % rules;
            let Some(mut evaluator) = version.alone(rule, *source) else { continue };
            let mut hits = Vec::new();
            // What is compiled at the first event is no cost of events.
            evaluator.evaluate(&events.slice(0, 1), &mut hits);
            let start = Instant::now();
            evaluator.evaluate(events, &mut hits);
            let took = start.elapsed();
            let mut timed = self.timed.lock();
            let of_rule = timed.entry(version.rules.get(rule).id.to_string()).or_default();
            let measured = of_rule.entry(name.clone()).or_default();
            measured.time += took;
            measured.events += events.rows() as u64;
            if Instant::now() >= end {
                break;
            }
        }
    }
}

impl Timed {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, HashMap<Arc<str>, Measured>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use vedette_engine::Compiled;

    use super::*;
    use crate::pipeline::tests::{batch, compiled};

    const JSON: SourceIx = SourceIx(0);

    fn events(compiled: &Arc<Compiled>, records: usize) -> EventBatch {
        let records: Vec<String> = (0..records).map(|a| format!(r#"{{"a": {a}, "b": "xyxy"}}"#)).collect();
        let detected = compiled.detector().unwrap().detect(&batch(0, 0, &records));
        detected.batches[0].events.clone()
    }

    fn sample(compiled: &Arc<Compiled>, records: usize) -> Sample {
        Sample { version: compiled.versions()[0].clone(), source: JSON, events: events(compiled, records) }
    }

    fn measured(costs: &Costs) -> Vec<(String, u64)> {
        let timed = costs.timed.lock();
        let mut all: Vec<_> = timed.iter().map(|(id, of)| (id.clone(), of["json"].events)).collect();
        all.sort();
        all
    }

    #[test]
    fn rules_take_turns_and_all_of_them_where_there_is_time() {
        let compiled = compiled();
        let (costs, mut timer) = timing();
        timer.time(&sample(&compiled, 20), Duration::ZERO);
        assert_eq!(measured(&costs), [("seven".to_owned(), 20)], "one, though there is no time");
        timer.time(&sample(&compiled, 20), Duration::ZERO);
        assert_eq!(measured(&costs), [("long".to_owned(), 20), ("seven".to_owned(), 20)]);
        timer.time(&sample(&compiled, 5), Duration::from_secs(60));
        assert_eq!(measured(&costs), [("long".to_owned(), 25), ("seven".to_owned(), 25)], "each once");
    }

    #[test]
    fn what_was_not_measured_is_not_known() {
        let compiled = compiled();
        let (costs, mut timer) = timing();
        assert_eq!(costs.of("seven", [("json", 7)]), None);
        timer.time(&sample(&compiled, 20), Duration::from_secs(60));
        let measured = costs.timed.lock()["seven"]["json"];
        assert_eq!(costs.of("seven", [("json", 40), ("other", 0)]), Some(measured.time * 2));
        assert_eq!(costs.of("seven", [("json", 40), ("other", 1)]), None, "nobody timed it there");
    }

    #[test]
    fn a_sample_that_comes_too_early_or_while_another_waits_is_dropped() {
        let compiled = compiled();
        let (version, events) = (&compiled.versions()[0], events(&compiled, 3));
        let (mut costs, timer) = timing();
        let mut offered = |due| {
            costs.next = due;
            costs.offer(version, JSON, &events);
            timer.samples.len()
        };
        let now = Instant::now();
        assert_eq!(offered(now + EVERY), 0);
        assert_eq!(offered(now), 1);
        assert_eq!(offered(now), 1);
    }

    #[test]
    fn rules_that_are_no_longer_there_are_forgotten() {
        let compiled = compiled();
        let (costs, mut timer) = timing();
        costs.timed.lock().entry("gone".to_owned()).or_default().entry("json".into()).or_default();
        timer.time(&sample(&compiled, 1), Duration::ZERO);
        assert_eq!(measured(&costs), [("seven".to_owned(), 1)]);
    }
}
