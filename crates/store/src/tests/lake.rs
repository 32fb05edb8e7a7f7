//! The lake's catalog.

use super::*;
use crate::model::{LakeFile, LakePosition};

fn file(path: &str, source: &str, hour: i64) -> LakeFile {
    let at = |minute: i64| Micros((hour * 60 + minute) * 60_000_000);
    LakeFile {
        path: path.to_owned(),
        layout: 1,
        source: source.to_owned(),
        hour,
        earliest: at(1),
        latest: at(59),
        events: 10,
        bytes: 1_000,
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
    store.add_to_lake(&[], &[position(0, 9), position(1, 8)]).await.unwrap();
    assert_eq!(store.lake_positions().await.unwrap(), [position(0, 10), position(1, 8)], "never back");
}

#[tokio::test]
async fn what_cannot_be_taken_in_whole_is_not_taken_in_at_all() {
    let (_folder, store) = store().await;
    store.add_to_lake(&[file("a", "waf", 10)], &[position(0, 10)]).await.unwrap();
    let again = [file("b", "waf", 10), file("a", "waf", 10)];
    store.add_to_lake(&again, &[position(0, 20)]).await.unwrap_err();
    assert_eq!(paths(&store, None, 0, 100).await, ["a"]);
    assert_eq!(store.lake_positions().await.unwrap(), [position(0, 10)]);
    let error = store.remove_from_lake(&[file("a", "waf", 10), file("x", "waf", 10)]).await.unwrap_err();
    assert_eq!(error.to_string(), "there is no file of the lake `x`");
    assert_eq!(paths(&store, None, 0, 100).await, ["a"], "none goes where one is not there");
    store.remove_from_lake(&[file("a", "waf", 10)]).await.unwrap();
    assert_eq!(paths(&store, None, 0, 100).await, [""; 0]);
}
