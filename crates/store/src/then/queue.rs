//! Pages and counts of the queue as it was.
//!
//! In: queries and filters. Out: pages and summaries. Invariants: what is listed is what is counted; a page goes on exactly where the
//! one before ended, in every order; no more than the rows of one page are made whole.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use futures::TryStreamExt as _;
use sqlx::{Row, any::AnyRow};
use vedette_event::Severity;

use super::{Changed, Found, Then};
use crate::{
    alerts::{self, MAX_GROUPS, PAGE_BYTES, unsigned, whole},
    error::Error,
    filter::{MAX_PAGE, PageEnd, Select, columns},
    model::{AlertRow, Filter, Group, ListQuery, Page, Sort, Summary, SummaryBy},
    techniques,
};

/// Where the row of a place is.
#[derive(Clone, Copy)]
enum Of {
    /// Among those that have changed since.
    Changed(usize),
    /// Among those that were selected.
    Same(usize),
}

struct Place {
    /// What the list is sorted by.
    values: Vec<i64>,
    bytes: u64,
    of: Of,
}

impl Then {
    /// One page of the queue.
    ///
    /// # Errors
    /// If the cursor is of another list, or the database fails.
    pub async fn list(&mut self, query: &ListQuery) -> Result<Page<AlertRow>, Error> {
        let found = self.found(&query.filter).await?;
        self.page(query, found).await
    }

    /// One page of the rows that were found, or of all.
    pub(super) async fn page(
        &mut self,
        query: &ListQuery,
        found: Option<Found>,
    ) -> Result<Page<AlertRow>, Error> {
        let limit = query.limit.clamp(1, MAX_PAGE) as usize;
        let sort = query.sort;
        let end = query.cursor.as_deref().map(|cursor| PageEnd::read(cursor, sort)).transpose()?;
        let mut places = Vec::new();
        for at in self.matching(&query.filter, found.as_ref()).await? {
            let Some(row) = self.changed.get(at) else { continue };
            let values = row.place(sort.key);
            if end.as_ref().is_none_or(|end| follows(sort, &values, &end.values)) {
                places.push(Place { values, bytes: row.body_bytes, of: Of::Changed(at) });
            }
        }
        let mut select = self.same(alerts::ROW, &query.filter, found.as_ref());
        select.page(sort, query.cursor.as_deref())?;
        select.push(" limit ");
        select.int(limit as i64 + 1);
        let same = select.statement().fetch_all(&mut *self.snapshot).await?;
        for (at, row) in same.iter().enumerate() {
            let values = columns(sort.key).iter().map(|column| row.try_get(*column));
            let bytes = unsigned(row.try_get("body_bytes")?);
            places.push(Place { values: values.collect::<Result<_, _>>()?, bytes, of: Of::Same(at) });
        }
        if sort.descending {
            places.sort_by(|one, other| other.values.cmp(&one.values));
        } else {
            places.sort_by(|one, other| one.values.cmp(&other.values));
        }
        let mut bytes = 0;
        let fits = |place: &&Place| {
            let fits = bytes <= PAGE_BYTES;
            bytes += place.bytes;
            fits
        };
        let kept = places.iter().take(limit).take_while(fits).count();
        let more = places.len() > kept;
        places.truncate(kept);
        let next_cursor =
            places.last().filter(|_| more).map(|last| PageEnd { values: last.values.clone() }.write(sort));
        Ok(Page { items: self.rows(&places, same).await?, next_cursor })
    }

    /// The rows of some places, whole.
    async fn rows(&mut self, places: &[Place], same: Vec<AnyRow>) -> Result<Vec<AlertRow>, Error> {
        let chosen = |at: usize| places.iter().any(|place| matches!(place.of, Of::Same(of) if of == at));
        let same: Vec<_> =
            same.into_iter().enumerate().filter(|(at, _)| chosen(*at)).map(|(_, row)| row).collect();
        // Both are in the order of the list.
        let mut same = whole(&mut self.snapshot, &same).await?.into_iter();
        let mut rows = Vec::with_capacity(places.len());
        for place in places {
            match place.of {
                Of::Same(_) => rows.extend(same.next()),
                Of::Changed(at) => {
                    let Some(id) = self.changed.get(at).map(|row| row.id.clone()) else { continue };
                    // What was removed in this very moment is left out.
                    if let Some(now) = self.store.own_row(&id).await? {
                        rows.push(self.store.as_it_was(now, self.seq).await?.row);
                    }
                }
            }
        }
        Ok(rows)
    }

    /// How many rows matched, by what they had in common.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn summary(&mut self, by: SummaryBy, filter: &Filter) -> Result<Summary, Error> {
        if by == SummaryBy::Technique {
            self.tell().await?;
        }
        let found = self.found(filter).await?;
        let mut changed: BTreeMap<(String, Option<String>), (u64, Severity)> = BTreeMap::new();
        for at in self.matching(filter, found.as_ref()).await? {
            let Some(row) = self.changed.get(at) else { continue };
            for name in row.names(by) {
                let (count, severity) = changed.entry(name).or_insert((0, row.severity));
                *count += 1;
                *severity = row.severity.max(*severity);
            }
        }
        let (plain, numbers) = self.plain(filter, found.as_ref());
        let select = alerts::grouped(by, &plain, Some((self.seq, numbers)));
        let mut groups: Vec<Group> = Vec::new();
        let mut rows = select.statement().fetch(&mut *self.snapshot);
        while let Some(row) = rows.try_next().await? {
            let mut group = alerts::group(by, &row)?;
            match changed.remove(&(group.name.clone(), group.entity_type.clone())) {
                Some((count, severity)) => {
                    group.count += count;
                    group.severity = group.severity.max(severity);
                }
                // They come the largest first, so that it is smaller than all that are told.
                None if groups.len() > MAX_GROUPS => continue,
                None => {}
            }
            groups.push(group);
        }
        drop(rows);
        let only_changed = changed.into_iter().map(|((name, entity_type), (count, severity))| Group {
            name,
            entity_type,
            count,
            severity,
        });
        groups.extend(only_changed);
        groups.sort_by(|one, other| {
            let key = |group: &Group| (Reverse(group.count), group.name.clone(), group.entity_type.clone());
            key(one).cmp(&key(other))
        });
        let more = groups.len() > MAX_GROUPS;
        groups.truncate(MAX_GROUPS);
        alerts::in_order(by, &mut groups);
        Ok(Summary { groups, more, capped: found.is_some_and(|found| found.capped) })
    }

    /// Whether more rows held a filter's words than a search looks at.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn search_capped(&mut self, filter: &Filter) -> Result<bool, Error> {
        Ok(self.found(filter).await?.is_some_and(|found| found.capped))
    }

    /// A query over rows that have not changed since.
    fn same(&self, columns: &str, filter: &Filter, found: Option<&Found>) -> Select {
        let (plain, numbers) = self.plain(filter, found);
        let mut select = Select::new(columns, &plain);
        select.at(self.seq, numbers);
        select
    }

    /// A filter without words, and the rows that held them.
    fn plain<'a>(&self, filter: &Filter, found: Option<&'a Found>) -> (Filter, Option<&'a BTreeSet<i64>>) {
        (Filter { q: None, ..filter.clone() }, found.map(|found| &found.numbers))
    }
}

impl Changed {
    /// What it had in common with others.
    fn names(&self, by: SummaryBy) -> Vec<(String, Option<String>)> {
        let one = |name: &str| vec![(name.to_owned(), None)];
        match by {
            SummaryBy::Severity => one(self.severity.name()),
            SummaryBy::Status => one(self.triage.status.name()),
            SummaryBy::Rule => one(&self.rule_id),
            SummaryBy::State => one(self.state.name()),
            SummaryBy::Entity => match &self.entity {
                Some(entity) => vec![(entity.value.clone(), Some(entity.kind.clone()))],
                None => one(""),
            },
            SummaryBy::Technique => {
                let names = techniques::with_whole(&self.techniques);
                names.into_iter().map(|name| (name.to_owned(), None)).collect()
            }
        }
    }
}

/// Whether a place comes behind another.
fn follows(sort: Sort, place: &[i64], other: &[i64]) -> bool {
    if sort.descending { place < other } else { place > other }
}
