//! Where the lake's files are: a folder, or a bucket.
//!
//! In: files as the catalog has them. Out: where they are read from, written first and removed.
//! Invariants: in a folder a file is where it stays once it is written, and nothing is done with it beyond that; in a bucket it is there
//! once [`Place::bring`] says so, and what was written first stays on this machine until [`Place::named`].

use std::{collections::BTreeSet, fmt, path::Path, sync::Arc};

use object_store::{ObjectStore, local::LocalFileSystem};
use vedette_store::model::LakeFile;

use super::{
    LakeError,
    bucket::{self, Bucket},
    compact, remove,
    writer::remove_orphans,
};

/// Where the files are. Clones are the same, and cheap.
#[derive(Debug, Clone)]
pub enum Place {
    /// A folder, which need not be there.
    Folder(Arc<Path>),
    /// A bucket.
    Bucket(Arc<Bucket>),
}

impl<P: AsRef<Path> + ?Sized> From<&P> for Place {
    fn from(folder: &P) -> Self {
        Self::Folder(folder.as_ref().into())
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(folder) => folder.display().fmt(f),
            Self::Bucket(bucket) => bucket.name().fmt(f),
        }
    }
}

impl Place {
    /// The folder in which files are written.
    #[must_use]
    pub fn folder(&self) -> &Path {
        match self {
            Self::Folder(folder) => folder,
            Self::Bucket(bucket) => bucket.folder(),
        }
    }

    /// How many bytes a file is to have at most.
    #[must_use]
    pub const fn largest(&self) -> u64 {
        match self {
            Self::Folder(_) => compact::LARGE,
            Self::Bucket(_) => bucket::LARGE,
        }
    }

    /// What names have at their end, so that no other process gives the same.
    pub(super) fn mark(&self) -> &str {
        match self {
            // There is one process in it at a time.
            Self::Folder(_) => "",
            Self::Bucket(bucket) => bucket.mark(),
        }
    }

    /// Brings files that were written to where they stay. Done twice, it is done once. Until the catalog names them they must be removed by
    /// [`Place::remove`], also where this fails.
    ///
    /// # Errors
    /// If one of them is not there for sure.
    pub async fn bring(&self, files: &[LakeFile]) -> Result<(), LakeError> {
        match self {
            Self::Folder(_) => Ok(()),
            Self::Bucket(bucket) => bucket.put_all(files).await,
        }
    }

    /// The catalog names these files, so what was written of them first is needed no longer.
    pub fn named(&self, files: &[LakeFile]) {
        if let Self::Bucket(bucket) = self {
            for file in files {
                // What stays goes with the next start.
                let _ = bucket.forget(&file.path);
            }
        }
    }

    /// Removes a file that the catalog does not name, and what lies beside it. That it is not there is as well.
    ///
    /// # Errors
    /// If it may be there still.
    pub async fn remove(&self, path: &str) -> Result<(), LakeError> {
        match self {
            Self::Folder(folder) => remove(folder, path),
            Self::Bucket(bucket) => bucket.remove(path).await,
        }
    }

    /// Makes sure that no other data folder changes files here, as who writes and removes some must; [`Place::sweep`] does so, too.
    ///
    /// # Errors
    /// If another one does, or that cannot be known.
    pub async fn hold(&self) -> Result<(), LakeError> {
        match self {
            // It is of one data folder, which one process holds.
            Self::Folder(_) => Ok(()),
            Self::Bucket(bucket) => bucket.hold().await,
        }
    }

    /// Removes what an ended process left behind, all that the catalog does not name; how many files. Of a bucket it is what that process put
    /// there: what else is in it is somebody's.
    ///
    /// # Errors
    /// If something of it may be there still.
    pub async fn sweep(&self, named: &BTreeSet<String>) -> Result<u64, LakeError> {
        match self {
            Self::Folder(folder) => remove_orphans(folder, named),
            Self::Bucket(bucket) => bucket.sweep(named).await,
        }
    }

    /// How many of these files are not here as the catalog has them, by their lengths.
    ///
    /// # Errors
    /// If that cannot be known.
    pub async fn lacking(&self, files: &[LakeFile]) -> Result<u64, LakeError> {
        match self {
            Self::Folder(folder) => {
                let is_there = |file: &&LakeFile| {
                    folder.join(&file.path).metadata().is_ok_and(|found| found.len() == file.bytes)
                };
                Ok((files.len() - files.iter().filter(is_there).count()) as u64)
            }
            Self::Bucket(bucket) => bucket.lacking(files).await,
        }
    }

    /// What hunts read from.
    pub(super) fn store(&self) -> Result<Arc<dyn ObjectStore>, LakeError> {
        match self {
            Self::Folder(folder) => {
                let store = LocalFileSystem::new_with_prefix(folder).map_err(std::io::Error::other);
                Ok(Arc::new(store.map_err(LakeError::of_disk(folder))?))
            }
            Self::Bucket(bucket) => Ok(Arc::clone(bucket.store())),
        }
    }
}
