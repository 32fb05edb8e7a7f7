//! Tests on real files.
#![allow(clippy::unwrap_used)]

use crate::{Access, Settings, Store, model::*};

#[tokio::test]
async fn opens_twice_in_turn_and_publishes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(Settings::new(folder.path(), Access::Engine)).await.unwrap();
    assert_eq!(store.epoch(), Some(1));
    store.publish(&Publication::default()).await.unwrap();
    store.close().await;
    let store = Store::open(Settings::new(folder.path(), Access::Engine)).await.unwrap();
    assert_eq!(store.epoch(), Some(2));
    let listed = tokio::spawn(async move { store.list(&ListQuery::default()).await }).await.unwrap();
    assert_eq!(listed.unwrap().items, vec![]);
}
