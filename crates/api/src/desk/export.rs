//! Alerts on their way out: as JSON lines, as a table for spreadsheets, as findings of the Open Cybersecurity Schema Framework.
//!
//! In: a format, the list's filters. Out: pieces of text, one page of the store at a time. Invariants: no more than one page is
//! in memory, however many rows there are; rows are those of the list, in the order in which they appeared, each once; an export
//! that ends at its bound says so; no value starts a formula in a spreadsheet.

use std::{collections::VecDeque, sync::Arc};

use futures::Stream;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use utoipa::{
    IntoParams,
    openapi::path::{Parameter, ParameterIn},
};
use vedette_event::{Alert, Micros, Severity};
use vedette_store::{
    Error, MAX_FOUND,
    model::{AlertRow, Disposition, ListQuery, RowState, Sort, SortKey, Status, SummaryBy},
};

use super::filter::FilterParams;
use crate::{
    app::App,
    attack::Attack,
    auth::Caller,
    csv,
    problem::{Kind, Problem, short},
    shape,
    shares::Share,
    wire::AlertDocument,
};

/// Rows of one export: some hundred megabytes at most. Who needs more asks for a range of time after the other.
const MOST_ROWS: u64 = 100_000;
/// Rows that are read at once.
const STEP: u32 = 200;
/// The version of the schema that findings are written by.
pub(crate) const OCSF: &str = "1.8.0";

/// How alerts are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// One alert a line, as in the API's list.
    Ndjson,
    /// RFC 4180, with a line of names.
    Csv,
    /// One OCSF Detection Finding a line.
    Ocsf,
}

impl Format {
    const NAMES: [&str; 3] = ["ndjson", "csv", "ocsf"];

    fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "ndjson" => Self::Ndjson,
            "csv" => Self::Csv,
            "ocsf" => Self::Ocsf,
            _ => return None,
        })
    }

    /// Its media type.
    pub fn media(self) -> &'static str {
        match self {
            Self::Csv => "text/csv; charset=utf-8; header=present",
            Self::Ndjson | Self::Ocsf => "application/x-ndjson",
        }
    }

    /// The name of a file that holds it.
    pub fn file(self) -> &'static str {
        match self {
            Self::Ndjson => "alerts.ndjson",
            Self::Csv => "alerts.csv",
            Self::Ocsf => "alerts.ocsf.ndjson",
        }
    }
}

/// In which format.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct FormatParams {
    /// `ndjson` (default): as in the list, one a line; `csv`: RFC 4180, texts that a spreadsheet would take for a formula have `'` in
    /// front; `ocsf`: OCSF 1.8.0 Detection Finding (class 2004), one a line.
    #[param(inline, value_type = Option<shape::ExportFormat>)]
    pub format: Option<String>,
}

/// The parameters of an export.
#[derive(Debug, Deserialize)]
pub(crate) struct ExportParams {
    #[serde(flatten)]
    format: FormatParams,
    #[serde(flatten)]
    filter: FilterParams,
}

impl IntoParams for ExportParams {
    fn into_params(place: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        [FormatParams::into_params(&place), FilterParams::into_params(&place)].concat()
    }
}

/// An export under way.
pub(crate) struct Export {
    app: Arc<App>,
    pub format: Format,
    query: ListQuery,
    left: u64,
    /// How many rows match, which is said before the first.
    pub matching: u64,
    /// More rows hold the words than a search looks at.
    capped: bool,
    ready: VecDeque<String>,
    over: bool,
    _place: Share,
}

/// Begins an export.
pub(crate) async fn begin(app: &Arc<App>, params: &ExportParams, caller: &Caller) -> Result<Export, Problem> {
    let format = params.format.format.as_deref().unwrap_or("ndjson");
    let format = Format::parse(format).ok_or_else(|| {
        let detail = format!("`format={}` is none that alerts are written in.", short(format));
        Problem::new(Kind::InvalidParameter, detail).valid(Format::NAMES)
    })?;
    let filter = params.filter.filter()?;
    let place = app.streams.take(caller)?;
    let counts = app.store.summary(SummaryBy::State, &filter).await?;
    // By when they appeared, which never changes: no row is missed or told twice while others come and change.
    let sort = Sort { key: SortKey::Created, descending: false };
    let mut ready = VecDeque::new();
    if format == Format::Csv {
        ready.push_back(line(COLUMNS.iter().map(|name| (*name).to_owned())));
    }
    Ok(Export {
        app: Arc::clone(app),
        format,
        query: ListQuery { filter, sort, limit: STEP, cursor: None },
        left: MOST_ROWS,
        capped: counts.capped,
        matching: counts.groups.iter().map(|group| group.count).sum(),
        ready,
        over: false,
        _place: place,
    })
}

impl Export {
    /// How many rows are written at most.
    pub fn most(&self) -> u64 {
        if self.capped { MAX_FOUND.unsigned_abs() } else { MOST_ROWS }
    }

    /// Its text in pieces. A store that fails on the way ends it with an error, so that nobody takes a part for the whole.
    pub fn pieces(self) -> impl Stream<Item = Result<String, Error>> {
        futures::stream::unfold(self, |mut export| async move {
            let piece = export.next().await?;
            Some((piece, export))
        })
    }

    async fn next(&mut self) -> Option<Result<String, Error>> {
        if let Some(piece) = self.ready.pop_front() {
            return Some(Ok(piece));
        }
        if self.over || self.left == 0 {
            return None;
        }
        let page = match self.app.store.list(&self.query).await {
            Ok(page) => page,
            Err(error) => {
                self.over = true;
                return Some(Err(error));
            }
        };
        self.over = page.next_cursor.is_none();
        self.query.cursor = page.next_cursor;
        let mut text = String::new();
        for row in page.items {
            if self.left == 0 {
                break;
            }
            self.left -= 1;
            text.push_str(&self.written(row));
        }
        // An empty page that is not the last would end the stream.
        if text.is_empty() { None } else { Some(Ok(text)) }
    }

    fn written(&self, row: AlertRow) -> String {
        match self.format {
            Format::Csv => csv(&row),
            Format::Ndjson => {
                let mut text = serde_json::to_string(&AlertDocument::of(row)).unwrap_or_default();
                text.push('\n');
                text
            }
            Format::Ocsf => format!("{}\n", finding(&row)),
        }
    }
}

const COLUMNS: [&str; 17] = [
    "id",
    "state",
    "severity",
    "rule_id",
    "rule_title",
    "entity_type",
    "entity",
    "crossed_at",
    "last_seen",
    "count",
    "summary",
    "status",
    "assignee",
    "disposition",
    "recurred",
    "created_at",
    "seq",
];

fn csv(row: &AlertRow) -> String {
    let entity = row.entity.as_ref();
    line([
        row.id.clone(),
        row.state.name().to_owned(),
        row.severity.name().to_owned(),
        row.rule_id.clone(),
        row.rule_title.clone(),
        entity.map(|entity| entity.kind.clone()).unwrap_or_default(),
        entity.map(|entity| entity.value.clone()).unwrap_or_default(),
        row.crossed_at.to_string(),
        row.last_seen.to_string(),
        row.count.to_string(),
        row.summary.clone(),
        row.triage.status.name().to_owned(),
        row.triage.assignee.clone().unwrap_or_default(),
        row.triage.disposition.map(Disposition::name).unwrap_or_default().to_owned(),
        row.recurred.to_string(),
        row.created_at.to_string(),
        row.seq.to_string(),
    ])
}

/// One line of fields, ended as RFC 4180 wants it.
fn line(fields: impl IntoIterator<Item = String>) -> String {
    let fields: Vec<String> = fields.into_iter().map(|field| csv::field(&field)).collect();
    format!("{}\r\n", fields.join(","))
}

/// A row as a Detection Finding.
fn finding(row: &AlertRow) -> Value {
    let body: Option<Alert> = serde_json::from_str(&row.body).ok();
    let (activity, name) = activity(row);
    let mut info = json!({
        "uid": row.id,
        "title": row.rule_title,
        "desc": row.summary,
        "created_time": millis(row.created_at),
        "last_seen_time": millis(row.last_seen),
        "related_events_count": row.count,
        "analytic": {"type_id": 1, "type": "Rule", "uid": row.rule_id, "name": row.rule_title},
    });
    if let (Some(body), Value::Object(info)) = (&body, &mut info) {
        info.insert("first_seen_time".into(), millis(body.first_seen).into());
        let attacks: Vec<Value> = body.rule.tags.iter().filter_map(|tag| attack(tag)).collect();
        if !attacks.is_empty() {
            info.insert("attacks".into(), attacks.into());
        }
    }
    let (status, status_name) = status(row);
    let mut members = json!({
        "activity_id": activity,
        "activity_name": name,
        "category_uid": 2,
        "category_name": "Findings",
        "class_uid": 2004,
        "class_name": "Detection Finding",
        "type_uid": 200_400 + activity,
        "type_name": format!("Detection Finding: {name}"),
        "time": millis(row.created_at),
        "start_time": millis(body.as_ref().map_or(row.crossed_at, |body| body.first_seen)),
        "end_time": millis(row.last_seen),
        "severity_id": severity(row.severity),
        "severity": capital(row.severity.name()),
        "status_id": status,
        "status": status_name,
        "is_alert": row.state != RowState::Notice,
        "message": row.summary,
        "count": row.count,
        "finding_info": info,
        "metadata": {
            "version": OCSF,
            "uid": row.id,
            "sequence": row.seq,
            "product": {"name": "Vedette", "vendor_name": "Vedette", "version": env!("CARGO_PKG_VERSION")},
        },
    });
    if let Value::Object(members) = &mut members {
        extras(row, body.as_ref(), members);
    }
    members
}

/// What only some findings have.
fn extras(row: &AlertRow, body: Option<&Alert>, members: &mut Map<String, Value>) {
    if let Some(body) = body {
        members.insert("risk_score".into(), body.risk.into());
    }
    if let Some(entity) = &row.entity {
        let (type_id, kind) = observable(&entity.kind);
        let observable =
            json!({"name": entity.kind, "type_id": type_id, "type": kind, "value": entity.value});
        members.insert("observables".into(), json!([observable]));
    }
    if let Some(disposition) = row.triage.disposition {
        members.insert("status_detail".into(), disposition.name().into());
    }
    if let Some(assignee) = &row.triage.assignee {
        members.insert("unmapped".into(), json!({"assignee": assignee}));
    }
}

/// What a field's value is, by the schema's list; a field of a name of its own is called by that.
fn observable(field: &str) -> (u64, &str) {
    match field.rsplit_once('.') {
        Some((_, "ip")) => (2, "IP Address"),
        Some((_, "mac")) => (3, "MAC Address"),
        Some(("user", "name")) => (4, "User Name"),
        Some(("user", "email")) => (5, "Email Address"),
        Some((_, "hostname" | "domain")) | Some(("host", "name")) => (1, "Hostname"),
        Some(("user_agent", "original")) => (16, "HTTP User-Agent"),
        _ => (99, field),
    }
}

fn millis(time: Micros) -> i64 {
    time.0.div_euclid(1_000)
}

/// Created, revised since, closed.
fn activity(row: &AlertRow) -> (u64, &'static str) {
    match (row.triage.status, row.revision) {
        (Status::Closed, _) => (3, "Close"),
        (_, 0 | 1) => (1, "Create"),
        _ => (2, "Update"),
    }
}

fn severity(severity: Severity) -> u64 {
    match severity {
        Severity::Informational => 1,
        Severity::Low => 2,
        Severity::Medium => 3,
        Severity::High => 4,
        Severity::Critical => 5,
    }
}

/// New, in progress, suppressed (what was nothing), resolved.
fn status(row: &AlertRow) -> (u64, &'static str) {
    match (row.triage.status, row.triage.disposition) {
        (Status::New, _) => (1, "New"),
        (Status::Acknowledged | Status::InProgress, _) => (2, "In Progress"),
        (Status::Closed, Some(Disposition::Benign | Disposition::FalsePositive)) => (3, "Suppressed"),
        (Status::Closed, _) => (4, "Resolved"),
    }
}

fn attack(tag: &str) -> Option<Value> {
    let found = Attack::of(tag)?;
    let named = match &found.name {
        Some(name) => json!({"uid": found.id, "name": name, "src_url": found.url()}),
        None => json!({"uid": found.id, "src_url": found.url()}),
    };
    Some(match (found.technique, found.id.contains('.')) {
        (true, true) => {
            let parent = found.id.split('.').next().unwrap_or_default();
            json!({"technique": {"uid": parent}, "sub_technique": named})
        }
        (true, false) => json!({"technique": named}),
        (false, _) => json!({"tactic": named}),
    })
}

fn capital(name: &str) -> String {
    let mut chars = name.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_ends_as_the_standard_wants_it() {
        assert_eq!(line(["a".to_owned(), "b".to_owned()]), "a,b\r\n");
    }
}
