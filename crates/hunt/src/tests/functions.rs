//! Our own functions, within SQL.

use rstest::rstest;
use serde_json::json;

use super::{ask, error, one};

#[rstest]
#[case("select count(*) from events where match(message, 'passwd')", "1")]
#[case("select count(*) from events where MATCH ( message , 'PASSWD etc' )", "1")]
#[case("select count(*) from events where match(message, 'pass')", "0")]
#[case("select count(*) from events where not match(message, 'passwd')", "2")]
#[case("select match(null, 'x')", "null")]
#[case("select match('a b', 'B')", "true")]
#[case("select match('a b', m) from (values ('b'), ('c')) t(m)", "true")]
#[case("select count(*) from events where cidr_match(source.ip, '10.0.0.0/8')", "3")]
#[case("select count(*) from events where cidr_match(source.ip, '2001:db8::/32')", "1")]
#[case("select count(*) from events where cidr_match(source.ip, '192.0.2.7')", "1")]
#[case("select cidr_match('::ffff:10.1.2.3', '10.0.0.0/8')", "true")]
#[case("select cidr_match('nobody', '10.0.0.0/8')", "null")]
#[case("select cidr_match('11.0.0.1', '10.0.0.0/8')", "false")]
#[case("select time_bin('5m', max(@timestamp)) from events", "\"2026-01-01T12:05:00.000000Z\"")]
#[case("select time_bin('1d', min(@timestamp)) from events", "\"2026-01-01T00:00:00.000000Z\"")]
#[case("select time_bin('1h', timestamp '1969-12-31T23:59:59')", "\"1969-12-31T23:00:00.000000Z\"")]
#[case("select time_bin('1h', null)", "null")]
#[case("select count(*) from events where @timestamp >= '2026-01-01T12:03:00Z'", "2")]
#[case("select count(distinct date_trunc('hour', @timestamp)) from events", "1")]
fn functions_say_what_they_promise(#[case] sql: &str, #[case] expected: &str) {
    assert_eq!(one(sql).to_string(), expected, "{sql}");
}

#[test]
fn times_are_counted_by_intervals() {
    let rows = ask("select time_bin('2m', @timestamp) as t, count(*) as n from events group by t order by t");
    let expected = json!([
        {"t": "2026-01-01T12:00:00.000000Z", "n": 2},
        {"t": "2026-01-01T12:02:00.000000Z", "n": 2},
        {"t": "2026-01-01T12:04:00.000000Z", "n": 1},
        {"t": null, "n": 1},
    ]);
    assert_eq!(serde_json::Value::from(rows.unwrap()), expected);
}

#[test]
fn arguments_that_make_no_sense_are_told() {
    for (sql, part) in [
        ("select cidr_match(source.ip, '10.0.0.0/99') from events", "`10.0.0.0/99` is no network"),
        ("select time_bin('five', @timestamp) from events", "`five` is no length of time"),
        ("select time_bin('0s', @timestamp) from events", "`0s` is no length of time"),
        ("select match(message, '--') from events", "`match` has no word"),
        ("select sigma(message) from events", "`sigma` takes one text"),
        ("select sigma('a', true) from events", "`sigma` takes one text"),
        ("select sigma() from events", "`sigma` takes one text"),
    ] {
        let said = error(sql).to_string();
        assert!(said.contains(part), "{sql}: {said}");
    }
}

#[rstest]
#[case("select count(*) from events where sigma('a')", "6")]
#[case("select count(*) from events where sigma ( 'b''s' ) and sigma('a')", "5")]
#[case("select count(*) from events e where sigma('a') and not SIGMA('b')", "1")]
#[case("select count(*) from events where sigma('a') and not sigma('b') and source.ip is not null", "1")]
#[case("with a as (select * from events where sigma('a')) select count(*) from a where not sigma('b')", "1")]
#[case("select count(*) from (select sigma('b') as b from events where not sigma('a')) where b", "1")]
fn rules_are_predicates(#[case] sql: &str, #[case] expected: &str) {
    assert_eq!(one(sql).to_string(), expected, "{sql}");
}

#[test]
fn the_columns_of_rules_are_shown_to_nobody() {
    let plain = ask("select * from events limit 1").unwrap();
    assert_eq!(ask("select * from events where sigma('x') limit 1").unwrap(), plain);
    let rows = ask("select sigma('x') from events limit 1").unwrap();
    let names: Vec<&String> = rows[0].as_object().unwrap().keys().collect();
    assert_eq!(names.len(), 1);
    assert!(names[0].starts_with("sigma(") && !names[0].contains("vedette"), "{names:?}");
}
