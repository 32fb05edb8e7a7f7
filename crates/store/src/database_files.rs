//! The files of the database: the folder's mark that a store is here, and whether the file is still the one that was opened.
//!
//! In: the data folder. Out: [`Left`], how the store was left; [`DatabaseFiles::verify`], an error as soon as the database was
//! deleted, replaced, cut or overwritten. Invariants: where there is a mark and no database, none is made, so that no
//! start is empty without a word; the database's file is opened here once and closed after all connections, because
//! closing it would take away SQLite's own locks on it (locks of POSIX belong to the process).

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::SystemTime,
};

use sqlx::{AnyConnection, Connection, Row};

use crate::{
    error::Error,
    lease,
    store::{READER_PRAGMAS, database_url, prepare},
};

const MARK: &str = "vedette.store";
/// The database in its folder.
pub(crate) const DATABASE: &str = "vedette.db";
const WORDS: &str = "This folder holds the store of Vedette, in vedette.db. If that file is gone, restore it from a backup; \
                     delete this one, too, only to start with an empty store.";
/// What every database of SQLite begins with.
const MAGIC: [u8; 16] = *b"SQLite format 3\0";
/// The name of the store in `meta`.
pub(crate) const IDENTITY: &str = "store_id";

/// How the store was left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Left {
    /// There was none.
    Nowhere,
    /// It was closed, and nobody has written to it since.
    Closed,
    /// By a crash, or changed since: its pages are to be checked.
    Unknown,
    /// Without a mark, by an earlier version, or before it was whole: so are its pages.
    Unmarked,
}

/// A file as the system knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FileId {
    device: u64,
    number: u64,
}

/// The database's file, held open.
#[derive(Debug)]
pub(crate) struct DatabaseFiles {
    folder: PathBuf,
    database: File,
    /// The database and its two logs.
    nodes: Vec<(PathBuf, FileId)>,
    /// It never shrinks while it is open.
    longest: AtomicU64,
    identity: Vec<u8>,
}

/// Sizes on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sizes {
    /// Bytes of the database.
    pub database: u64,
    /// Bytes of its journal, the write-ahead log.
    pub journal: u64,
}

/// How the store in this folder was left; an error if it was there and is gone.
pub(crate) fn left(folder: &Path) -> Result<Left, Error> {
    let mark = match fs::read_to_string(folder.join(MARK)) {
        Ok(mark) => Some(mark),
        Err(e) if e.kind() == io::ErrorKind::NotFound => None,
        Err(e) => return Err(folder_error(folder, e)),
    };
    let database = fs::metadata(folder.join(DATABASE)).ok().filter(|file| file.len() > 0);
    match (mark, database) {
        (Some(_), None) => Err(gone(folder)),
        (None, None) => Ok(Left::Nowhere),
        (Some(mark), Some(file)) if mark.lines().nth(1) == Some(&closed(&file)) => Ok(Left::Closed),
        (Some(_), Some(_)) => Ok(Left::Unknown),
        (None, Some(_)) => Ok(Left::Unmarked),
    }
}

/// Leaves the mark. `at_rest` says that all connections are closed and everything is in the database.
pub(crate) fn mark(folder: &Path, at_rest: bool) -> Result<(), Error> {
    let state = match at_rest {
        true => closed(&fs::metadata(folder.join(DATABASE)).map_err(|e| folder_error(folder, e))?),
        false => "in use".to_owned(),
    };
    let write = || {
        // Whole or not at all, and there after a loss of power.
        let next = folder.join(format!("{MARK}.next"));
        let mut file = lease::own_file(&next)?;
        file.set_len(0)?;
        file.write_all(format!("{WORDS}\n{state}\n").as_bytes())?;
        file.sync_all()?;
        fs::rename(&next, folder.join(MARK))?;
        File::open(folder)?.sync_all()
    };
    write().map_err(|e| folder_error(folder, e))
}

/// What the mark says of a database at rest: who changes the one changes the other.
fn closed(file: &fs::Metadata) -> String {
    let changed = file.modified().ok().and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok());
    format!("closed at {} bytes, {} ns", file.len(), changed.unwrap_or_default().as_nanos())
}

/// The error of a store that is gone.
pub(crate) fn gone(folder: &Path) -> Error {
    Error::Gone { what: "is gone", file: folder.join(DATABASE), mark: folder.join(MARK) }
}

fn folder_error(folder: &Path, source: io::Error) -> Error {
    Error::Folder { folder: folder.to_path_buf(), source }
}

fn node(path: &Path) -> io::Result<(FileId, u64)> {
    let file = fs::metadata(path)?;
    #[cfg(unix)]
    let node = {
        use std::os::unix::fs::MetadataExt as _;
        FileId { device: file.dev(), number: file.ino() }
    };
    #[cfg(not(unix))]
    let node = FileId { device: 0, number: 0 };
    Ok((node, file.len()))
}

impl DatabaseFiles {
    /// Remembers the files of an open database.
    pub(crate) fn of(folder: &Path, database: File, identity: Vec<u8>) -> Result<Self, Error> {
        let mut nodes = Vec::new();
        for name in [DATABASE, "vedette.db-wal", "vedette.db-shm"] {
            let path = folder.join(name);
            let (node, _) = node(&path).map_err(|e| folder_error(folder, e))?;
            nodes.push((path, node));
        }
        Ok(Self { folder: folder.to_path_buf(), database, nodes, longest: AtomicU64::new(0), identity })
    }

    /// Looks whether the files are those that were opened, and asks the database through a new connection.
    pub(crate) async fn verify(&self) -> Result<(), Error> {
        for (path, known) in &self.nodes {
            match node(path) {
                Ok((node, _)) if node != *known => return Err(self.lost("was replaced", path)),
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(self.lost("is gone", path)),
                Err(source) => return Err(folder_error(&self.folder, source)),
            }
        }
        let path = self.folder.join(DATABASE);
        let (_, length) = node(&path).map_err(|e| folder_error(&self.folder, e))?;
        if length < self.longest.fetch_max(length, Ordering::AcqRel) {
            return Err(self.lost("was cut", &path));
        }
        let mut start = [0; MAGIC.len()];
        #[cfg(unix)]
        std::os::unix::fs::FileExt::read_exact_at(&self.database, &mut start, 0)
            .map_err(|e| folder_error(&self.folder, e))?;
        if cfg!(unix) && start != MAGIC {
            return Err(self.lost("was overwritten", &path));
        }
        // Not `rwc`: it must not make one.
        let url = database_url(&path).replace("?mode=rwc", "?mode=rw");
        let mut connection = AnyConnection::connect(&url).await?;
        prepare(&mut connection, READER_PRAGMAS).await?;
        let asked = sqlx::query("select value from meta where name = $1").bind(IDENTITY);
        let row = asked.fetch_optional(&mut connection).await?;
        let identity: Option<Vec<u8>> = row.map(|row| row.try_get("value")).transpose()?;
        connection.close().await?;
        if identity.as_ref() != Some(&self.identity) {
            return Err(self.lost("was replaced", &path));
        }
        Ok(())
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn sizes(&self) -> Sizes {
        let bytes = |name: &str| fs::metadata(self.folder.join(name)).map_or(0, |file| file.len());
        Sizes { database: bytes(DATABASE), journal: bytes("vedette.db-wal") }
    }

    fn lost(&self, what: &'static str, file: &Path) -> Error {
        Error::Gone { what, file: file.to_path_buf(), mark: self.folder.join(MARK) }
    }
}
