//! What those are told who follow everything.

use super::{response::proposal, *};
use crate::Setting;

/// What is compared of one piece of news.
fn said(news: &News) -> String {
    match news {
        News::Alert(row) => format!("{} {} r{} {}", row.id, row.state, row.revision, row.triage.status),
        News::Covered { notice, alert, .. } => format!("{notice} covered by {alert}"),
        News::Step(step) => format!("{} {}", step.0.target, step.0.action),
    }
}

/// All from a position on, so many changes at a time.
async fn all(store: &Store, mut position: i64, limit: u32) -> Vec<News> {
    let mut all = Vec::new();
    loop {
        let (news, reached) = store.news(position, limit).await.unwrap();
        if reached == position {
            assert!(news.is_empty());
            return all;
        }
        all.extend(news);
        position = reached;
    }
}

#[tokio::test]
async fn each_revision_and_change_is_told_as_it_was_in_commit_order() {
    let (_folder, store) = store().await;
    publish_alerts(&store, vec![alert("old", 1, 1, 5)]).await;
    let from = store.newest_seq().await.unwrap();
    let of = alert("a", 1, 10, 5);
    publish_notices(&store, vec![notice("n", &of)]).await;
    publish_alerts(&store, vec![of.clone(), alert("b", 1, 11, 5)]).await;
    publish_alerts(&store, vec![alert("a", 2, 10, 6)]).await;
    store.patch_triage("a", 0, &to(Status::Acknowledged), "ann").await.unwrap();
    let action = store.propose(&[proposal("p", ActionState::Waiting)], None).await.unwrap().remove(0);
    publish_alerts(&store, vec![alert("a", 3, 10, 60)]).await;
    let change = ActionChange { state: Some(ActionState::Rejected), ..ActionChange::default() };
    store.change_action(action.id, 1, &change, "ann", "action_rejected").await.unwrap();
    store.set_response(&Setting::KillSwitch(true), None, "eve").await.unwrap();
    // What is no news: a token, a case.
    store.create_token("t", Role::Reader, [0; 32], "ann").await.unwrap();
    let news = all(&store, from, 100).await;
    let expected = [
        "n notice r0 new".to_owned(),
        "a active r1 new".to_owned(),
        "n covered by a".to_owned(),
        "b active r1 new".to_owned(),
        "a active r2 new".to_owned(),
        "a active r2 acknowledged".to_owned(),
        format!("action:{} action_proposed", action.id),
        "a active r3 acknowledged".to_owned(),
        format!("action:{} action_rejected", action.id),
        "response kill_switch_on".to_owned(),
    ];
    let mut told: Vec<String> = news.iter().map(said).collect();
    let place = |told: &[String], of: &str| told.iter().position(|said| said == of).unwrap();
    assert!(place(&told, "n notice r0 new") < place(&told, "n covered by a"));
    assert!(place(&told, "a active r2 acknowledged") < place(&told, "a active r3 acknowledged"));
    assert!(news.windows(2).all(|pair| pair[0].seq() <= pair[1].seq()));
    for limit in [1, 2, 3] {
        assert_eq!(all(&store, from, limit).await, news, "in steps of {limit}");
    }
    told.sort();
    let mut expected = expected.to_vec();
    expected.sort();
    assert_eq!(told, expected);
    let News::Step(step) = &news[news.len() - 2] else { panic!("{news:?}") };
    assert_eq!(step.1.as_ref().unwrap().alert_id, "a");
}

#[tokio::test]
async fn who_was_away_for_longer_than_changes_are_kept_is_told_all_rows_as_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let settings = StoreSettings { changes_kept: 8, ..StoreSettings::new(folder.path(), Access::Engine) };
    let store = Store::open(settings).await.unwrap();
    let of = alert("a", 1, 10, 5);
    publish_notices(&store, vec![notice("n", &of)]).await;
    let action = store.propose(&[proposal("p", ActionState::Waiting)], None).await.unwrap().remove(0);
    for n in 0..40 {
        publish_alerts(&store, vec![alert("a", n + 1, 10, u64::from(n) + 5)]).await;
    }
    for n in 0..10 {
        publish_alerts(&store, vec![alert(&format!("b{n}"), 1, 11, 5)]).await;
    }
    for limit in [1, 7, 100] {
        let mut told: Vec<String> = all(&store, 0, limit).await.iter().map(said).collect();
        told.sort();
        told.dedup();
        let mut expected: Vec<String> = (0..10).map(|n| format!("b{n} active r1 new")).collect();
        expected.extend(["n covered by a".to_owned(), "a active r40 new".to_owned()]);
        expected.push(format!("action:{} action_proposed", action.id));
        expected.sort();
        assert_eq!(told, expected, "in steps of {limit}");
    }
}

#[tokio::test]
async fn each_follower_has_a_position_which_never_goes_back() {
    let (_folder, store) = store().await;
    assert_eq!(store.feed_position("kafka").await.unwrap(), None);
    for (noted, position) in [(7, 7), (9, 9), (8, 9)] {
        store.note_feed_position("kafka", noted).await.unwrap();
        assert_eq!(store.feed_position("kafka").await.unwrap(), Some(position));
    }
    assert_eq!(store.feed_position("kafka/soar").await.unwrap(), None);
}

#[tokio::test]
async fn a_revision_that_comes_while_an_earlier_one_is_being_told_takes_no_other_away() {
    let (_folder, store) = store().await;
    let mut seqs = Vec::new();
    for revision in 1..=3 {
        publish_alerts(&store, vec![alert("a", revision, 10, u64::from(revision) + 4)]).await;
        seqs.push(store.newest_seq().await.unwrap());
    }
    let row = store.alert("a").await.unwrap().unwrap();
    publish_alerts(&store, vec![alert("a", 4, 10, 8)]).await;
    for (seq, revision) in seqs.iter().zip(1..) {
        let past = store.as_it_was(row.clone(), *seq).await.unwrap();
        assert_eq!((past.row.revision, past.exact), (revision, true));
    }
}
