//! What the kernel holds and has done, in figures.
//!
//! In: nothing. Out: counts, for operators and for tests that hold work against what is new.

use vedette_correlate::{Effort, Load};

use crate::Engine;

impl Engine {
    /// How much is held now, against what may be. Not for every batch.
    #[must_use]
    pub fn load(&self) -> Load {
        self.correlator.load()
    }

    /// What was done so far, by count.
    #[must_use]
    pub const fn effort(&self) -> Effort {
        self.correlator.effort()
    }
}
