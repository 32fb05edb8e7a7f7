//! What is known of an entity: the rows that concern it, who else is in them, what became of them.
//!
//! In: a type and a value. Out: rows of the queue, counts, verdicts. Invariants: an address is the same one whichever field
//! names it, and so is a user, a key, a host; every question has a bound, and says where it was reached.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::{AnyConnection, AssertSqlSafe, Row};
use vedette_event::Micros;

use crate::{
    alerts::{narrow, unsigned},
    error::Error,
    filter::MAX_PAGE,
    model::{
        AlertRow, ConcernRole, Covered, Disposition, EarlierVerdict, EntityRef, EntityRows, Neighbour, Triage,
    },
    store::Store,
    transaction::Statement,
};

/// An entity's newest rows in which its neighbours are looked for.
const NEIGHBOURHOOD: i64 = 500;
/// Neighbours that are told.
const NEIGHBOURS: i64 = 30;
/// Spellings of one entity that are looked up.
const KINDS: usize = 16;
/// Rows of an entity that are looked at for open ones.
const LOOKED_AT: i64 = 2_000;
/// Earlier verdicts that are told.
pub(crate) const EARLIER: i64 = 10;

/// What a field names: fields of one sort name the same thing by the same value.
fn sort_of(kind: &str) -> &str {
    let lower = kind.to_ascii_lowercase();
    let ends = |ends: &[&str]| ends.iter().any(|end| lower.ends_with(end));
    if ends(&["ip"]) {
        "address"
    } else if ends(&["user.name", "username", "user"]) {
        "user"
    } else if ends(&["host.name", "hostname", "computer"]) {
        "host"
    } else {
        kind
    }
}

/// `(value, kind, …)` of an entity in all its spellings, as a condition with its arguments.
struct Spellings {
    value: String,
    kinds: Vec<String>,
}

impl Spellings {
    /// `value = $1 and kind in ($2, …)`.
    fn sql(&self) -> String {
        let places: Vec<String> = (0..self.kinds.len()).map(|n| format!("${}", n + 2)).collect();
        format!("value = $1 and kind in ({})", places.join(", "))
    }

    fn bind<'q>(&'q self, statement: Statement<'q>) -> Statement<'q> {
        self.kinds.iter().fold(statement.bind(&self.value), |statement, kind| statement.bind(kind))
    }

    /// The place of the first argument after those.
    fn next(&self) -> usize {
        self.kinds.len() + 2
    }
}

impl Store {
    /// The rows that concern an entity: at most so many, the newest first, from before that number on.
    pub async fn entity_rows(
        &self,
        entity: &EntityRef,
        page: (Option<i64>, u32),
    ) -> Result<EntityRows, Error> {
        self.rows_of(entity, page, None).await
    }

    /// The same rows as of now, or those that were in the queue at `seq`, as they are now.
    async fn rows_of(
        &self,
        entity: &EntityRef,
        (before, limit): (Option<i64>, u32),
        at: Option<i64>,
    ) -> Result<EntityRows, Error> {
        let of = self.spellings(entity).await?;
        let limit = limit.clamp(1, MAX_PAGE);
        let next = of.next();
        let sql = format!(
            "select created_seq, min(role) as role from alert_entities where {} and created_seq < ${next} \
             and created_seq <= ${} and seq <= ${} group by created_seq order by created_seq desc limit ${}",
            of.sql(),
            next + 1,
            next + 1,
            next + 2
        );
        // Covered notices are in there, too, each of which is beside its alert.
        let look = i64::from(limit) * 2 + 1;
        let select = of.bind(sqlx::query(AssertSqlSafe(sql)));
        let select = select.bind(before.unwrap_or(i64::MAX)).bind(at.unwrap_or(i64::MAX)).bind(look);
        let found = select.fetch_all(&self.inner.readers).await?;
        let mut roles = BTreeMap::new();
        for row in &found {
            let role: i64 = row.try_get("role")?;
            let role = ConcernRole::ALL.get(narrow::<u8>(role) as usize).copied();
            roles.insert(row.try_get::<i64, _>("created_seq")?, role.unwrap_or(ConcernRole::Evidence));
        }
        let last = roles.keys().next().copied();
        let numbers: Vec<i64> = roles.keys().copied().collect();
        let there = at.map(|seq| format!("(covered_by is null or seq > {seq})"));
        let there = there.as_deref().unwrap_or("covered_by is null");
        let mut rows = self.by_number_where(&numbers, there).await?;
        rows.sort_by_key(|(number, _)| std::cmp::Reverse(*number));
        let full = rows.len() > limit as usize;
        rows.truncate(limit as usize);
        let more = full || found.len() as i64 == look;
        let end = if full { rows.last().map(|(number, _)| *number) } else { last };
        let rows = rows
            .into_iter()
            .map(|(number, row)| (row, roles.get(&number).copied().unwrap_or(ConcernRole::Evidence)));
        Ok(EntityRows { rows: rows.collect(), next: end.filter(|_| more) })
    }

    /// As [`Store::entity_rows`], each row as it was at `seq`.
    pub async fn entity_rows_at(
        &self,
        entity: &EntityRef,
        page: (Option<i64>, u32),
        seq: i64,
    ) -> Result<EntityRows, Error> {
        let found = self.rows_of(entity, page, Some(seq)).await?;
        let mut rows = Vec::with_capacity(found.rows.len());
        for (row, role) in found.rows {
            rows.push((self.as_it_was(row, seq).await?.row, role));
        }
        Ok(EntityRows { rows, next: found.next })
    }

    /// The numbers of the newest rows that concern an entity and were there at `seq`: [`LOOKED_AT`] at most.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn concerning(&self, entity: &EntityRef, seq: i64) -> Result<BTreeSet<i64>, Error> {
        let of = self.spellings(entity).await?;
        let next = of.next();
        let sql = format!(
            "select distinct created_seq from alert_entities where {} and created_seq <= ${next} and seq <= ${next} \
             order by created_seq desc limit ${}",
            of.sql(),
            next + 1
        );
        let select = of.bind(sqlx::query(AssertSqlSafe(sql))).bind(seq).bind(LOOKED_AT);
        let numbers = select.fetch_all(&self.inner.readers).await?;
        numbers.iter().map(|row| Ok(row.try_get("created_seq")?)).collect()
    }

    /// The newest rows that concern an entity and are not closed.
    pub async fn entity_open(&self, entity: &EntityRef, limit: u32) -> Result<Vec<AlertRow>, Error> {
        let numbers: Vec<i64> = self.concerning(entity, i64::MAX).await?.into_iter().rev().collect();
        let mut open = Vec::new();
        for some in numbers.chunks(MAX_PAGE as usize) {
            let mut rows = self.by_number_where(some, "covered_by is null and status <> 'closed'").await?;
            rows.sort_by_key(|(number, _)| std::cmp::Reverse(*number));
            open.extend(rows.into_iter().map(|(_, row)| row));
            if open.len() >= limit as usize {
                open.truncate(limit as usize);
                break;
            }
        }
        Ok(open)
    }

    /// Other entities in the newest rows of one as of a `seq`, those in the most rows first; and in how many rows was looked.
    pub async fn neighbours(&self, entity: &EntityRef, as_of: i64) -> Result<(Vec<Neighbour>, u64), Error> {
        let of = self.spellings(entity).await?;
        let next = of.next();
        // A covered notice names the same as its alert beside it.
        let rows = format!(
            "select distinct created_seq from alert_entities where {} and created_seq <= ${next} and seq <= ${next} and exists \
             (select 1 from alerts a where a.created_seq = alert_entities.created_seq and (a.covered_by is null or a.seq > ${next})) \
             order by created_seq desc limit ${}",
            of.sql(),
            next + 1
        );
        let sql = format!(
            "select kind, value, min(role) as role, count(*) as n, (select count(*) from ({rows}) r) as looked \
             from alert_entities where created_seq in ({rows}) and seq <= ${next} group by kind, value \
             order by n desc, kind, value limit ${}",
            next + 2
        );
        let select = of.bind(sqlx::query(AssertSqlSafe(sql)));
        // The entity itself, in all its spellings, is among them.
        let select = select.bind(as_of).bind(NEIGHBOURHOOD).bind(NEIGHBOURS + KINDS as i64);
        let (mut found, mut looked) = (Vec::new(), 0);
        for row in select.fetch_all(&self.inner.searchers).await? {
            looked = unsigned(row.try_get("looked")?);
            let (kind, value): (String, String) = (row.try_get("kind")?, row.try_get("value")?);
            if value != of.value || !of.kinds.contains(&kind) {
                found.push(Neighbour {
                    entity: EntityRef { kind, value },
                    alerts: unsigned(row.try_get("n")?),
                });
            }
        }
        found.truncate(NEIGHBOURS as usize);
        Ok((found, looked))
    }

    /// What rows about an entity were closed as since then.
    pub async fn entity_verdicts(
        &self,
        entity: &EntityRef,
        (since, until): (Micros, Micros),
    ) -> Result<BTreeMap<Disposition, u64>, Error> {
        let rows = sqlx::query(
            "select disposition, count(*) as n from alerts where covered_by is null and entity_value = $1 \
             and entity_type = $2 and status = 'closed' and disposition is not null and closed_at >= $3 \
             and closed_at <= $4 group by disposition",
        );
        let rows = rows.bind(&entity.value).bind(&entity.kind).bind(since.0).bind(until.0);
        let mut counts = BTreeMap::new();
        for row in rows.fetch_all(&self.inner.readers).await? {
            let word: String = row.try_get("disposition")?;
            if let Some(disposition) = Disposition::parse(&word) {
                counts.insert(disposition, unsigned(row.try_get("n")?));
            }
        }
        Ok(counts)
    }

    /// The last verdicts on other rows of a rule about an entity, the newest first, with what was said.
    pub async fn earlier_verdicts(
        &self,
        (rule, entity): (&str, &EntityRef),
        but: &str,
        until: Micros,
    ) -> Result<Vec<EarlierVerdict>, Error> {
        let rows = sqlx::query(
            "select id, crossed_at, closed_at, disposition, event_count from alerts where covered_by is null \
             and entity_value = $1 and entity_type = $2 and rule_id = $3 and status = 'closed' and disposition is not null \
             and id <> $4 and closed_at <= $5 order by closed_at desc limit $6",
        );
        let rows =
            rows.bind(&entity.value).bind(&entity.kind).bind(rule).bind(but).bind(until.0).bind(EARLIER);
        let mut found = Vec::new();
        for row in rows.fetch_all(&self.inner.readers).await? {
            let word: String = row.try_get("disposition")?;
            let Some(disposition) = Disposition::parse(&word) else { continue };
            let id: String = row.try_get("id")?;
            let said = said_of(&mut *self.inner.readers.acquire().await?, &id, i64::MAX).await?;
            found.push(EarlierVerdict {
                crossed_at: Micros(row.try_get("crossed_at")?),
                closed_at: Micros(row.try_get("closed_at")?),
                count: unsigned(row.try_get("event_count")?),
                disposition,
                by: said.0,
                reason: said.1,
                id,
            });
        }
        Ok(found)
    }

    /// The notices that an alert covers, the oldest first.
    pub async fn covered(&self, id: &str) -> Result<Vec<Covered>, Error> {
        let rows = sqlx::query(
            "select id, created_at, created_seq from alerts where covered_by = $1 order by created_seq limit 100",
        );
        let rows = rows.bind(id).fetch_all(&self.inner.readers).await?;
        rows.iter()
            .map(|row| {
                Ok(Covered {
                    id: row.try_get("id")?,
                    created_at: Micros(row.try_get("created_at")?),
                    created_seq: row.try_get("created_seq")?,
                })
            })
            .collect()
    }

    /// An entity in all spellings that are known: the fields of its sort that have this value.
    async fn spellings(&self, entity: &EntityRef) -> Result<Spellings, Error> {
        let select = sqlx::query("select distinct kind from alert_entities where value = $1 order by kind");
        let rows = select.bind(&entity.value).fetch_all(&self.inner.readers).await?;
        let mut kinds = BTreeSet::from([entity.kind.clone()]);
        for row in rows {
            let kind: String = row.try_get("kind")?;
            if kinds.len() < KINDS && sort_of(&kind) == sort_of(&entity.kind) {
                kinds.insert(kind);
            }
        }
        Ok(Spellings { value: entity.value.clone(), kinds: kinds.into_iter().collect() })
    }
}

/// Who had closed a row last at `seq`, and the last comment on it.
pub(crate) async fn said_of(
    connection: &mut AnyConnection,
    id: &str,
    seq: i64,
) -> Result<(Option<String>, Option<String>), Error> {
    let rows = sqlx::query(
        "select actor, action, after from audit where target = $1 and seq <= $2 and action in ('triage', 'comment') \
         order by seq desc limit 20",
    );
    let (mut by, mut reason) = (None, None);
    for row in rows.bind(id).bind(seq).fetch_all(connection).await? {
        let (action, after): (String, Option<String>) = (row.try_get("action")?, row.try_get("after")?);
        let after = after.unwrap_or_default();
        if action == "comment" {
            reason = reason.or_else(|| serde_json::from_str::<String>(&after).ok());
        } else if by.is_none()
            && serde_json::from_str::<Triage>(&after)
                .is_ok_and(|triage| triage.status == crate::model::Status::Closed)
        {
            by = Some(row.try_get("actor")?);
        }
    }
    Ok((by, reason))
}
