//! Queries of any quality over a few firewall events.
//!
//! In: SQL. Out: nothing, or a panic that says what does not hold.
//! Checked: a query is answered or refused, in one line; nothing is answered but what begins as a question; it ends.

use std::{
    sync::{Arc, LazyLock},
    time::Duration,
};

use futures::StreamExt as _;
use vedette_decode::{Decoder, field_names};
use vedette_event::Projection;
use vedette_hunt::{
    Columns, Converter, Error, Limits, Open, Origin, Query, RecordBatch, SourceError, Supply,
};

use crate::{NAMES, SECRET, SOURCES, batch};

/// Queries to begin with.
pub const QUERIES: [&str; 8] = [
    "select source.ip, count(*) as n from events where destination.port = 443 group by source.ip order by n desc limit 3",
    "with a as (select e.source.ip as ip, @timestamp from events e) select ip from a where ip is not null",
    "select time_bin('5m', @timestamp), sum(source.bytes) from events group by 1",
    "select * from events where match(rule.name, 'allow') and not cidr_match(source.ip, '10.0.0.0/8')",
    "select count(*) filter (where sigma('x')) from events",
    "explain select unnest(related.ip) from events union all select 'x'",
    "select row_number() over (partition by source.ip order by vedette.offset) from events",
    "select case when panw.blocked then 1 else 0 end from events where event.action in ('a', 'b')",
];

const LINES: &str = include_str!("../rules/paloalto.csv");
const LIMITS: Limits = Limits {
    memory: 64 << 20,
    disk: 1 << 20,
    folder: None,
    time: Some(Duration::from_secs(5)),
    rows: Some(1_000),
};

/// Gives the events of [`LINES`].
static EVENTS: LazyLock<Open> = LazyLock::new(|| {
    let source = SOURCES.find(NAMES[0]).expect("the firewalls");
    let raw = batch(source, LINES.as_bytes(), 0, None);
    Arc::new(move |mut converter: Converter| {
        let projection = Projection::new(converter.fields().cloned());
        let def = SOURCES.get(source);
        let mut decoder = Decoder::new(def, &SOURCES.fields, &projection, SECRET).expect("a decoder");
        let (mut events, mut dead) = (Vec::new(), Vec::new());
        decoder.decode(&raw, &mut events, &mut dead);
        let from = Origin { source: def.name.clone(), topic: "log".into(), partition: 0 };
        let batches: Vec<Result<RecordBatch, SourceError>> = events
            .iter()
            .map(|events| converter.convert(events, &from, |_| vec![0]).map_err(Into::into))
            .collect();
        Ok(futures::stream::iter(batches).boxed())
    })
});

/// Asks.
pub fn check(sql: &str) {
    let told = |error: &Error| {
        let said = error.to_string();
        assert!(!said.is_empty() && !said.contains('\n'), "{said:?}");
        assert!(!matches!(error, Error::Internal { .. }), "{said}");
        let _ = error.pointed(sql);
    };
    let query = match Query::new(sql) {
        Ok(query) => query,
        Err(error) => return told(&error),
    };
    let def = SOURCES.get(SOURCES.find(NAMES[0]).expect("the firewalls"));
    let names = field_names(def, &SOURCES.fields, []);
    let columns = Columns::new(names.iter().map(|name| &**name), &SOURCES.fields, true, query.rules());
    match query.ask(columns, Supply::Given(EVENTS.clone()), LIMITS) {
        Err(error) => told(&error),
        Ok(mut answer) => {
            let begins = ["select", "with", "explain", "values", "(", "from", "-", "/", "\"", "`"];
            let begun = sql.trim_start().to_lowercase();
            assert!(begins.iter().any(|begin| begun.starts_with(begin)), "{sql} is answered");
            loop {
                match answer.next() {
                    Ok(Some(rows)) => {
                        for at in 0..answer.columns().len() {
                            let _ = rows.column(at).count();
                        }
                    }
                    Ok(None) => break,
                    Err(error) => return told(&error),
                }
            }
        }
    }
}
