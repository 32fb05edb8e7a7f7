//! `vedette scan`: rules over files or standard input.
//!
//! In: rule files and logs. Out: findings or alerts on standard output; progress and summary on standard error.
//! Invariants: the same engine as the service; output does not depend on the number of threads.

use std::{
    collections::{BTreeMap, HashMap},
    io::{self, BufWriter, IsTerminal as _, Write as _},
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use indicatif::{ProgressBar, ProgressStyle};
use vedette_engine::{Compiled, Detected, Detector, Engine, Output, Published, Settings};
use vedette_event::{Flags, Partition, RawBatch, SourceIx, Sources, TopicIx, Topics};
use vedette_ingest::{FileBatches, Input};
use vedette_sigma::RuleSet;

use crate::{Failure, World as _, content, rejected::print_rejected, table};

/// The secret that keys hashes where nothing is kept between runs.
pub const FILE_SECRET: [u8; 32] = *b"vedette: files keep no secret   ";

/// What `scan` is asked for.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  vedette scan --rules detections/ --source paloalto firewall.log.gz
  zcat api.ndjson.gz | vedette scan --source exchange_api --mode alerts --format ndjson -")]
pub struct Args {
    /// Rule file or folder; may repeat.
    #[arg(long, value_name = "PATH", default_value = "detections/")]
    rules: Vec<PathBuf>,
    /// A source of schemas/sources, `json`, or `auto` to tell each file's from its form.
    #[arg(long, value_name = "NAME", default_value = "auto")]
    source: String,
    /// One line per rule and record, or whole alerts.
    #[arg(long, value_enum, default_value_t = Mode::Alerts)]
    mode: Mode,
    /// How to write them.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// Threads that decode and detect.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: u16,
    /// Say where the time went.
    #[arg(long)]
    profile: bool,
    /// Logs, plain, gzip or zstd; `-` is standard input.
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

/// One input, opened and told apart.
pub struct Opened {
    name: String,
    source: SourceIx,
    partition: Partition,
    head: Option<RawBatch>,
    batches: FileBatches,
}

impl Opened {
    /// Its name: the path, or `-`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its source.
    pub fn source(&self) -> SourceIx {
        self.source
    }

    /// Bytes of it read so far.
    pub fn bytes_read(&self) -> u64 {
        self.batches.bytes_read()
    }

    /// The next batch, in the input's own source and partition.
    pub fn next(&mut self) -> Option<Result<RawBatch, vedette_ingest::Error>> {
        let next = self.head.take().map(Ok).or_else(|| self.batches.next())?;
        Some(next.map(|raw| RawBatch { source: self.source, partition: self.partition, ..raw }))
    }
}

/// Runs the command; 1 if a rule was refused.
pub fn run(args: &Args) -> Result<u8, Failure> {
    let all = content::sources(None).world()?;
    let (sources, mut inputs) = open(&args.files, &args.source, &all)?;
    let text = content::rules(&args.rules).map_err(Failure::Usage)?;
    let rules = Arc::new(text.load(&sources));
    print_rejected(&rules, &text);
    let sources = Arc::new(sources);
    let topics = Arc::new(Topics::new(sources.defs.iter().map(|d| d.name.clone())));
    let compiled = Compiled::new(rules.clone(), sources.clone(), topics, FILE_SECRET);
    let mut engine = Engine::new(compiled.clone(), Settings::new(FILE_SECRET));
    let mut sink = Sink::new(args, &rules, &inputs);
    let bar = progress(&inputs);
    let mut spent = Spent::default();
    let wanted = args.mode;
    let mut take = |detected: Detected| -> Result<(), Failure> {
        let start = Instant::now();
        match wanted {
            Mode::Findings => sink.findings(&detected)?,
            Mode::Alerts => {}
        }
        engine_take(&mut engine, wanted, detected, &mut sink)?;
        spent.rest += start.elapsed();
        Ok(())
    };
    let detecting = if args.threads == 1 {
        let mut detector = compiled.detector().map_err(|e| Failure::World(e.into()))?;
        detect_here(&mut inputs, wanted, &bar, &mut detector, &mut take)?
    } else {
        crate::parallel::detect(
            &mut inputs,
            args.threads,
            &compiled,
            |read| bar.set_position(read),
            &mut take,
        )?
    };
    spent.detecting = detecting;
    let mut out = Output::default();
    engine.finish(&mut out);
    sink.alerts(&mut out);
    bar.finish_and_clear();
    sink.finish()?;
    say_clocks(&engine, &sources);
    if args.profile {
        spent.print(&engine, &sources);
    }
    Ok(u8::from(!rules.rejected.is_empty()))
}

fn engine_take(
    engine: &mut Engine,
    mode: Mode,
    detected: Detected,
    sink: &mut Sink<'_>,
) -> Result<(), Failure> {
    if mode == Mode::Findings {
        return Ok(());
    }
    let mut out = Output::default();
    engine.absorb(detected, &mut out);
    sink.alerts(&mut out);
    Ok(())
}

/// Opens all inputs and tells each one's source.
pub fn open(files: &[PathBuf], wanted: &str, all: &Sources) -> Result<(Sources, Vec<Opened>), Failure> {
    let stdin = [PathBuf::from("-")];
    let files = if files.is_empty() { &stdin[..] } else { files };
    let mut found = Vec::new();
    for path in files {
        let input = if path.as_os_str() == "-" { Input::Stdin } else { Input::Path(path.clone()) };
        let name = input.name().display().to_string();
        let nowhere = Partition { topic: TopicIx(0), number: 0 };
        let mut batches =
            FileBatches::open(input, SourceIx(0), nowhere).map_err(|e| Failure::World(e.into()))?;
        let head = batches.next().transpose().map_err(|e| Failure::World(e.into()))?;
        let source = if wanted == "auto" {
            let told = tell(head.as_ref(), all);
            eprintln!("{name}: read as source `{told}`");
            told
        } else {
            wanted.to_owned()
        };
        found.push((name, source, head, batches));
    }
    let names: Vec<&str> = found.iter().map(|(_, source, ..)| source.as_str()).collect();
    let sources = content::only(all, &names).map_err(Failure::Usage)?;
    let opened = found
        .into_iter()
        .enumerate()
        .map(|(number, (name, source, head, batches))| {
            let source = sources.find(&source).context("a source that was just kept")?;
            // Topics are named after sources and sorted like them.
            let partition = Partition { topic: TopicIx(source.0), number: number as i32 };
            Ok(Opened { name, source, partition, head, batches })
        })
        .collect::<Result<_>>()
        .world()?;
    Ok((sources, opened))
}

/// The source of the first record that has the form of one; `json` if none has.
fn tell(head: Option<&RawBatch>, all: &Sources) -> String {
    let records = head.map_or(&[][..], |raw| &raw.records[..]);
    let payloads = records.iter().take(16).filter_map(|r| head.and_then(|raw| raw.payload(r)));
    let told = payloads.filter_map(|bytes| vedette_decode::detect(bytes, all)).next();
    told.map_or_else(|| "json".to_owned(), |source| all.get(source).name.to_string())
}

/// Decodes and detects on this thread. Alerts take the files in turns, so that none runs far ahead; findings in order.
fn detect_here(
    inputs: &mut [Opened],
    mode: Mode,
    bar: &ProgressBar,
    detector: &mut Detector,
    take: &mut impl FnMut(Detected) -> Result<(), Failure>,
) -> Result<Duration, Failure> {
    let mut spent = Duration::ZERO;
    let mut open: Vec<usize> = (0..inputs.len()).collect();
    let mut turn = 0;
    while !open.is_empty() {
        turn %= open.len();
        let Some(raw) = inputs[open[turn]].next() else {
            open.remove(turn);
            continue;
        };
        let raw = raw.map_err(|e| Failure::World(e.into()))?;
        let start = Instant::now();
        let detected = detector.detect(&raw);
        spent += start.elapsed();
        take(detected)?;
        if mode == Mode::Alerts {
            turn += 1;
        }
        bar.set_position(inputs.iter().map(Opened::bytes_read).sum());
    }
    Ok(spent)
}

fn progress(inputs: &[Opened]) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = "{spinner} {bytes} {bar:40} {percent}% {bytes_per_sec} eta {eta}";
    match inputs.iter().map(|i| i.batches.size()).sum::<Option<u64>>() {
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

/// Where results go.
struct Sink<'a> {
    out: BufWriter<io::StdoutLock<'static>>,
    format: Format,
    rules: &'a RuleSet,
    /// Rank of each rule's id, for the order of findings of one record.
    rank: Vec<u32>,
    /// The line's start for each rule, up to the record.
    heads: Vec<String>,
    /// The line's end for each partition.
    tails: Vec<String>,
    counts: BTreeMap<u32, u64>,
    rows: Vec<Vec<String>>,
    last: HashMap<Arc<str>, Published>,
}

impl<'a> Sink<'a> {
    fn new(args: &Args, rules: &'a RuleSet, inputs: &[Opened]) -> Self {
        let mut by_id: Vec<u32> = (0..rules.rules.len() as u32).collect();
        by_id.sort_by_key(|&at| &rules.rules[at as usize].id);
        let mut rank = vec![0; by_id.len()];
        for (r, at) in by_id.iter().enumerate() {
            rank[*at as usize] = r as u32;
        }
        let quote = |text: &str| serde_json::Value::from(text).to_string();
        let heads = rules.rules.iter().map(|r| {
            let (id, title, level) = (quote(&r.id), quote(&r.title), r.level.name());
            format!("{{\"rule_id\":{id},\"title\":{title},\"level\":\"{level}\",\"record\":")
        });
        Self {
            out: BufWriter::with_capacity(1 << 16, io::stdout().lock()),
            format: args.format,
            rules,
            rank,
            heads: heads.collect(),
            tails: inputs.iter().map(|i| format!(",\"file\":{}}}\n", quote(&i.name))).collect(),
            counts: BTreeMap::new(),
            rows: Vec::new(),
            last: HashMap::new(),
        }
    }

    fn findings(&mut self, detected: &Detected) -> Result<(), Failure> {
        for batch in &detected.batches {
            let mut hits: Vec<_> =
                batch.hits.iter().map(|h| (h.row, self.rank[h.rule.0 as usize], h.rule.0)).collect();
            hits.sort_unstable();
            for (row, _, rule) in hits {
                let record = batch.events.offsets[row as usize];
                let tail = &self.tails[detected.partition.number as usize];
                match self.format {
                    Format::Ndjson => {
                        write!(self.out, "{}{record}{tail}", self.heads[rule as usize]).world()?
                    }
                    Format::Count => *self.counts.entry(rule).or_default() += 1,
                    Format::Table => {
                        let r = &self.rules.rules[rule as usize];
                        let file = tail.trim_start_matches(",\"file\":").trim_end_matches("}\n").to_owned();
                        let row = [r.level.name().to_owned(), r.title.to_string(), record.to_string(), file];
                        self.rows.push(row.into());
                    }
                }
            }
        }
        Ok(())
    }

    fn alerts(&mut self, out: &mut Output) {
        for published in out.correlated.alerts.drain(..) {
            self.last.insert(published.alert.alert_id.clone(), published);
        }
    }

    fn finish(mut self) -> Result<(), Failure> {
        let mut alerts: Vec<(String, Published)> = self
            .last
            .drain()
            .map(|(_, p)| (serde_json::to_string(&p.alert.key).unwrap_or_default(), p))
            .collect();
        alerts.sort_by(|(a_key, a), (b_key, b)| {
            (a.crossing, &a.alert.rule.id, a_key).cmp(&(b.crossing, &b.alert.rule.id, b_key))
        });
        for (key, Published { alert, rule, .. }) in alerts {
            match self.format {
                Format::Ndjson => {
                    serde_json::to_writer(&mut self.out, &alert).map_err(io::Error::from).world()?;
                    self.out.write_all(b"\n").world()?;
                }
                Format::Count => *self.counts.entry(rule.0).or_default() += 1,
                Format::Table => self.rows.push(vec![
                    alert.severity.name().to_owned(),
                    alert.rule.title.to_string(),
                    key,
                    alert.count.to_string(),
                    alert.crossed_at.to_string(),
                ]),
            }
        }
        self.print()
    }

    fn print(&mut self) -> Result<(), Failure> {
        if self.format == Format::Count {
            let mut counts: Vec<_> = self.counts.iter().map(|(rule, n)| (*n, *rule)).collect();
            counts.sort_by_key(|&(n, rule)| (std::cmp::Reverse(n), self.rank[rule as usize]));
            for (n, rule) in counts {
                let r = &self.rules.rules[rule as usize];
                writeln!(self.out, "{n}\t{}\t{}", r.id, r.title).world()?;
            }
        }
        if self.format == Format::Table && !self.rows.is_empty() {
            let heads: &[&str] = if self.rows[0].len() == 4 {
                &["Level", "Rule", "Record", "File"]
            } else {
                &["Severity", "Rule", "Key", "Events", "Crossed at"]
            };
            writeln!(self.out, "{}", table::of(heads, &self.rows)).world()?;
        }
        self.out.flush().world()
    }
}

/// Where the time went.
#[derive(Debug, Default)]
struct Spent {
    detecting: Duration,
    rest: Duration,
}

impl Spent {
    fn print(&self, engine: &Engine, sources: &Sources) {
        let events: u64 = sources.iter().map(|(ix, _)| engine.counters(ix).events).sum();
        eprintln!("decode and detect: {:.3} s over all threads", self.detecting.as_secs_f64());
        eprintln!("place, correlate, write: {:.3} s", self.rest.as_secs_f64());
        eprintln!("events correlated: {events}");
    }
}

/// Flagged records in a file are worth a word: one far-future time makes all later records late.
fn say_clocks(engine: &Engine, sources: &Sources) {
    for (ix, def) in sources.iter() {
        let counters = engine.counters(ix);
        if counters.dead > 0 {
            eprintln!(
                "{}: {} dead letters; see them with `vedette decode --dead-letters`",
                def.name, counters.dead
            );
        }
        for (flag, n) in vedette_engine::CLOCK_FLAGS.iter().zip(counters.flagged).filter(|(_, n)| *n > 0) {
            let why = match *flag {
                Flags::CLOCK_MISSING => "have no readable time and took that of the record before",
                Flags::CLOCK_LATE => {
                    "lie far behind an earlier record; a far-future time in a file does this"
                }
                _ => "were placed at another time than they claim",
            };
            let name: Vec<_> = flag.names().collect();
            eprintln!("{}: {n} events {why} ({})", def.name, name.join(""));
        }
    }
}
