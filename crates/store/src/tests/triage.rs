//! Versions, conflicts, recurrence, comments.

use super::*;
use crate::Error;

#[tokio::test]
async fn a_stale_version_is_a_conflict_and_a_revision_never_makes_one() {
    let (_folder, store) = store().await;
    publish_alerts(&store, vec![alert("a", 1, 10, 5)]).await;
    publish_alerts(&store, vec![alert("a", 2, 10, 6)]).await;
    let triage = store.patch_triage("a", 0, &to(Status::Acknowledged), "ann").await.unwrap().triage;
    assert_eq!((triage.status, triage.version), (Status::Acknowledged, 1));
    match store.patch_triage("a", 0, &to(Status::Closed), "bob").await.unwrap_err() {
        Error::Conflict { id, current } => assert_eq!((id.as_str(), current), ("a", triage.clone())),
        other => panic!("{other:?}"),
    }
    let same = store.patch_triage("a", 1, &to(Status::Acknowledged), "ann").await.unwrap();
    let nothing = PatchedTriage { triage, effect: Effect::Unchanged, change_id: None };
    assert_eq!(same, nothing, "nothing changes, nothing is counted");
    let missing = store.patch_triage("nobody", 0, &to(Status::Closed), "bob").await;
    assert!(matches!(missing, Err(Error::NotFound { .. })));
    let history = store.history("a").await.unwrap();
    assert_eq!(history.len(), 1);
    assert_eq!(
        history[0].from.as_deref(),
        Some(r#"{"status":"new","assignee":null,"disposition":null,"version":0,"recurred":false}"#)
    );
}

#[tokio::test]
async fn a_closed_alert_counts_on_until_it_is_ten_times_as_much() {
    let (_folder, store) = store().await;
    publish_alerts(&store, vec![alert("a", 1, 10, 5)]).await;
    let close = TriagePatch {
        status: Some(Status::Closed),
        disposition: Some(Disposition::Benign),
        seen_revision: Some(1),
        ..Default::default()
    };
    store.patch_triage("a", 0, &close, "ann").await.unwrap();
    publish_alerts(&store, vec![alert("a", 2, 10, 49)]).await;
    let row = get(&store, "a").await;
    assert_eq!((row.triage.status, row.since_closed, row.recurred), (Status::Closed, Some(44), false));
    publish_alerts(&store, vec![alert("a", 3, 10, 50)]).await;
    let row = get(&store, "a").await;
    assert_eq!((row.triage.status, row.since_closed, row.recurred), (Status::New, None, true));
    assert_eq!((row.triage.version, row.triage.disposition), (1, None), "a revision leaves the version");
    store.patch_triage("a", 1, &close, "ann").await.unwrap();
    let row = get(&store, "a").await;
    assert_eq!(row.triage.status, Status::New, "revision 3 was there, revision 1 was seen");
}

#[tokio::test]
async fn a_rise_in_severity_brings_it_back() {
    let (_folder, store) = store().await;
    publish_alerts(&store, vec![alert("a", 1, 10, 5)]).await;
    store.patch_triage("a", 0, &to(Status::Closed), "ann").await.unwrap();
    let mut worse = alert("a", 2, 10, 6);
    worse.severity = Severity::High;
    publish_alerts(&store, vec![worse]).await;
    let row = get(&store, "a").await;
    assert_eq!((row.triage.status, row.recurred), (Status::New, true));
    store.patch_triage("a", 1, &to(Status::Closed), "ann").await.unwrap();
    assert!(!get(&store, "a").await.recurred);
}

#[tokio::test]
async fn closing_from_an_older_revision_brings_it_back_at_once() {
    let (_folder, store) = store().await;
    publish_alerts(&store, vec![alert("a", 1, 10, 5)]).await;
    publish_alerts(&store, vec![alert("a", 2, 10, 6)]).await;
    let patch = TriagePatch { seen_revision: Some(1), ..to(Status::Closed) };
    let done = store.patch_triage("a", 0, &patch, "ann").await.unwrap();
    assert_eq!((done.triage.status, done.triage.version), (Status::New, 1));
    assert_eq!(done.effect, Effect::Returned);
    let row = get(&store, "a").await;
    assert!(row.recurred);
    let actions: Vec<_> = store.history("a").await.unwrap().into_iter().map(|entry| entry.action).collect();
    assert_eq!(actions, ["triage", "recurred"]);
}

#[tokio::test]
async fn what_is_not_there_yet_was_not_seen() {
    let (_folder, store) = store().await;
    publish_alerts(&store, vec![alert("a", 1, 10, 5)]).await;
    let patch = TriagePatch { seen_revision: Some(2), ..to(Status::Closed) };
    let refused = store.patch_triage("a", 0, &patch, "ann").await.unwrap_err();
    assert!(matches!(refused, Error::Unseen { what: "revision", seen: 2, newest: 1 }), "{refused}");
    let items = BulkTarget::Items(vec![BulkItem { id: "a".to_owned(), version: 0, seen_revision: None }]);
    let refused = changed(&store, &items, &patch, "ann").await.results.remove(0).outcome;
    assert!(matches!(refused, Err(Error::Unseen { .. })));
    let seq = store.newest_seq().await.unwrap();
    let later = BulkTarget::Matching { filter: Box::default(), as_of: seq + 1 };
    let refused = store.bulk_triage(&later, &to(Status::Closed), "ann", None).await.unwrap_err();
    assert!(matches!(refused, Error::Unseen { what: "seq", .. }), "{refused}");
    assert_eq!(get(&store, "a").await.triage.version, 0);
}

#[tokio::test]
async fn comments_are_history_and_change_no_version() {
    let (_folder, store) = store().await;
    publish_alerts(&store, vec![alert("a", 1, 1, 5)]).await;
    let entry = made(store.comment("a", "looked \"odd\"", "ann", None).await.unwrap());
    assert_eq!(store.history("a").await.unwrap(), [entry]);
    assert_eq!(get(&store, "a").await.triage.version, 0);
    assert!(matches!(store.comment("b", "?", "ann", None).await, Err(Error::NotFound { .. })));
}

#[tokio::test]
async fn owners_are_set_and_removed() {
    let (_folder, store) = store().await;
    publish_alerts(&store, vec![alert("a", 1, 1, 5)]).await;
    let owner = |name: &str| TriagePatch { assignee: Some(name.to_owned()), ..Default::default() };
    let triage = store.patch_triage("a", 0, &owner("ann"), "ann").await.unwrap().triage;
    assert_eq!(triage.assignee.as_deref(), Some("ann"));
    let triage = store.patch_triage("a", 1, &owner(""), "ann").await.unwrap().triage;
    assert_eq!((triage.assignee, triage.version), (None, 2));
}

#[tokio::test]
async fn a_course_is_of_the_newest_revisions() {
    let (_folder, store) = store().await;
    publish_alerts(&store, (1..=40).map(|n| alert("a", n, 10, u64::from(n) * 2)).collect()).await;
    let courses = store.courses(&[("a", 40), ("nobody", 1)]).await.unwrap();
    assert_eq!(courses["a"], (25..=40).map(|n| n * 2).collect::<Vec<u64>>());
    assert_eq!(courses.len(), 1);
}
