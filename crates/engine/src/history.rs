//! Events that took part before: who kept them says where they stand.
//!
//! In: evaluated events with their places, in any order; below which time all of a source were given. Out: [`Output`].
//! Invariant: the alerts are those of the same events read the first time, since these follow from the placed events alone and watermarks
//! only decide when. Nothing is placed here, so no partition is known and none is waited for.

use vedette_event::{Flags, Incarnation, Micros, PlacedBatch, SourceIx};

use crate::{Engine, Output, detector::DetectedBatch};

impl Engine {
    /// Takes events at these times, with these flags, one a row.
    pub fn recall(
        &mut self,
        batch: DetectedBatch,
        incarnation: Incarnation,
        (times, flags): (Vec<Micros>, Vec<Flags>),
        out: &mut Output,
    ) {
        let DetectedBatch { events, version, hits, routed } = batch;
        let placed =
            PlacedBatch { events, version, incarnation, times, flags, moved: Vec::new(), undated: 0, hits };
        self.push(&placed, &routed, out);
    }

    /// Says that all events of a source before this time were taken. Nothing is released before [`Engine::come_on`].
    pub fn come_to(&mut self, source: SourceIx, passed: Micros) {
        if let Some(watermark) = self.watermarks.get_mut(usize::from(source.0)) {
            *watermark = passed.max(*watermark);
        }
    }

    /// Releases what is due: all of it, or only where enough has come since ([`crate::EngineSettings::release_after`]).
    pub fn come_on(&mut self, all: bool, out: &mut Output) {
        if all || self.correlator.fresh() >= self.settings.release_after {
            self.unfinished =
                !self.correlator.release(&self.watermarks, self.settings.alerts_at_once, &mut out.correlated);
        }
    }
}
