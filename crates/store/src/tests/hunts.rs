//! Hunts in the audit log, and those that are kept.

use super::*;
use crate::{Error, HUNT_BEGUN, HUNT_ENDED, MAX_SAVED_HUNTS, model::NewSavedHunt};

fn hunt(name: &str, shared: bool) -> NewSavedHunt {
    let sql = "select * from events where user.name = 'a ''b'''".to_owned();
    NewSavedHunt { name: name.to_owned(), sql, span: Some("24h".to_owned()), shared }
}

#[tokio::test]
async fn a_hunt_is_noted_before_it_begins_and_when_it_is_over() {
    let (_folder, store) = store().await;
    let first = store.begin_hunt("ann", r#"{"sql":"select 1"}"#.to_owned()).await.unwrap();
    let second = store.begin_hunt("bob", r#"{"sql":"select 2"}"#.to_owned()).await.unwrap();
    assert_ne!(first, second);
    store.end_hunt(first, "ann", "{}".to_owned(), r#"{"rows":1}"#.to_owned()).await.unwrap();
    let log = store.audit(&newest(10)).await.unwrap().items;
    let told: Vec<_> =
        log.iter().map(|entry| (&*entry.actor, &*entry.action, entry.target.clone())).collect();
    let target = |id: i64| format!("hunt:{id}");
    assert_eq!(
        told,
        [
            ("ann", HUNT_ENDED, target(first)),
            ("bob", HUNT_BEGUN, target(second)),
            ("ann", HUNT_BEGUN, target(first))
        ]
    );
    assert_eq!(log[0].to.as_deref(), Some(r#"{"rows":1}"#));
}

#[tokio::test]
async fn kept_hunts_are_ones_own_unless_shared() {
    let (_folder, store) = store().await;
    let names = async |owner: &str| -> Vec<String> {
        let kept = store.saved_hunts(owner).await.unwrap().into_iter();
        kept.map(|kept| format!("{} {}", kept.owner, kept.hunt.name)).collect()
    };
    store.save_hunt(&hunt("mine", false), "ann", None).await.unwrap();
    store.save_hunt(&hunt("ours", true), "ann", None).await.unwrap();
    store.save_hunt(&hunt("mine", false), "bob", None).await.unwrap();
    assert_eq!(names("ann").await, ["ann mine", "ann ours"]);
    assert_eq!(names("bob").await, ["bob mine", "ann ours"]);
    assert_eq!(store.saved_hunts("bob").await.unwrap()[0].hunt, hunt("mine", false));
    assert!(matches!(store.save_hunt(&hunt("mine", true), "ann", None).await, Err(Error::Clash { .. })));
    assert!(matches!(store.remove_saved_hunt(2, "bob", false).await, Err(Error::NotFound { .. })));
    assert!(matches!(store.remove_saved_hunt(1, "bob", true).await, Err(Error::NotFound { .. })));
    store.remove_saved_hunt(2, "bob", true).await.unwrap();
    store.remove_saved_hunt(1, "ann", false).await.unwrap();
    let log = store.audit(&newest(2)).await.unwrap().items;
    assert!(log.iter().all(|entry| entry.action == "hunt_removed" && entry.from.is_some()));
    for n in 0..MAX_SAVED_HUNTS {
        store.save_hunt(&hunt(&n.to_string(), false), "ann", None).await.unwrap();
    }
    let one_more = store.save_hunt(&hunt("one more", false), "ann", None).await;
    assert!(matches!(one_more, Err(Error::Full { .. })));
}
