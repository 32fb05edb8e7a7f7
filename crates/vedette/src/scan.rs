//! `vedette scan`: rules over files or standard input.
//!
//! In: rule files and logs. Out: findings or alerts on standard output; progress and summary on standard error.
//! Invariants: the same engine as the service; output does not depend on the number of threads.

use std::{
    collections::BTreeMap,
    io::{self, BufWriter, IsTerminal as _, Write as _},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::anyhow;
use crossbeam_channel::{Receiver, bounded, never};
use indicatif::{ProgressBar, ProgressStyle};
use vedette_correlate::HealthSignal;
use vedette_engine::{Compiled, Detected, Engine, InForce, NewRevision, Output, Version};
use vedette_event::{
    Flags, MAX_ROWS, Micros, Order, Partition, RawBatch, SourceIx, Sources, Span, State, Topics, key_json,
    key_text,
};
use vedette_sigma::{RuleKind, RuleSet};

use crate::{
    Failure, World as _,
    config::{
        LogConfig, LogFormat,
        memory::{self, Memory},
    },
    content,
    inputs::{self, Label, Opened, Reached, Reading, Turns},
    pipeline::{self, NoStep, Pipeline, Step, Worker},
    rejected::print_rejected,
    table, telemetry,
};

/// The secret that keys hashes where nothing is kept between runs.
pub const FILE_SECRET: [u8; 32] = *b"vedette: files keep no secret   ";

/// A table longer than this is for nobody's eyes.
const MAX_ROWS_SHOWN: usize = 1_000;

/// Batches read ahead of what is in flight: each lies within a block of a file, so they are some mebibytes. Where every core computes, the
/// reader can wait three milliseconds for its turn, and the others do four batches in less (`value_count` at a million keys on two cores:
/// 1.79 times one core with 32, 1.68 with four). That many held twice as much.
const READ_AHEAD: usize = 16;

/// How long to wait for a step at a time: nobody has to be told meanwhile.
const PATIENCE: Duration = Duration::from_secs(1);

/// What `scan` is asked for.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  vedette scan firewall.log.gz
  vedette scan --rules detections/ --rules ../sigma/rules --source json --mode findings --format count events.ndjson
  zcat api.ndjson.gz | vedette scan --source exchange_api --format ndjson - | jq .summary

Files of one source are read together, in order of time: give all hours of a day at once.
Exit status: 0 done, 1 a rule was refused (the others ran), 2 wrong use, 3 a file cannot be read.")]
pub struct Args {
    /// Rule file or folder; may repeat.
    #[arg(long, value_name = "PATH", default_value = "detections/")]
    rules: Vec<PathBuf>,
    /// A source of schemas/sources (`paloalto`, `json`, …), or `auto` to tell each file's from its form.
    #[arg(long, value_name = "NAME", default_value = "auto")]
    source: String,
    /// Whole alerts, as the service raises them, or findings: each record that a rule matches.
    #[arg(long, value_enum, default_value_t = Mode::Alerts)]
    mode: Mode,
    /// A table for people, one JSON object a line, or the number of each rule.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// Threads that compute; as many as there are cores without it.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=i64::from(pipeline::MAX_THREADS)))]
    threads: Option<u16>,
    /// Say where the time went.
    #[arg(long)]
    profile: bool,
    /// Log what is decided; `vedette_detect=trace` tells when each rule is looked at, and so why one is slow.
    #[arg(long, value_name = "LEVEL", default_value = "off")]
    log: String,
    /// Logs, plain, gzip or zstd; `-`, or none, is standard input.
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Mode {
    Alerts,
    Findings,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    Table,
    Ndjson,
    Count,
}

/// Runs the command; 1 if a rule was refused.
pub fn run(args: &Args) -> Result<u8, Failure> {
    telemetry::start(&LogConfig { level: args.log.clone(), format: LogFormat::Text })
        .map_err(Failure::Usage)?;
    let threads = args.threads.unwrap_or_else(pipeline::cores);
    let (found, all) = content::found_and_sources(threads, &args.rules).map_err(Failure::Usage)?;
    let (sources, inputs) = inputs::open(&args.files, &args.source, &all)?;
    let (text, rules) = found.load(threads, &sources);
    let rules = Arc::new(rules);
    print_rejected(&rules, &text);
    let labels: Vec<Label> = inputs.iter().map(|input| input.label().clone()).collect();
    let bar = progress(inputs.iter().map(Opened::size).sum());
    let reached = Arc::new(Reached::new(inputs.len()));
    let turns = Turns::new(inputs.len(), args.mode == Mode::Findings);
    // Before anything is compiled, most of which one thread does: the others have this to do meanwhile.
    let reader = Reader::start(Reading::new(inputs, turns, reached.clone()), threads)?;
    let sources = Arc::new(sources);
    let topics = Arc::new(Topics::new(sources.defs.iter().map(|d| d.name.clone())));
    let compile = match args.mode {
        Mode::Alerts => Version::compile_on,
        Mode::Findings => Version::uncorrelated_on,
    };
    let version = compile(pipeline::spread(threads), rules.clone(), sources.clone());
    let compiled = Compiled::with_versions(vec![Arc::new(version)], topics, FILE_SECRET);
    // Lives until all is said: at the end there is most to let through.
    let (mut pipeline, workers) =
        Pipeline::new(InForce::new(compiled.clone()), threads, |read| read).world()?;
    let mut scan = Scan::new(args, &compiled, &labels, &reached);
    if let Some(hands) = pipeline.hands() {
        scan.engine.share(hands);
    }
    let mut rest = Duration::ZERO;
    let mut take = |step: Step<usize>, read: u64| {
        let start = Instant::now();
        let taken = scan.take(step);
        rest += start.elapsed();
        bar.set_position(read);
        taken
    };
    evaluate(reader, &mut pipeline, workers, &mut take)?;
    bar.finish_and_clear();
    scan.finish(&sources)?;
    if args.profile {
        say!("decode and detect: {:.3} s over all threads", pipeline.spent().as_secs_f64());
        say!("place, correlate, write: {:.3} s", rest.as_secs_f64());
    }
    let refused = !rules.rejected.is_empty();
    // The process ends; to give back half a million pieces of rules one by one takes as long as reading a thousand records.
    std::mem::forget((rules, compiled));
    Ok(u8::from(refused))
}

/// Who reads the inputs.
enum Reader {
    /// The only thread there is, batch by batch.
    Here(Box<Reading>),
    /// A thread of its own.
    Apart {
        input: Receiver<Result<RawBatch, usize>>,
        /// Bytes read.
        so_far: Arc<AtomicU64>,
        thread: JoinHandle<Result<(), Failure>>,
    },
}

impl Reader {
    fn start(mut reading: Reading, threads: u16) -> Result<Self, Failure> {
        if threads < 2 {
            return Ok(Self::Here(Box::new(reading)));
        }
        let (out, input) = bounded(READ_AHEAD);
        let so_far = Arc::new(AtomicU64::new(0));
        let read_so_far = so_far.clone();
        let thread = spawn("reader".to_owned(), move || {
            while let Some(read) = reading.next()? {
                read_so_far.store(reading.bytes_read(), Ordering::Relaxed);
                if out.send(read).is_err() {
                    break;
                }
            }
            Ok(())
        })?;
        Ok(Self::Apart { input, so_far, thread })
    }
}

/// Hands on what comes of all inputs, in the order of reading, with the bytes read so far.
fn evaluate(
    reader: Reader,
    pipeline: &mut Pipeline<Result<RawBatch, usize>, usize>,
    workers: Vec<Worker>,
    take: &mut impl FnMut(Step<usize>, u64) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let (input, so_far, thread) = match reader {
        Reader::Here(mut reading) => {
            let nobody = never();
            while let Some(read) = reading.next()? {
                pipeline.put(read);
                while let Ok(step) = pipeline.next(&nobody, Duration::ZERO, &mut || ()) {
                    take(step, reading.bytes_read())?;
                }
            }
            return Ok(());
        }
        Reader::Apart { input, so_far, thread } => (input, so_far, thread),
    };
    for (worker, number) in workers.into_iter().zip(1..) {
        spawn(format!("detector-{number}"), move || worker.run(None))?;
    }
    let died = |who| Failure::World(anyhow!("{who} panicked; the message is above"));
    // Whatever goes wrong, nobody waits for the reader, who may wait for standard input for ever.
    loop {
        match pipeline.next(&input, PATIENCE, &mut || ()) {
            Ok(step) => take(step, so_far.load(Ordering::Relaxed))?,
            Err(NoStep::NotYet) => {}
            Err(NoStep::AllTaken) => break,
            Err(NoStep::DetectorDied) => return Err(died("a detector")),
        }
    }
    thread.join().unwrap_or_else(|_| Err(died("the reader")))
}

fn spawn<T: Send + 'static>(
    name: String,
    run: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>, Failure> {
    thread::Builder::new().name(name).spawn(run).world()
}

/// What was seen of one source.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    records: u64,
    events: u64,
    dead: u64,
}

/// A scan under way: the engine, if alerts are wanted, and where results go.
struct Scan<'a> {
    mode: Mode,
    engine: Engine,
    partitions: Vec<Partition>,
    reached: &'a Reached,
    seen: Vec<Seen>,
    sink: Sink<'a>,
}

impl<'a> Scan<'a> {
    fn new(args: &Args, compiled: &'a Arc<Compiled>, inputs: &[Label], reached: &'a Reached) -> Self {
        let memory = Memory::for_rules(compiled.state_for(memory::ENTRIES));
        let mut engine = Engine::new(compiled.clone(), memory.settings(FILE_SECRET));
        for input in inputs {
            // All at once: no input's time may pass while another has not begun.
            engine.assign(input.partition, input.source, 0);
        }
        Self {
            mode: args.mode,
            engine,
            partitions: inputs.iter().map(|input| input.partition).collect(),
            reached,
            seen: vec![Seen::default(); compiled.sources.defs.len()],
            sink: Sink::new(args, &compiled.rules, inputs),
        }
    }

    fn take(&mut self, step: Step<usize>) -> Result<(), Failure> {
        let mut out = Output::default();
        match step {
            Step::Batch(detected) => {
                let seen = &mut self.seen[usize::from(detected.source.0)];
                seen.records += detected.records.len() as u64;
                seen.events += detected.batches.iter().map(|b| b.events.rows() as u64).sum::<u64>();
                seen.dead += detected.dead.len() as u64;
                if self.mode == Mode::Findings {
                    return self.sink.findings(&detected);
                }
                let partition = detected.partition;
                // Who writes to a pipe has paused, or a file ends: what is due need not wait for more.
                let pauses = detected.records.len() < MAX_ROWS;
                self.engine.absorb(detected, &mut out);
                if pauses {
                    self.engine.catch_up(&mut out);
                }
                if let Some(watermark) = self.engine.partition_watermark(partition) {
                    self.reached.note(partition.number as usize, watermark);
                }
            }
            Step::Word(input) => self.engine.end(self.partitions[input], &mut out),
            // Files have one version from beginning to end.
            Step::Versions(compiled) => drop(self.engine.adopt(&compiled)),
        }
        self.sink.alerts(out);
        let sources = (0..self.seen.len()).map(|at| SourceIx(at as u16));
        let passed = sources.map(|source| self.engine.watermark(source)).min().unwrap_or(Micros::MIN);
        self.sink.write_below(passed)
    }

    fn finish(mut self, sources: &Sources) -> Result<(), Failure> {
        let mut out = Output::default();
        self.engine.finish(&mut out);
        self.sink.alerts(out);
        let found = self.sink.finish()?;
        let total = |of: fn(&Seen) -> u64| self.seen.iter().map(of).sum::<u64>();
        let what = if self.mode == Mode::Findings { "findings" } else { "alerts" };
        say!("{} records, {} events: {found} {what}", total(|s| s.records), total(|s| s.events));
        for ((ix, def), seen) in sources.iter().zip(&self.seen) {
            if seen.dead > 0 {
                let (name, dead) = (&def.name, seen.dead);
                say!(
                    "{name}: {dead} dead letters; `vedette decode --source {name} --dead-letters FILE …` shows them"
                );
            }
            say_clocks(&self.engine, ix, &def.name);
        }
        self.sink.say_degraded();
        for (partition, name) in self.partitions.iter().zip(&self.sink.names) {
            let n = self.engine.undated(*partition);
            if n > 0 {
                say!(
                    "{}: {n} events stand before the first readable time: only rules of one event look at them",
                    table::plain(name)
                );
            }
        }
        // The process ends: see `run`.
        std::mem::forget(self.engine);
        Ok(())
    }
}

/// A bar on a terminal, for so many bytes if that is known.
pub fn progress(size: Option<u64>) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = "{spinner} {bytes} {bar:40} {percent}% {bytes_per_sec} eta {eta}";
    match size {
        Some(total) => {
            let bar = ProgressBar::new(total);
            if let Ok(style) = ProgressStyle::with_template(style) {
                bar.set_style(style);
            }
            bar
        }
        None => ProgressBar::new_spinner(),
    }
}

/// The place of an alert in the output: its crossing, its rule's id, its key as text.
type AlertOrder = (Order, Arc<str>, String);

/// Where results go.
struct Sink<'a> {
    out: BufWriter<io::StdoutLock<'static>>,
    /// Somebody looks at it.
    terminal: bool,
    format: Format,
    rules: &'a RuleSet,
    /// Rank of each rule's id, for the order of findings of one record.
    rank: Vec<u32>,
    /// The line's start for each rule, up to the record.
    heads: Vec<String>,
    /// The line's end for each partition.
    tails: Vec<String>,
    names: Vec<String>,
    found: u64,
    counts: BTreeMap<u32, u64>,
    rows: Vec<Vec<String>>,
    /// Alerts that are open, or that others can still come before, in the order in which they are written.
    held: BTreeMap<AlertOrder, NewRevision>,
    /// A judged window is an alert of its last event when it ends, so long afterwards at most.
    late: Span,
    /// Rules that had no room for all their keys, and in how many key groups.
    over: BTreeMap<u32, u64>,
    /// Findings that were not evaluated, by rule.
    unevaluated: BTreeMap<u32, u64>,
}

impl<'a> Sink<'a> {
    fn new(args: &Args, rules: &'a RuleSet, inputs: &[Label]) -> Self {
        let mut by_id: Vec<u32> = (0..rules.rules.len() as u32).collect();
        by_id.sort_by_key(|&at| &rules.rules[at as usize].id);
        let mut rank = vec![0; by_id.len()];
        for (r, at) in by_id.iter().enumerate() {
            rank[*at as usize] = r as u32;
        }
        let terminal = io::stdout().is_terminal();
        let quote = |text: &str| {
            let quoted = serde_json::Value::from(text).to_string();
            if terminal { table::escaped(&quoted) } else { quoted }
        };
        let heads = rules.rules.iter().map(|r| {
            let (id, title, level) = (quote(&r.id), quote(&r.title), r.level.name());
            format!("{{\"rule_id\":{id},\"title\":{title},\"level\":\"{level}\",\"record\":")
        });
        let judged = rules.rules.iter().filter_map(|rule| match &rule.kind {
            RuleKind::Correlation(correlation) => correlation.judged().then_some(correlation.timespan),
            RuleKind::Detection(_) => None,
        });
        Self {
            out: BufWriter::with_capacity(1 << 16, io::stdout().lock()),
            terminal,
            format: args.format,
            rules,
            rank,
            heads: heads.collect(),
            tails: inputs.iter().map(|i| format!(",\"file\":{}}}\n", quote(&i.name))).collect(),
            names: inputs.iter().map(|i| i.name.clone()).collect(),
            found: 0,
            counts: BTreeMap::new(),
            rows: Vec::new(),
            held: BTreeMap::new(),
            late: judged.max().unwrap_or(Span::ZERO),
            over: BTreeMap::new(),
            unevaluated: BTreeMap::new(),
        }
    }

    fn findings(&mut self, detected: &Detected) -> Result<(), Failure> {
        for batch in &detected.batches {
            let record_of = |row: u32| batch.events.offsets()[row as usize];
            let mut hits: Vec<_> = batch
                .hits
                .iter()
                .map(|h| (record_of(h.row), self.rank[h.rule.0 as usize], h.rule.0))
                .collect();
            hits.sort_unstable();
            // Several events of one record are one finding of it.
            hits.dedup();
            self.found += hits.len() as u64;
            for (record, _, rule) in hits {
                let file = detected.partition.number as usize;
                match self.format {
                    Format::Ndjson => {
                        write!(self.out, "{}{record}{}", self.heads[rule as usize], self.tails[file])
                            .world()?
                    }
                    Format::Count => *self.counts.entry(rule).or_default() += 1,
                    Format::Table => {
                        let r = &self.rules.rules[rule as usize];
                        let (level, title) = (r.level.name().to_owned(), r.title.to_string());
                        self.row([level, title, record.to_string(), self.names[file].clone()].into());
                    }
                }
            }
        }
        if self.format == Format::Ndjson {
            // Who reads a pipe sees what was found in what was written to it so far.
            self.out.flush().world()?;
        }
        Ok(())
    }

    fn row(&mut self, row: Vec<String>) {
        if self.rows.len() < MAX_ROWS_SHOWN {
            self.rows.push(row);
        }
    }

    fn alerts(&mut self, out: Output) {
        for published in out.correlated.alerts {
            let NewRevision { alert, crossing, .. } = &published;
            let place = (*crossing, alert.rule.id.clone(), key_text(&alert.key));
            self.held.insert(place, published);
        }
        for health in out.correlated.health {
            if let HealthSignal::OverBudget { rule, .. } = health {
                *self.over.entry(rule.0).or_default() += 1;
            }
        }
        for (rule, counters) in out.correlated.counters {
            if counters.unevaluated > 0 {
                *self.unevaluated.entry(rule.0).or_default() += counters.unevaluated;
            }
        }
    }

    /// Says what there was no room for.
    fn say_degraded(&self) {
        let title = |rule: &u32| table::plain(&self.rules.rules[*rule as usize].title);
        for (rule, times) in &self.over {
            say!(
                "rule `{}` had no room for all its keys, {times} times in 64 key groups: counts of new keys are estimates, \
                 as their alerts say, and keys of other rules replaced older ones",
                title(rule)
            );
        }
        for (rule, n) in &self.unevaluated {
            say!(
                "rule `{}` did not evaluate {n} events: more waited for files that are behind than fit",
                title(rule)
            );
        }
    }

    /// Writes the alerts that have ended and that no other can come before, once all below a time has been said.
    fn write_below(&mut self, passed: Micros) -> Result<(), Failure> {
        let below = passed.minus(self.late);
        while let Some(first) = self.held.first_entry() {
            if first.key().0.time >= below || first.get().alert.state != State::Ended {
                break;
            }
            let published = first.remove();
            self.write(&published)?;
        }
        Ok(())
    }

    fn write(&mut self, NewRevision { alert, rule, .. }: &NewRevision) -> Result<(), Failure> {
        self.found += 1;
        match self.format {
            Format::Ndjson => {
                table::write_json(&mut self.out, alert, self.terminal).world()?;
                self.out.write_all(b"\n").world()
            }
            Format::Count => {
                *self.counts.entry(rule.0).or_default() += 1;
                Ok(())
            }
            Format::Table => {
                let key = key_json(&alert.key);
                self.row(vec![
                    alert.severity.name().to_owned(),
                    alert.rule.title.to_string(),
                    table::pairs(&key),
                    alert.count.to_string(),
                    alert.crossed_at.to_string(),
                ]);
                Ok(())
            }
        }
    }

    /// Writes what is left and says how many there were.
    fn finish(&mut self) -> Result<u64, Failure> {
        while let Some((_, published)) = self.held.pop_first() {
            self.write(&published)?;
        }
        self.print()?;
        Ok(self.found)
    }

    fn print(&mut self) -> Result<(), Failure> {
        if self.format == Format::Count {
            let mut counts: Vec<_> = self.counts.iter().map(|(rule, n)| (*n, *rule)).collect();
            counts.sort_by_key(|&(n, rule)| (std::cmp::Reverse(n), self.rank[rule as usize]));
            for (n, rule) in counts {
                let r = &self.rules.rules[rule as usize];
                writeln!(self.out, "{n}\t{}\t{}", table::plain(&r.id), table::plain(&r.title)).world()?;
            }
        }
        if self.format == Format::Table && !self.rows.is_empty() {
            let heads: &[&str] = if self.rows[0].len() == 4 {
                &["Level", "Rule", "Record", "File"]
            } else {
                &["Severity", "Rule", "Key", "Events", "Crossed at"]
            };
            writeln!(self.out, "{}", table::of(heads, &self.rows)).world()?;
            let rest = self.found - self.rows.len() as u64;
            if rest > 0 {
                writeln!(self.out, "… and {rest} more; --format ndjson writes them all").world()?;
            }
        }
        self.out.flush().world()
    }
}

/// Flagged records in a file are worth a word: one far-future time makes all later records late.
fn say_clocks(engine: &Engine, source: SourceIx, name: &str) {
    for (flag, n) in Flags::CLOCK.iter().zip(engine.counters(source).flagged) {
        if n == 0 {
            continue;
        }
        let why = match *flag {
            Flags::CLOCK_MISSING => "have no readable time and took that of the record before",
            Flags::CLOCK_LATE => "lie far behind an earlier record; a far-future time in a file does this",
            _ => "were placed at another time than they claim",
        };
        let flags: Vec<_> = flag.names().collect();
        say!("{name}: {n} events {why} ({})", flags.join(""));
    }
}
