//! The cap, the ranges, repetitions and pages.

use super::*;
use crate::dead_letters::MAX_KEPT;

async fn publish(store: &Store, dead_letters: Vec<NewDeadLetter>) -> PublishOutcome {
    store.publish(&Publication { dead_letters, ..Default::default() }).await.unwrap()
}

#[tokio::test]
async fn the_first_thousand_are_kept_and_the_rest_are_ranges() {
    let (_folder, store) = store().await;
    let offsets = (0..MAX_KEPT + 500).map(|n| n * 3);
    let letters: Vec<_> = offsets.clone().map(letter).collect();
    let done = publish(&store, letters.clone()).await;
    assert_eq!((done.applied, done.ignored), (letters.len() as u64, 0));
    let counts = store.dead_letter_counts(Micros(0)).await.unwrap();
    assert_eq!(counts.len(), 1);
    let count = &counts[0];
    assert_eq!((count.kept, count.folded, count.hour), (1_000, 500, Micros(7_200_000_000)));
    assert_eq!((count.first_offset, count.last_offset), (Some(3_000), Some(4_497)));
    // A replay from the middle, in other portions, changes nothing but what is new.
    for portion in letters[200..].chunks(77) {
        assert_eq!(publish(&store, portion.to_vec()).await.applied, 0);
    }
    assert_eq!(store.dead_letter_counts(Micros(0)).await.unwrap(), counts);
    assert_eq!(publish(&store, vec![letter(9_000)]).await.applied, 1);
    // The cap is per source, reason and hour, over all partitions.
    let other = NewDeadLetter { partition: 1, ..letter(0) };
    publish(&store, vec![other]).await;
    let later = NewDeadLetter { ts_log: Some(Micros(10_800_000_000)), ..letter(9_001) };
    let reason = NewDeadLetter { reason: "oversized".into(), ..letter(9_002) };
    publish(&store, vec![later, reason]).await;
    let counts = store.dead_letter_counts(Micros(0)).await.unwrap();
    let sums: Vec<_> = counts.iter().map(|count| (count.partition, count.kept, count.folded)).collect();
    assert_eq!(sums, [(0, 1, 0), (0, 1_000, 501), (1, 0, 1), (0, 1, 0)]);
}

#[tokio::test]
async fn events_of_one_record_are_letters_of_their_own() {
    let (_folder, store) = store().await;
    let event = |index| NewDeadLetter { index: Some(index), ..letter(5) };
    let letters = vec![event(0), event(1)];
    assert_eq!(publish(&store, letters.clone()).await.applied, 2);
    assert_eq!(publish(&store, letters).await.ignored, 2);
}

#[tokio::test]
async fn a_letter_without_content_is_listed_like_any_other() {
    let (_folder, store) = store().await;
    publish(&store, vec![NewDeadLetter { reason: "null".into(), payload: Vec::new(), ..letter(5) }]).await;
    let page = store.dead_letters(None, 10, None).await.unwrap();
    assert_eq!((page.items[0].offset, page.items[0].bytes, page.items[0].start.len()), (5, 0, 0));
    let payload = store.dead_letter_payload(page.items[0].seq).await.unwrap();
    assert_eq!(payload, Some(Vec::new()));
}

#[tokio::test]
async fn a_new_incarnation_s_offsets_are_new() {
    let (_folder, store) = store().await;
    publish(&store, vec![letter(5)]).await;
    store.ask_to_accept("waf", "ann").await.unwrap();
    store.accept_asked().await.unwrap();
    assert_eq!(publish(&store, vec![letter(5)]).await.applied, 1);
}

#[tokio::test]
async fn pages_go_from_the_newest_back() {
    let (_folder, store) = store().await;
    publish(&store, (0..10).map(letter).collect()).await;
    let payload = vec![b'{'; 20_000];
    let long = NewDeadLetter { source: "api".into(), topic: "api".into(), payload, ..letter(77) };
    publish(&store, vec![long]).await;
    let mut cursor = None;
    let mut offsets = Vec::new();
    loop {
        let page = store.dead_letters(Some("waf"), 3, cursor.as_deref()).await.unwrap();
        offsets.extend(page.items.iter().map(|row| row.offset));
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(offsets, (0..10).rev().collect::<Vec<_>>());
    let page = store.dead_letters(None, 1, None).await.unwrap();
    let newest = &page.items[0];
    assert_eq!((newest.offset, newest.bytes, newest.start.len()), (77, 20_000, 16_384));
    assert_eq!(store.dead_letter_payload(newest.seq).await.unwrap().unwrap().len(), 20_000);
    assert_eq!(store.dead_letter_payload(-1).await.unwrap(), None);
    assert!(matches!(store.dead_letters(None, 1, Some("x")).await, Err(crate::Error::BadCursor)));
}
