//! Decode, detect, route: the stateless half of the kernel.
//!
//! In: [`RawBatch`]. Out: [`Detected`]: events as columns with their hits and where these go, and dead letters.
//! Invariants: nothing depends on earlier batches, so any thread may take any batch; a record that is too dear is a dead
//! letter before any rule looks at it, one that panics is retried alone and becomes one, and the others are evaluated as
//! if it were not there; between two signs of life lies a bounded number of steps, whatever the records.

use std::{
    collections::{BTreeMap, BTreeSet},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use vedette_correlate::{Routed, Router};
use vedette_decode::Decoder;
use vedette_detect::{
    Evaluator,
    work::{BUDGET, TooDear},
};
use vedette_event::{
    DeadLetter, DeadReason, EventBatch, Flags, Hit, Micros, Partition, RawBatch, SourceIx, raw::record_hash,
};
use vedette_sigma::RuleSet;

use crate::{compiled::Compiled, error::Error, version::Version};

/// Decoders and evaluators of all sources, for one thread.
pub struct Detector {
    compiled: Arc<Compiled>,
    /// By version, by source.
    versions: Vec<BySource>,
    /// None if nobody correlates what is found.
    router: Option<Router>,
}

type BySource = Vec<(Decoder, Evaluator)>;

/// One raw batch, evaluated.
#[derive(Debug)]
pub struct Detected {
    /// The source.
    pub source: SourceIx,
    /// The partition.
    pub partition: Partition,
    /// Offset and broker time of every record, dead letters included.
    pub records: Vec<RecordTime>,
    /// Its events.
    pub batches: Vec<DetectedBatch>,
    /// Its dead letters.
    pub dead: Vec<DeadLetter>,
    /// The hash of the last record ([`record_hash`]).
    pub last_hash: [u8; 32],
}

/// What placement needs of a record.
#[derive(Debug, Clone, Copy)]
pub struct RecordTime {
    /// Its offset.
    pub offset: i64,
    /// Its broker time; `None` in plain files.
    pub ts_log: Option<Micros>,
    /// `CLOCK_BROKER`, or nothing.
    pub flags: Flags,
    /// How long it is.
    pub bytes: u32,
}

/// Events with the rules they matched.
#[derive(Debug)]
pub struct DetectedBatch {
    /// The events.
    pub events: EventBatch,
    /// The version in force that evaluated them.
    pub version: usize,
    /// Sorted by row, then rule.
    pub hits: Vec<Hit>,
    /// Where these go, by the plan of the versions that they were evaluated by.
    pub routed: Routed,
}

impl Detector {
    pub(crate) fn new(compiled: Arc<Compiled>) -> Result<Self, Error> {
        let versions = compiled.versions().iter().map(|version| by_source(version, compiled.secret()));
        Ok(Self { versions: versions.collect::<Result<_, _>>()?, router: compiled.router(), compiled })
    }

    /// Goes on with other versions; what it knows of those that stay, it keeps.
    ///
    /// # Errors
    /// If a source's definition cannot be decoded; then it goes on as before.
    pub fn adopt(&mut self, compiled: &Arc<Compiled>) -> Result<(), Error> {
        if Arc::ptr_eq(compiled, &self.compiled) {
            return Ok(());
        }
        // All that can fail first.
        let fresh = compiled.versions().iter().map(|version| {
            let known = self.compiled.versions().iter().position(|known| Arc::ptr_eq(known, version));
            known.map_or_else(|| by_source(version, compiled.secret()).map(Err), |at| Ok(Ok(at)))
        });
        let fresh: Vec<Result<usize, BySource>> = fresh.collect::<Result<_, Error>>()?;
        let mut known: Vec<Option<BySource>> =
            std::mem::take(&mut self.versions).into_iter().map(Some).collect();
        let mut kept = |at: usize| known.get_mut(at).and_then(Option::take).unwrap_or_default();
        self.versions =
            fresh.into_iter().map(|sources| sources.map_or_else(|fresh| fresh, &mut kept)).collect();
        (self.compiled, self.router) = (compiled.clone(), compiled.router());
        Ok(())
    }

    /// Decodes and evaluates one batch.
    pub fn detect(&mut self, raw: &RawBatch) -> Detected {
        self.detect_in_parts(raw, &mut || ())
    }

    /// The same; calls `moved` after each part of it that takes no more than a bounded number of steps
    /// ([`vedette_detect::work::PART`], or a single record).
    pub fn detect_in_parts(&mut self, raw: &RawBatch, moved: &mut dyn FnMut()) -> Detected {
        self.detect_after(raw, None, moved)
    }

    /// The same of records before which the highest `ts_log` of their partition was this.
    pub fn detect_after(
        &mut self,
        raw: &RawBatch,
        before: Option<Micros>,
        moved: &mut dyn FnMut(),
    ) -> Detected {
        let mut detected = Detected {
            source: raw.source,
            partition: raw.partition,
            records: raw
                .records
                .iter()
                .map(|r| RecordTime {
                    offset: r.offset,
                    ts_log: r.ts_log,
                    flags: r.flags,
                    bytes: r.len.unwrap_or(0),
                })
                .collect(),
            batches: Vec::new(),
            dead: Vec::new(),
            last_hash: last_hash(raw),
        };
        match &self.compiled.split(raw, before)[..] {
            [(version, _)] => self.evaluate(*version, raw, &mut detected, moved),
            parts => {
                let mut start = 0;
                for (version, records) in parts.iter().copied() {
                    let records: Vec<usize> = (start..start + records).collect();
                    start += records.len();
                    let (batches, part) = (detected.batches.len(), part_of(raw, &records));
                    self.evaluate(version, &part, &mut detected, moved);
                    rebase(&mut detected.batches[batches..], &records);
                }
            }
        }
        detected
    }

    /// Evaluates records by one version.
    fn evaluate(&mut self, version: usize, raw: &RawBatch, detected: &mut Detected, moved: &mut dyn FnMut()) {
        let dead = detected.dead.len();
        match self.attempt(version, raw, detected, moved) {
            Ok(()) => return,
            Err(Broken::Panicked) => self.attempt_each(version, raw, 0..raw.records.len(), detected, moved),
            Err(Broken::TooDear(dear)) => self.attempt_others(version, raw, dear, detected, moved),
        }
        detected.dead[dead..].sort_by_key(|letter| letter.offset);
    }

    /// Evaluates the batch as a whole, or says why it cannot be, with nothing added.
    fn attempt(
        &mut self,
        version: usize,
        raw: &RawBatch,
        detected: &mut Detected,
        moved: &mut dyn FnMut(),
    ) -> Result<(), Broken> {
        let (decoder, evaluator) = &mut self.versions[version][usize::from(raw.source.0)];
        let (compiled, router) = (&self.compiled, &mut self.router);
        let rules = &compiled.versions()[version].rules;
        let result = catch_unwind(AssertUnwindSafe(|| {
            #[cfg(test)]
            tests::panic_at_poison(raw);
            let (mut events, mut dead) = (Vec::new(), Vec::new());
            decoder.decode(raw, &mut events, &mut dead);
            let dear: BTreeMap<usize, Arc<str>> = events
                .iter()
                .flat_map(|events| evaluator.too_dear(events).into_iter().map(move |event| (events, event)))
                .map(|(events, event)| (events.records[event.row as usize] as usize, price(rules, &event)))
                .collect();
            if !dear.is_empty() {
                return Err(dear);
            }
            let evaluate = |events| evaluated(evaluator, router, (events, version), moved);
            Ok((events.into_iter().map(evaluate).collect::<Vec<_>>(), dead))
        }));
        match result {
            Ok(Ok((batches, dead))) => {
                detected.batches.extend(batches);
                detected.dead.extend(dead);
                Ok(())
            }
            Ok(Err(dear)) => Err(Broken::TooDear(dear)),
            Err(_) => {
                self.begin_anew(version, raw.source);
                Err(Broken::Panicked)
            }
        }
    }

    /// A panic may have left anything half written, and what is left would be found in later records.
    fn begin_anew(&mut self, version: usize, source: SourceIx) {
        let (decoder, evaluator) = &mut self.versions[version][usize::from(source.0)];
        let of = &self.compiled.versions()[version];
        if let Ok(fresh) = of.decoder(source, self.compiled.secret()) {
            *decoder = fresh;
        }
        *evaluator = of.evaluator(source, self.compiled.secret());
        self.router = self.compiled.router();
    }

    /// Evaluates events that were decoded before, by the newest version; gives them in parts, and how many of them ended unevaluated.
    /// Their columns are those of [`Version::projection`].
    pub fn detect_events(&mut self, events: &EventBatch) -> (Vec<DetectedBatch>, u64) {
        let version = self.compiled.versions().len() - 1;
        if let Ok(all) = self.attempt_events(version, events) {
            return all;
        }
        // One of them panics: each alone.
        let (mut batches, mut dead) = (Vec::new(), 0);
        for row in 0..events.rows() {
            match self.attempt_events(version, &events.slice(row, 1)) {
                Ok((found, dear)) => {
                    batches.extend(found);
                    dead += dear;
                }
                Err(()) => dead += 1,
            }
        }
        (batches, dead)
    }

    fn attempt_events(
        &mut self,
        version: usize,
        events: &EventBatch,
    ) -> Result<(Vec<DetectedBatch>, u64), ()> {
        let (_, evaluator) = &mut self.versions[version][usize::from(events.source.0)];
        let router = &mut self.router;
        let result = catch_unwind(AssertUnwindSafe(|| {
            let dear: BTreeSet<usize> = evaluator.too_dear(events).iter().map(|of| of.row as usize).collect();
            let mut batches = Vec::with_capacity(dear.len() + 1);
            let mut from = 0;
            for end in dear.iter().copied().chain([events.rows()]) {
                if from < end {
                    let part = (events.slice(from, end - from), version);
                    batches.push(evaluated(evaluator, router, part, &mut || ()));
                }
                from = end + 1;
            }
            (batches, dear.len() as u64)
        }));
        result.map_err(|_| self.begin_anew(version, events.source))
    }

    /// Evaluates the records that are not too dear, as if the others were not there.
    fn attempt_others(
        &mut self,
        version: usize,
        raw: &RawBatch,
        mut dear: BTreeMap<usize, Arc<str>>,
        detected: &mut Detected,
        moved: &mut dyn FnMut(),
    ) {
        let others: Vec<usize> = (0..raw.records.len()).filter(|at| !dear.contains_key(at)).collect();
        while let Some((at, detail)) = dear.pop_first() {
            detected.dead.push(DeadLetter::of(raw, &raw.records[at], DeadReason::TooDear, detail));
        }
        if !others.is_empty() && self.attempt_part(version, raw, &others, detected, moved).is_err() {
            self.attempt_each(version, raw, others, detected, moved);
        }
    }

    /// Evaluates each of these records alone.
    fn attempt_each(
        &mut self,
        version: usize,
        raw: &RawBatch,
        records: impl IntoIterator<Item = usize>,
        detected: &mut Detected,
        moved: &mut dyn FnMut(),
    ) {
        for at in records {
            let (reason, detail) = match self.attempt_part(version, raw, &[at], detected, moved) {
                Ok(()) => continue,
                Err(Broken::Panicked) => {
                    let detail = "evaluating this record panicked; it was retried alone";
                    (DeadReason::Panic, detail.into())
                }
                Err(Broken::TooDear(dear)) => {
                    (DeadReason::TooDear, dear.into_values().next().unwrap_or_default())
                }
            };
            detected.dead.push(DeadLetter::of(raw, &raw.records[at], reason, detail));
        }
    }

    /// Evaluates some records of a batch together.
    fn attempt_part(
        &mut self,
        version: usize,
        raw: &RawBatch,
        records: &[usize],
        detected: &mut Detected,
        moved: &mut dyn FnMut(),
    ) -> Result<(), Broken> {
        let batches = detected.batches.len();
        self.attempt(version, &part_of(raw, records), detected, moved)?;
        rebase(&mut detected.batches[batches..], records);
        Ok(())
    }
}

/// Some records of a batch.
fn part_of(raw: &RawBatch, records: &[usize]) -> RawBatch {
    RawBatch {
        source: raw.source,
        partition: raw.partition,
        data: raw.data.clone(),
        records: records.iter().map(|at| raw.records[*at]).collect(),
    }
}

/// Rows name their record by its position in the whole batch.
fn rebase(batches: &mut [DetectedBatch], records: &[usize]) {
    for batch in batches {
        let of = |at: &u32| records[*at as usize] as u32;
        batch.events.records = batch.events.records.iter().map(of).collect();
    }
}

/// A decoder and an evaluator of each source.
fn by_source(version: &Version, secret: [u8; 32]) -> Result<BySource, Error> {
    let pair = |(ix, _)| Ok((version.decoder(ix, secret)?, version.evaluator(ix, secret)));
    version.sources.iter().map(pair).collect()
}

/// Why a batch cannot be evaluated as it is.
enum Broken {
    /// Something panicked.
    Panicked,
    /// Some of its records are too dear: their positions, and what they cost.
    TooDear(BTreeMap<usize, Arc<str>>),
}

/// Events, their hits, and where these go.
fn evaluated(
    evaluator: &mut Evaluator,
    router: &mut Option<Router>,
    (events, version): (EventBatch, usize),
    moved: &mut dyn FnMut(),
) -> DetectedBatch {
    let hits = evaluate(evaluator, &events, moved);
    let route = |router: &mut Router| router.route(&events, version, &hits);
    let routed = router.as_mut().map(route).unwrap_or_default();
    DetectedBatch { events, version, hits, routed }
}

/// The hits of a batch, part by part.
fn evaluate(evaluator: &mut Evaluator, events: &EventBatch, moved: &mut dyn FnMut()) -> Vec<Hit> {
    let (mut hits, mut of_part) = (Vec::new(), Vec::new());
    let parts = evaluator.parts(events);
    if let [_] = &parts[..] {
        evaluator.evaluate(events, &mut hits);
        moved();
        return hits;
    }
    for part in parts {
        evaluator.evaluate(&events.slice(part.start, part.len()), &mut of_part);
        hits.extend(of_part.iter().map(|hit| Hit { row: hit.row + part.start as u32, rule: hit.rule }));
        moved();
    }
    hits
}

/// What an event costs, in words.
fn price(rules: &RuleSet, event: &TooDear) -> Arc<str> {
    let steps = event.work.steps;
    let rule = event.work.dearest.map(|(rule, share)| (&rules.get(rule).id, share));
    let dearest = rule.map_or(String::new(), |(id, share)| format!("; the dearest is `{id}` with {share}"));
    format!("evaluating all rules would take {steps} steps, more than the {BUDGET} of a record{dearest}")
        .into()
}

fn last_hash(raw: &RawBatch) -> [u8; 32] {
    record_hash(raw.records.last().and_then(|record| raw.payload(record)))
}

#[cfg(test)]
#[path = "tests/detector.rs"]
mod tests;
