//! Many writers, given-up writers, writers in another process.

use std::time::Duration;

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn writers_in_and_beside_the_engine_take_turns() {
    let (folder, store) = store().await;
    let tool = Store::open(Settings::new(folder.path(), Access::Tool)).await.unwrap();
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
            tool.comment("a", "seen", "ann").await.unwrap();
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
