//! Letters by a real mail server: what is told arrives once for each recipient, in its thread, whatever way it goes.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use tokio::{sync::watch, time::sleep};
use vedette_act::{
    Board, Courier, Responder, Response, Settings,
    settings::{ConnectorSettings, Mail, MailTls, Means, Secret},
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
    model::{ActionQuery, ActionRow, ActionState, AlertRevision, Publication},
};

use super::exim::{Exim, PASSWORD};

fn now() -> Micros {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

/// Everything that acts, with a playbook that tells by mail what alerts there are.
struct Scene {
    _folder: tempfile::TempDir,
    store: Store,
    response: Response,
    responder: Responder,
}

impl Scene {
    async fn new(mail: Mail, steps: &[&str]) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let store = Store::open(StoreSettings::new(folder.path(), Access::Engine)).await?;
        let connector = Connector { kind: ConnectorKind::Email, name: "email/soc".into() };
        let of = ConnectorSettings { connector: connector.clone(), means: Means::Email(mail) };
        let set = PlaybookSet { playbooks: vec![playbook(&connector, steps)], ..PlaybookSet::default() };
        let settings = Settings { connectors: vec![of.clone()], ..Settings::default() };
        let response = Response::new(store.clone(), settings, watch::Sender::new(Arc::new(set)).subscribe());
        let mut responder = Responder::new(response.clone(), Board::new(Vec::new()));
        while responder.turn(now()).await?.more {}
        let courier = Courier::new(response.clone(), of, responder.wanted(), now);
        let courier = courier.map_err(anyhow::Error::msg)?.context("a courier")?;
        tokio::spawn(courier.run(std::future::pending()));
        Ok(Self { _folder: folder, store, response, responder })
    }

    /// Publishes an alert; what comes of it.
    async fn publish(&mut self, alert: &Alert) -> Result<Vec<ActionRow>> {
        let alerts = vec![AlertRevision::of(alert, vec!["waf".to_owned()], alert.last_seen)?];
        self.store.publish(&Publication { alerts, ..Publication::default() }).await?;
        self.actions().await
    }

    async fn actions(&mut self) -> Result<Vec<ActionRow>> {
        while self.responder.turn(now()).await?.more {}
        let query = ActionQuery { limit: 10, ..ActionQuery::default() };
        Ok(self.store.actions(&query).await?.items)
    }

    /// Publishes one, and waits until all of it is told or given up.
    async fn tell(&mut self, alert: &Alert) -> Result<Vec<ActionRow>> {
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

fn playbook(connector: &Connector, steps: &[&str]) -> Playbook {
    let step = |name: &&str| Step {
        name: (*name).into(),
        deed: Deed::Notify,
        target: None,
        prefix: None,
        connectors: vec![connector.clone()],
        when: Condition::default(),
        last: false,
    };
    let trigger = Trigger {
        on: On::Both,
        rules: vec![],
        severity: Severity::Informational,
        tags: vec![],
        entity: vec![],
    };
    let steps = steps.iter().map(step).collect();
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

fn alert(id: &str) -> Alert {
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

fn mail(exim: &Exim, tls: MailTls) -> Result<Mail> {
    let address = |text: &str| text.parse().with_context(|| text.to_owned());
    Ok(Mail {
        server: "localhost".to_owned(),
        port: if tls == MailTls::Implicit { exim.tls_port } else { exim.port },
        tls,
        private: true,
        authorities: Some(exim.ca_file()),
        from: address("Vedette <vedette@example.com>")?,
        to: vec![address("ann@example.com")?, address("\"Bj\u{f6}rn B\" <bob@example.com>")?],
        login: Some((Secret::new("soc"), Secret::new(PASSWORD))),
    })
}

/// The value of a header that fills one line.
fn header<'a>(letter: &'a str, name: &str) -> Option<&'a str> {
    let (head, _) = letter.split_once("\n\n")?;
    head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_mail_server_takes_letters_both_ways_and_keeps_their_thread() -> Result<()> {
    let Some(exim) = Exim::start()? else { return Ok(()) };
    for (n, tls) in [(1, MailTls::Starttls), (2, MailTls::Implicit)] {
        let mut scene = Scene::new(mail(&exim, tls)?, &["first", "second"]).await?;
        let rows = scene.tell(&alert(&format!("alert-{n}"))).await.with_context(|| exim.log())?;
        ensure!(rows.len() == 2 && rows.iter().all(|row| row.state == ActionState::Done), "{rows:?}");
    }
    // Two letters each way, to two recipients each.
    let letters = exim.letters(8)?;
    ensure!(letters.len() == 8, "{}", letters.join("\n=====\n"));
    for n in [1, 2] {
        let of: Vec<&String> =
            letters.iter().filter(|letter| letter.contains(&format!("alert-{n}"))).collect();
        let first: Vec<_> = of.iter().filter(|letter| header(letter, "References").is_none()).collect();
        ensure!((of.len(), first.len()) == (4, 2), "{letters:#?}");
        let root = header(first[0], "Message-ID").context("Message-ID")?;
        for letter in &of {
            let (references, to) = (header(letter, "References"), header(letter, "In-Reply-To"));
            ensure!(references == to && references.is_none_or(|of| of == root), "{letter}");
            let recipient = header(letter, "Envelope-to").context("Envelope-to")?;
            ensure!(["ann@example.com", "bob@example.com"].contains(&recipient), "{letter}");
            ensure!(letter.contains("[HIGH] Angriffe =?utf-8?"), "{letter}");
            ensure!(letter.lines().all(|line| line.len() <= 100), "{letter}");
        }
    }
    ensure!(exim.log().matches("A=plain:soc").count() == 4, "{}", exim.log());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_real_mail_server_refuses_is_told_as_it_is() -> Result<()> {
    let Some(exim) = Exim::start()? else { return Ok(()) };
    let of = || mail(&exim, MailTls::Starttls);
    // One recipient is gone, the other gets it.
    let to = vec!["gone@example.com".parse()?, "ann@example.com".parse()?];
    let mut scene = Scene::new(Mail { to, ..of()? }, &["tell"]).await?;
    let row = scene.tell(&alert("some")).await?.remove(0);
    ensure!(row.state == ActionState::Done, "{row:?}");
    ensure!(exim.letters(1)?.len() == 1);
    let health = scene.response.connectors().read();
    let failure = health.get("email/soc").and_then(|health| health.failure.clone());
    ensure!(failure.as_deref() == Some("not for gone@example.com: 550: no such user"), "{failure:?}");
    for (change, state, why) in [
        (
            Mail { login: Some((Secret::new("soc"), Secret::new("wrong"))), ..of()? },
            ActionState::Failed,
            "it refused the user: 535",
        ),
        (
            Mail { to: vec!["ann@example.org".parse()?], ..of()? },
            ActionState::Failed,
            "not for ann@example.org: 550: not relayed",
        ),
        (Mail { login: None, ..of()? }, ActionState::Failed, "550: who are you"),
    ] {
        let mut scene = Scene::new(change, &["tell"]).await?;
        let row = scene.tell(&alert("all")).await?.remove(0);
        let delivery = scene.store.deliveries(row.id).await?.remove(0);
        ensure!(row.state == state, "{row:?} {delivery:?}");
        ensure!(delivery.detail.as_deref().is_some_and(|detail| detail.contains(why)), "{why}: {delivery:?}");
    }
    // What may pass waits: one who is to come back later, a certificate of another host, an authority that is not known.
    for (change, why) in [
        (
            Mail { to: vec!["later@example.com".parse()?], ..of()? },
            "not for later@example.com: 451: come back later",
        ),
        (Mail { server: "127.0.0.1".to_owned(), ..of()? }, "certificate"),
        (Mail { server: "127.0.0.1".to_owned(), ..mail(&exim, MailTls::Implicit)? }, "no TLS with 127.0.0.1"),
        (Mail { authorities: None::<PathBuf>, ..of()? }, "certificate"),
    ] {
        let mut scene = Scene::new(change, &["tell"]).await?;
        let id = scene.publish(&alert("all")).await?.remove(0).id;
        let mut detail = None;
        for _ in 0..2_000 {
            detail = scene.store.deliveries(id).await?.remove(0).detail;
            if detail.is_some() {
                break;
            }
            sleep(Duration::from_millis(20)).await;
        }
        ensure!(detail.as_deref().is_some_and(|detail| detail.contains(why)), "{why}: {detail:?}");
    }
    ensure!(exim.letters(1)?.len() == 1, "{}", exim.log());
    Ok(())
}
