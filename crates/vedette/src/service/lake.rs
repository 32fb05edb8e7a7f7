//! The lake's stage: reads everything once more, by positions of its own, and writes all of it down.
//!
//! In: records, the sources in force. Out: files of the lake with their rows in the catalog. Invariants: nothing waits for it, and what
//! holds it up (a full disk, a store that does not answer) is tried again and holds up nobody else; what waits is bounded, and then
//! nothing more is read; a file's events and the positions behind them are noted together, so that each event is in the lake once.
//!
//! It has a reader of its own, because a disk may be slow for an hour: what detection has passed by then can only be read again, so there must
//! be a reader that stands where the lake does, and a second way beside it would be one more to be wrong. It costs a second fetch of
//! each record; decoding is another one anyway, since here all fields are wanted.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use crossbeam_channel::{Receiver, RecvTimeoutError};
use tokio::{runtime::Handle, sync::watch};
use vedette_decode::{Decoder, all_fields};
use vedette_engine::Compiled;
use vedette_event::{
    EventBatch, Micros, Partition, Placed, Projection, RawBatch, SourceDef, Sources, TopicIx, Topics, place,
};
use vedette_hunt::{
    Columns, Converter, Origin,
    lake::{Writer, placed, remove_orphans},
};
use vedette_ingest::{Ingest, IngestSettings, Ingested, Recovery, Resume};
use vedette_store::{
    Store,
    model::{LakeFile, LakePosition},
};

use super::supervisor::Stage;
use crate::config::lake::LakeConfig;

/// Bytes of events that wait to be written at most: some 200,000 events, whose sorting takes as much again.
const MOST: usize = 96 << 20;
/// How often it looks around while nothing comes.
const TICK: Duration = Duration::from_millis(200);
/// Pause after what could not be done.
const PAUSE: Duration = Duration::from_secs(5);
/// How often it asks whether a topic was accepted anew.
const LOOK: Duration = Duration::from_secs(10);

/// What the stage works with.
pub struct Wires {
    /// Where files go.
    pub folder: PathBuf,
    /// What it is to keep, and how soon.
    pub lake: LakeConfig,
    /// What is read, and how.
    pub settings: IngestSettings,
    /// The names and incarnations of topics at the start.
    pub topics: Arc<Topics>,
    /// The sources change.
    pub in_force: watch::Receiver<Arc<Compiled>>,
    /// The catalog.
    pub store: Store,
    /// What hashes of secrets are keyed with.
    pub secret: [u8; 32],
}

/// Works until it is to stop. What cannot be done is said and tried again.
pub fn run(mut wires: Wires, runtime: &Handle, stage: &Stage) -> Result<()> {
    while !stage.stopping() {
        let ended = Filling::begin(&wires, runtime, stage).and_then(|mut filling| filling.run(stage));
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

fn pause(stage: &Stage, time: Duration) {
    let began = Instant::now();
    while began.elapsed() < time && !stage.stopping() {
        stage.waits_for("lake");
        std::thread::sleep(TICK.min(time));
    }
}

/// What becomes of one topic's records.
struct Shaper {
    origin: Arc<str>,
    topic: Arc<str>,
    decoder: Decoder,
    converter: Converter,
    bounds: (vedette_event::Span, vedette_event::Span),
}

impl Shaper {
    fn new(def: &SourceDef, sources: &Sources, topic: &Arc<str>, secret: [u8; 32]) -> Result<Self> {
        let fields = all_fields(def, &sources.fields);
        let projection = Projection::new(fields.iter().cloned());
        let decoder = Decoder::new(def, &sources.fields, &projection, secret)?;
        let columns =
            Columns::of_lake(fields.iter().map(|name| &**name), &sources.fields, !def.own_logsource());
        let bounds = (def.disorder, def.future);
        let converter = columns.converter()?;
        Ok(Self { origin: def.name.clone(), topic: topic.clone(), decoder, converter, bounds })
    }

    /// The events of a batch as the lake has them.
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
        Ok(placed(&batch, &places, &logs)?)
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
    /// Bytes of all files that the catalog names.
    held: u64,
    /// How long events wait at most.
    flush: Duration,
    /// When the first of those that wait came.
    since: Option<Instant>,
    // Ended before the rest, as the last to be dropped is who is read from.
    records: Receiver<Ingested>,
    _ingest: Ingest,
}

impl<'a> Filling<'a> {
    fn begin(wires: &'a Wires, runtime: &'a Handle, stage: &Stage) -> Result<Self> {
        stage.works();
        let store = &wires.store;
        let asked = async {
            let named = store.lake_files(None, Micros::MIN, Micros::MAX).await?;
            Ok::<_, vedette_store::Error>((named, store.lake_positions().await?))
        };
        let (named, before) = runtime.block_on(stage.awaits("store", asked))?;
        let held = named.iter().map(|file| file.bytes).sum();
        let named: BTreeSet<String> = named.into_iter().map(|file| file.path).collect();
        let removed = remove_orphans(&wires.folder, &named)?;
        if removed > 0 {
            tracing::info!(removed, "files that an ended process left behind were removed from the lake");
        }
        let mut recovery = Recovery::default();
        for position in before {
            let Some(topic) = wires.topics.find(&position.topic) else { continue };
            if wires.topics.incarnation(topic) == position.incarnation {
                let partition = Partition { topic, number: position.partition };
                let resume =
                    Resume { offset: position.next_offset, log_max: position.newest_log, last: None };
                recovery.partitions.insert(partition, resume);
            }
        }
        let (ingest, records) = Ingest::start(wires.settings.clone(), recovery)?;
        let mut in_force = wires.in_force.clone();
        let compiled = in_force.borrow_and_update().clone();
        Ok(Self {
            wires,
            runtime,
            in_force,
            compiled,
            shapers: BTreeMap::new(),
            writer: Writer::new(&wires.folder),
            positions: BTreeMap::new(),
            held,
            flush: Duration::from_micros(wires.lake.flush.0.unsigned_abs()),
            since: None,
            records,
            _ingest: ingest,
        })
    }

    /// Until it is to stop, or topics have become others: these.
    fn run(&mut self, stage: &Stage) -> Result<Option<Arc<Topics>>> {
        let mut looked = Instant::now();
        loop {
            if stage.stopping() {
                self.write(stage)?;
                return Ok(None);
            }
            if looked.elapsed() >= LOOK {
                looked = Instant::now();
                self.forget(stage)?;
                if let Some(topics) = self.changed(stage)? {
                    self.write(stage)?;
                    return Ok(Some(topics));
                }
            }
            let due =
                self.since.is_some_and(|since| since.elapsed() >= self.flush) || self.writer.bytes() >= MOST;
            if due && !self.write(stage)? {
                // What waits is kept, and no more is taken until it is written.
                pause(stage, PAUSE);
                continue;
            }
            match self.records.recv_timeout(TICK) {
                Ok(item) => {
                    stage.works();
                    self.take(item)?;
                }
                Err(RecvTimeoutError::Timeout) => stage.rests(),
                Err(RecvTimeoutError::Disconnected) => anyhow::bail!("its reader has ended"),
            }
        }
    }

    /// Removes what is older than it is to be, and the oldest where all is larger.
    fn forget(&mut self, stage: &Stage) -> Result<()> {
        let store = &self.wires.store;
        let LakeConfig { keep, size, .. } = &self.wires.lake;
        let oldest = crate::now().minus(*keep);
        // The whole catalog is read only where some of what is young enough has to go, too.
        let until = if self.held > size.0 { Micros::MAX } else { oldest };
        let asked = store.lake_files(None, Micros::MIN, until);
        let files = self.runtime.block_on(stage.awaits("store", asked))?;
        let gone = gone(files, self.held, oldest, size.0);
        let Some(last) = gone.last() else { return Ok(()) };
        self.runtime.block_on(stage.awaits("store", store.remove_from_lake(&gone)))?;
        self.held -= gone.iter().map(|file| file.bytes).sum::<u64>().min(self.held);
        tracing::info!(files = gone.len(), through = %last.latest, "what the lake is to keep no longer was removed");
        for file in &gone {
            // The catalog names it no more; where that fails, the next start removes it.
            if let Err(error) = std::fs::remove_file(self.wires.folder.join(&file.path)) {
                tracing::warn!(file = file.path, %error, "a file that the lake keeps no longer could not be removed");
            }
        }
        Ok(())
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

    fn take(&mut self, item: Ingested) -> Result<()> {
        match item {
            Ingested::Batch(raw) => self.batch(&raw),
            Ingested::Lost { partition, from, to } => {
                let topic = self.wires.topics.name(partition.topic);
                tracing::warn!(%topic, partition = partition.number, from, to, "Kafka deleted records before the lake had them");
                Ok(())
            }
            Ingested::Failed(error) => Err(error.into()),
            // How detection stands is told by its own reader, which hears the same.
            Ingested::Assigned { .. }
            | Ingested::Placed(_)
            | Ingested::Idle { .. }
            | Ingested::Awaited { .. }
            | Ingested::Accepted(_)
            | Ingested::StatusChange(_) => Ok(()),
        }
    }

    fn batch(&mut self, raw: &RawBatch) -> Result<()> {
        if self.in_force.has_changed().unwrap_or(false) {
            self.compiled = self.in_force.borrow_and_update().clone();
            self.shapers.clear();
        }
        let topic = raw.partition.topic;
        let shaper = match self.shapers.entry(topic) {
            std::collections::btree_map::Entry::Occupied(shaper) => shaper.into_mut(),
            std::collections::btree_map::Entry::Vacant(free) => {
                let sources = &self.compiled.newest().sources;
                let name = self.wires.topics.name(topic);
                let shaper = Shaper::new(sources.get(raw.source), sources, name, self.wires.secret)?;
                free.insert(shaper)
            }
        };
        let (mut events, mut dead) = (Vec::new(), Vec::new());
        shaper.decoder.decode(raw, &mut events, &mut dead);
        for batch in &events {
            let shaped = shaper.shape(raw, batch)?;
            let bytes = raw.data.len() * batch.rows() / raw.records.len().max(1)
                + shaped.num_columns() * batch.rows() * 4;
            self.writer.push(&shaper.origin, &shaped, bytes)?;
        }
        if let Some(last) = raw.records.last() {
            let topics = &self.wires.topics;
            let position = self.positions.entry(raw.partition).or_insert_with(|| LakePosition {
                topic: topics.name(topic).to_string(),
                incarnation: topics.incarnation(topic),
                partition: raw.partition.number,
                next_offset: 0,
                newest_log: None,
            });
            position.next_offset = last.offset.saturating_add(1);
            position.newest_log =
                raw.records.iter().filter_map(|record| record.ts_log).max().max(position.newest_log);
            self.since.get_or_insert_with(Instant::now);
        }
        Ok(())
    }

    /// Writes what waits, and has the catalog name it; false if the disk does not take it.
    ///
    /// # Errors
    /// If the catalog does not say that it has the files: only a new beginning tells whether it has.
    fn write(&mut self, stage: &Stage) -> Result<bool> {
        if self.positions.is_empty() {
            return Ok(true);
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
        let positions: Vec<LakePosition> = self.positions.values().cloned().collect();
        let added = self.wires.store.add_to_lake(&files, &positions);
        let added = self.runtime.block_on(stage.awaits("store", added));
        added.context("the catalog does not take new files")?;
        self.held += files.iter().map(|file| file.bytes).sum::<u64>();
        self.writer.written();
        self.positions.clear();
        self.since = None;
        stage.works();
        Ok(true)
    }
}

/// Of these files those that go, the oldest first: all that ended before `oldest`, and more until those of `held` bytes that stay have no more
/// than `size`.
fn gone(mut files: Vec<LakeFile>, mut held: u64, oldest: Micros, size: u64) -> Vec<LakeFile> {
    files.sort_by_key(|file| file.latest);
    let goes = |file: &&LakeFile| {
        let goes = file.latest < oldest || held > size;
        held -= if goes { file.bytes } else { 0 };
        goes
    };
    let gone = files.iter().take_while(goes).count();
    files.truncate(gone);
    files
}

/// Where the lake is: a folder beside the store's files.
pub fn folder(data: &Path) -> PathBuf {
    data.join("lake")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(latest: i64, bytes: u64) -> LakeFile {
        LakeFile {
            path: latest.to_string(),
            layout: 1,
            source: "waf".to_owned(),
            hour: 0,
            earliest: Micros(latest - 1),
            latest: Micros(latest),
            events: 1,
            bytes,
            written_at: Micros(0),
        }
    }

    #[test]
    fn the_oldest_go_by_age_and_then_by_size() {
        let files = || vec![file(30, 10), file(10, 10), file(20, 10), file(40, 10)];
        let gone = |oldest, size| -> Vec<i64> {
            gone(files(), 40, Micros(oldest), size).iter().map(|file| file.latest.0).collect()
        };
        assert_eq!(gone(0, 40), [0; 0]);
        assert_eq!(gone(20, 40), [10], "what ended right then stays");
        assert_eq!(gone(0, 39), [10]);
        assert_eq!(gone(0, 15), [10, 20, 30]);
        assert_eq!(gone(25, 35), [10, 20], "age alone has made room");
        assert_eq!(gone(100, 0), [10, 20, 30, 40]);
    }
}
