//! Many writers, given-up writers, writers in another process.

use std::time::Duration;

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn writers_in_and_beside_the_engine_take_turns() {
    let (folder, store) = store().await;
    let tool = Store::open(StoreSettings::new(folder.path(), Access::Tool)).await.unwrap();
    publish_alerts(&store, vec![alert("a", 1, 1, 1)]).await;
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..20_u8 {
        let (engine, tool) = (store.clone(), tool.clone());
        tasks.spawn(async move {
            publish_alerts(&engine, vec![alert(&format!("b{n}"), 1, 1, 1)]).await;
            engine.list(&ListQuery::default()).await.unwrap();
        });
        tasks.spawn(async move {
            tool.create_token(&format!("t{n}"), Role::Analyst, [n; 32], "root").await.unwrap();
            tool.comment("a", "seen", "ann", None).await.unwrap();
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    let Changes::Next(changes) = store.changes(0, 1_000).await.unwrap() else { panic!("reset") };
    let seqs: Vec<_> = changes.iter().map(|change| change.seq).collect();
    assert_eq!(seqs, (1..=61).collect::<Vec<_>>(), "no seq is missing or given twice");
    assert_eq!(store.newest_seq().await.unwrap(), 61);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publication_given_up_leaves_no_trace_or_is_whole() {
    let (_folder, store) = store().await;
    for round in 0..30_u32 {
        let alerts: Vec<_> = (0..20).map(|n| alert(&format!("r{round}-{n}"), 1, 1, 1)).collect();
        let publication = Publication { alerts, ..Default::default() };
        let patience = Duration::from_micros(u64::from(round) * 150);
        let _ = tokio::time::timeout(patience, store.publish(&publication)).await;
        let filter = Filter { q: Some(format!("r{round}-")), ..Default::default() };
        let there = store.summary(SummaryBy::State, &filter).await.unwrap();
        // A commit may still be on its way when its caller has gone; then it is seen whole a little later.
        if !there.is_empty() {
            assert_eq!(there, [("active".to_owned(), 20)]);
        }
    }
    publish_alerts(&store, vec![alert("last", 1, 1, 1)]).await;
    assert_eq!(get(&store, "last").await.revision, 1);
}

/// A store with many long rows, so that a search takes a while.
async fn long_rows() -> (tempfile::TempDir, Store) {
    let (folder, store) = store().await;
    let long = |n: i64| AlertRevision {
        summary: "nothing to be found here ".repeat(4_000),
        ..alert(&format!("a{n}"), 1, n, 1)
    };
    publish_alerts(&store, (0..200).map(long).collect()).await;
    (folder, store)
}

/// What is in none of them.
fn nowhere() -> Filter {
    Filter { q: Some("here nowhere".to_owned()), ..Default::default() }
}

fn ended<T: 'static>(tasks: &mut tokio::task::JoinSet<T>) -> usize {
    std::iter::from_fn(|| tasks.try_join_next()).map(Result::unwrap).count()
}

/// Lists and access wait neither for searches nor for the writer: they end while all of those are still under way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn neither_searches_nor_a_writer_keep_lists_and_access_waiting() {
    let (_folder, store) = long_rows().await;
    store.create_token("ann", Role::Metrics, [1; 32], "root").await.unwrap();
    let writing = store.begin().await.unwrap();
    let mut searches = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let store = store.clone();
        searches.spawn(async move {
            store.list(&ListQuery { filter: nowhere(), ..Default::default() }).await.unwrap();
            store.summary(SummaryBy::State, &nowhere()).await.unwrap()
        });
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    for _ in 0..5 {
        assert_eq!(store.list(&ListQuery { limit: 5, ..Default::default() }).await.unwrap().items.len(), 5);
        assert_eq!(store.tokens_in_force().await.unwrap()[0].role, Role::Metrics);
    }
    let ended = ended(&mut searches);
    assert!(ended < 60, "{ended} of 100 searches ended before five lists");
    drop(writing);
    searches.shutdown().await;
}

/// What a change of many rows looks for, it looks for beside the writer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn publishing_does_not_wait_for_what_changes_look_for() {
    let (_folder, store) = long_rows().await;
    let as_of = store.newest_seq().await.unwrap();
    let mut changes = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let store = store.clone();
        changes.spawn(async move {
            let target = BulkTarget::Matching { filter: Box::new(nowhere()), as_of };
            store.bulk_triage(&target, &to(Status::Closed), "ann").await.unwrap()
        });
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    publish_alerts(&store, vec![alert("b", 1, 1, 1)]).await;
    let ended = ended(&mut changes);
    assert!(ended < 60, "{ended} of 100 changes ended before one publication");
    changes.shutdown().await;
}
