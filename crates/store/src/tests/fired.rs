//! What fired, and where things were placed, for whoever looks at the past.

use vedette_event::StoredPlacement;

use super::{
    retention::{NOTHING_KEPT, sweep},
    *,
};

#[tokio::test]
async fn what_fired_is_told_page_by_page_with_what_became_of_it() {
    let (_folder, store) = store().await;
    let mut alerts: Vec<_> = (0..7).map(|n| alert(&format!("a{n}"), 1, 10 + n / 2, 3)).collect();
    alerts[6].rule_id = "rule-2".to_owned();
    publish_alerts(&store, alerts).await;
    publish_notices(&store, vec![notice("n", &alert("n", 1, 11, 1))]).await;
    let close = TriagePatch { disposition: Some(Disposition::FalsePositive), ..to(Status::Closed) };
    store.patch_triage("a2", 0, &close, "ann").await.unwrap();
    let (from, to) = (Micros(10_000_000), Micros(13_000_000));
    let mut all: Vec<FiredAlert> = Vec::new();
    loop {
        let after = all.last().map(|last| (last.crossed_at, &*last.alert_id));
        let page = store.fired((from, to), after, 2).await.unwrap();
        if page.is_empty() {
            break;
        }
        all.extend(page);
    }
    let ids: Vec<_> = all.iter().map(|of| &*of.alert_id).collect();
    assert_eq!(ids, ["a0", "a1", "a2", "a3", "a4", "a5"], "a notice is none, and the last crosses too late");
    let closed: Vec<_> =
        all.iter().filter(|of| of.closed).map(|of| (&*of.alert_id, of.disposition)).collect();
    assert_eq!(closed, [("a2", Some(Disposition::FalsePositive))]);
    assert_eq!((&*all[0].key, all[0].first_seen), ("{\"user\":\"a0\"}", Micros(10_000_000)));
}

#[tokio::test]
async fn placements_stay_for_as_long_as_the_lake_has_events_of_their_time() {
    let (_folder, store) = store().await;
    let placement = |offset| StoredPlacement {
        topic: "waf".into(),
        partition: 0,
        offset,
        flag: flags(),
        time: Micros(offset * 1_000),
    };
    let placements = (0..20).map(placement).collect();
    store.publish(&Publication { placements, ..Default::default() }).await.unwrap();
    store.ask_to_accept("waf", "ann").await.unwrap();
    store.accept_asked().await.unwrap();
    store.publish(&Publication { placements: vec![placement(3)], ..Default::default() }).await.unwrap();
    let ever = async || {
        let mut all = Vec::new();
        loop {
            let page = store.placements_ever(all.last(), 3).await.unwrap();
            if page.is_empty() {
                return all;
            }
            all.extend(page);
        }
    };
    let all = ever().await;
    assert_eq!((all.len(), all[20].0, &all[20].1), (21, 1, &placement(3)));
    let file = LakeFile {
        path: "waf/x.parquet".to_owned(),
        layout: 2,
        holds: crate::model::Holds::Events,
        source: "waf".to_owned(),
        hour: 0,
        earliest: Micros(12_000),
        latest: Micros(15_000),
        events: 1,
        bytes: 1,
        index_bytes: 0,
        written_at: Micros(0),
    };
    store.add_to_lake(&[file], &[]).await.unwrap();
    let starts = [LogStart { topic: "waf".into(), partition: 0, offset: 9 }];
    sweep(&store, &NOTHING_KEPT, &starts).await;
    let left: Vec<_> = ever().await.iter().map(|(of, at)| (*of, at.offset)).collect();
    let expected: Vec<_> = (12..20).map(|offset| (0, offset)).collect();
    assert_eq!(left, expected, "those of before are of no use to anybody");
}
