//! Evidence: what the records say that alerts and notices refer to.
//!
//! In: contents that were read back. Out: the rows that still await some, oldest first; the contents of a row.
//! Invariants: publishing only marks a row as awaiting its evidence, and contents are written in transactions of
//! their own, so that an alert never waits for them; a row awaits evidence until each reference of its newest body
//! has its content or is known to have none; what is present is never replaced, what was gone can come back.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use sqlx::{Row, any::AnyRow};
use vedette_event::Evidence;

use crate::{
    alerts::narrow,
    error::Error,
    model::{AwaitingEvidence, ChangeKind, Content, EvidenceContent, EvidenceOf},
    store::Store,
    topics::incarnation,
    transaction::WriteTx,
};

/// Topic, incarnation, partition, offset, index.
type Reference = (String, i64, i64, i64, i64);

impl Store {
    /// Rows that await evidence, last changed after the `seq` given, in the order of their last change.
    pub async fn awaiting_evidence(&self, after: i64, limit: u32) -> Result<Vec<AwaitingEvidence>, Error> {
        let rows = sqlx::query(
            "select id, seq, body from alerts where evidence_pending = 1 and seq > $1 order by seq limit $2",
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
        for row in rows {
            tx.write_evidence(row).await?;
        }
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
    /// Writes a row's contents, drops those that its newest body does not refer to, and notes whether any is still awaited.
    async fn write_evidence(&mut self, of: &EvidenceOf) -> Result<(), Error> {
        let row = sqlx::query("select body, covered_by from alerts where id = $1").bind(&of.id);
        let Some(row) = self.one(row).await? else { return Ok(()) };
        let (body, covered_by): (String, Option<String>) = (row.try_get("body")?, row.try_get("covered_by")?);
        let referred: BTreeSet<Reference> = references(&body).iter().map(reference).collect();
        let mut stored = BTreeSet::new();
        let rows = sqlx::query(
            "select topic, incarnation, partition_no, offset_no, index_no from evidence where id = $1",
        );
        for row in self.all(rows.bind(&of.id)).await? {
            stored.insert(stored_reference(&row)?);
        }
        for stale in stored.difference(&referred) {
            let (topic, incarnation, partition, offset, index) = stale;
            let delete = sqlx::query(
                "delete from evidence where id = $1 and topic = $2 and incarnation = $3 and partition_no = $4 \
                 and offset_no = $5 and index_no = $6",
            );
            let delete = delete.bind(&of.id).bind(topic).bind(incarnation);
            self.run(delete.bind(partition).bind(offset).bind(index)).await?;
        }
        // A revision that came meanwhile may refer to other events.
        let wanted = of.contents.iter().filter(|c| referred.contains(&content_reference(c)));
        let mut new = 0;
        for content in wanted {
            new += self.insert_content(&of.id, content).await?;
            stored.insert(content_reference(content));
        }
        let awaits = i64::from(covered_by.is_none() && !referred.is_subset(&stored));
        let update = if new > 0 {
            let seq = self.change(ChangeKind::Alert, &of.id);
            sqlx::query("update alerts set evidence_pending = $2, seq = $3 where id = $1")
                .bind(&of.id)
                .bind(awaits)
                .bind(seq)
        } else {
            sqlx::query("update alerts set evidence_pending = $2 where id = $1").bind(&of.id).bind(awaits)
        };
        self.run(update).await.map(drop)
    }

    async fn insert_content(&mut self, id: &str, of: &EvidenceContent) -> Result<u64, Error> {
        let (content, fault) = match &of.content {
            Content::Present(content) => (Some(content.as_str()), None),
            Content::Gone => (None, None),
            Content::Undecodable(fault) => (None, Some(fault.as_str())),
        };
        let insert = sqlx::query(
            "insert into evidence (id, topic, incarnation, partition_no, offset_no, index_no, content, fault) \
             values ($1, $2, $3, $4, $5, $6, $7, $8) \
             on conflict (id, topic, incarnation, partition_no, offset_no, index_no) \
             do update set content = excluded.content, fault = excluded.fault \
             where evidence.content is null and excluded.content is not null",
        )
        .bind(id)
        .bind(&of.topic)
        .bind(i64::from(of.incarnation))
        .bind(i64::from(of.partition))
        .bind(of.offset)
        .bind(i64::from(of.index))
        .bind(content)
        .bind(fault);
        self.run(insert).await
    }
}

/// The references that a body lists; none if it lists none.
fn references(body: &str) -> Vec<Evidence> {
    #[derive(Deserialize)]
    struct Body {
        #[serde(default)]
        evidence: Vec<Evidence>,
    }
    serde_json::from_str::<Body>(body).map(|body| body.evidence).unwrap_or_default()
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
