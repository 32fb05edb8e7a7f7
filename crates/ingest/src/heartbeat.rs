//! Signs of life of the threads that read Kafka, as plain data for whoever watches over them.
//!
//! In: a word of the thread at each step ([`Beat`]). Out: [`Heartbeat`]s. Invariant: nobody waits for anybody here, and
//! no clock is read: who watches sees a count move, or not.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

/// How a thread is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heartbeat {
    /// Its stable name: `reader` or `prober`.
    pub thread: &'static str,
    /// Steps done so far. A thread that runs always has another one to do.
    pub moves: u64,
    /// Tries so far to hand on what it has.
    pub tries: u64,
    /// True while what comes after it takes nothing: the caller after `reader`, `reader` after `prober`.
    pub waits: bool,
    /// How it ended, once it has.
    pub end: Option<Ended>,
}

/// How a thread ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// It was asked to, or nobody listened any more.
    Done,
    /// It cannot ever work, for this reason, which is handed out as [`crate::Ingested::Failed`], too.
    Failed(String),
    /// It panicked; the message is on standard error.
    Panicked,
}

/// The thread's end of its heartbeat.
#[derive(Debug, Default)]
pub(crate) struct Beat {
    moves: AtomicU64,
    tries: AtomicU64,
    waits: AtomicBool,
    end: Mutex<Option<Ended>>,
}

impl Beat {
    /// A step is done.
    pub fn moved(&self) {
        self.waits.store(false, Ordering::Relaxed);
        self.moves.fetch_add(1, Ordering::Release);
    }

    /// Nothing could be handed on; it will be tried again.
    pub fn waits(&self) {
        self.waits.store(true, Ordering::Relaxed);
        self.tries.fetch_add(1, Ordering::Release);
    }

    /// It ends, or ended. What was said first holds.
    pub fn end(&self, end: Ended) {
        self.end.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(end);
    }

    pub fn read(&self, thread: &'static str) -> Heartbeat {
        Heartbeat {
            thread,
            moves: self.moves.load(Ordering::Acquire),
            tries: self.tries.load(Ordering::Acquire),
            waits: self.waits.load(Ordering::Relaxed),
            end: self.end.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }
}
