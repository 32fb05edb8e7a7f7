//! All that happens to alerts, notices and actions, in commit order, for those who follow it with a position of their own.
//!
//! In: a position. Out: what came after it, and how far that goes. Invariants: nothing is left out, and what is told again is the same or newer;
//! each revision and change of triage is told as it was then (revisions that were committed at once: the last of them), as long as the changes
//! are kept; who was away for longer is told each row as it is now. Steps of actions come from the audit log, which keeps all of them.

use std::collections::BTreeMap;

use sqlx::Row;

use crate::{
    error::Error,
    model::{AlertRow, ChangeKind, News, RowState},
    store::Store,
    triage::audit_entry,
};

/// Which alert or notice changed, when, and whether it then gave way to another.
struct Changed {
    seq: i64,
    id: String,
    covered: bool,
}

impl Store {
    /// How far a connector has been told; none if it never was.
    pub async fn feed_position(&self, connector: &str) -> Result<Option<i64>, Error> {
        let row = sqlx::query("select position from feeds where connector = $1").bind(connector);
        let row = row.fetch_optional(&self.inner.readers).await?;
        Ok(row.map(|row| row.try_get("position")).transpose()?)
    }

    /// Notes how far a connector has been told, never back.
    pub async fn note_feed_position(&self, connector: &str, position: i64) -> Result<(), Error> {
        let mut tx = self.begin_as_engine().await?;
        let note = sqlx::query(
            "insert into feeds (connector, position) values ($1, $2) on conflict (connector) do update set \
             position = case when excluded.position > feeds.position then excluded.position else feeds.position end",
        );
        tx.run(note.bind(connector).bind(position)).await?;
        tx.commit().await.map(drop)
    }

    /// What happened after a position, from at most `limit` changes and as many steps, and the position that telling it comes to.
    pub async fn news(&self, position: i64, limit: u32) -> Result<(Vec<News>, i64), Error> {
        // Read first: all up to it is there for the questions below, which may find more.
        let newest = self.newest_seq().await?;
        let (changed, told, whole) = self.changed_rows(position, limit).await?;
        let steps = sqlx::query(
            "select seq, at, actor, action, target, before, after, change_id from audit \
             where seq > $1 and (target like 'action:%' or target = 'response') order by seq limit $2",
        );
        let steps = steps.bind(position).bind(i64::from(limit)).fetch_all(&self.inner.readers).await?;
        let steps = steps.iter().map(audit_entry).collect::<Result<Vec<_>, _>>()?;
        let stepped = steps.last().filter(|_| steps.len() == limit as usize).map(|step| step.seq);
        let reached = [told, stepped].into_iter().flatten().fold(newest, i64::min).max(position);
        let mut news = Vec::new();
        let mut rows = BTreeMap::new();
        for change in changed.into_iter().filter(|change| change.seq <= reached) {
            news.extend(self.as_changed(change, whole, &mut rows).await?);
        }
        for step in steps.into_iter().filter(|step| step.seq <= reached) {
            let number = step.target.strip_prefix("action:").and_then(|number| number.parse().ok());
            let action = match number {
                Some(number) => self.action(number).await?,
                None => None,
            };
            news.push(News::Step(Box::new((step, action))));
        }
        news.sort_by_key(News::seq);
        Ok((news, reached))
    }

    /// Which rows changed; up to where all are among them, if not to the end; and whether each change is, or only that there was one.
    async fn changed_rows(
        &self,
        position: i64,
        limit: u32,
    ) -> Result<(Vec<Changed>, Option<i64>, bool), Error> {
        use ChangeKind::{Alert, Covered, Notice, Triage, Withdrawn};
        let most = i64::from(limit);
        let changes = sqlx::query(
            "select seq, kind, id from changes where seq > $1 and kind in ($2, $3, $4, $5, $6) order by seq limit $7",
        );
        let kinds = [Alert, Covered, Notice, Triage, Withdrawn];
        let changes = kinds.iter().fold(changes.bind(position), |select, kind| select.bind(kind.name()));
        let mut found = changes.bind(most).fetch_all(&self.inner.readers).await?;
        // Read after the changes: what was forgotten in between is walked over, never left out.
        let engine = sqlx::query("select oldest_change from engine where id = 1");
        let engine = engine.fetch_one(&self.inner.readers).await?;
        let whole = position >= engine.try_get::<i64, _>("oldest_change")?;
        if !whole {
            let walk = sqlx::query(
                "select seq, case when covered_by is null then 'alert' else 'covered' end as kind, id from alerts \
                 where seq > $1 order by seq limit $2",
            );
            found = walk.bind(position).bind(most).fetch_all(&self.inner.readers).await?;
        }
        let changed = found.iter().map(|row| {
            let covered = row.try_get::<&str, _>("kind")? == Covered.name();
            Ok(Changed { seq: row.try_get("seq")?, id: row.try_get("id")?, covered })
        });
        let changed = changed.collect::<Result<Vec<_>, Error>>()?;
        let told = changed.last().filter(|_| changed.len() == limit as usize).map(|last| last.seq);
        Ok((changed, told, whole))
    }

    /// What a change came to; nothing of a row that is removed by now, and of a notice after it gave way.
    async fn as_changed(
        &self,
        Changed { seq, id, covered }: Changed,
        whole: bool,
        rows: &mut BTreeMap<String, Option<(AlertRow, Option<String>)>>,
    ) -> Result<Option<News>, Error> {
        if !rows.contains_key(&id) {
            let found = match self.own_row(&id).await? {
                Some(row) => {
                    let by = self.covered_by(&row).await?;
                    Some((row, by))
                }
                None => None,
            };
            rows.insert(id.clone(), found);
        }
        let Some(Some((row, by))) = rows.get(&id) else { return Ok(None) };
        match by {
            Some(alert) if covered => {
                return Ok(Some(News::Covered { seq, notice: id, alert: alert.clone() }));
            }
            Some(_) if row.seq <= seq => return Ok(None),
            _ if covered => return Ok(None),
            _ => {}
        }
        let row = if whole { self.as_it_was(row.clone(), seq).await?.row } else { row.clone() };
        Ok(Some(News::Alert(Box::new(row))))
    }

    async fn covered_by(&self, row: &AlertRow) -> Result<Option<String>, Error> {
        if row.state != RowState::Notice {
            return Ok(None);
        }
        let select = sqlx::query("select covered_by from alerts where id = $1").bind(&row.id);
        let found = select.fetch_optional(&self.inner.readers).await?;
        Ok(found.map(|row| row.try_get("covered_by")).transpose()?.flatten())
    }
}
