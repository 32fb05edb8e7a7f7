//! `vedette lake`: what the lake holds, and whether it is in order.
//!
//! In: the data folder of a configuration. Out: tables or JSON. Invariant: nothing is changed, so a service may run meanwhile.

use std::{collections::BTreeMap, io};

use serde::Serialize;
use vedette_event::Micros;
use vedette_hunt::lake::verify;
use vedette_store::{Access, Store, model::LakeFile};

use crate::{
    Failure, World as _,
    folder::{Folder, with_store},
    service, table,
};

/// What `lake` is asked for.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  vedette lake status
  vedette lake verify -c /etc/vedette.yml")]
pub struct Args {
    #[command(flatten)]
    folder: Folder,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// What it holds of each source, and up to where each partition is in it.
    Status {
        /// A table for people, or one JSON object.
        #[arg(long, value_enum, default_value = "table")]
        format: Format,
    },
    /// Read every file from its first byte to its last, and compare it with the catalog.
    #[command(after_help = "Exit status: 0 all is in order, 1 something is not, 3 the store cannot be read.")]
    Verify,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    Table,
    Json,
}

/// What it holds of a source.
#[derive(Debug, Default, Serialize)]
struct Held {
    files: u64,
    events: u64,
    bytes: u64,
    earliest: Option<Micros>,
    latest: Option<Micros>,
}

#[derive(Debug, Serialize)]
struct Reached {
    topic: String,
    incarnation: u16,
    partition: i32,
    next_offset: i64,
    complete_through: Option<Micros>,
}

#[derive(Debug, Serialize)]
struct Status {
    sources: BTreeMap<String, Held>,
    partitions: Vec<Reached>,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<u8, Failure> {
    let config = args.folder.config()?;
    let mut damaged = 0;
    let done = with_store(&config, Access::Tool, async |store| {
        let files = store.lake_files(None, Micros::MIN, Micros::MAX).await.world()?;
        match args.action {
            Action::Status { format } => status(store, &files, format).await,
            Action::Verify => {
                let folder = service::lake_folder(&config.data);
                for file in &files {
                    if let Err(error) = verify(&folder, file) {
                        damaged += 1;
                        say!("{error}");
                    }
                }
                say!("{} files, {damaged} of them not as the catalog says", files.len());
                Ok(())
            }
        }
    })?;
    Ok(if damaged > 0 { 1 } else { done })
}

async fn status(store: &Store, files: &[LakeFile], format: Format) -> Result<(), Failure> {
    let mut status = Status { sources: BTreeMap::new(), partitions: Vec::new() };
    for file in files {
        let held = status.sources.entry(file.source.clone()).or_default();
        held.files += 1;
        held.events += file.events;
        held.bytes += file.bytes;
        held.earliest = Some(held.earliest.map_or(file.earliest, |before| before.min(file.earliest)));
        held.latest = held.latest.max(Some(file.latest));
    }
    let positions = store.lake_positions().await.world()?;
    status.partitions = positions
        .into_iter()
        .map(|of| Reached {
            topic: of.topic,
            incarnation: of.incarnation,
            partition: of.partition,
            next_offset: of.next_offset,
            complete_through: of.newest_log,
        })
        .collect();
    let mut out = io::stdout().lock();
    if format == Format::Json {
        return table::write_json(&mut out, &status, false).world();
    }
    let time = |time: Option<Micros>| time.map_or("-".to_owned(), |time| time.to_string());
    let rows: Vec<Vec<String>> = status
        .sources
        .iter()
        .map(|(source, held)| {
            let bytes = indicatif::HumanBytes(held.bytes).to_string();
            let (from, to) = (time(held.earliest), time(held.latest));
            vec![source.clone(), held.files.to_string(), held.events.to_string(), bytes, from, to]
        })
        .collect();
    let print = |out: &mut io::StdoutLock<'_>, table: comfy_table::Table| {
        io::Write::write_fmt(out, format_args!("{table}\n"))
    };
    print(&mut out, table::of(&["source", "files", "events", "size", "from", "to"], &rows)).world()?;
    let rows: Vec<Vec<String>> = status
        .partitions
        .iter()
        .map(|of| {
            let place = format!("{}/{}", of.topic, of.partition);
            vec![place, of.next_offset.to_string(), time(of.complete_through)]
        })
        .collect();
    print(&mut out, table::of(&["partition", "next offset", "complete through"], &rows)).world()
}
