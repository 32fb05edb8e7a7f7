//! `vedette backtest`: rules over the events that the lake holds.
//!
//! In: rules, the configuration that names the data folder, a stretch of time. Out: the alerts that the service would have raised with these
//! rules, or what they come to. Invariants: the same engine as the service, fed with events where these took part; what the lake cannot give
//! back as it was is said and not guessed; nothing of the folder is changed, so that the service may go on.

pub mod asked;
mod memory;
mod past;
mod print;
mod replay;
mod report;
mod sink;
mod tried;
pub mod way;

use std::{
    io::{self, BufWriter, IsTerminal as _, Write as _},
    path::PathBuf,
};

use anyhow::{Context as _, anyhow};
use indicatif::{ProgressBar, ProgressStyle};
use vedette_event::{Micros, Span};
use vedette_store::{Access, model::LakeFile};

use crate::{
    Failure, World as _, content,
    folder::{Folder, with_store},
    pipeline,
    rejected::print_rejected,
    table,
};
use past::Past;
use tried::Tried;

/// What `backtest` is asked for.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  vedette backtest --rules draft.yml --since 30d
  vedette backtest --rules detections/ --from 2026-11-01T00:00:00Z --to 2026-11-08T00:00:00Z
  vedette backtest --rules draft.yml --since 7d --format ndjson | jq .summary

What the lake holds is read from so far back as the rules look, so that what is told of the stretch asked for is exact.
Exit status: 0 done, 1 a rule was refused or cannot be tried on the lake (the others were), 2 wrong use, 3 the store or the lake cannot be read.")]
pub struct Args {
    #[command(flatten)]
    folder: Folder,
    /// Rule file or folder; may repeat. Without it, the rules of the configuration.
    #[arg(long, value_name = "PATH")]
    rules: Vec<PathBuf>,
    /// Alerts that begin no longer ago than this: `30d`, `12h`.
    #[arg(long, value_name = "SPAN", value_parser = span, conflicts_with = "from")]
    since: Option<Span>,
    /// Alerts that begin at this time or later.
    #[arg(long, value_name = "TIME", value_parser = time)]
    from: Option<Micros>,
    /// Alerts that begin before this time, as they are by then.
    #[arg(long, value_name = "TIME", value_parser = time)]
    to: Option<Micros>,
    /// Events of one source only.
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// What the alerts come to, as tables or as one JSON object; or all of them, one JSON object a line.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// Threads that compute; as many as there are cores without it.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=i64::from(pipeline::MAX_THREADS)))]
    threads: Option<u16>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    Table,
    Json,
    Ndjson,
}

fn span(text: &str) -> Result<Span, String> {
    Span::parse(text).ok_or_else(|| "write a whole number and its unit: `30d`, `12h`, `45m`".to_owned())
}

fn time(text: &str) -> Result<Micros, String> {
    Micros::parse_rfc3339(text).ok_or_else(|| "write it as `2026-11-01T00:00:00Z`".to_owned())
}

/// Runs the command; 1 if a rule could not be tried.
pub fn run(args: &Args) -> Result<u8, Failure> {
    let config = args.folder.config()?;
    let threads = args.threads.unwrap_or_else(pipeline::cores);
    let sources = past::sources(&config, args.source.as_deref())?;
    let paths = if args.rules.is_empty() { &config.rules } else { &args.rules };
    let text = content::rules(paths).map_err(Failure::Usage)?;
    let able = tried::able(text, threads, &sources)?;
    able.not_tried.iter().for_each(|why| say!("{why}"));
    print_rejected(&able.rules, &able.text);
    if able.rules.rules.is_empty() {
        return Err(Failure::Usage(anyhow!("there is no rule that could be tried")));
    }
    let refused = !able.rules.rejected.is_empty() || !able.not_tried.is_empty();
    let from = match (args.since, args.from) {
        (Some(since), _) => crate::now().minus(since),
        (None, from) => from.unwrap_or(Micros::MIN),
    };
    let stretch = (from, args.to.unwrap_or(Micros::MAX));
    let mut past: Option<Past> = None;
    with_store(&config, Access::Tool, async |store| {
        past = Some(past::read(store, &config, args.source.as_deref(), stretch).await?);
        Ok(())
    })?;
    let past = past.context("the store was not read").world()?;
    let tried = Tried::new(able, sources, &past, stretch, threads)?;
    let bar = bar(&past.files, tried.read_from());
    let mut out = BufWriter::new(io::stdout().lock());
    let whole = (args.format == Format::Ndjson).then_some(&mut out);
    let report = tried.run(&config, past, whole, &mut |events| {
        bar.set_position(events);
        true
    })?;
    bar.finish_and_clear();
    match args.format {
        Format::Table => print::print(&mut out, &report).world()?,
        Format::Json => {
            table::write_json(&mut out, &report, io::stdout().is_terminal()).world()?;
            out.write_all(b"\n").world()?;
        }
        Format::Ndjson => {
            report.notes.iter().for_each(|note| say!("{note}"));
            say!("{} events, {} alerts, {:.1} s", report.events, report.alerts, report.seconds);
        }
    }
    out.flush().world()?;
    Ok(u8::from(refused))
}

/// A bar on a terminal, over the events that are read.
fn bar(files: &[LakeFile], from: Micros) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let events = files.iter().filter(|file| file.latest >= from).map(|file| file.events).sum();
    let bar = ProgressBar::new(events);
    let style = "{spinner} {human_pos} of {human_len} events {bar:40} {percent}% {per_sec} eta {eta}";
    if let Ok(style) = ProgressStyle::with_template(style) {
        bar.set_style(style);
    }
    bar
}

#[cfg(test)]
mod tests;
