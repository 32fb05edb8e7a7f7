//! Reads evidence back: the records that an alert refers to, masked, for display.
//!
//! In: rows with references ([`Wanted`]). Out: their contents in the store, `gone` where Kafka has deleted them.
//! Invariants: an alert never waits for its evidence; a record is fetched once for each row that refers to it; what a
//! crash or a full queue left out is found again from the store.

use std::{collections::HashSet, sync::Arc, time::Duration};

use anyhow::Result;
use crossbeam_channel::{Receiver, RecvTimeoutError};
use vedette_decode::Inspector;
use vedette_engine::Compiled;
use vedette_event::{Evidence, Partition};
use vedette_ingest::ReadBack;
use vedette_store::{
    Store,
    model::{EvidenceContent, Publication},
};

use super::publisher::Wanted;

/// Rows taken together into one transaction.
const TOGETHER: usize = 64;
/// How often the store is asked for rows that lack content.
const SWEEP: Duration = Duration::from_secs(10);
/// References remembered as fetched; beyond it the memory starts anew and a few are fetched twice.
const REMEMBERED: usize = 200_000;

type Reference = (String, String, i32, i64, u32);

struct Fetcher {
    read_back: ReadBack,
    compiled: Arc<Compiled>,
    inspectors: Vec<Inspector>,
    store: Store,
    fetched: HashSet<Reference>,
}

/// Starts the thread. It ends when the publisher does.
pub fn spawn(
    read_back: ReadBack,
    compiled: &Arc<Compiled>,
    wanted: Receiver<Wanted>,
    store: Store,
) -> Result<()> {
    let runtime = tokio::runtime::Handle::current();
    let inspectors = compiled.inspectors()?;
    let mut fetcher =
        Fetcher { read_back, compiled: compiled.clone(), inspectors, store, fetched: HashSet::new() };
    std::thread::Builder::new().name("evidence".into()).spawn(move || {
        loop {
            let mut rows = match wanted.recv_timeout(SWEEP) {
                Ok(first) => vec![first],
                Err(RecvTimeoutError::Timeout) => fetcher.pending(&runtime),
                Err(RecvTimeoutError::Disconnected) => return,
            };
            rows.extend(wanted.try_iter().take(TOGETHER));
            let contents: Vec<_> = rows.iter().flat_map(|row| fetcher.contents(row)).collect();
            if contents.is_empty() {
                continue;
            }
            let publication = Publication { evidence: contents, ..Publication::default() };
            if let Err(e) = runtime.block_on(fetcher.store.publish(&publication)) {
                tracing::warn!(error = %e, "evidence could not be stored; it will be read back again");
                fetcher.fetched.clear();
            }
        }
    })?;
    Ok(())
}

impl Fetcher {
    fn pending(&self, runtime: &tokio::runtime::Handle) -> Vec<Wanted> {
        match runtime.block_on(self.store.pending_evidence(TOGETHER as u32)) {
            Ok(rows) => rows.into_iter().map(|p| Wanted { id: p.id, evidence: p.evidence }).collect(),
            Err(e) => {
                tracing::warn!(error = %e, "the store was not asked for rows that lack evidence");
                Vec::new()
            }
        }
    }

    fn contents(&mut self, row: &Wanted) -> Vec<EvidenceContent> {
        if self.fetched.len() > REMEMBERED {
            self.fetched.clear();
        }
        let mut contents = Vec::new();
        for e in &row.evidence {
            let reference = (row.id.clone(), e.topic.to_string(), e.partition, e.offset, e.index);
            if self.fetched.contains(&reference) {
                continue;
            }
            let Some(topic) = self.compiled.topics.find(&e.topic) else { continue };
            let partition = Partition { topic, number: e.partition };
            let content = match self.read_back.record(partition, e.offset) {
                Ok(Some(payload)) => Some(self.show(partition, e, &payload)),
                Ok(None) => None,
                Err(error) => {
                    tracing::debug!(%error, topic = %e.topic, e.partition, e.offset, "evidence not read back yet");
                    continue;
                }
            };
            let (id, topic, partition, offset, index) = reference.clone();
            self.fetched.insert(reference);
            contents.push(EvidenceContent { id, topic, partition, offset, index, content });
        }
        contents
    }

    /// The record as one JSON object of canonical fields, secrets masked.
    fn show(&mut self, partition: Partition, evidence: &Evidence, payload: &[u8]) -> String {
        let Some(source) = self.read_back.source(partition) else { return String::new() };
        let inspector = &mut self.inspectors[usize::from(source.0)];
        let events = inspector.inspect(evidence.offset, Some(payload));
        let event = events.ok().and_then(|mut events| {
            let at = evidence.index as usize;
            (at < events.len()).then(|| events.swap_remove(at))
        });
        event.and_then(|event| serde_json::to_string(&event).ok()).unwrap_or_default()
    }
}
