//! Reading the queue: lists, single rows, summaries, the picture of an alert's revisions.
//!
//! In: [`ListQuery`], ids. Out: [`AlertRow`]s with their envelope. Invariants: reads never wait for the writer; a page
//! continues exactly where the one before ended, whatever was inserted meanwhile.

use std::collections::{BTreeMap, BTreeSet};

use futures::TryStreamExt as _;
use sqlx::{Row, any::AnyRow};
use vedette_event::{Micros, Severity};

use crate::{
    error::Error,
    filter::{self, MAX_PAGE, PageEnd, Select},
    model::{AlertRow, EntityRef, Filter, ListQuery, Page, RevisionPoint, RowState, SummaryBy},
    store::Store,
    triage::triage_of,
    withdrawal::withdrawn_of,
};

/// Bytes of bodies after which a page ends, though fewer rows than asked for are in it: thousands of ordinary alerts, and
/// what a reader and the API can hold.
pub(crate) const PAGE_BYTES: usize = 4 << 20;

/// The columns of [`alert_row`].
macro_rules! row_columns {
    () => {
        "id, state, revision, seq, created_at, created_seq, rule_id, rule_title, severity, entity_type, entity_value, \
         crossed_at, last_seen, event_count, summary, body, predecessor, successor, status, assignee, disposition, \
         triage_version, recurred, closed_count, closed_here, withdrawn, withdrawn_at, case_id, snooze_id"
    };
}

impl Store {
    /// One page of the queue. Covered notices are not in it: their alert is.
    pub async fn list(&self, query: &ListQuery) -> Result<Page<AlertRow>, Error> {
        let limit = query.limit.clamp(1, MAX_PAGE);
        let mut select = Select::new(row_columns!(), &query.filter);
        select.page(query.sort, query.cursor.as_deref())?;
        select.push(" limit ");
        select.int(i64::from(limit) + 1);
        let pool = if query.filter.searches() { &self.inner.searchers } else { &self.inner.readers };
        let (mut rows, mut bytes, mut more) = (Vec::new(), 0, false);
        let mut found = select.statement().fetch(pool);
        while let Some(row) = found.try_next().await? {
            if rows.len() == limit as usize || bytes > PAGE_BYTES {
                more = true;
                break;
            }
            bytes += row.try_get::<&str, _>("body")?.len();
            rows.push(row);
        }
        drop(found);
        let next_cursor = match rows.last() {
            Some(last) if more => {
                let values = filter::columns(query.sort.key).iter().map(|column| last.try_get(*column));
                let place = PageEnd { values: values.collect::<Result<_, _>>()? };
                Some(place.write(query.sort))
            }
            _ => None,
        };
        let items = self.with_covers(&rows).await?;
        Ok(Page { items, next_cursor })
    }

    /// Those of these rows (at most [`MAX_PAGE`] ids) that match the filter now; what the stream asks after a change.
    pub async fn matching(&self, filter: &Filter, ids: &[String]) -> Result<Vec<AlertRow>, Error> {
        let ids = ids.get(..MAX_PAGE as usize).unwrap_or(ids);
        let mut select = Select::new(row_columns!(), filter);
        select.ids(ids);
        select.push(" order by seq");
        let rows = select.statement().fetch_all(&self.inner.readers).await?;
        self.with_covers(&rows).await
    }

    /// Those of these rows (at most [`MAX_PAGE`] ids), covered notices too, that were there at `seq`.
    pub async fn there_at(&self, ids: &[String], seq: i64) -> Result<BTreeSet<String>, Error> {
        let mut select = Select::every("id");
        select.ids(ids.get(..MAX_PAGE as usize).unwrap_or(ids));
        select.and_int("created_seq <= ", seq);
        let rows = select.statement().fetch_all(&self.inner.readers).await?;
        rows.iter().map(|row| Ok(row.try_get("id")?)).collect()
    }

    /// An alert or a notice; for a covered notice the alert that covers it.
    pub async fn alert(&self, id: &str) -> Result<Option<AlertRow>, Error> {
        let row = sqlx::query(concat!(
            "select ",
            row_columns!(),
            " from alerts where id = coalesce((select covered_by from alerts where id = $1), $1)"
        ))
        .bind(id)
        .fetch_all(&self.inner.readers)
        .await?;
        Ok(self.with_covers(&row).await?.pop())
    }

    /// Time and count of an alert's revisions, in order: at most the newest 2,000.
    pub async fn revisions(&self, id: &str) -> Result<Vec<RevisionPoint>, Error> {
        let rows = sqlx::query(
            "select revision, last_seen, event_count, measured, severity, stored_at from alert_revisions where id = $1 \
             order by revision desc limit 2000",
        )
        .bind(id)
        .fetch_all(&self.inner.readers)
        .await?;
        rows.iter().rev().map(crate::course::point).collect()
    }

    /// How many rows match, by severity, status, state or rule; the names in order.
    pub async fn summary(&self, by: SummaryBy, filter: &Filter) -> Result<Vec<(String, u64)>, Error> {
        let (columns, group) = match by {
            SummaryBy::Severity => ("cast(severity as text) as name, count(*) as n", "severity"),
            SummaryBy::Status => ("status as name, count(*) as n", "status"),
            SummaryBy::Rule => ("rule_id as name, count(*) as n", "rule_id"),
            SummaryBy::State => ("state as name, count(*) as n", "state"),
        };
        let mut select = Select::new(columns, filter);
        select.push(&format!(" group by {group} order by {group}"));
        let rows = select.statement().fetch_all(&self.inner.searchers).await?;
        rows.iter()
            .map(|row| {
                let name: String = row.try_get("name")?;
                let name = match by {
                    SummaryBy::Severity => severity_of(name.parse().unwrap_or(-1))?.name().to_owned(),
                    _ => name,
                };
                Ok((name, unsigned(row.try_get("n")?)))
            })
            .collect()
    }

    /// A row by its own id, a covered notice too.
    pub(crate) async fn own_row(&self, id: &str) -> Result<Option<AlertRow>, Error> {
        let row = sqlx::query(concat!("select ", row_columns!(), " from alerts where id = $1")).bind(id);
        let row = row.fetch_all(&self.inner.readers).await?;
        Ok(self.with_covers(&row).await?.pop())
    }

    /// Rows by the number with which they appeared; covered notices are not among them.
    pub(crate) async fn by_number(&self, numbers: &[i64]) -> Result<Vec<(i64, AlertRow)>, Error> {
        self.by_number_where(numbers, "").await
    }

    /// As [`Store::by_number`], those of which our own condition holds.
    pub(crate) async fn by_number_where(
        &self,
        numbers: &[i64],
        condition: &'static str,
    ) -> Result<Vec<(i64, AlertRow)>, Error> {
        if numbers.is_empty() {
            return Ok(Vec::new());
        }
        let places: Vec<String> = (1..=numbers.len()).map(|n| format!("${n}")).collect();
        let sql = format!(
            "select {} from alerts where covered_by is null and created_seq in ({}){condition} order by created_seq",
            row_columns!(),
            places.join(", ")
        );
        let select = sqlx::query(sqlx::AssertSqlSafe(sql));
        let select = numbers.iter().fold(select, |select, number| select.bind(*number));
        let rows = select.fetch_all(&self.inner.readers).await?;
        let numbers = rows.iter().map(|row| row.try_get("created_seq")).collect::<Result<Vec<i64>, _>>()?;
        Ok(numbers.into_iter().zip(self.with_covers(&rows).await?).collect())
    }

    /// Reads the rows and adds the notices that each covers.
    async fn with_covers(&self, rows: &[AnyRow]) -> Result<Vec<AlertRow>, Error> {
        let mut alerts = rows.iter().map(alert_row).collect::<Result<Vec<_>, _>>()?;
        if alerts.is_empty() {
            return Ok(alerts);
        }
        let places: Vec<String> = (1..=alerts.len()).map(|n| format!("${n}")).collect();
        let sql = format!("select covered_by, id from alerts where covered_by in ({})", places.join(", "));
        let mut select = sqlx::query(sqlx::AssertSqlSafe(sql));
        for alert in &alerts {
            select = select.bind(alert.id.as_str());
        }
        let mut covers: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for row in select.fetch_all(&self.inner.readers).await? {
            covers.entry(row.try_get("covered_by")?).or_default().push(row.try_get("id")?);
        }
        for alert in &mut alerts {
            alert.covers = covers.remove(&alert.id).unwrap_or_default();
            alert.covers.sort();
        }
        Ok(alerts)
    }
}

fn alert_row(row: &AnyRow) -> Result<AlertRow, Error> {
    let id: String = row.try_get("id")?;
    let state: String = row.try_get("state")?;
    let state = RowState::parse(&state).ok_or_else(|| Error::BadValue {
        what: "alert",
        id: id.clone(),
        detail: format!("unknown state `{state}`"),
    })?;
    let kind: Option<String> = row.try_get("entity_type")?;
    let value: Option<String> = row.try_get("entity_value")?;
    let count: i64 = row.try_get("event_count")?;
    let closed_here: i64 = row.try_get("closed_here")?;
    let since_closed = row
        .try_get::<Option<i64>, _>("closed_count")?
        .map(|closed| unsigned(if closed_here == 1 { count - closed } else { count }));
    Ok(AlertRow {
        state,
        revision: narrow(row.try_get("revision")?),
        seq: row.try_get("seq")?,
        created_at: Micros(row.try_get("created_at")?),
        rule_id: row.try_get("rule_id")?,
        rule_title: row.try_get("rule_title")?,
        severity: severity_of(row.try_get("severity")?)?,
        entity: kind.zip(value).map(|(kind, value)| EntityRef { kind, value }),
        crossed_at: Micros(row.try_get("crossed_at")?),
        last_seen: Micros(row.try_get("last_seen")?),
        count: unsigned(count),
        summary: row.try_get("summary")?,
        body: row.try_get("body")?,
        predecessor: row.try_get("predecessor")?,
        successor: row.try_get("successor")?,
        covers: Vec::new(),
        triage: triage_of(row)?,
        recurred: row.try_get::<i64, _>("recurred")? == 1,
        since_closed,
        withdrawn: withdrawn_of(row)?,
        case: row.try_get("case_id")?,
        snooze: row.try_get("snooze_id")?,
        id,
    })
}

/// The severity of this rank.
pub(crate) fn severity_of(rank: i64) -> Result<Severity, Error> {
    let known = usize::try_from(rank).ok().and_then(|rank| Severity::ALL.get(rank).copied());
    known.ok_or_else(|| Error::BadValue {
        what: "severity",
        id: rank.to_string(),
        detail: "no such level".to_owned(),
    })
}

/// A count that the database holds as i64; never below 0.
pub(crate) fn unsigned(count: i64) -> u64 {
    u64::try_from(count).unwrap_or(0)
}

/// A number that was stored from the narrower type.
pub(crate) fn narrow<T: TryFrom<i64> + Default>(value: i64) -> T {
    T::try_from(value).unwrap_or_default()
}
