//! Hunts over a lake of simulated events, side by side with DuckDB over the same files.
//!
//! In: `cargo bench -p vedette-tests --bench hunt -- [--rows N] [--folder PATH] [--runs N] [--only NAME]… [--python PATH] [--json]`. Three million
//! events without more; `--rows 50000000` are some 3 GB. A folder that is given stays, and is not filled again. `--python` names one that has
//! `duckdb`; where there is none, that column is empty. Out: a table, or one JSON object: sizes, and for each query the quickest of the
//! runs, one thread each, what was read, and that both answer the same.
//! Only ratios between the two, and shares of what is there, travel to another machine.

#![allow(clippy::print_stdout)]

mod ask;
mod fill;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use anyhow::{Context as _, Result, bail};
use serde_json::json;
use vedette_event::{Fields, SourceDef, Sources};

use ask::{Asked, QUERIES, Table};

struct Args {
    rows: u64,
    folder: Option<PathBuf>,
    runs: usize,
    only: Vec<String>,
    python: PathBuf,
    json: bool,
}

impl Args {
    fn parse() -> Result<Self> {
        let python = PathBuf::from("python3");
        let mut all = Self { rows: 3_000_000, folder: None, runs: 3, only: Vec::new(), python, json: false };
        let mut args = std::env::args().skip(1);
        while let Some(arg) = args.next() {
            let mut value = || args.next().with_context(|| format!("{arg} takes a value"));
            match arg.as_str() {
                "--rows" => all.rows = value()?.parse()?,
                "--folder" => all.folder = Some(value()?.into()),
                "--runs" => all.runs = value()?.parse()?,
                "--only" => all.only.push(value()?),
                "--python" => all.python = value()?.into(),
                "--json" => all.json = true,
                "--bench" => {}
                other => bail!("there is no {other}"),
            }
        }
        Ok(all)
    }
}

fn sources() -> Result<Arc<Sources>> {
    let fields: Fields = serde_saphyr::from_str(include_str!("../../../schemas/fields.yml"))?;
    let defs: [SourceDef; 3] = [
        serde_saphyr::from_str(include_str!("../../../schemas/sources/paloalto.yml"))?,
        serde_saphyr::from_str(include_str!("../../../schemas/sources/aws_waf.yml"))?,
        serde_saphyr::from_str(include_str!("../../../schemas/sources/exchange_api.yml"))?,
    ];
    Ok(Arc::new(Sources::new(fields, defs.into())))
}

fn main() -> Result<()> {
    let args = Args::parse()?;
    let sources = sources()?;
    let temporary;
    let folder = match &args.folder {
        Some(folder) => folder.as_path(),
        None => {
            temporary = tempfile::tempdir()?;
            temporary.path()
        }
    };
    let table = opened(folder, &args, &sources)?;
    let wanted = QUERIES
        .iter()
        .filter(|query| args.only.is_empty() || args.only.iter().any(|name| name == query.name));
    let wanted: Vec<_> = wanted.collect();
    let theirs = ask::duckdb(&args.python, folder, args.runs, &wanted)?;
    let mut all = Vec::new();
    for (query, theirs) in wanted.iter().zip(theirs) {
        let ours = table.ask(query.sql, args.runs)?;
        let same = theirs.as_ref().map(|theirs| theirs.rows == ours.rows);
        if same == Some(false) {
            let theirs = theirs.as_ref().map(|theirs| &theirs.rows);
            bail!("{}: {:?} here and {theirs:?} there", query.name, ours.rows);
        }
        if args.json {
            all.push(told(query.name, &ours, theirs.as_ref()));
        } else {
            println!("{}", line(query.name, &ours, theirs.as_ref(), &table));
        }
    }
    if args.json {
        println!("{}", json!({"events": table.events, "bytes": table.bytes, "queries": all}));
    }
    Ok(())
}

/// The lake of a folder, filled if it is not yet.
fn opened(folder: &Path, args: &Args, sources: &Arc<Sources>) -> Result<Table> {
    let noted = folder.join("filled.json");
    if let Ok(text) = fs::read_to_string(&noted) {
        return Table::of(folder, serde_json::from_str(&text)?, sources);
    }
    let began = Instant::now();
    let filled = fill::fill(folder, args.rows, sources)?;
    let share = |bytes: u64| 100.0 * bytes as f64 / filled.raw as f64;
    let (bytes, index) = filled
        .files
        .iter()
        .fold((0, 0), |(bytes, index), file| (bytes + file.bytes, index + file.index_bytes));
    println!(
        "{} events of {} bytes in {} files, {:.0} s: columns {:.1} % of raw, index {:.1} %, {:.1} B an event",
        filled.events,
        filled.raw,
        filled.files.len(),
        began.elapsed().as_secs_f64(),
        share(bytes),
        share(index),
        index as f64 / filled.events as f64,
    );
    let noted_files = ask::noted(&filled.files);
    fs::write(noted, serde_json::to_string(&noted_files)?)?;
    Table::of(folder, noted_files, sources)
}

fn told(name: &str, ours: &Asked, theirs: Option<&Asked>) -> serde_json::Value {
    json!({
        "query": name,
        "seconds": ours.seconds,
        "duckdb_seconds": theirs.map(|theirs| theirs.seconds),
        "bytes": ours.bytes,
        "files_skipped": ours.skipped,
        "rows": ours.rows.len(),
    })
}

fn line(name: &str, ours: &Asked, theirs: Option<&Asked>, table: &Table) -> String {
    let ratio = theirs.map_or_else(String::new, |theirs| {
        format!(", DuckDB {:.4} s: {:.2} times as long", theirs.seconds, theirs.seconds / ours.seconds)
    });
    format!(
        "{name}: {:.4} s, {:.1} M events/s, {:.0} bytes ({:.3} %), {} of {} files skipped by index{ratio}",
        ours.seconds,
        table.events as f64 / ours.seconds / 1e6,
        ours.bytes,
        100.0 * ours.bytes / table.bytes as f64,
        ours.skipped,
        table.files.len(),
    )
}
