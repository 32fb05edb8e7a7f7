//! `vedette backup`: a copy of the data folder, made while the service runs.
//!
//! In: the data folder of a configuration. Out: a new folder that a service can be started on: the database as it was at one moment, the
//! key of what is sealed, and every file of the lake that the database names, unless they are in a bucket, where they stay. Invariants: the folder bears its name only once all of it
//! is on the disk; the service is not held up.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, anyhow, bail};
use vedette_hunt::lake::{index_name, remove_orphans};
use vedette_store::{Access, Store, model::LakeFile};

use crate::{
    Failure, World as _,
    config::lake,
    folder::{Folder, with_store},
    scan,
};

/// The lake can drop a file between its being named and its being copied. Then the database is copied again, and only what is new since:
/// minutes become seconds, and in seconds nothing is dropped twice. Beyond this the disk is slower than what is written to it.
const TRIES: usize = 8;

/// What `backup` is asked for.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  vedette backup /backups/vedette-$(date +%F)
  vedette backup -c /etc/vedette.yml /mnt/backup/vedette

To restore, stop the service, move its data folder away, and put the copy in its place. It reads on in Kafka where the
copy ends: what Kafka no longer holds of that is missing, and is shown as a lost interval.
Of a lake that is elsewhere by `lake.location`, a folder's files are in the copy's folder `lake`: put them where they were. A bucket's stay
where they are, for a day longer than the lake needs them: within that day a copy has all that it names, and later with the
bucket's own versions; `vedette lake verify` says what is missing. Its object `vedette-holder` is to be deleted by who knows that the original is gone.
The copy holds the key that opens sealed secrets, and all evidence: guard it as the folder itself.
An interrupted copy is `TO.incomplete`; the same command goes on with it.")]
pub struct Args {
    #[command(flatten)]
    folder: Folder,
    /// The folder to make.
    #[arg(value_name = "TO")]
    to: PathBuf,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<u8, Failure> {
    let config = args.folder.config()?;
    let to = &args.to;
    if to.symlink_metadata().is_ok() {
        let there = anyhow!("`{}` is there already; name a new folder", to.display());
        return Err(Failure::Usage(there));
    }
    let mut name = to.file_name().map(OsString::from).unwrap_or_default();
    name.push(".incomplete");
    let under_way = to.with_file_name(name);
    with_store(&config, Access::Tool, async |store| {
        let lake = lake::folder(&config).map_err(Failure::Usage)?;
        let files = copy(store, lake.as_deref(), &under_way).await.world()?;
        fs::rename(&under_way, to)
            .with_context(|| format!("cannot name the copy `{}`", to.display()))
            .world()?;
        sync_folder(to.parent()).world()?;
        let bytes: u64 = files.iter().map(|file| file.bytes).sum();
        let size = indicatif::HumanBytes(bytes);
        let (to, files) = (to.display(), files.len());
        match lake {
            Some(_) => say!("copied to {to}: the store, and {files} files of the lake ({size})"),
            None => {
                let bucket = config.lake.said();
                say!(
                    "copied to {to}: the store; the {files} files of the lake ({size}) that it names stay in {bucket}"
                );
            }
        }
        Ok(())
    })
}

/// Copies all, of the lake the files of a folder; gives those that the copy names.
async fn copy(store: &Store, lake: Option<&Path>, to: &Path) -> Result<Vec<LakeFile>> {
    let copied = to.join("lake");
    for _ in 0..TRIES {
        let files = store.copy_to(to).await?;
        let Some(lake) = lake else {
            sync_folder(Some(to))?;
            return Ok(files);
        };
        let bar = scan::progress(Some(files.iter().map(|file| file.bytes).sum()));
        let mut missing = 0;
        for file in &files {
            missing += usize::from(!copy_file(lake, &copied, file)?);
            bar.inc(file.bytes);
        }
        bar.finish_and_clear();
        if missing == 0 {
            let named: BTreeSet<String> = files.iter().map(|file| file.path.clone()).collect();
            remove_orphans(&copied, &named)?;
            sync_folder(Some(to))?;
            return Ok(files);
        }
    }
    bail!(
        "the lake drops files faster than they can be copied; try a faster disk, or a time with less traffic"
    )
}

/// Copies a file, unless it is there; false if the lake has dropped it. It is never changed, so one of the same length is the same.
fn copy_file(from: &Path, to: &Path, file: &LakeFile) -> Result<bool> {
    let index = index_name(&file.path);
    let (index_from, index_to) = (from.join(&index), to.join(&index));
    let (from, to) = (from.join(&file.path), to.join(&file.path));
    if to.metadata().is_ok_and(|there| there.len() == file.bytes) {
        return Ok(true);
    }
    let cannot = || format!("cannot copy `{}` to `{}`", from.display(), to.display());
    let folder = to.parent().context("a file of the lake has no folder").with_context(cannot)?;
    fs::create_dir_all(folder).with_context(cannot)?;
    match fs::copy(index_from, index_to) {
        // Whoever asks reads the file instead.
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        copied => drop(copied.with_context(cannot)?),
    }
    // Under another name until it is whole.
    let half = to.with_extension("part");
    match fs::copy(&from, &half) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
        copied => copied.with_context(cannot)?,
    };
    File::open(&half).and_then(|half| half.sync_all()).with_context(cannot)?;
    fs::rename(&half, &to).with_context(cannot)?;
    sync_folder(Some(folder))?;
    Ok(true)
}

fn sync_folder(folder: Option<&Path>) -> Result<()> {
    let folder = folder.filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    synced.with_context(|| format!("`{}` cannot be brought to the disk", folder.display()))
}
