//! The queries, asked here and there.
//!
//! In: a lake, queries. Out: [`Asked`]. Invariant: both are asked as often, on one thread each, and their rows are compared as texts.

use std::{
    collections::BTreeSet,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    time::Instant,
};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use vedette_decode::all_fields;
use vedette_event::{Micros, Sources};
use vedette_hunt::{Columns, Limits, Query, Supply, lake::Lake};
use vedette_store::model::{Holds, LakeFile};

use crate::fill::{ADDRESS, WORD};

/// A question in both dialects.
pub struct Question {
    /// What it is called.
    pub name: &'static str,
    /// As it is asked here; `ADDRESS` and `WORD` stand for what was planted.
    pub sql: &'static str,
    /// As it is asked of DuckDB; empty where it is the same.
    pub duckdb: &'static str,
}

const fn same(name: &'static str, sql: &'static str) -> Question {
    Question { name, sql, duckdb: "" }
}

/// All of them. Each gives few rows, in an order that is its own.
pub const QUERIES: [Question; 11] = [
    same(
        "needle: an address",
        "select \"vedette.offset\", \"destination.port\" from events where \"source.ip\" = 'ADDRESS'",
    ),
    Question {
        name: "needle: a word",
        sql: "select vedette.offset, url.query from events where match(url.query, 'WORD')",
        duckdb: "select \"vedette.offset\", \"url.query\" from events where regexp_matches(\"url.query\", '(^|[^a-z0-9])WORD($|[^a-z0-9])', 'i')",
    },
    same("needle: no such word", "select count(*) from events where \"url.query\" like 'to=nowhere&%'"),
    same("like", "select count(*) from events where \"user_agent.original\" like '%x64%Chrome%'"),
    Question {
        name: "regular expression",
        sql: "select count(*) from events where \"url.query\" ~ 'page=[13]$'",
        duckdb: "select count(*) from events where regexp_matches(\"url.query\", 'page=[13]$')",
    },
    same(
        "aggregate",
        "select \"destination.port\", count(*), sum(\"source.bytes\"), max(\"destination.bytes\") from events group by 1 order by 2 desc, 1 limit 5",
    ),
    same(
        "aggregate by text",
        "select \"client.ip\", count(*) from events group by 1 order by 2 desc, 1 limit 5",
    ),
    same(
        "newest first",
        "select \"vedette.source\", \"vedette.offset\", \"event.action\" from events where \"event.action\" is not null order by \"@timestamp\" desc, 1, 2 limit 20",
    ),
    same(
        "an hour of one source",
        "select count(*) from events where \"vedette.source\" = 'paloalto' and \"@timestamp\" >= '2026-01-01T12:01:00Z' and \"@timestamp\" < '2026-01-01T12:02:00Z'",
    ),
    same("sixty addresses", "select count(*) from events where \"source.ip\" in (ADDRESSES)"),
    same(
        "wide rows of a minute",
        "select \"vedette.offset\", \"event.unmapped\" from events where \"vedette.source\" = 'exchange_api' and \"@timestamp\" >= '2026-01-01T12:01:00Z' and \"@timestamp\" < '2026-01-01T12:01:01Z' order by \"vedette.offset\" limit 20",
    ),
];

/// What came of a question.
pub struct Asked {
    /// Rows, as texts.
    pub rows: Vec<Vec<Option<String>>>,
    /// The quickest of all runs.
    pub seconds: f64,
    /// Bytes that were read, of files and of indexes; their footers are not counted.
    pub bytes: f64,
    /// Files of which nothing was read, by their indexes.
    pub skipped: f64,
}

/// A file of the catalog, as it is noted beside the lake.
#[derive(Serialize, Deserialize)]
pub struct Noted {
    path: String,
    source: String,
    bounds: [i64; 2],
    sizes: [u64; 3],
}

/// Notes files.
pub fn noted(files: &[LakeFile]) -> Vec<Noted> {
    let noted = |file: &LakeFile| Noted {
        path: file.path.clone(),
        source: file.source.clone(),
        bounds: [file.earliest.0, file.latest.0],
        sizes: [file.events, file.bytes, file.index_bytes],
    };
    files.iter().map(noted).collect()
}

/// A lake.
pub struct Table {
    folder: PathBuf,
    /// Its files.
    pub files: Vec<LakeFile>,
    columns: Columns,
    /// Events of all files.
    pub events: u64,
    /// Bytes of all files, without indexes.
    pub bytes: u64,
}

impl Table {
    /// Of what was noted.
    pub fn of(folder: &Path, noted: Vec<Noted>, sources: &Arc<Sources>) -> Result<Self> {
        let file = |noted: Noted| LakeFile {
            path: noted.path,
            layout: vedette_hunt::lake::LAYOUT,
            holds: Holds::Events,
            source: noted.source,
            hour: noted.bounds[0].div_euclid(3_600_000_000),
            earliest: Micros(noted.bounds[0]),
            latest: Micros(noted.bounds[1]),
            events: noted.sizes[0],
            bytes: noted.sizes[1],
            index_bytes: noted.sizes[2],
            written_at: Micros(0),
        };
        let files: Vec<LakeFile> = noted.into_iter().map(file).collect();
        let fields: BTreeSet<Arc<str>> =
            sources.defs.iter().flat_map(|def| all_fields(def, &sources.fields)).collect();
        let columns = Columns::of_lake(fields.iter().map(|name| &**name), &sources.fields, true);
        let (events, bytes) =
            files.iter().fold((0, 0), |sum, file| (sum.0 + file.events, sum.1 + file.bytes));
        Ok(Self { folder: folder.to_owned(), files, columns, events, bytes })
    }

    /// All rows of an answer.
    fn rows(&self, sql: &str) -> Result<Vec<Vec<Option<String>>>> {
        let lake = Lake::new(&self.folder, self.files.clone())?;
        let mut answer =
            Query::new(sql)?.ask(self.columns.clone(), Supply::Lake(Box::new(lake)), Limits::default())?;
        let mut all = Vec::new();
        while let Some(rows) = answer.next()? {
            let columns: Vec<Vec<Value>> =
                (0..answer.columns().len()).map(|at| rows.column(at).collect()).collect();
            all.extend((0..rows.len()).map(|row| columns.iter().map(|column| text(&column[row])).collect()));
        }
        Ok(all)
    }

    /// Asks a question so many times.
    pub fn ask(&self, sql: &str, runs: usize) -> Result<Asked> {
        let sql = with_needles(sql);
        let mut asked = Asked { rows: Vec::new(), seconds: f64::INFINITY, bytes: 0.0, skipped: 0.0 };
        for _ in 0..runs {
            let began = Instant::now();
            asked.rows = self.rows(&sql)?;
            asked.seconds = asked.seconds.min(began.elapsed().as_secs_f64());
        }
        let plan = self.rows(&format!("explain analyze {sql}"))?;
        let plan = plan.into_iter().flatten().flatten().collect::<String>();
        asked.bytes = figure(&plan, "bytes_scanned") + figure(&plan, "index_bytes_scanned");
        asked.skipped = figure(&plan, "files_skipped_by_index");
        Ok(asked)
    }
}

/// A figure of a plan, all of its kind together: `name=1.5 K`, or `name{…}=3`.
fn figure(plan: &str, name: &str) -> f64 {
    let begins = |(at, _): &(usize, &str)| plan[..*at].ends_with(['[', ' ']);
    let value = |(_, rest): (usize, &str)| {
        let rest = rest.strip_prefix('=')?;
        let (number, rest) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit() && c != '.')?);
        let unit = match rest.trim_start().chars().next() {
            Some('K') => 1e3,
            Some('M') => 1e6,
            Some('B' | 'G') => 1e9,
            _ => 1.0,
        };
        Some(number.parse::<f64>().ok()? * unit)
    };
    plan.match_indices(name)
        .filter(|found| begins(found))
        .filter_map(|(at, _)| value((at, &plan[at + name.len()..])))
        .sum()
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

fn with_needles(sql: &str) -> String {
    let addresses: Vec<String> = (0..59).map(|number| format!("'192.0.2.{}'", number + 1)).collect();
    let addresses = format!("'{ADDRESS}', {}", addresses.join(", "));
    sql.replace("ADDRESSES", &addresses).replace("ADDRESS", ADDRESS).replace("WORD", WORD)
}

/// Asks DuckDB all of them; nothing of each where there is none, or where it has no answer.
pub fn duckdb(
    python: &Path,
    folder: &Path,
    runs: usize,
    questions: &[&Question],
) -> Result<Vec<Option<Asked>>> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/hunt/duckdb.py");
    let there = Command::new(python).args(["-c", "import duckdb"]).stderr(Stdio::null()).status();
    if !there.is_ok_and(|status| status.success()) {
        eprintln!("there is no duckdb for {}: pip install duckdb", python.display());
        return Ok(questions.iter().map(|_| None).collect());
    }
    let text = |of: &&Question| with_needles(if of.duckdb.is_empty() { of.sql } else { of.duckdb });
    let queries = serde_json::to_string(&questions.iter().map(text).collect::<Vec<_>>())?;
    let mut child = Command::new(python)
        .args([script.as_os_str(), folder.as_os_str()])
        .args(["1", &runs.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    child.stdin.take().context("its input")?.write_all(queries.as_bytes())?;
    let output = child.wait_with_output()?;
    let lines = String::from_utf8(output.stdout)?;
    let answer = |line: &str| -> Result<Option<Asked>> {
        let said: Value = serde_json::from_str(line)?;
        if let Some(error) = said.get("error") {
            eprintln!("DuckDB: {error}");
            return Ok(None);
        }
        let rows = serde_json::from_value(said["rows"].clone())?;
        let seconds = said["seconds"].as_f64().context("seconds")?;
        Ok(Some(Asked { rows, seconds, bytes: 0.0, skipped: 0.0 }))
    };
    lines.lines().map(answer).collect()
}
