//! What was known of a rule and an entity then: verdicts, what was said with them, what was open.
//!
//! In: pairs of a rule's id and an entity, an entity. Out: counts and verdicts as they were. Invariants: a verdict counts if it stood
//! then, whatever became of it; bounds are those of the present.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::Row;
use vedette_event::Micros;

use super::{Changed, Found, Then};
use crate::{
    alerts::unsigned,
    entities::{EARLIER, said_of},
    error::Error,
    filter::MAX_PAGE,
    model::{AlertRow, Disposition, EarlierVerdict, EntityRef, Filter, ListQuery, Sort, SortKey, Status},
    verdicts::{self, Verdicts},
};

/// A rule, and the type and the value of an entity.
type Pair = (String, String, String);

impl Then {
    /// The verdicts of each of these pairs of a rule's id and an entity (at most [`MAX_PAGE`]), in their order, that stood then.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn verdicts(&mut self, of: &[(&str, &EntityRef)]) -> Result<Vec<Verdicts>, Error> {
        let mut found = verdicts::of_pairs(&mut self.snapshot, of, (None, Some(self.seq))).await?;
        let mut changed: BTreeMap<Pair, Verdicts> = BTreeMap::new();
        for row in self.changed.iter().filter(|row| row.is_verdict()) {
            let Some(EntityRef { kind, value }) = row.entity.clone() else { continue };
            changed.entry((row.rule_id.clone(), kind, value)).or_default().add(row.triage.disposition);
        }
        for ((rule, entity), verdicts) in of.iter().zip(&mut found) {
            let pair = ((*rule).to_owned(), entity.kind.clone(), entity.value.clone());
            if let Some(more) = changed.get(&pair) {
                verdicts.join(*more);
            }
        }
        Ok(found)
    }

    /// What rows about an entity were closed as from `since` on.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn entity_verdicts(
        &mut self,
        entity: &EntityRef,
        since: Micros,
    ) -> Result<BTreeMap<Disposition, u64>, Error> {
        let rows = sqlx::query(
            "select disposition, count(*) as n from alerts where covered_by is null and entity_value = $1 and entity_type = $2 \
             and status = 'closed' and disposition is not null and closed_at >= $3 and seq <= $4 group by disposition",
        );
        let rows = rows.bind(&entity.value).bind(&entity.kind).bind(since.0).bind(self.seq);
        let mut counts = BTreeMap::new();
        for row in rows.fetch_all(&mut *self.snapshot).await? {
            let word: String = row.try_get("disposition")?;
            if let Some(disposition) = Disposition::parse(&word) {
                counts.insert(disposition, unsigned(row.try_get("n")?));
            }
        }
        for row in
            self.changed.iter().filter(|row| row.is_about(entity) && row.triage.status == Status::Closed)
        {
            if let (Some(disposition), Some(at)) = (row.triage.disposition, row.closed_at)
                && at >= since
            {
                *counts.entry(disposition).or_default() += 1;
            }
        }
        Ok(counts)
    }

    /// The last verdicts on other rows of a rule about an entity, the newest first, with what had been said.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn earlier_verdicts(
        &mut self,
        (rule, entity): (&str, &EntityRef),
        but: &str,
    ) -> Result<Vec<EarlierVerdict>, Error> {
        let rows = sqlx::query(
            "select id, crossed_at, closed_at, disposition, event_count from alerts where covered_by is null and entity_value = $1 \
             and entity_type = $2 and rule_id = $3 and status = 'closed' and disposition is not null and id <> $4 and seq <= $5 \
             order by closed_at desc limit $6",
        );
        let rows =
            rows.bind(&entity.value).bind(&entity.kind).bind(rule).bind(but).bind(self.seq).bind(EARLIER);
        let mut found = Vec::new();
        for row in rows.fetch_all(&mut *self.snapshot).await? {
            let word: String = row.try_get("disposition")?;
            let Some(disposition) = Disposition::parse(&word) else { continue };
            found.push(EarlierVerdict {
                id: row.try_get("id")?,
                crossed_at: Micros(row.try_get("crossed_at")?),
                closed_at: Micros(row.try_get("closed_at")?),
                count: unsigned(row.try_get("event_count")?),
                disposition,
                by: None,
                reason: None,
            });
        }
        let changed =
            self.changed.iter().filter(|row| row.is_about(entity) && row.rule_id == rule && row.id != but);
        for row in changed.filter(|row| row.triage.status == Status::Closed) {
            if let (Some(disposition), Some(closed_at)) = (row.triage.disposition, row.closed_at) {
                let (id, crossed_at) = (row.id.clone(), Micros(row.crossed_at));
                let count = unsigned(row.count);
                found.push(EarlierVerdict {
                    id,
                    crossed_at,
                    closed_at,
                    count,
                    disposition,
                    by: None,
                    reason: None,
                });
            }
        }
        found.sort_by_key(|verdict| std::cmp::Reverse(verdict.closed_at));
        found.truncate(EARLIER as usize);
        for verdict in &mut found {
            (verdict.by, verdict.reason) = said_of(&mut self.snapshot, &verdict.id, self.seq).await?;
        }
        Ok(found)
    }

    /// The newest rows that concern an entity, by the numbers with which they appeared, and were not closed.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn open_among(&mut self, numbers: &BTreeSet<i64>, limit: u32) -> Result<Vec<AlertRow>, Error> {
        let open = [Status::New, Status::Acknowledged, Status::InProgress];
        let query = ListQuery {
            filter: Filter { status: open.into(), ..Filter::default() },
            sort: Sort { key: SortKey::Created, descending: true },
            limit: limit.min(MAX_PAGE),
            cursor: None,
        };
        let found = Found { numbers: numbers.clone(), capped: false };
        Ok(self.page(&query, Some(found)).await?.items)
    }
}

impl Changed {
    fn is_about(&self, entity: &EntityRef) -> bool {
        self.entity.as_ref() == Some(entity)
    }

    /// Whether it counts as closed: one that was withdrawn does not.
    fn is_verdict(&self) -> bool {
        self.triage.status == Status::Closed && !self.withdrawn
    }
}
