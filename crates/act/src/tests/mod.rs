//! The crate as a whole, on a real store.
#![allow(clippy::unwrap_used)]

mod acting;
mod dag;
mod dag_sequences;
mod double;
mod kills;
mod mailing;
mod recalled;
mod sequences;
mod telling;
mod witness;

use std::{collections::BTreeMap, sync::Arc};

use tempfile::TempDir;
use tokio::sync::watch;
use vedette_event::{
    Alert, Entity, Flags, Micros, Notice, RuleIx, RuleRef, Severity, Span, State, Value,
    alert::{Explanation, Number},
};
use vedette_respond::{
    Action, Condition, Connector, ConnectorKind, Deed, Limit, Playbook, PlaybookSet,
    playbook::{Body, Guards, Mode, On, Step, Trigger},
};
use vedette_store::{
    Access, Store, StoreSettings,
    model::{ActionQuery, ActionRow, ActionState, AlertRevision, NewNotice, Publication},
};

use crate::{
    Board, Responder, Response, Settings,
    settings::{ConnectorSettings, Means},
};

const SECOND: i64 = 1_000_000;
const HOUR: i64 = 3_600 * SECOND;
const RULE: &str = "6e0c9c84-5d4c-4f7e-9a51-0d7bb2d2a001";

/// The wall clock, which the store stamps its rows with.
fn now() -> Micros {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    Micros(since.as_micros().try_into().unwrap())
}

fn connector(name: &str) -> Connector {
    let kind = name.split('/').next().unwrap();
    Connector { kind: ConnectorKind::parse(kind).unwrap(), name: name.into() }
}

fn step(name: &str, deed: Deed, target: Option<&str>, connectors: &[&str]) -> Step {
    Step {
        name: name.into(),
        deed,
        target: target.map(Into::into),
        prefix: None,
        connectors: connectors.iter().map(|name| connector(name)).collect(),
        when: Condition::default(),
        last: false,
    }
}

fn block(connectors: &[&str]) -> Step {
    let limit = Limit { first: Span(HOUR), growth: 1, ceiling: Span(2 * HOUR) };
    step("block", Deed::Impose(Action::BlockAddress, limit), Some("client.ip"), connectors)
}

fn playbook(name: &str, mode: Mode, steps: Vec<Step>) -> Playbook {
    let trigger = Trigger {
        on: On::Both,
        rules: vec![],
        severity: Severity::Informational,
        tags: vec![],
        entity: vec![],
    };
    Playbook {
        id: name.into(),
        name: name.into(),
        title: name.into(),
        description: None,
        date: "2026-11-28".into(),
        modified: "2026-11-28".into(),
        version: "v".into(),
        body: Body { mode, trigger, conditions: Condition::default(), guards: Guards::default(), steps },
        tests: vec![],
        file: "t.yml".into(),
        line: 1,
    }
}

/// One engine with its responder, which can be dropped and made anew on the same store.
struct World {
    _folder: TempDir,
    store: Store,
    settings: Settings,
    playbooks: watch::Sender<Arc<PlaybookSet>>,
    response: Response,
    responder: Responder,
}

fn fetched(name: &str) -> ConnectorSettings {
    ConnectorSettings { connector: connector(name), means: Means::Fetched(1_000) }
}

impl World {
    async fn new(playbooks: Vec<Playbook>, connectors: Vec<ConnectorSettings>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(StoreSettings::new(folder.path(), Access::Engine)).await.unwrap();
        let set = PlaybookSet { playbooks, established: [RULE.into()].into(), ..PlaybookSet::default() };
        let playbooks = watch::Sender::new(Arc::new(set));
        let settings = Settings { connectors, ..Settings::default() };
        let (response, responder) = begin(&store, &settings, &playbooks);
        let mut world = Self { _folder: folder, store, settings, playbooks, response, responder };
        world.turns().await;
        world
    }

    /// As after a crash: nothing is left but the store.
    fn restart(&mut self) {
        (self.response, self.responder) = begin(&self.store, &self.settings, &self.playbooks);
    }

    async fn turns_at(&mut self, now: Micros) {
        while self.responder.turn(now).await.unwrap().more {}
    }

    async fn turns(&mut self) {
        self.turns_at(now()).await;
    }

    async fn actions(&self) -> Vec<ActionRow> {
        let query = ActionQuery { limit: 500, ..ActionQuery::default() };
        let mut rows = self.store.actions(&query).await.unwrap().items;
        rows.reverse();
        rows
    }

    /// What is to be in force at an outlet now, as texts.
    fn in_force(&self, outlet: &str, now: Micros) -> Vec<String> {
        let wanted = self.responder.wanted().borrow().clone().unwrap();
        let (in_force, _) = wanted.desired.in_force(outlet, &wanted.world, now);
        in_force.iter().map(|of| format!("{} {}", of.action, of.target)).collect()
    }

    async fn publish(&self, publication: Publication) {
        self.store.publish(&publication).await.unwrap();
    }

    async fn alert(&self, id: &str, revision: u32, address: &str) {
        self.publish(Publication { alerts: vec![alert(id, revision, address)], ..Publication::default() })
            .await;
    }
}

fn begin(
    store: &Store,
    settings: &Settings,
    playbooks: &watch::Sender<Arc<PlaybookSet>>,
) -> (Response, Responder) {
    let response = Response::new(store.clone(), settings.clone(), playbooks.subscribe());
    let board = Board::new(settings.outlets());
    let responder = Responder::new(response.clone(), board);
    (response, responder)
}

/// Actions that wait for approval, oldest first.
async fn waiting(store: &Store) -> Vec<ActionRow> {
    let query = ActionQuery { states: vec![ActionState::Waiting], limit: 500, ..ActionQuery::default() };
    let mut rows = store.actions(&query).await.unwrap().items;
    rows.reverse();
    rows
}

fn key(address: &str) -> BTreeMap<Arc<str>, Value> {
    [(Arc::from("client.ip"), Value::Text(address.into()))].into()
}

fn rule() -> Arc<RuleRef> {
    let tags = Arc::from([]);
    Arc::new(RuleRef {
        id: RULE.into(),
        title: "Attacks on the gateway".into(),
        level: Severity::High,
        kind: "single".into(),
        version: "v".into(),
        tags,
    })
}

fn alert(id: &str, revision: u32, address: &str) -> AlertRevision {
    let body = alert_body(id, revision, address);
    AlertRevision::of(&body, vec!["waf".to_owned()], Micros(60 * SECOND + HOUR)).unwrap()
}

fn alert_body(id: &str, revision: u32, address: &str) -> Alert {
    let at = Micros(60 * SECOND);
    let entity = Entity { kind: "client.ip".into(), value: Value::Text(address.into()) };
    Alert {
        alert_id: id.into(),
        revision,
        state: State::Active,
        continuation: false,
        rule: rule(),
        key: key(address),
        entity: Some(entity),
        first_seen: at,
        crossed_at: at,
        last_seen: at,
        count: u64::from(revision),
        value: Number::Int(1),
        severity: Severity::High,
        risk: 0,
        summary: format!("attacks from {address}"),
        evidence: vec![],
        evidence_total: 1,
        explanation: Explanation::default(),
        flags: Flags::NONE,
    }
}

fn notice(id: &str, address: &str) -> NewNotice {
    let at = Micros(60 * SECOND);
    let entity = Entity { kind: "client.ip".into(), value: Value::Text(address.into()) };
    let body = Notice {
        notice_id: id.into(),
        rule_ix: RuleIx(0),
        rule: rule(),
        key: key(address),
        entity: Some(entity),
        crossed_at: at,
        count: 1,
        value: Number::Int(1),
        severity: Severity::High,
        summary: format!("attacks from {address}"),
        evidence: vec![],
    };
    NewNotice::of(&body, vec!["waf".to_owned()]).unwrap()
}
