//! What is old and done with goes, in small steps, counted; nothing else does.

use sqlx::Row;
use vedette_event::{Span, StoredPlacement, time::DAY};

use super::*;
use crate::Sweep;

/// Everything is too old at once.
pub(super) const NOTHING_KEPT: Retention =
    Retention { alerts: Span(-1), revisions: Span(-1), dead_letters: Span(-1), ledger: Span(-1) };

pub(super) async fn sweep(store: &Store, retention: &Retention, starts: &[LogStart]) -> (u64, u64) {
    let mut walk = Sweep::default();
    let mut steps = 0;
    while store.sweep(&mut walk, retention, starts).await.unwrap() {
        steps += 1;
        assert!(steps < 1_000, "it never ends");
    }
    (walk.removed(), steps)
}

async fn count(store: &Store, table: &str) -> i64 {
    let sql = format!("select count(*) as n from {table}");
    sqlx::query(sqlx::AssertSqlSafe(sql)).fetch_one(&store.inner.readers).await.unwrap().get("n")
}

async fn removed(store: &Store, kind: &str) -> Vec<(String, u64)> {
    let all = store.removals(Micros(0)).await.unwrap();
    all.into_iter()
        .filter(|removal| removal.kind == kind)
        .map(|removal| (removal.subject, removal.count))
        .collect()
}

fn ended(id: &str) -> AlertRevision {
    let mut last = alert(id, 2, 10, 5);
    last.state = State::Ended;
    last
}

#[tokio::test]
async fn closed_alerts_go_with_all_that_is_theirs_and_open_ones_stay() {
    let (_folder, store) = store().await;
    let of = alert("closed", 1, 10, 5);
    publish_notices(&store, vec![notice("n", &of)]).await;
    publish_alerts(&store, vec![of, alert("open", 1, 10, 5), alert("active", 1, 10, 5)]).await;
    publish_alerts(&store, vec![ended("closed"), ended("open")]).await;
    let mut next = alert("next", 1, 86_400, 5);
    (next.key, next.continuation) = (ended("closed").key, true);
    publish_alerts(&store, vec![next]).await;
    assert_eq!(get(&store, "next").await.predecessor.as_deref(), Some("closed"));
    for id in ["closed", "active"] {
        let version = get(&store, id).await.triage.version;
        store.patch_triage(id, version, &to(Status::Closed), "ann").await.unwrap();
    }
    let kept = Retention { alerts: Span::secs(3_600), ..NOTHING_KEPT };
    sweep(&store, &kept, &[]).await;
    assert_eq!(count(&store, "alerts").await, 5, "closed a moment ago");
    sweep(&store, &NOTHING_KEPT, &[]).await;
    for (id, there) in [("closed", false), ("n", false), ("open", true), ("active", true), ("next", true)] {
        assert_eq!(store.alert(id).await.unwrap().is_some(), there, "{id}");
    }
    assert_eq!(get(&store, "next").await.predecessor, None);
    assert_eq!((count(&store, "alert_sources").await, count(&store, "alert_revisions").await), (3, 3));
    assert_eq!(removed(&store, "alerts").await, [("rule-1".to_owned(), 1)]);
    let kept = store.audit(&newest(10)).await.unwrap().items;
    assert!(kept.iter().any(|entry| entry.target == "closed"), "the audit log stays");
    // Opened again, it is no longer one that was closed.
    store.patch_triage("active", 1, &to(Status::InProgress), "ann").await.unwrap();
    let mut last = ended("active");
    last.revision = 3;
    publish_alerts(&store, vec![last]).await;
    sweep(&store, &NOTHING_KEPT, &[]).await;
    assert!(store.alert("active").await.unwrap().is_some());
}

#[tokio::test]
async fn an_alert_closed_as_its_notice_was_counts_from_its_own_appearance() {
    let (_folder, store) = store().await;
    let of = alert("a", 1, 10, 5);
    publish_notices(&store, vec![notice("n", &of)]).await;
    store.patch_triage("n", 0, &to(Status::Closed), "ann").await.unwrap();
    publish_alerts(&store, vec![of]).await;
    publish_alerts(&store, vec![ended("a")]).await;
    assert_eq!(get(&store, "a").await.triage.status, Status::Closed);
    sweep(&store, &NOTHING_KEPT, &[]).await;
    assert_eq!(count(&store, "alerts").await, 0);
}

#[tokio::test]
async fn a_predecessor_that_stays_forgets_a_successor_that_goes() {
    let (_folder, store) = store().await;
    publish_alerts(&store, vec![ended("before")]).await;
    let mut next = alert("next", 1, 86_400, 5);
    (next.key, next.continuation, next.state) = (ended("before").key, true, State::Ended);
    publish_alerts(&store, vec![next]).await;
    assert_eq!(get(&store, "before").await.successor.as_deref(), Some("next"));
    let version = get(&store, "next").await.triage.version;
    store.patch_triage("next", version, &to(Status::Closed), "ann").await.unwrap();
    sweep(&store, &NOTHING_KEPT, &[]).await;
    assert!(store.alert("next").await.unwrap().is_none());
    assert_eq!(get(&store, "before").await.successor, None);
}

#[tokio::test]
async fn a_closed_notice_stays_until_its_alert_has_come_or_cannot_come_any_more() {
    let (_folder, store) = store().await;
    let of = alert("a", 1, 10, 5);
    publish_notices(&store, vec![notice("n", &of)]).await;
    store.patch_triage("n", 0, &to(Status::Closed), "ann").await.unwrap();
    sweep(&store, &NOTHING_KEPT, &[]).await;
    assert!(store.alert("n").await.unwrap().is_some(), "its alert takes its triage over");
    let settled = Micros(90_000_000);
    let passed = Passed { rule_id: of.rule_id, below: settled, settled, reason: Withdrawal::Uncovered };
    store.publish(&Publication { passed: vec![passed], ..Default::default() }).await.unwrap();
    assert!(get(&store, "n").await.withdrawn.is_some());
    sweep(&store, &NOTHING_KEPT, &[]).await;
    assert!(store.alert("n").await.unwrap().is_none());
}

#[tokio::test]
async fn health_events_go_by_their_age_and_what_accepting_a_topic_rests_on_stays() {
    let (_folder, store) = store().await;
    let event = |key: &str, at: i64| HealthEvent {
        key: key.to_owned(),
        at: Micros(at),
        kind: "ingest".to_owned(),
        severity: Severity::High,
        message: String::new(),
    };
    store.ask_to_accept("api", "ann").await.unwrap();
    store.accept_asked().await.unwrap();
    let ahead = i64::MAX / 2;
    let keys = ["recreated/api/0", "recreated/api/1", "recreated/ap/0", "recreated/waf/0", "lost/waf/0/1"];
    let mut health = vec![event("ahead", ahead)];
    health.extend((0..300).map(|n| event(&format!("lost/{n}"), 1)));
    health.extend(keys.map(|key| event(key, 1)));
    store.publish(&Publication { health, ..Default::default() }).await.unwrap();
    sweep(&store, &NOTHING_KEPT, &[]).await;
    let left = sqlx::query("select event_key from health order by event_key");
    let left = left.fetch_all(&store.inner.readers).await.unwrap();
    let left: Vec<String> = left.iter().map(|row| row.get("event_key")).collect();
    assert_eq!(left, ["ahead", "recreated/ap/0", "recreated/api/1", "recreated/waf/0"]);
    for (topic, incarnation) in [("ap", 0), ("api", 1), ("waf", 0)] {
        assert!(store.has_health(&crate::recreated(topic, incarnation)).await.unwrap());
    }
    assert_eq!(removed(&store, "health").await, [("ingest".to_owned(), 302)]);
}

#[tokio::test]
async fn no_step_is_large_and_no_reading_step_takes_the_writer() {
    let (_folder, store) = store().await;
    publish_alerts(&store, (0..500).map(|n| alert(&format!("a{n}"), 1, n, 5)).collect()).await;
    publish_alerts(&store, (0..500).map(|n| ended(&format!("a{n}"))).collect()).await;
    let none = Retention {
        alerts: Span(DAY.0),
        revisions: Span(DAY.0),
        dead_letters: Span(DAY.0),
        ledger: Span(DAY.0),
    };
    let before = store.written();
    let (gone, steps) = sweep(&store, &none, &[]).await;
    assert_eq!((gone, store.written()), (0, before), "nothing was written");
    assert!(steps >= 4, "{steps} steps over 1,000 revisions");
    let filter = Filter::default();
    let as_of = store.newest_seq().await.unwrap();
    let all = BulkTarget::Matching { filter: Box::new(filter), as_of };
    store.bulk_triage(&all, &to(Status::Closed), "ann", None).await.unwrap();
    let before = store.written();
    let (gone, _) = sweep(&store, &NOTHING_KEPT, &[]).await;
    assert_eq!(gone, 500);
    let after = store.written();
    assert_eq!(
        after.transactions - before.transactions,
        500_u64.div_ceil(64) + 1,
        "64 alerts at a time, and their techniques"
    );
}

#[tokio::test]
async fn old_points_of_a_course_go_and_its_newest_stays() {
    let (_folder, store) = store().await;
    publish_alerts(&store, (1..=700).map(|n| alert("a", n, 10, u64::from(n))).collect()).await;
    publish_alerts(&store, vec![alert("b", 1, 10, 5)]).await;
    let kept = Retention { revisions: Span(-1), alerts: Span(DAY.0), ..NOTHING_KEPT };
    sweep(&store, &kept, &[]).await;
    let points: Vec<_> = store.revisions("a").await.unwrap().iter().map(|point| point.revision).collect();
    assert_eq!(points, [700]);
    assert_eq!(store.revisions("b").await.unwrap().len(), 1);
    assert_eq!(removed(&store, "revisions").await, [("rule-1".to_owned(), 699)]);
}

#[tokio::test]
async fn the_text_of_dead_letters_goes_and_their_counts_stay_longer() {
    let (_folder, store) = store().await;
    let letters: Vec<_> = (0..600).map(letter).collect();
    let publication = Publication { dead_letters: letters, ..Default::default() };
    store.publish(&publication).await.unwrap();
    // Their records say that they are of 1970; what counts is when they were stored.
    let kept = Retention { ledger: Span(DAY.0), ..NOTHING_KEPT };
    sweep(&store, &kept, &[]).await;
    assert_eq!(count(&store, "dead_letters").await, 0);
    assert_eq!(store.dead_letter_counts(Micros(0)).await.unwrap()[0].kept, 600);
    assert_eq!(removed(&store, "dead_letters").await, [("waf".to_owned(), 600)]);
    assert_eq!(store.publish(&publication).await.unwrap().applied, 0, "they are counted once");
    let row =
        sqlx::query("select bytes from dead_letter_bytes").fetch_one(&store.inner.readers).await.unwrap();
    assert_eq!(row.get::<i64, _>("bytes"), 0, "their room is free again");
    sweep(&store, &NOTHING_KEPT, &[]).await;
    assert_eq!(store.dead_letter_counts(Micros(0)).await.unwrap(), []);
}

#[tokio::test]
async fn a_placement_stays_as_long_as_its_record_can_be_read() {
    let (_folder, store) = store().await;
    let placement = |partition, offset| StoredPlacement {
        topic: "waf".into(),
        partition,
        offset,
        flag: flags(),
        time: Micros(5),
    };
    let stored = (0..700).map(|offset| placement(0, offset)).chain([placement(1, 3)]).collect();
    store.publish(&Publication { placements: stored, ..Default::default() }).await.unwrap();
    sweep(&store, &NOTHING_KEPT, &[]).await;
    assert_eq!(placements(&store).await.len(), 701, "age is no reason");
    let starts = [
        LogStart { topic: "waf".into(), partition: 0, offset: 690 },
        LogStart { topic: "waf".into(), partition: 1, offset: 3 },
    ];
    sweep(&store, &NOTHING_KEPT, &starts).await;
    let left: Vec<_> = placements(&store).await.iter().map(|p| (p.partition, p.offset)).collect();
    assert_eq!(left.len(), 11);
    assert_eq!((left[0], left[10]), ((0, 690), (1, 3)));
    assert_eq!(removed(&store, "placements").await, [("waf".to_owned(), 690)]);
    // The topic before this one is read no more.
    store.ask_to_accept("waf", "ann").await.unwrap();
    store.accept_asked().await.unwrap();
    sweep(&store, &NOTHING_KEPT, &starts).await;
    assert_eq!(count(&store, "placements").await, 0);
}

#[tokio::test]
async fn large_records_cannot_fill_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let settings =
        StoreSettings { dead_letter_bytes: 24 << 20, ..StoreSettings::new(folder.path(), Access::Engine) };
    let store = Store::open(settings).await.unwrap();
    let large = |offset, hour: i64| NewDeadLetter {
        payload: vec![b'x'; 1 << 20],
        ts_log: Some(Micros(hour * 3_600_000_000)),
        ..letter(offset)
    };
    for offset in 0..20 {
        let dead_letters = vec![large(2 * offset, 1), large(2 * offset + 1, 1)];
        store.publish(&Publication { dead_letters, ..Default::default() }).await.unwrap();
    }
    let counts = store.dead_letter_counts(Micros(0)).await.unwrap();
    assert_eq!((counts[0].kept, counts[0].folded), (16, 24), "16 MiB an hour");
    assert_eq!((counts[0].first_offset, counts[0].last_offset), (Some(16), Some(39)));
    // The source has 24 MiB in all, in whatever hours; what is small still fits.
    let dead_letters = (40..60).map(|offset| large(offset, 2)).chain([letter(60)]).collect();
    store.publish(&Publication { dead_letters, ..Default::default() }).await.unwrap();
    let counts = store.dead_letter_counts(Micros(0)).await.unwrap();
    let kept: Vec<_> = counts.iter().map(|count| (count.kept, count.folded)).collect();
    assert_eq!(kept, [(8, 13), (16, 24)]);
    // Another source has its own.
    let other = NewDeadLetter { source: "api".into(), topic: "api".into(), ..large(0, 2) };
    store.publish(&Publication { dead_letters: vec![other], ..Default::default() }).await.unwrap();
    assert_eq!(store.dead_letters(Some("api"), 9, None).await.unwrap().items.len(), 1);
}

#[tokio::test]
async fn a_store_of_the_first_format_learns_what_it_holds() {
    use crate::store::{STEPS, database_url, migrator};
    let folder = tempfile::tempdir().unwrap();
    sqlx::any::install_default_drivers();
    let url = database_url(&folder.path().join("vedette.db"));
    let mut connection = <sqlx::AnyConnection as sqlx::Connection>::connect(&url).await.unwrap();
    migrator(&STEPS[..2]).run(&mut connection).await.unwrap();
    for sql in [
        "insert into alerts (id, state, revision, rule_id, rule_title, severity, group_key, first_seen, crossed_at, \
         last_seen, covers_until, event_count, summary, search, body, evidence_pending, status, triage_version, \
         recurred, closed_here, created_at, created_seq, revision_seq, triage_seq, seq) values ('a', 'ended', 1, 'r', \
         'R', 1, '{}', 1, 1, 1, 1, 1, '', '', '{}', 0, 'closed', 1, 0, 1, 7, 1, 1, 2, 2)",
        "insert into audit (seq, at, actor, action, target) values (2, 77, 'ann', 'triage', 'a')",
        "insert into dead_letters values (3, 'waf', 0, 0, 5, -1, 'waf', 'malformed', 0, 1, 8, 'd', x'010203')",
        "insert into dead_letter_counts values ('waf', 'malformed', 0, 'waf', 0, 0, 1, 0, null, null, 5, -1)",
    ] {
        sqlx::query(sql).execute(&mut connection).await.unwrap();
    }
    sqlx::Connection::close(connection).await.unwrap();
    let store = Store::open(StoreSettings::new(folder.path(), Access::Engine)).await.unwrap();
    let row = sqlx::query("select closed_at from alerts").fetch_one(&store.inner.readers).await.unwrap();
    assert_eq!(row.get::<i64, _>("closed_at"), 77);
    let row =
        sqlx::query("select bytes from dead_letter_bytes").fetch_one(&store.inner.readers).await.unwrap();
    assert_eq!(row.get::<i64, _>("bytes"), 3);
    let row = sqlx::query("select stored_at from dead_letter_counts").fetch_one(&store.inner.readers).await;
    assert_eq!(row.unwrap().get::<i64, _>("stored_at"), 8);
}

#[tokio::test]
async fn what_a_rule_said_goes_once_another_version_has_stood_as_long_as_alerts_are_kept() {
    let (_folder, store) = store().await;
    let put = async |rule: &str, version: &str| {
        let rule_texts = vec![rule_text(rule, version, &format!("title: {version}"))];
        store.publish(&Publication { rule_texts, ..Publication::default() }).await.unwrap();
    };
    let versions = async |rule: &str| {
        let mut kept = Vec::new();
        for version in ["1", "2", "3"] {
            kept.extend(store.rule_text(rule, version).await.unwrap());
        }
        kept
    };
    for version in ["1", "2", "3", "1"] {
        put("changes", version).await;
    }
    put("stays", "1").await;
    assert_eq!(versions("changes").await, ["title: 1", "title: 2", "title: 3"]);
    sweep(&store, &Retention { alerts: Span(3_600_000_000), ..NOTHING_KEPT }, &[]).await;
    assert_eq!(versions("changes").await.len(), 3, "alerts of an hour ago may be there");
    sweep(&store, &NOTHING_KEPT, &[]).await;
    // The one that came back is the newest.
    assert_eq!(
        (versions("changes").await, versions("stays").await),
        (vec!["title: 1".to_owned()], vec!["title: 1".to_owned()])
    );
}
