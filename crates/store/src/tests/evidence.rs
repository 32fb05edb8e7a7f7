//! Evidence: awaited until each reference has its content, and told apart where it has none.

use super::*;

fn with_evidence(mut of: AlertRevision, offsets: &[i64]) -> AlertRevision {
    let list: Vec<_> = offsets
        .iter()
        .map(|offset| {
            format!(
                "{{\"topic\":\"api\",\"partition\":0,\"offset\":{offset},\"index\":0,\
                 \"time\":\"2026-01-01T00:00:00Z\",\"flags\":[]}}"
            )
        })
        .collect();
    of.body = format!("{{\"evidence\":[{}]}}", list.join(","));
    of
}

fn content(offset: i64, content: Content) -> EvidenceContent {
    EvidenceContent { topic: "api".to_owned(), incarnation: 0, partition: 0, offset, index: 0, content }
}

fn present(offset: i64) -> EvidenceContent {
    content(offset, Content::Present(format!("{{\"offset\":{offset}}}")))
}

async fn fetched(store: &Store, id: &str, contents: Vec<EvidenceContent>) {
    store.store_evidence(&[EvidenceOf { id: id.to_owned(), contents }]).await.unwrap();
}

/// Ids and missing offsets of the rows that await evidence.
async fn awaiting(store: &Store, after: i64, limit: u32) -> Vec<(String, Vec<i64>)> {
    let rows = store.awaiting_evidence(after, limit).await.unwrap();
    rows.into_iter().map(|row| (row.id, row.missing.iter().map(|e| e.offset).collect())).collect()
}

async fn contents(store: &Store, id: &str) -> Vec<(i64, Content)> {
    store.evidence(id).await.unwrap().into_iter().map(|c| (c.offset, c.content)).collect()
}

fn of(id: &str, missing: &[i64]) -> (String, Vec<i64>) {
    (id.to_owned(), missing.to_vec())
}

#[tokio::test]
async fn evidence_is_awaited_until_each_reference_has_its_content() {
    let (_folder, store) = store().await;
    publish_alerts(&store, vec![with_evidence(alert("a", 1, 10, 2), &[1, 2, 3])]).await;
    assert_eq!(awaiting(&store, 0, 10).await, [of("a", &[1, 2, 3])]);
    let before = store.newest_seq().await.unwrap();
    let some = vec![present(1), content(2, Content::Gone), present(77)];
    fetched(&store, "nobody", some.clone()).await;
    fetched(&store, "a", some.clone()).await;
    assert_eq!(store.newest_seq().await.unwrap(), before + 1, "the row has changed");
    assert_eq!(awaiting(&store, 0, 10).await, [of("a", &[3])]);
    fetched(&store, "a", some).await;
    assert_eq!(store.newest_seq().await.unwrap(), before + 1, "a repetition changes nothing");
    fetched(&store, "a", vec![content(3, Content::Undecodable("it is not JSON".to_owned()))]).await;
    assert_eq!(awaiting(&store, 0, 10).await, []);
    let fault = Content::Undecodable("it is not JSON".to_owned());
    let first = present(1).content;
    assert_eq!(contents(&store, "a").await, [(1, first.clone()), (2, Content::Gone), (3, fault.clone())]);
    // What was gone stays replaceable; what was there is not taken away.
    fetched(&store, "a", vec![content(1, Content::Gone), present(2)]).await;
    assert_eq!(contents(&store, "a").await, [(1, first), (2, present(2).content), (3, fault)]);
}

#[tokio::test]
async fn the_next_revision_awaits_only_what_is_new_and_drops_what_it_does_not_refer_to() {
    let (_folder, store) = store().await;
    publish_alerts(&store, vec![with_evidence(alert("a", 1, 10, 2), &[1, 2])]).await;
    fetched(&store, "a", vec![present(1), present(2)]).await;
    publish_alerts(&store, vec![with_evidence(alert("a", 2, 10, 3), &[2, 3])]).await;
    assert_eq!(awaiting(&store, 0, 10).await, [of("a", &[3])]);
    // What was fetched for the revision before is of no use any more.
    fetched(&store, "a", vec![present(1)]).await;
    assert_eq!(contents(&store, "a").await, [(2, present(2).content)]);
    fetched(&store, "a", vec![present(3)]).await;
    assert_eq!(awaiting(&store, 0, 10).await, []);
    // One that refers to the same events is seen to at once.
    publish_alerts(&store, vec![with_evidence(alert("a", 3, 10, 3), &[2, 3])]).await;
    assert_eq!(awaiting(&store, 0, 10).await, [of("a", &[])]);
    let before = store.newest_seq().await.unwrap();
    fetched(&store, "a", Vec::new()).await;
    assert_eq!(awaiting(&store, 0, 10).await, []);
    assert_eq!(store.newest_seq().await.unwrap(), before);
}

#[tokio::test]
async fn rows_come_oldest_first_and_page_by_page() {
    let (_folder, store) = store().await;
    let rows = (0..5).map(|n| with_evidence(alert(&format!("a{n}"), 1, 10, 1), &[n])).collect();
    publish_alerts(&store, rows).await;
    let first = store.awaiting_evidence(0, 2).await.unwrap();
    assert_eq!(first.iter().map(|row| row.id.as_str()).collect::<Vec<_>>(), ["a0", "a1"]);
    fetched(&store, "a2", vec![present(2)]).await;
    assert_eq!(awaiting(&store, first[1].seq, 9).await, [of("a3", &[3]), of("a4", &[4])]);
}

#[tokio::test]
async fn a_covered_notice_awaits_nothing() {
    let (_folder, store) = store().await;
    let alert = with_evidence(alert("a", 1, 10, 2), &[1]);
    let notice = NewNotice { body: alert.body.clone(), ..notice("n", &alert) };
    publish_notices(&store, vec![notice]).await;
    assert_eq!(awaiting(&store, 0, 10).await, [of("n", &[1])]);
    publish_alerts(&store, vec![alert]).await;
    assert_eq!(awaiting(&store, 0, 10).await, [of("a", &[1])]);
    fetched(&store, "n", vec![present(1)]).await;
    assert_eq!(awaiting(&store, 0, 10).await, [of("a", &[1])]);
}

#[tokio::test]
async fn evidence_is_of_the_incarnation_that_its_reference_names() {
    let (_folder, store) = store().await;
    let both = |mut of: AlertRevision| {
        let newer = of.body.replace("\"partition\"", "\"incarnation\":1,\"partition\"");
        let older = of.body.strip_suffix("]}").unwrap();
        let newer = newer.strip_prefix("{\"evidence\":[").unwrap();
        of.body = format!("{older},{newer}");
        of
    };
    publish_alerts(&store, vec![with_evidence(alert("a", 1, 10, 2), &[1, 2])]).await;
    fetched(&store, "a", vec![present(1)]).await;
    let accepted = NewIncarnation { topic: "api".to_owned(), incarnation: 1 };
    let accepted = Publication { incarnations: vec![accepted], ..Publication::default() };
    assert!(!accepted.is_empty());
    store.publish(&accepted).await.unwrap();
    // Released after the topic was accepted, and what goes on from before.
    let late = with_evidence(alert("b", 1, 10, 1), &[3]);
    publish_alerts(&store, vec![late, both(with_evidence(alert("a", 2, 10, 4), &[1, 2]))]).await;
    let rows = store.awaiting_evidence(0, 10).await.unwrap();
    let places =
        |of: &[vedette_event::Evidence]| of.iter().map(|e| (e.incarnation, e.offset)).collect::<Vec<_>>();
    let seen: Vec<_> =
        rows.iter().map(|row| (row.id.as_str(), places(&row.missing), places(&row.gone))).collect();
    assert_eq!(seen, [("b", vec![], vec![(0, 3)]), ("a", vec![(1, 1), (1, 2)], vec![(0, 2)])]);
    let other = Content::Present("{\"other\":1}".to_owned());
    let of_1 = |offset| EvidenceContent { incarnation: 1, ..content(offset, other.clone()) };
    fetched(&store, "a", vec![of_1(1), of_1(2), content(2, Content::Gone)]).await;
    let stored = contents(&store, "a").await;
    assert_eq!(stored, [(1, present(1).content), (2, Content::Gone), (1, other.clone()), (2, other)]);
    assert_eq!(awaiting(&store, 0, 10).await, [of("b", &[])]);
}

/// What an alert's children refer to is fetched with what it refers to itself.
#[tokio::test]
async fn the_evidence_of_children_is_awaited_too() {
    let (_folder, store) = store().await;
    let mut chain = with_evidence(alert("a", 1, 10, 2), &[5, 9]);
    let child = with_evidence(chain.clone(), &[1, 2, 3, 4, 5]).body;
    let own = chain.body.strip_suffix('}').unwrap();
    chain.body = format!("{own},\"explanation\":{{\"children\":[{child}],\"children_total\":1}}}}");
    publish_alerts(&store, vec![chain]).await;
    assert_eq!(awaiting(&store, 0, 10).await, [of("a", &[5, 9, 1, 2, 3, 4])]);
    fetched(&store, "a", [5, 9, 1, 2, 3].map(present).to_vec()).await;
    assert_eq!(awaiting(&store, 0, 10).await, [of("a", &[4])]);
    fetched(&store, "a", vec![present(4)]).await;
    assert_eq!(awaiting(&store, 0, 10).await, []);
    assert_eq!(contents(&store, "a").await.len(), 6);
}
