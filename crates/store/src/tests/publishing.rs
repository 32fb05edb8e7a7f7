//! Alerts, notices and the ledger.

use vedette_event::StoredPlacement;

use super::*;

#[tokio::test]
async fn lower_and_equal_revisions_change_nothing() {
    let (_folder, store) = store().await;
    let first = publish_alerts(&store, vec![alert("a", 2, 10, 20)]).await;
    assert_eq!((first.applied, first.ignored), (1, 0));
    let again = publish_alerts(&store, vec![alert("a", 1, 10, 10), alert("a", 2, 10, 99)]).await;
    assert_eq!((again.applied, again.ignored, again.seq), (0, 2, first.seq));
    let mut last = alert("a", 5, 10, 50);
    last.state = State::Ended;
    last.severity = Severity::Critical;
    publish_alerts(&store, vec![last.clone()]).await;
    let row = get(&store, "a").await;
    assert_eq!((row.revision, row.state, row.count), (5, RowState::Ended, 50));
    assert_eq!(row.body, last.body);
    let points: Vec<_> = store.revisions("a").await.unwrap().iter().map(|p| (p.revision, p.count)).collect();
    assert_eq!(points, [(2, 20), (5, 50)]);
}

#[tokio::test]
async fn one_notice_a_rule_and_key_is_open_and_its_alert_covers_it() {
    let (_folder, store) = store().await;
    let of = alert("a", 1, 10, 5);
    assert_eq!(publish_notices(&store, vec![notice("n1", &of), notice("n2", &of)]).await.applied, 1);
    let row = get(&store, "n1").await;
    assert_eq!((row.state, row.triage.version), (RowState::Notice, 0));
    let patch = TriagePatch {
        status: Some(Status::Acknowledged),
        assignee: Some("ann".into()),
        ..Default::default()
    };
    store.patch_triage("n1", 0, &patch, "ann").await.unwrap();
    publish_alerts(&store, vec![of.clone()]).await;
    let row = get(&store, "a").await;
    assert_eq!(row.covers, ["n1"]);
    assert_eq!(row.triage.status, Status::Acknowledged);
    assert_eq!((row.triage.assignee.as_deref(), row.triage.version), (Some("ann"), 1));
    assert_eq!(get(&store, "n1").await.id, "a", "the notice stands for its alert");
    let ids: Vec<_> =
        store.list(&ListQuery::default()).await.unwrap().items.into_iter().map(|row| row.id).collect();
    assert_eq!(ids, Vec::<String>::new().into_iter().chain(["a".to_owned()]).collect::<Vec<_>>());
    // A notice that comes again after its alert, under whatever name, is covered already.
    let late = publish_notices(&store, vec![notice("n1", &of), notice("n3", &of)]).await;
    assert_eq!((late.applied, late.ignored), (0, 2));
    // Triage through the notice's id is the alert's.
    store.patch_triage("n1", 1, &to(Status::InProgress), "bob").await.unwrap();
    assert_eq!(get(&store, "a").await.triage.status, Status::InProgress);
    let actions: Vec<_> =
        store.history("a").await.unwrap().into_iter().map(|entry| (entry.actor, entry.action)).collect();
    let expected = [("ann", "triage"), ("vedette", "inherited"), ("bob", "triage")];
    assert_eq!(actions, expected.map(|(actor, action)| (actor.to_owned(), action.to_owned())));
}

#[tokio::test]
async fn the_next_episode_s_notice_is_left_alone_by_the_last_revision_of_the_one_before() {
    let (_folder, store) = store().await;
    publish_alerts(&store, vec![alert("a", 1, 10, 5)]).await;
    let mut next = alert("a", 1, 10 + 61, 5);
    next.alert_id = "b".to_owned();
    assert_eq!(publish_notices(&store, vec![notice("n", &next)]).await.applied, 1);
    let mut end = alert("a", 2, 10, 5);
    end.state = State::Ended;
    publish_alerts(&store, vec![end]).await;
    assert_eq!(get(&store, "n").await.state, RowState::Notice);
    publish_alerts(&store, vec![next]).await;
    assert_eq!(get(&store, "n").await.id, "b");
}

#[tokio::test]
async fn a_closed_notice_closes_its_alert_until_it_is_more_than_was_shown() {
    for (severity, count, returns) in
        [(Severity::Medium, 49, false), (Severity::Medium, 50, true), (Severity::High, 6, true)]
    {
        let (_folder, store) = store().await;
        let of = alert("a", 1, 10, 5);
        publish_notices(&store, vec![notice("n", &of)]).await;
        let close = TriagePatch { disposition: Some(Disposition::Benign), ..to(Status::Closed) };
        store.patch_triage("n", 0, &close, "ann").await.unwrap();
        publish_alerts(&store, vec![of]).await;
        let row = get(&store, "a").await;
        assert_eq!((row.triage.status, row.recurred, row.since_closed), (Status::Closed, false, Some(0)));
        assert_eq!((row.triage.version, row.triage.disposition), (1, Some(Disposition::Benign)));
        publish_alerts(&store, vec![AlertRevision { severity, ..alert("a", 2, 10, count) }]).await;
        let row = get(&store, "a").await;
        let expected = if returns { (Status::New, true, None) } else { (Status::Closed, false, Some(44)) };
        assert_eq!((row.triage.status, row.recurred, row.since_closed), expected, "{severity:?} {count}");
    }
}

#[tokio::test]
async fn an_alert_that_is_at_once_ten_times_its_closed_notice_is_open() {
    let (_folder, store) = store().await;
    let of = alert("a", 1, 10, 5);
    publish_notices(&store, vec![notice("n", &of)]).await;
    store.patch_triage("n", 0, &to(Status::Closed), "ann").await.unwrap();
    publish_alerts(&store, vec![AlertRevision { count: 50, ..of }]).await;
    let row = get(&store, "a").await;
    assert_eq!((row.triage.status, row.recurred), (Status::New, true));
}

#[tokio::test]
async fn a_notice_closed_after_its_alert_came_was_closed_from_an_older_revision() {
    let (_folder, store) = store().await;
    let of = alert("a", 1, 10, 5);
    publish_notices(&store, vec![notice("n", &of)]).await;
    publish_alerts(&store, vec![of]).await;
    let shown = TriagePatch { seen_revision: Some(0), ..to(Status::Closed) };
    store.patch_triage("n", 0, &shown, "ann").await.unwrap();
    let row = get(&store, "a").await;
    assert_eq!((row.triage.status, row.recurred), (Status::New, true));
}

#[tokio::test]
async fn a_closed_notice_is_not_raised_again_while_it_waits_for_its_alert() {
    let (_folder, store) = store().await;
    let of = alert("a", 1, 10, 5);
    publish_notices(&store, vec![notice("n1", &of)]).await;
    store.patch_triage("n1", 0, &to(Status::Closed), "ann").await.unwrap();
    // Read again in another order after a restart, another event is the first at which the condition holds.
    let again = NewNotice { crossed_at: Micros(of.crossed_at.0 - 1), ..notice("n2", &of) };
    assert_eq!(publish_notices(&store, vec![notice("n1", &of), again]).await.ignored, 2);
    publish_alerts(&store, vec![of]).await;
    assert_eq!(get(&store, "n1").await.triage.status, Status::Closed);
}

#[tokio::test]
async fn a_continuation_takes_over_owner_and_status() {
    let (_folder, store) = store().await;
    publish_alerts(&store, vec![alert("a", 1, 10, 5)]).await;
    let patch =
        TriagePatch { status: Some(Status::InProgress), assignee: Some("ann".into()), ..Default::default() };
    store.patch_triage("a", 0, &patch, "ann").await.unwrap();
    let mut next = alert("a", 1, 86_400, 3);
    next.alert_id = "b".to_owned();
    next.continuation = true;
    publish_alerts(&store, vec![next]).await;
    let row = get(&store, "b").await;
    assert_eq!(row.predecessor.as_deref(), Some("a"));
    assert_eq!((row.triage.status, row.triage.assignee.as_deref()), (Status::InProgress, Some("ann")));
    assert_eq!(row.triage.version, 1);
    assert_eq!(get(&store, "a").await.successor.as_deref(), Some("b"));
    let mut days_later = alert("a", 1, 3 * 86_400, 3);
    days_later.alert_id = "c".to_owned();
    days_later.continuation = true;
    publish_alerts(&store, vec![days_later]).await;
    assert_eq!(get(&store, "c").await.predecessor, None);
}

#[tokio::test]
async fn a_continuation_of_a_closed_alert_stays_closed_until_it_is_worse() {
    let (_folder, store) = store().await;
    publish_alerts(&store, vec![alert("a", 1, 10, 5)]).await;
    store.patch_triage("a", 0, &to(Status::Closed), "ann").await.unwrap();
    let mut next = alert("a", 1, 86_400, 3);
    next.alert_id = "b".to_owned();
    next.continuation = true;
    publish_alerts(&store, vec![next.clone()]).await;
    let row = get(&store, "b").await;
    assert_eq!((row.triage.status, row.since_closed), (Status::Closed, Some(3)));
    (next.revision, next.count) = (2, 50);
    publish_alerts(&store, vec![next]).await;
    let row = get(&store, "b").await;
    assert_eq!((row.triage.status, row.recurred, row.since_closed), (Status::New, true, None));
}

#[tokio::test]
async fn the_ledger_is_written_once_and_read_back() {
    let (_folder, store) = store().await;
    let placement =
        StoredPlacement { topic: "waf".into(), partition: 1, offset: 9, flag: flags(), time: Micros(5) };
    let version = RuleVersion {
        number: 1,
        version: "v1".into(),
        in_force_from: Micros::MIN,
        content: "{}".into(),
        texts: vec![1, 2],
    };
    let lost = LostInterval {
        topic: "waf".into(),
        incarnation: 0,
        partition: 0,
        from: 3,
        to: 8,
        noticed_at: Micros(1),
    };
    let health = HealthEvent {
        key: "lost:waf:0:3".into(),
        at: Micros(1),
        kind: "lost".into(),
        severity: Severity::Critical,
        message: "5 records were deleted unread".into(),
    };
    let publication = Publication {
        placements: vec![placement.clone()],
        rule_versions: vec![version.clone()],
        lost: vec![lost.clone()],
        health: vec![health.clone()],
        ..Default::default()
    };
    assert!(!publication.is_empty());
    let seq = store.publish(&publication).await.unwrap().seq;
    assert_eq!(store.publish(&publication).await.unwrap().seq, seq);
    assert_eq!(placements(&store).await, [placement]);
    assert_eq!(store.rule_versions().await.unwrap(), [version]);
    assert_eq!(store.lost_intervals().await.unwrap(), std::slice::from_ref(&lost));
    assert_eq!(store.health_events(5).await.unwrap(), [health]);
    let longer = LostInterval { to: 12, ..lost };
    store.publish(&Publication { lost: vec![longer.clone()], ..Default::default() }).await.unwrap();
    assert_eq!(store.lost_intervals().await.unwrap(), [longer]);
    store.ask_to_accept("waf", "ann").await.unwrap();
    store.accept_asked().await.unwrap();
    assert_eq!(placements(&store).await, [], "they belong to the topic before");
}

/// A start with a clock ahead is not the newest for ever.
#[tokio::test]
async fn versions_come_in_the_order_in_which_they_were_stored() {
    let (_folder, store) = store().await;
    let version = |number: u64, name: &str, from: i64| RuleVersion {
        number,
        texts: vec![number as u8],
        version: name.into(),
        in_force_from: Micros(from),
        content: name.to_uppercase(),
    };
    let stored =
        [version(1, "b", i64::MIN), version(2, "c", 900), version(3, "a", 500), version(4, "c", 700)];
    for version in &stored {
        let publication = Publication { rule_versions: vec![version.clone()], ..Default::default() };
        store.publish(&publication).await.unwrap();
        store.publish(&publication).await.unwrap();
    }
    assert_eq!(store.rule_versions().await.unwrap(), stored);
    store.publish(&Publication { oldest_version: Some(3), ..Default::default() }).await.unwrap();
    let kept = store.rule_versions().await.unwrap();
    let texts: Vec<_> = kept.iter().map(|v| (v.number, v.content.is_empty(), v.texts.len())).collect();
    assert_eq!(texts, [(1, true, 0), (2, true, 0), (3, false, 1), (4, false, 1)]);
}

#[tokio::test]
async fn a_version_that_is_put_earlier_keeps_its_number_and_texts() {
    let (_folder, store) = store().await;
    let version = |number: u64, name: &str, from: i64| RuleVersion {
        number,
        texts: vec![number as u8],
        version: name.into(),
        in_force_from: Micros(from),
        content: name.to_uppercase(),
    };
    let stored = vec![version(1, "a", i64::MIN), version(2, "b", 900), version(3, "c", 950)];
    store.publish(&Publication { rule_versions: stored, ..Default::default() }).await.unwrap();
    let earlier = [version(2, "d", 100), version(3, "e", 101)];
    let rows = earlier.clone().map(|version| RuleVersion { texts: Vec::new(), ..version });
    store.put_versions_earlier(&rows).await.unwrap();
    let [first, second] = earlier;
    assert_eq!(store.rule_versions().await.unwrap(), [version(1, "a", i64::MIN), first, second]);
}
