//! Adding a comment to an alert.
//!
//! In: an id, a text, who writes it. Out: the history's new entry. Invariants: a comment is never changed; one that is sent again
//! under its key is there once.

use serde::Deserialize;
use utoipa::ToSchema;
use vedette_store::model::{AuditEntry, Key, Made, Once};

use super::history::HistoryEntry;
use crate::{
    app::App,
    auth::Caller,
    problem::{Kind, Problem},
    shape,
};

/// Characters of a comment. It is kept for ever with the audit: longer texts belong into a ticket.
const MAX_COMMENT: usize = 4_000;

/// A comment.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Comment {
    /// Its text: 1 to 4,000 characters.
    #[schema(value_type = shape::CommentText)]
    pub text: String,
}

/// Checks and stores a comment.
pub(crate) async fn add(
    app: &App,
    id: &str,
    text: &str,
    key: Option<Key>,
    caller: &Caller,
) -> Result<Made<HistoryEntry>, Problem> {
    let text = text.trim();
    checked(text)?;
    let answer = |entry: &AuditEntry| serde_json::to_string(&HistoryEntry::from(entry.clone()));
    let once = key.map(|key| Once { key, answer });
    match app.store.comment(id, text, &caller.name, once.as_ref()).await? {
        Made::New(entry) => Ok(Made::New(entry.into())),
        Made::Again(answer) => Ok(Made::Again(answer)),
    }
}

/// Refuses a comment that is empty or too long.
pub(crate) fn checked(text: &str) -> Result<(), Problem> {
    if text.is_empty() || text.chars().count() > MAX_COMMENT {
        let detail = format!("A comment has 1 to {MAX_COMMENT} characters.");
        return Err(Problem::new(Kind::InvalidBody, detail));
    }
    Ok(())
}
