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
        let filter = Filter { q: Some(format!("user-r{round}-")), ..Default::default() };
        let there = store.summary(SummaryBy::State, &filter).await.unwrap().groups;
        // A commit may still be on its way when its caller has gone; then it is seen whole a little later.
        if !there.is_empty() {
            assert_eq!((there[0].name.as_str(), there[0].count, there.len()), ("active", 20, 1));
        }
    }
    publish_alerts(&store, vec![alert("last", 1, 1, 1)]).await;
    assert_eq!(get(&store, "last").await.revision, 1);
}

fn ended<T: 'static>(tasks: &mut tokio::task::JoinSet<T>) -> usize {
    std::iter::from_fn(|| tasks.try_join_next()).map(Result::unwrap).count()
}

/// Takes all connections that searches have, as long ones would.
async fn searching(store: &Store) -> Vec<sqlx::pool::PoolConnection<sqlx::Any>> {
    let mut held = Vec::new();
    while let Some(connection) = store.inner.searchers.try_acquire() {
        held.push(connection);
    }
    // Not all may be open yet.
    while held.len() < 2 {
        held.push(store.inner.searchers.acquire().await.unwrap());
    }
    held
}

fn logins() -> Filter {
    Filter { q: Some("logins".to_owned()), ..Default::default() }
}

/// Lists and access wait neither for searches nor for the writer: they end while all of those are still under way.
#[tokio::test]
async fn neither_searches_nor_a_writer_keep_lists_and_access_waiting() {
    let (_folder, store) = store().await;
    publish_alerts(&store, (0..9).map(|n| alert(&format!("a{n}"), 1, n, 1)).collect()).await;
    store.create_token("ann", Role::Metrics, [1; 32], "root").await.unwrap();
    let writing = store.begin().await.unwrap();
    let held = searching(&store).await;
    let mut searches = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let store = store.clone();
        searches.spawn(async move {
            store.list(&ListQuery { filter: logins(), ..Default::default() }).await.unwrap();
            store.summary(SummaryBy::State, &logins()).await.unwrap()
        });
    }
    for _ in 0..5 {
        assert_eq!(store.list(&ListQuery { limit: 5, ..Default::default() }).await.unwrap().items.len(), 5);
        assert_eq!(store.tokens_in_force().await.unwrap()[0].role, Role::Metrics);
    }
    assert_eq!(ended(&mut searches), 0, "searches have only their own connections");
    drop(held);
    assert_eq!(searches.join_all().await.len(), 20, "searches do not wait for the writer");
    drop(writing);
}

/// What a change of many rows looks for, it looks for beside the writer.
#[tokio::test]
async fn publishing_does_not_wait_for_what_changes_look_for() {
    let (_folder, store) = store().await;
    publish_alerts(&store, vec![alert("a", 1, 1, 1)]).await;
    let as_of = store.newest_seq().await.unwrap();
    let held = searching(&store).await;
    let mut changes = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let store = store.clone();
        changes.spawn(async move {
            let target = BulkTarget::Matching { filter: Box::new(logins()), as_of };
            store.bulk_triage(&target, &to(Status::Closed), "ann", None).await.unwrap()
        });
    }
    publish_alerts(&store, vec![alert("b", 1, 1, 1)]).await;
    assert_eq!(ended(&mut changes), 0, "all still look for their rows");
    drop(held);
    assert_eq!(changes.join_all().await.len(), 20);
}
