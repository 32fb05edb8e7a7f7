//! `vedette lake`: what the lake holds, and whether it is in order.
//!
//! In: the data folder of a configuration. Out: tables or JSON. Invariant: looking changes nothing, so a service may run meanwhile; what changes
//! files holds the data folder as a service would.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
};

use serde::Serialize;
use vedette_event::{Micros, Span};
use vedette_hunt::lake::{LakeError, Missing, Place, merge, mergeable, verify};
use vedette_store::{
    Access, Store,
    model::{LakeCatalog, LakeDrop, LakeFile, LostInterval},
};

use crate::{
    Failure, World as _,
    config::lake::LakeConfig,
    folder::{Folder, with_store},
    missing, service, table,
};

/// What `lake` is asked for.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  vedette lake status
  vedette lake verify -c /etc/vedette.yml
  vedette lake compact")]
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
    /// Make few large files of many small ones, as a running service does by itself.
    #[command(after_help = "\
It takes the place of the service meanwhile, which must not run. What it replaces is deleted by the service, ten minutes later.
Exit status: 0 done, 1 files could not be read and stay as they are, 3 the store or the disk does not do it.")]
    Compact,
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
    /// How long it is kept.
    keep: Span,
    originals: Originals,
}

/// What it holds of a source's records as they came.
#[derive(Debug, Default, Serialize)]
struct Originals {
    files: u64,
    records: u64,
    bytes: u64,
    earliest: Option<Micros>,
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
    /// Named no more, and deleted soon.
    leaving: Leaving,
    dropped: Vec<LakeDrop>,
    lost: Vec<LostInterval>,
}

#[derive(Debug, Default, Serialize)]
struct Leaving {
    files: u64,
    bytes: u64,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<u8, Failure> {
    let config = args.folder.config()?;
    let access = if matches!(args.action, Action::Compact) { Access::Engine } else { Access::Tool };
    let mut damaged = 0;
    let done = with_store(&config, access, async |store| match args.action {
        Action::Status { format } => status(store, (&config.lake, format)).await,
        Action::Verify => {
            damaged = verify_all(store, &service::lake_place(&config, store, access).await?).await?;
            Ok(())
        }
        Action::Compact => {
            damaged = compact(store, &service::lake_place(&config, store, access).await?).await?;
            Ok(())
        }
    })?;
    Ok(if damaged > 0 { 1 } else { done })
}

/// All files that the catalog names, of events and of originals.
async fn all_files(store: &Store) -> Result<Vec<LakeFile>, Failure> {
    store.lake_files(None, Micros::MIN, Micros::MAX).await.world()
}

/// How many files are not as the catalog says.
async fn verify_all(store: &Store, place: &Place) -> Result<u64, Failure> {
    let files = all_files(store).await?;
    let mut damaged = 0;
    for file in &files {
        match verify(place.clone(), file) {
            Ok(()) => {}
            // Of the others it would not be known either.
            Err(error @ LakeError::Store { .. }) => return Err(error).world(),
            Err(error) => {
                damaged += 1;
                say!("{error}");
            }
        }
    }
    say!("{} files, {damaged} of them not as the catalog says", files.len());
    Ok(damaged)
}

/// How many files could not be made into others.
async fn compact(store: &Store, place: &Place) -> Result<u64, Failure> {
    place.hold().await.world()?;
    let mut spoilt = BTreeSet::new();
    let (mut before, mut after) = (0, 0);
    loop {
        let files = all_files(store).await?;
        let whole = |group: &Vec<LakeFile>| group.iter().all(|file| !spoilt.contains(&file.path));
        let Some(group) = mergeable(files, place.largest(), crate::now()).into_iter().find(whole) else {
            break;
        };
        match merge(place.clone(), &group, crate::now(), &mut || true) {
            Ok(Some(merged)) => {
                // What is not brought to its end here is removed by the next start.
                place.bring(std::slice::from_ref(&merged)).await.world()?;
                store.replace_in_lake(&group, &merged).await.world()?;
                place.named(std::slice::from_ref(&merged));
                (before, after) = (before + group.len(), after + 1);
            }
            Ok(None) => break,
            Err(error @ (LakeError::Damaged { .. } | LakeError::Arrow(_))) => {
                say!("{error}");
                spoilt.extend(group.into_iter().map(|file| file.path));
            }
            Err(error) => return Err(error).world(),
        }
    }
    say!("{before} files became {after}");
    Ok(spoilt.len() as u64)
}

/// What these files hold of each source.
fn held(files: &[LakeFile], originals: &[LakeFile], keeping: &LakeConfig) -> BTreeMap<String, Held> {
    let mut sources: BTreeMap<String, Held> = BTreeMap::new();
    for file in files {
        let held = sources.entry(file.source.clone()).or_default();
        held.keep = keeping.keep_of(&file.source);
        held.files += 1;
        held.events += file.events;
        held.bytes += file.stored();
        held.earliest = Some(held.earliest.map_or(file.earliest, |before| before.min(file.earliest)));
        held.latest = held.latest.max(Some(file.latest));
    }
    for file in originals {
        let held = sources.entry(file.source.clone()).or_default();
        held.keep = keeping.keep_of(&file.source);
        let held = &mut held.originals;
        held.files += 1;
        held.records += file.events;
        held.bytes += file.stored();
        held.earliest = Some(held.earliest.map_or(file.earliest, |before| before.min(file.earliest)));
    }
    sources
}

async fn status(store: &Store, (keeping, format): (&LakeConfig, Format)) -> Result<(), Failure> {
    let LakeCatalog { files, originals, positions, dropped, lost } =
        store.lake_catalog(None).await.world()?;
    let leaving = store.leaving_lake().await.world()?;
    let leaving = Leaving { files: leaving.len() as u64, bytes: leaving.iter().map(|file| file.bytes).sum() };
    let mut status =
        Status { sources: held(&files, &originals, keeping), partitions: Vec::new(), leaving, dropped, lost };
    status.partitions = positions
        .into_iter()
        .map(|of| Reached {
            topic: of.topic,
            incarnation: of.incarnation,
            partition: of.partition,
            next_offset: of.next_offset,
            complete_through: of.through.max(of.newest_log),
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
            let (files, events) = (held.files.to_string(), held.events.to_string());
            let originals = match held.originals.records {
                0 => "-".to_owned(),
                records => format!("{records} in {}", indicatif::HumanBytes(held.originals.bytes)),
            };
            vec![source.clone(), files, events, bytes, from, to, held.keep.to_string(), originals]
        })
        .collect();
    let print = |out: &mut io::StdoutLock<'_>, table: comfy_table::Table| {
        io::Write::write_fmt(out, format_args!("{table}\n"))
    };
    print(
        &mut out,
        table::of(&["source", "files", "events", "size", "from", "to", "kept", "originals"], &rows),
    )
    .world()?;
    let rows: Vec<Vec<String>> = status
        .partitions
        .iter()
        .map(|of| {
            let place = format!("{}/{}", of.topic, of.partition);
            vec![place, of.next_offset.to_string(), time(of.complete_through)]
        })
        .collect();
    print(&mut out, table::of(&["partition", "next offset", "complete through"], &rows)).world()?;
    let Leaving { files, bytes } = status.leaving;
    if files > 0 {
        say!(
            "{files} more files of {} are deleted soon: what they hold was dropped or is in others",
            indicatif::HumanBytes(bytes)
        );
    }
    let Status { dropped, lost, .. } = status;
    missing::say(&Missing { dropped, lost, ..Missing::default() });
    Ok(())
}
