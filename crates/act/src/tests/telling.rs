//! Couriers, against servers on this machine that fail as real ones do.

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    sync::mpsc,
};
use vedette_store::model::DeliveryState;

use super::*;
use crate::{Connectors, Courier, settings::Secret};

/// A server that answers with these status lines one after the other, the last for ever; and what it was sent.
async fn answering(answers: &'static [&'static str]) -> (u16, mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (sent, received) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut answers = answers.iter().peekable();
        while let Ok((mut stream, _)) = listener.accept().await {
            let (mut bytes, mut part) = (Vec::new(), [0; 4_096]);
            loop {
                let n = stream.read(&mut part).await.unwrap_or(0);
                bytes.extend_from_slice(&part[..n]);
                let text = String::from_utf8_lossy(&bytes);
                let whole = text.split_once("\r\n\r\n").is_some_and(|(head, body)| {
                    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
                    length.is_none_or(|length| body.len() >= length.parse().unwrap())
                });
                if n == 0 || whole {
                    break;
                }
            }
            let _ = sent.send(String::from_utf8_lossy(&bytes).into_owned());
            let answer = if answers.len() > 1 { answers.next() } else { answers.peek().copied() };
            let answer = format!("HTTP/1.1 {}\r\ncontent-length: 0\r\n\r\n", answer.unwrap());
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    (port, received)
}

fn webhook(port: u16, private: bool) -> ConnectorSettings {
    let means = Means::Webhook {
        url: Secret::new(format!("http://127.0.0.1:{port}/in?key=hidden")),
        secret: Secret::new("s3cret"),
        private,
        authorities: None,
    };
    ConnectorSettings { connector: connector("webhook"), means }
}

async fn telling(settings: ConnectorSettings) -> (World, Connectors, tokio::task::JoinHandle<()>) {
    let name = settings.connector.name.clone();
    let steps = vec![step("tell", Deed::Notify, None, &[&*name])];
    let world = World::new(vec![playbook("tell", Mode::Automatic, steps)], vec![settings.clone()]).await;
    let health = world.response.connectors().clone();
    let courier =
        Courier::new(world.response.clone(), settings, world.responder.wanted(), now).unwrap().unwrap();
    let running = tokio::spawn(courier.run(std::future::pending()));
    (world, health, running)
}

/// Waits for the only action to come to a state.
pub(super) async fn comes_to(world: &mut World, state: ActionState) -> ActionRow {
    for _ in 0..600 {
        world.turns().await;
        let row = world.actions().await.remove(0);
        if row.state == state {
            return row;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("{:?} and not {state}", world.actions().await)
}

#[tokio::test]
async fn a_message_is_signed_and_comes_again_by_the_same_key_after_a_failure() {
    let (port, mut sent) = answering(&["503 Busy", "200 OK"]).await;
    let (mut world, health, running) = telling(webhook(port, true)).await;
    world.alert("a", 1, "203.0.113.9").await;
    let row = comes_to(&mut world, ActionState::Done).await;
    let (first, second) = (sent.recv().await.unwrap(), sent.recv().await.unwrap());
    let header = |request: &str, name: &str| {
        let line = request.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
        line.split_once(": ").unwrap().1.to_owned()
    };
    assert_eq!(header(&first, "idempotency-key"), header(&second, "idempotency-key"));
    let (head, body) = second.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("POST /in?key=hidden HTTP/1.1\r\n"));
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!(body["alert"]["alert_id"], "a");
    assert_eq!(body["deed"], "notify");
    assert!(header(&second, "vedette-signature").starts_with("v1="));
    let delivery = world.store.deliveries(row.id).await.unwrap().remove(0);
    assert_eq!((delivery.state, delivery.tries), (DeliveryState::Done, 2));
    assert_eq!(health.read()["webhook"].failed, 1);
    running.abort();
}

#[tokio::test]
async fn what_is_refused_is_given_up_and_tried_again_when_a_person_says_so() {
    let (port, mut sent) = answering(&["302 Found", "404 Not Found", "200 OK"]).await;
    let (mut world, _, running) = telling(webhook(port, true)).await;
    world.alert("a", 1, "203.0.113.9").await;
    let row = comes_to(&mut world, ActionState::Failed).await;
    let detail = world.store.deliveries(row.id).await.unwrap().remove(0).detail.unwrap();
    assert_eq!(detail, "it answered 302 Found, and redirects are not followed");
    assert!(!detail.contains("hidden"));
    world.response.replay(row.id, "ann").await.unwrap();
    comes_to(&mut world, ActionState::Failed).await;
    world.response.replay(row.id, "ann").await.unwrap();
    comes_to(&mut world, ActionState::Done).await;
    assert_eq!((0..3).filter(|_| sent.try_recv().is_ok()).count(), 3);
    running.abort();
}

#[tokio::test]
async fn nothing_goes_inside_the_network_unless_somebody_says_so() {
    let (port, mut sent) = answering(&["200 OK"]).await;
    let (mut world, _, running) = telling(webhook(port, false)).await;
    world.alert("a", 1, "203.0.113.9").await;
    let row = comes_to(&mut world, ActionState::Failed).await;
    let detail = world.store.deliveries(row.id).await.unwrap().remove(0).detail.unwrap();
    assert_eq!(detail, "`127.0.0.1` is not asked without TLS");
    assert!(sent.try_recv().is_err());
    running.abort();
}

#[tokio::test]
async fn a_connector_that_is_down_delays_no_other() {
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let (port, mut sent) = answering(&["200 OK"]).await;
    let slack = ConnectorSettings {
        connector: connector("slack/soc"),
        means: Means::Slack {
            url: Secret::new(format!("http://127.0.0.1:{port}/")),
            private: true,
            authorities: None,
        },
    };
    let (mut world, health, running) = telling(webhook(nobody, true)).await;
    let steps =
        vec![step("one", Deed::Notify, None, &["webhook"]), step("two", Deed::Notify, None, &["slack/soc"])];
    world.settings.connectors.push(slack.clone());
    world.playbooks.send_replace(Arc::new(PlaybookSet {
        playbooks: vec![playbook("tell", Mode::Automatic, steps)],
        ..PlaybookSet::default()
    }));
    world.restart();
    let courier =
        Courier::new(world.response.clone(), slack, world.responder.wanted(), now).unwrap().unwrap();
    let other = tokio::spawn(courier.run(std::future::pending()));
    world.alert("a", 1, "203.0.113.9").await;
    world.turns().await;
    let message = sent.recv().await.unwrap();
    assert!(message.contains("[HIGH] Attacks on the gateway: attacks from 203.0.113.9"), "{message}");
    for _ in 0..200 {
        if health.read().get("webhook").is_some_and(|health| health.rests_until.is_some()) {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert!(health.read()["webhook"].rests_until.is_some());
    assert_eq!(world.response.connectors().read()["slack/soc"].in_a_row, 0);
    running.abort();
    other.abort();
}

#[tokio::test]
async fn a_program_is_told_to_impose_and_to_withdraw_until_it_has() {
    let (port, mut sent) = answering(&["200 OK", "500 No", "200 OK"]).await;
    let settings = webhook(port, true);
    let limit = Limit { first: Span(HOUR), growth: 1, ceiling: Span(HOUR) };
    let hold = step("hold", Deed::Impose(Action::Throttle, limit), Some("client.ip"), &["webhook"]);
    let mut world =
        World::new(vec![playbook("hold", Mode::Automatic, vec![hold])], vec![settings.clone()]).await;
    let told = world.responder.wanted();
    let courier = Courier::new(world.response.clone(), settings, told, now).unwrap().unwrap();
    let running = tokio::spawn(courier.run(std::future::pending()));
    world.alert("a", 1, "203.0.113.9").await;
    let row = comes_to(&mut world, ActionState::Waiting).await;
    world.response.approve(row.id, ("ann", now())).await.unwrap();
    let row = comes_to(&mut world, ActionState::Live).await;
    let body = |request: String| -> serde_json::Value {
        serde_json::from_str(request.split_once("\r\n\r\n").unwrap().1).unwrap()
    };
    let imposed = body(sent.recv().await.unwrap());
    assert_eq!((&imposed["command"], &imposed["action"]), (&"impose".into(), &"throttle".into()));
    assert_eq!(imposed["target"], serde_json::json!({"type": "network", "value": "203.0.113.9/32"}));
    assert_eq!(imposed["until"], row.until.unwrap().to_string());
    for _ in 0..100 {
        if !world.store.held("webhook").await.unwrap().is_empty() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    world.response.revert(row.id, None, "ann").await.unwrap();
    world.turns().await;
    let (failed, again) = (sent.recv().await.unwrap(), sent.recv().await.unwrap());
    assert_eq!(body(failed)["command"], "withdraw");
    assert!(!again.contains("idempotency-key"), "the next block of this address would be ignored");
    assert_eq!(body(again)["command"], "withdraw");
    for _ in 0..100 {
        if world.store.held("webhook").await.unwrap().is_empty() {
            running.abort();
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("{:?}", world.store.held("webhook").await);
}

#[tokio::test]
async fn what_a_program_refuses_keeps_nothing_else_from_it_and_no_message_holds_a_command_up() {
    let (port, mut sent) = answering(&["503 Later\r\nretry-after: 3600", "400 Unknown", "200 OK"]).await;
    let settings = webhook(port, true);
    let limit = Limit { first: Span(HOUR), growth: 1, ceiling: Span(HOUR) };
    let hold = step("hold", Deed::Impose(Action::Throttle, limit), Some("client.ip"), &["webhook"]);
    let tell = step("tell", Deed::Notify, None, &["webhook"]);
    let playbooks = vec![playbook("tell", Mode::Automatic, vec![tell])];
    let mut world = World::new(playbooks, vec![settings.clone()]).await;
    let courier = Courier::new(world.response.clone(), settings, world.responder.wanted(), now);
    let running = tokio::spawn(courier.unwrap().unwrap().run(std::future::pending()));
    world.alert("a", 1, "203.0.113.9").await;
    world.turns().await;
    assert!(sent.recv().await.unwrap().contains("vedette.action"));
    // The message is to be tried in an hour. Two countermeasures come, the first of which is refused.
    world.playbooks.send_replace(Arc::new(PlaybookSet {
        playbooks: vec![playbook("hold", Mode::Automatic, vec![hold])],
        established: [RULE.into()].into(),
        ..PlaybookSet::default()
    }));
    for (id, address) in [("b", "203.0.113.1"), ("c", "203.0.113.2")] {
        world.alert(id, 1, address).await;
    }
    world.turns().await;
    for row in waiting(&world.store).await {
        world.response.approve(row.id, ("ann", now())).await.unwrap();
    }
    world.turns().await;
    assert!(sent.recv().await.unwrap().contains("203.0.113.1/32"));
    assert!(sent.recv().await.unwrap().contains("203.0.113.2/32"));
    assert!(sent.recv().await.unwrap().contains("203.0.113.1/32"), "tried again after a second");
    running.abort();
}
