//! Each query gets the lake as it is at one moment.
//!
//! In: the catalog, where the files are, what waits ([`Live`]), which source each topic is of. Out: [`Lake`]. Invariant: each event is in it once, whatever is written meanwhile.

use std::{collections::BTreeMap, sync::Arc};

use vedette_event::{Incarnation, Micros};
use vedette_store::{
    Store,
    model::{Holds, LakeCatalog},
};

use super::{Lake, LakeError, Live, Missing, Place, Reached};

/// Reads the lake of a data folder. Clones are the same, and cheap.
#[derive(Debug, Clone)]
pub struct LakeReader {
    store: Store,
    place: Place,
    live: Live,
    topics: Arc<BTreeMap<String, String>>,
}

impl LakeReader {
    /// Of the files in this place that the store's catalog names, and of what waits. Another process sees nothing wait. `topics` says which
    /// source each topic that is read now is of: how far others once were says nothing of how far the lake is.
    #[must_use]
    pub fn new(store: Store, place: impl Into<Place>, live: Live, topics: BTreeMap<String, String>) -> Self {
        Self { store, place: place.into(), live, topics: Arc::new(topics) }
    }

    /// Where the files are.
    #[must_use]
    pub const fn place(&self) -> &Place {
        &self.place
    }

    /// The lake as it is now, for one query: of one source, or all.
    ///
    /// # Errors
    /// If the catalog cannot be read, or a folder, or if a newer program wrote some of it.
    pub async fn now(&self, source: Option<&str>) -> Result<Lake, LakeError> {
        let reading = self.live.read();
        // In this order: what is written in between is in both, and left out by its offsets; the other way round it would be in neither.
        let newest = self.live.newest();
        let LakeCatalog { files, originals, positions, dropped, lost } =
            self.store.lake_catalog(source).await?;
        let mut lake = Lake::new(self.place.clone(), files)?.with_newest(newest, &positions, source)?;
        lake = lake.with_originals(originals);
        lake.reading = Some(reading);
        let is_of = |topic: &String| {
            let of = self.topics.get(topic);
            of.is_some_and(|of| source.is_none_or(|source| source == of))
        };
        let (dropped, of_originals) = dropped.into_iter().partition(|of| of.holds == Holds::Events);
        lake.missing = Missing {
            dropped,
            originals: of_originals,
            lost: lost.into_iter().filter(|of| is_of(&of.topic)).collect(),
            renewed: Vec::new(),
        };
        lake.reached.retain(|of| is_of(&of.position.topic));
        // Of a topic that was made anew the one before is over.
        let mut newest: BTreeMap<String, Incarnation> = BTreeMap::new();
        for Reached { position, .. } in &lake.reached {
            let newest = newest.entry(position.topic.clone()).or_default();
            *newest = position.incarnation.max(*newest);
        }
        let is_newest = |of: &Reached| {
            newest.get(&of.position.topic).is_some_and(|newest| *newest == of.position.incarnation)
        };
        let mut renewed: BTreeMap<String, Option<Micros>> = BTreeMap::new();
        for Reached { position, .. } in lake.reached.iter().filter(|of| !is_newest(of)) {
            let until = renewed.entry(position.topic.clone()).or_default();
            *until = position.newest_log.max(*until);
        }
        // Once nothing of that time is kept any more, nothing of it is missing.
        let oldest = lake.files.iter().map(|file| file.earliest).min();
        renewed.retain(|_, until| oldest.is_none_or(|oldest| until.is_none_or(|until| until >= oldest)));
        lake.missing.renewed = renewed.into_iter().collect();
        lake.reached.retain(is_newest);
        Ok(lake)
    }
}
