//! From an alert to what is in force, and back.

use super::*;
use crate::{ActError, Spared};
use vedette_store::model::{ActionChange, NewAction};

async fn blocking() -> World {
    let steps = vec![block(&["crowdsec"])];
    World::new(vec![playbook("contain", Mode::Automatic, steps)], vec![fetched("crowdsec")]).await
}

fn spared(network: &str) -> Vec<Spared> {
    vec![Spared { network: Some(network.into()), field: None, value: None, note: "market maker".into() }]
}

#[tokio::test]
async fn an_alert_is_proposed_approved_in_force_and_over() {
    let mut world = blocking().await;
    world.alert("a", 1, "203.0.113.9").await;
    world.turns().await;
    let waiting = world.actions().await.remove(0);
    // Nobody knows how many users it hits.
    assert_eq!((waiting.state, waiting.people), (ActionState::Waiting, 1), "{:?}", waiting.reasons);
    assert!(world.in_force("crowdsec", now()).is_empty());
    let approved = world.response.approve(waiting.id, ("ann", now())).await.unwrap();
    assert_eq!(approved.state, ActionState::Due);
    world.turns().await;
    let live = world.actions().await.remove(0);
    assert_eq!(live.state, ActionState::Live);
    assert_eq!(live.until.unwrap().since(live.acted_at.unwrap()), Span(HOUR));
    assert_eq!(world.in_force("crowdsec", now()), ["block_address 203.0.113.9"]);
    // A revision, and another start, propose nothing anew.
    world.alert("a", 2, "203.0.113.9").await;
    world.restart();
    world.turns().await;
    assert_eq!(world.actions().await.len(), 1);
    assert_eq!(world.in_force("crowdsec", now()), ["block_address 203.0.113.9"]);
    let end = live.until.unwrap();
    world.turns_at(Micros(end.0 - 1)).await;
    assert_eq!(world.actions().await[0].state, ActionState::Live);
    let turn = world.responder.turn(end).await.unwrap();
    assert_eq!(turn.next, None);
    assert_eq!(world.actions().await[0].state, ActionState::Expired);
    assert!(world.in_force("crowdsec", end).is_empty());
    let steps = world.store.action_steps(waiting.id).await.unwrap();
    let steps: Vec<&str> = steps.iter().map(|step| step.action.as_str()).collect();
    let ordered = ["action_proposed", "action_approved", "action_ordered"];
    assert_eq!(steps[..3], ordered);
    assert_eq!(steps[3..], ["action_unconfirmed", "action_expired"], "no enforcement point said anything");
}

#[tokio::test]
async fn what_a_notice_started_its_alert_does_not_start_again() {
    let mut world = blocking().await;
    let notices = vec![notice("n", "203.0.113.9")];
    world.publish(Publication { notices, ..Publication::default() }).await;
    world.turns().await;
    world.alert("a", 1, "203.0.113.9").await;
    world.turns().await;
    let actions = world.actions().await;
    assert_eq!(actions.len(), 1);
    assert_eq!(actions[0].alert_id, "n");
}

#[tokio::test]
async fn what_is_spared_later_comes_out_of_what_is_live_and_so_does_all_by_the_kill_switch() {
    let mut world = blocking().await;
    let wide = Step { prefix: Some(vedette_respond::Prefix { ipv4: 24, ipv6: 48 }), ..block(&["crowdsec"]) };
    let set = PlaybookSet {
        playbooks: vec![playbook("contain", Mode::Automatic, vec![wide])],
        established: [RULE.into()].into(),
        ..PlaybookSet::default()
    };
    world.playbooks.send_replace(Arc::new(set));
    world.alert("a", 1, "203.0.113.9").await;
    world.turns().await;
    let waiting = world.actions().await.remove(0);
    world.response.approve(waiting.id, ("ann", now())).await.unwrap();
    world.turns().await;
    assert_eq!(world.in_force("crowdsec", now()), ["block_address 203.0.113.0/24"]);
    let guards = world.response.guards().await.unwrap();
    world.response.set_never_block(&spared("203.0.113.128/25"), guards.version, "ann").await.unwrap();
    world.turns().await;
    assert_eq!(world.in_force("crowdsec", now()), ["block_address 203.0.113.0/25"]);
    world.restart();
    world.turns().await;
    assert_eq!(world.in_force("crowdsec", now()), ["block_address 203.0.113.0/25"]);
    world.response.throw_kill_switch(true, "ann").await.unwrap();
    world.turns().await;
    assert!(world.in_force("crowdsec", now()).is_empty());
    assert_eq!(world.actions().await[0].state, ActionState::Reverted);
    world.alert("b", 1, "203.0.113.10").await;
    world.turns().await;
    assert_eq!(world.actions().await[1].state, ActionState::Refused);
    world.response.throw_kill_switch(false, "ann").await.unwrap();
    world.turns().await;
    assert!(world.in_force("crowdsec", now()).is_empty(), "what was taken back stays so");
    let bad = world.response.set_never_block(&spared("nobody"), 3, "ann").await;
    assert!(matches!(bad, Err(ActError::BadEntry(1))), "{bad:?}");
}

#[tokio::test]
async fn people_reject_and_take_back_and_what_nobody_approves_lapses() {
    let mut world = blocking().await;
    for (id, address) in [("a", "203.0.113.1"), ("b", "203.0.113.2"), ("c", "203.0.113.3")] {
        world.alert(id, 1, address).await;
    }
    world.turns().await;
    let ids: Vec<i64> = world.actions().await.iter().map(|row| row.id).collect();
    world.response.reject(ids[0], Some("known scanner"), "ann").await.unwrap();
    world.response.approve(ids[1], ("ann", now())).await.unwrap();
    world.turns().await;
    let early = world.response.approve(ids[1], ("ann", now())).await;
    assert!(matches!(early, Err(ActError::WrongState { state: ActionState::Live, .. })), "{early:?}");
    world.response.revert(ids[1], None, "ann").await.unwrap();
    world.turns().await;
    assert!(world.in_force("crowdsec", now()).is_empty());
    let lapse = world.settings.policy.lapse;
    world.turns_at(now().plus(lapse)).await;
    let states: Vec<ActionState> = world.actions().await.iter().map(|row| row.state).collect();
    assert_eq!(states, [ActionState::Rejected, ActionState::Reverted, ActionState::Lapsed]);
    assert!(world.actions().await[0].reasons.iter().any(|reason| reason == "ann: known scanner"));
}

#[tokio::test]
async fn a_dry_run_by_hand_says_whom_it_would_hit_and_writes_nothing() {
    let world = blocking().await;
    world.alert("a", 1, "203.0.113.9").await;
    world.playbooks.send_replace(Arc::new(PlaybookSet {
        playbooks: vec![playbook("other", Mode::Automatic, vec![block(&["crowdsec"]), block(&["edl/x"])])],
        established: [RULE.into()].into(),
        ..PlaybookSet::default()
    }));
    let plan = world.response.run_by_hand("a", "other", true, ("ann", now())).await.unwrap();
    assert_eq!(plan.steps[0].target.as_deref(), Some("203.0.113.9"));
    assert_eq!((plan.steps[0].state, plan.steps[0].action), (ActionState::Waiting, None));
    assert_eq!(plan.steps[1].state, ActionState::Refused);
    assert_eq!(plan.steps[1].reasons.last().unwrap(), "the configuration has no connector `edl/x`");
    assert!(world.actions().await.is_empty());
    let done = world.response.run_by_hand("a", "other", false, ("ann", now())).await.unwrap();
    let again = world.response.run_by_hand("a", "other", false, ("ann", now())).await.unwrap();
    assert_eq!(done.steps[0].action, again.steps[0].action, "the same again is the same");
    assert_eq!(world.actions().await[0].proposer.as_deref(), Some("ann"));
    let none = world.response.run_by_hand("a", "nothing", true, ("ann", now())).await;
    assert_eq!(none.unwrap_err().to_string(), "there is no playbook `nothing`; there are: other");
}

#[tokio::test]
async fn where_two_are_needed_nobody_approves_what_is_their_own() {
    let mut world = blocking().await;
    world.alert("a", 1, "203.0.113.9").await;
    let mut own = playbook("two", Mode::Automatic, vec![block(&["crowdsec"])]);
    own.body.guards.people = Some(2);
    own.body.trigger.on = On::Hand;
    world.playbooks.send_replace(Arc::new(PlaybookSet { playbooks: vec![own], ..PlaybookSet::default() }));
    let run = world.response.run_by_hand("a", "two", false, ("ann", now())).await.unwrap();
    let id = run.steps[0].action.unwrap();
    let refused = world.response.approve(id, ("ann", now())).await;
    assert!(matches!(refused, Err(ActError::OwnProposal(_))), "{refused:?}");
    let one = world.response.approve(id, ("bob", now())).await.unwrap();
    assert_eq!(one.state, ActionState::Waiting);
    let twice = world.response.approve(id, ("bob", now())).await.unwrap();
    assert_eq!(twice.state, ActionState::Waiting, "one person is one");
    let two = world.response.approve(id, ("cyd", now())).await.unwrap();
    assert_eq!(two.state, ActionState::Due);
    world.turns().await;
    assert_eq!(world.in_force("crowdsec", now()), ["block_address 203.0.113.9"]);
}

#[tokio::test]
async fn a_caller_who_is_gone_hides_no_revert() {
    use std::task::{Context, Waker};
    let mut world = blocking().await;
    world.alert("a", 1, "203.0.113.9").await;
    world.turns().await;
    let id = waiting(&world.store).await.remove(0).id;
    world.response.approve(id, ("ann", now())).await.unwrap();
    world.turns().await;
    assert_eq!(world.in_force("crowdsec", now()), ["block_address 203.0.113.9"]);
    // More changes than are read at once, so that there is a wait behind the revert.
    let reverted = world.response.revert(id, None, "ann").await.unwrap();
    let others = (0..520).map(|n| {
        let row = ActionRow { state: ActionState::DryRun, order: None, ..reverted.clone() };
        NewAction { proposal_id: n.to_string(), row }
    });
    world.store.propose(&others.collect::<Vec<_>>(), None).await.unwrap();
    let response = world.response.clone();
    // Each goes on with what those before it have taken up, and is gone at one of the waits.
    for waits in 1..12 {
        let mut asking = Box::pin(response.mirror());
        for _ in 0..waits {
            if asking.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready() {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
    }
    world.turns().await;
    assert!(world.in_force("crowdsec", now()).is_empty());
}

#[tokio::test]
async fn an_order_that_cannot_be_read_hides_no_other() {
    let mut world = blocking().await;
    for (id, address) in [("a", "203.0.113.9"), ("b", "203.0.113.10")] {
        world.alert(id, 1, address).await;
    }
    world.turns().await;
    let mut rows = waiting(&world.store).await;
    let broken = ActionChange {
        state: Some(ActionState::Live),
        order: Some(("{\"of\":\"a later version\"}".into(), now(), Micros(now().0 + HOUR))),
        ..ActionChange::default()
    };
    let first = rows.remove(0);
    world.store.change_action(first.id, first.version, &broken, "vedette", "action_ordered").await.unwrap();
    world.response.approve(rows[0].id, ("ann", now())).await.unwrap();
    world.turns().await;
    assert_eq!(world.in_force("crowdsec", now()), ["block_address 203.0.113.10"]);
    let reverted = world.response.revert(first.id, None, "ann").await.unwrap();
    assert_eq!(reverted.state, ActionState::Reverted);
}
