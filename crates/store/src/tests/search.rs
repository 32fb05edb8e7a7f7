//! What a row is found by, in the index and one by one; what is capped says so.

use super::*;
use crate::MAX_FOUND;

async fn found(store: &Store, q: &str) -> Vec<String> {
    let filter = Filter { q: Some(q.to_owned()), ..Default::default() };
    let query =
        ListQuery { filter: filter.clone(), sort: Sort::parse("created").unwrap(), limit: 500, cursor: None };
    let list: Vec<String> = store.list(&query).await.unwrap().items.into_iter().map(|row| row.id).collect();
    // The stream asks for single rows, and must get the same answer.
    let every = store.list(&ListQuery { limit: 500, ..Default::default() }).await.unwrap().items;
    let every: Vec<String> = every.into_iter().map(|row| row.id).collect();
    let one_by_one = store.matching(&filter, &every).await.unwrap();
    let mut one_by_one: Vec<String> = one_by_one.into_iter().map(|row| row.id).collect();
    let mut sorted = list.clone();
    one_by_one.sort();
    sorted.sort();
    assert_eq!(one_by_one, sorted, "{q}");
    list
}

fn row(id: &str, title: &str, key: &str, entity: &str, tag: &str) -> AlertRevision {
    let mut of = alert(id, 1, 1, 1);
    of.rule_title = title.to_owned();
    of.key = key.to_owned();
    of.entity = Some(EntityRef { kind: "source.ip".to_owned(), value: entity.to_owned() });
    of.tags = vec![tag.to_owned()];
    of.body = format!("{{\"key\":{key},\"rule\":{{\"tags\":[\"{tag}\"]}}}}");
    of
}

#[tokio::test]
async fn rows_are_found_by_words_their_beginnings_and_their_parts() {
    let (_folder, store) = store().await;
    let scan = row("scan", "Port scan (SSH)", "{\"source.ip\":\"10.20.0.4\"}", "10.20.0.4", "attack.t1046");
    let stuffing = row(
        "stuffing",
        "Ärger: credential stuffing",
        "{\"user.name\":\"CORP\\\\ann.lee@example.com\",\"n\":[7,8]}",
        "2001:db8::/64",
        "attack.t1110.004",
    );
    publish_alerts(&store, vec![scan, stuffing]).await;
    let (scan, stuffing) = (vec!["scan".to_owned()], vec!["stuffing".to_owned()]);
    for q in
        ["T1046", "attack.t1046", "port", "POR", "ssh", "scan port", "10.20.0.4", "10.20.", "(10.20.0.4)"]
    {
        assert_eq!(found(&store, q).await, scan, "{q}");
    }
    for q in [
        "t1110",
        "T1110.004",
        "ärg",
        "ann.lee",
        "lee@example.com",
        "example",
        "corp\\ann",
        "2001:db8",
        "7",
        "credential 8",
    ] {
        assert_eq!(found(&store, q).await, stuffing, "{q}");
    }
    for q in [
        "",
        "  ",
        "(",
        "\"",
        "*",
        "po",
        "20.0.4",
        "port t1110",
        "NEAR(a b)",
        "words:port",
        "a' or 1=1",
        "\0",
        "😀",
    ] {
        assert_eq!(found(&store, q).await, Vec::<String>::new(), "{q}");
    }
    assert_eq!(found(&store, "rule-1").await.len(), 2);
    assert_eq!(found(&store, &"port ".repeat(10_000)).await, scan);
    assert_eq!(found(&store, &"x".repeat(100_000)).await.len(), 0);
}

#[tokio::test]
async fn ids_are_found_by_their_beginning() {
    let (_folder, store) = store().await;
    let id = "0123456789abcdef".repeat(4);
    publish_alerts(&store, vec![row(&id, "t", "{}", "h", "x"), row("other", "t", "{}", "h", "x")]).await;
    for q in ["01234567", "0123456789ABCDEF", &id] {
        assert_eq!(found(&store, q).await, std::slice::from_ref(&id), "{q}");
    }
    assert_eq!(found(&store, "0123456").await, Vec::<String>::new(), "too short for one");
}

#[tokio::test]
async fn another_title_is_found_and_the_one_before_is_not() {
    let (_folder, store) = store().await;
    publish_alerts(&store, vec![row("a", "Old title", "{}", "h", "t")]).await;
    let mut next = row("a", "New title", "{}", "h", "attack.t1046");
    next.revision = 2;
    publish_alerts(&store, vec![next]).await;
    assert_eq!(found(&store, "new t1046").await, ["a"]);
    assert_eq!(found(&store, "old").await, Vec::<String>::new());
}

#[tokio::test]
async fn a_covered_notice_is_not_among_what_a_search_looks_at() {
    let (_folder, store) = store().await;
    let of = alert("a", 1, 10, 5);
    publish_notices(&store, vec![notice("n", &of)]).await;
    assert_eq!(
        found(&store, "logins").await,
        Vec::<String>::new().into_iter().chain(["n".to_owned()]).collect::<Vec<_>>()
    );
    publish_alerts(&store, vec![of]).await;
    assert_eq!(found(&store, "logins").await, ["a"]);
    let words = sqlx::query("select rowid from alert_search").fetch_all(&store.inner.readers).await.unwrap();
    assert_eq!(words.len(), 1);
}

#[tokio::test]
async fn what_is_left_out_is_said() {
    let (_folder, store) = store().await;
    let most = MAX_FOUND;
    publish_alerts(&store, (0..most).map(|n| alert(&format!("a{n}"), 1, n, 1)).collect()).await;
    let logins = Filter { q: Some("logins".to_owned()), ..Default::default() };
    let query = ListQuery { filter: logins.clone(), limit: 2, ..Default::default() };
    assert!(!store.search_capped(&logins).await.unwrap());
    publish_alerts(&store, vec![alert("last", 1, 0, 1)]).await;
    let page = store.list(&query).await.unwrap();
    assert!(store.search_capped(&logins).await.unwrap());
    assert_eq!(page.items[0].id, format!("a{}", most - 1));
    let summary = store.summary(SummaryBy::State, &logins).await.unwrap();
    assert_eq!((summary.groups[0].count, summary.capped), (most as u64, true));
    assert!(!store.search_capped(&Filter::default()).await.unwrap(), "no search, no cap");
    let entities = store.summary(SummaryBy::Entity, &Filter::default()).await.unwrap();
    assert_eq!((entities.groups.len(), entities.more), (crate::MAX_GROUPS, true));
}

#[tokio::test]
async fn what_goes_takes_its_words_and_techniques_along() {
    let (_folder, store) = store().await;
    let mut of = alert("a", 1, 1, 1);
    of.state = State::Ended;
    let mut kept = alert("b", 1, 1, 1);
    kept.tags = vec!["attack.t1046".to_owned()];
    publish_alerts(&store, vec![of, kept]).await;
    store.patch_triage("a", 0, &to(Status::Closed), "ann").await.unwrap();
    let old = vedette_event::Span(-1);
    let retention = Retention { alerts: old, revisions: old, dead_letters: old, ledger: old };
    let mut walk = crate::Sweep::default();
    while store.sweep(&mut walk, &retention, &[]).await.unwrap() {}
    for (table, left) in [("alert_search", 1), ("alert_bodies", 1), ("technique_sets", 1)] {
        let sql = format!("select 1 from {table}");
        let rows = sqlx::query(sqlx::AssertSqlSafe(sql)).fetch_all(&store.inner.readers).await.unwrap();
        assert_eq!(rows.len(), left, "{table}");
    }
    assert_eq!(found(&store, "logins").await, ["b"]);
}
