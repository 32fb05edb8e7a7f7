//! The evidence stage: reads back the records that alerts refer to, masked, for display.
//!
//! In: the rows of the store that await evidence. Out: their contents in the store; `gone` where Kafka has deleted the
//! record, `undecodable` where it says nothing that can be shown.
//! Invariants: an alert never waits for its evidence, and the store is the only queue of it, so what a crash or a storm
//! left out is found like anything else; rows are taken oldest first, many at once, and each partition is read once for
//! all of them; a row whose record cannot be had now is passed by and comes up again with the next turn, and what cannot
//! be had takes no more than a fifth of the time; what is held is bounded in rows and bytes.

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Result;
use tokio::{runtime::Handle, sync::watch};
use vedette_decode::{Inspector, RefusedRecord};
use vedette_engine::Compiled;
use vedette_event::{Evidence, Incarnation, Partition};
use vedette_ingest::{Found, ReadBack};
use vedette_store::{
    Store,
    model::{AwaitingEvidence, Content, EvidenceContent, EvidenceOf},
};

use super::{excerpt::excerpt, supervisor::Stage};

/// Rows looked at together: enough that a storm's references share one reading of each partition; a few megabytes.
const ROWS: u32 = 500;
/// Rows written in one transaction, which holds up the publisher for some milliseconds.
const TOGETHER: usize = 64;
/// How long evidence gives way to notices and alerts that wait before it takes a transaction's turn: of an alert it is ten rows,
/// which in a storm were written between the alerts themselves.
const GIVE_WAY: Duration = Duration::from_secs(1);
/// Bytes of contents that are held before they are written: ten references of each row can be some ten kilobytes each.
const HELD: usize = 8 << 20;
/// How long contents are held before they are written.
const HOLD: Duration = Duration::from_millis(500);
/// Pauses before a partition that could not be read is tried again.
const PAUSES: [Duration; 5] = [
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
    Duration::from_secs(8),
    Duration::from_secs(15),
];
/// After a try that failed, no partition that failed before is tried for so many times as long as it took.
const CALM: u32 = 4;
/// How long to wait for changes of the store, at least and at most.
const WAIT: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(10));

/// A reference within the rows of a turn: the row, the topic's incarnation, and the event's index within its record.
type Wanted = (usize, Incarnation, u32);

/// What a turn wants of one partition, by offset.
type Offsets = BTreeMap<i64, Vec<Wanted>>;

/// A partition that could not be read.
struct Trouble {
    until: Instant,
    pauses: usize,
}

struct Fetcher<'a> {
    stage: &'a Stage,
    runtime: Handle,
    read_back: ReadBack,
    /// Mappings change.
    in_force: watch::Receiver<Arc<Compiled>>,
    compiled: Arc<Compiled>,
    inspectors: Vec<Inspector>,
    store: Store,
    /// True while notices or alerts wait for the store's writer.
    crowded: Arc<AtomicBool>,
    /// All rows up to this `seq` have had their turn.
    cursor: i64,
    troubles: BTreeMap<Partition, Trouble>,
    /// Until then, no partition in trouble is tried.
    calm_until: Instant,
}

/// Works until it is to stop; what it has not fetched then is found again at the next start.
///
/// # Errors
/// If a source's definition cannot be decoded.
pub fn run(
    read_back: ReadBack,
    in_force: watch::Receiver<Arc<Compiled>>,
    store: Store,
    crowded: Arc<AtomicBool>,
    runtime: Handle,
    stage: &Stage,
) -> Result<()> {
    let compiled = in_force.borrow().clone();
    let fetcher = Fetcher {
        stage,
        runtime,
        read_back,
        inspectors: compiled.inspectors()?,
        compiled,
        in_force,
        store,
        crowded,
        cursor: 0,
        troubles: BTreeMap::new(),
        calm_until: Instant::now(),
    };
    fetcher.run();
    Ok(())
}

impl Fetcher<'_> {
    fn run(mut self) {
        let mut changes = self.store.watch();
        while !self.stage.stopping() {
            self.stage.works();
            self.follow();
            // Marked before the question, so that what is published after it is asked for.
            changes.mark_unchanged();
            if self.due().is_some_and(|due| due <= Instant::now()) {
                self.cursor = 0;
            }
            let rows = if self.gives_way() { TOGETHER as u32 } else { ROWS };
            let asked = self.store.awaiting_evidence(self.cursor, rows);
            let taken = self.runtime.block_on(self.stage.awaits("store", asked));
            let done = taken.and_then(|rows| match rows.last() {
                None => Ok(false),
                Some(last) => {
                    self.cursor = last.seq;
                    self.turn(&rows).map(|()| true)
                }
            });
            match done {
                Ok(true) => {}
                Ok(false) => self.wait(&mut changes),
                Err(e) => {
                    tracing::warn!(error = %e, "evidence waits: the store did not answer");
                    self.cursor = 0;
                    self.stage.waits_for("store");
                    std::thread::sleep(PAUSES[0]);
                }
            }
        }
    }

    /// Waits while others wait for the store's writer, but not for ever; true if they still do.
    fn gives_way(&self) -> bool {
        let until = Instant::now() + GIVE_WAY;
        let crowded = || self.crowded.load(Ordering::Relaxed);
        while crowded() && Instant::now() < until && !self.stage.stopping() {
            self.stage.rests();
            std::thread::sleep(WAIT.0);
        }
        self.stage.works();
        crowded()
    }

    /// Waits until the store has changed or something is to be tried again.
    fn wait(&self, changes: &mut watch::Receiver<i64>) {
        self.stage.rests();
        let due = self.due().map(|due| due.saturating_duration_since(Instant::now()));
        let patience = due.unwrap_or(WAIT.1).clamp(WAIT.0, WAIT.1);
        self.runtime.block_on(async {
            tokio::select! {
                _ = tokio::time::sleep(patience) => {}
                () = self.stage.asked_to_stop() => {}
                _ = async {
                    // A sender that is gone means the end, too.
                    let _ = changes.changed().await;
                    tokio::time::sleep(WAIT.0).await;
                } => {}
            }
        });
    }

    /// When a partition in trouble may be tried again.
    fn due(&self) -> Option<Instant> {
        Some(self.troubles.values().map(|t| t.until).min()?.max(self.calm_until))
    }

    /// One turn of some rows: reads what can be read of them and stores it.
    fn turn(&mut self, rows: &[AwaitingEvidence]) -> Result<(), vedette_store::Error> {
        let mut held = Held::new(rows);
        for (partition, offsets) in self.wanted(rows) {
            if self.stage.stopping() {
                break;
            }
            self.stage.works();
            let trouble = self.troubles.get(&partition);
            let now = Instant::now();
            if trouble.is_some_and(|t| now < t.until.max(self.calm_until)) {
                continue;
            }
            self.read(partition, &offsets, &mut held);
            if held.since.elapsed() > HOLD {
                self.runtime.block_on(held.write(&self.store, self.stage));
            }
        }
        self.runtime.block_on(held.write(&self.store, self.stage));
        held.failed.map_or(Ok(()), Err)
    }

    /// Shows records by the mappings in force.
    fn follow(&mut self) {
        if self.in_force.has_changed().unwrap_or(false) {
            let compiled = self.in_force.borrow_and_update().clone();
            if let Ok(inspectors) = compiled.inspectors() {
                (self.compiled, self.inspectors) = (compiled, inspectors);
            }
        }
    }

    /// What is missing, by partition and offset. A topic that is configured no more waits until it is again.
    fn wanted(&self, rows: &[AwaitingEvidence]) -> BTreeMap<Partition, Offsets> {
        let mut wanted: BTreeMap<Partition, Offsets> = BTreeMap::new();
        for (row, awaiting) in rows.iter().enumerate() {
            for e in &awaiting.missing {
                let Some(topic) = self.compiled.topics.find(&e.topic) else { continue };
                let partition = Partition { topic, number: e.partition };
                wanted.entry(partition).or_default().entry(e.offset).or_default().push((
                    row,
                    e.incarnation,
                    e.index,
                ));
            }
        }
        wanted
    }

    fn read(&mut self, partition: Partition, wanted: &Offsets, held: &mut Held<'_>) {
        let began = Instant::now();
        let topic = self.compiled.topics.name(partition.topic).clone();
        let Some(source) = self.read_back.source(partition) else { return };
        let offsets: Vec<i64> = wanted.keys().copied().collect();
        let inspector = &mut self.inspectors[usize::from(source.0)];
        let mut panicked = false;
        let go_on = || {
            self.stage.waits_for("broker");
            !self.stage.stopping()
        };
        let read = self.read_back.records(partition, &offsets, go_on, |offset, found| {
            self.stage.works();
            let record = show(inspector, offset, found);
            panicked |= matches!(record, Record::Panicked);
            for (row, incarnation, index) in wanted.get(&offset).into_iter().flatten() {
                held.add(
                    *row,
                    EvidenceContent {
                        topic: topic.to_string(),
                        incarnation: *incarnation,
                        partition: partition.number,
                        offset,
                        index: *index,
                        content: record.event(*index),
                    },
                );
                // One record can stand behind hundreds of rows.
                if held.bytes > HELD {
                    self.runtime.block_on(held.write(&self.store, self.stage));
                }
            }
        });
        if panicked && let Ok(fresh) = self.compiled.inspectors() {
            // The old ones may be half through a record.
            self.inspectors = fresh;
        }
        match read {
            Ok(()) => drop(self.troubles.remove(&partition)),
            Err(error) => {
                tracing::debug!(%error, %topic, partition = partition.number, "evidence not read back yet");
                let now = Instant::now();
                self.calm_until = now + began.elapsed() * CALM;
                let trouble = self.troubles.entry(partition).or_insert(Trouble { until: now, pauses: 0 });
                trouble.until = now + PAUSES[trouble.pauses.min(PAUSES.len() - 1)];
                trouble.pauses += 1;
            }
        }
    }
}

/// Contents that are not written yet.
struct Held<'a> {
    rows: &'a [AwaitingEvidence],
    contents: BTreeMap<usize, Vec<EvidenceContent>>,
    bytes: usize,
    /// When the last were written.
    since: Instant,
    failed: Option<vedette_store::Error>,
}

impl<'a> Held<'a> {
    /// What needs no reading: records that are gone, and rows of which nothing is missing, which is to be noted.
    fn new(rows: &'a [AwaitingEvidence]) -> Self {
        let gone = |e: &Evidence| EvidenceContent {
            topic: e.topic.to_string(),
            incarnation: e.incarnation,
            partition: e.partition,
            offset: e.offset,
            index: e.index,
            content: Content::Gone,
        };
        let known = rows.iter().enumerate().filter(|(_, row)| row.missing.is_empty() || !row.gone.is_empty());
        let contents = known.map(|(at, row)| (at, row.gone.iter().map(gone).collect())).collect();
        Self { rows, contents, bytes: 0, since: Instant::now(), failed: None }
    }

    fn add(&mut self, row: usize, content: EvidenceContent) {
        if let Content::Present(text) = &content.content {
            self.bytes += text.len();
        }
        self.contents.entry(row).or_default().push(content);
    }

    /// Writes what is held. What the store did not take is fetched again with the row's next turn.
    async fn write(&mut self, store: &Store, stage: &Stage) {
        self.since = Instant::now();
        self.bytes = 0;
        let of = |(row, contents): (usize, Vec<EvidenceContent>)| EvidenceOf {
            id: self.rows[row].id.clone(),
            contents,
        };
        let all: Vec<EvidenceOf> = std::mem::take(&mut self.contents).into_iter().map(of).collect();
        for some in all.chunks(TOGETHER) {
            if let Err(e) = stage.awaits("store", store.store_evidence(some)).await {
                self.failed = Some(e);
            }
        }
    }
}

/// What a record says.
enum Record {
    Events(Vec<String>),
    Gone,
    Refused(String),
    Panicked,
}

impl Record {
    /// What one of its events says.
    fn event(&self, index: u32) -> Content {
        match self {
            Self::Events(events) => match events.get(index as usize) {
                Some(event) => Content::Present(event.clone()),
                None => Content::Undecodable(format!("the record holds no event {index}")),
            },
            Self::Gone => Content::Gone,
            Self::Refused(detail) => Content::Undecodable(detail.clone()),
            Self::Panicked => Content::Undecodable("decoding it failed".to_owned()),
        }
    }
}

/// The events of a record as JSON objects of canonical fields, secrets masked, what is too long cut.
fn show(inspector: &mut Inspector, offset: i64, found: Found<'_>) -> Record {
    let Found::Record(payload) = found else { return Record::Gone };
    let text = payload.and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or_default();
    let inspected = catch_unwind(AssertUnwindSafe(|| {
        let events = inspector.inspect(offset, payload)?;
        Ok::<_, RefusedRecord>((events, inspector.mask(text)))
    }));
    match inspected {
        Ok(Ok((events, record))) => {
            let json = events.into_iter().map(|event| serde_json::to_string(&excerpt(event, &record)));
            let json = json.collect::<Result<_, _>>();
            json.map_or_else(|e| Record::Refused(e.to_string()), Record::Events)
        }
        Ok(Err(refused)) => Record::Refused(refused.detail.to_string()),
        Err(_) => Record::Panicked,
    }
}
