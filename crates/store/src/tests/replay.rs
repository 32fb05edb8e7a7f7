//! Whatever the order and portions in which revisions and notices come, the same rows remain.

use proptest::prelude::*;

use super::*;

/// Everything about a row that must not depend on how it came.
async fn image(store: &Store) -> Vec<(String, u32, String, u64, Vec<String>, Status)> {
    let query = ListQuery { limit: 500, ..Default::default() };
    let rows = store.list(&query).await.unwrap().items;
    rows.into_iter()
        .map(|row| (row.id, row.revision, row.body, row.count, row.covers, row.triage.status))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn revisions_in_any_order_and_repetition_end_at_the_highest(
        steps in prop::collection::vec((0_u8..4, 1_u32..6), 1..40),
        portions in prop::collection::vec(1_usize..7, 1..40),
        replay_from in 0_usize..40,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (_folder, store) = store().await;
            let published: Vec<_> = steps
                .iter()
                .map(|(id, revision)| alert(&format!("a{id}"), *revision, i64::from(*id), u64::from(*revision) * 2))
                .collect();
            let mut rest = published.as_slice();
            for portion in portions.iter().cycle() {
                let (now, later) = rest.split_at((*portion).min(rest.len()));
                publish_alerts(&store, now.to_vec()).await;
                rest = later;
                if rest.is_empty() { break; }
            }
            let before = (image(&store).await, store.newest_seq().await.unwrap());
            let again = published[replay_from.min(published.len())..].to_vec();
            publish_alerts(&store, again).await;
            assert_eq!((image(&store).await, store.newest_seq().await.unwrap()), before, "a replay changes nothing");
            for (id, revision, body, ..) in &before.0 {
                let highest = steps.iter().filter(|(of, _)| format!("a{of}") == *id).map(|(_, r)| *r).max();
                assert_eq!(Some(*revision), highest);
                assert_eq!(body, &alert(id, *revision, 0, u64::from(*revision) * 2).body);
            }
        });
    }

    #[test]
    fn a_notice_is_covered_whether_it_comes_before_or_after(order in Just((0..6).collect::<Vec<u8>>()).prop_shuffle()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (_folder, store) = store().await;
            for step in order {
                let of = alert(if step % 2 == 0 { "a" } else { "b" }, 1 + u32::from(step / 4), 10, 5);
                if (2..4).contains(&step) {
                    publish_notices(&store, vec![notice(&format!("n{step}"), &of)]).await;
                } else {
                    publish_alerts(&store, vec![of]).await;
                }
            }
            let mut rows = image(&store).await;
            rows.sort();
            assert_eq!(rows.iter().map(|row| (row.0.as_str(), row.1)).collect::<Vec<_>>(), [("a", 2), ("b", 2)]);
        });
    }
}
