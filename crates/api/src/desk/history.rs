//! What was done to an alert: triage, comments, and what the system did by itself.
//!
//! In: a row. Out: the entries, from the first to the last. Invariant: nothing is ever taken out of it.

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use vedette_event::Micros;
use vedette_store::model::{AlertRow, AuditEntry};

use crate::{app::App, problem::Problem};

/// One change of an alert's triage, or a comment.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct HistoryEntry {
    /// Place in commit order.
    pub seq: i64,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub at: Micros,
    /// Who; `vedette` for the system itself.
    pub actor: String,
    /// `triage`, `comment`, `recurred` or `inherited`.
    pub action: String,
    /// State before.
    #[schema(required = true)]
    pub from: Option<Value>,
    /// State after; the text of a comment.
    #[schema(required = true)]
    pub to: Option<Value>,
    /// The change that it is a part of, see `POST alerts/undo`; null in entries of earlier builds.
    #[schema(required = true)]
    pub change_id: Option<i64>,
}

impl From<AuditEntry> for HistoryEntry {
    fn from(entry: AuditEntry) -> Self {
        let value = |text: String| serde_json::from_str(&text).unwrap_or(Value::String(text));
        let AuditEntry { seq, at, actor, action, from, to, change_id, .. } = entry;
        Self { seq, at, actor, action, from: from.map(value), to: to.map(value), change_id }
    }
}

/// All that was done to an alert.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct History {
    /// From the first to the last.
    pub items: Vec<HistoryEntry>,
}

/// All that was done to an alert or notice.
pub(crate) async fn of(app: &App, row: &AlertRow) -> Result<History, Problem> {
    let entries = app.store.history(&row.id).await?;
    Ok(History { items: entries.into_iter().map(Into::into).collect() })
}
