//! Actions, deliveries and the position of playbooks.

use super::*;
use crate::Setting;

pub(super) fn proposal(id: &str, state: ActionState) -> NewAction {
    let row = ActionRow {
        id: 0,
        state,
        playbook: "perimeter-block".to_owned(),
        step: "block".to_owned(),
        deed: "block_address".to_owned(),
        action: Some("block_address".to_owned()),
        target: Some("203.0.113.9".to_owned()),
        alert_id: "a".to_owned(),
        rule_id: "rule-1".to_owned(),
        severity: Severity::High,
        proposal: "{\"id\":1}".to_owned(),
        reasons: vec!["the playbook asks for 1 to approve it".to_owned()],
        proposer: None,
        approvals: Vec::new(),
        people: 1,
        order: None,
        acted_at: None,
        until: None,
        effect: None,
        effect_at: None,
        proposed_at: Micros(5),
        changed_at: Micros(0),
        version: 0,
        seq: 0,
    };
    NewAction { proposal_id: id.to_owned(), row }
}

fn to_state(state: ActionState) -> ActionChange {
    ActionChange { state: Some(state), ..ActionChange::default() }
}

#[tokio::test]
async fn playbooks_begin_at_the_newest_and_see_each_alert_and_notice_since_then() {
    let (_folder, store) = store().await;
    publish_alerts(&store, vec![alert("old", 1, 1, 5)]).await;
    store.begin_responding().await.unwrap();
    let begun = store.response_state().await.unwrap().position.unwrap();
    assert!(store.to_respond(begun, 10).await.unwrap().0.is_empty(), "history is left alone");
    let of = alert("a", 1, 10, 5);
    publish_notices(&store, vec![notice("n", &of)]).await;
    publish_alerts(&store, vec![of.clone(), alert("b", 1, 11, 5), alert("a", 2, 10, 6)]).await;
    let (seen, reached) = store.to_respond(begun, 10).await.unwrap();
    let ids: Vec<(&str, bool)> = seen.iter().map(|of| (of.id.as_str(), of.notice)).collect();
    assert_eq!(ids, [("n", true), ("a", false), ("b", false)]);
    assert_eq!(seen[1].covers, ["n"]);
    assert!(seen[1].body.contains("\"revision\":2"), "of revisions the newest");
    store.begin_responding().await.unwrap();
    assert_eq!(store.response_state().await.unwrap().position, Some(begun), "it begins once");
    store.propose(&[], Some(reached)).await.unwrap();
    store.propose(&[], Some(begun)).await.unwrap();
    assert_eq!(store.response_state().await.unwrap().position, Some(reached), "never back");
    assert!(store.to_respond(reached, 10).await.unwrap().0.is_empty());
    publish_alerts(&store, vec![alert("b", 2, 11, 50)]).await;
    assert_eq!(store.to_respond(reached, 10).await.unwrap().0[0].id, "b");
    let (mut position, mut ids) = (begun, Vec::new());
    while let (some, next) = store.to_respond(position, 1).await.unwrap()
        && next > position
    {
        ids.extend(some.into_iter().map(|of| of.id));
        position = next;
    }
    ids.dedup();
    assert_eq!(ids, ["n", "a", "b"], "in steps none is left out; one revised again may come again");
}

#[tokio::test]
async fn what_happened_while_playbooks_were_away_for_long_is_found_without_the_changes() {
    let folder = tempfile::tempdir().unwrap();
    let settings = StoreSettings { changes_kept: 8, ..StoreSettings::new(folder.path(), Access::Engine) };
    let store = Store::open(settings).await.unwrap();
    store.begin_responding().await.unwrap();
    let ids: Vec<String> = (0..40).map(|n| format!("a{n:02}")).collect();
    for id in &ids {
        publish_alerts(&store, vec![alert(id, 1, 10, 5)]).await;
    }
    let (mut position, mut seen) = (store.response_state().await.unwrap().position.unwrap(), Vec::new());
    while let (some, next) = store.to_respond(position, 7).await.unwrap()
        && next > position
    {
        seen.extend(some.into_iter().map(|of| of.id));
        position = next;
    }
    assert_eq!(seen, ids);
}

#[tokio::test]
async fn a_proposal_is_written_once_and_each_step_is_kept() {
    let (_folder, store) = store().await;
    let new = proposal("p", ActionState::Waiting);
    let row = store.propose(std::slice::from_ref(&new), Some(7)).await.unwrap().remove(0);
    let again = store.propose(&[new], Some(7)).await.unwrap().remove(0);
    assert_eq!(row, again);
    let approve = ActionChange { approved_by: Some("ann".to_owned()), ..to_state(ActionState::Due) };
    let due = store.change_action(row.id, row.version, &approve, "ann", "action_approved").await.unwrap();
    assert_eq!(
        (due.state, due.approvals.as_slice(), due.version),
        (ActionState::Due, &["ann".to_owned()][..], 2)
    );
    let stale = store.change_action(row.id, row.version, &approve, "bob", "action_approved").await;
    assert!(matches!(stale, Err(crate::Error::Stale { version: 2, .. })), "{stale:?}");
    let live = ActionChange {
        order: Some(("{}".to_owned(), Micros(10), Micros(20))),
        ..to_state(ActionState::Live)
    };
    let live = store.change_action(row.id, 2, &live, "vedette", "action_ordered").await.unwrap();
    assert_eq!((live.acted_at, live.until), (Some(Micros(10)), Some(Micros(20))));
    let steps = store.action_steps(row.id).await.unwrap();
    let steps: Vec<(&str, &str)> = steps.iter().map(|s| (s.action.as_str(), s.actor.as_str())).collect();
    let wanted = [("action_proposed", "vedette"), ("action_approved", "ann"), ("action_ordered", "vedette")];
    assert_eq!(steps, wanted);
    assert_eq!(store.acted_since(Micros(9)).await.unwrap()["rule-1"], 1);
    assert!(store.acted_since(Micros(10)).await.unwrap().is_empty());
    assert_eq!(store.earlier("203.0.113.9", 0).await.unwrap(), 1);
    assert_eq!(store.earlier("203.0.113.9", row.id).await.unwrap(), 0, "its own is not earlier");
    assert_eq!(store.action(row.id).await.unwrap(), Some(live.clone()));
    assert_eq!(store.actions_since(row.seq, 10).await.unwrap(), [live]);
}

#[tokio::test]
async fn actions_are_listed_by_state_newest_first_in_pages() {
    let (_folder, store) = store().await;
    let states = [ActionState::Waiting, ActionState::DryRun, ActionState::Waiting, ActionState::Due];
    for (n, state) in states.into_iter().enumerate() {
        store.propose(&[proposal(&n.to_string(), state)], None).await.unwrap();
    }
    let waiting = ActionQuery { states: vec![ActionState::Waiting], limit: 1, ..ActionQuery::default() };
    let first = store.actions(&waiting).await.unwrap();
    let before = first.next_cursor.as_deref().map(|cursor| cursor.parse().unwrap());
    let second = store.actions(&ActionQuery { before, ..waiting.clone() }).await.unwrap();
    assert!(first.items[0].id > second.items[0].id && second.next_cursor.is_none());
    let of_alert = ActionQuery { alert: Some("a".to_owned()), limit: 10, ..ActionQuery::default() };
    assert_eq!(store.actions(&of_alert).await.unwrap().items.len(), 4);
    assert_eq!(store.action_counts().await.unwrap()[&ActionState::Waiting], 2);
}

#[tokio::test]
async fn an_action_is_told_when_all_took_it_and_what_was_given_up_can_be_tried_again() {
    let (_folder, store) = store().await;
    let row = store.propose(&[proposal("p", ActionState::Waiting)], None).await.unwrap().remove(0);
    let tell = ActionChange {
        tell: vec!["slack/soc".to_owned(), "webhook".to_owned()],
        ..to_state(ActionState::Telling)
    };
    store.change_action(row.id, 1, &tell, "ann", "action_approved").await.unwrap();
    let due = async |connector: &str, now: Micros| store.due_deliveries(connector, now, 10).await.unwrap();
    let late = Micros(i64::MAX);
    let slack = due("slack/soc", late).await.0.remove(0);
    let again = Micros(i64::MAX - 5);
    assert_eq!(store.note_try(&slack, &Tried::Again(again, "503".to_owned())).await.unwrap(), None);
    let (now, next) = due("slack/soc", Micros(again.0 - 1)).await;
    assert_eq!((now.len(), next), (0, Some(again)));
    let slack = due("slack/soc", late).await.0.remove(0);
    assert_eq!((slack.tries, slack.detail.as_deref()), (1, Some("503")));
    assert_eq!(store.note_try(&slack, &Tried::Done).await.unwrap(), None, "the other is left");
    let webhook = due("webhook", late).await.0.remove(0);
    let failed = store.note_try(&webhook, &Tried::Dead("404".to_owned())).await.unwrap().unwrap();
    assert_eq!(failed.state, ActionState::Failed);
    let figures = store.connector_figures().await.unwrap();
    assert_eq!((figures.len(), figures[0].dead), (1, 1));
    assert_eq!(store.note_try(&webhook, &Tried::Done).await.unwrap(), None, "given up is given up");
    let replayed = store.replay(row.id, failed.version, "ann").await.unwrap();
    assert_eq!(replayed.state, ActionState::Telling);
    let webhook = due("webhook", late).await.0.remove(0);
    assert_eq!(store.note_try(&webhook, &Tried::Done).await.unwrap().unwrap().state, ActionState::Done);
    let nothing = store.replay(row.id, replayed.version + 1, "ann").await;
    assert!(matches!(nothing, Err(crate::Error::Clash { .. })), "{nothing:?}");
}

#[tokio::test]
async fn the_kill_switch_takes_back_what_is_live_and_settings_have_a_version() {
    let (_folder, store) = store().await;
    let states = [("1", ActionState::Live), ("2", ActionState::Waiting), ("3", ActionState::Due)];
    for (id, state) in states {
        store.propose(&[proposal(id, state)], None).await.unwrap();
    }
    let late = store.propose(&[proposal("4", ActionState::Waiting)], None).await.unwrap().remove(0);
    let set = store.set_response(&Setting::NeverBlock("[1]".to_owned()), Some(0), "ann").await.unwrap();
    assert_eq!((set.never_block.as_str(), set.version), ("[1]", 1));
    let on = store.set_response(&Setting::KillSwitch(true), Some(1), "ann").await.unwrap();
    assert!(on.kill_switch);
    let counts = store.action_counts().await.unwrap();
    assert_eq!(counts[&ActionState::Reverted], 2, "also what was about to be");
    assert_eq!(counts[&ActionState::Waiting], 2);
    let order = Some(("{}".to_owned(), Micros(10), Micros(20)));
    let order = ActionChange { order, ..to_state(ActionState::Live) };
    let refused = store.change_action(late.id, late.version, &order, "vedette", "action_ordered").await;
    assert!(matches!(refused, Err(crate::Error::Clash { .. })), "{refused:?}");
    let stale = store.set_response(&Setting::KillSwitch(false), Some(1), "bob").await;
    assert!(matches!(stale, Err(crate::Error::Stale { version: 2, .. })), "{stale:?}");
    let log = store.audit(&newest(10)).await.unwrap().items;
    assert!(log.iter().any(
        |e| e.action == "kill_switch_on" && e.to.as_deref().is_some_and(|a| a.contains("\"reverted\":2"))
    ));
}

#[tokio::test]
async fn effects_are_counted_and_how_long_they_took_is_told_with_the_order() {
    let (_folder, store) = store().await;
    for (id, effect, took) in [
        ("1", Effectiveness::Effective, Some(3)),
        ("2", Effectiveness::Unconfirmed, None),
        ("3", Effectiveness::Effective, Some(9)),
    ] {
        let row = store.propose(&[proposal(id, ActionState::Due)], None).await.unwrap().remove(0);
        let order = Some((format!("order {id}"), Micros(10), Micros(1_000)));
        let order = ActionChange { order, ..to_state(ActionState::Live) };
        let row =
            store.change_action(row.id, row.version, &order, "vedette", "action_ordered").await.unwrap();
        let effect_at = took.map(|took| Micros(10 + took));
        let seen = ActionChange { effect: Some(effect), effect_at, ..ActionChange::default() };
        store.change_action(row.id, row.version, &seen, "vedette", "action_effective").await.unwrap();
    }
    let took = store.took_effect(10).await.unwrap();
    let took: Vec<_> = took.iter().map(|(order, span)| (order.as_str(), span.0)).collect();
    assert_eq!(took, [("order 3", 9), ("order 1", 3)]);
    assert_eq!(store.took_effect(1).await.unwrap().len(), 1);
    let counts = store.effect_counts().await.unwrap();
    let of = |effect| counts.get(&(effect, ActionState::Live)).copied();
    assert_eq!(
        (of(Effectiveness::Effective), of(Effectiveness::Unconfirmed), of(Effectiveness::Wrong)),
        (Some(2), Some(1), None)
    );
}

#[tokio::test]
async fn what_a_connector_holds_is_remembered() {
    let (_folder, store) = store().await;
    store.note_held("webhook", ("throttle", "\"a\""), Some(Micros(5))).await.unwrap();
    store.note_held("webhook", ("throttle", "\"a\""), Some(Micros(6))).await.unwrap();
    store.note_held("kafka", ("throttle", "\"a\""), Some(Micros(7))).await.unwrap();
    let held = store.held("webhook").await.unwrap();
    assert_eq!(held.len(), 1);
    assert_eq!(held[0].until, Micros(6));
    store.note_held("webhook", ("throttle", "\"a\""), None).await.unwrap();
    assert!(store.held("webhook").await.unwrap().is_empty());
    assert_eq!(store.held("kafka").await.unwrap().len(), 1);
}

#[tokio::test]
async fn actions_go_when_they_are_over_and_their_alert_is_gone() {
    let (_folder, store) = store().await;
    publish_alerts(&store, vec![alert("a", 1, 10, 5)]).await;
    let of = |id: &str, state, alert: &str| {
        let mut new = proposal(id, state);
        new.row.alert_id = alert.to_owned();
        new
    };
    let new = [
        of("kept", ActionState::Expired, "a"),
        of("open", ActionState::Live, "gone"),
        of("over", ActionState::Expired, "gone"),
    ];
    let rows = store.propose(&new, None).await.unwrap();
    let tell = ActionChange { tell: vec!["webhook".to_owned()], ..ActionChange::default() };
    store.change_action(rows[2].id, 1, &tell, "ann", "action_sent").await.unwrap();
    assert_eq!(store.forget_actions(Micros(0), 10).await.unwrap(), (0, false), "not before its time");
    assert_eq!(store.forget_actions(Micros(i64::MAX), 10).await.unwrap(), (1, false));
    let left = store.actions_since(0, 10).await.unwrap();
    assert_eq!(left.iter().map(|row| row.id).collect::<Vec<_>>(), [rows[0].id, rows[1].id]);
    assert!(store.deliveries(rows[2].id).await.unwrap().is_empty());
    assert!(!store.action_steps(rows[2].id).await.unwrap().is_empty(), "its steps stay");
}
