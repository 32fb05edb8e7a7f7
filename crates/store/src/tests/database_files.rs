//! How a store was left, what happens under its feet, and the size of its journal.

use std::fs;

use super::*;
use crate::Error;

async fn open(folder: &TempDir) -> Result<Store, Error> {
    Store::open(StoreSettings::new(folder.path(), Access::Engine)).await
}

fn gone(outcome: Result<(), Error>, how: &str) -> Error {
    match outcome.unwrap_err() {
        error @ Error::Gone { what, .. } if what == how => error,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_store_that_was_there_is_never_begun_anew_without_a_word() {
    let (folder, store) = store().await;
    store.close().await;
    fs::remove_file(folder.path().join("vedette.db")).unwrap();
    for access in [Access::Engine, Access::Tool] {
        let error = Store::open(StoreSettings::new(folder.path(), access)).await.unwrap_err();
        assert!(error.fatal(), "{error:?}");
        let said = error.to_string();
        assert!(said.contains("vedette.db` is gone; restore it from a backup"), "{said}");
        assert!(said.contains("vedette.store"), "the remedy: {said}");
        assert!(!folder.path().join("vedette.db").exists(), "none was made");
    }
    // One without tables is none, whoever put it there.
    for content in [&b""[..], &[0; 0]] {
        fs::write(folder.path().join("vedette.db"), content).unwrap();
        assert!(matches!(open(&folder).await, Err(Error::Gone { .. })));
    }
    fs::remove_file(folder.path().join("vedette.db")).unwrap();
    let other = tempfile::tempdir().unwrap();
    let url = crate::store::database_url(&other.path().join("vedette.db"));
    let mut connection = <sqlx::AnyConnection as sqlx::Connection>::connect(&url).await.unwrap();
    sqlx::query("create table t (a bigint)").execute(&mut connection).await.unwrap();
    sqlx::Connection::close(connection).await.unwrap();
    fs::copy(other.path().join("vedette.db"), folder.path().join("vedette.db")).unwrap();
    assert!(matches!(open(&folder).await, Err(Error::Gone { .. })));
    // The remedy helps.
    fs::remove_file(folder.path().join("vedette.db")).unwrap();
    fs::remove_file(folder.path().join("vedette.store")).unwrap();
    assert_eq!(open(&folder).await.unwrap().epoch(), Some(1));
}

#[tokio::test]
async fn only_what_was_left_in_disorder_is_checked() {
    let (folder, store) = store().await;
    assert!(!store.unchecked(), "a new one");
    publish_alerts(&store, vec![alert("a", 1, 1, 1)]).await;
    store.close().await;
    let store = open(&folder).await.unwrap();
    assert!(!store.unchecked(), "closed in order");
    drop(store);
    let store = open(&folder).await.unwrap();
    assert!(store.unchecked(), "not closed");
    let mut tables = 0;
    store.check(|| tables += 1).await.unwrap();
    assert!(tables > 10 && !store.unchecked());
    store.close().await;
    let store = open(&folder).await.unwrap();
    assert!(!store.unchecked());
    store.close().await;
    // Who changes it in between is found out, and so is a store of a version that left no mark.
    let url = crate::store::database_url(&folder.path().join("vedette.db"));
    let mut other = <sqlx::AnyConnection as sqlx::Connection>::connect(&url).await.unwrap();
    sqlx::query("delete from tokens").execute(&mut other).await.unwrap();
    sqlx::query("insert into meta (name, value) values ('x', x'00')").execute(&mut other).await.unwrap();
    sqlx::Connection::close(other).await.unwrap();
    let store = open(&folder).await.unwrap();
    assert!(store.unchecked(), "changed since");
    store.check(|| ()).await.unwrap();
    store.close().await;
    fs::remove_file(folder.path().join("vedette.store")).unwrap();
    assert!(open(&folder).await.unwrap().unchecked(), "without a mark");
}

#[tokio::test]
async fn a_tool_leaves_the_mark_as_it_found_it() {
    let folder = tempfile::tempdir().unwrap();
    let tool = async || Store::open(StoreSettings::new(folder.path(), Access::Tool)).await.unwrap();
    let token = async |store: &Store, name: &str| {
        store
            .create_token(name, Role::Analyst, *blake3::hash(name.as_bytes()).as_bytes(), "root")
            .await
            .unwrap();
    };
    let in_order = async || {
        let store = open(&folder).await.unwrap();
        let unchecked = store.unchecked();
        store.close().await;
        !unchecked
    };
    // One that makes the store leaves it closed, as does one that finds it so; two at once, whoever is last.
    let made = tool().await;
    token(&made, "first").await;
    made.close().await;
    assert!(in_order().await, "made by a tool");
    for n in 0..3 {
        let store = tool().await;
        token(&store, &format!("one{n}")).await;
        store.close().await;
        let store = tool().await;
        store.revoke_token(&format!("one{n}"), "root").await.unwrap();
        store.close().await;
    }
    assert!(in_order().await, "changed by tools");
    let (a, b) = (tool().await, tool().await);
    token(&a, "a").await;
    token(&b, "b").await;
    a.close().await;
    token(&b, "c").await;
    b.close().await;
    assert!(in_order().await, "by two at once");
    // Not where an engine is, or was meanwhile and left it in disorder, or did before.
    let store = tool().await;
    let engine = open(&folder).await.unwrap();
    token(&store, "beside").await;
    store.close().await;
    drop(engine);
    assert!(open(&folder).await.unwrap().unchecked(), "an engine was in it");
    let store = tool().await;
    token(&store, "after").await;
    store.close().await;
    let store = open(&folder).await.unwrap();
    assert!(store.unchecked(), "it was in disorder before");
    store.check(|| ()).await.unwrap();
    store.close().await;
    let store = tool().await;
    drop(open(&folder).await.unwrap());
    token(&store, "between").await;
    store.close().await;
    assert!(open(&folder).await.unwrap().unchecked(), "an engine crashed in between");
}

#[tokio::test]
async fn damage_inside_is_found_by_the_check_and_stops_all_writing() {
    let (folder, store) = store().await;
    let alerts = (0..300).map(|n| alert(&format!("a{n}"), 1, n, 1)).collect();
    publish_alerts(&store, alerts).await;
    store.close().await;
    let file = folder.path().join("vedette.db");
    let mut bytes = fs::read(&file).unwrap();
    // Behind the pages that opening reads.
    let damaged = bytes.len() * 3 / 4;
    bytes[damaged..damaged + 8_192].fill(0xa5);
    fs::write(&file, bytes).unwrap();
    let store = open(&folder).await.unwrap();
    assert!(store.unchecked());
    let error = store.check(|| ()).await.unwrap_err();
    assert!(matches!(error, Error::Corrupt { .. }) && error.fatal(), "{error:?}");
    assert!(matches!(store.publish(&Publication::default()).await, Err(Error::Stopped)));
    store.close().await;
    assert!(open(&folder).await.unwrap().unchecked(), "it stays to be checked");
}

#[tokio::test]
async fn a_database_that_is_deleted_replaced_cut_or_overwritten_is_noticed() {
    let other = {
        let (folder, store) = store().await;
        publish_alerts(&store, vec![alert("other", 1, 1, 1)]).await;
        store.close().await;
        folder
    };
    for (how, deed) in
        [("is gone", 0), ("was replaced", 1), ("was replaced", 2), ("was cut", 3), ("was overwritten", 4)]
    {
        let (folder, store) = store().await;
        publish_alerts(&store, (0..200).map(|n| alert(&format!("a{n}"), 1, n, 1)).collect()).await;
        sqlx::query("pragma wal_checkpoint(truncate)").execute(&store.inner.writer).await.unwrap();
        store.verify().await.unwrap();
        let file = folder.path().join("vedette.db");
        match deed {
            0 => fs::remove_file(&file).unwrap(),
            1 => fs::rename(other.path().join("vedette.db"), &file).unwrap(),
            // Its journal alone.
            2 => {
                fs::rename(folder.path().join("vedette.db-wal"), folder.path().join("x")).unwrap();
                fs::write(folder.path().join("vedette.db-wal"), b"").unwrap();
            }
            3 => fs::File::options().write(true).open(&file).unwrap().set_len(8_192).unwrap(),
            _ => fs::write(&file, vec![7; 1 << 20]).unwrap(),
        }
        let error = gone(store.verify().await, how);
        assert!(error.fatal(), "{error}");
        assert!(matches!(store.publish(&Publication::default()).await, Err(Error::Stopped)), "{how}");
    }
}

#[tokio::test]
async fn the_journal_stays_bounded_while_readers_are_always_under_way() {
    let (_folder, store) = store().await;
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let ended = || stop.load(std::sync::atomic::Ordering::Relaxed);
    let reader = async || {
        while !ended() {
            let mut open = store.inner.readers.begin().await.unwrap();
            sqlx::query("select count(*) from alerts").fetch_one(&mut *open).await.unwrap();
            tokio::time::sleep(std::time::Duration::from_millis(15)).await;
            open.rollback().await.unwrap();
        }
    };
    let writer = async {
        let mut most = 0;
        for round in 0..40_u8 {
            let bytes = vec![round; 4 << 20];
            store.save_checkpoints(&[Checkpoint { group: 3, bytes }]).await.unwrap();
            most = most.max(store.sizes().journal);
            store.bound_journal().await.unwrap();
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        most
    };
    // Three, so that one is under way whenever another ends.
    let (most, ..) = tokio::join!(writer, reader(), reader(), reader());
    assert!(most > 32 << 20, "they were in the way: {most}");
    assert!(most < 96 << 20, "{most} bytes");
    assert!(store.sizes().database > 4 << 20);
}

#[tokio::test]
async fn a_reader_that_stays_does_not_hold_up_the_writer() {
    let (_folder, store) = store().await;
    let mut stays = store.inner.readers.begin().await.unwrap();
    sqlx::query("select count(*) from alerts").fetch_one(&mut *stays).await.unwrap();
    for group in 0..18 {
        store.save_checkpoints(&[Checkpoint { group, bytes: vec![group; 4 << 20] }]).await.unwrap();
    }
    assert!(!store.bound_journal().await.unwrap(), "it cannot be done now");
    store.save_checkpoints(&[Checkpoint { group: 0, bytes: vec![1] }]).await.unwrap();
    stays.rollback().await.unwrap();
    assert!(store.bound_journal().await.unwrap());
    assert_eq!(checkpoints(&store).await.unwrap().len(), 18);
}
