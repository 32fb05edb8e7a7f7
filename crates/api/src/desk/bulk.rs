//! Changing the triage of many alerts at once.
//!
//! In: alerts at versions, or a filter with `as_of`; one change; who makes it. Out: what became of each. Invariants: each succeeds or
//! fails on its own; nothing that was not seen is changed.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use vedette_store::model::{BulkItem, BulkResult, BulkTarget, Disposition, Status};

use super::{filter::FilterParams, triage::Change};
use crate::{
    app::App,
    auth::Caller,
    problem::{self, Kind, Problem},
    shape,
};

/// Many alerts and one change: `items`, or `filter` with `as_of`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Bulk {
    /// These alerts, at these versions.
    #[serde(default)]
    pub items: Option<Vec<BulkEntry>>,
    /// All alerts that match and existed at `as_of`.
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

/// A change of many alerts that is to be taken back: what you changed in between.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Undo {
    /// The `after` of the change.
    pub after: i64,
    /// The `until` of the change.
    pub until: i64,
}

/// The filters of the list, written as there.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct BulkFilter {
    #[schema(value_type = Option<shape::Statuses>)]
    status: Option<String>,
    #[schema(value_type = Option<shape::States>)]
    state: Option<String>,
    #[schema(value_type = Option<shape::Severities>)]
    severity: Option<String>,
    #[schema(value_type = Option<shape::Ids>)]
    rule: Option<String>,
    entity: Option<String>,
    source: Option<String>,
    assignee: Option<String>,
    #[schema(value_type = Option<shape::Techniques>)]
    technique: Option<String>,
    #[schema(value_type = Option<shape::TimeOrDay>)]
    since: Option<String>,
    #[schema(value_type = Option<shape::TimeOrDay>)]
    until: Option<String>,
    #[schema(value_type = Option<shape::Search>)]
    q: Option<String>,
    #[schema(value_type = Option<shape::CaseNumber>)]
    case: Option<String>,
    #[schema(value_type = Option<shape::YesOrNo>)]
    snoozed: Option<String>,
}

impl From<BulkFilter> for FilterParams {
    fn from(filter: BulkFilter) -> Self {
        let BulkFilter { status, state, severity, rule, entity, .. } = filter;
        let BulkFilter { source, assignee, technique, since, until, q, case, snoozed, .. } = filter;
        Self {
            status,
            state,
            severity,
            rule,
            entity,
            source,
            assignee,
            technique,
            since,
            until,
            q,
            case,
            snoozed,
        }
    }
}

/// What became of each alert.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BulkOutcome {
    /// One for each alert.
    pub items: Vec<BulkOutcomeItem>,
    /// The newest `seq` before the change, and after it: what takes it back names both.
    pub after: i64,
    /// See `after`.
    pub until: i64,
}

/// What became of one alert.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BulkOutcomeItem {
    /// alert_id or notice_id.
    pub id: String,
    /// Its triage version now; null if it was not changed.
    #[schema(required = true)]
    version: Option<i64>,
    /// Why it was not changed; null if it was.
    #[schema(value_type = Option<problem::ProblemDocument>, required = true)]
    pub problem: Option<Problem>,
}

impl From<BulkResult> for BulkOutcomeItem {
    fn from(BulkResult { id, outcome }: BulkResult) -> Self {
        match outcome {
            Ok(triage) => Self { id, version: Some(triage.version), problem: None },
            Err(error) => Self { id, version: None, problem: Some(error.into()) },
        }
    }
}

/// Changes the triage of many alerts, named as a request's body names them.
pub(crate) async fn apply(app: &App, bulk: Bulk, caller: &Caller) -> Result<BulkOutcome, Problem> {
    let target = match (bulk.items, bulk.filter, bulk.as_of) {
        (Some(items), None, None) => BulkTarget::Items(items.into_iter().map(item).collect()),
        (None, Some(filter), Some(as_of)) => {
            BulkTarget::Matching { filter: Box::new(FilterParams::from(filter).filter()?), as_of }
        }
        _ => {
            let detail = "Give either `items`, or `filter` with `as_of`.";
            return Err(Problem::new(Kind::InvalidBody, detail).valid(["items", "filter", "as_of"]));
        }
    };
    change_all(app, &target, bulk.change, caller).await
}

/// Changes the triage of many alerts.
pub(crate) async fn change_all(
    app: &App,
    target: &BulkTarget,
    change: Change,
    caller: &Caller,
) -> Result<BulkOutcome, Problem> {
    if change.status == Some(Status::Closed) && change.disposition.is_none() {
        let valid = Disposition::ALL.iter().map(|disposition| disposition.name());
        return Err(Problem::new(Kind::InvalidBody, "Closing alerts needs a `disposition`.").valid(valid));
    }
    let patch = change.patch()?;
    let after = app.store.newest_seq().await?;
    let results = app.store.bulk_triage(target, &patch, &caller.name).await?;
    outcome(app, after, results).await
}

/// Takes back what somebody changed: each alert that nobody has changed since has the triage from before again.
pub(crate) async fn undo(app: &App, undo: &Undo, caller: &Caller) -> Result<BulkOutcome, Problem> {
    let after = app.store.newest_seq().await?;
    let results = app.store.undo_triage(undo.after, undo.until, &caller.name).await?;
    outcome(app, after, results).await
}

async fn outcome(app: &App, after: i64, results: Vec<BulkResult>) -> Result<BulkOutcome, Problem> {
    let until = app.store.newest_seq().await?;
    Ok(BulkOutcome { items: results.into_iter().map(Into::into).collect(), after, until })
}

fn item(entry: BulkEntry) -> BulkItem {
    let BulkEntry { id, version, seen_revision } = entry;
    BulkItem { id, version, seen_revision }
}
