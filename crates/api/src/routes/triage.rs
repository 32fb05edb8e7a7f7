//! Changing alerts: triage of one or many, comments. Every change is audited and guarded by a version.

use std::sync::Arc;

use axum::{
    Extension, Json,
    extract::State,
    http::{HeaderMap, HeaderName, StatusCode},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use vedette_store::model::{BulkItem, BulkResult, BulkTarget, Disposition, Status, TriagePatch};

use super::alerts::{FilterParams, HistoryEntry, NoParams, if_match, row, tag};
use crate::{
    app::App,
    auth::Caller,
    params::{JsonBody, Segment, Strict},
    problem::{self, Kind, Problem},
    wire::{DispositionName, StatusName, TriageState},
};

/// Characters of an owner and of a comment. Both are kept for ever with the audit: longer texts belong into a ticket.
const MAX_NAME: usize = 100;
const MAX_COMMENT: usize = 4_000;

/// A change of triage; what is missing stays as it is.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Change {
    /// New status. Closing needs a disposition, here or from before.
    #[schema(value_type = Option<StatusName>)]
    #[serde(default)]
    pub status: Option<Status>,
    /// New owner; an empty text or null removes the owner.
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
fn nullable<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
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
        let assignee = assignee.map(|name| name.trim().to_owned());
        if assignee
            .as_ref()
            .is_some_and(|name| name.chars().count() > MAX_NAME || name.chars().any(char::is_control))
        {
            let detail = format!("`assignee` must be at most {MAX_NAME} characters on one line.");
            return Err(Problem::new(Kind::InvalidBody, detail));
        }
        Ok(TriagePatch { status, assignee, disposition, seen_revision })
    }
}

/// Changes the triage of one row.
pub(crate) async fn apply(
    app: &App,
    id: &str,
    version: i64,
    change: Change,
    caller: &Caller,
) -> Result<i64, Problem> {
    let closing = change.status == Some(Status::Closed) && change.disposition.is_none();
    let patch = change.patch()?;
    if closing && row(app, id).await?.triage.disposition.is_none() {
        let detail = "Closing an alert needs a `disposition`.";
        let valid = Disposition::ALL.iter().map(|disposition| disposition.name());
        return Err(Problem::new(Kind::InvalidBody, detail).valid(valid));
    }
    let triage = app.store.patch_triage(id, version, &patch, &caller.name).await?;
    Ok(triage.version)
}

/// Changes the triage of an alert or notice, if it still has the version in `If-Match`.
#[utoipa::path(
    patch, path = "/alerts/{id}", operation_id = "change_alert", tag = "triage",
    params(
        ("id" = String, Path, description = "alert_id or notice_id"),
        ("If-Match" = String, Header, description = "The triage version that you saw, as in `ETag`")
    ),
    request_body = Change,
    responses(
        (status = 200, description = "The triage now", body = TriageState, headers(("etag" = String, description = "Triage version"))),
        (status = 412, description = "Somebody changed it meanwhile; `ETag` is the version now", body = problem::ProblemDocument, content_type = "application/problem+json"),
        (status = 428, description = "`If-Match` is missing", body = problem::ProblemDocument, content_type = "application/problem+json"),
        problem::ProblemDocument
    )
)]
pub(crate) async fn change(
    State(app): State<Arc<App>>,
    Segment(id): Segment,
    Extension(caller): Extension<Caller>,
    Strict(NoParams {}): Strict<NoParams>,
    headers: HeaderMap,
    JsonBody(change): JsonBody<Change>,
) -> Result<([(HeaderName, String); 1], Json<TriageState>), Problem> {
    let version = if_match(&headers)?;
    apply(&app, &id, version, change, &caller).await?;
    let row = row(&app, &id).await?;
    let state = TriageState::of(&row.triage, row.recurred, row.since_closed);
    Ok((tag(row.triage.version), Json(state)))
}

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
}

/// The filters of the list, written as there.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct BulkFilter {
    status: Option<String>,
    state: Option<String>,
    severity: Option<String>,
    rule: Option<String>,
    entity: Option<String>,
    source: Option<String>,
    since: Option<String>,
    until: Option<String>,
    q: Option<String>,
}

/// What became of each alert.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BulkOutcome {
    /// One for each alert.
    items: Vec<BulkOutcomeItem>,
}

/// What became of one alert.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BulkOutcomeItem {
    /// alert_id or notice_id.
    id: String,
    /// Its triage version now; null if it was not changed.
    #[schema(required = true)]
    version: Option<i64>,
    /// Why it was not changed; null if it was.
    #[schema(value_type = Option<problem::ProblemDocument>, required = true)]
    problem: Option<Problem>,
}

impl From<BulkResult> for BulkOutcomeItem {
    fn from(BulkResult { id, outcome }: BulkResult) -> Self {
        match outcome {
            Ok(triage) => Self { id, version: Some(triage.version), problem: None },
            Err(error) => Self { id, version: None, problem: Some(error.into()) },
        }
    }
}

/// Changes the triage of many alerts; each succeeds or fails on its own.
#[utoipa::path(
    post, path = "/alerts/bulk", operation_id = "change_alerts", tag = "triage", request_body = Bulk,
    responses(
        (status = 200, description = "A result for each", body = BulkOutcome),
        problem::ProblemDocument
    )
)]
pub(crate) async fn bulk(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Strict(NoParams {}): Strict<NoParams>,
    JsonBody(bulk): JsonBody<Bulk>,
) -> Result<Json<BulkOutcome>, Problem> {
    let target = match (bulk.items, bulk.filter, bulk.as_of) {
        (Some(items), None, None) => BulkTarget::Items(
            items.into_iter().map(|BulkEntry { id, version }| BulkItem { id, version }).collect(),
        ),
        (None, Some(filter), Some(as_of)) => {
            let BulkFilter { status, state, severity, rule, entity, source, since, until, q } = filter;
            let filter = FilterParams { status, state, severity, rule, entity, source, since, until, q };
            BulkTarget::Matching { filter: Box::new(filter.filter()?), as_of }
        }
        _ => {
            let detail = "Give either `items`, or `filter` with `as_of`.";
            return Err(Problem::new(Kind::InvalidBody, detail).valid(["items", "filter", "as_of"]));
        }
    };
    if bulk.change.status == Some(Status::Closed) && bulk.change.disposition.is_none() {
        let valid = Disposition::ALL.iter().map(|disposition| disposition.name());
        return Err(Problem::new(Kind::InvalidBody, "Closing alerts needs a `disposition`.").valid(valid));
    }
    let results = app.store.bulk_triage(&target, &bulk.change.patch()?, &caller.name).await?;
    Ok(Json(BulkOutcome { items: results.into_iter().map(Into::into).collect() }))
}

/// A comment.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Comment {
    /// Its text: 1 to 4,000 characters.
    pub text: String,
}

/// Adds a comment to an alert or notice.
#[utoipa::path(
    post, path = "/alerts/{id}/comments", operation_id = "add_comment", tag = "triage",
    params(("id" = String, Path, description = "alert_id or notice_id")),
    request_body = Comment,
    responses(
        (status = 201, description = "The history's new entry", body = HistoryEntry),
        problem::ProblemDocument
    )
)]
pub(crate) async fn comment(
    State(app): State<Arc<App>>,
    Segment(id): Segment,
    Extension(caller): Extension<Caller>,
    Strict(NoParams {}): Strict<NoParams>,
    JsonBody(comment): JsonBody<Comment>,
) -> Result<(StatusCode, Json<HistoryEntry>), Problem> {
    let entry = add_comment(&app, &id, &comment.text, &caller).await?;
    Ok((StatusCode::CREATED, Json(entry)))
}

/// Checks and stores a comment.
pub(crate) async fn add_comment(
    app: &App,
    id: &str,
    text: &str,
    caller: &Caller,
) -> Result<HistoryEntry, Problem> {
    let text = text.trim();
    if text.is_empty() || text.chars().count() > MAX_COMMENT {
        let detail = format!("A comment has 1 to {MAX_COMMENT} characters.");
        return Err(Problem::new(Kind::InvalidBody, detail));
    }
    Ok(app.store.comment(id, text, &caller.name).await?.into())
}
