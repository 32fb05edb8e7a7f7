//! Figures over time against the rows that a list shows.

use super::*;

async fn plan(store: &Store, sql: &'static str) -> String {
    use sqlx::Row as _;
    let rows = sqlx::query(sqlx::AssertSqlSafe(format!("explain query plan {sql}")));
    let rows = rows.fetch_all(&store.inner.readers).await.unwrap();
    rows.iter().map(|row| row.get::<String, _>("detail")).collect::<Vec<_>>().join("; ")
}

#[tokio::test]
async fn alerts_are_counted_by_time_and_by_rule() {
    let (_folder, store) = store().await;
    let of = |id: &str, rule: &str, second: i64| {
        let mut of = alert(id, 1, second, 5);
        of.rule_id = rule.to_owned();
        of
    };
    publish_alerts(&store, vec![of("a", "r", 10), of("b", "r", 75), of("c", "q", 79)]).await;
    let covered = of("d", "r", 90);
    publish_notices(&store, vec![notice("n", &covered)]).await;
    publish_alerts(&store, vec![covered]).await;
    let rows: Vec<_> = {
        let mut rows = Vec::new();
        for id in ["a", "b", "c", "d"] {
            let row = get(&store, id).await;
            rows.push((row.rule_id.clone(), row.crossed_at));
        }
        rows
    };
    let (first, last) = (rows[0].1, rows[3].1);
    let minute = vedette_event::Span::secs(60);
    let counted = store.alert_counts(first, last.plus(vedette_event::Span(1)), minute).await.unwrap();
    assert_eq!(counted.values().sum::<u64>(), 4, "the covered notice is not counted apart from its alert");
    for (from, n) in &counted {
        let expected = rows.iter().filter(|(_, at)| *from <= *at && *at < from.plus(minute)).count();
        assert_eq!(*n, expected as u64, "from {from}");
    }
    assert!(store.alert_counts(last, last, minute).await.unwrap().is_empty());

    let rules = store.rule_alerts(rows[1].1).await.unwrap();
    assert_eq!(rules["r"].last, last);
    assert_eq!((rules["r"].count, rules["q"].count, rules.len()), (2, 1, 2));
    assert_eq!(store.rule_alerts(Micros(i64::MAX)).await.unwrap()["r"].count, 0);
}

#[tokio::test]
async fn figures_are_read_from_indexes_alone() {
    let (_folder, store) = store().await;
    for sql in [
        "select (crossed_at - 1) / 2 as slot, count(*) as n from alerts where covered_by is null and crossed_at >= 1 \
         and crossed_at < 2 group by slot",
        "select rule_id, max(crossed_at) as last, sum(case when crossed_at >= 1 then 1 else 0 end) as n from alerts \
         where covered_by is null group by rule_id",
    ] {
        let plan = plan(&store, sql).await;
        assert!(plan.contains("COVERING INDEX"), "{plan}");
    }
}

#[tokio::test]
async fn dead_letters_are_told_by_source_reason_and_partition() {
    let (_folder, store) = store().await;
    let other = |offset, partition| NewDeadLetter { partition, reason: "oversized".into(), ..letter(offset) };
    let letters = vec![letter(1), letter(2), other(3, 1), other(4, 2), other(5, 2), other(6, 2)];
    store.publish(&Publication { dead_letters: letters, ..Default::default() }).await.unwrap();
    let totals = store.dead_letter_totals(Micros(0)).await.unwrap();
    let told: Vec<_> = totals.iter().map(|t| (t.reason.as_str(), t.partition, t.count)).collect();
    assert_eq!(told, [("oversized", 2, 3), (letter(1).reason.as_str(), 0, 2), ("oversized", 1, 1)]);
    assert!(totals.iter().all(|total| total.last > Micros(0)));
    assert!(store.dead_letter_totals(Micros(i64::MAX / 2)).await.unwrap().is_empty());
}

#[tokio::test]
async fn the_first_word_of_an_alert_is_its_notice_if_there_was_one() {
    let (_folder, store) = store().await;
    let now = crate::store::now().0 / 1_000_000;
    let (with, without) = (alert("a", 1, now - 60, 5), alert("b", 1, now - 5, 5));
    publish_notices(&store, vec![notice("n", &with)]).await;
    publish_alerts(&store, vec![with, without]).await;
    publish_alerts(&store, vec![alert("old", 1, 10, 5)]).await;
    let took =
        |words: Vec<vedette_event::Span>| words.iter().map(|span| span.0 / 1_000_000).collect::<Vec<_>>();
    let all = took(store.first_words(Micros(0), 10).await.unwrap());
    assert_eq!(all.len(), 3, "the notice stands for its alert");
    assert!(all[0] > 1_000_000 && (5..20).contains(&all[1]) && (60..75).contains(&all[2]), "{all:?}");
    assert_eq!(store.first_words(Micros(0), 1).await.unwrap().len(), 1);
    assert!(store.first_words(Micros(crate::store::now().0 + 1_000_000), 10).await.unwrap().is_empty());
}
