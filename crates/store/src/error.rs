//! What can go wrong in the store, and whether trying again can help.
//!
//! In: errors of the database, the file system and the caller. Out: [`Error`]. Invariant: no message holds a
//! connection's password, a token or a record's content.

use std::{io, path::PathBuf};

use crate::model::Triage;

/// An error of the store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Another process has the lease.
    #[error("the data folder `{}` is in use by another vedette process; stop it, or choose another folder", folder.display())]
    InUse {
        /// The folder.
        folder: PathBuf,
    },
    /// The folder cannot be made or read.
    #[error("cannot use the data folder `{}`", folder.display())]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Written by a newer version of the program.
    #[error(
        "the store has format {found}, and this version of vedette knows formats up to {supported}; use the newer version"
    )]
    NewerStore {
        /// The store's format.
        found: i64,
        /// The newest known.
        supported: i64,
    },
    /// The tables were made by something else.
    #[error("format {version} of the store differs from what this version of vedette would have written")]
    Altered {
        /// Which step differs.
        version: i64,
    },
    /// The file is damaged.
    #[error(
        "the store is damaged ({detail}); restore it from a backup, or, to start anew, move it away and with it the \
         mark `vedette.store`"
    )]
    Corrupt {
        /// What the database says.
        detail: String,
    },
    /// The database was there and is not what it was.
    #[error(
        "the store's file `{}` {what}; restore it from a backup, or, to start with an empty store, delete \
         `{}`, too",
        file.display(), mark.display()
    )]
    Gone {
        /// What happened to it.
        what: &'static str,
        /// The file.
        file: PathBuf,
        /// The mark that says that there was a store.
        mark: PathBuf,
    },
    /// The store cannot be opened.
    #[error("cannot open the store in `{}`", folder.display())]
    Open {
        /// The folder.
        folder: PathBuf,
        /// Why.
        source: Box<Error>,
    },
    /// A stored value is not what was written.
    #[error("the stored {what} `{id}` cannot be read: {detail}")]
    BadValue {
        /// What it is.
        what: &'static str,
        /// Which one.
        id: String,
        /// What is wrong.
        detail: String,
    },
    /// A checkpoint does not have the checksum it was written with.
    #[error("the checkpoint of key group {group} is damaged")]
    CorruptCheckpoint {
        /// The key group.
        group: u8,
    },
    /// The key for secrets cannot be used.
    #[error(
        "the key `{}` {detail}; restore it, or, where it is lost, remove it and give people with an authenticator another",
        file.display()
    )]
    Key {
        /// The key's file.
        file: PathBuf,
        /// What is wrong.
        detail: String,
    },
    /// Another engine has taken the lease since; nothing was changed.
    #[error("another engine has taken the lease (epoch {current}, ours is {ours}); this one must stop")]
    LeaseLost {
        /// Our epoch.
        ours: i64,
        /// The epoch in the store.
        current: i64,
    },
    /// This operation is for the active engine only.
    #[error("the store was opened without the lease; only the active engine may do this")]
    NotLeased,
    /// The disk is full or writing failed.
    #[error(
        "the store cannot be read or written: {detail}; free space or repair the disk, then restart vedette"
    )]
    Disk {
        /// What the database says.
        detail: String,
    },
    /// A write failed before in a way that leaves the disk's state unknown.
    #[error("the store accepts no more writes after an earlier failure of the disk; restart vedette")]
    Stopped,
    /// The triage has changed since it was read.
    #[error("`{id}` was changed by somebody else (version {} now)", current.version)]
    Conflict {
        /// The alert or notice.
        id: String,
        /// Its triage now.
        current: Triage,
    },
    /// It matches a filter now, and did not at the `seq` that was seen.
    #[error("`{id}` was not in the list that was seen")]
    NotListed {
        /// The alert or notice.
        id: String,
    },
    /// A change of several steps ended before it came to this row.
    #[error("the change ended before it came to this")]
    Unreached,
    /// Only who made a change takes it back.
    #[error("change {change} is of {by}")]
    OfOther {
        /// Which.
        change: i64,
        /// Whose it is.
        by: String,
    },
    /// A revision or a `seq` that nobody can have seen.
    #[error("there is no {what} {seen} yet; the newest is {newest}")]
    Unseen {
        /// `revision` or `seq`.
        what: &'static str,
        /// What is said to have been seen.
        seen: i64,
        /// The newest.
        newest: i64,
    },
    /// There is no such thing.
    #[error("there is no {what} `{id}`")]
    NotFound {
        /// What was looked for.
        what: &'static str,
        /// Which one.
        id: String,
    },
    /// The cursor is not one that this list gave out.
    #[error("the cursor is not valid for this list")]
    BadCursor,
    /// A bulk change of more rows than one transaction takes.
    #[error("the change is for more than {max} alerts; narrow it down")]
    TooMany {
        /// The limit.
        max: usize,
    },
    /// More rows have changed since than the past is made of.
    #[error("more than {max} alerts have changed since; ask for a later time")]
    TooLongAgo {
        /// The limit.
        max: usize,
    },
    /// A token of this name is in force.
    #[error("a token named `{name}` exists already; revoke it first, or choose another name")]
    TokenExists {
        /// The name.
        name: String,
    },
    /// A user of this name is there.
    #[error("a user named `{name}` exists already; names are given once, so choose another")]
    UserExists {
        /// The name.
        name: String,
    },
    /// The name by which the audit log calls the system.
    #[error("`{name}` is what the audit log calls the system itself; choose another name")]
    SystemsName {
        /// The name.
        name: String,
    },
    /// More users than are held in memory.
    #[error("there are {max} users already, and no more are let in")]
    TooManyUsers {
        /// The limit.
        max: i64,
    },
    /// A user without a password.
    #[error("`{name}` signs in at an identity provider and has no password or authenticator here")]
    NotLocal {
        /// The name.
        name: String,
    },
    /// A case, a snooze or a view has another version, or is in another state, than the change needs.
    #[error("{what} {id} was changed; it has version {version} now")]
    Stale {
        /// Of what.
        what: &'static str,
        /// Which.
        id: i64,
        /// Its version now.
        version: i64,
    },
    /// What is asked for does not go together with what is there.
    #[error("{detail}")]
    Clash {
        /// What stands against it, and what can be done.
        detail: String,
    },
    /// More of something than is kept.
    #[error("{what}: at most {max}")]
    Full {
        /// Of what, in words.
        what: &'static str,
        /// The limit.
        max: usize,
    },
    /// A key that came with another request before.
    #[error("the key came with another request before")]
    KeyReused,
    /// A body could not be written as JSON.
    #[error("cannot write the body as JSON")]
    Encode(#[from] serde_json::Error),
    /// The database is busy or unreachable.
    #[error("the store is busy")]
    Busy(#[source] sqlx::Error),
    /// Anything else that the database reports.
    #[error("the database reports an error")]
    Database(#[source] sqlx::Error),
}

impl Error {
    /// True if the same call may succeed later.
    #[must_use]
    pub fn retryable(&self) -> bool {
        match self {
            Self::Busy(_) => true,
            Self::Open { source, .. } => source.retryable(),
            _ => false,
        }
    }

    /// True if the process must stop: the disk failed, the store is damaged, or another engine has the lease.
    #[must_use]
    pub fn fatal(&self) -> bool {
        if let Self::Open { source, .. } = self {
            return source.fatal();
        }
        matches!(
            self,
            Self::Disk { .. }
                | Self::Stopped
                | Self::Gone { .. }
                | Self::Corrupt { .. }
                | Self::LeaseLost { .. }
                | Self::CorruptCheckpoint { .. }
        )
    }
}

/// The result codes of SQLite that need an answer of their own (`code & 0xff`).
mod sqlite {
    pub const BUSY: u32 = 5;
    pub const LOCKED: u32 = 6;
    pub const READONLY: u32 = 8;
    pub const IOERR: u32 = 10;
    pub const CORRUPT: u32 = 11;
    pub const FULL: u32 = 13;
    pub const CANTOPEN: u32 = 14;
    pub const NOTADB: u32 = 26;
}

impl From<sqlx::Error> for Error {
    /// Sorts a database error by what must be done about it.
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::PoolTimedOut => Self::Busy(error),
            sqlx::Error::Io(io) => Self::Disk { detail: io.to_string() },
            sqlx::Error::Database(db) => {
                // PostgreSQL's codes have five characters, SQLite's are numbers of at most four digits.
                let code = db.code().filter(|code| code.len() <= 4).and_then(|code| code.parse::<u32>().ok());
                let detail = db.message().to_owned();
                match code.map(|code| code & 0xff) {
                    Some(sqlite::BUSY | sqlite::LOCKED) => Self::Busy(error),
                    Some(sqlite::CORRUPT | sqlite::NOTADB) => Self::Corrupt { detail },
                    Some(sqlite::FULL | sqlite::IOERR | sqlite::READONLY | sqlite::CANTOPEN) => {
                        Self::Disk { detail }
                    }
                    _ => Self::Database(error),
                }
            }
            _ => Self::Database(error),
        }
    }
}
