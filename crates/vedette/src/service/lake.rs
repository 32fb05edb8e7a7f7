//! The lake's stage: reads everything once more, by positions of its own, and writes all of it down.
//!
//! In: records, the sources in force. Out: files of the lake with their rows in the catalog; until then, what waits for its file, for those who
//! ask ([`Live`]). Invariants: nothing waits for it, and what
//! holds it up (a full disk, a store that does not answer) is tried again and holds up nobody else; what waits is bounded, and then
//! nothing more is read; a file's events and the positions behind them are noted together, so that each event is in the lake once.
//!
//! It reads no record before detection has read it ([`behind`]).
//! It has a reader of its own, because a disk may be slow for an hour: what detection has passed by then can only be read again, so there must
//! be a reader that stands where the lake does, and a second way beside it would be one more to be wrong. It costs a second fetch of
//! each record; decoding is another one anyway, since here all fields are wanted.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use crossbeam_channel::{Receiver, RecvTimeoutError};
use tokio::{runtime::Handle, sync::watch};
use vedette_decode::{Decoder, all_fields};
use vedette_engine::Compiled;
use vedette_event::{
    EventBatch, Incarnation, Micros, Partition, Placed, Projection, RawBatch, SourceDef, Sources, TopicIx,
    Topics, place,
};
use vedette_hunt::{
    Columns, Converter, Origin,
    lake::{Live, Place, Writer, beside, lean, placed},
};
use vedette_ingest::{
    Ingest, IngestSettings, Ingested, LagView, LastRead, OnLoss, Recovery, Resume, StartAt, record_hash,
};
use vedette_store::{
    Store,
    model::{LakeFile, LakePosition, LostInterval},
};

use super::{behind, supervisor::Stage};
use crate::config::{
    Config,
    lake::{LakeConfig, Records},
};

/// Bytes of events that wait to be written at most: some 200,000 events of a firewall, whose sorting takes as much again. A query holds what waited
/// when it began until it ends.
const MOST: usize = 96 << 20;
/// Bytes of a cell beside its text: where that lies.
const CELL: usize = 16;
/// Bytes of a column beside its cells, in each batch.
const COLUMN: usize = 256;
/// How often it looks around while nothing comes.
const TICK: Duration = Duration::from_millis(200);
/// How long what is written may take to be where it stays once the stage is to stop.
const LAST: Duration = Duration::from_secs(4);
/// Pause after what could not be done.
const PAUSE: Duration = Duration::from_secs(5);
/// How often the catalog is told how far all is complete, while nothing waits.
const NOTE: Duration = Duration::from_secs(30);
/// How often it asks whether a topic was accepted anew.
const LOOK: Duration = Duration::from_secs(10);

/// What the stage works with.
pub struct Wires {
    /// Where files go.
    pub place: Place,
    /// What it is to keep, and how soon.
    pub lake: LakeConfig,
    /// What is read, and how.
    pub settings: IngestSettings,
    /// How far detection has come: what it has not read is not read here.
    pub detection: LagView,
    /// The names and incarnations of topics at the start.
    pub topics: Arc<Topics>,
    /// The sources change.
    pub in_force: watch::Receiver<Arc<Compiled>>,
    /// The catalog.
    pub store: Store,
    /// Where those who ask see what waits.
    pub live: Live,
    /// Set once what an ended process left behind is removed.
    pub swept: Arc<AtomicBool>,
    /// What hashes of secrets are keyed with.
    pub secret: [u8; 32],
}

/// Works until it is to stop. What cannot be done is said and tried again.
pub fn run(mut wires: Wires, runtime: &Handle, stage: &Stage) -> Result<()> {
    let mut unsure = Vec::new();
    while !stage.stopping() {
        let begun =
            sweep(&wires, &mut unsure, runtime, stage).and_then(|()| Filling::begin(&wires, runtime, stage));
        let ended = begun.and_then(|mut filling| {
            let ended = filling.run(stage);
            unsure.append(&mut filling.writer.give_up());
            ended
        });
        match ended {
            Ok(None) => {}
            Ok(Some(topics)) => wires.topics = topics,
            Err(error) => {
                tracing::error!("the lake stands still: {error:#}; it is tried again, and detection goes on");
                pause(stage, PAUSE);
            }
        }
    }
    Ok(())
}

/// Removes what an ended process left behind; once that is done, what this one may have left.
fn sweep(wires: &Wires, unsure: &mut Vec<LakeFile>, runtime: &Handle, stage: &Stage) -> Result<()> {
    let swept = wires.swept.load(Ordering::Acquire);
    if swept && unsure.is_empty() {
        return Ok(());
    }
    let asked = async {
        let named = wires.store.lake_files(None, Micros::MIN, Micros::MAX).await?;
        Ok::<_, vedette_store::Error>((named, wires.store.leaving_lake().await?))
    };
    let (named, leaving) = runtime.block_on(stage.awaits("store", asked))?;
    let named = named.into_iter().map(|file| file.path).chain(leaving.into_iter().map(|file| file.path));
    let named: BTreeSet<String> = named.collect();
    if swept {
        // Others here have files that the catalog is about to name, so these alone are looked at.
        while let Some(file) = unsure.last() {
            if named.contains(&file.path) {
                wires.place.named(std::slice::from_ref(file));
            } else {
                let removed = wires.place.remove(&file.path);
                runtime.block_on(stage.awaits(WHERE, removed))?;
            }
            unsure.pop();
        }
        return Ok(());
    }
    let removed = runtime.block_on(stage.awaits(WHERE, wires.place.sweep(&named)))?;
    if removed > 0 {
        tracing::info!(removed, "files that an ended process left behind were removed from the lake");
    }
    wires.swept.store(true, Ordering::Release);
    Ok(())
}

fn pause(stage: &Stage, time: Duration) {
    let began = Instant::now();
    while began.elapsed() < time && !stage.stopping() {
        stage.waits_for("lake");
        std::thread::sleep(TICK.min(time));
    }
}

/// Who holds it up while files are brought to where they stay.
pub const WHERE: &str = "where the lake's files are";

/// What becomes of one topic's records.
struct Shaper {
    origin: Arc<str>,
    topic: Arc<str>,
    incarnation: Incarnation,
    decoder: Decoder,
    converter: Converter,
    bounds: (vedette_event::Span, vedette_event::Span),
}

impl Shaper {
    fn new(
        def: &SourceDef,
        sources: &Sources,
        (topic, incarnation): (&Arc<str>, Incarnation),
        (records, secret): (Records, [u8; 32]),
    ) -> Result<Self> {
        let fields = all_fields(def, &sources.fields);
        let projection = Projection::new(fields.iter().cloned());
        let decoder = Decoder::new(def, &sources.fields, &projection, secret)?;
        let decoder = match records {
            Records::None => decoder,
            Records::Altered => decoder.keeping_altered(def, secret),
            Records::All => decoder.searched(def, secret),
        };
        let columns =
            Columns::of_lake(fields.iter().map(|name| &**name), &sources.fields, !def.own_logsource());
        let bounds = (def.disorder, def.future);
        let converter = columns.converter()?;
        Ok(Self { origin: def.name.clone(), topic: topic.clone(), incarnation, decoder, converter, bounds })
    }

    /// The events of a batch as the lake has them, with the originals that are kept.
    fn shape(&mut self, raw: &RawBatch, events: &EventBatch) -> Result<vedette_hunt::RecordBatch> {
        let origin = Origin {
            source: self.origin.clone(),
            topic: self.topic.clone(),
            partition: raw.partition.number,
        };
        let (late, future) = self.bounds;
        let (mut places, mut logs) = (Vec::new(), Vec::new());
        for row in 0..events.rows() {
            let record = events.records.get(row).and_then(|at| raw.records.get(*at as usize));
            let record = record.context("an event without its record")?;
            let log = record.ts_log.context("a record of a topic without a time")?;
            let Placed { time, flags } = place(events.claimed(row), log, late, future);
            places.push(Placed { time, flags: flags.with(record.flags) });
            logs.push(log);
        }
        let batch = self.converter.convert(events, &origin, |_| Vec::new())?;
        let placed = lean(&placed(&batch, &places, &logs, self.incarnation)?)?;
        Ok(beside(&placed, Arc::clone(events.originals()))?)
    }
}

/// One life of the reader and the writer.
struct Filling<'a> {
    wires: &'a Wires,
    runtime: &'a Handle,
    in_force: watch::Receiver<Arc<Compiled>>,
    compiled: Arc<Compiled>,
    shapers: BTreeMap<TopicIx, Shaper>,
    writer: Writer,
    /// Up to where events have been taken, and not all of it written.
    positions: BTreeMap<Partition, LakePosition>,
    /// How long events wait at most.
    flush: Duration,
    /// When the first of those that wait came.
    since: Option<Instant>,
    /// When the catalog was last told how far all is complete.
    noted: Instant,
    // Ended before the rest, as the last to be dropped is who is read from.
    records: Receiver<Ingested>,
    ingest: Ingest,
}

impl<'a> Filling<'a> {
    fn begin(wires: &'a Wires, runtime: &'a Handle, stage: &Stage) -> Result<Self> {
        stage.works();
        let store = &wires.store;
        let before = runtime.block_on(stage.awaits("store", store.lake_positions()))?;
        let mut recovery = Recovery::default();
        for position in &before {
            let Some(topic) = wires.topics.find(&position.topic) else { continue };
            if wires.topics.incarnation(topic) == position.incarnation {
                let partition = Partition { topic, number: position.partition };
                let offset = position.next_offset;
                let last = position.last_hash.map(|hash| LastRead { offset: offset.saturating_sub(1), hash });
                let resume = Resume { offset, log_max: position.newest_log, last };
                recovery.partitions.insert(partition, resume);
            }
        }
        wires.live.begin(&before);
        let mut settings = IngestSettings { held: true, ..wires.settings.clone() };
        for topic in &mut settings.topics {
            // What is lost does not become less by standing still, and is said in each answer.
            topic.on_loss = OnLoss::Continue;
            if wires.topics.incarnation(topic.topic) > 0 {
                // It was accepted, and so is read from its start.
                topic.start = StartAt::Earliest;
            }
        }
        let (ingest, records) = Ingest::start(settings, recovery)?;
        let mut in_force = wires.in_force.clone();
        let compiled = in_force.borrow_and_update().clone();
        Ok(Self {
            wires,
            runtime,
            in_force,
            compiled,
            shapers: BTreeMap::new(),
            writer: Writer::new(wires.place.clone()),
            positions: BTreeMap::new(),
            flush: Duration::from_micros(wires.lake.flush.0.unsigned_abs()),
            since: None,
            noted: Instant::now(),
            records,
            ingest,
        })
    }

    /// Until it is to stop, or topics have become others: these.
    fn run(&mut self, stage: &Stage) -> Result<Option<Arc<Topics>>> {
        let (mut looked, mut kept) = (Instant::now(), None::<Instant>);
        loop {
            if kept.is_none_or(|kept| kept.elapsed() >= TICK) {
                kept = Some(Instant::now());
                behind::keep(&self.ingest, &self.wires.detection);
            }
            if stage.stopping() {
                self.write(stage)?;
                return Ok(None);
            }
            if looked.elapsed() >= LOOK {
                looked = Instant::now();
                if let Some(topics) = self.changed(stage)? {
                    self.write(stage)?;
                    return Ok(Some(topics));
                }
            }
            // Columns of another mapping can be of other types, and come into other files.
            let mapped = self.in_force.has_changed().unwrap_or(false);
            let due = mapped && self.since.is_some()
                || self.since.is_some_and(|since| since.elapsed() >= self.flush)
                || self.writer.bytes() >= MOST;
            if due && !self.write(stage)? {
                // What waits is kept, and no more is taken until it is written.
                pause(stage, PAUSE);
                continue;
            }
            if self.since.is_none() && self.noted.elapsed() >= NOTE {
                self.note(stage)?;
            }
            if mapped {
                self.compiled = self.in_force.borrow_and_update().clone();
                self.shapers.clear();
            }
            match self.records.recv_timeout(TICK) {
                Ok(item) => {
                    stage.works();
                    self.take(item, stage)?;
                }
                Err(RecvTimeoutError::Timeout) => stage.rests(),
                Err(RecvTimeoutError::Disconnected) => anyhow::bail!("its reader has ended"),
            }
        }
    }

    /// The topics, if one of them was accepted anew.
    fn changed(&self, stage: &Stage) -> Result<Option<Arc<Topics>>> {
        let now = self.runtime.block_on(stage.awaits("store", self.wires.store.incarnations()))?;
        let settings = self.wires.settings.topics.iter();
        let named = settings.map(|topic| {
            let incarnation = now.get(&*topic.name).copied().unwrap_or(0);
            (topic.name.clone(), incarnation, self.wires.topics.incarnation(topic.topic))
        });
        let named: Vec<_> = named.collect();
        let changed = named.iter().any(|(_, now, before)| now != before);
        let topics = || named.iter().map(|(name, now, _)| (name.clone(), *now));
        Ok(changed.then(|| Arc::new(Topics::with_incarnations(topics()))))
    }

    fn take(&mut self, item: Ingested, stage: &Stage) -> Result<()> {
        match item {
            Ingested::Batch(raw) => self.batch(&raw),
            Ingested::Lost { partition, from, to } => {
                let topics = &self.wires.topics;
                let topic = topics.name(partition.topic);
                tracing::warn!(%topic, partition = partition.number, from, to, "Kafka deleted records before the lake had them");
                let lost = LostInterval {
                    topic: topic.to_string(),
                    incarnation: topics.incarnation(partition.topic),
                    partition: partition.number,
                    from,
                    to,
                    noticed_at: crate::now(),
                };
                // Told again after the next beginning, should this fail.
                let noted = self.wires.store.lost_for_lake(&lost);
                Ok(self.runtime.block_on(stage.awaits("store", noted))?)
            }
            Ingested::Failed(error) => Err(error.into()),
            Ingested::Idle { partition: Partition { topic, number }, sent_at } => {
                let topics = &self.wires.topics;
                self.wires.live.idle(topics.name(topic), topics.incarnation(topic), number, sent_at);
                Ok(())
            }
            Ingested::Assigned { partition, offset } => self.assigned(partition, offset, stage),
            // How detection stands is told by its own reader, which hears the same.
            Ingested::Placed(_)
            | Ingested::Awaited { .. }
            | Ingested::Accepted(_)
            | Ingested::StatusChange(_) => Ok(()),
        }
    }

    /// Notes where a partition begins that was not begun before: where the newest come first, the next start would begin later.
    fn assigned(&mut self, partition: Partition, offset: i64, stage: &Stage) -> Result<()> {
        let Wires { topics, live, store, .. } = self.wires;
        let position = LakePosition {
            topic: topics.name(partition.topic).to_string(),
            incarnation: topics.incarnation(partition.topic),
            partition: partition.number,
            next_offset: offset,
            newest_log: None,
            last_hash: None,
            through: None,
        };
        if !live.assigned(&position) {
            return Ok(());
        }
        let noted = store.add_to_lake(&[], std::slice::from_ref(&position));
        self.runtime.block_on(stage.awaits("store", noted)).context("the catalog does not take positions")
    }

    fn batch(&mut self, raw: &RawBatch) -> Result<()> {
        let topic = raw.partition.topic;
        let shaper = match self.shapers.entry(topic) {
            std::collections::btree_map::Entry::Occupied(shaper) => shaper.into_mut(),
            std::collections::btree_map::Entry::Vacant(free) => {
                let sources = &self.compiled.newest().sources;
                let name = (self.wires.topics.name(topic), self.wires.topics.incarnation(topic));
                let def = sources.get(raw.source);
                let records = self.wires.lake.originals.of(&def.name);
                let shaper = Shaper::new(def, sources, name, (records, self.wires.secret))?;
                free.insert(shaper)
            }
        };
        let (mut events, mut dead) = (Vec::new(), Vec::new());
        shaper.decoder.decode(raw, &mut events, &mut dead);
        let mut taken = Vec::with_capacity(events.len());
        for batch in &events {
            let shaped = shaper.shape(raw, batch)?;
            self.writer.push(&shaper.origin, &shaped, weight(raw, batch, &shaped))?;
            taken.push(shaped);
        }
        if let Some(last) = raw.records.last() {
            let topics = &self.wires.topics;
            let position = self.positions.entry(raw.partition).or_insert_with(|| LakePosition {
                topic: topics.name(topic).to_string(),
                incarnation: topics.incarnation(topic),
                partition: raw.partition.number,
                next_offset: 0,
                newest_log: None,
                last_hash: None,
                through: None,
            });
            position.next_offset = last.offset.saturating_add(1);
            position.last_hash = Some(record_hash(raw.payload(last)));
            position.newest_log =
                raw.records.iter().filter_map(|record| record.ts_log).max().max(position.newest_log);
            self.wires.live.take(&shaper.origin, position, taken);
            self.since.get_or_insert_with(Instant::now);
        }
        Ok(())
    }

    /// Writes what waits, and has the catalog name it; false if the disk or the bucket does not take it.
    ///
    /// # Errors
    /// If the catalog does not say that it has the files: only a new beginning tells whether it has.
    fn write(&mut self, stage: &Stage) -> Result<bool> {
        if self.positions.is_empty() {
            return self.note(stage).map(|()| true);
        }
        stage.works();
        let files = match self.writer.write(crate::now()) {
            Ok(files) => files,
            Err(error) => {
                tracing::error!(
                    "the lake cannot be written: {error}; it is tried again, and detection goes on"
                );
                return Ok(false);
            }
        };
        let brought = self.wires.place.bring(&files);
        match self.runtime.block_on(stage.awaits(WHERE, in_time(brought, stage))) {
            Some(Ok(())) => {}
            Some(Err(error)) => {
                tracing::error!(
                    "the lake cannot be written: {error}; it is tried again, and detection goes on"
                );
                return Ok(false);
            }
            // What waits is read again by the next start.
            None => return Ok(false),
        }
        // All that was taken is in these files, so that they are complete for as long as what was taken is.
        let positions = self.wires.live.positions();
        let added = self.wires.store.add_to_lake(&files, &positions);
        let added = self.runtime.block_on(stage.awaits("store", added));
        added.context("the catalog does not take new files")?;
        self.writer.written();
        self.wires.live.written();
        self.positions.clear();
        self.since = None;
        self.noted = Instant::now();
        stage.works();
        Ok(true)
    }

    /// Has the catalog say how far all is complete, while nothing waits.
    fn note(&mut self, stage: &Stage) -> Result<()> {
        let positions = self.wires.live.positions();
        let noted = self.wires.store.add_to_lake(&[], &positions);
        self.runtime.block_on(stage.awaits("store", noted)).context("the catalog does not take positions")?;
        self.noted = Instant::now();
        Ok(())
    }
}

/// Bytes that events take while they wait: their share of the records' text, which all texts lie in, what their columns have beside that, and
/// originals, which are texts of their own where secrets are hidden.
fn weight(raw: &RawBatch, batch: &EventBatch, events: &vedette_hunt::RecordBatch) -> usize {
    let (rows, columns) = (events.num_rows(), events.num_columns());
    let originals: usize = (0..rows).map(|row| batch.original().cell(row).text.len()).sum();
    originals + raw.data.len() * rows / raw.records.len().max(1) + columns * (rows * CELL + COLUMN)
}

/// What this comes to, unless the stage is to stop and it takes long then.
pub async fn in_time<T>(work: impl Future<Output = T>, stage: &Stage) -> Option<T> {
    let late = async {
        stage.asked_to_stop().await;
        tokio::time::sleep(LAST).await;
    };
    tokio::select! {
        done = work => Some(done),
        () = late => None,
    }
}

/// Which source each topic is of.
pub fn topic_sources(config: &Config) -> BTreeMap<String, String> {
    config.kafka.topics.iter().map(|topic| (topic.name.clone(), topic.source.clone())).collect()
}
