//! Queries that nobody means well with: an error or an answer, soon, and never the end of the process.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::ask;
use crate::{Error, Query};

/// In the profile of tests, on a machine that does other things, too.
const SOON: Duration = Duration::from_secs(60);

#[test]
fn a_hundred_thousand_parentheses_are_refused() {
    for (open, close) in
        [("(", ")"), ("[", "]"), ("case when ", " end"), ("f(", ")"), ("not ", ""), ("- ", ""), ("~", "")]
    {
        for times in [50, 1_000, 100_000] {
            let sql = format!("select {}1{}", open.repeat(times), close.repeat(times));
            let start = Instant::now();
            assert!(ask(&sql).is_err(), "{times} of `{open}`");
            assert!(start.elapsed() < SOON, "{times} of `{open}`: {:?}", start.elapsed());
        }
    }
    let deep = format!("select {}1{}", "(".repeat(1_000), ")".repeat(1_000));
    let told = Query::new(&deep).unwrap_err();
    assert!(matches!(told, Error::TooDeep { at: Some(_), .. }), "{told}");
}

#[test]
fn what_is_as_deep_and_long_as_it_may_be_fits_on_the_stack() {
    let wide = |one: &str, between: &str, times: usize| vec![one; times].join(between);
    let queries = [
        format!("select count(*) from events where {}", wide("message = 'x'", " or ", 500)),
        format!("select count(*) from events where {}", wide("message = 'x'", " and ", 500)),
        format!("select {}", wide("1", " + ", 1_000)),
        format!("select {}", wide("message", " || ", 64) + " from events limit 0"),
        format!("select count(*) from events where level in ({})", wide("7", ", ", 4_000)),
        format!("{} limit 1", wide("select 1", " union all ", 300)),
        format!("select 1{}", "::int".repeat(500)),
        format!("select {}1{}", "(".repeat(30), ")".repeat(30)),
        format!("select {}1{}", "abs(".repeat(30), ")".repeat(30)),
        format!("select 1 where {}true", "not ".repeat(30)),
        format!("select {}1", "- ".repeat(30)),
        format!("select * from {}events{}", "(select * from ".repeat(30), ")".repeat(30)),
        format!(
            "with {} select count(*) from a0",
            (0..100).map(|n| format!("a{n} as (select * from events)")).collect::<Vec<_>>().join(", ")
        ),
        format!("select {} from events", wide("source.ip", ", ", 1_000)),
        format!("select {} 1 {}", "case when true then ".repeat(7), "end ".repeat(7)),
        format!("select {}", wide("case when true then cast(1 as int) end", ", ", 300)),
        format!("select {} position(", "cast(".repeat(6)) + &"1, ".repeat(3_900),
    ];
    for sql in queries {
        let start = Instant::now();
        let answer = ask(&sql);
        let short: String = sql.chars().take(80).collect();
        assert!(start.elapsed() < SOON, "{short}: {:?}", start.elapsed());
        if let Err(error) = answer {
            assert!(!matches!(error, Error::Internal { .. }), "{short}: {error}");
        }
    }
}

#[test]
fn beginnings_repeated_end_soon() {
    let words = [
        "interval",
        "case",
        "cast(",
        "not",
        "exists(",
        "select",
        "with a as (",
        "(",
        "[",
        "{",
        "array[",
        "struct(",
        "date",
        "timestamp",
        "extract(",
        "position(",
        "substring(",
        "trim(",
        "overlay(",
        "ceil(",
        "match(",
        "all(",
        "any(",
        "lambda",
        "x ->",
        "a.b",
        "a is",
        "a in (",
        "a between",
        "a like",
        "explain",
        "union",
        "values (",
        "from (",
        "lateral (",
        "unnest(",
        "join",
        "prior",
        "row(",
        "map {",
        "'",
        "\"",
        "/*",
        "$$",
        "@",
        "#",
        "::",
        "b'",
        "x'",
        "e'",
        "n'",
        "u&'",
        "convert(",
        "try_cast(",
        "ltrim(",
        "current_date(",
        "over (",
        "within group (",
    ];
    for word in words {
        for prefix in ["select ", "select * from ", ""] {
            for times in [5, 7, 20, 45, 2_000] {
                let sql = format!("{prefix}{}", format!("{word} ").repeat(times));
                let start = Instant::now();
                let answer = ask(&sql);
                // A few of them are SQL, as `x'` is a text when there are two.
                assert!(answer.is_err() || times < 2_000, "`{prefix}{word}` {times} times is answered");
                assert!(start.elapsed() < SOON, "`{prefix}{word}` {times} times: {:?}", start.elapsed());
            }
        }
    }
}

#[test]
fn what_is_too_long_is_refused_before_it_is_looked_at() {
    let long = format!("select '{}'", "x".repeat(70_000));
    assert!(matches!(Query::new(&long), Err(Error::TooLong { what: "bytes", .. })));
    let many = format!("select {}1", "1,".repeat(5_000));
    assert!(matches!(Query::new(&many), Err(Error::TooLong { what: "words and signs", .. })));
    let operators = format!("select {}1", "1+".repeat(2_000));
    assert!(matches!(Query::new(&operators), Err(Error::TooLong { what: "operators", .. })));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_words_of_sql_give_an_error_or_an_answer(words in proptest::collection::vec(word(), 0..24)) {
        let sql = words.join(" ");
        if let Err(error) = ask(&sql) {
            let said = error.to_string();
            prop_assert!(!matches!(error, Error::Internal { .. }), "{sql}: {said}");
            prop_assert!(!said.is_empty() && !said.contains('\n'), "{sql}: {said}");
            let _ = error.pointed(&sql);
        }
    }

    #[test]
    fn any_text_gives_an_error_or_an_answer(text in "\\PC{0,40}") {
        for sql in [text.clone(), format!("select {text}"), format!("select * from events where {text}")] {
            if let Err(error) = ask(&sql) {
                let _ = error.pointed(&sql);
                prop_assert!(!error.to_string().is_empty());
            }
        }
    }
}

fn word() -> impl Strategy<Value = &'static str> {
    proptest::sample::select(vec![
        "select",
        "from",
        "where",
        "events",
        "*",
        "count(*)",
        "source.ip",
        "user.name",
        "group by",
        "order by",
        "1",
        "'x'",
        "and",
        "or",
        "not",
        "=",
        "<",
        "(",
        ")",
        ",",
        "as",
        "a",
        "e",
        ".",
        "@timestamp",
        "limit 1",
        "with",
        "union all",
        "join",
        "on",
        "sum(",
        "match(",
        "sigma('r')",
        "cidr_match(",
        "time_bin('5m',",
        "null",
        "is null",
        "in",
        "case",
        "when",
        "then",
        "else",
        "end",
        "::",
        "int",
        "interval '1 day'",
        "over",
        "partition by",
        "\"x\"",
        "having",
        "distinct",
        "exists",
        "between",
        "like",
        "cast(",
        "-",
        "+",
        "[",
        "]",
        "related.ip",
        "values",
    ])
}
