//! Publishing: one transaction for everything the engine has to say.
//!
//! In: a [`Publication`]. Out: [`Published`]. Invariants: publishing the same again changes nothing; a revision not
//! above the stored one is ignored; a revision never changes a triage version; at most one notice per rule and key
//! is open, and every alert covers those of its episode.

use sqlx::Row;
use vedette_event::{Severity, State, time::DAY};

use crate::{
    error::Error,
    model::{AlertRevision, ChangeKind, NewNotice, Publication, Published, Status},
    store::Store,
    transaction::{Audit, SYSTEM, WriteTx},
    triage::{self, Closing, TriageRow},
};

impl Store {
    /// Publishes everything in one transaction, checkpoints last.
    pub async fn publish(&self, publication: &Publication) -> Result<Published, Error> {
        let mut tx = self.begin_as_engine().await?;
        let mut done = Published::default();
        let incarnations = tx.incarnations().await?;
        tx.write_ledger(publication, &incarnations).await?;
        for notice in &publication.notices {
            done.count(tx.write_notice(notice).await?);
        }
        for alert in &publication.alerts {
            done.count(tx.write_alert(alert).await?);
        }
        let (new, old) = tx.write_dead_letters(&publication.dead_letters, &incarnations).await?;
        done.applied += new;
        done.ignored += old;
        tx.write_checkpoints(&publication.checkpoints).await?;
        done.seq = tx.commit().await?;
        Ok(done)
    }
}

impl Published {
    fn count(&mut self, applied: bool) {
        if applied {
            self.applied += 1;
        } else {
            self.ignored += 1;
        }
    }
}

/// What the text search looks into.
fn search_text(parts: &[&str]) -> String {
    parts.join("\n").to_lowercase()
}

/// The columns that alerts and notices have in common at their first appearance.
struct NewRow<'a> {
    id: &'a str,
    state: &'static str,
    revision: i64,
    rule_id: &'a str,
    rule_title: &'a str,
    severity: Severity,
    key: &'a str,
    entity: Option<&'a crate::model::EntityRef>,
    sources: &'a [String],
    times: [i64; 4],
    count: u64,
    summary: &'a str,
    body: &'a str,
}

/// What a continuation or a covering alert takes over.
struct Inherited {
    from: String,
    triage: TriageRow,
}

impl WriteTx {
    async fn insert_row(&mut self, new: &NewRow<'_>, kind: ChangeKind) -> Result<(), Error> {
        let seq = self.change(kind, new.id).await?;
        let entity = new.entity.map(|entity| entity.value.as_str()).unwrap_or_default();
        let insert = sqlx::query(
            "insert into alerts (id, state, revision, rule_id, rule_title, severity, group_key, entity_type, \
             entity_value, first_seen, crossed_at, last_seen, covers_until, event_count, summary, search, body, \
             evidence_pending, status, triage_version, recurred, closed_here, created_at, created_seq, revision_seq, \
             triage_seq, seq) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, 1, \
             'new', 0, 0, 0, $18, $19, $19, $19, $19)",
        )
        .bind(new.id)
        .bind(new.state)
        .bind(new.revision)
        .bind(new.rule_id)
        .bind(new.rule_title)
        .bind(new.severity as i64)
        .bind(new.key)
        .bind(new.entity.map(|entity| entity.kind.as_str()))
        .bind(new.entity.map(|entity| entity.value.as_str()))
        .bind(new.times[0])
        .bind(new.times[1])
        .bind(new.times[2])
        .bind(new.times[3])
        .bind(signed(new.count))
        .bind(new.summary)
        .bind(search_text(&[new.id, new.rule_id, new.rule_title, new.summary, entity]))
        .bind(new.body)
        .bind(self.now.0)
        .bind(seq);
        self.run(insert).await?;
        for source in new.sources {
            let link =
                sqlx::query("insert into alert_sources (id, source) values ($1, $2) on conflict do nothing");
            self.run(link.bind(new.id).bind(source)).await?;
        }
        Ok(())
    }

    /// True if the notice is new, no alert covers it already and no other of its key is waiting for one: a closed one
    /// waits, too, because its alert is closed with it.
    async fn write_notice(&mut self, notice: &NewNotice) -> Result<bool, Error> {
        let known = sqlx::query(
            "select 1 from alerts where id = $1 or (rule_id = $2 and group_key = $3 and ((state = 'notice' and \
             covered_by is null) or (state <> 'notice' and first_seen <= $4 and \
             covers_until >= $4))) limit 1",
        )
        .bind(&notice.notice_id)
        .bind(&notice.rule_id)
        .bind(&notice.key)
        .bind(notice.crossed_at.0);
        if self.one(known).await?.is_some() {
            return Ok(false);
        }
        let crossed = notice.crossed_at.0;
        let row = NewRow {
            id: &notice.notice_id,
            state: "notice",
            revision: 0,
            rule_id: &notice.rule_id,
            rule_title: &notice.rule_title,
            severity: notice.severity,
            key: &notice.key,
            entity: notice.entity.as_ref(),
            sources: &notice.sources,
            times: [crossed; 4],
            count: notice.count,
            summary: &notice.summary,
            body: &notice.body,
        };
        self.insert_row(&row, ChangeKind::Notice).await?;
        Ok(true)
    }

    /// True if the revision is above the stored one.
    async fn write_alert(&mut self, alert: &AlertRevision) -> Result<bool, Error> {
        let stored = sqlx::query("select revision from alerts where id = $1").bind(&alert.alert_id);
        let stored: Option<i64> = match self.one(stored).await? {
            Some(row) => Some(row.try_get("revision")?),
            None => None,
        };
        match stored {
            Some(revision) if revision >= i64::from(alert.revision) => return Ok(false),
            Some(_) => self.revise(alert).await?,
            None => self.first_revision(alert).await?,
        }
        let point = sqlx::query(
            "insert into alert_revisions (id, revision, last_seen, event_count, severity, stored_at) \
             values ($1, $2, $3, $4, $5, $6) on conflict do nothing",
        )
        .bind(&alert.alert_id)
        .bind(i64::from(alert.revision))
        .bind(alert.last_seen.0)
        .bind(signed(alert.count))
        .bind(alert.severity as i64)
        .bind(self.now.0);
        self.run(point).await?;
        self.cover_notices(alert).await?;
        self.return_to_queue(alert).await?;
        Ok(true)
    }

    async fn first_revision(&mut self, alert: &AlertRevision) -> Result<(), Error> {
        let row = NewRow {
            id: &alert.alert_id,
            state: state_name(alert.state),
            revision: i64::from(alert.revision),
            rule_id: &alert.rule_id,
            rule_title: &alert.rule_title,
            severity: alert.severity,
            key: &alert.key,
            entity: alert.entity.as_ref(),
            sources: &alert.sources,
            times: [alert.first_seen.0, alert.crossed_at.0, alert.last_seen.0, alert.covers_until.0],
            count: alert.count,
            summary: &alert.summary,
            body: &alert.body,
        };
        self.insert_row(&row, ChangeKind::Alert).await?;
        if !alert.continuation {
            return Ok(());
        }
        // Midnight cut the episode, so the one before crossed on the very day before.
        let midnight = alert.crossed_at.midnight();
        let before = sqlx::query(concat!(
            "select ",
            triage_columns!(),
            " from alerts where rule_id = $1 and group_key = $2 and crossed_at >= $3 and crossed_at < $4 \
             and state <> 'notice' order by crossed_at desc limit 1"
        ))
        .bind(&alert.rule_id)
        .bind(&alert.key)
        .bind(midnight.minus(DAY).0)
        .bind(midnight.0);
        let Some(before) = self.one(before).await? else { return Ok(()) };
        let before = Inherited { from: before.try_get("id")?, triage: TriageRow::read(&before)? };
        let seq = self.change(ChangeKind::Alert, &before.from).await?;
        let link = sqlx::query("update alerts set successor = $1, seq = $2 where id = $3");
        self.run(link.bind(&alert.alert_id).bind(seq).bind(&before.from)).await?;
        let link = sqlx::query("update alerts set predecessor = $1 where id = $2");
        self.run(link.bind(&before.from).bind(&alert.alert_id)).await?;
        self.inherit(&alert.alert_id, before).await
    }

    async fn revise(&mut self, alert: &AlertRevision) -> Result<(), Error> {
        let seq = self.change(ChangeKind::Alert, &alert.alert_id).await?;
        let entity = alert.entity.as_ref().map(|entity| entity.value.as_str()).unwrap_or_default();
        let search =
            search_text(&[&alert.alert_id, &alert.rule_id, &alert.rule_title, &alert.summary, entity]);
        let update = sqlx::query(
            "update alerts set state = $2, revision = $3, rule_title = $4, severity = $5, first_seen = $6, \
             last_seen = $7, covers_until = $8, event_count = $9, summary = $10, search = $11, body = $12, \
             evidence_pending = 1, revision_seq = $13, seq = $13 where id = $1",
        )
        .bind(&alert.alert_id)
        .bind(state_name(alert.state))
        .bind(i64::from(alert.revision))
        .bind(&alert.rule_title)
        .bind(alert.severity as i64)
        .bind(alert.first_seen.0)
        .bind(alert.last_seen.0)
        .bind(alert.covers_until.0)
        .bind(signed(alert.count))
        .bind(&alert.summary)
        .bind(search)
        .bind(&alert.body)
        .bind(seq);
        self.run(update).await.map(drop)
    }

    /// Open notices of the episode give way to the alert, which takes over the first one's acknowledgement.
    async fn cover_notices(&mut self, alert: &AlertRevision) -> Result<(), Error> {
        let notices = sqlx::query(
            concat!("select ", triage_columns!(), " from alerts \
             where rule_id = $1 and group_key = $2 and crossed_at >= $3 and crossed_at <= $4 and state = 'notice' \
             and covered_by is null order by crossed_at, id"),
        )
        .bind(&alert.rule_id)
        .bind(&alert.key)
        .bind(alert.first_seen.0)
        .bind(alert.covers_until.0);
        for row in self.all(notices).await? {
            let notice = Inherited { from: row.try_get("id")?, triage: TriageRow::read(&row)? };
            let seq = self.change(ChangeKind::Covered, &notice.from).await?;
            let cover = sqlx::query(
                "update alerts set covered_by = $1, evidence_pending = 0, seq = $2 where id = $3",
            );
            self.run(cover.bind(&alert.alert_id).bind(seq).bind(&notice.from)).await?;
            let seq = self.change(ChangeKind::Alert, &alert.alert_id).await?;
            self.run(sqlx::query("update alerts set seq = $1 where id = $2").bind(seq).bind(&alert.alert_id))
                .await?;
            self.inherit(&alert.alert_id, notice).await?;
        }
        Ok(())
    }

    /// Gives a row that nobody has touched the triage of the row it goes on from.
    async fn inherit(&mut self, id: &str, from: Inherited) -> Result<(), Error> {
        let own = triage::load(self, id).await?;
        if own.triage.version > 0 || from.triage.triage.version == 0 {
            return Ok(());
        }
        let mut new = own.clone();
        new.triage = from.triage.triage;
        new.recurred = from.triage.recurred;
        // What a notice had shown is of the alert's own episode; what a predecessor had shown is not.
        let here = from.triage.revision == 0;
        new.closing = match new.triage.status {
            Status::Closed => from.triage.closing.map(|closing| Closing { here, ..closing }),
            _ => None,
        };
        let seq = self.change(ChangeKind::Triage, id).await?;
        new.store(self, id, seq).await?;
        let entry = Audit {
            actor: SYSTEM,
            action: "inherited",
            target: id,
            before: Some(serde_json::to_string(&own.triage)?),
            after: Some(serde_json::to_string(&new.triage)?),
        };
        self.audit(seq, entry).await
    }

    /// A closed alert whose severity rose, or whose count reached ten times that at closing, is new again.
    async fn return_to_queue(&mut self, alert: &AlertRevision) -> Result<(), Error> {
        let row = triage::load(self, &alert.alert_id).await?;
        let Some(closing) = row.closing else { return Ok(()) };
        if row.severity <= closing.severity && row.count < closing.count.saturating_mul(10) {
            return Ok(());
        }
        triage::reopen(self, &alert.alert_id, row).await.map(drop)
    }
}

const fn state_name(state: State) -> &'static str {
    match state {
        State::Active => "active",
        State::Ended => "ended",
    }
}

/// A count as the database holds it; beyond i64 it stays at the top.
pub(crate) fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
