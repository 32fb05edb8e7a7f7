//! Two topics: one with all that happens to alerts, one with all that is done about them, for who reads them from Kafka.
//!
//! In: what happened since the connector's position, what playbooks tell by it, what programs behind it are to do. Out: records that are in
//! all replicas in sync. Invariants: the position moves after that, so that a crash repeats records and loses none; where a record cannot be
//! written nothing behind it is told, since that would be out of order.

use vedette_ingest::{NewRecord, RecordProducer};
use vedette_respond::desired::Command;
use vedette_store::Store;

use super::{message::Told, record, request::Answer};
use crate::{response::ActError, settings::Topics as Settings};

/// Changes that are told at once.
const TOGETHER: u32 = 64;
/// So far the position moves without being written, where there is nothing to tell.
const UNWRITTEN: i64 = 1_024;

/// What came of following.
pub(super) enum Followed {
    /// All is told.
    All,
    /// Some more is, and there may be more.
    Some,
    /// It is to be told again.
    Failed(String),
}

/// Writes to both topics.
pub(super) struct Topics {
    settings: Settings,
    producer: RecordProducer,
    /// Told up to here, and the same as it is written.
    position: Option<(i64, i64)>,
}

impl Topics {
    /// One that has told nothing yet.
    ///
    /// # Errors
    /// What is wrong with the settings.
    pub fn new(settings: &Settings) -> Result<Self, String> {
        let producer = RecordProducer::connect(&settings.brokers, &settings.security);
        let producer = producer.map_err(|e| e.to_string())?;
        Ok(Self { settings: settings.clone(), producer, position: None })
    }

    /// From where it tells: where it was, or from now on, since what was there before it was configured is history.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn begin(&mut self, store: &Store, name: &str) -> Result<(i64, i64), ActError> {
        if let Some(position) = self.position {
            return Ok(position);
        }
        let position = match store.feed_position(name).await? {
            Some(position) => position,
            None => {
                let newest = store.newest_seq().await?;
                store.note_feed_position(name, newest).await?;
                newest
            }
        };
        Ok(*self.position.insert((position, position)))
    }

    /// Tells what happened since it did last.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn follow(&mut self, store: &Store, name: &str) -> Result<Followed, ActError> {
        let (position, written) = self.begin(store, name).await?;
        let (news, reached) = store.news(position, TOGETHER).await?;
        let mut records = Vec::with_capacity(news.len());
        for news in &news {
            match record::news(news) {
                Ok((alert, key, value)) => records.push(self.record(alert, key, value)),
                Err(error) => {
                    tracing::error!(seq = news.seq(), %error, "a stored body cannot be read; no topic tells it")
                }
            }
        }
        if let Err(error) = self.producer.send(&records).await {
            return Ok(Followed::Failed(error.to_string()));
        }
        let told = !records.is_empty();
        let write = told || reached - written >= UNWRITTEN;
        if write {
            store.note_feed_position(name, reached).await?;
        }
        self.position = Some((reached, if write { reached } else { written }));
        Ok(if told { Followed::Some } else { Followed::All })
    }

    /// Tells what a playbook has it tell.
    pub async fn tell(&self, told: &Told<'_>) -> Answer {
        self.write(record::told(told)).await
    }

    /// Tells a program what it is to do.
    pub async fn order(&self, command: &Command) -> Answer {
        self.write(record::order(command)).await
    }

    async fn write(&self, (key, value): (String, String)) -> Answer {
        match self.producer.send(&[self.record(false, key, value)]).await {
            Ok(()) => Answer::Taken,
            Err(error) => Answer::Again(error.to_string(), None),
        }
    }

    fn record(&self, alert: bool, key: String, value: String) -> NewRecord {
        let Settings { alerts, actions, .. } = &self.settings;
        NewRecord { topic: if alert { alerts } else { actions }.clone(), key, value }
    }
}
