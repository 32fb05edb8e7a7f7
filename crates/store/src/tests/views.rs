//! Saved views, kept answers, the audit log.

use super::*;
use crate::{Error, MAX_VIEWS, kept_answers::MAX_KEPT};

fn view(name: &str, shared: bool) -> NewView {
    NewView { name: name.to_owned(), query: "severity=high".to_owned(), shared }
}

async fn names(store: &Store, owner: &str) -> Vec<String> {
    store
        .views(owner)
        .await
        .unwrap()
        .into_iter()
        .map(|view| format!("{} {}", view.owner, view.name))
        .collect()
}

#[tokio::test]
async fn views_are_ones_own_unless_shared() {
    let (_folder, store) = store().await;
    store.save_view(&view("mine", false), "ann", None).await.unwrap();
    store.save_view(&view("ours", true), "ann", None).await.unwrap();
    store.save_view(&view("mine", false), "bob", None).await.unwrap();
    assert_eq!(names(&store, "ann").await, ["ann mine", "ann ours"]);
    assert_eq!(names(&store, "bob").await, ["bob mine", "ann ours"]);
    assert!(matches!(store.save_view(&view("mine", true), "ann", None).await, Err(Error::Clash { .. })));
    assert!(matches!(store.remove_view(2, "bob", false).await, Err(Error::NotFound { .. })));
    assert!(matches!(store.remove_view(1, "bob", true).await, Err(Error::NotFound { .. })));
    store.remove_view(2, "bob", true).await.unwrap();
    store.remove_view(1, "ann", false).await.unwrap();
    assert_eq!(names(&store, "ann").await, [""; 0]);
    let log = store.audit(&newest(2)).await.unwrap().items;
    assert!(log.iter().all(|entry| entry.action == "view_removed" && entry.from.is_some()));
    for n in 0..MAX_VIEWS {
        store.save_view(&view(&n.to_string(), false), "ann", None).await.unwrap();
    }
    assert!(matches!(store.save_view(&view("one more", false), "ann", None).await, Err(Error::Full { .. })));
}

#[tokio::test]
async fn a_request_with_a_key_is_carried_out_once_also_over_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let open = async || Store::open(StoreSettings::new(folder.path(), Access::Engine)).await.unwrap();
    let answer = |view: &View| serde_json::to_string(&view.id);
    let store = open().await;
    let first = store.save_view(&view("v", false), "ann", Some(&once("k", 1, answer))).await.unwrap();
    assert!(matches!(first, Made::New(_)));
    drop(store);
    let store = open().await;
    let again = store.save_view(&view("v", false), "ann", Some(&once("k", 1, answer))).await.unwrap();
    assert!(matches!(&again, Made::Again(answer) if answer == "1"), "{again:?}");
    let other = store.save_view(&view("w", false), "ann", Some(&once("k", 2, answer))).await.unwrap_err();
    assert!(matches!(other, Error::KeyReused), "{other}");
    assert_eq!(names(&store, "ann").await.len(), 1);
    // What is refused is kept for nobody: mended, it is carried out.
    let taken = store.save_view(&view("v", false), "ann", Some(&once("j", 3, answer))).await;
    assert!(matches!(taken, Err(Error::Clash { .. })));
    store.remove_view(1, "ann", false).await.unwrap();
    let mended = store.save_view(&view("v", false), "ann", Some(&once("j", 3, answer))).await.unwrap();
    assert!(matches!(mended, Made::New(_)));
}

#[tokio::test]
async fn of_one_caller_the_newest_answers_are_kept() {
    let (_folder, store) = store().await;
    publish_alerts(&store, vec![alert("a", 1, 1, 5)]).await;
    let new = NewCase { title: "x".to_owned(), ..NewCase::default() };
    store.create_case(&new, "ann", None).await.unwrap();
    let answer = |entry: &AuditEntry| serde_json::to_string(&entry.seq);
    let note = async |key: i64| {
        let once = once(&key.to_string(), 1, answer);
        matches!(store.note_case(1, "n", "ann", Some(&once)).await, Ok(Made::Again(_)))
    };
    // A case has as many notes as a caller has answers, so the last ones need another case.
    for key in 0..MAX_KEPT {
        assert!(!note(key).await);
    }
    assert!(note(0).await);
    store
        .create_case(&new, "ann", Some(&once("one more", 1, |case| serde_json::to_string(&case.id))))
        .await
        .unwrap();
    assert!(!note(0).await, "the oldest has gone: the note is tried, and the case is full");
    assert!(note(1).await);
}

#[tokio::test]
async fn the_audit_log_is_read_by_who_what_and_when() {
    let (_folder, store) = store().await;
    publish_alerts(&store, vec![alert("a", 1, 1, 5), alert("b", 1, 1, 5)]).await;
    store.comment("a", "one", "ann", None).await.unwrap();
    let between = crate::store::now();
    store.comment("b", "two", "bob", None).await.unwrap();
    store.patch_triage("a", 0, &to(Status::Acknowledged), "ann").await.unwrap();
    let found = async |query: AuditQuery| {
        let page = store.audit(&AuditQuery { limit: 10, ..query }).await.unwrap();
        page.items.into_iter().map(|e| format!("{} {} {}", e.actor, e.action, e.target)).collect::<Vec<_>>()
    };
    let any = AuditQuery::default;
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(found(any()).await, ["ann triage a", "bob comment b", "ann comment a"]);
    assert_eq!(found(AuditQuery { actor: text("bob"), ..any() }).await, ["bob comment b"]);
    assert_eq!(found(AuditQuery { action: text("comment"), ..any() }).await.len(), 2);
    let both = AuditQuery { actor: text("ann"), target: text("a"), action: text("comment"), ..any() };
    assert_eq!(found(both).await, ["ann comment a"]);
    assert_eq!(found(AuditQuery { since: Some(between), ..any() }).await.len(), 2);
    assert_eq!(found(AuditQuery { until: Some(between), ..any() }).await, ["ann comment a"]);
    let page = store.audit(&newest(2)).await.unwrap();
    let (at, seq) = page.next_cursor.as_deref().and_then(|cursor| cursor.split_once('-')).unwrap();
    let before = Some((at.parse().unwrap(), seq.parse().unwrap()));
    assert_eq!(found(AuditQuery { before, ..any() }).await, ["ann comment a"]);
}
