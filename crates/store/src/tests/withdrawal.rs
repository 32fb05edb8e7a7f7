//! Notices that no alert can cover any more.

use sqlx::Row;

use super::*;

fn passed(below: i64, settled: i64) -> Passed {
    let (below, settled) = (Micros(below * 1_000_000), Micros(settled * 1_000_000));
    Passed { rule_id: "rule-1".to_owned(), below, settled, reason: Withdrawal::Uncovered }
}

async fn pass(store: &Store, passed: Passed) -> i64 {
    store.publish(&Publication { passed: vec![passed], ..Default::default() }).await.unwrap().seq
}

#[tokio::test]
async fn a_notice_that_its_rule_has_passed_without_an_alert_is_withdrawn_and_says_so() {
    let (_folder, store) = store().await;
    let of = alert("a", 1, 10, 5);
    publish_notices(&store, vec![notice("n", &of)]).await;
    let assigned = TriagePatch { assignee: Some("ann".into()), ..Default::default() };
    store.patch_triage("n", 0, &assigned, "ann").await.unwrap();
    let seq = store.newest_seq().await.unwrap();
    assert_eq!(store.waiting_notices().await.unwrap()["rule-1"], [Micros(10_000_000)]);
    assert_eq!(pass(&store, passed(10, 0)).await, seq, "it is of that very time");
    let then = pass(&store, passed(11, 0)).await;
    let row = get(&store, "n").await;
    assert_eq!(row.withdrawn.unwrap().reason, Withdrawal::Uncovered);
    assert_eq!((row.state, row.triage.status, row.seq), (RowState::Notice, Status::Closed, then));
    assert_eq!((row.triage.assignee.as_deref(), row.triage.version), (Some("ann"), 1));
    let entry = store.history("n").await.unwrap().pop().unwrap();
    assert_eq!((entry.actor.as_str(), entry.action.as_str()), ("vedette", "withdrawn"));
    assert_eq!(entry.to.as_deref(), Some("\"uncovered\""));
    let Changes::Next(changes) = store.changes(seq, 10).await.unwrap() else { panic!("forgotten") };
    let changes: Vec<_> = changes.iter().map(|change| (change.kind, change.id.as_str())).collect();
    assert_eq!(changes, [(ChangeKind::Withdrawn, "n")]);
    assert_eq!(pass(&store, passed(12, 12)).await, then, "once is enough");
    assert!(store.waiting_notices().await.unwrap().is_empty());
    // The same again is not news; another of the key is, and no alert takes over what was withdrawn.
    assert_eq!(publish_notices(&store, vec![notice("n", &of)]).await.applied, 0);
    assert_eq!(publish_notices(&store, vec![notice("m", &of)]).await.applied, 1);
    publish_alerts(&store, vec![of]).await;
    let row = get(&store, "a").await;
    assert_eq!((row.triage.status, row.covers), (Status::New, vec!["m".to_owned()]));
}

#[tokio::test]
async fn a_notice_that_a_revision_may_still_reach_waits_for_it() {
    let (_folder, store) = store().await;
    let of = alert("a", 1, 10, 5);
    let late = AlertRevision { crossed_at: Micros(80_000_000), ..of.clone() };
    publish_alerts(&store, vec![of.clone()]).await;
    publish_notices(&store, vec![notice("n", &late)]).await;
    let other = notice("o", &AlertRevision { key: "{}".to_owned(), ..late.clone() });
    publish_notices(&store, vec![other]).await;
    pass(&store, passed(81, 21)).await;
    assert!(get(&store, "o").await.withdrawn.is_some());
    assert!(get(&store, "n").await.withdrawn.is_none());
    // What takes it in and the word that its time is over may come together.
    let revision = AlertRevision { covers_until: Micros(90_000_000), ..alert("a", 2, 10, 6) };
    let both = Publication { alerts: vec![revision], passed: vec![passed(141, 81)], ..Default::default() };
    store.publish(&both).await.unwrap();
    assert_eq!(get(&store, "n").await.id, "a");
    let much_later = AlertRevision { crossed_at: Micros(100_000_000), ..of };
    publish_notices(&store, vec![notice("m", &much_later)]).await;
    pass(&store, passed(161, 101)).await;
    assert!(get(&store, "m").await.withdrawn.is_some(), "the alert is active, but its revision has come");
}

#[tokio::test]
async fn any_number_is_withdrawn_and_other_rules_are_left_alone() {
    let (_folder, store) = store().await;
    let of = |n: i64| alert(&format!("a{n}"), 1, n, 5);
    publish_notices(&store, (0..600).map(|n| notice(&format!("n{n}"), &of(n))).collect()).await;
    let other = AlertRevision { rule_id: "rule-2".to_owned(), ..of(1) };
    publish_notices(&store, vec![notice("other", &other)]).await;
    let gone = Passed { reason: Withdrawal::RuleChanged, ..passed(600, 600) };
    store.publish(&Publication { passed: vec![gone], ..Default::default() }).await.unwrap();
    let waiting = store.waiting_notices().await.unwrap();
    assert_eq!(waiting.keys().collect::<Vec<_>>(), ["rule-2"]);
    assert_eq!(get(&store, "n599").await.withdrawn.unwrap().reason, Withdrawal::RuleChanged);
}

#[tokio::test]
async fn looking_for_them_walks_those_that_wait_only() {
    let (_folder, store) = store().await;
    let sql = format!("explain query plan {}", crate::withdrawal::left_statement());
    let mut select = sqlx::query(sqlx::AssertSqlSafe(sql));
    for _ in 0..2 {
        select = select.bind("rule-1").bind("uncovered").bind(1_i64).bind(1_i64).bind(1_i64);
    }
    let plan = select.fetch_all(&store.inner.readers).await.unwrap();
    let plan: Vec<String> = plan.iter().map(|row| row.get("detail")).collect();
    let plan = plan.join("; ");
    assert!(plan.contains("SEARCH alerts USING INDEX alerts_waiting (rule_id=? AND crossed_at<?)"), "{plan}");
    assert!(plan.contains("SEARCH a USING INDEX alerts_episode"), "{plan}");
}
