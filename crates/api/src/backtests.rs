//! Backtests: rules tried on the events of the past, and what comes of it.
//!
//! In: a way to run one, from the binary; texts of rules. Out: a [`BacktestDocument`] for each: how far it is, what it came to. Invariants:
//! nothing here knows how events are kept or evaluated; one runs at a time, [`MAX_UNDER_WAY`] wait or run, and the last [`MAX_KEPT`] are
//! kept, in memory alone; one that is stopped ends soon, and gives way to the next.

mod report;

use std::{
    collections::VecDeque,
    fmt,
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use serde::Serialize;
use tokio::sync::Semaphore;
use utoipa::ToSchema;
use vedette_event::Micros;

pub use report::{Days, OfKey, OfRule, Outcome, Report};

/// Backtests that wait for their turn or run.
pub const MAX_UNDER_WAY: usize = 8;
/// Backtests that are kept, under way or not.
pub const MAX_KEPT: usize = 32;

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// The rules' text.
    pub rules: String,
    /// Alerts that begin at this time or later; all there are, without it.
    pub from: Option<Micros>,
    /// Alerts that begin before this time.
    pub to: Option<Micros>,
    /// Events of one source only.
    pub source: Option<String>,
}

/// How far one is; shared by who runs it and who looks.
#[derive(Debug, Default)]
pub struct Progress {
    /// Events that were read.
    pub read: AtomicU64,
    /// Events that are to be read at most.
    pub events: AtomicU64,
    /// It is to stop.
    pub stop: AtomicBool,
}

/// Why one came to nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// A line for a person, with what would be right.
    pub message: String,
}

type Answer = Pin<Box<dyn Future<Output = Result<Report, Refusal>> + Send>>;

/// A way to run backtests, and those that were asked for.
#[derive(Clone)]
pub struct Backtests {
    run: Arc<dyn Fn(Question, Arc<Progress>) -> Answer + Send + Sync>,
    known: Arc<Mutex<Known>>,
    turn: Arc<Semaphore>,
}

impl fmt::Debug for Backtests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Backtests")
    }
}

#[derive(Default)]
struct Known {
    last: u64,
    all: VecDeque<Arc<Backtest>>,
}

/// One that was asked for.
pub(crate) struct Backtest {
    pub id: u64,
    pub by: String,
    asked_at: Micros,
    question: Question,
    progress: Arc<Progress>,
    state: Mutex<State>,
}

enum State {
    Waiting,
    Running,
    Done(Box<Report>),
    Failed(String),
    Stopped,
}

/// A backtest: what was asked, how far it is, what it came to.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BacktestDocument {
    /// Its number.
    pub id: String,
    /// Who asked.
    pub by: String,
    #[schema(value_type = String, format = DateTime)]
    pub asked_at: Micros,
    /// `waiting`, `running`, `done`, `failed` or `stopped`.
    pub state: &'static str,
    /// Alerts that begin at this time or later; null: all there are.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub from: Option<Micros>,
    /// Alerts that begin before this time; null: up to where the lake is complete.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub to: Option<Micros>,
    /// The source whose events alone are read; null: all.
    pub source: Option<String>,
    /// Events that were read.
    pub read: u64,
    /// Events that are to be read at most; 0 before that is known.
    pub events: u64,
    /// What it came to, once it is done.
    pub report: Option<Report>,
    /// Why it failed.
    pub error: Option<String>,
}

impl Backtest {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn under_way(&self) -> bool {
        matches!(*self.state(), State::Waiting | State::Running)
    }

    /// What is told of it; `whole` with what it came to.
    pub(crate) fn document(&self, whole: bool) -> BacktestDocument {
        let (state, report, error) = match &*self.state() {
            State::Waiting => ("waiting", None, None),
            State::Running => ("running", None, None),
            State::Done(report) => ("done", whole.then(|| Report::clone(report)), None),
            State::Failed(why) => ("failed", None, Some(why.clone())),
            State::Stopped => ("stopped", None, None),
        };
        BacktestDocument {
            id: self.id.to_string(),
            by: self.by.clone(),
            asked_at: self.asked_at,
            state,
            from: self.question.from,
            to: self.question.to,
            source: self.question.source.clone(),
            read: self.progress.read.load(Ordering::Relaxed),
            events: self.progress.events.load(Ordering::Relaxed),
            report,
            error,
        }
    }

    /// Has it end.
    pub(crate) fn stop(&self) {
        self.progress.stop.store(true, Ordering::Relaxed);
        let mut state = self.state();
        if matches!(*state, State::Waiting | State::Running) {
            *state = State::Stopped;
        }
    }
}

impl Backtests {
    /// Run by this.
    pub fn new<F>(run: impl Fn(Question, Arc<Progress>) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<Report, Refusal>> + Send + 'static,
    {
        Self {
            run: Arc::new(move |question, progress| Box::pin(run(question, progress))),
            known: Arc::default(),
            turn: Arc::new(Semaphore::new(1)),
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins one, or has it wait for its turn; none if too many are under way.
    pub(crate) fn ask(&self, question: Question, by: &str, now: Micros) -> Option<Arc<Backtest>> {
        let backtest = {
            let mut known = self.known();
            if known.all.iter().filter(|backtest| backtest.under_way()).count() >= MAX_UNDER_WAY {
                return None;
            }
            known.last += 1;
            let backtest = Arc::new(Backtest {
                id: known.last,
                by: by.to_owned(),
                asked_at: now,
                question,
                progress: Arc::default(),
                state: Mutex::new(State::Waiting),
            });
            known.all.push_front(backtest.clone());
            if known.all.len() > MAX_KEPT
                && let Some(oldest) = known.all.iter().rposition(|backtest| !backtest.under_way())
            {
                known.all.remove(oldest);
            }
            backtest
        };
        let (turn, run, one) = (self.turn.clone(), self.run.clone(), backtest.clone());
        tokio::spawn(async move {
            // It is never closed.
            let _turn = turn.acquire_owned().await;
            {
                let mut state = one.state();
                if !matches!(*state, State::Waiting) {
                    return;
                }
                *state = State::Running;
            }
            let ended = run(one.question.clone(), one.progress.clone()).await;
            let mut state = one.state();
            if matches!(*state, State::Running) {
                *state = match ended {
                    Ok(report) => State::Done(Box::new(report)),
                    Err(refusal) => State::Failed(refusal.message),
                };
            }
        });
        Some(backtest)
    }

    /// One of them.
    pub(crate) fn one(&self, id: &str) -> Option<Arc<Backtest>> {
        let id: u64 = id.parse().ok()?;
        self.known().all.iter().find(|backtest| backtest.id == id).cloned()
    }

    /// All that are kept, the newest first.
    pub(crate) fn all(&self) -> Vec<Arc<Backtest>> {
        self.known().all.iter().cloned().collect()
    }
}
