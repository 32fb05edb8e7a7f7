//! Cases: alerts that are looked at together.
//!
//! In: selections, changes, notes, each with who makes them. Out: cases as they are served. Invariants: the store keeps what
//! is promised (one case an alert, the highest severity stays, both trails are kept); here texts get their bounds, and
//! problems name what is valid.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use vedette_event::{Micros, Severity};
use vedette_store::{
    Error as StoreError, MAX_CASE_ALERTS, MAX_PAGE,
    model::{
        AlertRow, AuditEntry, Case, CasePatch, CaseQuery, CaseStatus, Disposition, EntityRef, Filter, Key,
        ListQuery, Made, NewCase, Once, Sort, Status,
    },
};

use super::{
    action::{self, ActionDocument, ActionParams},
    audit::AuditDocument,
    bulk::BulkOutcomeItem,
    entity::EntityName,
    filter::{any_of, case_number},
    list::{Listed, page_size},
    triage::{nullable, owner},
};
use crate::{
    app::App,
    auth::{Caller, asking},
    problem::{Kind, Problem, short},
    shape,
    wire::{DispositionName, StatusName},
};

/// Characters of a title.
const MAX_TITLE: usize = 200;
/// Characters of a note: as of a comment.
const MAX_NOTE: usize = 4_000;

/// How far a case has come.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[allow(dead_code, reason = "only its schema is used")]
pub(crate) enum CaseStatusName {
    Open,
    InProgress,
    Closed,
}

/// A case, without its alerts.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct CaseDocument {
    /// Its number.
    pub case_id: i64,
    /// One line.
    pub title: String,
    /// How far it has come.
    #[schema(value_type = CaseStatusName)]
    pub status: CaseStatus,
    /// Who handles it.
    #[schema(required = true)]
    pub assignee: Option<String>,
    /// What it turned out to be.
    #[schema(value_type = Option<DispositionName>, required = true)]
    pub disposition: Option<Disposition>,
    /// The highest that any of its alerts has ever had, or the floor, if that is higher.
    pub severity: Severity,
    /// What people say it is at least.
    #[schema(required = true)]
    pub severity_floor: Option<Severity>,
    /// Rises with each change of what is said of it; `ETag` and `If-Match` carry it. Alerts and notes leave it.
    pub version: i64,
    /// How many alerts it has.
    pub alert_count: u64,
    /// How many of them are open.
    pub open_alert_count: u64,
    /// How many notes it has.
    pub note_count: u64,
    /// Who opened it.
    pub created_by: String,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Micros,
    /// When anything of it changed last.
    #[schema(value_type = String, format = DateTime)]
    pub changed_at: Micros,
    /// Since when it is closed.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    pub closed_at: Option<Micros>,
    /// The case that took its alerts.
    #[schema(required = true)]
    pub merged_into: Option<i64>,
    /// The case that its first alerts were in before.
    #[schema(required = true)]
    pub split_from: Option<i64>,
}

impl From<Case> for CaseDocument {
    fn from(case: Case) -> Self {
        let severity = case.severity();
        Self {
            case_id: case.id,
            title: case.title,
            status: case.status,
            assignee: case.assignee,
            disposition: case.disposition,
            severity,
            severity_floor: case.floor,
            version: case.version,
            alert_count: case.alerts,
            open_alert_count: case.open_alerts,
            note_count: case.notes,
            created_by: case.created_by,
            created_at: case.created_at,
            changed_at: case.changed_at,
            closed_at: case.closed_at,
            merged_into: case.merged_into,
            split_from: case.split_from,
        }
    }
}

/// An alert or a notice of a case, in short; `GET /alerts?case=` has all of it.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct CaseAlert {
    /// alert_id or notice_id.
    pub id: String,
    /// The rule's id.
    pub rule_id: String,
    /// The rule's title.
    pub title: String,
    /// One line.
    pub summary: String,
    /// Its severity now.
    pub severity: Severity,
    /// How far its handling has come.
    #[schema(value_type = StatusName)]
    pub status: Status,
    /// What it turned out to be.
    #[schema(value_type = Option<DispositionName>, required = true)]
    pub disposition: Option<Disposition>,
    /// Its triage version.
    pub version: i64,
    /// Whom it is about.
    #[schema(value_type = Option<EntityName>, required = true)]
    pub entity: Option<EntityRef>,
    /// Time of its crossing event.
    #[schema(value_type = String, format = DateTime)]
    pub crossed_at: Micros,
    /// Time of its last event.
    #[schema(value_type = String, format = DateTime)]
    pub last_seen: Micros,
    /// How many events.
    pub count: u64,
}

impl From<AlertRow> for CaseAlert {
    fn from(row: AlertRow) -> Self {
        Self {
            id: row.id,
            rule_id: row.rule_id,
            title: row.rule_title,
            summary: row.summary,
            severity: row.severity,
            status: row.triage.status,
            disposition: row.triage.disposition,
            version: row.triage.version,
            entity: row.entity,
            crossed_at: row.crossed_at,
            last_seen: row.last_seen,
            count: row.count,
        }
    }
}

/// A case with its alerts.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct WholeCase {
    /// The case.
    #[serde(flatten)]
    pub case: CaseDocument,
    /// Its alerts and notices, the newest crossing first.
    pub alerts: Vec<CaseAlert>,
    /// The newest of what was proposed and done about them, at most 50; `GET /actions?case=` has all.
    pub actions: Vec<ActionDocument>,
    /// All of this is at least as new as this place in commit order; `as_of` of a change that closes the alerts, too.
    pub seq: i64,
}

/// A case after a change, and what became of the alerts that were to be closed with it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ChangedCase {
    /// The case.
    #[serde(flatten)]
    pub case: CaseDocument,
    /// One for each alert that was open, if they were to be closed.
    pub closed_alerts: Vec<BulkOutcomeItem>,
    /// By what the change of the alerts is taken back, see `POST alerts/undo`; null if none was changed.
    #[schema(required = true)]
    pub change_id: Option<i64>,
}

/// Which cases.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct CaseParams {
    /// Any of `open`, `in_progress`, `closed`, separated by commas. Default: all.
    #[param(inline, value_type = Option<shape::CaseStatuses>)]
    pub status: Option<String>,
    /// Who handles it; empty: nobody.
    pub assignee: Option<String>,
    /// At least this severe: `informational`, `low`, `medium`, `high` or `critical`.
    #[param(inline, value_type = Option<shape::OneSeverity>)]
    pub severity: Option<String>,
    /// A part of the title, ignoring case.
    pub q: Option<String>,
    /// At most so many: 1 to 500. Default: 50.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 500)]
    pub limit: Option<String>,
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
}

/// A case to be.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CaseBody {
    /// One line: 1 to 200 characters.
    #[schema(value_type = shape::CaseTitle)]
    pub title: String,
    /// alert_ids or notice_ids, at most 500; all of them go into the case, or there is none.
    #[schema(max_items = 500)]
    #[serde(default)]
    pub alert_ids: Vec<String>,
    /// Who handles it.
    #[schema(value_type = Option<shape::Owner>)]
    #[serde(default)]
    pub assignee: Option<String>,
    /// What you say it is at least.
    #[serde(default)]
    pub severity_floor: Option<Severity>,
}

/// A case to be, of some of another's alerts.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SplitBody {
    /// One line: 1 to 200 characters.
    #[schema(value_type = shape::CaseTitle)]
    pub title: String,
    /// Which of them, 1 to 500.
    #[schema(min_items = 1, max_items = 500)]
    pub alert_ids: Vec<String>,
    /// Who handles it.
    #[schema(value_type = Option<shape::Owner>)]
    #[serde(default)]
    pub assignee: Option<String>,
    /// What you say it is at least.
    #[serde(default)]
    pub severity_floor: Option<Severity>,
}

impl From<SplitBody> for CaseBody {
    fn from(SplitBody { title, alert_ids, assignee, severity_floor }: SplitBody) -> Self {
        Self { title, alert_ids, assignee, severity_floor }
    }
}

/// A change of a case; what is missing stays as it is.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CaseChange {
    /// One line: 1 to 200 characters.
    #[schema(value_type = Option<shape::CaseTitle>)]
    #[serde(default)]
    pub title: Option<String>,
    /// New status. Closing needs a disposition, here or from before; opening again removes it.
    #[schema(value_type = Option<CaseStatusName>)]
    #[serde(default)]
    pub status: Option<CaseStatus>,
    /// New owner; an empty text or null removes the owner.
    #[schema(value_type = Option<shape::Owner>)]
    #[serde(default, deserialize_with = "nullable")]
    pub assignee: Option<String>,
    /// What it turned out to be.
    #[schema(value_type = Option<DispositionName>)]
    #[serde(default)]
    pub disposition: Option<Disposition>,
    /// What you say it is at least; null removes it.
    #[schema(value_type = Option<Severity>)]
    #[serde(default, deserialize_with = "given")]
    pub severity_floor: Option<Option<Severity>>,
    /// With `status: closed`: closes its open alerts with the same disposition, by the same audited triage.
    #[serde(default)]
    pub close_alerts: bool,
    /// The `seq` that you saw; needed with `close_alerts`. Triage changed since is a conflict, a revision since brings back.
    #[serde(default)]
    pub as_of: Option<i64>,
}

/// Null is a value of its own.
fn given<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Option<Severity>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// Alerts that come into a case.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Selection {
    /// alert_ids or notice_ids, 1 to 500.
    #[schema(min_items = 1, max_items = 500)]
    pub alert_ids: Vec<String>,
}

/// A note.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Note {
    /// Its text: 1 to 4,000 characters.
    #[schema(value_type = shape::CommentText)]
    pub text: String,
}

/// The case that is merged into another.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Merge {
    /// The other case's number: its alerts come into this one, and it is closed.
    pub from: i64,
}

/// All that was done to a case.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CaseHistory {
    /// From the first to the last; those of cases that were merged into it, too.
    pub items: Vec<AuditDocument>,
}

/// One page of cases.
pub(crate) async fn page(app: &App, params: &CaseParams) -> Result<Listed<CaseDocument>, Problem> {
    let names = CaseStatus::ALL.iter().map(|status| status.name()).collect::<Vec<_>>();
    let levels = Severity::ALL.map(Severity::name);
    let severity = params.severity.as_deref();
    let query = CaseQuery {
        status: any_of("status", params.status.as_deref(), CaseStatus::parse, &names)?.into_iter().collect(),
        assignee: params.assignee.clone(),
        severity: severity
            .map(|word| {
                let detail = format!("`severity={}` is no severity.", short(word));
                Severity::parse(word)
                    .ok_or_else(|| Problem::new(Kind::InvalidParameter, detail).valid(levels))
            })
            .transpose()?,
        q: params.q.clone().filter(|q| !q.trim().is_empty()),
        limit: page_size(params.limit.as_deref())?,
        before: params.cursor.as_deref().map(cursor).transpose()?,
    };
    let page = app.store.cases(&query).await?;
    let items = page.items.into_iter().map(Into::into).collect();
    Ok(Listed { items, next_cursor: page.next_cursor, search_capped: None })
}

fn cursor(text: &str) -> Result<i64, Problem> {
    text.parse()
        .map_err(|_| Problem::new(Kind::InvalidCursor, "The cursor is not one that this list gave out."))
}

/// The number in a path.
pub(crate) fn number(text: &str) -> Result<i64, Problem> {
    case_number("id", text)
        .map_err(|_| Problem::new(Kind::NotFound, format!("There is no case `{}`.", short(text))))
}

/// A case with its alerts.
pub(crate) async fn whole(app: &App, id: i64) -> Result<WholeCase, Problem> {
    // Before the rows: what changes meanwhile is newer than what is said to have been seen.
    let seq = app.store.newest_seq().await?;
    let case = app.store.case(id).await?;
    let case = case.ok_or_else(|| Problem::new(Kind::NotFound, format!("There is no case `{id}`.")))?;
    let mut query = ListQuery {
        filter: Filter { case: Some(id), ..Filter::default() },
        sort: Sort::default(),
        limit: MAX_PAGE,
        cursor: None,
    };
    let mut alerts = Vec::new();
    loop {
        // A page is shorter where bodies are long.
        let page = app.store.list(&query).await?;
        alerts.extend(page.items.into_iter().map(CaseAlert::from));
        query.cursor = page.next_cursor;
        if query.cursor.is_none() || alerts.len() >= 2 * MAX_CASE_ALERTS {
            let params = ActionParams { case: Some(id.to_string()), ..ActionParams::default() };
            let actions = action::page(app, &params).await?.items;
            return Ok(WholeCase { case: case.into(), alerts, actions, seq });
        }
    }
}

/// The alerts for a case of all that match and did at `as_of`: as many as a case holds.
pub(crate) async fn listed(app: &App, filter: &Filter, as_of: i64) -> Result<Vec<String>, Problem> {
    // It may mean reading every row, as a change of all of them does.
    let _place = asking().map(|caller| app.bulks.take(&caller)).transpose()?;
    app.store.listed_at(filter, as_of, MAX_CASE_ALERTS).await.map_err(|error| match error {
        StoreError::TooMany { max } => {
            let detail = format!(
                "More than {max} alerts match, and a case holds {max}: narrow the filter or the time."
            );
            Problem::new(Kind::LimitReached, detail)
        }
        other => other.into(),
    })
}

/// Opens a case.
pub(crate) async fn open(
    app: &App,
    body: CaseBody,
    key: Option<Key>,
    caller: &Caller,
) -> Result<Made<CaseDocument>, Problem> {
    let once = key.map(|key| Once { key, answer: |case: &Case| text_of(case) });
    Ok(documented(app.store.create_case(&new(body)?, &caller.name, once.as_ref()).await?))
}

/// Makes a case of its own of some of a case's alerts.
pub(crate) async fn split(
    app: &App,
    id: i64,
    body: CaseBody,
    key: Option<Key>,
    caller: &Caller,
) -> Result<Made<CaseDocument>, Problem> {
    let new = new(body)?;
    selected(&new.alerts)?;
    let once = key.map(|key| Once { key, answer: |case: &Case| text_of(case) });
    Ok(documented(app.store.split_case(id, &new, &caller.name, once.as_ref()).await?))
}

fn text_of(case: &Case) -> serde_json::Result<String> {
    serde_json::to_string(&CaseDocument::from(case.clone()))
}

fn documented(made: Made<Case>) -> Made<CaseDocument> {
    match made {
        Made::New(case) => Made::New(case.into()),
        Made::Again(answer) => Made::Again(answer),
    }
}

fn new(body: CaseBody) -> Result<NewCase, Problem> {
    let CaseBody { title, alert_ids, assignee, severity_floor } = body;
    let assignee = assignee.map(owner).transpose()?.filter(|name| !name.is_empty());
    Ok(NewCase { title: title_of(&title)?, alerts: alert_ids, assignee, floor: severity_floor })
}

fn title_of(title: &str) -> Result<String, Problem> {
    let title = title.trim();
    if title.is_empty() || title.chars().count() > MAX_TITLE || title.chars().any(char::is_control) {
        let detail = format!("`title` must be 1 to {MAX_TITLE} characters on one line.");
        return Err(Problem::new(Kind::InvalidBody, detail));
    }
    Ok(title.to_owned())
}

fn selected(alerts: &[String]) -> Result<(), Problem> {
    if alerts.is_empty() || alerts.len() > MAX_CASE_ALERTS {
        let detail = format!("`alert_ids` must name 1 to {MAX_CASE_ALERTS} alerts.");
        return Err(Problem::new(Kind::InvalidBody, detail));
    }
    Ok(())
}

/// Changes a case, if it still has this version.
pub(crate) async fn change(
    app: &App,
    id: i64,
    version: i64,
    change: CaseChange,
    caller: &Caller,
) -> Result<ChangedCase, Problem> {
    let CaseChange { title, status, assignee, disposition, severity_floor, close_alerts, as_of } = change;
    let close_alerts = match (close_alerts, status, as_of) {
        (false, _, None) => None,
        (true, Some(CaseStatus::Closed), Some(seq)) => Some(seq),
        _ => {
            let detail =
                "`close_alerts` goes with `status: closed` and with `as_of`, the `seq` that you saw.";
            return Err(Problem::new(Kind::InvalidBody, detail));
        }
    };
    let patch = CasePatch {
        title: title.as_deref().map(title_of).transpose()?,
        status,
        assignee: assignee.map(owner).transpose()?,
        disposition,
        floor: severity_floor,
        close_alerts,
    };
    if patch == CasePatch::default() {
        let valid = ["title", "status", "assignee", "disposition", "severity_floor"];
        return Err(Problem::new(Kind::InvalidBody, "The body changes nothing.").valid(valid));
    }
    let done = app.store.patch_case(id, version, &patch, &caller.name).await?;
    Ok(ChangedCase {
        case: done.case.into(),
        closed_alerts: done.alerts.iter().map(Into::into).collect(),
        change_id: done.change_id,
    })
}

/// Adds alerts to a case.
pub(crate) async fn add(
    app: &App,
    id: i64,
    selection: &Selection,
    caller: &Caller,
) -> Result<CaseDocument, Problem> {
    selected(&selection.alert_ids)?;
    Ok(app.store.add_to_case(id, &selection.alert_ids, &caller.name).await?.into())
}

/// Takes alerts out of a case.
pub(crate) async fn remove(
    app: &App,
    id: i64,
    alerts: &[String],
    caller: &Caller,
) -> Result<CaseDocument, Problem> {
    selected(alerts)?;
    Ok(app.store.remove_from_case(id, alerts, &caller.name).await?.into())
}

/// Takes another case's alerts into this one.
pub(crate) async fn merge(app: &App, id: i64, from: i64, caller: &Caller) -> Result<CaseDocument, Problem> {
    Ok(app.store.merge_cases(id, from, &caller.name).await?.into())
}

/// Adds a note.
pub(crate) async fn note(
    app: &App,
    id: i64,
    text: &str,
    key: Option<Key>,
    caller: &Caller,
) -> Result<Made<AuditDocument>, Problem> {
    let text = text.trim();
    if text.is_empty() || text.chars().count() > MAX_NOTE {
        let detail = format!("A note has 1 to {MAX_NOTE} characters.");
        return Err(Problem::new(Kind::InvalidBody, detail));
    }
    let answer = |entry: &AuditEntry| serde_json::to_string(&AuditDocument::from(entry.clone()));
    let once = key.map(|key| Once { key, answer });
    match app.store.note_case(id, text, &caller.name, once.as_ref()).await? {
        Made::New(entry) => Ok(Made::New(entry.into())),
        Made::Again(answer) => Ok(Made::Again(answer)),
    }
}

/// All that was done to a case.
pub(crate) async fn history(app: &App, id: i64) -> Result<CaseHistory, Problem> {
    if app.store.case(id).await?.is_none() {
        return Err(Problem::new(Kind::NotFound, format!("There is no case `{id}`.")));
    }
    let items = app.store.case_history(id).await?.into_iter().map(Into::into).collect();
    Ok(CaseHistory { items })
}
