//! What a query of the lake finds beside `events`.
//!
//! In: the sources, the store, rules. Out: the columns of all and of each source, and rows of `alerts` and `rules` where a query names them.
//! Invariant: what a query does not name is not read.

use std::{collections::BTreeSet, sync::Arc};

use anyhow::Result;
use vedette_decode::all_fields;
use vedette_event::Sources;
use vedette_hunt::{Columns, MOST_ALERTS, Query, Tables, alerts, rules};
use vedette_sigma::RuleSet;
use vedette_store::Store;

/// The columns of the lake, or of what it holds of one source.
pub fn columns(sources: &Sources, source: Option<&str>) -> Columns {
    let of = |name: &str| source.is_none_or(|source| source == name);
    let defs = sources.defs.iter().filter(|def| of(&def.name));
    let fields: BTreeSet<Arc<str>> = defs.flat_map(|def| all_fields(def, &sources.fields)).collect();
    Columns::of_lake(fields.iter().map(|name| &**name), &sources.fields, true)
}

/// What a query finds, and what must be said of it. `all_rules` gives the rules, if they are asked for.
pub async fn tables(
    query: &Query,
    store: &Store,
    sources: &Sources,
    all_rules: impl FnOnce() -> Result<Arc<RuleSet>>,
) -> Result<(Tables, Vec<String>)> {
    let named = sources.defs.iter().filter(|def| query.names_alone(&def.name));
    let mut tables = Tables {
        sources: named.map(|def| (def.name.to_string(), columns(sources, Some(&def.name)))).collect(),
        ..Tables::default()
    };
    let mut said = Vec::new();
    if query.names_alone("alerts") {
        let (rows, more) = alerts(store).await?;
        tables.rows.push(("alerts", rows));
        if more {
            said.push(format!(
                "`alerts` are the newest {MOST_ALERTS} alerts and notices; there are older ones"
            ));
        }
    }
    if query.names_alone("rules") {
        tables.rows.push(("rules", rules(&*all_rules()?)?));
    }
    Ok((tables, said))
}
