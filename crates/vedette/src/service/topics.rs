//! Takes up what an operator decides about topics while the service runs.
//!
//! In: what `vedette topic accept` wrote into the store. Out: commands to ingest, which has the kernel publish the new
//! incarnation. Invariant: each request is passed on once; the store holds it until it is carried out.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use vedette_event::{Incarnation, Topics};
use vedette_ingest::Ingest;
use vedette_store::Store;

use super::supervisor::Supervisor;

/// How often the store is asked: an operator waits for the answer, and the question is one look at a table of few rows.
const EVERY: Duration = Duration::from_millis(500);

/// Passes requests on until the service stops.
pub async fn accept_asked(store: Store, topics: Arc<Topics>, ingest: Arc<Ingest>, supervisor: Supervisor) {
    let mut passed_on: BTreeMap<String, Incarnation> = BTreeMap::new();
    loop {
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = supervisor.asked_to_stop() => return,
        }
        let asked = match store.asked_to_accept().await {
            Ok(asked) => asked,
            Err(error) => {
                tracing::debug!(%error, "the store was not asked about topics to accept");
                continue;
            }
        };
        for (name, incarnation) in &asked {
            let Some(topic) = topics.find(name) else { continue };
            if passed_on.insert(name.clone(), *incarnation) != Some(*incarnation) {
                tracing::info!(topic = %name, "an operator accepts a topic");
                ingest.accept(topic);
            }
        }
        passed_on.retain(|name, _| asked.contains_key(name));
    }
}
