//! Snoozes: what they hide, what comes back, when.

use vedette_event::{Severity, Span};

use super::*;
use crate::{Error, LONGEST_SNOOZE, store::now};

fn pair(row: &AlertRow, seconds: i64) -> NewSnooze {
    NewSnooze {
        rule_id: row.rule_id.clone(),
        entity: row.entity.clone().unwrap(),
        until: now().plus(Span::secs(seconds)),
        reason: "known scanner".to_owned(),
    }
}

/// An alert of the pair of `a`.
fn same(id: &str, second: i64) -> AlertRevision {
    AlertRevision { entity: alert("a", 1, 1, 1).entity, ..alert(id, 1, second, 5) }
}

async fn queue(store: &Store, snoozed: Option<bool>) -> Vec<String> {
    let status = [Status::New, Status::Acknowledged, Status::InProgress].into();
    let filter = Filter { status, snoozed, ..Filter::default() };
    let query = ListQuery { filter, limit: 100, ..ListQuery::default() };
    store.list(&query).await.unwrap().items.into_iter().map(|row| row.id).collect()
}

#[tokio::test]
async fn a_pair_stays_out_of_the_queue_until_it_is_lifted() {
    let (_folder, store) = store().await;
    publish_alerts(&store, vec![alert("a", 1, 10, 5), alert("b", 1, 11, 5)]).await;
    let seq = store.newest_seq().await.unwrap();
    assert!(!store.hides_any().await.unwrap());
    let snooze = made(store.snooze(&pair(&get(&store, "a").await, 60), "ann", None).await.unwrap());
    assert!(store.hides_any().await.unwrap());
    assert_eq!((snooze.id, snooze.hidden, snooze.severity), (1, 1, Severity::Medium));
    assert_eq!(queue(&store, Some(false)).await, ["b"]);
    assert_eq!(queue(&store, Some(true)).await, ["a"]);
    assert_eq!(queue(&store, None).await, ["b", "a"], "lists that ask for everything have it");
    let Changes::Next(changes) = store.changes(seq, 100).await.unwrap() else { panic!("a reset") };
    assert!(changes.iter().any(|change| change.id == "a"), "streams see it go");

    // What comes later is of the pair, too; another severity is not.
    publish_alerts(&store, vec![same("later", 20)]).await;
    publish_notices(&store, vec![notice("early", &same("n", 30))]).await;
    publish_alerts(&store, vec![AlertRevision { severity: Severity::High, ..same("worse", 40) }]).await;
    assert_eq!(queue(&store, Some(false)).await, ["worse", "b"]);
    assert_eq!(store.snoozes(false).await.unwrap()[0].hidden, 3);
    let twice = store.snooze(&pair(&get(&store, "a").await, 60), "bob", None).await.unwrap_err();
    assert!(matches!(&twice, Error::Clash { detail } if detail.contains("Snooze 1")), "{twice}");

    let lifted = store.lift_snooze(1, "bob").await.unwrap();
    assert_eq!((lifted.ended_by.as_deref(), lifted.hidden), (Some("bob"), 0));
    assert!(!store.hides_any().await.unwrap());
    assert_eq!(queue(&store, Some(false)).await, ["worse", "early", "later", "b", "a"]);
    assert!(matches!(store.lift_snooze(1, "bob").await, Err(Error::NotFound { .. })));
    let log = store.audit(&AuditQuery { target: Some("snooze:1".to_owned()), ..newest(9) }).await.unwrap();
    let actions: Vec<_> =
        log.items.iter().map(|entry| (entry.actor.as_str(), entry.action.as_str())).collect();
    assert_eq!(actions, [("bob", "snooze_lifted"), ("ann", "snoozed")]);
    assert!(log.items[1].to.as_deref().unwrap().contains("known scanner"));
}

#[tokio::test]
async fn a_rise_in_severity_brings_the_row_back_and_a_continuation_stays_away() {
    let (_folder, store) = store().await;
    publish_alerts(&store, vec![alert("a", 1, 10, 5)]).await;
    store.snooze(&pair(&get(&store, "a").await, 60), "ann", None).await.unwrap();
    publish_alerts(&store, vec![alert("a", 2, 10, 500)]).await;
    assert_eq!(queue(&store, Some(false)).await, [""; 0], "more of the same is no news");
    let mut next = same("next", 86_400 + 5);
    (next.key, next.continuation) = (alert("a", 1, 1, 1).key, true);
    publish_alerts(&store, vec![next]).await;
    let row = get(&store, "next").await;
    assert_eq!((row.predecessor.as_deref(), row.snooze), (Some("a"), Some(1)));
    publish_alerts(&store, vec![AlertRevision { severity: Severity::High, ..alert("a", 3, 10, 501) }]).await;
    assert_eq!(queue(&store, Some(false)).await, ["a"]);
    assert_eq!(queue(&store, Some(true)).await, ["next"]);
}

#[tokio::test]
async fn a_snooze_ends_by_itself() {
    let (_folder, store) = store().await;
    publish_alerts(&store, vec![alert("a", 1, 10, 5)]).await;
    let row = get(&store, "a").await;
    for seconds in [-1, 0, LONGEST_SNOOZE.0 / 1_000_000 + 60] {
        let refused = store.snooze(&pair(&row, seconds), "ann", None).await.unwrap_err();
        assert!(matches!(refused, Error::Clash { .. }), "{refused}");
    }
    let unknown = NewSnooze { rule_id: "no rule".to_owned(), ..pair(&row, 60) };
    assert!(matches!(store.snooze(&unknown, "ann", None).await, Err(Error::NotFound { .. })));

    let short = NewSnooze { until: Micros(now().0 + 1_000_000), ..pair(&row, 60) };
    store.snooze(&short, "ann", None).await.unwrap();
    assert!(!store.settle_snoozes().await.unwrap(), "nothing to do yet");
    tokio::time::sleep(std::time::Duration::from_millis(1_010)).await;
    assert!(store.settle_snoozes().await.unwrap());
    assert_eq!(queue(&store, Some(false)).await, ["a"]);
    assert!(!store.settle_snoozes().await.unwrap());
    let ended = store.snoozes(true).await.unwrap();
    assert_eq!((ended.len(), ended[0].ended_by.as_deref()), (1, Some("vedette")));
}

#[tokio::test]
async fn many_rows_go_and_come_in_steps() {
    let (_folder, store) = store().await;
    let rows: Vec<_> = (0..1_100).map(|n| same(&format!("r{n}"), 10 + n)).collect();
    for part in rows.chunks(500) {
        publish_alerts(&store, part.to_vec()).await;
    }
    let snooze = made(store.snooze(&pair(&get(&store, "r0").await, 60), "ann", None).await.unwrap());
    assert_eq!(snooze.hidden, 500);
    let hidden = async || store.snooze_of(1).await.unwrap().unwrap().hidden;
    while store.settle_snoozes().await.unwrap() {}
    assert_eq!(hidden().await, 1_100);
    store.lift_snooze(1, "ann").await.unwrap();
    assert_eq!(hidden().await, 600);
    // The next one takes over what the last has not brought back yet.
    store.snooze(&pair(&get(&store, "r0").await, 60), "ann", None).await.unwrap();
    while store.settle_snoozes().await.unwrap() {}
    assert_eq!(queue(&store, Some(false)).await, [""; 0]);
    assert_eq!(store.snooze_of(2).await.unwrap().unwrap().hidden, 1_100);
}

#[tokio::test]
async fn what_an_exception_would_have_hidden_is_counted() {
    let (_folder, store) = store().await;
    publish_alerts(&store, vec![same("a", 10), same("b", 20), same("c", 30), alert("other", 1, 40, 5)]).await;
    let close = TriagePatch { disposition: Some(Disposition::TruePositive), ..to(Status::Closed) };
    store.patch_triage("b", 0, &close, "ann").await.unwrap();
    let entity = get(&store, "a").await.entity.unwrap();
    let counted = store.would_hide("rule-1", &entity, Micros(15_000_000)).await.unwrap();
    assert_eq!(counted, WouldHide { alerts: 2, true_positives: 1 });
}
