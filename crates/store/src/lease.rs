//! The lease: who may write. A lock on the data folder, held as long as the store is open, and an epoch.
//!
//! In: the data folder. Out: a locked [`Lease`] and, from the database, its epoch. Invariants: at most one process
//! holds the lock; the epoch rises at each taking, so whoever still writes with an older one is refused.

use std::{
    fs::{self, File, TryLockError},
    io,
    path::Path,
    time::Duration,
};

use sqlx::{AnyConnection, Row};

use crate::error::Error;

/// How often an engine tries to lock a folder that is in use, and the pause between: one second in all.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(50);

/// The locked file; dropping it (or the end of the process) gives the lock back.
#[derive(Debug)]
pub(crate) struct Lease {
    _file: File,
}

/// Makes the folder if there is none, readable by its owner only.
pub(crate) fn make_folder(folder: &Path) -> Result<(), Error> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    let failed = |source| Error::Folder { folder: folder.to_path_buf(), source };
    builder.create(folder).map_err(failed)?;
    #[cfg(unix)]
    if let Some(mode) = open_to_others(folder).map_err(failed)? {
        tracing::warn!(
            folder = %folder.display(),
            "others can enter the data folder (mode {mode:o}), which holds secrets, evidence and dead letters; \
             chmod 700 it"
        );
    }
    Ok(())
}

/// The folder's mode, if it lets anybody in but its owner.
#[cfg(unix)]
pub(crate) fn open_to_others(folder: &Path) -> io::Result<Option<u32>> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = fs::metadata(folder)?.permissions().mode() & 0o777;
    Ok((mode & 0o077 != 0).then_some(mode))
}

/// Opens a file of the store; one that is made is its owner's alone, whatever folder it is in.
pub(crate) fn own_file(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.create(true).truncate(false).read(true).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// Locks the folder, or says that another process has it.
pub(crate) fn lock(folder: &Path) -> Result<Lease, Error> {
    let failed = |source| Error::Folder { folder: folder.to_path_buf(), source };
    let file = own_file(&folder.join("vedette.lock")).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(Lease { _file: file }),
        Err(TryLockError::WouldBlock) => Err(Error::InUse { folder: folder.to_path_buf() }),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

/// Locks the folder for an engine. A command that ends holds the lock for a moment, to leave the store as it found it, and
/// must not keep an engine from starting.
pub(crate) async fn take(folder: &Path) -> Result<Lease, Error> {
    for _ in 0..TRIES {
        match lock(folder) {
            Err(Error::InUse { .. }) => tokio::time::sleep(PAUSE).await,
            taken => return taken,
        }
    }
    lock(folder)
}

/// Raises the epoch; whoever wrote with an earlier one is refused from here on.
pub(crate) async fn raise_epoch(connection: &mut AnyConnection) -> Result<i64, Error> {
    let row = sqlx::query("update engine set epoch = epoch + 1 where id = 1 returning epoch")
        .fetch_one(connection)
        .await?;
    Ok(row.try_get("epoch")?)
}

/// The epoch of the last engine.
pub(crate) async fn epoch(connection: &mut AnyConnection) -> Result<i64, Error> {
    let row = sqlx::query("select epoch from engine where id = 1").fetch_one(connection).await?;
    Ok(row.try_get("epoch")?)
}
