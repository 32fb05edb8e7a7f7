//! Hunts that this process knows: under way, and ended lately.
//!
//! In: hunts as they begin, count and end. Out: [`HuntDocument`]. Invariants: those that ended are the newest [`KEPT`]; a hunt is seen by who
//! asked it and by admins; looking waits for nothing.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;
use vedette_event::Micros;
use vedette_store::model::Role;

use crate::{
    auth::Caller,
    hunts::{Basis, Begun, Column, Figures, Question, Refusal, Stop, Why},
    metrics::now,
    problem::{Problem, ProblemDocument},
    shares::Shares,
};

/// Hunts that are remembered after their end.
const KEPT: usize = 200;
/// Hunts under way: each has a thread and memory of its own, and there are few of both.
pub(crate) const MAX_HUNTS: usize = 4;
/// Of these, one caller's.
pub(crate) const HUNTS_EACH: usize = 2;

/// How far a hunt has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum State {
    /// It is under way.
    Running,
    /// All that was asked for was told.
    Done,
    /// It could not be answered, or not wholly.
    Failed,
    /// Somebody stopped it.
    Stopped,
    /// Who asked has gone before the end.
    Abandoned,
}

impl State {
    /// That of a hunt that ended so.
    pub fn of(refusal: &Refusal) -> Self {
        if refusal.why == Why::Stopped { Self::Stopped } else { Self::Failed }
    }
}

/// A hunt, with what its answer rests on.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct HuntDocument {
    /// Its number.
    pub hunt_id: i64,
    /// How far it has come.
    pub state: State,
    /// Who asked.
    pub by: String,
    /// The text.
    pub sql: String,
    /// Only events of this source were asked.
    #[schema(required = true)]
    pub source: Option<String>,
    /// Only events of this time or later.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    pub since: Option<Micros>,
    /// Only events before this time.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    pub until: Option<Micros>,
    /// Since when.
    #[schema(value_type = String, format = DateTime)]
    pub began_at: Micros,
    /// How long it took, or has taken so far.
    pub seconds: f64,
    /// Its columns.
    pub columns: Vec<Column>,
    /// Rows that were told.
    pub rows: u64,
    /// Whether there are more rows than were asked for; null as long as that is not known.
    #[schema(required = true)]
    pub more: Option<bool>,
    /// All events that the broker took up to then are looked at, as far as nothing is missing; null: none are.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    pub complete_through: Option<Micros>,
    /// The first time of an event that there is.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    pub reaches_back_to: Option<Micros>,
    /// What is known to be missing, each in a line for a person.
    pub missing: Vec<String>,
    /// How many files may hold events of the times that are asked of.
    pub files: u64,
    /// What was done.
    #[serde(flatten)]
    pub figures: Figures,
    /// Why it is not answered, or not wholly.
    #[schema(value_type = Option<ProblemDocument>, required = true)]
    pub problem: Option<Problem>,
}

/// What there is to hunts as a whole.
#[derive(Debug)]
pub(crate) struct Hunting {
    pub places: Arc<Shares>,
    all: Mutex<BTreeMap<i64, Arc<Known>>>,
}

/// A hunt that is known.
pub(crate) struct Known {
    pub id: i64,
    pub by: String,
    question: Question,
    began_at: Micros,
    course: Mutex<Course>,
}

#[derive(Default)]
struct Course {
    columns: Vec<Column>,
    basis: Basis,
    rows: u64,
    more: Option<bool>,
    figures: Option<Arc<dyn Fn() -> Figures + Send + Sync>>,
    stop: Option<Stop>,
    /// How and when it ended, with what had been done by then.
    ended: Option<(State, Micros, Figures)>,
    problem: Option<Problem>,
}

impl std::fmt::Debug for Known {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Known").field("id", &self.id).finish_non_exhaustive()
    }
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No panic leaves a course half changed.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Default for Hunting {
    fn default() -> Self {
        Self { places: Shares::new("hunts", MAX_HUNTS, HUNTS_EACH), all: Mutex::default() }
    }
}

impl Hunting {
    /// Knows a hunt from now on.
    pub fn known(&self, id: i64, caller: &Caller, question: &Question, began_at: Micros) -> Arc<Known> {
        let (by, question) = (caller.name.clone(), question.clone());
        let known = Arc::new(Known { id, by, question, began_at, course: Mutex::default() });
        let mut all = held(&self.all);
        all.insert(id, Arc::clone(&known));
        let mut ended: VecDeque<i64> =
            all.values().filter(|known| held(&known.course).ended.is_some()).map(|known| known.id).collect();
        while ended.len() > KEPT {
            let oldest = ended.pop_front();
            oldest.and_then(|id| all.remove(&id));
        }
        known
    }

    /// One of them.
    pub fn find(&self, id: i64) -> Option<Arc<Known>> {
        held(&self.all).get(&id).cloned()
    }

    /// Those that this caller may see, the newest first.
    pub fn of(&self, caller: &Caller) -> Vec<HuntDocument> {
        let all: Vec<Arc<Known>> = held(&self.all).values().rev().cloned().collect();
        all.iter().filter(|known| known.is_for(caller)).map(|known| known.document()).collect()
    }
}

impl Known {
    /// Whether this one may see it.
    pub fn is_for(&self, caller: &Caller) -> bool {
        self.by == caller.name || caller.role >= Role::Admin
    }

    pub(crate) fn begins(&self, begun: &Begun) {
        let mut course = held(&self.course);
        (course.columns, course.basis) = (begun.columns.clone(), begun.basis.clone());
        (course.figures, course.stop) = (Some(Arc::clone(&begun.figures)), Some(Arc::clone(&begun.stop)));
    }

    pub(crate) fn counts(&self, rows: usize) {
        held(&self.course).rows += rows as u64;
    }

    /// It is over. What made it go on, and what it held, is let go.
    pub(crate) fn ends(&self, state: State, more: Option<bool>, refusal: Option<&Refusal>) {
        let mut course = held(&self.course);
        let figures = course.figures.take().map(|figures| figures()).unwrap_or_default();
        course.ended = Some((state, now(), figures));
        course.more = more;
        course.problem = refusal.cloned().map(Problem::from);
        course.stop = None;
    }

    /// Stops it, if it is under way.
    pub(crate) fn stop(&self) {
        let stop = held(&self.course).stop.clone();
        if let Some(stop) = stop {
            stop();
        }
    }

    /// What is known of it by now.
    pub fn document(&self) -> HuntDocument {
        let Question { sql, source, since, until, .. } = self.question.clone();
        let course = held(&self.course);
        let running = || {
            let figures = course.figures.as_ref().map(|figures| figures()).unwrap_or_default();
            (State::Running, now(), figures)
        };
        let (state, at, figures) = course.ended.unwrap_or_else(running);
        let Basis { complete_through, reaches_back_to, missing, files, .. } = course.basis.clone();
        HuntDocument {
            hunt_id: self.id,
            state,
            by: self.by.clone(),
            sql,
            source,
            since,
            until,
            began_at: self.began_at,
            seconds: at.since(self.began_at).0 as f64 / 1e6,
            columns: course.columns.clone(),
            rows: course.rows,
            more: course.more,
            complete_through,
            reaches_back_to,
            missing,
            files,
            figures,
            problem: course.problem.clone(),
        }
    }

    /// What the audit log says of its end.
    pub(crate) fn ended(&self) -> Value {
        let document = self.document();
        json!({
            "state": document.state,
            "rows": document.rows,
            "more": document.more,
            "seconds": document.seconds,
            "bytes_read": document.figures.bytes_read,
            "files_read": document.figures.files_read,
            "files_skipped": document.figures.files_skipped,
            "problem": document.problem.as_ref().map(Problem::detail),
        })
    }
}
