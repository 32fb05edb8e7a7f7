//! SIGKILL at any moment, a hundred times: every alert is answered, nothing is done twice, and only messages are repeated.

use std::{
    collections::BTreeMap,
    env,
    io::{Read as _, Write as _},
    net::TcpListener,
    path::Path,
    process::{Command, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use vedette_store::model::RowState;

use super::*;
use crate::{Courier, settings::Secret};

const ALERTS: usize = 240;
const KILLS: usize = 100;
/// Where a life finds its store, and the port of whom it tells.
const FOLDER: &str = "VEDETTE_ACT_LIFE_FOLDER";
const PORT: &str = "VEDETTE_ACT_LIFE_PORT";

/// How often each key came.
type Heard = Arc<Mutex<BTreeMap<String, usize>>>;

/// Takes every message, and notes its key.
fn listening() -> (u16, Heard) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (port, heard) = (listener.local_addr().unwrap().port(), Heard::default());
    let noted = heard.clone();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            let (mut bytes, mut part) = (Vec::new(), [0; 4_096]);
            while !bytes.ends_with(b"}") {
                match stream.read(&mut part) {
                    Ok(n) if n > 0 => bytes.extend_from_slice(&part[..n]),
                    _ => break,
                }
            }
            let text = String::from_utf8_lossy(&bytes);
            let key = text.lines().find_map(|line| line.strip_prefix("idempotency-key: "));
            if let Some(key) = key.filter(|_| bytes.ends_with(b"}")) {
                *noted.lock().unwrap().entry(key.to_owned()).or_default() += 1;
            }
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
        }
    });
    (port, heard)
}

fn webhook(port: &str) -> ConnectorSettings {
    let means = Means::Webhook {
        url: Secret::new(format!("http://127.0.0.1:{port}/")),
        secret: Secret::new("s3cret"),
        private: true,
        authorities: None,
    };
    ConnectorSettings { connector: connector("webhook"), means }
}

fn id(n: usize) -> String {
    format!("a{n:03}")
}

async fn open(folder: &Path) -> Store {
    Store::open(StoreSettings::new(folder, Access::Engine)).await.unwrap()
}

/// One life: alerts come, playbooks look at them, somebody approves, a courier tells; until all is done or it is killed.
#[test]
#[ignore = "a life that is to be killed; `a_hundred_kills` starts it"]
fn life() {
    let (Ok(folder), Ok(port)) = (env::var(FOLDER), env::var(PORT)) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let store = open(Path::new(&folder)).await;
        let steps = vec![block(&["crowdsec"]), step("tell", Deed::Notify, None, &["webhook"])];
        let set = PlaybookSet {
            playbooks: vec![playbook("both", Mode::Automatic, steps)],
            established: [RULE.into()].into(),
            ..PlaybookSet::default()
        };
        let playbooks = watch::Sender::new(Arc::new(set));
        let connectors = vec![fetched("crowdsec"), webhook(&port)];
        let settings = Settings { connectors: connectors.clone(), ..Settings::default() };
        let (response, mut responder) = begin(&store, &settings, &playbooks);
        let courier = Courier::new(response.clone(), connectors[1].clone(), responder.wanted(), now);
        tokio::spawn(courier.unwrap().unwrap().run(std::future::pending()));
        // The position is set before the first alert, as in a service.
        while responder.turn(now()).await.unwrap().more {}
        for n in 0..ALERTS {
            if store.alert(&id(n)).await.unwrap().is_none() {
                let address = format!("203.0.{}.{}", n / 200, n % 200 + 1);
                let alerts = vec![alert(&id(n), 1, &address)];
                store.publish(&Publication { alerts, ..Publication::default() }).await.unwrap();
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            while responder.turn(now()).await.unwrap().more {}
            for row in waiting(&store).await {
                response.approve(row.id, ("ann", now())).await.unwrap();
            }
        }
        loop {
            while responder.turn(now()).await.unwrap().more {}
            let counts = store.action_counts().await.unwrap();
            let of = |state| counts.get(&state).copied().unwrap_or_default();
            if of(ActionState::Live) + of(ActionState::Done) == 2 * ALERTS as u64 {
                return;
            }
            for row in waiting(&store).await {
                response.approve(row.id, ("ann", now())).await.unwrap();
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
}

#[test]
fn a_hundred_kills_lose_nothing_and_repeat_nothing_but_messages() {
    let folder = tempfile::tempdir().unwrap();
    let (port, heard) = listening();
    let begin = || {
        let mut life = Command::new(env::current_exe().unwrap());
        life.args(["--exact", "tests::kills::life", "--ignored", "--nocapture"]);
        life.env(FOLDER, folder.path()).env(PORT, port.to_string());
        life.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    };
    let (mut kills, mut unopened) = (0, 0);
    for n in 0_u64.. {
        if kills == KILLS {
            break;
        }
        assert!(n < 2 * KILLS as u64, "of {n} lives only {kills} were killed: the others came to their end");
        let mut life = begin();
        // Spread over the start and what comes after it; the same moments each time, and never the same state.
        thread::sleep(Duration::from_millis(15 + (n * 37) % 160));
        kills += usize::from(life.try_wait().unwrap().is_none());
        unopened += usize::from(!folder.path().join("vedette.db").exists());
        life.kill().unwrap();
        life.wait().unwrap();
    }
    assert!(begin().wait().unwrap().success(), "the last life comes to its end");

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let store = open(folder.path()).await;
        let (mut rows, mut before) = (Vec::new(), None);
        loop {
            let query = ActionQuery { before, limit: 500, ..ActionQuery::default() };
            let page = store.actions(&query).await.unwrap();
            rows.extend(page.items);
            let Some(cursor) = page.next_cursor else { break };
            before = Some(cursor.parse().unwrap());
        }
        assert_eq!(rows.len(), 2 * ALERTS, "each alert is answered once by each step");
        for row in &rows {
            assert_eq!(store.alert(&row.alert_id).await.unwrap().unwrap().state, RowState::Active);
            let steps = store.action_steps(row.id).await.unwrap();
            let steps: Vec<&str> = steps.iter().map(|step| step.action.as_str()).collect();
            match row.deed.as_str() {
                "notify" => assert_eq!(steps, ["action_proposed", "action_sent", "action_told"]),
                _ => assert_eq!(steps, ["action_proposed", "action_approved", "action_ordered"]),
            }
        }
    });
    let heard = heard.lock().unwrap();
    let repeated: usize = heard.values().map(|times| times - 1).sum();
    println!("{kills} kills, {unopened} before there was a store; {repeated} messages repeated");
    assert_eq!(heard.len(), ALERTS, "each message came, by a key of its own");
    assert!(repeated <= KILLS, "{repeated} messages came again");
}
