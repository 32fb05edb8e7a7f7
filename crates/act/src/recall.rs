//! What enforcement points may hold, kept over restarts.
//!
//! In: what is about to be shown at an outlet. Out: a record of it in the store, and after a restart word of what was shown before and is
//! not any more. Invariants: nothing is shown before it is written down; what was taken back while the process was down, or right before it
//! went down, is told as deleted when it is back; only what is new or longer is written.

use std::{collections::BTreeMap, sync::Arc};

use vedette_event::Micros;
use vedette_respond::{Action, Target, desired::InForce};
use vedette_store::{Store, model::Held};

use crate::{
    board::Board,
    response::{ActError, stored},
};

/// By outlet, what was shown and until when.
#[derive(Debug, Default)]
pub(crate) struct Recall(BTreeMap<Arc<str>, BTreeMap<(Action, Target), Micros>>);

impl Recall {
    /// Writes down what is about to be shown, and the first time tells the board what was shown before.
    ///
    /// # Errors
    /// If the store fails, or does not hold what was written.
    pub async fn note(
        &mut self,
        (store, board): (&Store, &Board),
        outlet: &Arc<str>,
        in_force: &[InForce],
        now: Micros,
    ) -> Result<(), ActError> {
        if !self.0.contains_key(outlet) {
            let before = read(store, outlet, now).await?;
            board.ended(outlet, before.clone(), now);
            let before = before.into_iter().map(|one| ((one.action, one.target), one.until)).collect();
            self.0.insert(outlet.clone(), before);
        }
        let known = self.0.entry(outlet.clone()).or_default();
        known.retain(|_, until| *until > now);
        let is_new = |one: &&InForce| {
            known.get(&(one.action, one.target.clone())).is_none_or(|until| *until < one.until)
        };
        let new: Vec<&InForce> = in_force.iter().filter(is_new).collect();
        if new.is_empty() {
            return Ok(());
        }
        let rows: Result<Vec<Held>, ActError> = new.iter().map(|one| row(one)).collect();
        store.note_shown(outlet, &rows?, now).await?;
        known.extend(new.into_iter().map(|one| ((one.action, one.target.clone()), one.until)));
        Ok(())
    }
}

fn row(one: &InForce) -> Result<Held, ActError> {
    let target = serde_json::to_string(&one.target);
    let target = target.map_err(|source| ActError::Stored { what: "target", id: 0, source })?;
    Ok(Held { action: one.action.name().to_owned(), target, until: one.until })
}

async fn read(store: &Store, outlet: &str, now: Micros) -> Result<Vec<InForce>, ActError> {
    let held = store.held(outlet).await?;
    let held = held.into_iter().filter(|held| held.until > now);
    held.map(|Held { action, target, until }| {
        let action = stored(&format!("\"{action}\""), "action that was shown", 0)?;
        let target = stored(&target, "target that was shown", 0)?;
        Ok(InForce { action, target, until, except: Vec::new(), playbook: "before the restart".into() })
    })
    .collect()
}
