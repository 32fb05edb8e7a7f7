//! Lists, filters, cursors, the stream, plans.

use std::collections::BTreeSet;

use sqlx::Row;

use super::*;
use crate::{Error, alerts::PAGE_BYTES, filter::Select};

async fn all_ids(store: &Store, filter: Filter, sort: &str, limit: u32) -> Vec<String> {
    let mut query = ListQuery { filter, sort: Sort::parse(sort).unwrap(), limit, cursor: None };
    let mut ids = Vec::new();
    loop {
        let page = store.list(&query).await.unwrap();
        assert!(page.items.len() <= limit as usize);
        ids.extend(page.items.into_iter().map(|row| row.id));
        match page.next_cursor {
            Some(cursor) => query.cursor = Some(cursor),
            None => return ids,
        }
    }
}

#[tokio::test]
async fn every_order_pages_through_all_rows_once() {
    let (_folder, store) = store().await;
    let rows: Vec<_> = (0..23)
        .map(|n| {
            let mut row = alert(&format!("a{n:02}"), 1, n / 4, 1 + (n as u64 * 7) % 5);
            row.severity = Severity::ALL[n as usize % 5];
            row
        })
        .collect();
    publish_alerts(&store, rows).await;
    for key in SortKey::ALL {
        for sort in [key.name().to_owned(), format!("-{key}")] {
            let ids = all_ids(&store, Filter::default(), &sort, 4).await;
            assert_eq!(ids.len(), 23, "{sort}");
            assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), 23, "{sort}");
            let whole = all_ids(&store, Filter::default(), &sort, 500).await;
            assert_eq!(ids, whole, "{sort}");
        }
    }
    let newest = all_ids(&store, Filter::default(), "-crossed_at", 500).await;
    assert_eq!(newest[0], "a22");
}

#[tokio::test]
async fn a_page_ends_by_bytes_too_and_the_next_goes_on() {
    let (_folder, store) = store().await;
    let long = |n: i64| {
        let mut row = alert(&format!("a{n}"), 1, n, 1);
        row.body = format!("{{\"evidence\":[],\"pad\":\"{}\"}}", "x".repeat(PAGE_BYTES as usize / 3));
        row
    };
    publish_alerts(&store, (0..9).map(long).collect()).await;
    let mut query = ListQuery { limit: 500, ..Default::default() };
    let mut pages = Vec::new();
    loop {
        let page = store.list(&query).await.unwrap();
        assert!(
            page.items.iter().map(|row| row.body.len()).sum::<usize>() < PAGE_BYTES as usize / 3 * 4 + 400
        );
        pages.push(page.items.len());
        query.cursor = page.next_cursor;
        if query.cursor.is_none() {
            break;
        }
    }
    assert_eq!(pages, [3, 3, 3]);
}

#[tokio::test]
async fn a_cursor_holds_its_place_while_rows_are_inserted() {
    let (_folder, store) = store().await;
    publish_alerts(&store, (0..10).map(|n| alert(&format!("old{n}"), 1, n, 1)).collect()).await;
    let mut query = ListQuery { limit: 4, ..Default::default() };
    let first = store.list(&query).await.unwrap();
    publish_alerts(&store, (0..10).map(|n| alert(&format!("new{n}"), 1, 100 + n, 1)).collect()).await;
    publish_alerts(&store, vec![alert("old6", 2, 6, 9)]).await;
    query.cursor = first.next_cursor;
    query.limit = 500;
    let rest: Vec<_> = store.list(&query).await.unwrap().items.into_iter().map(|row| row.id).collect();
    assert_eq!(rest, ["old5", "old4", "old3", "old2", "old1", "old0"]);
    query.cursor = Some("00".to_owned());
    assert!(matches!(store.list(&query).await, Err(Error::BadCursor)));
}

#[tokio::test]
async fn filters_select_what_they_say() {
    let (_folder, store) = store().await;
    let mut rows: Vec<_> = (0..4).map(|n| alert(&format!("a{n}"), 1, 10 * n, 1)).collect();
    rows[1].severity = Severity::High;
    rows[1].rule_id = "rule-2".to_owned();
    rows[2].sources = vec!["waf".to_owned(), "firewall".to_owned()];
    rows[2].summary = "100% ÄRGER_x".to_owned();
    rows[3].state = State::Ended;
    publish_alerts(&store, rows.clone()).await;
    publish_notices(&store, vec![notice("n", &alert("x", 1, 500, 1))]).await;
    store.patch_triage("a0", 0, &to(Status::Closed), "ann").await.unwrap();
    let ids = async |filter: Filter| all_ids(&store, filter, "crossed_at", 2).await;
    let none = Filter::default;
    assert_eq!(ids(none()).await, ["a0", "a1", "a2", "a3", "n"]);
    assert_eq!(ids(Filter { status: [Status::Closed].into(), ..none() }).await, ["a0"]);
    let open = [Status::New, Status::Acknowledged].into();
    assert_eq!(ids(Filter { status: open, ..none() }).await, ["a1", "a2", "a3", "n"]);
    assert_eq!(
        ids(Filter { state: [RowState::Notice, RowState::Ended].into(), ..none() }).await,
        ["a3", "n"]
    );
    assert_eq!(ids(Filter { severity: [Severity::High].into(), ..none() }).await, ["a1"]);
    assert_eq!(ids(Filter { rule: ["rule-2".to_owned()].into(), ..none() }).await, ["a1"]);
    assert_eq!(ids(Filter { entity: Some("user-a2".into()), ..none() }).await, ["a2"]);
    assert_eq!(ids(Filter { entity_type: Some("host".into()), ..none() }).await, Vec::<String>::new());
    assert_eq!(ids(Filter { source: Some("waf".into()), ..none() }).await, ["a2"]);
    let since = Filter { since: Some(Micros(10_000_000)), until: Some(Micros(30_000_000)), ..none() };
    assert_eq!(ids(since).await, ["a1", "a2"]);
    for (q, found) in [
        ("many log", 5),
        ("LOGINS", 5),
        ("gins", 0),
        ("USER-A1", 1),
        ("'; drop table", 0),
        ("t1110", 5),
        ("-", 0),
    ] {
        assert_eq!(ids(Filter { q: Some(q.into()), ..none() }).await.len(), found, "{q}");
    }
    assert_eq!(ids(Filter { q: Some("x".repeat(100_000)), ..none() }).await.len(), 0);
    let some = ["a1".to_owned(), "n".to_owned(), "nobody".to_owned()];
    let high = Filter { severity: [Severity::High].into(), ..none() };
    assert_eq!(store.matching(&high, &some).await.unwrap().len(), 1);
    assert_eq!(store.matching(&none(), &[]).await.unwrap().len(), 0);
    let there = async |seq| store.there_at(&some, seq).await.unwrap().into_iter().collect::<Vec<_>>();
    let notice = store.alert("n").await.unwrap().unwrap();
    assert_eq!(there(notice.seq - 1).await, ["a1"]);
    assert_eq!(there(notice.seq).await, ["a1", "n"]);
    let by = async |by| {
        let groups = store.summary(by, &none()).await.unwrap().groups;
        groups.into_iter().map(|group| (group.name, group.count)).collect::<Vec<_>>()
    };
    assert_eq!(by(SummaryBy::Severity).await, [("medium".to_owned(), 4), ("high".to_owned(), 1)]);
    assert_eq!(by(SummaryBy::Status).await, [("closed".to_owned(), 1), ("new".to_owned(), 4)]);
    assert_eq!(by(SummaryBy::Rule).await, [("rule-1".to_owned(), 4), ("rule-2".to_owned(), 1)]);
    assert_eq!(by(SummaryBy::State).await.len(), 3);
    assert_eq!(by(SummaryBy::Technique).await, [("T1110".to_owned(), 5), ("T1110.001".to_owned(), 5)]);
    let entities = by(SummaryBy::Entity).await;
    assert_eq!((entities.len(), &entities[0]), (5, &("user-a0".to_owned(), 1)));
    for (technique, found) in [("T1110", 5), ("T1110.001", 5), ("T1046", 0)] {
        let technique = Filter { technique: [technique.to_owned()].into(), ..none() };
        assert_eq!(ids(technique).await.len(), found);
    }
    let owner = TriagePatch { assignee: Some("ann".into()), ..Default::default() };
    store.patch_triage("a1", 0, &owner, "ann").await.unwrap();
    assert_eq!(ids(Filter { assignee: Some("ann".into()), ..none() }).await, ["a1"]);
    assert_eq!(ids(Filter { assignee: Some(String::new()), ..none() }).await, ["a0", "a2", "a3", "n"]);
}

#[tokio::test]
async fn changes_come_in_order_and_reset_when_too_old() {
    let folder = tempfile::tempdir().unwrap();
    let settings = StoreSettings { changes_kept: 16, ..StoreSettings::new(folder.path(), Access::Engine) };
    let store = Store::open(settings).await.unwrap();
    let mut watch = store.watch();
    publish_alerts(&store, vec![alert("a", 1, 1, 1), alert("b", 1, 1, 1)]).await;
    watch.changed().await.unwrap();
    assert_eq!(*watch.borrow(), store.newest_seq().await.unwrap());
    let Changes::Next(changes) = store.changes(0, 100).await.unwrap() else { panic!("reset") };
    assert_eq!(changes.iter().map(|change| change.seq).collect::<Vec<_>>(), [1, 2]);
    assert_eq!((changes[0].kind, changes[1].id.as_str()), (ChangeKind::Alert, "b"));
    for revision in 2..60 {
        publish_alerts(&store, vec![alert("a", revision, 1, 1)]).await;
    }
    let seq = store.newest_seq().await.unwrap();
    assert_eq!(store.changes(0, 100).await.unwrap(), Changes::Reset { seq });
    assert_eq!(store.changes(seq + 1, 100).await.unwrap(), Changes::Reset { seq });
    assert_eq!(store.changes(seq, 100).await.unwrap(), Changes::Next(vec![]));
    let Changes::Next(changes) = store.changes(seq - 10, 100).await.unwrap() else { panic!("reset") };
    assert_eq!(changes.len(), 10);
}

async fn plan(store: &Store, filter: &Filter, sort: Sort, cursor: Option<&str>) -> String {
    let mut select = Select::new("id, summary", filter);
    select.page(sort, cursor).unwrap();
    select.push(" limit ");
    select.int(50);
    select.explain();
    let rows = select.statement().fetch_all(&store.inner.readers).await.unwrap();
    rows.iter().map(|row| row.get::<String, _>("detail")).collect::<Vec<_>>().join("; ")
}

#[tokio::test]
async fn lists_walk_an_index_and_sort_nothing() {
    let (_folder, store) = store().await;
    publish_alerts(&store, (0..50).map(|n| alert(&format!("a{n}"), 1, n, 1)).collect()).await;
    let status = Filter { status: [Status::New].into(), ..Default::default() };
    let rule = Filter { rule: ["rule-1".to_owned()].into(), ..Default::default() };
    let entity = Filter { entity: Some("user-a1".into()), ..Default::default() };
    let open = Filter { status: [Status::New, Status::Acknowledged].into(), ..Default::default() };
    for filter in [Filter::default(), status, rule, entity, open] {
        let sort = Sort::default();
        let first = store.list(&ListQuery { sort, limit: 1, ..Default::default() }).await.unwrap();
        for cursor in [None, first.next_cursor.as_deref()] {
            let plan = plan(&store, &filter, sort, cursor).await;
            assert!(plan.contains("USING INDEX alerts_"), "{plan}");
            assert!(!plan.contains("TEMP B-TREE"), "{plan} {filter:?}");
        }
    }
    let open = Filter { status: [Status::New, Status::Acknowledged].into(), ..Default::default() };
    let plan_of_open = plan(&store, &open, Sort::default(), None).await;
    assert!(plan_of_open.contains("alerts_open"), "{plan_of_open}");
    for key in SortKey::ALL {
        let sort = Sort { key: *key, descending: true };
        let first = store.list(&ListQuery { sort, limit: 1, ..Default::default() }).await.unwrap();
        let plan = plan(&store, &Filter::default(), sort, first.next_cursor.as_deref()).await;
        assert!(plan.contains("SEARCH alerts USING INDEX alerts_"), "{key}: {plan}");
        assert!(!plan.contains("TEMP B-TREE"), "{key}: {plan}");
    }
}
