//! The past: each row is at each `seq` what it was when that was the newest.

use vedette_event::Severity;

use super::*;

/// A body with what revisions move on.
fn revised(id: &str, revision: u32, count: u64) -> AlertRevision {
    let event = |n: u64| {
        let time = Micros(100_000_000 + i64::try_from(n).unwrap()).to_string();
        serde_json::json!({"topic": "firewall", "partition": 0, "offset": 48_000 + n, "index": 0, "time": time, "flags": []})
    };
    let events = (0..5.min(count)).chain(count.saturating_sub(5).max(5)..count).map(event);
    let events: Vec<_> = events.collect();
    let mut alert = alert(id, revision, 100 + i64::from(revision), count);
    (alert.first_seen, alert.crossed_at) = (Micros(100_000_000), Micros(100_000_000));
    alert.body = serde_json::json!({
        "alert_id": id, "revision": revision, "state": "active", "count": count, "severity": alert.severity.name(),
        "last_seen": alert.last_seen.to_string(), "summary": alert.summary, "evidence": events, "explanation": {"window": "5m"},
    })
    .to_string();
    alert
}

/// What is compared: what an analyst saw of a row.
fn seen(row: &AlertRow) -> serde_json::Value {
    let body: serde_json::Value = serde_json::from_str(&row.body).unwrap();
    serde_json::json!([
        row.id,
        row.revision,
        row.state,
        row.count,
        row.severity,
        row.last_seen,
        row.summary,
        body,
        row.triage,
        row.recurred,
        row.withdrawn,
        row.covers,
        row.successor,
        row.case,
        row.snooze
    ])
}

/// The lists that are compared.
fn lists() -> [ListQuery; 9] {
    let filters = [
        Filter::default(),
        Filter { status: [Status::Closed].into(), ..Filter::default() },
        Filter { status: [Status::New, Status::Acknowledged].into(), ..Filter::default() },
        Filter { severity: [Severity::High].into(), ..Filter::default() },
        Filter { state: [RowState::Ended].into(), ..Filter::default() },
        Filter { case: Some(1), ..Filter::default() },
        Filter { snoozed: Some(true), ..Filter::default() },
        Filter { snoozed: Some(false), assignee: Some(String::new()), ..Filter::default() },
        Filter { assignee: Some("eve".to_owned()), q: Some("rule".to_owned()), ..Filter::default() },
    ];
    filters.map(|filter| ListQuery { filter, limit: 10, ..ListQuery::default() })
}

/// What was seen at a place in commit order: of each of some rows, and in each of the lists.
struct Seen {
    seq: i64,
    rows: Vec<Option<serde_json::Value>>,
    lists: Vec<Vec<serde_json::Value>>,
}

const IDS: [&str; 3] = ["a", "b", "n"];

#[derive(Default)]
struct Then(Vec<Seen>);

impl Then {
    async fn note(&mut self, store: &Store) {
        let (mut rows, mut listed) = (Vec::new(), Vec::new());
        for id in IDS {
            rows.push(store.alert(id).await.unwrap().as_ref().map(seen));
        }
        for query in lists() {
            listed.push(store.list(&query).await.unwrap().items.iter().map(seen).collect());
        }
        self.0.push(Seen { seq: store.newest_seq().await.unwrap(), rows, lists: listed });
    }
}

/// All that becomes of an alert.
async fn happens(store: &Store, then: &mut Then) {
    publish_notices(store, vec![notice("n", &revised("a", 1, 5))]).await;
    then.note(store).await;
    store.patch_triage("n", 0, &to(Status::Acknowledged), "ann").await.unwrap();
    then.note(store).await;
    publish_alerts(store, vec![revised("a", 1, 5)]).await;
    then.note(store).await;
    publish_alerts(store, vec![revised("a", 2, 7), revised("b", 1, 9), revised("a", 3, 12)]).await;
    then.note(store).await;
    let case = NewCase { title: "x".to_owned(), alerts: vec!["a".to_owned()], ..NewCase::default() };
    store.create_case(&case, "ann", None).await.unwrap();
    then.note(store).await;
    let row = get(store, "a").await;
    let snooze = NewSnooze {
        rule_id: row.rule_id.clone(),
        entity: row.entity.clone().unwrap(),
        until: crate::store::now().plus(vedette_event::Span::secs(3_600)),
        reason: "known scanner".to_owned(),
    };
    store.snooze(&snooze, "ann", None).await.unwrap();
    then.note(store).await;
    store.lift_snooze(1, "ann").await.unwrap();
    then.note(store).await;
    store.snooze(&snooze, "ann", None).await.unwrap();
    then.note(store).await;
    store.remove_from_case(1, &["a".to_owned()], "ann").await.unwrap();
    then.note(store).await;
    let close = TriagePatch { disposition: Some(Disposition::Benign), ..to(Status::Closed) };
    store.patch_triage("a", 1, &close, "bob").await.unwrap();
    then.note(store).await;
    store.comment("a", "a scanner", "bob", None).await.unwrap();
    then.note(store).await;
    // Ten times as many: it comes back.
    let mut worse = revised("a", 4, 130);
    worse.severity = Severity::High;
    worse.body = worse.body.replace("medium", "high");
    publish_alerts(store, vec![worse]).await;
    then.note(store).await;
    let mut ended = revised("a", 5, 130);
    ended.state = State::Ended;
    ended.severity = Severity::High;
    ended.body = ended.body.replace("\"active\"", "\"ended\"").replace("medium", "high");
    publish_alerts(store, vec![ended]).await;
    then.note(store).await;
}

#[tokio::test]
async fn each_row_and_each_list_is_at_each_seq_what_it_was_then() {
    let (_folder, store) = store().await;
    let mut then = Then::default();
    happens(&store, &mut then).await;
    for Seen { seq, rows, lists: listed } in &then.0 {
        for (id, before) in IDS.iter().zip(rows) {
            let past = store.alert_at(id, *seq).await.unwrap();
            assert!(past.as_ref().is_none_or(|past| past.exact));
            assert_eq!(&past.map(|past| seen(&past.row)), before, "{id} at {seq}");
        }
        for (query, before) in lists().iter().zip(listed) {
            let page = store.then(*seq).await.unwrap().list(query).await.unwrap();
            let past: Vec<_> = page.items.iter().map(seen).collect();
            assert_eq!(&past, before, "{query:?} at {seq}");
            assert_eq!(page.next_cursor, None);
        }
    }
    assert_eq!(store.alert_at("a", then.0[1].seq).await.unwrap(), None, "it was not there yet");
    assert_eq!(store.alert_at("nothing", i64::MAX).await.unwrap(), None);
}

/// What each revision adds to the store where three of its ten references are new: printed with `--nocapture`.
#[tokio::test]
async fn a_revision_keeps_what_the_one_before_had_otherwise() {
    let (_folder, store) = store().await;
    for revision in 1..=200 {
        publish_alerts(&store, vec![revised("a", revision, 10 + 3 * u64::from(revision))]).await;
    }
    let select = sqlx::query(
        "select count(*) as n, sum(length(back)) as bytes, max(length(back)) as most from alert_revisions",
    );
    let row = select.fetch_one(&store.inner.readers).await.unwrap();
    let (n, bytes, most): (i64, i64, i64) =
        (sqlx::Row::get(&row, "n"), sqlx::Row::get(&row, "bytes"), sqlx::Row::get(&row, "most"));
    let body = get(&store, "a").await.body.len() as i64;
    println!("{n} revisions, a body of {body} bytes: {} bytes each on average, {most} at most", bytes / n);
    assert_eq!(n, 200);
    assert!(most < body, "a difference is smaller than the body");
    // The way back is long, and as short as the points are many.
    let first = store.alert_at("a", 1).await.unwrap().unwrap();
    assert_eq!((first.row.revision, first.row.count, first.exact), (1, 13, true));
}

#[tokio::test]
async fn where_points_are_gone_the_oldest_that_can_be_made_is_given() {
    let (_folder, store) = store().await;
    for revision in 1..=4 {
        publish_alerts(&store, vec![revised("a", revision, u64::from(revision) * 10)]).await;
    }
    let mut tx = store.begin().await.unwrap();
    tx.run(sqlx::query("delete from alert_revisions where revision <= 2")).await.unwrap();
    tx.commit().await.unwrap();
    let past = store.alert_at("a", 1).await.unwrap().unwrap();
    assert_eq!((past.row.count, past.exact), (30, false));
}

#[tokio::test]
async fn a_time_is_told_as_what_was_there_when_its_minute_began() {
    let (_folder, store) = store().await;
    let now = crate::store::now();
    assert_eq!(store.seq_at(now).await.unwrap(), None);
    publish_alerts(&store, vec![revised("a", 1, 5)]).await;
    let minute = Micros(60_000_000);
    assert_eq!(store.seq_at(Micros(now.0 - 5 * minute.0)).await.unwrap(), Some(0));
    let newest = store.newest_seq().await.unwrap();
    assert_eq!(store.seq_at(Micros(now.0 + 5 * minute.0)).await.unwrap(), Some(newest));
}
