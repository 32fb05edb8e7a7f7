//! Large publications: cut in a safe order, written with few statements, the same as written one by one.

use proptest::prelude::*;
use sqlx::Row;
use vedette_event::{Span, StoredPlacement, time::DAY};

use super::*;
use crate::publish::{MAX_ROWS, parts};

fn placement(offset: i64) -> StoredPlacement {
    StoredPlacement { topic: "waf".into(), partition: 0, offset, flag: flags(), time: Micros(5) }
}

/// One of everything, and many of some.
fn large() -> Publication {
    let alerts: Vec<_> = (0..1_300).map(|n| alert(&format!("a{n:04}"), 1, n, 5)).collect();
    Publication {
        placements: (0..700).map(placement).collect(),
        oldest_version: None,
        rule_versions: vec![RuleVersion {
            number: 1,
            texts: vec![1],
            version: "v".into(),
            in_force_from: Micros(1),
            content: "{}".into(),
        }],
        rule_texts: (0..2).map(|n| rule_text("r", &n.to_string(), "title: r")).collect(),
        positions: Some(Checkpoint { group: 64, bytes: vec![1; 900] }),
        lost: vec![LostInterval {
            topic: "waf".into(),
            incarnation: 0,
            partition: 0,
            from: 3,
            to: 8,
            noticed_at: Micros(1),
        }],
        health: vec![HealthEvent {
            key: "k".into(),
            at: Micros(1),
            kind: "lost".into(),
            severity: Severity::High,
            message: "m".into(),
        }],
        notices: alerts.iter().take(900).map(|of| notice(&format!("n{}", of.alert_id), of)).collect(),
        passed: Vec::new(),
        alerts,
        dead_letters: (0..600).map(letter).collect(),
        checkpoints: (0..3).map(|group| Checkpoint { group, bytes: vec![group; 3 << 20] }).collect(),
        incarnations: vec![NewIncarnation { topic: "api".into(), incarnation: 1 }],
    }
}

/// All tables, but for wall clocks and numbers in commit order.
async fn dump(store: &Store) -> Vec<String> {
    const TABLES: [&str; 13] = [
        "select rule_id || version || text as line from rule_texts order by rule_id, version",
        "select id || state || revision || rule_id || severity || group_key || event_count || techniques || body_bytes || \
         covers_until || coalesce(predecessor, '-') || coalesce(successor, '-') || coalesce(covered_by, '-') || status \
         || coalesce(assignee, '-') || triage_version || recurred || coalesce(closed_count, '-') || closed_here as line \
         from alerts order by id",
        "select id || body as line from alerts join alert_bodies using (created_seq) order by id",
        "select id as line from alerts where created_seq in (select rowid from alert_search) order by id",
        "select techniques || technique as line from technique_sets order by 1",
        "select id || source as line from alert_sources order by id, source",
        "select id || revision || last_seen || event_count || severity as line from alert_revisions order by id, revision",
        "select topic || offset_no || placed_at as line from placements order by topic, offset_no",
        "select version as line from rule_versions",
        "select event_key as line from health",
        "select topic || offset_no || reason || hex(payload) as line from dead_letters order by topic, offset_no",
        "select source || reason || kept || folded || top_offset as line from dead_letter_counts order by source, reason",
        "select key_group || hex(checksum) as line from checkpoints order by key_group",
    ];
    let mut lines = Vec::new();
    for table in TABLES {
        let rows = sqlx::query(table).fetch_all(&store.inner.readers).await.unwrap();
        lines.extend(rows.iter().map(|row| row.get::<String, _>("line")));
    }
    lines
}

#[test]
fn a_publication_is_cut_in_the_order_in_which_its_parts_rest_on_one_another() {
    let publication = large();
    let parts: Vec<_> = parts(&publication).collect();
    assert!(parts.len() > 5, "{}", parts.len());
    // By part: the first and the last kind in it, numbered in the order that is promised.
    let mut before = 0;
    let mut rows = 0;
    for part in &parts {
        let kinds = part.kinds();
        assert!(kinds.is_sorted() && kinds.first() >= Some(&before), "{kinds:?} after {before}");
        before = *kinds.last().unwrap();
        assert!((1..=MAX_ROWS).contains(&part.rows()), "{}", part.rows());
        rows += part.rows();
    }
    assert_eq!(rows, 700 + 1 + 2 + 1 + 1 + 1 + 900 + 1_300 + 600 + 3);
    let checkpoints = parts.iter().filter(|part| part.kinds().contains(&9)).count();
    assert_eq!(checkpoints, 3, "of three megabytes each, two are too much for one transaction");
}

#[test]
fn what_is_small_is_one_transaction_and_so_is_nothing() {
    let mut publication = large();
    publication.placements.truncate(9);
    publication.notices.truncate(9);
    publication.alerts.truncate(9);
    publication.dead_letters.truncate(9);
    publication.checkpoints.truncate(1);
    assert_eq!(parts(&publication).count(), 1);
    assert_eq!(parts(&Publication::default()).count(), 1);
}

#[tokio::test]
async fn a_crash_between_two_parts_loses_nothing_and_leaves_no_checkpoint_ahead() {
    let publication = large();
    let (_whole, expected) = store().await;
    expected.publish(&publication).await.unwrap();
    let expected = dump(&expected).await;
    let count = parts(&publication).count();
    for crash in (0..count).step_by(3).chain([count - 1]) {
        let (folder, store) = store().await;
        for part in parts(&publication).take(crash) {
            store.publish_part(part).await.unwrap();
        }
        drop(store);
        let store = Store::open(StoreSettings::new(folder.path(), Access::Engine)).await.unwrap();
        let lines = dump(&store).await;
        let all_before = |line: &str| lines.iter().any(|stored| stored.starts_with(line));
        let saved = checkpoints(&store).await.unwrap();
        if saved.iter().any(|checkpoint| checkpoint.group == 64) {
            assert_eq!(placements(&store).await.len(), 700, "positions rest on all placements");
        } else {
            assert!(!all_before("a0000") && !all_before("na0000"), "alerts rest on positions");
        }
        if saved.iter().any(|checkpoint| checkpoint.group < 64) {
            assert!(all_before("a1299"), "checkpoints rest on all alerts");
            assert_eq!(store.dead_letters(None, 1, None).await.unwrap().items[0].offset, 599);
        }
        store.publish(&publication).await.unwrap();
        assert_eq!(dump(&store).await, expected, "after a crash behind part {crash}");
    }
}

#[tokio::test]
async fn a_storm_takes_few_statements_and_bounded_transactions() {
    let (_folder, store) = store().await;
    let alerts: Vec<_> = (0..4_000).map(|n| alert(&format!("a{n}"), 1, n, 5)).collect();
    let notices: Vec<_> = alerts.iter().map(|of| notice(&format!("n{}", of.alert_id), of)).collect();
    let last: Vec<_> = (0..4_000).map(|n| alert(&format!("a{n}"), 2, n, 9)).collect();
    let before = store.written();
    publish_notices(&store, notices).await;
    assert_eq!(publish_alerts(&store, alerts).await.applied, 4_000);
    assert_eq!(publish_alerts(&store, last).await.applied, 4_000);
    let after = store.written();
    let (statements, transactions) =
        (after.statements - before.statements, after.transactions - before.transactions);
    assert_eq!(transactions, 3 * 4_000_u64.div_ceil(MAX_ROWS as u64));
    assert!(statements * 5 < 12_000, "{statements} statements for 12,000 changes");
    // A row, its body, its words, its source, its revision, its change; the notice that it covers, its words and its change.
    assert!(after.most_rows <= 9 * MAX_ROWS as u64 + 8, "{} rows in one transaction", after.most_rows);
}

#[tokio::test]
async fn what_a_storm_looks_up_it_finds_by_an_index() {
    let (_folder, store) = store().await;
    for (plan, index) in [
        (
            crate::alert_rows::notices_statement(),
            "alerts_episode (group_key=? AND rule_id=? AND crossed_at>?",
        ),
        (
            crate::alert_rows::cover_statement(),
            "SEARCH alerts USING COVERING INDEX sqlite_autoindex_alerts_1 (id=?)",
        ),
        (crate::notice_rows::known_statement(), "alerts_episode (group_key=? AND rule_id=?)"),
    ] {
        let sql = format!("explain query plan {plan}");
        let rows = sqlx::query(sqlx::AssertSqlSafe(sql)).fetch_all(&store.inner.writer).await.unwrap();
        let lines: Vec<String> = rows.iter().map(|row| row.get("detail")).collect();
        assert!(lines.iter().any(|line| line.contains(index)), "{lines:?}");
        assert!(!lines.iter().any(|line| line.starts_with("SCAN alerts")), "{lines:?}");
    }
}

/// Each index is written for each row, once more for the notice that goes, and again where a revision changes it.
#[tokio::test]
async fn indexes_are_few_narrow_and_grow_at_their_ends() {
    let (_folder, store) = store().await;
    let sql = "select i.name as name, group_concat(c.name) as columns from pragma_index_list('alerts') i, \
               pragma_index_info(i.name) c where i.origin = 'c' group by i.name order by i.name";
    let rows = sqlx::query(sql).fetch_all(&store.inner.writer).await.unwrap();
    let all: Vec<(String, String)> = rows.iter().map(|row| (row.get("name"), row.get("columns"))).collect();
    // Rows in no case, that nothing hides and that nobody has handled have no place in these.
    const SPARSE: [&str; 5] =
        ["alerts_case", "alerts_snoozed", "alerts_handled", "alerts_owned", "alerts_verdicts"];
    assert!(all.iter().filter(|(name, _)| !SPARSE.contains(&name.as_str())).count() <= 17, "{all:?}");
    let with_ids =
        all.iter().filter(|(_, columns)| columns.split(',').any(|c| c == "id" || c == "covered_by"));
    let with_ids: Vec<&str> = with_ids.map(|(name, _)| name.as_str()).collect();
    // Empty until rows are closed; only of what is covered; and two in which it is null, a byte for which figures are read from them alone.
    assert_eq!(with_ids, ["alerts_closed", "alerts_covered", "alerts_crossed", "alerts_rule"]);
}

#[tokio::test]
async fn a_storm_s_evidence_takes_few_statements() {
    let (_folder, store) = store().await;
    let refer = |n: i64| {
        format!(
            "{{\"topic\":\"api\",\"partition\":0,\"offset\":{n},\"index\":0,\
                 \"time\":\"2026-01-01T00:00:00Z\",\"flags\":[]}}"
        )
    };
    let alerts = (0..64_i64).map(|n| {
        let list: Vec<String> = (0..10).map(|at| refer(n * 10 + at)).collect();
        AlertRevision {
            body: format!("{{\"evidence\":[{}]}}", list.join(",")),
            ..alert(&format!("a{n}"), 1, n, 5)
        }
    });
    publish_alerts(&store, alerts.collect()).await;
    let content = |offset: i64| EvidenceContent {
        topic: "api".to_owned(),
        incarnation: 0,
        partition: 0,
        offset,
        index: 0,
        content: Content::Present("{}".to_owned()),
    };
    let all: Vec<EvidenceOf> = (0..64_i64)
        .map(|n| EvidenceOf { id: format!("a{n}"), contents: (n * 10..n * 10 + 10).map(content).collect() })
        .collect();
    let before = store.written().statements;
    store.store_evidence(&all).await.unwrap();
    let statements = store.written().statements - before;
    assert!(statements <= 20, "{statements} statements for the 640 references of 64 rows");
    assert_eq!(store.awaiting_evidence(0, 10).await.unwrap().len(), 0);
}

/// A day's episode of one rule and key; after the first day, one that goes on from the day before.
fn of_day(day: i64, revision: u32, second: i64) -> AlertRevision {
    let start = day * (DAY.0 / 1_000_000);
    let mut of = alert(&format!("d{day}"), revision, start + second, 5);
    (of.first_seen, of.crossed_at) = (Micros(start * 1_000_000), Micros(start * 1_000_000));
    of.key = "{}".to_owned();
    of.continuation = day > 0;
    of
}

#[tokio::test]
async fn a_continuation_takes_over_what_its_predecessor_s_last_revision_made_of_it() {
    let early = NewNotice { crossed_at: Micros(150_000_000), ..notice("n", &of_day(0, 1, 150)) };
    let worse = AlertRevision { severity: Severity::Critical, ..of_day(0, 3, 150) };
    let covers = (
        Publication { notices: vec![early], ..Default::default() },
        ("n", Status::Acknowledged),
        vec![of_day(0, 1, 0), of_day(0, 2, 150), of_day(1, 1, 0)],
        Status::Acknowledged,
    );
    let brings_back = (
        Publication { alerts: vec![of_day(0, 1, 0)], ..Default::default() },
        ("d0", Status::Closed),
        vec![of_day(0, 2, 60), worse, of_day(1, 1, 0)],
        Status::New,
    );
    for (first, (handled, status), second, expected) in [covers, brings_back] {
        let ((_one, one), (_all, all)) = (store().await, store().await);
        for store in [&one, &all] {
            store.publish(&first).await.unwrap();
            store.patch_triage(handled, 0, &to(status), "ann").await.unwrap();
        }
        for revision in &second {
            publish_alerts(&one, vec![revision.clone()]).await;
        }
        publish_alerts(&all, second).await;
        let row = get(&all, "d1").await;
        assert_eq!((row.predecessor.as_deref(), row.triage.status), (Some("d0"), expected));
        assert_eq!(row.triage.version, 1, "taken over from what ann had handled");
        assert_eq!(dump(&all).await, dump(&one).await);
    }
}

#[derive(Debug, Clone)]
enum Step {
    Alert(AlertRevision),
    Notice(NewNotice),
}

/// Revisions and notices of few rules, keys and days, so that they meet.
fn step() -> impl Strategy<Value = Step> {
    (0_u8..2, 0_u8..2, 0_i64..3, 1_u32..4, any::<bool>(), 0_u8..3, 0_i64..200).prop_map(
        |(rule, key, day, revision, worse, kind, second)| {
            let start = day * (DAY.0 / 1_000_000);
            let mut of = alert(&format!("r{rule}k{key}d{day}"), revision, start + second, 5);
            of.first_seen = Micros(start * 1_000_000);
            of.crossed_at = of.first_seen;
            of.rule_id = format!("rule-{rule}");
            of.key = format!("{{\"k\":{key}}}");
            of.covers_until = of.last_seen.plus(Span::secs(60));
            of.count = u64::from(revision) * 30;
            of.continuation = day > 0;
            if worse && revision == 3 {
                of.severity = Severity::Critical;
            }
            if kind == 0 {
                let mut early = notice(&format!("n{rule}{key}{day}{second}"), &of);
                early.crossed_at = Micros((start + second) * 1_000_000);
                Step::Notice(early)
            } else {
                Step::Alert(of)
            }
        },
    )
}

async fn publish_step(store: &Store, steps: &[Step]) {
    let mut publication = Publication::default();
    for step in steps {
        match step {
            Step::Alert(alert) => publication.alerts.push(alert.clone()),
            Step::Notice(notice) => publication.notices.push(notice.clone()),
        }
    }
    store.publish(&publication).await.unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    /// Notices first, since that is their order within a publication; then one day after the other, since an episode ends
    /// before another continues it. Analysts act between the first and the second half.
    #[test]
    fn written_together_is_written_one_by_one(
        first in prop::collection::vec(step(), 0..12),
        second in prop::collection::vec(step(), 1..16),
        acts in prop::collection::vec((any::<prop::sample::Index>(), 0_u8..3), 0..4),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let ((_one, one), (_all, all)) = (store().await, store().await);
            let in_order = |steps: &[Step]| {
                let mut steps = steps.to_vec();
                steps.sort_by_key(|step| match step {
                    Step::Notice(_) => None,
                    Step::Alert(of) => Some(of.crossed_at),
                });
                steps
            };
            for (n, half) in [in_order(&first), in_order(&second)].iter().enumerate() {
                for step in half {
                    publish_step(&one, std::slice::from_ref(step)).await;
                }
                publish_step(&all, half).await;
                prop_assert_eq!(dump(&one).await, dump(&all).await);
                let rows = one.list(&ListQuery { limit: 500, ..Default::default() }).await.unwrap().items;
                for (row, act) in acts.iter().filter(|_| n == 0 && !rows.is_empty()) {
                    let row = &rows[row.index(rows.len())];
                    let status = [Status::Acknowledged, Status::Closed, Status::InProgress][usize::from(*act)];
                    for store in [&one, &all] {
                        let version = get(store, &row.id).await.triage.version;
                        store.patch_triage(&row.id, version, &to(status), "ann").await.unwrap();
                    }
                }
            }
            Ok(())
        })?;
    }
}
