//! A copy of the store, made while it is in use.
//!
//! In: a folder of nothing. Out: in it, a database that is as the store was at one moment, its mark and the key that opens what is sealed.
//! Invariants: nothing of the store is changed, and nobody waits but for the disk; the copy is on the disk when it is reported made.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::Path,
};

use sqlx::{AnyConnection, Connection};

use crate::{
    database_files::{self, DATABASE},
    error::Error,
    lake,
    lease::{self, own_file},
    model::LakeFile,
    seal,
    store::{READER_PRAGMAS, Store, database_url, prepare},
};

impl Store {
    /// Copies the store into a folder, over a copy that is there already; gives the files of the lake that the copy names.
    ///
    /// # Errors
    /// If the store cannot be read, or the folder cannot be written.
    pub async fn copy_to(&self, folder: &Path) -> Result<Vec<LakeFile>, Error> {
        lease::make_folder(folder)?;
        let failed = |source| Error::Folder { folder: folder.to_path_buf(), source };
        let database = folder.join(DATABASE);
        let path = database.to_str().ok_or_else(|| failed(io::ErrorKind::InvalidFilename.into()))?;
        // SQLite copies into an empty file only, and would make one that others can read.
        own_file(&database).and_then(|file| file.set_len(0)).map_err(failed)?;
        // A connection of its own: to those of the pools all writing is forbidden, and one is busy for as long as it takes.
        let mut reader =
            AnyConnection::connect(&database_url(&self.inner.files.folder().join(DATABASE))).await?;
        prepare(&mut reader, "pragma busy_timeout = 10000;").await?;
        sqlx::query("vacuum into $1").bind(path).execute(&mut reader).await?;
        reader.close().await?;
        let key = match fs::read(self.inner.files.folder().join(seal::FILE)) {
            // Nothing is sealed yet.
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            key => Some(key.map_err(failed)?),
        };
        if let Some(key) = key {
            let write = |mut file: File| {
                file.set_len(0)?;
                file.write_all(&key)?;
                file.sync_all()
            };
            own_file(&folder.join(seal::FILE)).and_then(write).map_err(failed)?;
        }
        let mut copy = AnyConnection::connect(&database_url(&database)).await?;
        prepare(&mut copy, READER_PRAGMAS).await?;
        let files = lake::all_files(&mut copy).await?;
        copy.close().await?;
        File::open(&database).and_then(|file| file.sync_all()).map_err(failed)?;
        database_files::mark(folder, true)?;
        Ok(files)
    }
}
