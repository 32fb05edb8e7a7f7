//! Opening the store: folder, lock, connections, format.
//!
//! In: [`StoreSettings`]. Out: [`Store`], a handle that clones cheaply. Invariants: the format is only ever changed under
//! the folder's lock; one connection writes; the others are read-only.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use sqlx::{
    AnyConnection, AnyPool, Connection, Executor, Row, SqlSafeStr,
    any::AnyPoolOptions,
    migrate::{Migrate, MigrateError, Migration, MigrationType, Migrator},
};
use tokio::sync::watch;
use vedette_event::Micros;

use crate::{
    database_files::{self, DatabaseFiles, IDENTITY, Left, Sizes},
    error::Error,
    kept_answers::KeysUnderWay,
    lease::{self, Lease},
    seal::Seal,
    search,
    transaction::Counter,
};

/// How the store is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// By the active engine: takes the lease; a second one is refused.
    Engine,
    /// By a short command (`token create`) beside a running engine: may read, triage and administer, not publish.
    Tool,
}

/// Where the store is and how it is used.
#[derive(Debug, Clone)]
pub struct StoreSettings {
    /// The data folder; made if missing.
    pub folder: PathBuf,
    /// How it is used.
    pub access: Access,
    /// How many changes the stream can go back; older ones answer [`crate::model::Changes::Reset`].
    pub changes_kept: u32,
    /// Bytes that the text of a source's dead letters may take; beyond it, offsets and counts.
    pub dead_letter_bytes: u64,
}

impl StoreSettings {
    /// The usual settings.
    #[must_use]
    pub fn new(folder: impl Into<PathBuf>, access: Access) -> Self {
        Self { folder: folder.into(), access, changes_kept: 200_000, dead_letter_bytes: 256 << 20 }
    }
}

/// The store. Clones share connections; the lease is given back when the last one is gone.
#[derive(Debug, Clone)]
pub struct Store {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) writer: AnyPool,
    pub(crate) readers: AnyPool,
    /// For what reads rows one by one, however many there are.
    pub(crate) searchers: AnyPool,
    /// For the past, which holds one as long as it is asked: what the present is asked waits for none of it.
    pub(crate) pasts: AnyPool,
    /// For the tokens alone.
    pub(crate) access: AnyPool,
    pub(crate) files: DatabaseFiles,
    pub(crate) seal: Seal,
    /// Whether its pages may be damaged by how it was left.
    unchecked: AtomicBool,
    /// Our epoch; `None` without the lease.
    pub(crate) epoch: Option<i64>,
    /// Without the lease: the epoch of the last engine, if the store was at rest when it was opened.
    found_at_rest: Option<i64>,
    pub(crate) changes_kept: i64,
    pub(crate) dead_letter_bytes: i64,
    /// Set when a write failed in a way that must stop the node.
    pub(crate) failed: AtomicBool,
    pub(crate) counter: Counter,
    pub(crate) under_way: KeysUnderWay,
    /// The newest `seq` committed here.
    pub(crate) newest: watch::Sender<i64>,
    _lease: Option<Lease>,
}

impl Inner {
    /// Remembers a failure after which nothing may be written.
    pub(crate) fn noted(&self, error: Error) -> Error {
        if error.fatal() {
            tracing::error!(%error, "the store stops");
            self.failed.store(true, Ordering::Release);
        }
        error
    }

    /// The result, its failure noted.
    fn watched<T>(&self, result: Result<T, sqlx::Error>) -> Result<T, Error> {
        result.map_err(|error| self.noted(Error::from(error)))
    }
}

/// Pages and API calls that read through an index: each takes milliseconds, so four serve many people, and leave cores to detection.
const READERS: u32 = 4;
/// A search that was given up goes on until its statement ends, and holds its connection until then; so searches have
/// connections of their own, and as many as may cost a core.
const SEARCHERS: u32 = 2;
/// Longer than any request is let run (`api`, ten seconds), so that it is the API that says what took too long.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(30);
/// Ids are hashes, so that rows of one moment lie all over the tables: with the usual 2 MB of cache the writer would read
/// pages again and again, and with the usual 1,000 pages between two foldings of the journal it would write them as often.
const WRITER_PRAGMAS: &str = "pragma busy_timeout = 10000; pragma foreign_keys = on; pragma journal_mode = wal; \
     pragma synchronous = full; pragma cache_size = -65536; pragma wal_autocheckpoint = 4000; pragma journal_size_limit = 67108864;";
/// Bytes that the journal may have before it is begun anew by force: four times what it usually comes to.
const MAX_JOURNAL: u64 = 64 << 20;
pub(crate) const READER_PRAGMAS: &str =
    "pragma busy_timeout = 10000; pragma foreign_keys = on; pragma query_only = on;";
const MIGRATIONS_TABLE: &str = "_sqlx_migrations";

impl Store {
    /// Opens the store, makes it or brings it to the present format, and takes the lease if asked to.
    pub async fn open(settings: StoreSettings) -> Result<Self, Error> {
        lease::make_folder(&settings.folder)?;
        let folder = settings
            .folder
            .canonicalize()
            .map_err(|source| Error::Folder { folder: settings.folder.clone(), source })?;
        let opened = async {
            let store = Self::open_in(&folder, &settings).await?;
            if settings.access == Access::Engine {
                store.seal_secrets().await?;
            }
            Ok(store)
        };
        opened.await.map_err(|source| match source {
            named @ (Error::InUse { .. } | Error::Folder { .. } | Error::Gone { .. }) => named,
            other => Error::Open { folder: folder.clone(), source: Box::new(other) },
        })
    }

    async fn open_in(folder: &Path, settings: &StoreSettings) -> Result<Self, Error> {
        sqlx::any::install_default_drivers();
        let mut lock = match settings.access {
            Access::Engine => Some(lease::take(folder).await?),
            Access::Tool => None,
        };
        let left = database_files::left(folder)?;
        let file = folder.join("vedette.db");
        // Made here, since the database would make it readable to others; its logs follow it.
        let database = lease::own_file(&file)
            .map_err(|source| Error::Folder { folder: folder.to_path_buf(), source })?;
        let url = database_url(&file);
        // One plain connection first: a pool would try again and again, and in the end say only that time ran out.
        let mut first = AnyConnection::connect(&url).await?;
        prepare(&mut first, WRITER_PRAGMAS).await?;
        if !(is_current(&mut first).await? && search::is_current(&mut first).await?) {
            if matches!(left, Left::Closed | Left::Unknown) && !is_ours(&mut first).await? {
                return Err(database_files::gone(folder));
            }
            let held = match lock.take() {
                Some(held) => held,
                None => lease::lock(folder)?,
            };
            migrator(STEPS).run(&mut first).await.map_err(migration_error)?;
            if !search::is_current(&mut first).await? {
                search::index_all(&mut first).await?;
            }
            lock = (settings.access == Access::Engine).then_some(held);
        }
        if settings.access == Access::Engine || left == Left::Nowhere {
            database_files::mark(folder, false)?;
        }
        let epoch = match settings.access {
            Access::Engine => Some(lease::raise_epoch(&mut first).await?),
            Access::Tool => None,
        };
        let found_at_rest = match (settings.access, left) {
            (Access::Tool, Left::Closed | Left::Nowhere) => Some(lease::epoch(&mut first).await?),
            _ => None,
        };
        let identity = identity(&mut first, folder).await?;
        let seq =
            sqlx::query("select seq from engine where id = 1").fetch_one(&mut first).await?.try_get("seq")?;
        let writer = pool(1, WRITER_PRAGMAS).connect(&url).await?;
        let readers = pool(READERS, READER_PRAGMAS).connect(&url).await?;
        // Before the first is closed, so that none is the last, which would take the logs away.
        let files = DatabaseFiles::of(folder, database, identity)?;
        first.close().await?;
        tracing::info!(folder = %folder.display(), epoch, seq, ?left, "store opened");
        Ok(Self {
            inner: Arc::new(Inner {
                writer,
                readers,
                searchers: pool(SEARCHERS, READER_PRAGMAS).connect(&url).await?,
                pasts: pool(SEARCHERS, READER_PRAGMAS).connect(&url).await?,
                access: pool(1, READER_PRAGMAS).connect(&url).await?,
                files,
                seal: Seal::of(folder),
                unchecked: AtomicBool::new(matches!(left, Left::Unknown | Left::Unmarked)),
                epoch,
                found_at_rest,
                changes_kept: i64::from(settings.changes_kept.max(1)),
                dead_letter_bytes: i64::try_from(settings.dead_letter_bytes).unwrap_or(i64::MAX),
                failed: AtomicBool::new(false),
                under_way: KeysUnderWay::default(),
                counter: Counter::default(),
                newest: watch::Sender::new(seq),
                _lease: lock,
            }),
        })
    }

    /// Closes all connections, which folds the write-ahead log into the database, and marks it as closed, so that the next
    /// start need not check it. What a tool found at rest it leaves at rest.
    pub async fn close(self) {
        let lock = self.at_rest_but_for_us().await;
        self.inner.access.close().await;
        self.inner.searchers.close().await;
        self.inner.pasts.close().await;
        self.inner.readers.close().await;
        self.inner.writer.close().await;
        let whole =
            !self.inner.failed.load(Ordering::Acquire) && !self.inner.unchecked.load(Ordering::Acquire);
        if (self.inner.epoch.is_some() || lock.is_some())
            && whole
            && let Err(error) = database_files::mark(self.inner.files.folder(), true)
        {
            tracing::warn!(%error, "the store is closed and was not marked so; the next start checks it");
        }
    }

    /// The folder's lock, if the store was at rest when a tool opened it and no engine has come since.
    async fn at_rest_but_for_us(&self) -> Option<Lease> {
        let found = self.inner.found_at_rest?;
        let lock = lease::lock(self.inner.files.folder()).ok()?;
        let mut reader = self.inner.readers.acquire().await.ok()?;
        let epoch = lease::epoch(&mut reader).await.ok()?;
        (epoch == found).then_some(lock)
    }

    /// True if the database has not been checked since it was left by a crash or changed by somebody else.
    #[must_use]
    pub fn unchecked(&self) -> bool {
        self.inner.unchecked.load(Ordering::Acquire)
    }

    /// Has the database check its pages, one table after the other, so that no reader stands in the way of the journal for
    /// the whole time. `between` is called before each.
    pub async fn check(&self, mut between: impl FnMut()) -> Result<(), Error> {
        let tables = sqlx::query("select name from sqlite_master where type = 'table' order by name");
        let tables = self.inner.watched(tables.fetch_all(&self.inner.readers).await)?;
        for table in &tables {
            between();
            let table: String = table.try_get("name")?;
            let check = sqlx::query("select quick_check as said from pragma_quick_check($1)").bind(&table);
            let said = self.inner.watched(check.fetch_optional(&self.inner.readers).await)?;
            let said: Option<String> = said.map(|row| row.try_get("said")).transpose()?;
            if let Some(detail) = said.filter(|said| said != "ok") {
                return Err(self.inner.noted(Error::Corrupt { detail: format!("table {table}: {detail}") }));
            }
        }
        self.inner.unchecked.store(false, Ordering::Release);
        Ok(())
    }

    /// Looks whether the database is still the one that was opened; an error that must stop the process if it was deleted,
    /// replaced or overwritten. To be asked every few seconds.
    pub async fn verify(&self) -> Result<(), Error> {
        self.inner.files.verify().await.map_err(|error| self.inner.noted(error))
    }

    /// How much the store takes on disk.
    #[must_use]
    pub fn sizes(&self) -> Sizes {
        self.inner.files.sizes()
    }

    /// Begins the journal anew if it has grown beyond its bound, which happens where some reader is always under way. The
    /// writer waits for readers meanwhile, a quarter of a second at most. True if it was done.
    pub async fn bound_journal(&self) -> Result<bool, Error> {
        if self.sizes().journal <= MAX_JOURNAL {
            return Ok(false);
        }
        let mut writer = self.inner.writer.acquire().await?;
        (&mut *writer).execute(sqlx::raw_sql("pragma busy_timeout = 250")).await?;
        let done = (&mut *writer).execute(sqlx::raw_sql("pragma wal_checkpoint(truncate)")).await;
        (&mut *writer).execute(sqlx::raw_sql("pragma busy_timeout = 10000")).await?;
        self.inner.watched(done)?;
        Ok(self.sizes().journal <= MAX_JOURNAL)
    }

    /// The epoch of our lease; `None` without it.
    #[must_use]
    pub fn epoch(&self) -> Option<i64> {
        self.inner.epoch
    }
}

/// The wall clock, for `created_at` and its like; progress never depends on it.
pub(crate) fn now() -> Micros {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

fn pool(size: u32, pragmas: &'static str) -> AnyPoolOptions {
    AnyPoolOptions::new()
        .max_connections(size)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false)
        .after_connect(move |connection, _| Box::pin(prepare(connection, pragmas)))
}

/// Sets what a connection needs; the busy timeout comes first, since the rest may have to wait.
pub(crate) async fn prepare(
    connection: &mut AnyConnection,
    pragmas: &'static str,
) -> Result<(), sqlx::Error> {
    connection.execute(sqlx::raw_sql(pragmas)).await.map(drop)
}

/// The file's path as a URL, every unusual byte escaped.
pub(crate) fn database_url(file: &Path) -> String {
    let mut url = String::from("sqlite://");
    for byte in file.as_os_str().as_encoded_bytes() {
        match byte {
            b'/' | b'-' | b'_' | b'.' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => {
                url.push(char::from(*byte))
            }
            other => url.push_str(&format!("%{other:02X}")),
        }
    }
    url.push_str("?mode=rwc");
    url
}

/// The name of this database, made once: another in its place has another.
async fn identity(connection: &mut AnyConnection, folder: &Path) -> Result<Vec<u8>, Error> {
    let fresh = blake3::hash(format!("{:?} {} {}", now(), std::process::id(), folder.display()).as_bytes());
    sqlx::query("insert into meta (name, value) values ($1, $2) on conflict (name) do nothing")
        .bind(IDENTITY)
        .bind(fresh.as_bytes().as_slice())
        .execute(&mut *connection)
        .await?;
    let row = sqlx::query("select value from meta where name = $1").bind(IDENTITY).fetch_one(connection);
    Ok(row.await?.try_get("value")?)
}

/// The steps of the format, by number; one that was released is never changed.
pub(crate) const STEPS: &[Step] = &[
    (1, "foundation", include_str!("../migrations/0001_foundation.sql")),
    (2, "evidence and topics", include_str!("../migrations/0002_evidence_topics.sql")),
    (3, "retention", include_str!("../migrations/0003_retention.sql")),
    (4, "withdrawn notices", include_str!("../migrations/0004_withdrawn_notices.sql")),
    (5, "rule version order", include_str!("../migrations/0005_rule_version_order.sql")),
    (6, "removal by storage", include_str!("../migrations/0006_removal_by_storage.sql")),
    (7, "evidence incarnations", include_str!("../migrations/0007_evidence_incarnations.sql")),
    (8, "narrow indexes", include_str!("../migrations/0008_narrow_indexes.sql")),
    (9, "version texts", include_str!("../migrations/0009_version_texts.sql")),
    (
        10,
        "queue",
        concat!(
            include_str!("../migrations/0010_queue.sql"),
            include_str!("../migrations/0010_search.sqlite.sql")
        ),
    ),
    (11, "people", include_str!("../migrations/0011_people.sql")),
    (12, "desk", include_str!("../migrations/0012_desk.sql")),
    (13, "past and entities", include_str!("../migrations/0013_past_and_entities.sql")),
    (14, "figures", include_str!("../migrations/0014_figures.sql")),
    (15, "groups", include_str!("../migrations/0015_groups.sql")),
    (16, "change ids", include_str!("../migrations/0016_change_ids.sql")),
    (17, "response", include_str!("../migrations/0017_response.sql")),
    (18, "changes under way", include_str!("../migrations/0018_changes_under_way.sql")),
    (19, "rule texts", include_str!("../migrations/0019_rule_texts.sql")),
    (20, "effects", include_str!("../migrations/0020_effects.sql")),
    (21, "feeds", include_str!("../migrations/0021_feeds.sql")),
    (22, "lake", include_str!("../migrations/0022_lake.sql")),
    (23, "lake keeping", include_str!("../migrations/0023_lake_keeping.sql")),
    (26, "hunts", include_str!("../migrations/0026_hunts.sql")),
    (30, "lake index", include_str!("../migrations/0030_lake_index.sql")),
    (31, "concerns since", include_str!("../migrations/0031_concerns_since.sql")),
    (32, "originals", include_str!("../migrations/0032_originals.sql")),
    (33, "hunt schedules", include_str!("../migrations/0033_hunt_schedules.sql")),
];

/// Number, name and text of a step.
pub(crate) type Step = (i64, &'static str, &'static str);

pub(crate) fn migrator(steps: &[Step]) -> Migrator {
    let step = |(version, name, sql): &Step| {
        Migration::new(*version, (*name).into(), MigrationType::Simple, sql.into_sql_str(), false)
    };
    Migrator::with_migrations(steps.iter().map(step).collect())
}

/// True if the store has any format of ours.
async fn is_ours(connection: &mut AnyConnection) -> Result<bool, Error> {
    let table = sqlx::query("select 1 from sqlite_master where type = 'table' and name = $1");
    Ok(table.bind(MIGRATIONS_TABLE).fetch_optional(connection).await?.is_some())
}

/// True if the store has the present format, false if it must be made or brought up; an error if it is newer or altered.
async fn is_current(connection: &mut AnyConnection) -> Result<bool, Error> {
    if !is_ours(connection).await? {
        return Ok(false);
    }
    let applied = connection.list_applied_migrations(MIGRATIONS_TABLE).await.map_err(migration_error)?;
    let known = migrator(STEPS);
    let supported = known.iter().map(|step| step.version).max().unwrap_or(0);
    for step in &applied {
        match known.iter().find(|own| own.version == step.version) {
            None => return Err(Error::NewerStore { found: step.version, supported }),
            Some(own) if own.checksum != step.checksum => {
                return Err(Error::Altered { version: step.version });
            }
            Some(_) => {}
        }
    }
    Ok(applied.len() == known.iter().count())
}

fn migration_error(error: MigrateError) -> Error {
    match error {
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => error.into(),
        MigrateError::VersionMismatch(version) | MigrateError::Dirty(version) => Error::Altered { version },
        other => Error::Database(sqlx::Error::Migrate(Box::new(other))),
    }
}
