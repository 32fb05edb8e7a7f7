//! `vedette hunt`: SQL over log files, without any service.
//!
//! In: a query, logs of one source. Out: its answer on standard output; on standard error what was read, and what was not.
//! Invariants: events are those that every other command makes of the records; nothing is written but the answer; what is left out of it
//! is said.

pub mod describe;
mod files;
mod lake;
pub mod print;
mod rules;
mod service;
pub mod sigma;
mod stream;
pub mod tables;

use std::{
    io::{self, IsTerminal as _},
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::anyhow;
use indicatif::ProgressBar;
use vedette_event::source::Form;
use vedette_hunt::{Answer, Columns, Error, Limits, Query, Supply};

use self::{
    files::Files,
    print::{Format, Printer},
    stream::{EventSource, Figures},
};
use crate::{
    Failure, World as _,
    config::{self, For},
    content, pipeline, scan, table,
};

/// A table longer than this is for nobody's eyes.
const MAX_ROWS_SHOWN: usize = 1_000;
/// How often the bar moves.
const TICK: Duration = Duration::from_millis(100);

/// What `hunt` is asked for.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  vedette hunt --source paloalto                            the columns, their types, what they mean
  vedette hunt --source paloalto \\
    'select source.ip, count(*) from events where destination.port = 22
     group by source.ip order by 2 desc limit 10' firewall.log.gz
  vedette hunt 'select time_bin(''5m'', @timestamp) as t, count(*) from events group by t order by t' logs/
  vedette hunt \"select * from events where match(url.query, 'union select')\" waf.ndjson --format ndjson | jq .
  vedette hunt \"select count(*) from events where cidr_match(client.ip, '10.0.0.0/8')\" waf.ndjson
  vedette hunt \"select a.rule_title, count(*) from alerts a join paloalto e on e.source.ip = a.entity group by 1\"
  vedette hunt --rules detections/ \"select * from events where sigma('Port scan')\" firewall.log

There is one table, `events`. Names with dots need no quotes (`source.ip`, `e.source.ip`); others do (`\"c-ip\"`).
Of the lake, where no files are named, there are more: one named after each source, with the columns that it can have
(`paloalto`); `alerts`, the newest 20,000 alerts and notices (id, state, status, severity, rule_id, rule_title, techniques,
entity_type, entity, key, count, summary, created_at, crossed_at, last_seen, assignee, disposition, recurred, case_id);
`rules`, those of the configuration (id, title, name, kind, level, description, tags, file, raises_alerts, text).
`event.original` of these tables is the record as it came, where that is kept (lake.originals); `*` does not bring it.
Beside the functions of SQL: match(text, 'words') finds whole words, ignoring case; cidr_match(ip, 'network');
time_bin('5m', time); sigma('rule id or name'), with the rules of --rules.
A query only reads, and only these files.
NDJSON leaves out what is null; decimals are texts, so that they stay exact.
Sources are the files of schemas/sources in the working folder, else those that came with the program.
Exit status: 0 done, 2 wrong use or a query that cannot be answered, 3 a file cannot be read.")]
pub struct Args {
    /// A source of schemas/sources (`paloalto`, `json`, …), or `auto` to tell it from the form of the first record.
    #[arg(long, value_name = "NAME", default_value = "auto")]
    source: String,
    /// A table for people, one JSON object a row, or a table for spreadsheets; `table` on a terminal, else `ndjson`.
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// Rows at most; 1,000 in a table, else all.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
    /// Rule file or folder that `sigma('…')` looks in; may repeat. [default: detections/; of the lake, those of the configuration]
    #[arg(long, value_name = "PATH")]
    rules: Vec<PathBuf>,
    /// The configuration that names the data folder, whose lake is asked where no files are named.
    #[arg(short, long, value_name = "FILE", default_value = "vedette.yml")]
    config: PathBuf,
    /// The query; without one, the columns are shown.
    #[arg(value_name = "SQL")]
    sql: Option<String>,
    /// Logs of one source, plain, gzip or zstd, and folders of them; `-` is standard input. Without any, the lake is asked.
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<u8, Failure> {
    let terminal = io::stdout().is_terminal();
    let format = args.format.unwrap_or(if terminal { Format::Table } else { Format::Ndjson });
    let all = content::sources_here().map_err(Failure::Usage)?;
    // What is there is a file, and no query.
    let is_file = |text: &String| Path::new(text).exists();
    let Some(sql) = args.sql.as_ref().filter(|sql| !is_file(sql)) else {
        let paths: Vec<PathBuf> = args.sql.iter().map(PathBuf::from).chain(args.files.clone()).collect();
        return describe::run(&args.source, &paths, &all, format);
    };
    let query = Query::new(sql).map_err(|error| refused(error, sql))?;
    let rows = args.limit.map(|limit| limit as usize).or((format == Format::Table).then_some(MAX_ROWS_SHOWN));
    let limits = Limits { rows, ..Limits::default() };
    if args.files.is_empty() {
        return over_lake(args, query, sql, (format, terminal), limits);
    }
    let files = Arc::new(Files::find(&args.files, &args.source, &all)?);
    let here = [PathBuf::from("detections/")];
    let paths = if args.rules.is_empty() { &here[..] } else { &args.rules };
    let chosen = rules::chosen(query.rules(), paths, &files)?;
    let columns = columns(&query, &files);
    let figures = Arc::new(Figures::default());
    let source = EventSource {
        files: files.clone(),
        rules: chosen.rules,
        numbers: chosen.numbers,
        threads: pipeline::cores(),
        figures: figures.clone(),
    };
    let began = Instant::now();
    let open = Arc::new(move |converter| source.open(&converter));
    let mut answer = query.ask(columns, Supply::Given(open), limits).map_err(|error| refused(error, sql))?;
    let bar = scan::progress(files.size());
    let watch = watch(&bar, &figures);
    let mut printer = Printer::new(format, terminal, answer.columns());
    let printed = print(&mut answer, &mut printer, sql);
    bar.finish_and_clear();
    drop(watch);
    let rows = printed?;
    printer.finish().world()?;
    let stopped = answer.stop();
    say_read(rows, &answer, &figures, &files, began.elapsed());
    stopped.map_err(|error| refused(error, sql))?;
    Ok(0)
}

/// Asks the lake.
fn over_lake(
    args: &Args,
    query: Query,
    sql: &str,
    (format, terminal): (Format, bool),
    limits: Limits,
) -> Result<u8, Failure> {
    let source = Some(args.source.as_str()).filter(|source| *source != "auto");
    let began = Instant::now();
    let config = config::load(&args.config, For::Folder).map_err(Failure::Usage)?;
    // The service knows the rules in force, and no others.
    let others = !args.rules.is_empty() && !query.rules().is_empty();
    if let Some(running) = service::Service::of(&config).filter(|_| !others) {
        let mut printer: Option<Printer> = None;
        let asked = service::Asked { sql, source, rows: limits.rows };
        let told = running.ask(&asked, |names, rows| {
            let printer = printer.get_or_insert_with(|| Printer::new(format, terminal, names));
            rows.map_or(Ok(()), |rows| printer.rows(rows))
        })?;
        if let Some(told) = told {
            if let Some(mut printer) = printer {
                printer.finish().world()?;
            }
            service::say(&told);
            return Ok(0);
        }
    }
    let (mut answer, basis) = lake::ask((query, sql), (&args.config, source, &args.rules), limits)?;
    let mut printer = Printer::new(format, terminal, answer.columns());
    let rows = print(&mut answer, &mut printer, sql)?;
    printer.finish().world()?;
    basis.say(rows, answer.more(), &answer.gauge().read(), began.elapsed());
    answer.stop().map_err(|error| refused(error, sql))?;
    Ok(0)
}

/// Writes all rows, as they come.
fn print(answer: &mut Answer, printer: &mut Printer, sql: &str) -> Result<u64, Failure> {
    let mut written = 0;
    while let Some(rows) = answer.next().map_err(|error| refused(error, sql))? {
        printer.rows(&rows).world()?;
        written += rows.len() as u64;
    }
    Ok(written)
}

/// The columns of the files, and those that the query names beside them, where records may have such fields.
fn columns(query: &Query, files: &Files) -> Columns {
    let def = files.def();
    let declared = &files.sources.fields;
    let may_be = |name: &String| match def.form {
        Form::PanosCsv => false,
        // Headers and the like, of which there is no list.
        Form::AwsWaf | Form::ApiJson => declared.kind(name).is_some() && !name.starts_with("vedette."),
        Form::Json => true,
    };
    let mut unseen: Vec<String> = query.dotted_names();
    unseen.retain(|name| !files.fields().contains(name.as_str()) && may_be(name));
    // `e.source.ip` names `source.ip`, and no column of its own.
    let longer = |name: &String| {
        let end = name.split_once('.').map_or("", |(_, end)| end);
        !(files.fields().contains(end) || query.names_alone(name.split('.').next().unwrap_or_default()))
    };
    unseen.retain(longer);
    for name in &unseen {
        say!("no record that was looked at has `{}`; others may", table::plain(name));
    }
    let names = files.fields().iter().map(|name| &**name).chain(unseen.iter().map(String::as_str));
    Columns::new(names, declared, !def.own_logsource(), query.rules())
}

/// The error with the place it is about.
fn refused(error: Error, sql: &str) -> Failure {
    let pointed = error.pointed(sql).map(|pointed| format!("\n{pointed}")).unwrap_or_default();
    let said = anyhow!("{error}{pointed}");
    match error {
        Error::Source(cause) => Failure::World(anyhow!(cause)),
        Error::Internal { .. } | Error::Memory { .. } | Error::Timeout { .. } => Failure::World(said),
        _ => Failure::Usage(said),
    }
}

/// Moves the bar until it is dropped.
fn watch(bar: &ProgressBar, figures: &Arc<Figures>) -> crossbeam_channel::Sender<()> {
    let (watching, dropped) = crossbeam_channel::bounded::<()>(0);
    let (bar, figures) = (bar.clone(), figures.clone());
    thread::spawn(move || {
        while dropped.recv_timeout(TICK) == Err(crossbeam_channel::RecvTimeoutError::Timeout) {
            bar.set_position(Figures::of(&figures.bytes));
        }
    });
    watching
}

/// One line on what the answer rests on, and one on what it does not.
fn say_read(rows: u64, answer: &Answer, figures: &Figures, files: &Files, took: Duration) {
    let of = Figures::of;
    let (bytes, records, events) = (of(&figures.bytes), of(&figures.records), of(&figures.events));
    let more = if answer.more() { " (there are more: --limit)" } else { "" };
    let part = if figures.ended.load(Ordering::Relaxed) || records == 0 && bytes == 0 {
        ""
    } else {
        ", not all, since the answer was complete"
    };
    let read = indicatif::HumanBytes(bytes);
    let dead = of(&figures.dead);
    say!(
        "{rows} rows{more}; read {events} events of {records} records{part}, {dead} dead letters, {read} of {} files, \
         {:.2} s",
        files.len(),
        took.as_secs_f64()
    );
    let first = figures.first_dead.lock().ok().and_then(|first| first.clone());
    if let Some((file, record, why)) = first {
        let name = &files.def().name;
        say!(
            "the first dead letter is record {record} of {}: {}; `vedette decode --source {name} --dead-letters FILE …` \
             shows them",
            table::plain(&file),
            table::plain(&why)
        );
    }
    let refused = of(&figures.refused);
    if refused > 0 {
        say!("{refused} values are not of their column's type, and null here");
    }
}
