//! `vedette hunt` without a query: what there is to ask.
//!
//! In: a source, and logs of it if there are any. Out: its columns with types and descriptions.
//! Invariant: the columns are those that a query over the same files finds.

use std::{
    io::{self, IsTerminal as _},
    path::PathBuf,
    sync::Arc,
};

use anyhow::anyhow;
use vedette_event::{Fields, SourceDef, SourceIx, Sources};
use vedette_hunt::Columns;

use super::{
    files::Files,
    print::{Format, Printer},
};
use crate::{Failure, World as _, content};

/// Shows the columns.
pub fn run(wanted: &str, paths: &[PathBuf], all: &Sources, format: Format) -> Result<u8, Failure> {
    if wanted == "auto" && paths.is_empty() {
        let names: Vec<&str> = all.defs.iter().map(|def| &*def.name).collect();
        let names = names.join(", ");
        return Err(Failure::Usage(anyhow!("name a source with --source, or a file: there are {names}")));
    }
    let (sources, fields) = if paths.is_empty() {
        let sources = content::only(all, &[wanted]).map_err(Failure::Usage)?;
        let fields = vedette_decode::field_names(sources.get(SourceIx(0)), &sources.fields, []);
        (Arc::new(sources), fields)
    } else {
        let files = Files::find(paths, wanted, all)?;
        (files.sources.clone(), files.fields().clone())
    };
    let def = sources.get(SourceIx(0));
    let columns = Columns::new(fields.iter().map(|name| &**name), &sources.fields, !def.own_logsource(), &[]);
    let heads = ["column", "type", "description"].map(str::to_owned);
    let mut printer = Printer::new(format, io::stdout().is_terminal(), &heads);
    for (name, kind) in columns.shown() {
        printer.row(vec![name.into(), kind.into(), meaning(&sources.fields, name).into()]).world()?;
    }
    printer.finish().world()?;
    say_more(def, paths.is_empty());
    Ok(0)
}

/// What a field means; a wider description where it has none of its own.
pub fn meaning<'a>(fields: &'a Fields, name: &str) -> &'a str {
    let mut prefix = name;
    let exact = fields.0.get(name);
    let wider = || {
        while let Some((head, _)) = prefix.rsplit_once('.') {
            if let Some(def) = fields.0.get(&format!("{head}.*")) {
                return Some(def);
            }
            prefix = head;
        }
        None
    };
    exact.or_else(wider).map_or("", |def| &def.description)
}

fn say_more(def: &SourceDef, no_file: bool) {
    if def.own_logsource() && no_file {
        say!("fields of `{}` are those that its records have: name a file to see them", def.name);
    }
    say!("for example: vedette hunt --source {} 'select * from events limit 10' FILE", def.name);
}
