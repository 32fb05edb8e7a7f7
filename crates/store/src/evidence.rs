//! Evidence: what the records say that alerts and notices refer to.
//!
//! In: contents that were read back. Out: the rows that still await some, oldest first; the contents of a row.
//! Invariants: publishing only marks a row as awaiting its evidence, and contents are written in transactions of
//! their own, so that an alert never waits for them; a row awaits evidence until each reference of its newest body
//! has its content or is known to have none; what is present is never replaced, what was gone can come back.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::{Row, any::AnyRow};
use vedette_event::{Evidence, alert::references};

use crate::{
    alerts::narrow,
    bulk::Bulk,
    concern,
    error::Error,
    model::{AwaitingEvidence, ChangeKind, Concern, Content, EvidenceContent, EvidenceOf},
    store::Store,
    topics::incarnation,
    transaction::{Statement, WriteTx},
};

/// Topic, incarnation, partition, offset, index.
type Reference = (String, i64, i64, i64, i64);

const BODIES: Bulk = Bulk {
    head: "select id, body, covered_by, created_seq from alerts join alert_bodies using (created_seq) where id in (",
    columns: 1,
    tail: ")",
};
const STORED: Bulk = Bulk {
    head: "select id, topic, incarnation, partition_no, offset_no, index_no, case when content is null then 0 else 1 end as present \
           from evidence where id in (",
    columns: 1,
    tail: ")",
};
const DROP: Bulk = Bulk {
    head: "delete from evidence where (id, topic, incarnation, partition_no, offset_no, index_no) in (values ",
    columns: 6,
    tail: ")",
};
const CONTENTS: Bulk = Bulk {
    head: "insert into evidence (id, topic, incarnation, partition_no, offset_no, index_no, content, fault) values ",
    columns: 8,
    tail: " on conflict (id, topic, incarnation, partition_no, offset_no, index_no) \
           do update set content = excluded.content, fault = excluded.fault \
           where evidence.content is null and excluded.content is not null",
};
const NOTE: Bulk = Bulk {
    head: "with given (of_id, awaits, at_seq) as (values ",
    columns: 3,
    tail: ") update alerts set evidence_pending = awaits, seq = coalesce(at_seq, seq) from given where id = of_id",
};

/// What is known of a row whose evidence is written.
#[derive(Default)]
struct Known {
    /// With which number the row appeared.
    created: i64,
    referred: BTreeSet<Reference>,
    /// Which of them have an answer, and whether that is a content.
    stored: BTreeMap<Reference, bool>,
    covered: bool,
    changed: bool,
}

impl Store {
    /// Rows that await evidence, last changed after the `seq` given, in the order of their last change.
    pub async fn awaiting_evidence(&self, after: i64, limit: u32) -> Result<Vec<AwaitingEvidence>, Error> {
        let rows = sqlx::query(
            "select id, seq, body from alerts join alert_bodies using (created_seq) where evidence_pending = 1 and seq > $1 \
             order by seq limit $2",
        )
        .bind(after)
        .bind(i64::from(limit))
        .fetch_all(&self.inner.readers)
        .await?;
        let Some(last) = rows.last() else { return Ok(Vec::new()) };
        let known = sqlx::query(
            "select id, topic, incarnation, partition_no, offset_no, index_no from evidence where id in \
             (select id from alerts where evidence_pending = 1 and seq > $1 and seq <= $2)",
        )
        .bind(after)
        .bind(last.try_get::<i64, _>("seq")?)
        .fetch_all(&self.inner.readers)
        .await?;
        let mut of: BTreeMap<String, BTreeSet<Reference>> = BTreeMap::new();
        for row in &known {
            of.entry(row.try_get("id")?).or_default().insert(stored_reference(row)?);
        }
        let incarnations = self.incarnations().await?;
        rows.iter()
            .map(|row| {
                let id: String = row.try_get("id")?;
                let body: String = row.try_get("body")?;
                let known = of.get(&id);
                let mut missing = references(&body);
                missing.retain(|e| !known.is_some_and(|known| known.contains(&reference(e))));
                let of_another =
                    |e: &Evidence| i64::from(e.incarnation) != incarnation(&incarnations, &e.topic);
                let (gone, missing) = missing.into_iter().partition(of_another);
                Ok(AwaitingEvidence { id, seq: row.try_get("seq")?, missing, gone })
            })
            .collect()
    }

    /// Stores contents in one transaction and notes which of the rows await no more. Rows that are not there any more are
    /// passed over.
    pub async fn store_evidence(&self, rows: &[EvidenceOf]) -> Result<(), Error> {
        let mut tx = self.begin_as_engine().await?;
        tx.write_evidence(rows).await?;
        tx.commit().await.map(drop)
    }

    /// The contents of a row's evidence, as far as fetched, in the order of the log.
    pub async fn evidence(&self, id: &str) -> Result<Vec<EvidenceContent>, Error> {
        let rows = sqlx::query(
            "select topic, incarnation, partition_no, offset_no, index_no, content, fault from evidence where id = $1 \
             order by topic, incarnation, partition_no, offset_no, index_no",
        )
        .bind(id)
        .fetch_all(&self.inner.readers)
        .await?;
        rows.iter()
            .map(|row| {
                let content = match (row.try_get("content")?, row.try_get("fault")?) {
                    (Some(content), _) => Content::Present(content),
                    (None, Some(fault)) => Content::Undecodable(fault),
                    (None, None) => Content::Gone,
                };
                Ok(EvidenceContent {
                    topic: row.try_get("topic")?,
                    incarnation: narrow(row.try_get("incarnation")?),
                    partition: narrow(row.try_get("partition_no")?),
                    offset: row.try_get("offset_no")?,
                    index: narrow(row.try_get("index_no")?),
                    content,
                })
            })
            .collect()
    }
}

impl WriteTx {
    /// Writes the contents of some rows, drops those that a newest body does not refer to, and notes whether any is still
    /// awaited.
    async fn write_evidence(&mut self, all: &[EvidenceOf]) -> Result<(), Error> {
        let ids: BTreeSet<&str> = all.iter().map(|of| of.id.as_str()).collect();
        let ids: Vec<&str> = ids.into_iter().collect();
        let mut rows: BTreeMap<String, Known> = BTreeMap::new();
        for row in self.all_bulk(BODIES, &ids, |select, id| select.bind(*id)).await? {
            let body: String = row.try_get("body")?;
            let referred = references(&body).iter().map(reference).collect();
            let covered = row.try_get::<Option<String>, _>("covered_by")?.is_some();
            let created = row.try_get("created_seq")?;
            rows.insert(row.try_get("id")?, Known { created, referred, covered, ..Known::default() });
        }
        let mut stale = Vec::new();
        for row in self.all_bulk(STORED, &ids, |select, id| select.bind(*id)).await? {
            let id: String = row.try_get("id")?;
            let Some(known) = rows.get_mut(&id) else { continue };
            let (reference, present): (_, i64) = (stored_reference(&row)?, row.try_get("present")?);
            if known.referred.contains(&reference) {
                known.stored.insert(reference, present == 1);
            } else {
                stale.push((id, reference));
            }
        }
        let (mut contents, mut concerns) = (Vec::new(), Vec::new());
        for (of, content) in all.iter().flat_map(|of| of.contents.iter().map(move |content| (of, content))) {
            let Some(known) = rows.get_mut(&of.id) else { continue };
            let reference = content_reference(content);
            // A revision that came meanwhile may refer to other events.
            let before = known.stored.get(&reference).copied();
            let present = matches!(content.content, Content::Present(_));
            let new = before.is_none() || (before == Some(false) && present);
            if new && known.referred.contains(&reference) {
                known.changed = true;
                known.stored.insert(reference, present);
                contents.push((of.id.as_str(), content));
                if let Content::Present(text) = &content.content {
                    concerns.extend(concern::of_content(text).into_iter().map(|of| (known.created, of)));
                }
            }
        }
        self.run_bulk(DROP, &stale, |delete, (id, (topic, incarnation, partition, offset, index))| {
            delete.bind(id).bind(topic).bind(incarnation).bind(partition).bind(offset).bind(index)
        })
        .await?;
        self.run_bulk(CONTENTS, &contents, |insert, (id, of)| bind_content(insert, id, of)).await?;
        let concerns: Vec<(i64, &Concern)> = concerns.iter().map(|(created, of)| (*created, of)).collect();
        self.write_concerns(&concerns).await?;
        let mut noted = Vec::new();
        for (id, known) in &rows {
            let awaits = !known.covered && !known.referred.iter().all(|of| known.stored.contains_key(of));
            // A covered row's place is that at which it was covered.
            let changed = known.changed && !known.covered;
            let seq = changed.then(|| self.change(ChangeKind::Alert, id));
            noted.push((id, i64::from(awaits), seq));
        }
        self.run_bulk(NOTE, &noted, |update, (id, awaits, seq)| update.bind(*id).bind(awaits).bind(seq))
            .await
            .map(drop)
    }
}

fn bind_content<'q>(insert: Statement<'q>, id: &'q str, of: &'q EvidenceContent) -> Statement<'q> {
    let (content, fault) = match &of.content {
        Content::Present(content) => (Some(content.as_str()), None),
        Content::Gone => (None, None),
        Content::Undecodable(fault) => (None, Some(fault.as_str())),
    };
    let insert =
        insert.bind(id).bind(&of.topic).bind(i64::from(of.incarnation)).bind(i64::from(of.partition));
    insert.bind(of.offset).bind(i64::from(of.index)).bind(content).bind(fault)
}

fn reference(of: &Evidence) -> Reference {
    (of.topic.to_string(), i64::from(of.incarnation), i64::from(of.partition), of.offset, i64::from(of.index))
}

fn content_reference(of: &EvidenceContent) -> Reference {
    (of.topic.clone(), i64::from(of.incarnation), i64::from(of.partition), of.offset, i64::from(of.index))
}

fn stored_reference(row: &AnyRow) -> Result<Reference, Error> {
    Ok((
        row.try_get("topic")?,
        row.try_get("incarnation")?,
        row.try_get("partition_no")?,
        row.try_get("offset_no")?,
        row.try_get("index_no")?,
    ))
}
