//! The audit log: who changed what, when, from what to what.
//!
//! In: who, what, to what, between when. Out: a page of entries, newest first. Invariants: every change of alerts, cases, snoozes,
//! views, people, tokens and topics has its entry, written with it; engineers and admins read all of them, because it tells of
//! people, too; what was done to one alert or one case everybody reads there.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use vedette_event::Micros;
use vedette_store::model::{AuditEntry, AuditQuery};

use super::{
    filter::time,
    list::{Listed, page_size},
};
use crate::{
    app::App,
    problem::{Kind, Problem},
};

/// Which entries.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct AuditParams {
    /// Who; `vedette` for the system itself.
    pub actor: Option<String>,
    /// What was done, as in the entries: `triage`, `comment`, `case_opened`, `snoozed`, `token_created` and so on.
    pub action: Option<String>,
    /// To what: an alert's id, a token's or a user's name, `case:7`, `snooze:7`, `view:7`.
    pub target: Option<String>,
    /// At or after this time (RFC 3339).
    #[param(value_type = Option<String>, format = DateTime)]
    pub since: Option<String>,
    /// Before this time (RFC 3339).
    #[param(value_type = Option<String>, format = DateTime)]
    pub until: Option<String>,
    /// At most so many: 1 to 500. Default: 50.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 500)]
    pub limit: Option<String>,
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
}

/// One change.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct AuditDocument {
    /// Place in commit order.
    pub seq: i64,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub at: Micros,
    /// Who; `vedette` for the system itself.
    pub actor: String,
    /// What was done.
    pub action: String,
    /// To what.
    pub target: String,
    /// State before.
    #[schema(required = true)]
    pub from: Option<Value>,
    /// State after; the text of a comment or a note.
    #[schema(required = true)]
    pub to: Option<Value>,
    /// What all entries have in common that one request made; null in entries of earlier builds.
    #[schema(required = true)]
    pub change_id: Option<i64>,
}

impl From<AuditEntry> for AuditDocument {
    fn from(entry: AuditEntry) -> Self {
        let value = |text: String| serde_json::from_str(&text).unwrap_or(Value::String(text));
        let AuditEntry { seq, at, actor, action, target, from, to, change_id } = entry;
        Self { seq, at, actor, action, target, from: from.map(value), to: to.map(value), change_id }
    }
}

/// One page of the log.
pub(crate) async fn page(app: &App, params: &AuditParams) -> Result<Listed<AuditDocument>, Problem> {
    let query = AuditQuery {
        actor: params.actor.clone(),
        action: params.action.clone(),
        target: params.target.clone(),
        since: time("since", params.since.as_deref())?,
        until: time("until", params.until.as_deref())?,
        limit: page_size(params.limit.as_deref())?,
        before: params.cursor.as_deref().map(place).transpose()?,
    };
    let page = app.store.audit(&query).await?;
    let items = page.items.into_iter().map(Into::into).collect();
    Ok(Listed { items, next_cursor: page.next_cursor, search_capped: None })
}

fn place(cursor: &str) -> Result<(i64, i64), Problem> {
    let parts = cursor.split_once('-').map(|(at, seq)| (at.parse().ok(), seq.parse().ok()));
    match parts {
        Some((Some(at), Some(seq))) => Ok((at, seq)),
        _ => Err(Problem::new(Kind::InvalidCursor, "The cursor is not one that this list gave out.")),
    }
}
