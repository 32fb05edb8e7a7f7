//! Reading alerts: the list, one of them, its history, counts.

use std::{collections::BTreeSet, sync::Arc};

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, HeaderName, header},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{
    IntoParams, ToSchema,
    openapi::path::{Parameter, ParameterIn},
};
use vedette_event::{Micros, Severity, alert::references};
use vedette_store::{
    MAX_PAGE,
    model::{AlertRow, AuditEntry, Filter, ListQuery, RowState, Sort, SortKey, Status, SummaryBy},
};

use crate::{
    app::App,
    params::{Segment, Strict, short},
    problem::{self, Kind, Problem, etag},
    wire::{AlertDocument, AlertOrNotice, contents},
};

/// Rows unless asked otherwise: what a person looks through.
const PAGE: u32 = 50;

/// Which alerts.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct FilterParams {
    /// Any of `new`, `acknowledged`, `in_progress`, `closed`, separated by commas.
    pub status: Option<String>,
    /// Any of `notice`, `active`, `ended`, separated by commas.
    pub state: Option<String>,
    /// Any of `informational`, `low`, `medium`, `high`, `critical`, separated by commas.
    pub severity: Option<String>,
    /// Any of these rules' ids, separated by commas.
    pub rule: Option<String>,
    /// The entity's value, exactly.
    pub entity: Option<String>,
    /// A source that the rule reads.
    pub source: Option<String>,
    /// Crossed at or after this time (RFC 3339).
    #[param(value_type = Option<String>, format = DateTime)]
    pub since: Option<String>,
    /// Crossed before this time (RFC 3339).
    #[param(value_type = Option<String>, format = DateTime)]
    pub until: Option<String>,
    /// A part of the id, title, rule id, summary or entity, ignoring case.
    pub q: Option<String>,
}

impl FilterParams {
    /// The filter they mean.
    pub fn filter(&self) -> Result<Filter, Problem> {
        let statuses = Status::ALL.iter().map(|status| status.name()).collect::<Vec<_>>();
        let states = RowState::ALL.iter().map(|state| state.name()).collect::<Vec<_>>();
        let severities = Severity::ALL.map(Severity::name);
        Ok(Filter {
            status: any_of("status", self.status.as_deref(), Status::parse, &statuses)?,
            state: any_of("state", self.state.as_deref(), RowState::parse, &states)?,
            severity: any_of("severity", self.severity.as_deref(), Severity::parse, &severities)?,
            rule: any_of("rule", self.rule.as_deref(), |id| Some(id.to_owned()), &[])?,
            entity_type: None,
            entity: self.entity.clone(),
            source: self.source.clone(),
            since: time("since", self.since.as_deref())?,
            until: time("until", self.until.as_deref())?,
            q: match &self.q {
                Some(q) if q.trim().is_empty() => return Err(empty("q")),
                q => q.clone(),
            },
        })
    }
}

/// In which order, from where.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct PageParams {
    /// `crossed_at`, `last_seen`, `severity`, `count` or `created`; `-` in front: highest first. Default: `-crossed_at`.
    pub sort: Option<String>,
    /// At most so many: 1 to 500, fewer where their bodies are long. Default: 50.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 500)]
    pub limit: Option<String>,
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
}

/// The parameters of the list.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct ListParams {
    #[serde(flatten)]
    pub filter: FilterParams,
    #[serde(flatten)]
    pub page: PageParams,
}

impl IntoParams for ListParams {
    fn into_params(place: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        [FilterParams::into_params(&place), PageParams::into_params(&place)].concat()
    }
}

impl ListParams {
    /// The query they mean.
    pub fn query(&self) -> Result<ListQuery, Problem> {
        let sort = match self.page.sort.as_deref() {
            None => Sort::default(),
            Some(text) => Sort::parse(text).ok_or_else(|| {
                let keys = SortKey::ALL
                    .iter()
                    .map(|key| key.name())
                    .flat_map(|key| [key.to_owned(), format!("-{key}")]);
                let detail = format!("`sort={}` is no order of this list.", short(text));
                Problem::new(Kind::InvalidParameter, detail).valid(keys)
            })?,
        };
        let limit = page_size(self.page.limit.as_deref())?;
        Ok(ListQuery { filter: self.filter.filter()?, sort, limit, cursor: self.page.cursor.clone() })
    }
}

/// How many items a page may have.
pub(crate) fn page_size(given: Option<&str>) -> Result<u32, Problem> {
    let Some(text) = given else { return Ok(PAGE) };
    text.parse().ok().filter(|n| (1..=MAX_PAGE).contains(n)).ok_or_else(|| {
        let detail = format!("`limit={}` is no whole number from 1 to {MAX_PAGE}.", short(text));
        Problem::new(Kind::InvalidParameter, detail)
    })
}

/// Values that one filter takes at most.
const MAX_VALUES: usize = 100;

fn any_of<T: Ord>(
    name: &str,
    given: Option<&str>,
    parse: impl Fn(&str) -> Option<T>,
    valid: &[&'static str],
) -> Result<BTreeSet<T>, Problem> {
    let Some(given) = given else { return Ok(BTreeSet::new()) };
    if given.split(',').count() > MAX_VALUES {
        let detail = format!("`{name}` has more than {MAX_VALUES} values.");
        return Err(Problem::new(Kind::InvalidParameter, detail));
    }
    let parsed = given.split(',').map(str::trim).map(|item| {
        if item.is_empty() {
            return Err(empty(name).valid(valid.iter().copied()));
        }
        parse(item).ok_or_else(|| {
            let detail = format!("`{}` is no value of `{name}`.", short(item));
            Problem::new(Kind::InvalidParameter, detail).valid(valid.iter().copied())
        })
    });
    parsed.collect()
}

fn empty(name: &str) -> Problem {
    let detail = format!("`{name}` has an empty value; leave the filter out to have all.");
    Problem::new(Kind::InvalidParameter, detail)
}

fn time(name: &str, given: Option<&str>) -> Result<Option<Micros>, Problem> {
    let parse = |text| {
        Micros::parse_rfc3339(text).ok_or_else(|| {
            let detail =
                format!("`{name}={}` is no RFC 3339 time such as 2026-01-31T12:00:00Z.", short(text));
            Problem::new(Kind::InvalidParameter, detail)
        })
    };
    given.map(parse).transpose()
}

/// One page of a list.
#[derive(Debug, Serialize)]
pub(crate) struct Listed<T> {
    pub items: Vec<T>,
    pub next_cursor: Option<String>,
}

/// One page of alerts and notices.
#[derive(ToSchema)]
#[allow(dead_code, reason = "only its schema is used")]
pub(crate) struct AlertPage {
    /// The alerts and notices.
    items: Vec<AlertOrNotice>,
    /// Where the next page starts; null on the last.
    #[schema(required = true)]
    next_cursor: Option<String>,
}

/// Lists alerts and notices.
#[utoipa::path(
    get, path = "/alerts", operation_id = "list_alerts", tag = "alerts", params(ListParams),
    responses(
        (status = 200, description = "A page", body = AlertPage),
        problem::ProblemDocument
    )
)]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    Strict(params): Strict<ListParams>,
) -> Result<Json<Listed<AlertDocument>>, Problem> {
    let page = app.store.list(&params.query()?).await?;
    let items = page.items.into_iter().map(AlertDocument::of).collect();
    Ok(Json(Listed { items, next_cursor: page.next_cursor }))
}

/// One alert or notice, with the content of its evidence and its revisions. `ETag` is the triage version.
#[utoipa::path(
    get, path = "/alerts/{id}", operation_id = "get_alert", tag = "alerts",
    params(("id" = String, Path, description = "alert_id or notice_id")),
    responses(
        (status = 200, description = "The alert or notice", body = AlertOrNotice, headers(("etag" = String, description = "Triage version"))),
        problem::ProblemDocument
    )
)]
pub(crate) async fn one(
    State(app): State<Arc<App>>,
    Segment(id): Segment,
    Strict(NoParams {}): Strict<NoParams>,
) -> Result<([(HeaderName, String); 1], Json<AlertDocument>), Problem> {
    let document = full(&app, &id).await?;
    Ok((tag(document.row.triage.version), Json(document)))
}

/// An alert or notice with everything.
pub(crate) async fn full(app: &App, id: &str) -> Result<AlertDocument, Problem> {
    let row = row(app, id).await?;
    let stored = app.store.evidence(&row.id).await?;
    let revisions = app.store.revisions(&row.id).await?;
    let mut document = AlertDocument::of(row);
    document.envelope.events = Some(contents(&references(&document.row.body), stored));
    document.envelope.revisions = Some(revisions.into_iter().map(Into::into).collect());
    Ok(document)
}

/// The row of an alert or notice; for a covered notice, that of its alert.
pub(crate) async fn row(app: &App, id: &str) -> Result<AlertRow, Problem> {
    let found = app.store.alert(id).await?;
    found.ok_or_else(|| Problem::new(Kind::NotFound, format!("There is no alert `{}`.", short(id))))
}

/// The `ETag` of a triage version.
pub(crate) fn tag(version: i64) -> [(HeaderName, String); 1] {
    [(header::ETAG, etag(version))]
}

/// The version in `If-Match`.
pub(crate) fn if_match(headers: &HeaderMap) -> Result<i64, Problem> {
    let Some(value) = headers.get(header::IF_MATCH) else {
        let detail = "Send `If-Match` with the ETag (the triage version) that you saw.";
        return Err(Problem::new(Kind::VersionRequired, detail));
    };
    let text = value.to_str().unwrap_or_default().trim();
    let version = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text).parse();
    version.map_err(|_| Problem::new(Kind::InvalidParameter, "`If-Match` must be one ETag such as \"3\"."))
}

/// A route without query parameters.
#[derive(Debug, Deserialize, IntoParams)]
pub(crate) struct NoParams {}

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
}

impl From<AuditEntry> for HistoryEntry {
    fn from(entry: AuditEntry) -> Self {
        let value = |text: String| serde_json::from_str(&text).unwrap_or(Value::String(text));
        let AuditEntry { seq, at, actor, action, from, to, .. } = entry;
        Self { seq, at, actor, action, from: from.map(value), to: to.map(value) }
    }
}

/// All that was done to an alert.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct History {
    /// From the first to the last.
    pub items: Vec<HistoryEntry>,
}

/// The history of an alert's triage, comments included.
#[utoipa::path(
    get, path = "/alerts/{id}/history", operation_id = "get_history", tag = "triage",
    params(("id" = String, Path, description = "alert_id or notice_id")),
    responses(
        (status = 200, description = "From the first to the last", body = History),
        problem::ProblemDocument
    )
)]
pub(crate) async fn history(
    State(app): State<Arc<App>>,
    Segment(id): Segment,
    Strict(NoParams {}): Strict<NoParams>,
) -> Result<Json<History>, Problem> {
    row(&app, &id).await?;
    let entries = app.store.history(&id).await?;
    Ok(Json(History { items: entries.into_iter().map(Into::into).collect() }))
}

/// What to count by.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct ByParams {
    /// `severity`, `status`, `rule` or `state`.
    pub by: String,
}

/// The parameters of the summary.
#[derive(Debug, Deserialize)]
pub(crate) struct SummaryParams {
    #[serde(flatten)]
    pub by: ByParams,
    #[serde(flatten)]
    pub filter: FilterParams,
}

impl IntoParams for SummaryParams {
    fn into_params(place: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        [ByParams::into_params(&place), FilterParams::into_params(&place)].concat()
    }
}

/// Counts of alerts.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Summary {
    /// What was counted by.
    pub by: String,
    /// The counts.
    pub items: Vec<SummaryItem>,
}

/// How many alerts have one value.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SummaryItem {
    /// The value.
    pub name: String,
    /// How many.
    pub count: u64,
}

/// Counts alerts and notices by one of their properties.
#[utoipa::path(
    get, path = "/alerts/summary", operation_id = "summarise_alerts", tag = "alerts", params(SummaryParams),
    responses(
        (status = 200, description = "The counts", body = Summary),
        problem::ProblemDocument
    )
)]
pub(crate) async fn summary(
    State(app): State<Arc<App>>,
    Strict(params): Strict<SummaryParams>,
) -> Result<Json<Summary>, Problem> {
    let name = &params.by.by;
    let by = SummaryBy::parse(name).ok_or_else(|| {
        let detail = format!("Alerts are not counted by `{}`.", short(name));
        Problem::new(Kind::InvalidParameter, detail).valid(SummaryBy::ALL.iter().map(|by| by.name()))
    })?;
    let counts = app.store.summary(by, &params.filter.filter()?).await?;
    let items = counts.into_iter().map(|(name, count)| SummaryItem { name, count }).collect();
    Ok(Json(Summary { by: by.name().to_owned(), items }))
}
