//! Rules on their way through the past.
//!
//! In: rules' texts, sources, what the data folder knows. Out: [`Report`], and whole alerts to whoever wants them. Invariant: which rules could
//! not be tried, and what keeps the answer from being exact, is in the report.

use std::{collections::BTreeSet, io::Write, sync::Arc, time::Instant};

use anyhow::anyhow;
use vedette_api::backtests::Report;
use vedette_engine::{Compiled, Version};
use vedette_event::{Micros, Sources};
use vedette_sigma::RuleSet;

use super::{
    memory,
    past::{self, MOST_FIRED, Past},
    print, replay, report,
    sink::Sink,
    way,
};
use crate::{Failure, World as _, config::Config, content::RuleText, pipeline, table};

/// The rules that can be tried, and why others cannot.
pub struct Able {
    /// Those that can.
    pub rules: Arc<RuleSet>,
    /// Their texts.
    pub text: RuleText,
    /// Why others cannot, a line each.
    pub not_tried: Vec<String>,
}

/// Parts rules that can be tried from those that cannot. What a file has beside one that cannot goes with it.
pub fn able(mut text: RuleText, threads: u16, sources: &Sources) -> Result<Able, Failure> {
    let mut not_tried = Vec::new();
    loop {
        let rules = text.load_on(threads, sources);
        let mut without: BTreeSet<Arc<str>> = BTreeSet::new();
        for rule in &rules.rules {
            if let Some(why) = way::unanswerable(&rules, rule, sources) {
                let (file, id) = (table::plain(&rule.file), table::plain(&rule.id));
                not_tried.push(format!("{file}:{}: `{id}` cannot be tried on the lake: {why}", rule.line));
                without.insert(rule.file.clone());
            }
        }
        if without.is_empty() {
            return Ok(Able { rules: Arc::new(rules), text, not_tried });
        }
        text.files.retain(|file| !without.contains(&file.path));
    }
}

/// Rules, and what of the past they are tried on.
pub struct Tried {
    rules: Arc<RuleSet>,
    compiled: Arc<Compiled>,
    not_tried: Vec<String>,
    /// Which alerts are told: those that cross in it.
    stretch: (Micros, Micros),
    threads: u16,
}

impl Tried {
    /// Compiles them.
    pub fn new(
        able: Able,
        sources: Sources,
        past: &Past,
        stretch: (Micros, Micros),
        threads: u16,
    ) -> Result<Self, Failure> {
        let Able { rules, not_tried, .. } = able;
        let version = Version::compile_on(pipeline::spread(threads), rules.clone(), Arc::new(sources));
        for (ix, def) in version.sources.iter() {
            let asked = version.projection(ix).fields().iter();
            if let Some(why) = way::not_there(&version.sources.fields, def, asked) {
                return Err(Failure::Usage(anyhow!("a rule's key or value: {why}")));
            }
        }
        let topics = Arc::new(past.topics.clone());
        let compiled = Compiled::with_versions(vec![Arc::new(version)], topics, past.secret);
        Ok(Self { rules, compiled, not_tried, stretch, threads })
    }

    /// From where events are read.
    pub fn read_from(&self) -> Micros {
        memory::back_from(&self.rules, self.stretch.0)
    }

    /// Says what they come to; `out` takes whole alerts meanwhile, if it is there. `on` hears how many events were read, and says whether to go on.
    pub fn run<W: Write>(
        self,
        config: &Config,
        past: Past,
        out: Option<&mut W>,
        on: &mut dyn FnMut(u64) -> bool,
    ) -> Result<Report, Failure> {
        let read_from = self.read_from();
        let Past { place, files, positions, placements, secret, fired, more_fired, .. } = past;
        let Self { rules, compiled, not_tried, stretch, threads } = self;
        let (from, to) = stretch;
        let complete = past::complete(config, &compiled, &positions, to);
        let through = complete.iter().copied().max().unwrap_or(to);
        let first = files.iter().map(|file| file.earliest).min().unwrap_or(to);
        let began = Instant::now();
        let replayed = replay::Replay {
            compiled: &compiled,
            settings: past::settings(config, &compiled, secret),
            place,
            files,
            placements: &placements,
            from: read_from,
            complete,
            threads,
        };
        let mut sink = Sink::new(stretch, out);
        let done = replay::run(replayed, &mut |revisions| sink.take(revisions), on).world()?;
        let (told, more, stormy) = sink.finish().world()?;
        let seconds = began.elapsed().as_secs_f64();
        let mut notes: Vec<String> = print::lacking(first, read_from).into_iter().collect();
        if more > 0 {
            notes.push(format!(
                "{more} alerts more are counted in the sum alone: these rules are too loud to be told apart."
            ));
        }
        if more_fired {
            notes.push(format!(
                "More than {MOST_FIRED} alerts fired then; those later are not held against what there is now."
            ));
        }
        if done.dead > 0 {
            notes.push(format!(
                "{} events were not evaluated: with these rules they are dead letters.",
                done.dead
            ));
        }
        let title = |rule: u32| rules.rules.get(rule as usize).map(|rule| &*rule.title).unwrap_or_default();
        notes.extend(stormy.iter().map(|rule| {
            let title = title(*rule);
            format!("Rule `{title}` met a storm: one of its alerts stands for all keys beyond the first ones, as it would have; there were more keys than are told here.")
        }));
        notes.extend(done.degraded.iter().map(|rule| {
            let title = title(*rule);
            format!("Rule `{title}` had no room for all its keys; counts of new keys are estimates, as they would have been.")
        }));
        let told_from = if from == Micros::MIN { first } else { from };
        Ok(Report {
            from: (from > Micros::MIN).then_some(from),
            through,
            read_from: (read_from > Micros::MIN).then_some(read_from),
            first_event: first,
            events: done.events,
            not_evaluated: done.dead,
            seconds,
            nanoseconds_an_event: (done.busy.as_nanos() as f64 / done.events.max(1) as f64).round(),
            alerts: told.len() as u64 + more,
            days: report::by_day(&told),
            rules: report::by_rule(&rules, &told, &fired, (told_from, through)),
            not_tried,
            notes,
        })
    }
}
