//! Hunts: the word to whoever asks the events in SQL, and what comes back.
//!
//! In: a way to ask, from the binary. Out: [`Begun`], whose rows come piece by piece, or [`Refusal`]. Invariants: nothing here knows SQL or
//! how events are kept, so that who builds the API builds no engine for them; dropping what has begun stops it; pieces wait for whoever
//! takes them, a few at a time.

use std::{collections::BTreeMap, fmt, future::Future, pin::Pin, sync::Arc};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::mpsc;
use utoipa::ToSchema;
use vedette_event::Micros;

/// Rows of one answer at most.
pub const MAX_ROWS: usize = 1_000_000;

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// The text.
    pub sql: String,
    /// Only events of this source.
    pub source: Option<String>,
    /// Only events of this time or later.
    pub since: Option<Micros>,
    /// Only events before this time.
    pub until: Option<Micros>,
    /// Rows at most, see [`MAX_ROWS`].
    pub rows: usize,
    /// As what they come.
    pub form: Form,
    /// Whether whoever asks may see records as they came (`event.original`).
    pub originals: bool,
}

/// As what rows come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// One JSON object a line, without what is null.
    Ndjson,
    /// RFC 4180 with a line of names; no value starts a formula.
    Csv,
    /// Arrow's IPC stream.
    Arrow,
    /// Values, by column.
    Values,
}

/// A column of an answer or a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Column {
    /// Its name. Two of an answer may be called the same.
    pub name: String,
    /// What it holds: `text`, `ip`, `time`, `bool`, `u16`, `u32`, `u64`, `i32`, `i64`, `f64`, `decimal`, `list` or `object`.
    #[serde(rename = "type")]
    pub kind: String,
}

/// What an answer rests on, known before its first row.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Basis {
    /// All events that the broker took up to then are looked at; nothing if none are.
    pub complete_through: Option<Micros>,
    /// The first time of an event there is.
    pub reaches_back_to: Option<Micros>,
    /// What is known to be missing, each in a line for a person.
    pub missing: Vec<String>,
    /// How many files may hold events of the times that are asked of.
    pub files: u64,
    /// How many events are in these.
    pub events: u64,
}

/// What was done so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Figures {
    /// Bytes that were read.
    pub bytes_read: u64,
    /// Files that were opened.
    pub files_read: u64,
    /// Files that were not read, since they can hold nothing that is asked for.
    pub files_skipped: u64,
    /// Parts of files that were read.
    pub parts_read: u64,
    /// Parts that were not read, by their least and greatest values and by their filters.
    pub parts_skipped: u64,
}

/// A part of an answer.
#[derive(Debug)]
pub enum Piece {
    /// So many rows, written.
    Written(usize, Vec<u8>),
    /// Rows of values.
    Values(Vec<Vec<Value>>),
    /// All is told; `more` if there were more rows than were asked for. What is written belongs to the end of the form.
    End {
        /// Whether there are more.
        more: bool,
        /// The end of what is written.
        written: Vec<u8>,
    },
    /// There will be no more, though there should be.
    Failed(Refusal),
}

/// Why something is not answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Which kind.
    pub why: Why,
    /// One line for a person, with what would be right.
    pub message: String,
    /// Line and column in the text, both from 1, if that is known.
    pub place: Option<(u64, u64)>,
    /// The line of the text with a caret under the place.
    pub pointed: Option<String>,
}

/// Kinds of refusals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// The text is no question that can be answered.
    Query,
    /// It asks for what is shown to others only.
    Forbidden,
    /// It needs more than it may use.
    Cost,
    /// It took too long.
    Time,
    /// Somebody stopped it.
    Stopped,
    /// There is nothing to ask, or not yet.
    Unavailable,
    /// Files are not as they should be, or something broke.
    Fault,
}

/// What stops a hunt, from anywhere.
pub type Stop = Arc<dyn Fn() + Send + Sync>;

/// An answer that has begun.
pub struct Begun {
    /// Its columns.
    pub columns: Vec<Column>,
    /// What it rests on.
    pub basis: Basis,
    /// Its pieces; the last one is [`Piece::End`] or [`Piece::Failed`].
    pub pieces: mpsc::Receiver<Piece>,
    /// What was done so far, to be looked at at any time.
    pub figures: Arc<dyn Fn() -> Figures + Send + Sync>,
    /// What stops it.
    pub stop: Stop,
}

impl fmt::Debug for Begun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Begun")
            .field("columns", &self.columns)
            .field("basis", &self.basis)
            .finish_non_exhaustive()
    }
}

/// What there is to ask.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct HuntSchema {
    /// The tables.
    pub tables: Vec<TableSchema>,
    /// The functions that logs need beside those of SQL.
    pub functions: Vec<FunctionSchema>,
    /// The sources by which an answer may be narrowed.
    pub sources: Vec<SourceSchema>,
}

/// A source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct SourceSchema {
    /// Its name.
    pub name: String,
    /// One line.
    pub description: String,
    /// What its events are, as rules name it: `product`, `category`, `service`, as far as it is said.
    pub logsource: BTreeMap<String, String>,
}

/// A table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct TableSchema {
    /// Its name.
    pub name: String,
    /// What it holds.
    pub description: String,
    /// Its columns.
    pub columns: Vec<ColumnSchema>,
}

/// A column of a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct ColumnSchema {
    /// What it is.
    #[serde(flatten)]
    pub column: Column,
    /// What it means.
    pub description: String,
    /// The sources whose events may have it.
    pub sources: Vec<String>,
}

/// A function.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FunctionSchema {
    /// Its name.
    pub name: String,
    /// How it is written.
    pub usage: String,
    /// What it does.
    pub description: String,
}

/// What comes of a question.
pub type Answer = Pin<Box<dyn Future<Output = Result<Begun, Refusal>> + Send>>;

/// A way to ask.
#[derive(Clone)]
pub struct Hunts {
    ask: Arc<dyn Fn(Question) -> Answer + Send + Sync>,
    schema: Arc<dyn Fn() -> Result<HuntSchema, Refusal> + Send + Sync>,
}

impl fmt::Debug for Hunts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hunts")
    }
}

impl Hunts {
    /// Asks by the one; the other says what there is.
    pub fn new<F>(
        ask: impl Fn(Question) -> F + Send + Sync + 'static,
        schema: impl Fn() -> Result<HuntSchema, Refusal> + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Result<Begun, Refusal>> + Send + 'static,
    {
        Self { ask: Arc::new(move |question| Box::pin(ask(question))), schema: Arc::new(schema) }
    }

    /// Asks. Whoever does sees to it that there are not too many at once, and that it is noted.
    pub fn ask(&self, question: Question) -> Answer {
        (self.ask)(question)
    }

    pub(crate) fn schema(&self) -> Result<HuntSchema, Refusal> {
        (self.schema)()
    }
}
