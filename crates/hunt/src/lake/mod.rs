//! The lake: every event in Parquet files, which a catalog names.
//!
//! In: events as they are placed ([`Writer`], [`Live`]). Out: files, and a table over those that the catalog names and what is in none yet
//! ([`Lake`], by [`LakeReader`]).
//! Small files become large ones ([`merge`]).
//! Invariants: a file is whole and on the disk before the catalog names it, and is never changed; one that the catalog does not name
//! does not count, and is removed once nobody can be reading it; the catalog and the positions of what is read change in one transaction, which is the store's.
//!
//! Records that are kept as they came are in files of their own ([`beside`]), which the catalog names with those of their events.
//!
//! A skip index lies beside each file, as `NAME.skip`; it is no part of the events, and may be missing.
//!
//! They lie in a folder or in a bucket ([`Place`]), under the same names.
//!
//! Files are `SOURCE/YYYY-MM-DD/HH-NAME.parquet` below that, by the hours of their events' times, sorted by these. Columns are those
//! of [`Columns::of_lake`](crate::Columns::of_lake); a column that a file of an older mapping does not have is null in it.

mod bucket;
mod compact;
mod file;
mod fitted;
mod in_time;
mod live;
mod originals;
mod place;
mod placed;
mod prune;
mod reader;
mod reading;
mod recall;
mod skip;
mod table;
mod verify;
mod writer;

use std::{
    error::Error,
    fs, io,
    path::{Path, PathBuf},
};

use vedette_event::Micros;
use vedette_store::model::LakeFile;

pub use bucket::{Bucket, S3};
pub use compact::{merge, mergeable};
pub use fitted::lean;
pub use in_time::{InTime, InTimeBatch, Wanted};
pub use live::{Live, Newest, Reached};
pub use originals::beside;
pub(crate) use originals::{
    Finder, HIDDEN, ORIGINAL, TakeFirst, function as named_original, shown as with_originals,
};
pub use place::Place;
pub use placed::{CLOCK, INGESTED, placed};
pub use reader::LakeReader;
pub use recall::{PLACES, Places, Restorer, texts};
pub use skip::name as index_name;
pub(crate) use table::{BLOCKS_SKIPPED, FILES_SKIPPED, INDEX_BYTES, INDEXES_DAMAGED, LakeTable, PLACE};
pub use table::{Lake, Missing};
pub use verify::verify;
pub use writer::{Writer, remove_orphans};

/// How files are written; another number where an older program could not read them. Of files of layout 1 events do not come back as they were
/// decoded: they lack incarnations, claimed times and spellings.
pub const LAYOUT: u32 = 2;

/// Characters of what an object store says that are told on: a page of XML helps nobody.
const SAID: usize = 500;

/// Why the lake cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum LakeError {
    /// The disk says so.
    #[error("{}: {source}", path.display())]
    Disk {
        /// Which file or folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file cannot be written as Parquet.
    #[error("{}: {source}", path.display())]
    Parquet {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: parquet::errors::ParquetError,
    },
    /// Events are not of the lake's columns, which would be a defect here.
    #[error("events do not fit together: {0}")]
    Arrow(#[from] arrow_schema::ArrowError),
    /// The catalog cannot be read.
    #[error("the lake's catalog cannot be read: {0}")]
    Catalog(#[from] vedette_store::Error),
    /// A file is there that a newer program wrote.
    #[error(
        "{path} was written by a newer vedette (layout {layout}; this one reads up to {LAYOUT}); use that one"
    )]
    Newer {
        /// Which file.
        path: String,
        /// Its layout.
        layout: u32,
    },
    /// A query would read more files than it may.
    #[error(
        "this would read {files} files of the lake; ask of one source (`vedette.source = '…'`), or of less time (`\"@timestamp\" >= '…'`)"
    )]
    TooMany {
        /// How many.
        files: usize,
    },
    /// A file does not say how its events were decoded.
    #[error(
        "{path} was written by an earlier vedette, from whose files events do not come back as they were decoded; begin after {through}, \
         where it ends"
    )]
    Older {
        /// Which file.
        path: String,
        /// The time of its last event.
        through: Micros,
    },
    /// Whoever keeps the objects does not do it.
    #[error("{place}: {what}")]
    Store {
        /// Where.
        place: String,
        /// What was said, cut short.
        what: String,
    },
    /// The catalog names what is not there.
    #[error("the catalog names {path}, which is {found}; `vedette lake verify` says what is missing")]
    Damaged {
        /// Which file.
        path: String,
        /// What is there instead.
        found: String,
    },
}

impl LakeError {
    /// What the disk says of a file or folder.
    fn of_disk(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Disk { path, source }
    }

    /// What an object store says to who hunts.
    pub(crate) fn of_read(error: &object_store::Error) -> Self {
        match error {
            object_store::Error::NotFound { path, .. } => {
                Self::Damaged { path: path.clone(), found: "not there".to_owned() }
            }
            error => Self::of_store("the lake's files cannot be read", error),
        }
    }

    /// What an object store says.
    fn of_store(place: &str, error: &object_store::Error) -> Self {
        let said = error.to_string();
        let line = said.lines().next().unwrap_or_default();
        Self::Store { place: place.to_owned(), what: line.chars().take(SAID).collect() }
    }
}

/// What an object store said, if it is among the causes of an error.
pub(crate) fn store_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a object_store::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        let boxed = error.downcast_ref::<Box<object_store::Error>>().map(|error| &**error);
        let found = boxed.or_else(|| error.downcast_ref::<object_store::Error>());
        if found.is_some() {
            return found;
        }
        next = error.source();
    }
    None
}

/// Removes a file of a folder, and what lies beside it.
fn remove(folder: &Path, path: &str) -> Result<(), LakeError> {
    remove_if_there(&folder.join(skip::name(path)))?;
    remove_if_there(&folder.join(path))
}

fn remove_if_there(path: &Path) -> Result<(), LakeError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(LakeError::of_disk(path)(error)),
        _ => Ok(()),
    }
}

/// Whether a file of the catalog is there as the catalog says, by its length; what is in it is looked at by who reads it. Of a bucket only whoever
/// reads finds out: there each look would be a request.
fn is_there(place: &Place, file: &LakeFile) -> Result<(), LakeError> {
    if file.layout > LAYOUT {
        return Err(LakeError::Newer { path: file.path.clone(), layout: file.layout });
    }
    let Place::Folder(folder) = place else { return Ok(()) };
    let found = match fs::metadata(folder.join(&file.path)) {
        Ok(found) if found.len() == file.bytes => return Ok(()),
        Ok(found) => format!("{} bytes long and not {}", found.len(), file.bytes),
        Err(error) => error.to_string(),
    };
    Err(LakeError::Damaged { path: file.path.clone(), found })
}
