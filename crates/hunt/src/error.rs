//! Why a hunt gives no answer, in one line for the person who wrote it.
//!
//! In: what the bounds, the parser, the planner and the execution said. Out: [`Error`].
//! Invariant: what is wrong is told with its place where that is known, and with what would be right.

use std::fmt;

use datafusion::{common::SchemaError, error::DataFusionError, sql::sqlparser::parser::ParserError};
use vedette_sigma::fault::nearest;

use crate::{
    columns::{RULE_COLUMN, is_hidden},
    lake::{HIDDEN, LakeError, ORIGINAL, store_error},
};

/// Names at most that an error says may be meant.
const MAX_NEAREST: usize = 3;

/// A place in a query; both count from 1, columns in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The line.
    pub line: u64,
    /// The column.
    pub column: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)
    }
}

/// Something about a query, at its place if that is known.
fn placed(place: Option<&Place>) -> String {
    place.map(|place| format!(" ({place})")).unwrap_or_default()
}

fn meant(nearest: &[String]) -> String {
    if nearest.is_empty() { String::new() } else { format!("; did you mean {}?", nearest.join(" or ")) }
}

/// Why there is no answer, or no whole one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// It is longer than anybody writes.
    #[error("the query has {is} {what}, more than {most}; shorten it, a long list of values first")]
    TooLong {
        /// Of what.
        what: &'static str,
        /// How many.
        is: usize,
        /// How many there may be.
        most: usize,
    },
    /// It is nested deeper than anybody writes.
    #[error("the query is nested deeper than {most} levels{}; take parts of it out as `with name as (…)`", placed(.at.as_ref()))]
    TooDeep {
        /// How deep it may be.
        most: usize,
        /// Where it becomes too deep.
        at: Option<Place>,
    },
    /// It is no SQL.
    #[error("{message}{}", placed(.at.as_ref()))]
    Syntax {
        /// What was expected.
        message: String,
        /// Where.
        at: Option<Place>,
    },
    /// It is more than a question.
    #[error("{what} is not allowed here{}: a hunt is one `select`, `with … select` or `explain`, which reads and changes nothing; {remedy}", placed(.at.as_ref()))]
    NotAllowed {
        /// What it asks for.
        what: String,
        /// What to do instead.
        remedy: String,
        /// Where.
        at: Option<Place>,
    },
    /// There is no such column.
    #[error("there is no column `{name}`{}{}", placed(.at.as_ref()), meant(.nearest))]
    UnknownColumn {
        /// The name as written.
        name: String,
        /// What may have been meant.
        nearest: Vec<String>,
        /// Where it stands.
        at: Option<Place>,
    },
    /// There is no such table.
    #[error("there is no table `{name}`{}; what there is to ask is `events`, of the lake also each source, `alerts` and `rules`, and what you name with `with`: no files and no addresses", placed(.at.as_ref()))]
    UnknownTable {
        /// The name as written.
        name: String,
        /// Where it stands.
        at: Option<Place>,
    },
    /// There is no such function.
    #[error("there is no function `{name}`{}{}", placed(.at.as_ref()), meant(.nearest))]
    UnknownFunction {
        /// The name as written.
        name: String,
        /// What may have been meant.
        nearest: Vec<String>,
        /// Where it stands.
        at: Option<Place>,
    },
    /// It is SQL, and makes no sense over these columns.
    #[error("{message}")]
    Meaning {
        /// Why.
        message: String,
    },
    /// A value made it impossible to go on (a division by zero, a text that is no number).
    #[error("{message}")]
    Value {
        /// What.
        message: String,
    },
    /// It needs more memory, also with what it can put on disk.
    #[error(
        "the query needs more than its {mib} MiB of memory; ask for fewer groups or columns, or filter first ({detail})"
    )]
    Memory {
        /// How much it has.
        mib: usize,
        /// Which part of it.
        detail: String,
    },
    /// It took too long.
    #[error("the query took longer than {seconds} s and was stopped; filter by time, or ask for less")]
    Timeout {
        /// How long it may take.
        seconds: u64,
    },
    /// A row of the answer is longer than anybody reads.
    #[error("a row of the answer has {bytes} bytes, more than {most}; ask for fewer or shorter values")]
    LongRow {
        /// How long it is.
        bytes: usize,
        /// How long it may be.
        most: usize,
    },
    /// Somebody stopped it.
    #[error("the query was stopped")]
    Stopped,
    /// Whoever gives the events could not.
    #[error("{0}")]
    Source(Box<dyn std::error::Error + Send + Sync>),
    /// A defect here.
    #[error("the query could not be run: {message}")]
    Internal {
        /// What is known of it.
        message: String,
    },
}

impl Error {
    /// Where it is wrong.
    #[must_use]
    pub const fn place(&self) -> Option<Place> {
        match self {
            Self::TooDeep { at, .. }
            | Self::Syntax { at, .. }
            | Self::NotAllowed { at, .. }
            | Self::UnknownColumn { at, .. }
            | Self::UnknownTable { at, .. }
            | Self::UnknownFunction { at, .. } => *at,
            _ => None,
        }
    }

    /// The line of the query that is wrong, with a caret under the place.
    #[must_use]
    pub fn pointed(&self, sql: &str) -> Option<String> {
        let place = self.place()?;
        let line = sql.lines().nth(usize::try_from(place.line.checked_sub(1)?).ok()?)?;
        let before = usize::try_from(place.column.checked_sub(1)?).ok()?;
        // A long line is shown from a little before the place.
        let from = before.saturating_sub(60);
        let shown: String = line.chars().skip(from).take(100).collect();
        let indent: String =
            line.chars().skip(from).take(before - from).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
        let left_out = if from > 0 { "… " } else { "" };
        let behind = if from > 0 { "  " } else { "" };
        Some(format!("  {left_out}{shown}\n  {behind}{indent}^"))
    }
}

/// What the planner and the execution know of the query that failed.
pub(crate) struct Context<'a> {
    /// The place of a word or a chain of words in it.
    pub(crate) place_of: &'a dyn Fn(&str) -> Option<Place>,
    pub(crate) columns: &'a [&'a str],
    pub(crate) functions: &'a [&'a str],
    pub(crate) memory: usize,
}

/// What went wrong, in our words.
pub(crate) fn explain(error: DataFusionError, context: &Context<'_>) -> Error {
    if let Some(cause) = store_error(&error) {
        return Error::Source(Box::new(LakeError::of_read(cause)));
    }
    match error {
        DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => {
            explain(*inner, context)
        }
        DataFusionError::Collection(all) => match all.into_iter().next() {
            Some(first) => explain(first, context),
            None => Error::Internal { message: "it said no reason".to_owned() },
        },
        DataFusionError::Shared(shared) => match std::sync::Arc::try_unwrap(shared) {
            Ok(error) => explain(error, context),
            Err(shared) => explain_shared(&shared, context),
        },
        DataFusionError::SchemaError(error, _) => match *error {
            SchemaError::FieldNotFound { field, .. } => unknown_column(&field.flat_name(), context),
            SchemaError::AmbiguousReference { field } => {
                let name = field.name.clone();
                if name == HIDDEN {
                    return Error::Meaning {
                        message: format!(
                            "several tables here have `{ORIGINAL}`; write which (`e.{ORIGINAL}`)"
                        ),
                    };
                }
                if is_hidden(&name) {
                    return of_rule(
                        "asks the events of one table; in a join ask it before: `from (select * from events where sigma('…')) e join …`",
                    );
                }
                let at = placed((context.place_of)(&name).as_ref());
                let message = format!(
                    "`{name}` is the name of several columns here{at}; write which (`e.{name}`), or name one anew (`as other`)"
                );
                Error::Meaning { message }
            }
            other => Error::Meaning { message: other.to_string() },
        },
        DataFusionError::SQL(error, _) => syntax(&error),
        DataFusionError::Plan(message) => by_message(&message, context),
        DataFusionError::NotImplemented(message) => {
            Error::Meaning { message: format!("this is not supported: {}", first_line(&message)) }
        }
        DataFusionError::ArrowError(error, _) => by_value(&error.to_string(), context),
        DataFusionError::Execution(message) => Error::Value { message: first_line(&message) },
        DataFusionError::ResourcesExhausted(message) => memory(&message, context),
        DataFusionError::External(error) => Error::Source(error),
        DataFusionError::ParquetError(error) => unreadable(&error.to_string()),
        other => by_message(&other.strip_backtrace(), context),
    }
}

/// The same of an error that several parts of a plan have (both sides of a join wait for one).
fn explain_shared(error: &DataFusionError, context: &Context<'_>) -> Error {
    if let Some(cause) = store_error(error) {
        return Error::Source(Box::new(LakeError::of_read(cause)));
    }
    match error {
        DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => {
            explain_shared(inner, context)
        }
        DataFusionError::Shared(inner) => explain_shared(inner, context),
        DataFusionError::External(error) => Error::Source(error.to_string().into()),
        DataFusionError::ParquetError(error) => unreadable(&error.to_string()),
        DataFusionError::ResourcesExhausted(message) => memory(message, context),
        DataFusionError::Execution(message) => Error::Value { message: first_line(message) },
        DataFusionError::ArrowError(error, _) => by_value(&error.to_string(), context),
        other => by_message(&other.strip_backtrace(), context),
    }
}

/// A file that is not as it was written, or whoever has it does not give it; its name is in the message.
fn unreadable(message: &str) -> Error {
    let message = first_line(message);
    let what: String =
        message.strip_prefix("Parquet error: ").unwrap_or(&message).chars().take(500).collect();
    Error::Source(
        format!("a file of the lake cannot be read: {what}; `vedette lake verify` says what is wrong").into(),
    )
}

/// What no longer fits, neither into the memory nor on the disk.
fn memory(message: &str, context: &Context<'_>) -> Error {
    let detail = message.split(". ").next().unwrap_or_default();
    Error::Memory { mib: context.memory >> 20, detail: first_line(detail) }
}

/// What a value did; a full disk is told the same way.
fn by_value(message: &str, context: &Context<'_>) -> Error {
    if message.contains("disk space") {
        return memory(message, context);
    }
    Error::Value { message: first_line(message) }
}

fn first_line(message: &str) -> String {
    message.lines().next().unwrap_or_default().to_owned()
}

/// What `sigma` was asked of.
fn of_rule(message: &str) -> Error {
    Error::Meaning { message: format!("`sigma` {message}") }
}

fn unknown_column(name: &str, context: &Context<'_>) -> Error {
    if name.contains(HIDDEN) {
        let message = format!(
            "`{ORIGINAL}` is a column of `events` and of each source; where something was made of them (`with`, a subquery), take it along \
             by another name: `{ORIGINAL} as line`"
        );
        return Error::Meaning { message };
    }
    if name.contains(RULE_COLUMN) {
        return of_rule(
            "is true of events: ask it where `events` or a source is, and before anything else is made of them",
        );
    }
    let last = name.rsplit_once('.').map_or(name, |(_, last)| last);
    let at = (context.place_of)(name).or_else(|| (context.place_of)(last));
    // The end of longer names: `ip` of `source.ip`.
    let tail = format!(".{name}");
    let longer = context.columns.iter().copied().filter(|column| column.ends_with(&tail)).take(MAX_NEAREST);
    let mut meant: Vec<String> = longer.map(quoted).collect();
    if meant.is_empty() {
        meant.extend(nearest(name, context.columns).map(quoted));
    }
    Error::UnknownColumn { name: name.to_owned(), nearest: meant, at }
}

/// A name as it has to be written.
fn quoted(name: &str) -> String {
    let plain = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_lowercase() || c == '_' || c == '@')
            && part.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '@')
    };
    if name.split('.').all(plain) { format!("`{name}`") } else { format!("`\"{name}\"`") }
}

/// Errors that the planner tells in words only.
fn by_message(message: &str, context: &Context<'_>) -> Error {
    let between = |start: &str, end: &str| {
        let (_, rest) = message.split_once(start)?;
        rest.split_once(end).map(|(name, _)| name.to_owned())
    };
    if let Some(name) = between("table '", "' not found") {
        let name = name.rsplit_once("datafusion.public.").map_or(name.clone(), |(_, name)| name.to_owned());
        return Error::UnknownTable { at: (context.place_of)(&name), name };
    }
    if let Some(name) = between("table function '", "' not found") {
        return Error::UnknownTable { at: (context.place_of)(&name), name };
    }
    if let Some(name) = between("Invalid function '", "'") {
        let nearest = nearest(&name, context.functions).map(|name| format!("`{name}`")).into_iter().collect();
        return Error::UnknownFunction { at: (context.place_of)(&name), nearest, name };
    }
    Error::Meaning { message: first_line(message) }
}

/// The parser tells the place in words.
pub(crate) fn syntax(error: &ParserError) -> Error {
    let message = match error {
        ParserError::TokenizerError(message) | ParserError::ParserError(message) => message,
        ParserError::RecursionLimitExceeded => {
            return Error::TooDeep { most: crate::query::MAX_DEPTH, at: None };
        }
    };
    let (said, at) = match message.rsplit_once(" at Line: ") {
        Some((said, place)) => {
            let mut numbers = place.split(|c: char| !c.is_ascii_digit()).filter(|part| !part.is_empty());
            let mut number = || numbers.next().and_then(|digits| digits.parse().ok());
            (said, number().and_then(|line| Some(Place { line, column: number()? })))
        }
        None => (message.as_str(), None),
    };
    let said = said.replace("Expected: ", "expected ").replace(", found: ", ", found `");
    let open = said.contains(", found `");
    Error::Syntax { message: format!("this is no SQL: {said}{}", if open { "`" } else { "" }), at }
}
