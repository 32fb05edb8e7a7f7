//! What a run left in its store.
//!
//! In: a data folder that no process holds. Out: [`Stored`], for comparison.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use vedette_engine::KEY_GROUPS;
use vedette_event::{Micros, Severity};
use vedette_store::{
    Access, MAX_PAGE, Store, StoreSettings,
    model::{ListQuery, RowState},
};

/// The last event's time, the count and the severity of a revision.
pub type Point = (Micros, u64, Severity);

/// What a run left.
#[derive(Debug, Default)]
pub struct Stored {
    /// The newest revision of each alert and its body.
    pub bodies: BTreeMap<String, (u32, String)>,
    /// Every revision that was ever stored.
    pub revisions: BTreeMap<(String, u32), Point>,
    /// Topic, partition, offset, index and reason.
    pub dead: BTreeSet<(String, i32, i64, Option<u32>, String)>,
    /// The same, counted by the store.
    pub dead_count: u64,
    /// Placements that are no function of the record alone: none in a healthy cluster.
    pub placements: usize,
    /// Intervals that Kafka deleted unread.
    pub lost: usize,
    /// By topic, the watermark of its source in the checkpoints.
    pub watermarks: BTreeMap<String, Micros>,
}

/// Runs something on the store of a data folder.
pub fn with_store<T>(
    folder: &Path,
    access: Access,
    work: impl AsyncFnOnce(&Store) -> Result<T>,
) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let store = Store::open(StoreSettings::new(folder, access)).await?;
        let done = work(&store).await;
        store.close().await;
        done
    })
}

/// Reads everything.
pub fn read(folder: &Path) -> Result<Stored> {
    with_store(folder, Access::Tool, async |store| {
        let mut stored = Stored::default();
        alerts(store, &mut stored).await?;
        let mut cursor = None;
        loop {
            let page = store.dead_letters(None, MAX_PAGE, cursor.as_deref()).await?;
            let place =
                |l: vedette_store::model::DeadLetterRow| (l.topic, l.partition, l.offset, l.index, l.reason);
            stored.dead.extend(page.items.into_iter().map(place));
            cursor = page.next_cursor;
            if cursor.is_none() {
                break;
            }
        }
        let counts = store.dead_letter_counts(Micros::MIN).await?;
        stored.dead_count = counts.iter().map(|c| c.kept + c.folded).sum();
        stored.placements = store.placements(None, u32::MAX).await?.len();
        stored.lost = store.lost_intervals().await?.len();
        let mut checkpoints: Vec<vedette_store::model::Checkpoint> = Vec::new();
        while let Some(next) = store.next_checkpoint(checkpoints.last().map(|last| last.group)).await? {
            checkpoints.push(next);
        }
        let groups: Vec<_> = checkpoints.iter().filter(|c| c.group < KEY_GROUPS).collect();
        ensure!(groups.len() == usize::from(KEY_GROUPS), "{} checkpoints", groups.len());
        for checkpoint in groups {
            watermarks(&checkpoint.bytes, &mut stored.watermarks)
                .with_context(|| format!("checkpoint of group {}", checkpoint.group))?;
        }
        Ok(stored)
    })
}

async fn alerts(store: &Store, stored: &mut Stored) -> Result<()> {
    let mut query = ListQuery { limit: MAX_PAGE, ..ListQuery::default() };
    query.filter.state = [RowState::Active, RowState::Ended].into();
    loop {
        let page = store.list(&query).await?;
        for row in page.items {
            for point in store.revisions(&row.id).await? {
                let what = (point.last_seen, point.count, point.severity);
                stored.revisions.insert((row.id.clone(), point.revision), what);
            }
            stored.bodies.insert(row.id, (row.revision, row.body));
        }
        query.cursor = page.next_cursor;
        if query.cursor.is_none() {
            return Ok(());
        }
    }
}

/// The watermark of each topic's source: all checkpoints of a clean stop agree on it.
fn watermarks(bytes: &[u8], into: &mut BTreeMap<String, Micros>) -> Result<()> {
    let (length, rest) = bytes.split_first_chunk::<4>().context("too short")?;
    let header: Value = serde_json::from_slice(&rest[..u32::from_le_bytes(*length) as usize])?;
    for point in header["partitions"].as_array().context("no partitions")? {
        let topic = point["topic"].as_str().context("no topic")?.to_owned();
        let floor = Micros(point["floor"].as_i64().context("no floor")?);
        let before = into.insert(topic.clone(), floor);
        ensure!(before.is_none_or(|before| before == floor), "{topic}: {before:?} and {floor:?}");
    }
    Ok(())
}
