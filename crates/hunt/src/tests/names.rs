//! Names with dots, as people write them.

use rstest::rstest;
use serde_json::json;

use super::{ask, columns, error, one};
use crate::{Error, Query};

#[rstest]
#[case::plain("select count(*) from events where source.ip = '10.0.0.1'", "2")]
#[case::quoted("select count(*) from events where \"source.ip\" = '10.0.0.1'", "2")]
#[case::alias("select count(*) from events e where e.source.ip = '10.0.0.1'", "2")]
#[case::quoted_alias("select count(*) from events \"E\" where \"E\".source.ip = '10.0.0.1'", "2")]
#[case::table("select count(*) from events where events.source.ip = '10.0.0.1'", "2")]
#[case::a_function_of_sql("select count(user.name) from events", "2")]
#[case::a_word_of_sql("select rule.name from events where rule.name is not null", "\"a 'rule'\"")]
#[case::case_is_exact("select count(Upper.Case) from events", "1")]
#[case::time_unquoted("select min(@timestamp) from events", "\"2026-01-01T12:00:00.000000Z\"")]
#[case::time_quoted("select min(\"@timestamp\") from events", "\"2026-01-01T12:00:00.000000Z\"")]
#[case::time_of_alias("select max(e.@timestamp) from events e", "\"2026-01-01T12:05:00.000000Z\"")]
#[case::order(
    "select source.ip from events where source.ip is not null order by source.ip desc limit 1",
    "\"2001:db8::1\""
)]
#[case::subquery("select count(*) from (select source.ip from events) s where s.source.ip = '10.0.0.1'", "2")]
#[case::nested(
    "select count(*) from events where source.ip in (select source.ip from events where user.name = 'ann')",
    "2"
)]
#[case::correlated(
    "select count(*) from events e where exists (select 1 from events f where f.source.ip = e.source.ip and f.user.name = 'ann')",
    "2"
)]
#[case::with(
    "with a as (select source.ip from events) select count(*) from a where source.ip = '10.0.0.1'",
    "2"
)]
#[case::with_renamed(
    "with a as (select source.ip as ip from events) select count(*) from a where a.ip = '10.0.0.1'",
    "2"
)]
#[case::output_alias("select count(*) as source.count from events", "6")]
#[case::using("select count(*) from events a join events b using (source.ip)", "7")]
#[case::having(
    "select source.ip from events group by source.ip having count(source.port) = 0 and count(*) > 1",
    "\"10.0.0.1\""
)]
#[case::window(
    "select row_number() over (partition by source.ip order by vedette.offset desc) from events order by vedette.offset limit 1",
    "2"
)]
#[case::case_when("select sum(case when destination.port = 443 then 1 else 0 end) from events", "3")]
#[case::literal("select count(*) from events where message = 'select source.ip from events'", "1")]
#[case::literal_out("select 'source.ip'", "\"source.ip\"")]
#[case::comment("select /* source.ip */ count(*) -- source.ip\n from events", "6")]
#[case::of_a_struct("select s.a from (select named_struct('a', 7) as s from events) t", "7")]
#[case::of_a_struct_of_a_table("select t.s.a from (select named_struct('a', 7) as s from events) t", "7")]
#[case::cast("select source.port::varchar from events where source.port is not null", "null")]
#[case::list("select array_length(related.ip) from events where related.ip is not null", "2")]
#[case::unnested("select count(*) from (select unnest(related.ip) from events)", "2")]
#[case::upper_functions("SELECT COUNT(*) FROM events WHERE source.ip = '10.0.0.1'", "2")]
#[case::a_table_called_like_a_name("select count(source.ip) from events source", "5")]
#[case::between("select count(*) from events where destination.port between 1 and 100", "1")]
fn names_are_found(#[case] sql: &str, #[case] expected: &str) {
    assert_eq!(one(sql).to_string(), expected, "{sql}");
}

#[test]
fn output_columns_are_called_as_they_are_asked_for() {
    let rows =
        ask("select source.ip, e.user.name, upper(user.name) as \"Who\" from events e limit 1").unwrap();
    assert_eq!(rows, [json!({"source.ip": "10.0.0.1", "user.name": "ann", "Who": "ANN"})]);
}

#[test]
fn what_is_not_there_is_named_with_its_place_and_what_may_be_meant() {
    for (sql, said) in [
        (
            "select source.ipp from events",
            "there is no column `source.ipp` (line 1, column 8); did you mean `source.ip`?",
        ),
        (
            "select count(*)\nfrom events\nwhere user.nam = 'x'",
            "there is no column `user.nam` (line 3, column 7); did you mean `user.name`?",
        ),
        (
            "select Source.IP from events",
            "there is no column `Source.IP` (line 1, column 8); did you mean `source.ip`?",
        ),
        (
            "select ip from events",
            "there is no column `ip` (line 1, column 8); did you mean `related.ip` or `source.ip`?",
        ),
        (
            "select upper.case from events",
            "there is no column `upper.case` (line 1, column 8); did you mean `\"Upper.Case\"`?",
        ),
        (
            "select e.source.ipp from events e",
            "there is no column `e.source.ipp` (line 1, column 8); did you mean `source.ip`?",
        ),
        (
            "select cuont(*) from events",
            "there is no function `cuont` (line 1, column 8); did you mean `count`?",
        ),
        (
            "select a.source.ip from events a, events b where source.port = 1",
            "`source.port` is the name of several columns here (line 1, column 50); write which (`e.source.port`), or name one anew (`as other`)",
        ),
    ] {
        assert_eq!(error(sql).to_string(), said, "{sql}");
    }
    let table = error("select 1 from evnts");
    assert!(matches!(&table, Error::UnknownTable { name, at: Some(_) } if name == "evnts"), "{table}");
}

#[test]
fn a_caret_points_at_what_is_wrong() {
    let sql = "select *\nfrom events where source.ipp = 1";
    let pointed = error(sql).pointed(sql).unwrap();
    assert_eq!(pointed, "  from events where source.ipp = 1\n                    ^");
    let sql = "select (1 from events";
    let syntax = error(sql);
    assert!(matches!(syntax, Error::Syntax { at: Some(_), .. }), "{syntax}");
    assert!(syntax.to_string().starts_with("this is no SQL: expected "), "{syntax}");
    let long = format!("select {} source.ipp from events", "1, ".repeat(100));
    let pointed = error(&long).pointed(&long).unwrap();
    let lines: Vec<&str> = pointed.lines().collect();
    let caret = lines[1].chars().position(|c| c == '^').unwrap();
    assert!(lines[0].chars().skip(caret).collect::<String>().starts_with("source.ipp"), "{pointed}");
}

#[test]
fn names_that_a_column_may_have_to_be_made_for_are_found() {
    let query = Query::new("select a.b.c, \"x.y\", \"z\", count(d) from events e where e.f = 'g.h'").unwrap();
    assert_eq!(query.dotted_names(), ["a.b.c", "b.c", "e.f", "x.y"]);
    assert!(query.names_alone("E") && !query.names_alone("a"));
    assert!(columns(&[]).has("Upper.Case") && !columns(&[]).has("upper.case"));
}
