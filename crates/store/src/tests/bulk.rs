//! One change of many rows, and taking changes back.

use vedette_event::Span;

use super::*;
use crate::Error;

#[tokio::test]
async fn bulk_changes_answer_for_each_row() {
    let (_folder, store) = store().await;
    publish_alerts(&store, vec![alert("a", 1, 1, 5), alert("b", 1, 2, 5)]).await;
    store.patch_triage("b", 0, &to(Status::Acknowledged), "bob").await.unwrap();
    let items = ["a", "b", "c"].map(|id| BulkItem { id: id.to_owned(), version: 0, seen_revision: None });
    let target = BulkTarget::Items(items.to_vec());
    let results = changed(&store, &target, &to(Status::Closed), "ann").await.results;
    assert_eq!(results[0].outcome.as_ref().unwrap().triage.status, Status::Closed);
    assert!(matches!(results[1].outcome, Err(Error::Conflict { .. })));
    assert!(matches!(results[2].outcome, Err(Error::NotFound { .. })));
    let many = vec![BulkItem { id: "a".to_owned(), version: 0, seen_revision: None }; crate::MAX_BULK + 1];
    let refused = store.bulk_triage(&BulkTarget::Items(many), &to(Status::Closed), "ann", None).await;
    assert!(matches!(refused, Err(Error::TooMany { .. })));
}

#[tokio::test]
async fn a_bulk_change_by_filter_is_for_what_was_there() {
    let (_folder, store) = store().await;
    let rows = ["seen", "revised", "touched"].map(|id| alert(id, 1, 1, 5));
    publish_alerts(&store, rows.to_vec()).await;
    let as_of = store.newest_seq().await.unwrap();
    publish_alerts(&store, vec![alert("revised", 2, 1, 6), alert("later", 1, 2, 5)]).await;
    store.patch_triage("touched", 0, &to(Status::Acknowledged), "bob").await.unwrap();
    let target = BulkTarget::Matching { filter: Box::default(), as_of };
    let results = changed(&store, &target, &to(Status::Closed), "ann").await.results;
    let outcomes: Vec<_> = results
        .iter()
        .map(|result| (result.id.as_str(), result.outcome.as_ref().ok().map(|done| done.triage.status)))
        .collect();
    let expected = [("seen", Some(Status::Closed)), ("revised", Some(Status::New)), ("touched", None)];
    assert_eq!(outcomes, expected);
    assert!(get(&store, "revised").await.recurred);
    assert_eq!(get(&store, "later").await.triage.version, 0);
}

async fn taken_back(store: &Store, change: i64, actor: &str) -> BulkChange {
    made(store.undo_triage(change, actor, None).await.unwrap())
}

/// What a person sees of a row's triage, but for its version.
async fn handled(
    store: &Store,
    id: &str,
) -> (Status, Option<String>, Option<Disposition>, bool, Option<u64>) {
    let row = get(store, id).await;
    let Triage { status, assignee, disposition, .. } = row.triage;
    (status, assignee, disposition, row.recurred, row.since_closed)
}

fn closes(disposition: Disposition) -> TriagePatch {
    TriagePatch { disposition: Some(disposition), ..to(Status::Closed) }
}

fn items<const N: usize>(items: [(&str, i64); N]) -> BulkTarget {
    let item = |(id, version): (&str, i64)| BulkItem { id: id.to_owned(), version, seen_revision: None };
    BulkTarget::Items(items.map(item).to_vec())
}

fn effects(change: &BulkChange) -> Vec<Option<Effect>> {
    change.results.iter().map(|result| result.outcome.as_ref().ok().map(|done| done.effect)).collect()
}

#[tokio::test]
async fn what_a_filter_finds_is_changed_however_much_it_is_and_taken_back() {
    let (_folder, store) = store().await;
    let many = 2 * crate::MAX_BULK as i64 + 7;
    publish_alerts(&store, (0..many).map(|n| alert(&format!("a{n}"), 1, n, 5)).collect()).await;
    store.patch_triage("a3", 0, &to(Status::InProgress), "bob").await.unwrap();
    let as_of = store.newest_seq().await.unwrap();
    let open = Filter { status: [Status::New, Status::InProgress].into(), ..Default::default() };
    let target = BulkTarget::Matching { filter: Box::new(open), as_of };
    let before = store.written();
    let change = changed(&store, &target, &closes(Disposition::Benign), "ann").await;
    assert!(effects(&change).iter().all(|effect| *effect == Some(Effect::Changed)));
    assert_eq!(change.results.len(), many as usize);
    let after = store.written();
    assert_eq!(after.transactions - before.transactions, 16, "publishing has its turn in between");
    assert!((after.statements - before.statements) < many as u64 / 4, "rows are written in bulk");
    // What the same person did meanwhile elsewhere is of another change.
    store.patch_triage("a7", 1, &to(Status::New), "ann").await.unwrap();
    store.patch_triage("a9", 1, &to(Status::New), "bob").await.unwrap();
    let id = change.change_id.unwrap();
    assert_eq!(store.change_of(id, "ann").await.unwrap(), Some(many as u64));
    assert_eq!(store.change_of(id, "bob").await.unwrap(), None);
    let refused = store.undo_triage(id, "bob", None).await.unwrap_err();
    assert!(matches!(refused, Error::OfOther { .. }), "{refused}");
    let back = taken_back(&store, id, "ann").await;
    let refused: Vec<_> = back.results.iter().filter(|result| result.outcome.is_err()).collect();
    assert_eq!((back.results.len(), refused.len()), (many as usize, 2));
    assert_eq!((refused[0].id.as_str(), refused[1].id.as_str()), ("a7", "a9"));
    let row = get(&store, "a1").await;
    assert_eq!((row.triage.status, row.triage.disposition, row.triage.version), (Status::New, None, 2));
    assert_eq!(get(&store, "a3").await.triage.status, Status::InProgress);
    let entries = store.history("a1").await.unwrap();
    let ids: Vec<_> = entries.iter().map(|entry| entry.change_id).collect();
    assert_eq!(ids, [Some(id), back.change_id]);
    // That is a change, too.
    let again = taken_back(&store, back.change_id.unwrap(), "ann").await;
    assert_eq!(again.results.len(), many as usize - 2);
    let row = get(&store, "a3").await;
    assert_eq!((row.triage.status, row.triage.disposition), (Status::Closed, Some(Disposition::Benign)));
    // And so the rows are again as the first change left them.
    assert_eq!(store.change_of(id, "ann").await.unwrap(), Some(many as u64));
    let once_more = taken_back(&store, id, "ann").await;
    assert_eq!(once_more.results.iter().filter(|result| result.outcome.is_err()).count(), 2);
    assert_eq!(get(&store, "a3").await.triage.status, Status::InProgress);
    assert_eq!(store.change_of(id, "ann").await.unwrap(), None);
}

#[tokio::test]
async fn only_changes_of_alerts_are_taken_back() {
    let (_folder, store) = store().await;
    publish_alerts(&store, vec![alert("a", 1, 1, 5)]).await;
    let comment = made(store.comment("a", "looked", "ann", None).await.unwrap());
    for change in [comment.change_id.unwrap(), 0, -1, i64::MAX] {
        let refused = store.undo_triage(change, "ann", None).await.unwrap_err();
        assert!(matches!(refused, Error::NotFound { what: "change of alerts", .. }), "{refused}");
        assert_eq!(store.change_of(change, "ann").await.unwrap(), None);
    }
    let nothing = changed(&store, &items([("a", 0)]), &to(Status::New), "ann").await;
    assert_eq!((nothing.change_id, effects(&nothing)), (None, vec![Some(Effect::Unchanged)]));
}

#[tokio::test]
async fn all_is_again_what_it_was_before() {
    let (_folder, store) = store().await;
    publish_alerts(&store, ["a", "b"].map(|id| alert(id, 1, 10, 5)).to_vec()).await;
    // One that came back, somebody's.
    let own = TriagePatch { assignee: Some("eve".to_owned()), ..closes(Disposition::Benign) };
    store.patch_triage("a", 0, &own, "eve").await.unwrap();
    publish_alerts(&store, vec![alert("a", 2, 10, 50)]).await;
    // One that was closed at five, and has seven by now.
    store.patch_triage("b", 0, &closes(Disposition::FalsePositive), "eve").await.unwrap();
    publish_alerts(&store, vec![alert("b", 2, 10, 7)]).await;
    let before = [handled(&store, "a").await, handled(&store, "b").await];
    assert_eq!((before[0].3, before[1].4), (true, Some(2)));
    let closed_at = async || {
        let row = sqlx::query("select closed_at from alerts where id = 'b'");
        let row = row.fetch_one(&store.inner.readers).await.unwrap();
        sqlx::Row::get::<Option<i64>, _>(&row, 0)
    };
    let at = closed_at().await;
    let anew = TriagePatch { assignee: Some("ann".to_owned()), ..closes(Disposition::TruePositive) };
    for patch in [anew, to(Status::InProgress)] {
        let target = ["a", "b"].map(|id| async { get(&store, id).await.triage.version });
        let [a, b] = target;
        let change = changed(&store, &items([("a", a.await), ("b", b.await)]), &patch, "ann").await;
        assert_eq!(effects(&change), [Some(Effect::Changed), Some(Effect::Changed)]);
        assert_ne!([handled(&store, "a").await, handled(&store, "b").await], before);
        let back = taken_back(&store, change.change_id.unwrap(), "ann").await;
        assert_eq!(effects(&back), [Some(Effect::Changed), Some(Effect::Changed)]);
        assert_eq!([handled(&store, "a").await, handled(&store, "b").await], before);
        assert_eq!(closed_at().await, at);
        // The past says so, too.
        let newest = store.newest_seq().await.unwrap();
        let past = store.alert_at("a", newest).await.unwrap().unwrap().row;
        assert!(past.recurred && past.triage == get(&store, "a").await.triage);
    }
    // It still comes back at ten times five.
    publish_alerts(&store, vec![alert("b", 3, 10, 50)]).await;
    assert_eq!(handled(&store, "b").await.0, Status::New);
}

#[tokio::test]
async fn what_outgrew_its_closing_while_it_was_open_comes_back_when_it_is_closed_again() {
    let (_folder, store) = store().await;
    publish_alerts(&store, vec![alert("a", 1, 10, 5)]).await;
    store.patch_triage("a", 0, &closes(Disposition::Benign), "ann").await.unwrap();
    let opened = store.patch_triage("a", 1, &to(Status::InProgress), "ann").await.unwrap();
    publish_alerts(&store, vec![alert("a", 2, 10, 50)]).await;
    let back = taken_back(&store, opened.change_id.unwrap(), "ann").await;
    assert_eq!(effects(&back), [Some(Effect::Returned)]);
    assert_eq!(handled(&store, "a").await, (Status::New, None, None, true, None));
}

#[tokio::test]
async fn a_withdrawn_notice_stays_withdrawn() {
    let (_folder, store) = store().await;
    publish_notices(&store, vec![notice("n", &alert("a", 1, 10, 5))]).await;
    let change = changed(&store, &items([("n", 0)]), &to(Status::Acknowledged), "ann").await;
    let passed = Passed {
        rule_id: "rule-1".to_owned(),
        below: Micros(i64::MAX),
        settled: Micros(i64::MAX),
        reason: Withdrawal::Uncovered,
    };
    assert_eq!(store.withdraw(&[passed]).await.unwrap(), 1);
    let back = taken_back(&store, change.change_id.unwrap(), "ann").await;
    assert!(matches!(back.results[0].outcome, Err(Error::Conflict { .. })));
    assert_eq!(get(&store, "n").await.triage.status, Status::Closed);
}

#[tokio::test]
async fn what_is_told_is_what_was_changed() {
    let (_folder, store) = store().await;
    publish_alerts(&store, ["new", "done", "more"].map(|id| alert(id, 1, 1, 5)).to_vec()).await;
    store.patch_triage("done", 0, &closes(Disposition::Benign), "bob").await.unwrap();
    let as_of = store.newest_seq().await.unwrap();
    publish_alerts(&store, vec![alert("more", 2, 1, 6)]).await;
    let target = BulkTarget::Matching { filter: Box::default(), as_of };
    let change = changed(&store, &target, &closes(Disposition::Benign), "ann").await;
    let expected = [Effect::Changed, Effect::Unchanged, Effect::Returned].map(Some);
    assert_eq!(effects(&change), expected);
    let id = change.change_id.unwrap();
    assert_eq!(store.change_of(id, "ann").await.unwrap(), Some(1));
    // What came back is taken back with it.
    assert_eq!(effects(&taken_back(&store, id, "ann").await), [Some(Effect::Changed); 2]);
    assert!(!get(&store, "more").await.recurred);
}

#[tokio::test]
async fn a_row_that_is_named_twice_is_changed_once_after_the_other() {
    let (_folder, store) = store().await;
    publish_notices(&store, vec![notice("n", &alert("a", 1, 10, 5))]).await;
    publish_alerts(&store, vec![alert("a", 1, 10, 5)]).await;
    let target = items([("a", 0), ("n", 0), ("n", 1), ("a", 1)]);
    let change = changed(&store, &target, &to(Status::Acknowledged), "ann").await;
    let expected = [Some(Effect::Changed), None, Some(Effect::Unchanged), Some(Effect::Unchanged)];
    assert_eq!(effects(&change), expected);
    assert_eq!(get(&store, "a").await.triage.version, 1);
}

#[tokio::test]
async fn what_came_into_the_list_since_is_not_changed() {
    let (_folder, store) = store().await;
    let rows = ["there", "snoozed", "cased", "moved"].map(|id| alert(id, 1, 1, 5));
    publish_alerts(&store, rows.to_vec()).await;
    let pair = get(&store, "snoozed").await;
    let snooze = NewSnooze {
        rule_id: pair.rule_id.clone(),
        entity: pair.entity.clone().unwrap(),
        until: crate::store::now().plus(Span::secs(3_600)),
        reason: "known".to_owned(),
    };
    store.snooze(&snooze, "ann", None).await.unwrap();
    let listed = async |filter: &Filter, as_of| {
        let filter = Box::new(filter.clone());
        let change = changed(&store, &BulkTarget::Matching { filter, as_of }, &to(Status::New), "ann").await;
        let strangers = change.results.iter().filter(|result| result.outcome.is_err());
        strangers.map(|result| result.id.clone()).collect::<Vec<_>>()
    };
    let as_of = store.newest_seq().await.unwrap();
    store.lift_snooze(1, "ann").await.unwrap();
    let case = NewCase { title: "x".to_owned(), alerts: vec!["cased".to_owned()], ..NewCase::default() };
    store.create_case(&case, "ann", None).await.unwrap();
    publish_alerts(&store, vec![alert("moved", 2, 1, 6)]).await;
    let awake = Filter { snoozed: Some(false), ..Filter::default() };
    assert_eq!(listed(&awake, as_of).await, ["snoozed"]);
    let of_case = Filter { case: Some(1), ..Filter::default() };
    assert_eq!(listed(&of_case, as_of).await, ["cased"]);
    let newest = store.newest_seq().await.unwrap();
    assert!(listed(&of_case, newest).await.is_empty());
    assert_eq!(store.listed_at(&of_case, newest, 1).await.unwrap(), ["cased"]);
    assert!(store.listed_at(&of_case, as_of, 1).await.unwrap().is_empty());
    let refused = store.listed_at(&awake, newest, 3).await;
    assert!(matches!(refused, Err(Error::TooMany { max: 3 })));
}

#[tokio::test]
async fn severity_and_state_are_those_that_were_seen() {
    let (_folder, store) = store().await;
    let revised = |id: &str, revision: u32, severity: Severity, state: State| {
        let body =
            serde_json::json!({"revision": revision, "severity": severity, "state": state}).to_string();
        AlertRevision { severity, state, body, ..alert(id, revision, 1, 5) }
    };
    let (medium, high, active) = (Severity::Medium, Severity::High, State::Active);
    let first = [("risen", medium), ("ended", medium), ("high", high)];
    publish_alerts(&store, first.map(|(id, severity)| revised(id, 1, severity, active)).to_vec()).await;
    let as_of = store.newest_seq().await.unwrap();
    let then = [("risen", high, active), ("ended", medium, State::Ended), ("high", high, active)];
    let then = then.map(|(id, severity, state)| revised(id, 2, severity, state));
    publish_alerts(&store, then.to_vec()).await;
    let filters = [
        Filter { severity: [Severity::High].into(), ..Filter::default() },
        Filter { state: [RowState::Ended].into(), ..Filter::default() },
    ];
    let mut refused = Vec::new();
    for filter in filters {
        let target = BulkTarget::Matching { filter: Box::new(filter), as_of };
        let change = changed(&store, &target, &to(Status::Acknowledged), "ann").await;
        let strangers =
            change.results.iter().filter(|result| matches!(&result.outcome, Err(Error::NotListed { .. })));
        refused.extend(strangers.map(|result| result.id.clone()));
    }
    assert_eq!(refused, ["risen", "ended"]);
    assert_eq!(get(&store, "high").await.triage.status, Status::Acknowledged);
    assert_eq!(get(&store, "risen").await.triage.status, Status::New);
}

#[tokio::test]
async fn a_change_with_a_key_is_made_once() {
    let (_folder, store) = store().await;
    publish_alerts(&store, (0..1_100).map(|n| alert(&format!("a{n:04}"), 1, n, 5)).collect()).await;
    let answer: fn(&BulkChange) -> serde_json::Result<String> =
        |change| Ok(format!("{:?}", change.change_id));
    let as_of = store.newest_seq().await.unwrap();
    let target = BulkTarget::Matching { filter: Box::default(), as_of };
    let key = once("k", 1, answer);
    let first = made(store.bulk_triage(&target, &to(Status::Acknowledged), "ann", Some(&key)).await.unwrap());
    let again = store.bulk_triage(&target, &to(Status::Acknowledged), "ann", Some(&key)).await.unwrap();
    assert!(matches!(again, Made::Again(text) if text == format!("{:?}", first.change_id)));
    assert_eq!(get(&store, "a0000").await.triage.version, 1);
    let id = first.change_id.unwrap();
    let other = store.undo_triage(id, "ann", Some(&key)).await;
    assert!(matches!(other, Ok(Made::Again(_))), "the store compares the request's hash alone");
    let key = once("u", 2, answer);
    let back = made(store.undo_triage(id, "ann", Some(&key)).await.unwrap());
    let again = store.undo_triage(id, "ann", Some(&key)).await.unwrap();
    assert!(matches!(again, Made::Again(text) if text == format!("{:?}", back.change_id)));
    assert_eq!(get(&store, "a0000").await.triage.version, 2);
    // One that is under way is not begun again.
    let held = store.under_way(&key.key).unwrap();
    let refused = store.undo_triage(id, "ann", Some(&key)).await;
    assert!(matches!(refused, Err(Error::Clash { .. })));
    drop(held);
    assert!(store.undo_triage(id, "ann", Some(&key)).await.is_ok());
}

#[tokio::test]
async fn where_the_store_fails_in_the_middle_the_rest_is_told_and_what_was_done_is_taken_back() {
    let (_folder, store) = store().await;
    publish_alerts(&store, (0..300).map(|n| alert(&format!("a{n:03}"), 1, n, 5)).collect()).await;
    let run = |sql: &'static str| sqlx::query(sql).execute(&store.inner.writer);
    let answer: fn(&BulkChange) -> serde_json::Result<String> = |_| Ok(String::new());
    // In the second step; with the answer, in the last one; in the first.
    let failures = [
        (
            "create trigger fails before update of status on alerts when new.id = 'a150' \
          begin select raise(abort, 'x'); end",
            Some(128),
        ),
        (
            "create trigger fails before insert on kept_answers when new.change_id is null \
          begin select raise(abort, 'x'); end",
            Some(256),
        ),
        ("create trigger fails before update of status on alerts begin select raise(abort, 'x'); end", None),
    ];
    for (at, (failure, done)) in failures.into_iter().enumerate() {
        run(failure).await.unwrap();
        let as_of = store.newest_seq().await.unwrap();
        let target = BulkTarget::Matching { filter: Box::default(), as_of };
        let key = once(&at.to_string(), 1, answer);
        let change = store.bulk_triage(&target, &to(Status::Acknowledged), "ann", Some(&key)).await;
        run("drop trigger fails").await.unwrap();
        let Some(done) = done else {
            assert!(change.is_err(), "nothing was done");
            continue;
        };
        let change = made(change.unwrap());
        let effects = effects(&change);
        let changed = effects.iter().filter(|effect| **effect == Some(Effect::Changed)).count();
        assert_eq!((effects.len(), changed), (300, done));
        assert!(matches!(change.results[299].outcome, Err(Error::Unreached)));
        assert_eq!(get(&store, "a299").await.triage.status, Status::New);
        let back = taken_back(&store, change.change_id.unwrap(), "ann").await;
        assert_eq!(back.results.len(), done);
    }
}

#[tokio::test]
async fn a_change_that_was_cut_off_goes_on_with_its_key_under_one_id() {
    let (_folder, store) = store().await;
    publish_alerts(&store, (0..300).map(|n| alert(&format!("a{n:03}"), 1, n, 5)).collect()).await;
    let run = |sql: &'static str| sqlx::query(sql).execute(&store.inner.writer);
    let answer: fn(&BulkChange) -> serde_json::Result<String> =
        |change| Ok(format!("{:?}", change.change_id));
    let cut = "create trigger cut before update of status on alerts when new.id = 'a150' begin select raise(abort, 'x'); end";
    let as_of = store.newest_seq().await.unwrap();
    let open = Filter { status: [Status::New].into(), ..Filter::default() };
    let of_filter = BulkTarget::Matching { filter: Box::new(open), as_of };
    let named = (0..300).map(|n| BulkItem { id: format!("a{n:03}"), version: 2, seen_revision: None });
    for (name, target) in [("filter", of_filter), ("items", BulkTarget::Items(named.collect()))] {
        let (key, other) = (once(name, 1, answer), once(name, 2, answer));
        run(cut).await.unwrap();
        let first =
            made(store.bulk_triage(&target, &closes(Disposition::Benign), "ann", Some(&key)).await.unwrap());
        run("drop trigger cut").await.unwrap();
        assert_eq!(first.results.iter().filter(|result| result.outcome.is_err()).count(), 172);
        let refused = store.bulk_triage(&target, &to(Status::New), "ann", Some(&other)).await;
        assert!(matches!(refused, Err(Error::KeyReused)), "the key is of what was cut off");
        let whole =
            made(store.bulk_triage(&target, &closes(Disposition::Benign), "ann", Some(&key)).await.unwrap());
        assert_eq!((whole.change_id, whole.results.len()), (first.change_id, 300), "{name}");
        assert!(effects(&whole).iter().all(|effect| *effect == Some(Effect::Changed)));
        let kept = store.bulk_triage(&target, &closes(Disposition::Benign), "ann", Some(&key)).await.unwrap();
        assert!(matches!(kept, Made::Again(text) if text == format!("{:?}", first.change_id)));
        // Taking it back is cut off and goes on, too.
        let (id, key) = (whole.change_id.unwrap(), once(&format!("undo {name}"), 1, answer));
        run(cut).await.unwrap();
        let first = made(store.undo_triage(id, "ann", Some(&key)).await.unwrap());
        run("drop trigger cut").await.unwrap();
        let back = made(store.undo_triage(id, "ann", Some(&key)).await.unwrap());
        assert_eq!((back.change_id, back.results.len()), (first.change_id, 300));
        assert!(effects(&back).iter().all(|effect| *effect == Some(Effect::Changed)));
        assert_eq!(get(&store, "a000").await.triage.status, Status::New);
    }
}

#[tokio::test]
async fn changes_are_taken_back_one_after_the_other() {
    let (_folder, store) = store().await;
    publish_alerts(&store, vec![alert("a", 1, 10, 5)]).await;
    let patches = [to(Status::Acknowledged), to(Status::InProgress), closes(Disposition::Benign)];
    let (mut ids, mut states) = (Vec::new(), vec![handled(&store, "a").await]);
    for (version, patch) in patches.iter().enumerate() {
        ids.push(store.patch_triage("a", version as i64, patch, "ann").await.unwrap().change_id.unwrap());
        states.push(handled(&store, "a").await);
    }
    let refused = taken_back(&store, ids[1], "ann").await;
    assert!(matches!(refused.results[0].outcome, Err(Error::Conflict { .. })), "it is not the last");
    let mut undone = Vec::new();
    for at in (0..3).rev() {
        assert_eq!(store.change_of(ids[at], "ann").await.unwrap(), Some(1));
        let back = taken_back(&store, ids[at], "ann").await;
        assert_eq!(effects(&back), [Some(Effect::Changed)], "{at}");
        assert_eq!(handled(&store, "a").await, states[at]);
        assert_eq!(store.change_of(ids[at], "ann").await.unwrap(), None);
        let twice = taken_back(&store, ids[at], "ann").await;
        assert!(matches!(twice.results[0].outcome, Err(Error::Conflict { .. })), "it is taken back already");
        undone.push(back.change_id.unwrap());
    }
    // And made again one after the other, the last undo first.
    for (at, id) in undone.iter().rev().enumerate() {
        assert_eq!(effects(&taken_back(&store, *id, "ann").await), [Some(Effect::Changed)]);
        assert_eq!(handled(&store, "a").await, states[at + 1]);
    }
    assert_eq!(effects(&taken_back(&store, ids[2], "ann").await), [Some(Effect::Changed)]);
}

#[tokio::test]
async fn what_another_person_left_the_same_is_not_taken_back() {
    let (_folder, store) = store().await;
    publish_alerts(&store, vec![alert("a", 1, 10, 5)]).await;
    let own = store.patch_triage("a", 0, &to(Status::Acknowledged), "ann").await.unwrap();
    let own = own.change_id.unwrap();
    let other = store.patch_triage("a", 1, &to(Status::InProgress), "bob").await.unwrap();
    let refused = taken_back(&store, own, "ann").await;
    assert!(matches!(refused.results[0].outcome, Err(Error::Conflict { .. })));
    // The same values by a change that takes nothing back are another person's.
    let again = store.patch_triage("a", 2, &to(Status::Acknowledged), "bob").await.unwrap();
    let refused = taken_back(&store, own, "ann").await;
    assert!(matches!(refused.results[0].outcome, Err(Error::Conflict { .. })));
    assert_eq!(store.change_of(own, "ann").await.unwrap(), None);
    // Once both are taken back by whom they are of, the row is as she left it.
    for change in [again.change_id, other.change_id] {
        assert_eq!(effects(&taken_back(&store, change.unwrap(), "bob").await), [Some(Effect::Changed)]);
    }
    assert_eq!(store.change_of(own, "ann").await.unwrap(), Some(1));
    assert_eq!(effects(&taken_back(&store, own, "ann").await), [Some(Effect::Changed)]);
    assert_eq!(get(&store, "a").await.triage.status, Status::New);
}

#[tokio::test]
async fn what_was_triaged_since_is_a_conflict_whatever_it_was_then() {
    let (_folder, store) = store().await;
    publish_alerts(&store, ["there", "came", "revised"].map(|id| alert(id, 1, 1, 5)).to_vec()).await;
    store.patch_triage("there", 0, &to(Status::Acknowledged), "bob").await.unwrap();
    store.patch_triage("revised", 0, &to(Status::Acknowledged), "bob").await.unwrap();
    let as_of = store.newest_seq().await.unwrap();
    store.patch_triage("came", 0, &to(Status::Acknowledged), "bob").await.unwrap();
    publish_alerts(&store, vec![alert("revised", 2, 1, 6)]).await;
    let filter = Filter { status: [Status::Acknowledged].into(), ..Filter::default() };
    assert_eq!(store.listed_at(&filter, as_of, 2).await.unwrap(), ["there", "revised"]);
    let target = BulkTarget::Matching { filter: Box::new(filter), as_of };
    let change = changed(&store, &target, &to(Status::InProgress), "ann").await;
    assert_eq!(effects(&change), [Some(Effect::Changed), None, Some(Effect::Changed)]);
    let outcome = &change.results[1].outcome;
    assert!(matches!(outcome, Err(Error::Conflict { current, .. }) if current.version == 1), "{outcome:?}");
}

#[tokio::test]
async fn what_was_done_to_a_notice_is_not_taken_back_of_its_alert() {
    let (_folder, store) = store().await;
    let of = alert("a", 1, 10, 5);
    publish_notices(&store, vec![notice("n", &of)]).await;
    let change = changed(&store, &items([("n", 0)]), &to(Status::Acknowledged), "ann").await;
    // An episode of its own, of which somebody has said as much as of the notice.
    publish_alerts(&store, vec![of]).await;
    let sql = "update alerts set triage_version = 0, status = 'new' where id = 'a'";
    sqlx::query(sql).execute(&store.inner.writer).await.unwrap();
    store.patch_triage("a", 0, &closes(Disposition::TruePositive), "bob").await.unwrap();
    let back = taken_back(&store, change.change_id.unwrap(), "ann").await;
    assert!(matches!(back.results[0].outcome, Err(Error::Conflict { .. })), "{:?}", back.results);
    assert_eq!(get(&store, "a").await.triage.disposition, Some(Disposition::TruePositive));
}

#[tokio::test]
async fn a_row_that_a_change_named_several_times_is_what_it_was_before_the_first() {
    let (_folder, store) = store().await;
    publish_alerts(&store, ["a", "b", "c"].map(|id| alert(id, 1, 10, 5)).to_vec()).await;
    publish_alerts(&store, vec![alert("b", 2, 10, 6)]).await;
    // Each time it comes back, since more had come than was seen.
    let item = |(id, version): (&str, i64)| BulkItem { id: id.to_owned(), version, seen_revision: Some(1) };
    let target = BulkTarget::Items([("a", 0), ("b", 0), ("b", 1), ("c", 0), ("b", 2)].map(item).to_vec());
    let change = changed(&store, &target, &closes(Disposition::Benign), "ann").await;
    let (done, returned) = (Some(Effect::Changed), Some(Effect::Returned));
    assert_eq!(effects(&change), [done, returned, returned, done, returned]);
    assert!(get(&store, "b").await.recurred);
    let back = taken_back(&store, change.change_id.unwrap(), "ann").await;
    let told: Vec<_> = back.results.iter().map(|result| result.id.as_str()).collect();
    assert_eq!((told, effects(&back)), (vec!["a", "b", "c"], vec![done; 3]));
    assert_eq!(handled(&store, "b").await, (Status::New, None, None, false, None));
    assert_eq!(store.change_of(change.change_id.unwrap(), "ann").await.unwrap(), None);
    assert!(
        taken_back(&store, back.change_id.unwrap(), "ann").await.results.iter().all(|r| r.outcome.is_ok())
    );
    assert!(get(&store, "b").await.recurred);
}
