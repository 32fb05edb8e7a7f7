//! Tables beside `events`: those of each source, `alerts` and `rules`.
//!
//! In: the columns of each source, rows of the store, rules. Out: what a query finds by these names.
//! Invariants: a source's table is `events` where that is of this source, with the source's own columns; `alerts` and `rules` are as of the
//! moment when the query began, and bounded; nobody reads them for a query that does not name them.

use std::sync::Arc;

use arrow_array::{
    ArrayRef, BooleanArray, Int64Array, ListArray, RecordBatch, StringViewArray, TimestampMicrosecondArray,
    UInt64Array,
    builder::{ListBuilder, StringViewBuilder},
};
use arrow_schema::{ArrowError, Field, Schema};
use vedette_event::Micros;
use vedette_sigma::{RuleKind, RuleSet};
use vedette_store::{
    MAX_PAGE, Store,
    model::{AlertRow, ListQuery, Sort, SortKey},
};

use crate::{
    answer::kind,
    columns::{Columns, time_type},
    sigma::Sigma,
};

/// Alerts and notices that a query finds, the newest ones.
pub const MOST_ALERTS: usize = 20_000;

/// What a query finds beside `events`.
#[derive(Debug, Clone, Default)]
pub struct Tables {
    /// Of each source that has a table: its name and its columns.
    pub sources: Vec<(String, Columns)>,
    /// Rows by the name of their table.
    pub rows: Vec<(&'static str, RecordBatch)>,
    /// The rules that the query asks with `sigma('…')`.
    pub rules: Vec<Sigma>,
}

/// Alerts and notices of the store; whether there are older ones that are not among them.
///
/// # Errors
/// If the store cannot be read.
pub async fn alerts(store: &Store) -> Result<(RecordBatch, bool), TableError> {
    let mut rows: Vec<AlertRow> = Vec::new();
    let mut cursor = None;
    loop {
        let sort = Sort { key: SortKey::Created, descending: true };
        let page = store.list(&ListQuery { sort, limit: MAX_PAGE, cursor, ..ListQuery::default() }).await?;
        rows.extend(page.items);
        cursor = page.next_cursor;
        if cursor.is_none() || rows.len() >= MOST_ALERTS {
            break;
        }
    }
    let more = cursor.is_some() || rows.len() > MOST_ALERTS;
    rows.truncate(MOST_ALERTS);
    Ok((alerts_of(&rows)?, more))
}

/// Why `alerts` cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// The store says so.
    #[error(transparent)]
    Store(#[from] vedette_store::Error),
    /// Arrow does not take the rows, which would be a defect here.
    #[error("the rows of a table do not fit together: {0}")]
    Arrow(#[from] ArrowError),
}

fn alerts_of(rows: &[AlertRow]) -> Result<RecordBatch, ArrowError> {
    let entity = |row: &AlertRow, value: bool| {
        row.entity.clone().map(|entity| if value { entity.value } else { entity.kind })
    };
    let key = |row: &AlertRow| {
        let body: serde_json::Value = serde_json::from_str(&row.body).ok()?;
        body.get("key").map(ToString::to_string)
    };
    batch([
        ("id", texts(rows, |row| Some(row.id.clone()))),
        ("state", texts(rows, |row| Some(row.state.name().to_owned()))),
        ("status", texts(rows, |row| Some(row.triage.status.name().to_owned()))),
        ("severity", texts(rows, |row| Some(row.severity.name().to_owned()))),
        ("rule_id", texts(rows, |row| Some(row.rule_id.clone()))),
        ("rule_title", texts(rows, |row| Some(row.rule_title.clone()))),
        ("techniques", Arc::new(lists(rows.iter().map(|row| row.techniques.iter().map(String::as_str))))),
        ("entity_type", texts(rows, |row| entity(row, false))),
        ("entity", texts(rows, |row| entity(row, true))),
        ("key", texts(rows, key)),
        ("count", Arc::new(rows.iter().map(|row| Some(row.count)).collect::<UInt64Array>())),
        ("summary", texts(rows, |row| Some(row.summary.clone()))),
        ("created_at", times(rows, |row| row.created_at)),
        ("crossed_at", times(rows, |row| row.crossed_at)),
        ("last_seen", times(rows, |row| row.last_seen)),
        ("assignee", texts(rows, |row| row.triage.assignee.clone())),
        ("disposition", texts(rows, |row| row.triage.disposition.map(|of| of.name().to_owned()))),
        ("recurred", Arc::new(rows.iter().map(|row| Some(row.recurred)).collect::<BooleanArray>())),
        ("case_id", Arc::new(rows.iter().map(|row| row.case).collect::<Int64Array>())),
    ])
}

/// The rules of a set.
///
/// # Errors
/// If Arrow does not take the rows, which would be a defect here.
pub fn rules(set: &RuleSet) -> Result<RecordBatch, ArrowError> {
    let rows = &set.rules;
    let of = |text: &Option<Arc<str>>| text.as_deref().map(str::to_owned);
    let kind = |kind: &RuleKind| match kind {
        RuleKind::Detection(_) => "detection",
        RuleKind::Correlation(_) => "correlation",
    };
    batch([
        ("id", texts(rows, |rule| Some(rule.id.to_string()))),
        ("title", texts(rows, |rule| Some(rule.title.to_string()))),
        ("name", texts(rows, |rule| of(&rule.name))),
        ("kind", texts(rows, |rule| Some(kind(&rule.kind).to_owned()))),
        ("level", texts(rows, |rule| Some(rule.level.name().to_owned()))),
        ("description", texts(rows, |rule| of(&rule.description))),
        ("tags", Arc::new(lists(rows.iter().map(|rule| rule.tags.iter().map(|tag| &**tag))))),
        ("file", texts(rows, |rule| Some(rule.file.to_string()))),
        ("raises_alerts", Arc::new(rows.iter().map(|rule| Some(rule.emits)).collect::<BooleanArray>())),
        ("text", texts(rows, |rule| Some(rule.text.to_string()))),
    ])
}

/// A table's name, what its rows are, and its columns with what each holds.
pub type Described = (&'static str, &'static str, Vec<(String, &'static str)>);

/// The tables `alerts` and `rules`: name, what its rows are, and its columns with what each holds, in the words of [`Columns::shown`].
///
/// # Errors
/// If Arrow does not take no rows at all, which would be a defect here.
pub fn described() -> Result<[Described; 2], ArrowError> {
    let columns = |batch: &RecordBatch| {
        let fields = batch.schema();
        fields.fields().iter().map(|field| (field.name().clone(), kind(field.data_type()))).collect()
    };
    let (alerts, rules) = (alerts_of(&[])?, rules(&RuleSet::default())?);
    Ok([
        ("alerts", "The newest 20,000 alerts and notices, as of when the query began.", columns(&alerts)),
        ("rules", "The rules in force, as of when the query began.", columns(&rules)),
    ])
}

fn batch<const N: usize>(columns: [(&str, ArrayRef); N]) -> Result<RecordBatch, ArrowError> {
    let field = |(name, array): &(&str, ArrayRef)| Field::new(*name, array.data_type().clone(), true);
    let schema = Schema::new(columns.iter().map(field).collect::<Vec<_>>());
    RecordBatch::try_new(Arc::new(schema), columns.into_iter().map(|(_, array)| array).collect())
}

fn texts<T>(rows: &[T], text: impl Fn(&T) -> Option<String>) -> ArrayRef {
    Arc::new(rows.iter().map(text).collect::<StringViewArray>())
}

fn times<T>(rows: &[T], time: impl Fn(&T) -> Micros) -> ArrayRef {
    let times: TimestampMicrosecondArray = rows.iter().map(|row| Some(time(row).0)).collect();
    Arc::new(times.with_data_type(time_type()))
}

fn lists<'a>(rows: impl Iterator<Item = impl Iterator<Item = &'a str>>) -> ListArray {
    let mut lists = ListBuilder::new(StringViewBuilder::new());
    for row in rows {
        row.for_each(|text| lists.values().append_value(text));
        lists.append(true);
    }
    lists.finish()
}
