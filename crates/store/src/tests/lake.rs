//! The lake's catalog.

use super::*;
use crate::{
    model::{DropReason, Holds, LakeCatalog, LakeFile, LakePosition, LostInterval},
    store::now,
};

fn file(path: &str, source: &str, hour: i64) -> LakeFile {
    let at = |minute: i64| Micros((hour * 60 + minute) * 60_000_000);
    LakeFile {
        path: path.to_owned(),
        layout: 1,
        holds: Holds::Events,
        source: source.to_owned(),
        hour,
        earliest: at(1),
        latest: at(59),
        events: 10,
        bytes: 1_000,
        index_bytes: 30,
        written_at: at(70),
    }
}

fn position(partition: i32, next_offset: i64) -> LakePosition {
    LakePosition {
        topic: "t".to_owned(),
        incarnation: 0,
        partition,
        next_offset,
        newest_log: Some(Micros(next_offset)),
        last_hash: Some([7; 32]),
        through: None,
    }
}

async fn paths(store: &Store, source: Option<&str>, from: i64, to: i64) -> Vec<String> {
    let hour = |hour: i64| Micros(hour * 3_600_000_000);
    let files = store.lake_files(source, hour(from), hour(to)).await.unwrap();
    files.into_iter().map(|file| file.path).collect()
}

#[tokio::test]
async fn files_are_found_by_source_and_time_and_come_with_their_positions() {
    let (_folder, store) = store().await;
    let files = [file("b", "waf", 11), file("a", "waf", 10), file("c", "api", 10)];
    store.add_to_lake(&files, &[position(0, 10), position(1, 7)]).await.unwrap();
    assert_eq!(paths(&store, None, 0, 100).await, ["c", "a", "b"]);
    assert_eq!(paths(&store, Some("waf"), 11, 12).await, ["b"]);
    assert_eq!(paths(&store, Some("waf"), 0, 10).await, [""; 0], "it begins a minute later");
    assert_eq!(
        store.lake_files(Some("api"), Micros::MIN, Micros::MAX).await.unwrap(),
        [file("c", "api", 10)]
    );
    assert_eq!(store.lake_positions().await.unwrap(), [position(0, 10), position(1, 7)]);
    let catalog = store.lake_catalog(Some("waf")).await.unwrap();
    let waf = vec![file("a", "waf", 10), file("b", "waf", 11)];
    assert_eq!(
        catalog,
        LakeCatalog {
            files: waf,
            positions: vec![position(0, 10), position(1, 7)],
            ..LakeCatalog::default()
        }
    );
    assert_eq!(store.lake_catalog(None).await.unwrap().files.len(), 3);
    store.add_to_lake(&[], &[position(0, 9), position(1, 8)]).await.unwrap();
    assert_eq!(store.lake_positions().await.unwrap(), [position(0, 10), position(1, 8)], "never back");
    let idle = LakePosition { through: Some(Micros(99)), ..position(1, 8) };
    store.add_to_lake(&[], std::slice::from_ref(&idle)).await.unwrap();
    store.add_to_lake(&[], &[position(1, 8)]).await.unwrap();
    assert_eq!(store.lake_positions().await.unwrap(), [position(0, 10), idle], "complete for longer");
}

#[tokio::test]
async fn what_cannot_be_taken_in_whole_is_not_taken_in_at_all() {
    let (_folder, store) = store().await;
    store.add_to_lake(&[file("a", "waf", 10)], &[position(0, 10)]).await.unwrap();
    let again = [file("b", "waf", 10), file("a", "waf", 10)];
    store.add_to_lake(&again, &[position(0, 20)]).await.unwrap_err();
    assert_eq!(paths(&store, None, 0, 100).await, ["a"]);
    assert_eq!(store.lake_positions().await.unwrap(), [position(0, 10)]);
    let both = [file("a", "waf", 10), file("x", "waf", 10)];
    let error = store.drop_from_lake(&both, DropReason::Age).await.unwrap_err();
    assert_eq!(error.to_string(), "there is no file of the lake `x`");
    assert_eq!(paths(&store, None, 0, 100).await, ["a"], "none goes where one is not there");
    assert_eq!(store.leaving_lake().await.unwrap(), []);
    assert_eq!(store.lake_catalog(None).await.unwrap().dropped, []);
    store.replace_in_lake(&both, &file("b", "waf", 10)).await.unwrap_err();
    store.add_to_lake(&[file("b", "waf", 10)], &[]).await.unwrap();
    store.replace_in_lake(&[file("a", "waf", 10)], &file("b", "waf", 10)).await.unwrap_err();
    assert_eq!(paths(&store, None, 0, 100).await, ["a", "b"]);
}

#[tokio::test]
async fn what_is_dropped_is_counted_and_its_file_leaves() {
    let (_folder, store) = store().await;
    let files = [file("a", "waf", 10), file("b", "waf", 11), file("c", "api", 10), file("d", "waf", 12)];
    store.add_to_lake(&files, &[]).await.unwrap();
    assert_eq!(store.lake_bytes().await.unwrap(), 4_000);
    let began = now();
    store.drop_from_lake(&files[..1], DropReason::Age).await.unwrap();
    store.drop_from_lake(&files[1..3], DropReason::Size).await.unwrap();
    assert_eq!(paths(&store, None, 0, 100).await, ["d"]);
    assert_eq!(store.lake_bytes().await.unwrap(), 1_000);
    let catalog = store.lake_catalog(Some("waf")).await.unwrap();
    let said: Vec<_> = catalog.dropped.iter().map(|of| (of.why, of.through, of.events)).collect();
    assert_eq!(said, [(DropReason::Age, files[0].latest, 10), (DropReason::Size, files[1].latest, 10)]);
    assert!(catalog.dropped[0].at >= began);
    store.add_to_lake(&files[..1], &[]).await.unwrap();
    assert_eq!(store.lake_catalog(None).await.unwrap().dropped.len(), 3);
    let removed = store.removals(began).await.unwrap();
    let removed: Vec<_> = removed.iter().map(|of| (&*of.kind, &*of.subject, of.count)).collect();
    assert_eq!(removed, [("lake_events", "api", 10), ("lake_events", "waf", 20)]);
    let leaving = store.leaving_lake().await.unwrap();
    assert_eq!(leaving.iter().map(|file| &*file.path).collect::<Vec<_>>(), ["a", "b", "c"]);
    store.left_lake(&leaving[..2]).await.unwrap();
    assert_eq!(store.leaving_lake().await.unwrap(), leaving[2..]);
}

#[tokio::test]
async fn one_file_takes_the_place_of_others() {
    let (_folder, store) = store().await;
    let files = [file("a", "waf", 10), file("b", "waf", 10), file("c", "waf", 11)];
    store.add_to_lake(&files, &[position(0, 10)]).await.unwrap();
    store.replace_in_lake(&files[..2], &file("ab", "waf", 10)).await.unwrap();
    assert_eq!(paths(&store, None, 0, 100).await, ["ab", "c"]);
    let catalog = store.lake_catalog(None).await.unwrap();
    assert_eq!((catalog.dropped, catalog.positions), (vec![], vec![position(0, 10)]), "nothing is gone");
    assert_eq!(store.leaving_lake().await.unwrap().len(), 2);
}

#[tokio::test]
async fn what_was_lost_is_told_once_and_may_grow() {
    let (_folder, store) = store().await;
    let lost = |from, to| LostInterval {
        topic: "t".to_owned(),
        incarnation: 0,
        partition: 1,
        from,
        to,
        noticed_at: Micros(5),
    };
    for (from, to) in [(10, 20), (0, 3), (10, 20), (10, 25), (10, 15)] {
        store.lost_for_lake(&lost(from, to)).await.unwrap();
    }
    assert_eq!(store.lake_catalog(Some("waf")).await.unwrap().lost, [lost(0, 3), lost(10, 25)]);
}

#[tokio::test]
async fn originals_are_told_apart_and_counted_apart() {
    let (_folder, store) = store().await;
    let original = LakeFile { holds: Holds::Originals, bytes: 300, ..file("o", "waf", 10) };
    let files = [file("a", "waf", 10), original.clone()];
    store.add_to_lake(&files, &[position(0, 10)]).await.unwrap();
    let catalog = store.lake_catalog(None).await.unwrap();
    assert_eq!((catalog.files, catalog.originals), (files[..1].to_vec(), files[1..].to_vec()));
    assert_eq!(store.lake_bytes().await.unwrap(), 1_300, "they count to the lake's size");
    assert_eq!(paths(&store, None, 0, 100).await, ["a", "o"]);
    let before = async |holds, minute: i64| {
        let time = Micros((10 * 60 + minute) * 60_000_000);
        let files = store.lake_files_before(holds, time).await.unwrap();
        files.into_iter().map(|file| file.path).collect::<Vec<_>>()
    };
    assert_eq!(before(Holds::Originals, 60).await, ["o"]);
    assert_eq!(before(Holds::Events, 60).await, ["a"]);
    assert_eq!(before(Holds::Originals, 59).await, [""; 0], "it has one of this time");
    let began = now();
    store.drop_from_lake(&files[1..], DropReason::Age).await.unwrap();
    let catalog = store.lake_catalog(None).await.unwrap();
    assert_eq!((catalog.files.len(), catalog.originals), (1, vec![]));
    let said: Vec<_> = catalog.dropped.iter().map(|of| (of.holds, of.why, of.events)).collect();
    assert_eq!(said, [(Holds::Originals, DropReason::Age, 10)]);
    store.drop_from_lake(&files[..1], DropReason::Age).await.unwrap();
    let removed = store.removals(began).await.unwrap();
    let removed: Vec<_> = removed.iter().map(|of| (&*of.kind, &*of.subject, of.count)).collect();
    assert_eq!(removed, [("lake_events", "waf", 10), ("lake_originals", "waf", 10)]);
}
