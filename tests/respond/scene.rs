//! Everything that acts, without a service around it: a store, a responder, couriers, a playbook that tells.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use tokio::{sync::watch, task::JoinHandle, time::sleep};
use vedette_act::{
    Board, Courier, Responder, Response, Settings,
    settings::{ConnectorSettings, Means},
};
use vedette_event::{
    Alert, Entity, Flags, Micros, RuleRef, Severity, State, Value,
    alert::{Explanation, Number},
};
use vedette_respond::{
    Condition, Connector, ConnectorKind, Deed, Playbook, PlaybookSet,
    playbook::{Body, Guards, Mode, On, Step, Trigger},
};
use vedette_store::{
    Access, Store, StoreSettings,
    model::{ActionQuery, ActionRow, AlertRevision, Publication},
};

pub fn now() -> Micros {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

/// A connector of this name.
pub fn connector(name: &str, means: Means) -> ConnectorSettings {
    let kind = name.split('/').next().and_then(ConnectorKind::parse).unwrap_or(ConnectorKind::Webhook);
    ConnectorSettings { connector: Connector { kind, name: name.into() }, means }
}

/// Everything that acts; couriers end with it.
pub struct Scene {
    _folder: tempfile::TempDir,
    pub store: Store,
    pub response: Response,
    responder: Responder,
    couriers: Vec<JoinHandle<()>>,
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.couriers.iter().for_each(JoinHandle::abort);
    }
}

impl Scene {
    /// With these connectors, each told what one step of a playbook each says.
    pub async fn new(connectors: Vec<ConnectorSettings>, steps: Vec<Step>) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let store = Store::open(StoreSettings::new(folder.path(), Access::Engine)).await?;
        let established = ["6e0c9c84-5d4c-4f7e-9a51-0d7bb2d2a001".into()].into();
        let set = PlaybookSet { playbooks: vec![playbook(steps)], established, ..PlaybookSet::default() };
        let settings = Settings { connectors, ..Settings::default() };
        let response = Response::new(store.clone(), settings, watch::Sender::new(Arc::new(set)).subscribe());
        let responder = Responder::new(response.clone(), Board::new(Vec::new()));
        let mut scene = Self { _folder: folder, store, response, responder, couriers: Vec::new() };
        scene.actions().await?;
        scene.begin().await?;
        Ok(scene)
    }

    /// Has all couriers begin, those before them ended wherever they were.
    pub async fn begin(&mut self) -> Result<()> {
        self.couriers.drain(..).for_each(|courier| courier.abort());
        for of in &self.response.settings().connectors {
            let courier = Courier::new(self.response.clone(), of.clone(), self.responder.wanted(), now);
            let mut courier = courier.map_err(anyhow::Error::msg)?.context("a courier")?;
            courier.begin().await?;
            self.couriers.push(tokio::spawn(courier.run(std::future::pending())));
        }
        Ok(())
    }

    /// Publishes an alert; what comes of it.
    pub async fn publish(&mut self, alert: &Alert) -> Result<Vec<ActionRow>> {
        let alerts = vec![AlertRevision::of(alert, vec!["waf".to_owned()], alert.last_seen)?];
        self.store.publish(&Publication { alerts, ..Publication::default() }).await?;
        self.actions().await
    }

    pub async fn actions(&mut self) -> Result<Vec<ActionRow>> {
        while self.responder.turn(now()).await?.more {}
        let query = ActionQuery { limit: 10, ..ActionQuery::default() };
        Ok(self.store.actions(&query).await?.items)
    }

    /// Publishes one, and waits until all of it is told or given up.
    pub async fn tell(&mut self, alert: &Alert) -> Result<Vec<ActionRow>> {
        let mut rows = self.publish(alert).await?;
        let began = Instant::now();
        while rows.iter().any(|row| row.state.is_open()) {
            ensure!(began.elapsed() < Duration::from_secs(30), "{:?}", self.response.connectors().read());
            sleep(Duration::from_millis(20)).await;
            rows = self.actions().await?;
        }
        Ok(rows)
    }
}

/// A step that tells people.
pub fn notify(name: &str, by: &[&str]) -> Step {
    let of = |name: &&str| connector(name, Means::Fetched(0)).connector;
    Step {
        name: name.into(),
        deed: Deed::Notify,
        target: None,
        prefix: None,
        connectors: by.iter().map(of).collect(),
        when: Condition::default(),
        last: false,
    }
}

fn playbook(steps: Vec<Step>) -> Playbook {
    let trigger = Trigger {
        on: On::Both,
        rules: vec![],
        severity: Severity::Informational,
        tags: vec![],
        entity: vec![],
    };
    let (conditions, guards) = (Condition::default(), Guards::default());
    Playbook {
        id: "tell".into(),
        name: "tell".into(),
        title: "Tell".into(),
        description: None,
        date: "2026-11-28".into(),
        modified: "2026-11-28".into(),
        version: "v".into(),
        body: Body { mode: Mode::Automatic, trigger, conditions, guards, steps },
        tests: vec![],
        file: "t.yml".into(),
        line: 1,
    }
}

/// An alert of high severity.
pub fn alert(id: &str) -> Alert {
    let at = Micros(1_700_000_000_000_000);
    let entity = Entity { kind: "client.ip".into(), value: Value::Text("203.0.113.9".into()) };
    let rule = RuleRef {
        id: "6e0c9c84-5d4c-4f7e-9a51-0d7bb2d2a001".into(),
        title: "Angriffe über die Brücke \u{1f525}".into(),
        level: Severity::High,
        kind: "single".into(),
        version: "v".into(),
        tags: Arc::from([]),
    };
    Alert {
        alert_id: id.into(),
        revision: 1,
        state: State::Active,
        continuation: false,
        rule: Arc::new(rule),
        key: BTreeMap::from([("client.ip".into(), Value::Text("203.0.113.9".into()))]),
        entity: Some(entity),
        first_seen: at,
        crossed_at: at,
        last_seen: at,
        count: 12,
        value: Number::Int(1),
        severity: Severity::High,
        risk: 0,
        summary: format!("12 attacks, \u{201e}GET /\u{201c}\r\n.\r\nQUIT\r\n{}", "long ".repeat(400)),
        evidence: vec![],
        evidence_total: 1,
        explanation: Explanation::default(),
        flags: Flags::NONE,
    }
}
