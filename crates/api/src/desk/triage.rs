//! Changing the triage of one alert: status, owner, disposition.
//!
//! In: an id, the version that was seen, a change, who makes it. Out: its triage now, and by what the change is taken back. Invariants: every change is audited and
//! guarded by the version; nothing is closed without a disposition.

use serde::Deserialize;
use utoipa::ToSchema;
use vedette_store::model::{Disposition, PatchedTriage, Status, TriagePatch};

use super::alert::row;
use crate::{
    app::App,
    auth::Caller,
    problem::{Kind, Problem},
    shape,
    wire::{DispositionName, StatusName},
};

/// Characters of an owner, who is kept for ever with the audit.
const MAX_NAME: usize = 100;

/// A change of triage; what is missing stays as it is.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Change {
    /// New status. Closing needs a disposition, here or from before.
    #[schema(value_type = Option<StatusName>)]
    #[serde(default)]
    pub status: Option<Status>,
    /// New owner; an empty text or null removes the owner.
    #[schema(value_type = Option<shape::Owner>)]
    #[serde(default, deserialize_with = "nullable")]
    pub assignee: Option<String>,
    /// What it turned out to be.
    #[schema(value_type = Option<DispositionName>)]
    #[serde(default)]
    pub disposition: Option<Disposition>,
    /// The revision that the analyst saw: an alert closed from an older one comes back.
    #[serde(default)]
    pub seen_revision: Option<u32>,
}

/// Null means the same as the empty text: no owner.
pub(super) fn nullable<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<String>, D::Error> {
    Ok(Some(Option::deserialize(deserializer)?.unwrap_or_default()))
}

impl Change {
    /// The patch for the store, checked as far as one can without the row.
    pub fn patch(self) -> Result<TriagePatch, Problem> {
        let Self { status, assignee, disposition, seen_revision } = self;
        if status.is_none() && assignee.is_none() && disposition.is_none() {
            let detail = "The body changes nothing; give `status`, `assignee` or `disposition`.";
            return Err(Problem::new(Kind::InvalidBody, detail).valid(["status", "assignee", "disposition"]));
        }
        let assignee = assignee.map(owner).transpose()?;
        Ok(TriagePatch { status, assignee, disposition, seen_revision })
    }
}

/// An owner's name, checked.
pub(super) fn owner(name: String) -> Result<String, Problem> {
    let name = name.trim();
    if name.chars().count() > MAX_NAME || name.chars().any(char::is_control) {
        let detail = format!("`assignee` must be at most {MAX_NAME} characters on one line.");
        return Err(Problem::new(Kind::InvalidBody, detail));
    }
    Ok(name.to_owned())
}

/// Changes the triage of one row.
pub(crate) async fn apply(
    app: &App,
    id: &str,
    version: i64,
    change: Change,
    caller: &Caller,
) -> Result<PatchedTriage, Problem> {
    let closing = change.status == Some(Status::Closed) && change.disposition.is_none();
    let patch = change.patch()?;
    if closing && row(app, id).await?.triage.disposition.is_none() {
        let detail = "Closing an alert needs a `disposition`.";
        let valid = Disposition::ALL.iter().map(|disposition| disposition.name());
        return Err(Problem::new(Kind::InvalidBody, detail).valid(valid));
    }
    Ok(app.store.patch_triage(id, version, &patch, &caller.name).await?)
}
