//! Reading the queue: lists, single rows, summaries, the picture of an alert's revisions.
//!
//! In: [`ListQuery`], ids. Out: [`AlertRow`]s with their envelope. Invariants: reads never wait for the writer; a page
//! continues exactly where the one before ended, whatever was inserted meanwhile.

use std::collections::{BTreeMap, BTreeSet};

use futures::TryStreamExt as _;
use sqlx::{AnyConnection, Row, any::AnyRow};
use vedette_event::{Micros, Severity};

use crate::{
    error::Error,
    filter::{self, MAX_PAGE, PageEnd, Select},
    model::{
        AlertRow, EntityRef, Filter, Group, ListQuery, Page, RevisionPoint, RowState, Sort, Summary,
        SummaryBy,
    },
    search,
    store::Store,
    triage::triage_of,
    withdrawal::withdrawn_of,
};

/// Bytes of bodies after which a page ends, though fewer rows than asked for are in it: thousands of ordinary alerts, and
/// what a reader and the API can hold.
pub(crate) const PAGE_BYTES: u64 = 4 << 20;

/// Revisions that the course of an alert in a list shows.
const COURSE: i64 = 16;

/// Groups of a summary at most.
pub const MAX_GROUPS: usize = 500;

/// The columns of [`alert_row`].
macro_rules! row_columns {
    () => {
        "id, state, revision, seq, created_at, created_seq, rule_id, rule_title, techniques, severity, entity_type, entity_value, \
         crossed_at, last_seen, event_count, summary, body_bytes, predecessor, successor, status, assignee, disposition, \
         triage_version, recurred, closed_count, closed_here, withdrawn, withdrawn_at, case_id, snooze_id"
    };
}

/// The columns that [`whole`] reads.
pub(crate) const ROW: &str = row_columns!();

/// The cursor behind a row.
fn place(row: &AnyRow, sort: Sort) -> Result<String, Error> {
    let values = filter::columns(sort.key).iter().map(|column| row.try_get(*column));
    let place = PageEnd { values: values.collect::<Result<_, _>>()? };
    Ok(place.write(sort))
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
        let (mut rows, mut bytes, mut more) = (Vec::new(), 0_u64, false);
        let mut found = select.statement().fetch(pool);
        while let Some(row) = found.try_next().await? {
            if rows.len() == limit as usize || bytes > PAGE_BYTES {
                more = true;
                break;
            }
            bytes += unsigned(row.try_get("body_bytes")?);
            rows.push(row);
        }
        drop(found);
        let next_cursor = match rows.last() {
            Some(last) if more => Some(place(last, query.sort)?),
            _ => None,
        };
        let items = self.whole(&rows).await?;
        Ok(Page { items, next_cursor })
    }

    /// Those of these rows (at most [`MAX_PAGE`] ids) that match the filter now; what the stream asks after a change.
    pub async fn matching(&self, filter: &Filter, ids: &[String]) -> Result<Vec<AlertRow>, Error> {
        let ids = ids.get(..MAX_PAGE as usize).unwrap_or(ids);
        let mut select = Select::new(row_columns!(), &Filter { q: None, ..filter.clone() });
        select.ids(ids);
        select.push(" order by seq");
        let rows = select.statement().fetch_all(&self.inner.readers).await?;
        let mut rows = self.whole(&rows).await?;
        // Of a few rows the words are at hand; the index of all would have to be asked for everything that they find.
        if let Some(text) = &filter.q {
            rows.retain(|row| search::finds(text, row));
        }
        Ok(rows)
    }

    /// With which `seq` these rows (at most [`MAX_PAGE`] ids), covered notices too, appeared.
    pub async fn created(&self, ids: &[String]) -> Result<BTreeMap<String, i64>, Error> {
        if ids.is_empty() {
            return Ok(BTreeMap::new());
        }
        let mut select = Select::every("id, created_seq");
        select.ids(ids.get(..MAX_PAGE as usize).unwrap_or(ids));
        let rows = select.statement().fetch_all(&self.inner.readers).await?;
        rows.iter().map(|row| Ok((row.try_get("id")?, row.try_get("created_seq")?))).collect()
    }

    /// Those of these rows that were there at `seq`.
    pub async fn there_at(&self, ids: &[String], seq: i64) -> Result<BTreeSet<String>, Error> {
        let created = self.created(ids).await?.into_iter();
        Ok(created.filter(|(_, created)| *created <= seq).map(|(id, _)| id).collect())
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
        Ok(self.whole(&row).await?.pop())
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

    /// How the counts of these alerts (at most [`MAX_PAGE`]) rose up to these revisions, by id: those of the last [`COURSE`].
    pub async fn courses(&self, of: &[(&str, u32)]) -> Result<BTreeMap<String, Vec<u64>>, Error> {
        let of = of.get(..MAX_PAGE as usize).unwrap_or(of);
        let mut courses: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        if of.is_empty() {
            return Ok(courses);
        }
        let places = vec!["(?, ?)"; of.len()].join(", ");
        let sql = format!(
            "with wanted (of_id, last) as (values {places}) select r.id, r.event_count from wanted cross join alert_revisions r \
             where r.id = of_id and r.revision <= last and r.revision > last - {COURSE} order by r.id, r.revision"
        );
        let mut select = sqlx::query(sqlx::AssertSqlSafe(sql));
        for (id, revision) in of {
            select = select.bind(*id).bind(i64::from(*revision));
        }
        for row in select.fetch_all(&self.inner.readers).await? {
            courses.entry(row.try_get("id")?).or_default().push(unsigned(row.try_get("event_count")?));
        }
        Ok(courses)
    }

    /// A row by its own id, a covered notice too; row and body are of one moment.
    pub(crate) async fn own_row(&self, id: &str) -> Result<Option<AlertRow>, Error> {
        let mut reader = self.inner.readers.begin().await?;
        let row = sqlx::query(concat!("select ", row_columns!(), " from alerts where id = $1")).bind(id);
        let row = row.fetch_all(&mut *reader).await?;
        Ok(whole(&mut reader, &row).await?.pop())
    }

    /// These rows (at most [`MAX_PAGE`] ids), covered notices too, each with the number with which it appeared.
    pub(crate) async fn numbered(&self, ids: &[String]) -> Result<Vec<(i64, AlertRow)>, Error> {
        let mut select = Select::every(row_columns!());
        select.ids(ids.get(..MAX_PAGE as usize).unwrap_or(ids));
        self.with_numbers(select.statement().fetch_all(&self.inner.readers).await?).await
    }

    async fn with_numbers(&self, rows: Vec<AnyRow>) -> Result<Vec<(i64, AlertRow)>, Error> {
        let numbers = rows.iter().map(|row| row.try_get("created_seq")).collect::<Result<Vec<i64>, _>>()?;
        Ok(numbers.into_iter().zip(self.whole(&rows).await?).collect())
    }

    /// Rows by the number with which they appeared, of which our own condition holds.
    pub(crate) async fn by_number_where(
        &self,
        numbers: &[i64],
        condition: &str,
    ) -> Result<Vec<(i64, AlertRow)>, Error> {
        if numbers.is_empty() {
            return Ok(Vec::new());
        }
        let places: Vec<String> = (1..=numbers.len()).map(|n| format!("${n}")).collect();
        let sql = format!(
            "select {} from alerts where {condition} and created_seq in ({}) order by created_seq",
            row_columns!(),
            places.join(", ")
        );
        let select = sqlx::query(sqlx::AssertSqlSafe(sql));
        let select = numbers.iter().fold(select, |select, number| select.bind(*number));
        self.with_numbers(select.fetch_all(&self.inner.readers).await?).await
    }

    /// How many rows match, by what they have in common.
    pub async fn summary(&self, by: SummaryBy, filter: &Filter) -> Result<Summary, Error> {
        let capped = self.search_capped(filter).await?;
        let rows = grouped(by, filter, None).statement().fetch_all(&self.inner.searchers).await?;
        let mut groups = rows.iter().map(|row| group(by, row)).collect::<Result<Vec<_>, Error>>()?;
        let more = groups.len() > MAX_GROUPS;
        groups.truncate(MAX_GROUPS);
        in_order(by, &mut groups);
        Ok(Summary { groups, more, capped })
    }

    /// Reads the rows and adds the body of each and the notices that it covers.
    async fn whole(&self, rows: &[AnyRow]) -> Result<Vec<AlertRow>, Error> {
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        whole(&mut *self.inner.readers.acquire().await?, rows).await
    }
}

/// The bodies of these rows, by the number with which each appeared.
async fn bodies(connection: &mut AnyConnection, rows: &[AnyRow]) -> Result<BTreeMap<i64, String>, Error> {
    let mut bodies = BTreeMap::new();
    let places = vec!["?"; rows.len()].join(", ");
    let sql = format!("select created_seq, body from alert_bodies where created_seq in ({places})");
    let mut select = sqlx::query(sqlx::AssertSqlSafe(sql));
    for row in rows {
        select = select.bind(row.try_get::<i64, _>("created_seq")?);
    }
    for row in select.fetch_all(connection).await? {
        bodies.insert(row.try_get("created_seq")?, row.try_get("body")?);
    }
    Ok(bodies)
}

/// Reads rows selected by [`ROW`] and adds the body of each and the notices that it covers.
pub(crate) async fn whole(connection: &mut AnyConnection, rows: &[AnyRow]) -> Result<Vec<AlertRow>, Error> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let mut bodies = bodies(connection, rows).await?;
    let with_body = |row: &AnyRow| {
        let mut alert = alert_row(row)?;
        alert.body = bodies.remove(&row.try_get::<i64, _>("created_seq")?).unwrap_or_default();
        Ok(alert)
    };
    let mut alerts = rows.iter().map(with_body).collect::<Result<Vec<_>, Error>>()?;
    let places: Vec<String> = (1..=alerts.len()).map(|n| format!("${n}")).collect();
    let sql = format!("select covered_by, id from alerts where covered_by in ({})", places.join(", "));
    let mut select = sqlx::query(sqlx::AssertSqlSafe(sql));
    for alert in &alerts {
        select = select.bind(alert.id.clone());
    }
    let mut covers: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for row in select.fetch_all(connection).await? {
        covers.entry(row.try_get("covered_by")?).or_default().push(row.try_get("id")?);
    }
    for alert in &mut alerts {
        alert.covers = covers.remove(&alert.id).unwrap_or_default();
        alert.covers.sort();
    }
    Ok(alerts)
}

/// Sorts groups, which come the largest first, as they are told.
pub(crate) fn in_order(by: SummaryBy, groups: &mut [Group]) {
    match by {
        SummaryBy::Severity => groups.sort_by_key(|group| group.severity),
        SummaryBy::Status | SummaryBy::State | SummaryBy::Rule => {
            groups.sort_by(|one, other| one.name.cmp(&other.name));
        }
        SummaryBy::Entity | SummaryBy::Technique => {}
    }
}

/// Counts rows by what they have in common, the largest groups first.
///
/// All but entities are counted in two steps: first by all columns of `alerts_open_facets`, in its order, which needs no sorting,
/// then what is left of that, a few rows for each rule.
///
/// With a place in commit order, only those that have not changed since are counted, and no group is left out.
pub(crate) fn grouped(by: SummaryBy, filter: &Filter, at: Option<(i64, Option<&BTreeSet<i64>>)>) -> Select {
    const FACETS: &str = "rule_id, techniques, severity, status, state";
    let (columns, kind, from) = match by {
        SummaryBy::Severity => ("cast(severity as text)", "null", ""),
        SummaryBy::Status => ("status", "null", ""),
        SummaryBy::Rule => ("rule_id", "null", ""),
        SummaryBy::State => ("state", "null", ""),
        SummaryBy::Technique => {
            ("technique", "null", " join technique_sets s on s.techniques = facets.techniques")
        }
        SummaryBy::Entity => ("coalesce(entity_value, '')", "entity_type", ""),
    };
    let select = |columns: &str| {
        let mut select = Select::new(columns, filter);
        if let Some((seq, numbers)) = at {
            select.at(seq, numbers);
        }
        select
    };
    let mut select = match by {
        SummaryBy::Entity => {
            let columns = "entity_value, entity_type, count(*) as n, max(severity) as severity";
            let mut select = select(columns);
            select.push(" group by entity_value, entity_type");
            select
        }
        _ => {
            let mut select = select(&format!("{FACETS}, count(*) as n"));
            select.push(&format!(" group by {FACETS}"));
            select
        }
    };
    // `max` of the type: it is the same in the whole group, which a database cannot know.
    select.wrap(&format!(
        "select {columns} as name, max({kind}) as entity_type, cast(sum(n) as bigint) as total, \
         max(severity) as severity from ("
    ));
    let kind = if by == SummaryBy::Entity { ", entity_type" } else { "" };
    select.push(&format!(") facets{from} group by {columns}{kind} order by total desc, name"));
    if at.is_none() {
        select.push(" limit ");
        select.int(MAX_GROUPS as i64 + 1);
    }
    select
}

pub(crate) fn group(by: SummaryBy, row: &AnyRow) -> Result<Group, Error> {
    let severity = severity_of(row.try_get("severity")?)?;
    let name: String = match by {
        SummaryBy::Severity => severity.name().to_owned(),
        _ => row.try_get("name")?,
    };
    let entity_type = row.try_get("entity_type")?;
    Ok(Group { name, entity_type, count: unsigned(row.try_get("total")?), severity })
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
        techniques: row.try_get::<String, _>("techniques")?.split_whitespace().map(str::to_owned).collect(),
        severity: severity_of(row.try_get("severity")?)?,
        entity: kind.zip(value).map(|(kind, value)| EntityRef { kind, value }),
        crossed_at: Micros(row.try_get("crossed_at")?),
        last_seen: Micros(row.try_get("last_seen")?),
        count: unsigned(count),
        summary: row.try_get("summary")?,
        body: String::new(),
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
