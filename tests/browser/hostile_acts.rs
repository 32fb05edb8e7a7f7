//! Playbooks, actions, deliveries and guards of which every text is an attack.
//!
//! In: a store with a hostile alert. Out: what acts beside it. What people write through the API is as long as they may.

use std::sync::Arc;

use anyhow::{Context, Result};
use tokio::sync::watch;
use vedette_act::{
    Response, Settings,
    settings::{ConnectorSettings, Means},
};
use vedette_event::{Micros, Severity, Span};
use vedette_respond::{
    Action, Condition, Connector, ConnectorKind, Deed, Limit, Playbook, PlaybookSet,
    playbook::{Body, Guards, Mode, On, Step, Trigger},
};
use vedette_sigma::Rejection;
use vedette_store::{
    Store,
    model::{ActionChange, ActionQuery, ActionState, Tried},
};

use super::hostile::{ID, attack, long};

/// What playbooks are run by, which a form gives back as it is.
pub const NAME: &str = "\"'><script>window.hurt='playbook'</script>";

fn connector(place: &str) -> Connector {
    Connector { kind: ConnectorKind::Webhook, name: attack(place).into() }
}

fn playbook() -> Playbook {
    let hour = Span::secs(3_600);
    let step = |place: &str, deed, target: Option<&str>| Step {
        name: attack(place).into(),
        deed,
        target: target.map(Into::into),
        prefix: None,
        connectors: vec![connector("connector"), connector("missing")],
        when: Condition::default(),
        last: false,
    };
    let challenge = Deed::Impose(Action::StepUp, Limit { first: hour, growth: 2, ceiling: hour });
    let trigger = Trigger {
        on: On::Hand,
        rules: vec![],
        severity: Severity::Informational,
        tags: vec![],
        entity: vec!["user.name".into()],
    };
    Playbook {
        id: attack("playbook id").into(),
        name: NAME.into(),
        title: long("playbook title").into(),
        description: Some(long("playbook description").into()),
        date: "2026-11-28".into(),
        modified: "2026-11-28".into(),
        version: attack("playbook version").into(),
        body: Body {
            mode: Mode::Approve,
            trigger,
            conditions: Condition::default(),
            guards: Guards::default(),
            steps: vec![
                step("challenge", challenge, Some("user.name")),
                step("again", challenge, Some("user.name")),
                step("tell", Deed::Notify, None),
            ],
        },
        tests: vec![],
        file: attack("playbook file").into(),
        line: 1,
    }
}

fn rejected() -> Rejection {
    Rejection {
        file: attack("refused playbook").into(),
        line: 1,
        column: 1,
        rule_id: Some(attack("refused playbook").into()),
        code: "unknown-field",
        message: long("refused playbook"),
        help: Some(long("help")),
    }
}

/// What acts, with what was proposed for the alert: some of it as the gate left it, some told to a connector that gave it up.
pub async fn respond(store: &Store, at: Micros) -> Result<Response> {
    let set =
        PlaybookSet { playbooks: vec![playbook()], rejected: vec![rejected()], ..PlaybookSet::default() };
    let (_, playbooks) = watch::channel(Arc::new(set));
    let configured = ConnectorSettings { connector: connector("connector"), means: Means::Fetched(100) };
    let settings = Settings { connectors: vec![configured], ..Settings::default() };
    let response = Response::new(store.clone(), settings, playbooks);
    response.run_by_hand(ID, NAME, false, (&attack("proposer"), at)).await?;
    let query = ActionQuery { limit: 10, ..ActionQuery::default() };
    for (row, state) in
        store.actions(&query).await?.items.iter().zip([ActionState::Telling, ActionState::Waiting])
    {
        let change = ActionChange {
            state: Some(state),
            reasons: Some(vec![attack("reason"), long("reason")]),
            approved_by: Some(attack("approver")),
            tell: if state == ActionState::Telling { vec![attack("delivery")] } else { Vec::new() },
            ..ActionChange::default()
        };
        store.change_action(row.id, row.version, &change, &attack("actor"), "action_approved").await?;
    }
    let told = store.actions(&query).await?.items.into_iter().find(|row| row.state == ActionState::Telling);
    let deliveries = store.deliveries(told.context("none is told")?.id).await?;
    let delivery = deliveries.first().context("none is to be delivered")?;
    store.note_try(delivery, &Tried::Dead(long("what the other side said"))).await?;
    Ok(response)
}
