//! How a class of events comes to be compiled: by what a sample of its events showed, once, for all threads.
//!
//! In: the atoms that held of a few hundred events, from whatever thread looked at them. Out: the [`Class`], once there are enough.
//! Invariants: what the sample holds changes speed alone; a class is compiled once, and while one thread compiles it the others go on with
//! [`Program::general`]. Classes of which little is seen are never compiled: of 32 in a day of Windows logs, 20 have fewer than 256 events.

use std::sync::{Arc, Mutex, OnceLock, TryLockError};

use crate::{
    class::{Class, Names},
    condition::Weight,
    program::Program,
};

/// Events of a class after which its pivots are chosen by what was seen. In tests so few that it happens in every one of them.
pub(crate) const SAMPLE_ROWS: u32 = if cfg!(test) { 4 } else { 256 };

/// A class, as all threads see it.
#[derive(Debug)]
pub(crate) struct Training {
    /// What its events name.
    pub(crate) names: Names,
    sample: Mutex<Sample>,
    class: OnceLock<Arc<Class>>,
}

/// How often each atom held in a sample of a class's events.
#[derive(Debug, Default)]
pub(crate) struct Sample {
    rows: u32,
    held: Vec<u32>,
}

impl Sample {
    /// Two events' worth of the guess are mixed in, so that atoms that never held are told apart.
    pub(crate) fn weight(&self, atom: u32, guess: Weight) -> Weight {
        let held = self.held.get(atom as usize).copied().unwrap_or(0) as f32;
        let cost = guess.cost.map(|cost| (held + 2.0 * cost) / (self.rows as f32 + 2.0));
        Weight { cost, ..guess }
    }
}

/// What one thread has seen of a class.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) rows: u32,
    /// Atoms that held, once for each event.
    pub(crate) held: Vec<u32>,
}

impl Training {
    pub(crate) fn new(names: Names) -> Self {
        Self { names, sample: Mutex::default(), class: OnceLock::new() }
    }

    /// The class, if it is compiled.
    #[inline]
    pub(crate) fn class(&self) -> Option<&Arc<Class>> {
        self.class.get()
    }

    /// Takes what a thread has seen, unless another is at it, and compiles the class if that is enough.
    pub(crate) fn take(&self, program: &Program, seen: &mut Seen) {
        let mut sample = match self.sample.try_lock() {
            Ok(sample) => sample,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        if self.class.get().is_some() {
            return;
        }
        let Sample { rows, held } = &mut *sample;
        *rows += std::mem::take(&mut seen.rows);
        held.resize(program.atoms.len(), 0);
        for atom in seen.held.drain(..) {
            if let Some(times) = held.get_mut(atom as usize) {
                *times += 1;
            }
        }
        if *rows >= SAMPLE_ROWS {
            let class = Class::trained(program, self.names, &sample);
            let _ = self.class.set(Arc::new(class));
            *sample = Sample::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::PoisonError;

    use super::*;
    use crate::agreement::{one_rule, program_of};

    #[test]
    fn who_finds_another_at_it_goes_on() {
        let program = program_of(&one_rule());
        let training = program.training([0; 3]);
        let mut seen = Seen { rows: SAMPLE_ROWS, held: vec![0] };
        let at_it = training.sample.lock().unwrap_or_else(PoisonError::into_inner);
        training.take(&program, &mut seen);
        assert_eq!((seen.rows, training.class().is_some()), (SAMPLE_ROWS, false));
        drop(at_it);
        training.take(&program, &mut seen);
        assert_eq!((seen.rows, training.class().is_some()), (0, true));
    }
}
