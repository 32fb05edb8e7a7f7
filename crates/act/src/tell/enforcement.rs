//! Countermeasures of programs that are told: what one must hold is compared with what it has said yes to.
//!
//! In: what is to be in force, what the connector has taken so far. Out: commands, one for each difference, and notes of those that were taken.
//! Invariants: level-triggered, so that a crash or an answer that was lost repeats a command; what ends or is spared is
//! withdrawn by a command of its own, though the order said until when it stands; before it is known what is to be in force nothing is sent.

use serde_json::{Value, json};
use vedette_event::Micros;
use vedette_respond::{
    Action, Target,
    desired::{Command, Observed, Reconciled, reconcile},
};
use vedette_store::{Store, model::Held};

use crate::{
    responder::Wanted,
    response::{ActError, stored},
};

/// What a connector is to do.
pub(super) async fn commands(
    store: &Store,
    connector: &str,
    wanted: &Wanted,
    now: Micros,
) -> Result<Reconciled, ActError> {
    let held = store.held(connector).await?.into_iter().map(observed).collect::<Result<Vec<_>, _>>()?;
    Ok(reconcile(&wanted.desired, connector, &held, &wanted.world, now))
}

fn observed(held: Held) -> Result<Observed, ActError> {
    let target: Target = stored(&held.target, "target", 0)?;
    let action: Action = stored(&format!("\"{}\"", held.action), "action", 0)?;
    Ok(Observed { action, target, until: Some(held.until) })
}

/// Notes that a command was taken.
pub(super) async fn taken(store: &Store, connector: &str, command: &Command) -> Result<(), ActError> {
    let (action, target, until) = match command {
        Command::Impose { action, target, until, .. } => (action, target, Some(*until)),
        Command::Withdraw { action, target } => (action, target, None),
    };
    let text = serde_json::to_string(target);
    let text = text.map_err(|source| ActError::Stored { what: "target", id: 0, source })?;
    Ok(store.note_held(connector, (action.name(), &text), until).await?)
}

/// The command for a program. It bears no key: it says what is to be, so that one that comes twice changes nothing, and a key that is the
/// same for the second block of an address as for the first would have that ignored.
pub(super) fn message(command: &Command) -> Value {
    match command {
        Command::Impose { action, target, until, except } => json!({
            "type": "vedette.countermeasure", "command": "impose", "action": action, "target": named(target),
            "until": until, "except": except,
        }),
        Command::Withdraw { action, target } => json!({
            "type": "vedette.countermeasure", "command": "withdraw", "action": action, "target": named(target),
        }),
    }
}

/// A target as programs read it: what names it, and its value.
fn named(target: &Target) -> Value {
    match target {
        Target::Network(net) => json!({"type": "network", "value": net}),
        Target::Asn(number) => json!({"type": "asn", "value": number}),
        Target::Country(code) => json!({"type": "country", "value": code}),
        Target::Named { field, value } => json!({"type": field, "value": value}),
    }
}
