//! Writing alerts: many revisions at once, each row written once.
//!
//! In: revisions in the order in which the engine gave them: the last one of an episode that midnight cut comes before the
//! first one of its continuation. Out: rows of the queue, their revisions, links between them. What the rows rest on
//! (stored rows, notices, predecessors) is read first, in bulk; then one revision after the other is applied in memory;
//! then the outcome is written, in bulk. Invariants: the outcome is that of writing one after the other; of several
//! revisions of one alert only the last makes a row, and each its point.

use std::collections::{BTreeMap, BTreeSet, btree_map::Entry};

use sqlx::Row;
use vedette_event::{Severity, State, time::DAY};

use crate::{
    bulk::Bulk,
    cases::CaseNews,
    error::Error,
    model::{AlertRevision, ChangeKind, Concern, EntityRef, Status},
    search::FoundBy,
    techniques,
    transaction::{Audit, SYSTEM, WriteTx},
    triage::{self, Closing, TriageRow},
};

/// Rows of the queue. A row that is there keeps its triage, its links and when it appeared.
const ROWS: Bulk = Bulk {
    head: "insert into alerts (id, state, revision, rule_id, rule_title, severity, group_key, entity_type, \
           entity_value, first_seen, crossed_at, last_seen, covers_until, event_count, summary, techniques, body_bytes, \
           evidence_pending, predecessor, successor, status, assignee, disposition, triage_version, recurred, \
           closed_severity, closed_count, closed_here, closed_at, created_at, created_seq, revision_seq, triage_seq, seq, case_id, snooze_id) values ",
    columns: 36,
    tail: " on conflict (id) do update set state = excluded.state, revision = excluded.revision, \
           rule_title = excluded.rule_title, severity = excluded.severity, first_seen = excluded.first_seen, \
           last_seen = excluded.last_seen, covers_until = excluded.covers_until, event_count = excluded.event_count, \
           summary = excluded.summary, techniques = excluded.techniques, body_bytes = excluded.body_bytes, \
           evidence_pending = excluded.evidence_pending, revision_seq = excluded.revision_seq, seq = excluded.seq, \
           case_id = excluded.case_id, snooze_id = excluded.snooze_id",
};
/// The bodies, apart from the rows that are walked.
const BODIES: Bulk = Bulk {
    head: "insert into alert_bodies (created_seq, body) values ",
    columns: 2,
    tail: " on conflict (created_seq) do update set body = excluded.body",
};
const SOURCES: Bulk = Bulk {
    head: "insert into alert_sources (id, source) values ",
    columns: 2,
    tail: " on conflict do nothing",
};
const STORED: Bulk = Bulk {
    head: concat!("select rule_title, techniques, ", triage_columns!(), " from alerts where id in ("),
    columns: 1,
    tail: ")",
};
// `cross join` keeps SQLite from walking all alerts and looking each up among the wanted.
/// The episode that midnight cut crossed on the very day before.
const PREDECESSORS: Bulk = Bulk {
    head: "with wanted (n, of_rule, of_key, from_at, until) as (values ",
    columns: 5,
    tail: concat!(
        ") select n, crossed_at, ",
        triage_columns!(),
        " from wanted cross join alerts where rule_id = of_rule and group_key = of_key and crossed_at >= from_at \
         and crossed_at < until and state <> 'notice' order by n, crossed_at"
    ),
};
/// Open notices of the episode.
const NOTICES: Bulk = Bulk {
    head: "with wanted (n, of_rule, of_key, from_at, until) as (values ",
    columns: 5,
    tail: concat!(
        ") select n, ",
        triage_columns!(),
        " from wanted cross join alerts where rule_id = of_rule and group_key = of_key and crossed_at >= from_at \
         and crossed_at <= until and state = 'notice' and covered_by is null and withdrawn is null order by n, crossed_at, id"
    ),
};
// What is covered changes no more, so no snooze that ends may find it.
const COVER: Bulk = Bulk {
    head: "with given (of_id, alert, at_seq) as (values ",
    columns: 3,
    tail: ") update alerts set covered_by = alert, evidence_pending = 0, snooze_id = null, seq = at_seq from given where id = of_id",
};
const SUCCEED: Bulk = Bulk {
    head: "with given (of_id, next, at_seq) as (values ",
    columns: 3,
    tail: ") update alerts set successor = next, seq = at_seq from given where id = of_id",
};

/// A row of the queue as it first appears, or as a revision makes it.
pub(crate) struct QueueRow<'a> {
    pub(crate) id: &'a str,
    pub(crate) state: &'static str,
    pub(crate) revision: i64,
    pub(crate) rule_id: &'a str,
    pub(crate) rule_title: &'a str,
    pub(crate) tags: &'a [String],
    /// Whether what it is found by is new: that of a new row, or of one whose rule has another title or other tags.
    pub(crate) is_found_anew: bool,
    pub(crate) severity: Severity,
    pub(crate) key: &'a str,
    pub(crate) entity: Option<&'a EntityRef>,
    pub(crate) sources: &'a [String],
    pub(crate) concerns: &'a [Concern],
    /// First seen, crossed, last seen, covers until.
    pub(crate) times: [i64; 4],
    pub(crate) count: u64,
    pub(crate) summary: &'a str,
    pub(crate) body: &'a str,
    pub(crate) predecessor: Option<String>,
    pub(crate) successor: Option<&'a str>,
    /// As it appears; a row that is there keeps its own.
    pub(crate) triage: TriageRow,
    /// The number with which it appeared.
    pub(crate) created_seq: i64,
    pub(crate) revision_seq: i64,
    pub(crate) seq: i64,
}

/// An alert with what this transaction does to it.
struct Applied<'a> {
    /// The newest revision.
    alert: &'a AlertRevision,
    /// From the earliest first event to the latest end of what the revisions cover.
    covers: (i64, i64),
    is_new: bool,
    is_found_anew: bool,
    triage: TriageRow,
    triaged: bool,
    predecessor: Option<String>,
    successor: Option<&'a str>,
    revision_seq: i64,
}

impl<'a> Applied<'a> {
    fn queue_row(&self) -> QueueRow<'a> {
        let alert = self.alert;
        QueueRow {
            id: &alert.alert_id,
            state: match alert.state {
                State::Active => "active",
                State::Ended => "ended",
            },
            revision: i64::from(alert.revision),
            rule_id: &alert.rule_id,
            rule_title: &alert.rule_title,
            tags: &alert.tags,
            is_found_anew: self.is_found_anew,
            severity: alert.severity,
            key: &alert.key,
            entity: alert.entity.as_ref(),
            sources: if self.is_new { &alert.sources } else { &[] },
            concerns: if self.is_new { &alert.concerns } else { &[] },
            times: [alert.first_seen.0, alert.crossed_at.0, alert.last_seen.0, alert.covers_until.0],
            count: alert.count,
            summary: &alert.summary,
            body: &alert.body,
            predecessor: self.predecessor.clone(),
            successor: self.successor,
            triage: self.triage.clone(),
            created_seq: if self.is_new { self.revision_seq } else { self.triage.created_seq },
            revision_seq: self.revision_seq,
            seq: self.revision_seq.max(self.triage.triage_seq),
        }
    }
}

/// What a continuation or a covering alert takes over.
struct Inherited {
    from: String,
    triage: TriageRow,
}

/// Rows found for the alerts of this number.
type Found = BTreeMap<usize, Vec<Inherited>>;

/// Statements that end the transaction's part about alerts.
#[derive(Default)]
struct Links<'a> {
    /// Notice, alert, `seq`.
    covered: Vec<(String, &'a str, i64)>,
    /// The notices' numbers.
    hidden: Vec<i64>,
    /// Predecessor, alert, `seq`.
    succeeded: Vec<(String, &'a str, i64)>,
}

impl WriteTx {
    /// Writes revisions; how many were above the stored ones. Their notices are stored already.
    pub(crate) async fn write_alerts(&mut self, alerts: &[AlertRevision]) -> Result<u64, Error> {
        if alerts.is_empty() {
            return Ok(0);
        }
        let (mut applied, points) = self.newer(alerts).await?;
        if applied.is_empty() {
            return Ok(0);
        }
        let mut predecessors = self.predecessors(&applied).await?;
        let mut notices = self.notices_of(&applied).await?;
        let mut links = Links::default();
        let mut taken = BTreeSet::new();
        let snoozes = self.snoozes_in_force().await?;
        let mut news = CaseNews::default();
        for at in 0..applied.len() {
            if applied[at].is_new && applied[at].alert.continuation {
                let stored = predecessors.remove(&at).and_then(|mut found| found.pop());
                self.continue_episode(&mut applied, at, stored, &mut links).await?;
            }
            let covered = notices.remove(&at).unwrap_or_default();
            let covered = covered.into_iter().filter(|notice| taken.insert(notice.from.clone()));
            self.apply(&mut applied[at], covered.collect(), &mut links).await?;
            let (alert, row) = (applied[at].alert, &mut applied[at].triage);
            row.snooze = snoozes.hiding(&alert.rule_id, alert.entity.as_ref(), alert.severity);
            if let Some(case) = row.case {
                let highest = news.highest.entry(case).or_insert(alert.severity);
                *highest = alert.severity.max(*highest);
            }
        }
        let revised = applied.iter().filter(|row| !row.is_new).map(|row| row.alert.alert_id.as_str());
        let before = self.bodies(&revised.collect::<Vec<_>>()).await?;
        let seqs = applied.iter().map(|row| (row.alert.alert_id.as_str(), row.revision_seq)).collect();
        let rows: Vec<QueueRow<'_>> = applied.iter().map(Applied::queue_row).collect();
        self.write_queue_rows(&rows).await?;
        self.write_points(&points, &seqs, before).await?;
        let triaged = applied.iter().filter(|row| row.triaged && !row.is_new);
        let triaged =
            triaged.map(|row| (row.alert.alert_id.clone(), row.triage.clone(), row.triage.triage_seq));
        self.store_triage(&triaged.collect::<Vec<_>>()).await?;
        self.run_bulk(COVER, &links.covered, |update, (id, alert, seq)| {
            update.bind(id).bind(*alert).bind(seq)
        })
        .await?;
        self.forget_words(&links.hidden).await?;
        self.tell_cases(news).await?;
        self.run_bulk(SUCCEED, &links.succeeded, |update, (id, next, seq)| {
            update.bind(id).bind(*next).bind(seq)
        })
        .await?;
        Ok(points.len() as u64)
    }

    /// Those above the stored revision, by alert in order of first appearance, and each revision among them.
    async fn newer<'a>(
        &mut self,
        alerts: &'a [AlertRevision],
    ) -> Result<(Vec<Applied<'a>>, Vec<&'a AlertRevision>), Error> {
        let ids: BTreeSet<&str> = alerts.iter().map(|alert| alert.alert_id.as_str()).collect();
        let ids: Vec<&str> = ids.into_iter().collect();
        let mut stored = BTreeMap::new();
        for row in self.all_bulk(STORED, &ids, |select, id| select.bind(*id)).await? {
            let id: String = row.try_get("id")?;
            let found_by: (String, String) = (row.try_get("rule_title")?, row.try_get("techniques")?);
            stored.insert(id, (found_by, TriageRow::read(&row)?));
        }
        let mut applied: Vec<Applied<'_>> = Vec::new();
        let mut points = Vec::new();
        let mut places: BTreeMap<&str, usize> = BTreeMap::new();
        for alert in alerts {
            let covers = (alert.first_seen.0, alert.covers_until.0);
            match places.entry(&alert.alert_id) {
                Entry::Occupied(place) => {
                    let row = &mut applied[*place.get()];
                    if row.alert.revision >= alert.revision {
                        continue;
                    }
                    row.alert = alert;
                    row.covers = (row.covers.0.min(covers.0), row.covers.1.max(covers.1));
                }
                Entry::Vacant(place) => {
                    let known = stored.remove(&alert.alert_id);
                    if known.as_ref().is_some_and(|(_, row)| row.revision >= i64::from(alert.revision)) {
                        // A later one in the same publication may still be newer.
                        stored.extend(known.map(|row| (alert.alert_id.clone(), row)));
                        continue;
                    }
                    place.insert(applied.len());
                    applied.push(Applied {
                        alert,
                        covers,
                        is_new: known.is_none(),
                        is_found_anew: known.as_ref().is_none_or(|((title, set), _)| {
                            *title != alert.rule_title || *set != techniques::named(&alert.tags)
                        }),
                        triage: known.map_or_else(|| TriageRow::fresh(alert.severity), |(_, row)| row),
                        triaged: false,
                        predecessor: None,
                        successor: None,
                        revision_seq: 0,
                    });
                }
            }
            points.push(alert);
        }
        Ok((applied, points))
    }

    /// Stored predecessors of new continuations, the nearest last.
    async fn predecessors(&mut self, applied: &[Applied<'_>]) -> Result<Found, Error> {
        let wanted = applied.iter().enumerate().filter(|(_, row)| row.is_new && row.alert.continuation);
        let wanted: Vec<_> = wanted
            .map(|(n, row)| {
                let midnight = row.alert.crossed_at.midnight();
                (n, row.alert, midnight.minus(DAY).0, midnight.0)
            })
            .collect();
        self.found(PREDECESSORS, &wanted).await
    }

    async fn notices_of(&mut self, applied: &[Applied<'_>]) -> Result<Found, Error> {
        let wanted = applied.iter().enumerate().map(|(n, row)| (n, row.alert, row.covers.0, row.covers.1));
        self.found(NOTICES, &wanted.collect::<Vec<_>>()).await
    }

    /// Rows of the alerts' rules and keys that crossed between two times.
    async fn found(
        &mut self,
        select: Bulk,
        wanted: &[(usize, &AlertRevision, i64, i64)],
    ) -> Result<Found, Error> {
        let rows = self
            .all_bulk(select, wanted, |select, (n, alert, from, until)| {
                select.bind(*n as i64).bind(&alert.rule_id).bind(&alert.key).bind(from).bind(until)
            })
            .await?;
        let mut found = Found::new();
        for row in rows {
            let n: i64 = row.try_get("n")?;
            let of = Inherited { from: row.try_get("id")?, triage: TriageRow::read(&row)? };
            found.entry(usize::try_from(n).unwrap_or_default()).or_default().push(of);
        }
        Ok(found)
    }

    /// Joins a new continuation to the episode that midnight cut, whether that is stored or comes along.
    async fn continue_episode<'a>(
        &mut self,
        applied: &mut [Applied<'a>],
        at: usize,
        stored: Option<Inherited>,
        links: &mut Links<'a>,
    ) -> Result<(), Error> {
        let (earlier, rest) = applied.split_at_mut(at);
        let Some(own) = rest.first_mut() else { return Ok(()) };
        let alert = own.alert;
        let midnight = alert.crossed_at.midnight();
        let along = earlier.iter_mut().filter(|other| {
            let other = other.alert;
            (&other.rule_id, &other.key) == (&alert.rule_id, &alert.key)
                && (midnight.minus(DAY)..midnight).contains(&other.crossed_at)
        });
        let along = along.max_by_key(|other| other.alert.crossed_at);
        let before = match (along, stored) {
            // One that comes along is no earlier than a stored one of another id: episodes of a key follow one another.
            (Some(other), _) => {
                other.successor = Some(&alert.alert_id);
                let id = other.alert.alert_id.clone();
                if !other.is_new {
                    let seq = self.change(ChangeKind::Alert, &id);
                    links.succeeded.push((id.clone(), &alert.alert_id, seq));
                }
                Inherited { from: id, triage: other.triage.clone() }
            }
            (None, Some(stored)) => {
                let seq = self.change(ChangeKind::Alert, &stored.from);
                links.succeeded.push((stored.from.clone(), &alert.alert_id, seq));
                stored
            }
            (None, None) => return Ok(()),
        };
        own.predecessor = Some(before.from.clone());
        self.inherit(own, before).await
    }

    /// Gives an alert its place in the order of changes, its notices' triage, and, if it got worse, back to the queue.
    async fn apply<'a>(
        &mut self,
        row: &mut Applied<'a>,
        notices: Vec<Inherited>,
        links: &mut Links<'a>,
    ) -> Result<(), Error> {
        let alert = row.alert;
        for notice in &notices {
            let seq = self.change(ChangeKind::Covered, &notice.from);
            links.covered.push((notice.from.clone(), &alert.alert_id, seq));
            links.hidden.push(notice.triage.created_seq);
        }
        row.revision_seq = self.change(ChangeKind::Alert, &alert.alert_id);
        if row.is_new && !row.triaged {
            row.triage.triage_seq = row.revision_seq;
        }
        (row.triage.revision, row.triage.severity) = (i64::from(alert.revision), alert.severity);
        row.triage.count = signed(alert.count);
        for notice in notices {
            self.inherit(row, notice).await?;
        }
        // A closed alert whose severity rose, or whose count reached ten times that at closing, is new again.
        let Some(closing) = row.triage.closing else { return Ok(()) };
        if closing.outgrown(row.triage.severity, row.triage.count) {
            row.triage.triage_seq = triage::reopen(self, &alert.alert_id, &mut row.triage).await?;
            row.triaged = true;
        }
        Ok(())
    }

    /// Gives a row that nobody has touched the triage of the row it goes on from.
    async fn inherit(&mut self, row: &mut Applied<'_>, from: Inherited) -> Result<(), Error> {
        if let (None, Some(case)) = (row.triage.case, from.triage.case) {
            row.triage.case = self.inherit_case(&row.alert.alert_id, case).await?;
        }
        if row.triage.triage.version > 0 || from.triage.triage.version == 0 {
            return Ok(());
        }
        let before = row.triage.says()?;
        let new = &mut row.triage;
        new.triage = from.triage.triage;
        new.recurred = from.triage.recurred;
        // What a notice had shown is of the alert's own episode; what a predecessor had shown is not.
        let here = from.triage.revision == 0;
        new.closing = match new.triage.status {
            Status::Closed => from.triage.closing.map(|closing| Closing { here, ..closing }),
            _ => None,
        };
        new.closed_at = (new.triage.status == Status::Closed).then_some(self.now);
        let after = new.says()?;
        let seq = self.change(ChangeKind::Triage, &row.alert.alert_id);
        (row.triage.triage_seq, row.triaged) = (seq, true);
        let entry = Audit {
            actor: SYSTEM,
            action: "inherited",
            target: &row.alert.alert_id,
            before: Some(before),
            after: Some(after),
        };
        self.audit(seq, entry).await
    }

    /// Writes rows of the queue with their sources; each awaits its evidence.
    pub(crate) async fn write_queue_rows(&mut self, rows: &[QueueRow<'_>]) -> Result<(), Error> {
        let now = self.now.0;
        self.run_bulk(ROWS, rows, |insert, row| {
            let entity = row.entity.map(|entity| entity.value.as_str());
            let TriageRow { triage, recurred, closing, triage_seq, .. } = &row.triage;
            insert
                .bind(row.id)
                .bind(row.state)
                .bind(row.revision)
                .bind(row.rule_id)
                .bind(row.rule_title)
                .bind(row.severity as i64)
                .bind(row.key)
                .bind(row.entity.map(|entity| entity.kind.as_str()))
                .bind(entity)
                .bind(row.times[0])
                .bind(row.times[1])
                .bind(row.times[2])
                .bind(row.times[3])
                .bind(signed(row.count))
                .bind(row.summary)
                .bind(techniques::named(row.tags))
                .bind(row.body.len() as i64)
                .bind(1_i64)
                .bind(row.predecessor.as_deref())
                .bind(row.successor)
                .bind(triage.status.name())
                .bind(triage.assignee.as_deref())
                .bind(triage.disposition.map(crate::model::Disposition::name))
                .bind(triage.version)
                .bind(i64::from(*recurred))
                .bind(closing.map(|closing| closing.severity as i64))
                .bind(closing.map(|closing| closing.count))
                .bind(i64::from(closing.is_some_and(|closing| closing.here)))
                .bind((triage.status == Status::Closed).then_some(now))
                .bind(now)
                .bind(row.created_seq)
                .bind(row.revision_seq)
                .bind(*triage_seq)
                .bind(row.seq)
                .bind(row.triage.case)
                .bind(row.triage.snooze)
        })
        .await?;
        self.run_bulk(BODIES, rows, |insert, row| insert.bind(row.created_seq).bind(row.body)).await?;
        self.index_queue_rows(rows).await?;
        let sources = rows.iter().flat_map(|row| row.sources.iter().map(|source| (row.id, source)));
        let sources: Vec<(&str, &String)> = sources.collect();
        self.run_bulk(SOURCES, &sources, |insert, (id, source)| insert.bind(*id).bind(*source)).await?;
        let concerns = rows.iter().flat_map(|row| row.concerns.iter().map(|of| (row.revision_seq, of)));
        self.write_concerns(&concerns.collect::<Vec<_>>()).await
    }

    /// Makes new rows, and those whose rule has another title, found by their words and techniques.
    async fn index_queue_rows(&mut self, rows: &[QueueRow<'_>]) -> Result<(), Error> {
        let anew: Vec<&QueueRow<'_>> = rows.iter().filter(|row| row.is_found_anew).collect();
        let sets = rows.iter().map(|row| techniques::named(row.tags)).collect();
        self.write_technique_sets(&sets).await?;
        let retitled: Vec<i64> = anew
            .iter()
            .filter(|row| row.created_seq != row.revision_seq)
            .map(|row| row.created_seq)
            .collect();
        self.forget_words(&retitled).await?;
        let words = anew.iter().map(|row| {
            let QueueRow { rule_id, rule_title, entity, key, tags, .. } = **row;
            (row.created_seq, FoundBy { rule_id, rule_title, entity, key, tags }.words())
        });
        self.write_words(&words.collect::<Vec<_>>()).await
    }
}

/// A count as the database holds it; beyond i64 it stays at the top.
pub(crate) fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
pub(crate) fn notices_statement() -> String {
    NOTICES.text(2)
}

#[cfg(test)]
pub(crate) fn cover_statement() -> String {
    COVER.text(2)
}
