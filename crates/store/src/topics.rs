//! Topics and their incarnations: a topic that was deleted and made anew is another one, once an operator has accepted it.
//!
//! In: an operator's word, the engine's that it has acted on it. Out: incarnations, and what is asked for.
//! Invariants: while an engine runs, it alone raises an incarnation, in a transaction behind all that it found in the
//! one before; an operator's tool only asks for it.

use std::collections::BTreeMap;

use sqlx::{Row, any::AnyRow};
use vedette_event::Incarnation;

use crate::{
    alerts::narrow,
    error::Error,
    model::{ChangeKind, NewIncarnation},
    store::Store,
    transaction::{Audit, SYSTEM, WriteTx},
};

/// What the key of a health event begins with that says a topic's incarnation is gone.
pub(crate) const RECREATED: &str = "recreated/";

/// The key of the health event that says this incarnation of a topic is gone. It is kept as long as that is the present one,
/// because accepting the topic rests on it.
#[must_use]
pub fn recreated(topic: &str, incarnation: Incarnation) -> String {
    format!("{RECREATED}{topic}/{incarnation}")
}

/// Incarnations by topic; a topic that is not here has 0.
pub(crate) type Incarnations = BTreeMap<String, Incarnation>;

/// The incarnation of a topic.
pub(crate) fn incarnation(of: &Incarnations, topic: &str) -> i64 {
    of.get(topic).copied().map_or(0, i64::from)
}

impl WriteTx {
    /// The topics' incarnations now.
    pub(crate) async fn incarnations(&mut self) -> Result<Incarnations, Error> {
        let rows = self.all(sqlx::query("select name, incarnation from topics")).await?;
        read_incarnations(&rows)
    }

    /// Notes a topic's new incarnation, in the name of who asked for it. One that is there already changes nothing.
    async fn accept_topic(&mut self, new: &NewIncarnation) -> Result<(), Error> {
        let NewIncarnation { topic, incarnation } = new;
        let known = sqlx::query("select incarnation, asked_by from topics where name = $1").bind(topic);
        let (before, asked_by): (i64, Option<String>) = match self.one(known).await? {
            Some(row) => (row.try_get("incarnation")?, row.try_get("asked_by")?),
            None => (0, None),
        };
        let after = i64::from(*incarnation);
        if after <= before {
            return Ok(());
        }
        let seq = self.change(ChangeKind::Admin, topic);
        let write = sqlx::query(
            "insert into topics (name, incarnation) values ($1, $2) on conflict (name) do update \
             set incarnation = excluded.incarnation, asked_by = null",
        );
        self.run(write.bind(topic).bind(after)).await?;
        let actor = asked_by.as_deref().unwrap_or(SYSTEM);
        let (before, after) = (Some(before.to_string()), Some(after.to_string()));
        self.audit(seq, Audit { actor, action: "incarnation", target: topic, before, after }).await
    }
}

impl Store {
    /// The topics' incarnations; a topic that is not here has 0.
    pub async fn incarnations(&self) -> Result<BTreeMap<String, Incarnation>, Error> {
        let rows = sqlx::query("select name, incarnation from topics").fetch_all(&self.inner.readers).await?;
        read_incarnations(&rows)
    }

    /// Asks the engine that runs, or else the next one to start, to accept a topic.
    pub async fn ask_to_accept(&self, topic: &str, actor: &str) -> Result<(), Error> {
        let mut tx = self.begin().await?;
        let ask = sqlx::query(
            "insert into topics (name, incarnation, asked_by) values ($1, 0, $2) \
             on conflict (name) do update set asked_by = excluded.asked_by",
        );
        tx.run(ask.bind(topic).bind(actor)).await?;
        tx.commit().await.map(drop)
    }

    /// The topics that the engine is asked to accept, with their incarnations before that.
    pub async fn asked_to_accept(&self) -> Result<BTreeMap<String, Incarnation>, Error> {
        let rows = sqlx::query("select name, incarnation from topics where asked_by is not null");
        read_incarnations(&rows.fetch_all(&self.inner.readers).await?)
    }

    /// Accepts what was asked for while no engine ran; gives the topics' new incarnations.
    pub async fn accept_asked(&self) -> Result<BTreeMap<String, Incarnation>, Error> {
        let mut accepted = self.asked_to_accept().await?;
        if accepted.is_empty() {
            return Ok(accepted);
        }
        let mut all = Vec::new();
        for (topic, incarnation) in &mut accepted {
            *incarnation = incarnation.saturating_add(1);
            all.push(NewIncarnation { topic: topic.clone(), incarnation: *incarnation });
        }
        self.accept_topics(&all).await?;
        Ok(accepted)
    }

    /// Notes topics' new incarnations in one transaction; the newest `seq`.
    pub(crate) async fn accept_topics(&self, all: &[NewIncarnation]) -> Result<i64, Error> {
        let mut tx = self.begin_as_engine().await?;
        for new in all {
            tx.accept_topic(new).await?;
        }
        tx.commit().await
    }
}

fn read_incarnations(rows: &[AnyRow]) -> Result<Incarnations, Error> {
    rows.iter().map(|row| Ok((row.try_get("name")?, narrow(row.try_get("incarnation")?)))).collect()
}
