//! Changing the triage of many alerts at once.
//!
//! In: alerts at versions, or a filter with `as_of`; one change, or one that is to be taken back; who makes it. Out: what became of
//! each, and by what that is taken back. Invariants: each succeeds or fails on its own; nothing that was not seen is changed; what is
//! told to be changed was.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use vedette_store::{
    BULK_STEP,
    model::{BulkChange, BulkItem, BulkResult, BulkTarget, Disposition, Effect, Key, Made, Once, Status},
};

use super::{filter::BulkFilter, triage::Change};
use crate::{
    app::App,
    auth::Caller,
    problem::{self, Kind, Problem},
};

/// Many alerts and one change: `items`, or `filter` with `as_of`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Bulk {
    /// These alerts, at these versions.
    #[serde(default)]
    pub items: Option<Vec<BulkEntry>>,
    /// All alerts that match, and did at `as_of`; what has come into the list since is told and not changed.
    #[serde(default)]
    pub filter: Option<BulkFilter>,
    /// The `seq` that you saw; needed with `filter`. Triage changed since is a conflict, a revision since counts as unseen.
    #[serde(default)]
    pub as_of: Option<i64>,
    /// The change.
    pub change: Change,
}

/// One alert of a bulk change.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct BulkEntry {
    /// alert_id or notice_id.
    pub id: String,
    /// The triage version that you saw.
    pub version: i64,
    /// The revision that you saw: an alert closed from an older one comes back.
    #[serde(default)]
    pub seen_revision: Option<u32>,
}

/// A change that is to be taken back.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Undo {
    /// The `change_id` of the change: of one alert or of many, also of one that took another back.
    pub change_id: i64,
}

/// What became of each alert.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BulkOutcome {
    /// One for each alert.
    pub items: Vec<BulkOutcomeItem>,
    /// How many are now what was asked for and were not before.
    pub changed: u64,
    /// By what it is taken back, see `POST alerts/undo`; null if nothing was changed.
    #[schema(required = true)]
    pub change_id: Option<i64>,
}

/// What became of one alert.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BulkOutcomeItem {
    /// alert_id or notice_id.
    pub id: String,
    /// What the change did; null if it was refused.
    #[schema(value_type = Option<EffectName>, required = true)]
    pub effect: Option<Effect>,
    /// Its triage version now; null if the change was refused.
    #[schema(required = true)]
    version: Option<i64>,
    /// Why it was refused; null if it was not.
    #[schema(value_type = Option<problem::ProblemDocument>, required = true)]
    pub problem: Option<Problem>,
}

/// What a change did to an alert.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[allow(dead_code, reason = "only its schema is used")]
pub(crate) enum EffectName {
    /// It is what was asked for.
    Changed,
    /// It was what was asked for already.
    Unchanged,
    /// It was closed and is back in the queue, since more had come than was seen.
    Returned,
}

impl From<&BulkResult> for BulkOutcomeItem {
    fn from(BulkResult { id, outcome }: &BulkResult) -> Self {
        let id = id.clone();
        match outcome {
            Ok(done) => {
                Self { id, effect: Some(done.effect), version: Some(done.triage.version), problem: None }
            }
            Err(error) => Self { id, effect: None, version: None, problem: Some(error.into()) },
        }
    }
}

impl From<&BulkChange> for BulkOutcome {
    fn from(change: &BulkChange) -> Self {
        let items: Vec<BulkOutcomeItem> = change.results.iter().map(Into::into).collect();
        let changed = items.iter().filter(|item| item.effect == Some(Effect::Changed)).count() as u64;
        Self { items, changed, change_id: change.change_id }
    }
}

/// Changes the triage of many alerts, named as a request's body names them.
pub(crate) async fn apply(
    app: &App,
    bulk: Bulk,
    key: Option<Key>,
    caller: &Caller,
) -> Result<Made<BulkOutcome>, Problem> {
    let target = match (bulk.items, bulk.filter, bulk.as_of) {
        (Some(items), None, None) => BulkTarget::Items(items.into_iter().map(item).collect()),
        (None, Some(filter), Some(as_of)) => {
            BulkTarget::Matching { filter: Box::new(filter.0.filter()?), as_of }
        }
        _ => {
            let detail = "Give either `items`, or `filter` with `as_of`.";
            return Err(Problem::new(Kind::InvalidBody, detail).valid(["items", "filter", "as_of"]));
        }
    };
    change_all(app, &target, bulk.change, key, caller).await
}

/// Changes the triage of many alerts.
pub(crate) async fn change_all(
    app: &App,
    target: &BulkTarget,
    change: Change,
    key: Option<Key>,
    caller: &Caller,
) -> Result<Made<BulkOutcome>, Problem> {
    if change.status == Some(Status::Closed) && change.disposition.is_none() {
        let valid = Disposition::ALL.iter().map(|disposition| disposition.name());
        return Err(Problem::new(Kind::InvalidBody, "Closing alerts needs a `disposition`.").valid(valid));
    }
    let patch = change.patch()?;
    // What keys do and forms of selected rows is one step, and never waits until others are done with all that there is.
    let _place = match target {
        BulkTarget::Items(items) if items.len() <= BULK_STEP => None,
        _ => Some(app.bulks.take(caller)?),
    };
    let made = app.store.bulk_triage(target, &patch, &caller.name, once(key).as_ref()).await?;
    Ok(outcome(made))
}

/// Takes back what somebody changed: each alert that is as the change left it has the triage from before again.
pub(crate) async fn undo(
    app: &App,
    undo: &Undo,
    key: Option<Key>,
    caller: &Caller,
) -> Result<Made<BulkOutcome>, Problem> {
    let _place = app.bulks.take(caller)?;
    let made = app.store.undo_triage(undo.change_id, &caller.name, once(key).as_ref()).await?;
    Ok(outcome(made))
}

fn once(key: Option<Key>) -> Option<Once<BulkChange>> {
    let answer = |change: &BulkChange| serde_json::to_string(&BulkOutcome::from(change));
    key.map(|key| Once { key, answer })
}

fn outcome(made: Made<BulkChange>) -> Made<BulkOutcome> {
    match made {
        Made::New(change) => Made::New((&change).into()),
        Made::Again(answer) => Made::Again(answer),
    }
}

fn item(entry: BulkEntry) -> BulkItem {
    let BulkEntry { id, version, seen_revision } = entry;
    BulkItem { id, version, seen_revision }
}
