//! What a hunt is not for: changing, reaching out, asking twice.

use rstest::rstest;

use super::{ask, error, one};
use crate::Error;

#[rstest]
#[case("create table t (a int)")]
#[case("create table t as select * from events")]
#[case("create view v as select 1")]
#[case("create external table t stored as csv location '/etc/passwd'")]
#[case("create external table t stored as parquet location 's3://bucket/x'")]
#[case("create function f(int) returns int return $1")]
#[case("drop table events")]
#[case("insert into events values (1)")]
#[case("with a as (select 1) insert into events select * from a")]
#[case("update events set message = 'x'")]
#[case("delete from events")]
#[case("truncate table events")]
#[case("merge into events using events e on true when matched then delete")]
#[case("copy events to '/tmp/out.csv'")]
#[case("copy (select * from events) to 'x.parquet' stored as parquet")]
#[case("explain copy events to '/tmp/out.csv'")]
#[case("explain insert into events values (1)")]
#[case("explain explain select 1")]
#[case("set datafusion.execution.batch_size = 1")]
#[case("reset datafusion.execution.batch_size")]
#[case("show tables")]
#[case("show all")]
#[case("show columns from events")]
#[case("describe events")]
#[case("prepare p as select 1")]
#[case("execute p(1)")]
#[case("deallocate p")]
#[case("begin")]
#[case("commit")]
#[case("use x")]
#[case("analyze events")]
#[case("vacuum")]
#[case("grant select on events to ann")]
#[case("call f()")]
#[case("kill 1")]
#[case("load data infile 'x'")]
#[case("attach 'x'")]
#[case("pragma x")]
#[case("select * into t from events")]
#[case("select 1; select 2")]
#[case("select 1;")]
#[case(";")]
#[case("select 1; drop table events")]
fn nothing_but_a_question_is_asked(#[case] sql: &str) {
    let refused = error(sql);
    assert!(matches!(refused, Error::NotAllowed { .. }), "{sql}: {refused:?}");
    let said = refused.to_string();
    assert!(said.contains("a hunt is one `select`, `with … select` or `explain`"), "{sql}: {said}");
}

#[rstest]
#[case("select * from '/etc/passwd'")]
#[case("select * from 'x.parquet'")]
#[case("select * from \"/etc/passwd.csv\"")]
#[case("select * from 'file:///etc/passwd'")]
#[case("select * from 'https://example.com/x.csv'")]
#[case("select * from 's3://bucket/x.parquet'")]
#[case("select * from information_schema.tables")]
#[case("select * from information_schema.df_settings")]
#[case("select * from datafusion.information_schema.tables")]
#[case("select * from read_csv('/etc/passwd')")]
#[case("select * from read_parquet('x')")]
#[case("select * from glob('/etc/*')")]
#[case("select * from generate_series(1, 10)")]
#[case("select * from pg_catalog.pg_tables")]
#[case("select read_file('/etc/passwd')")]
#[case("select load_extension('x')")]
#[case("select repeat('x', 2000000000)")]
#[case("select range(1, 1000000000000)")]
#[case("with recursive a as (select 1 as n union all select n + 1 from a) select count(*) from a")]
#[case("select * from events, lateral (select * from '/etc/passwd') p")]
fn nothing_else_is_in_reach(#[case] sql: &str) {
    let refused = error(sql);
    let known = matches!(
        refused,
        Error::UnknownTable { .. }
            | Error::UnknownFunction { .. }
            | Error::Meaning { .. }
            | Error::Syntax { .. }
    );
    assert!(known, "{sql}: {refused:?}");
}

#[test]
fn what_only_asks_is_answered() {
    assert_eq!(one("select 1"), 1);
    assert_eq!(one("(select 1)"), 1);
    assert_eq!(one("values (1), (2)"), 1);
    assert_eq!(one("with a as (select 2 as x) select x from a"), 2);
    assert_eq!(one("select 1 union all select 2 order by 1 desc"), 2);
    for sql in ["explain select * from events", "explain analyze select count(*) from events"] {
        let rows = ask(sql).unwrap();
        assert!(
            rows.iter().any(|row| row["plan"].as_str().unwrap().contains("StreamingTableExec")),
            "{rows:?}"
        );
    }
}

#[test]
fn an_empty_query_is_no_query() {
    for sql in ["", " ", "-- select 1", "/* */"] {
        assert_eq!(error(sql).to_string(), "there is no query", "{sql}");
    }
}

#[test]
fn the_word_that_is_refused_is_named() {
    for (sql, word) in [
        ("create table t (a int)", "`create` is not allowed here (line 1, column 1)"),
        ("with a as (select 1) insert into t select 1", "`insert` is not allowed here"),
        ("select * into t from events", "`into` is not allowed here"),
        ("explain copy events to 'x'", "`copy` is not allowed here"),
        ("select 1 ; select 2", "`;` is not allowed here (line 1, column 10)"),
    ] {
        let said = error(sql).to_string();
        assert!(said.starts_with(word), "{said}");
    }
}
