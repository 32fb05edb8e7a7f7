//! The catalog of the lake: files and positions, changed together or not at all.
//!
//! In: files that are whole and safe where they are, and up to where their events go. Out: the files there are. Invariants: what a
//! file holds and the positions behind it are one transaction, so that each event is in the lake once, whatever is killed when; a
//! position never goes back.

use sqlx::{AnyConnection, AssertSqlSafe, Row, any::AnyRow};
use vedette_event::Micros;

use crate::{
    alert_rows::signed,
    alerts::{narrow, unsigned},
    bulk::Bulk,
    error::Error,
    model::{LakeFile, LakePosition},
    store::Store,
};

const FILES: Bulk = Bulk {
    head: "insert into lake_files (path, layout, source, hour, earliest, latest, events, bytes, written_at) values ",
    columns: 9,
    tail: "",
};
const POSITIONS: Bulk = Bulk {
    head: "insert into lake_positions (topic, incarnation, partition_no, next_offset, newest_log) values ",
    columns: 5,
    tail: " on conflict (topic, incarnation, partition_no) do update set next_offset = excluded.next_offset, \
           newest_log = excluded.newest_log where lake_positions.next_offset < excluded.next_offset",
};

const FILE: &str =
    "select path, layout, source, hour, earliest, latest, events, bytes, written_at from lake_files";
const IN_ORDER: &str = "order by source, earliest, path";

impl Store {
    /// Takes files in, together with the positions behind all that is in them.
    ///
    /// # Errors
    /// If a file is there already, and those of writing: then nothing is taken in.
    pub async fn add_to_lake(&self, files: &[LakeFile], positions: &[LakePosition]) -> Result<(), Error> {
        let mut tx = self.begin_as_engine().await?;
        tx.run_bulk(FILES, files, |insert, file| {
            let insert = insert.bind(&file.path).bind(i64::from(file.layout)).bind(&file.source);
            let insert = insert.bind(file.hour).bind(file.earliest.0).bind(file.latest.0);
            insert.bind(signed(file.events)).bind(signed(file.bytes)).bind(file.written_at.0)
        })
        .await?;
        tx.run_bulk(POSITIONS, positions, |insert, position| {
            let insert = insert.bind(&position.topic).bind(i64::from(position.incarnation));
            let insert = insert.bind(i64::from(position.partition)).bind(position.next_offset);
            insert.bind(position.newest_log.map(|time| time.0))
        })
        .await?;
        tx.commit().await.map(drop)
    }

    /// Takes files out of the catalog. What they hold is gone for whoever asks from then on.
    ///
    /// # Errors
    /// If a file is not there, and those of writing: then all is as it was.
    pub async fn remove_from_lake(&self, files: &[LakeFile]) -> Result<(), Error> {
        let mut tx = self.begin_as_engine().await?;
        for file in files {
            let remove = sqlx::query("delete from lake_files where path = $1").bind(&file.path);
            if tx.run(remove).await? == 0 {
                return Err(Error::NotFound { what: "file of the lake", id: file.path.clone() });
            }
        }
        tx.commit().await.map(drop)
    }

    /// The files that may hold events of these times, both included, of one source or all, by source and time.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn lake_files(
        &self,
        source: Option<&str>,
        from: Micros,
        to: Micros,
    ) -> Result<Vec<LakeFile>, Error> {
        let select = format!(
            "{FILE} where latest >= $1 and earliest <= $2 and ($3 is null or source = $3) {IN_ORDER}"
        );
        let select = sqlx::query(AssertSqlSafe(select)).bind(from.0).bind(to.0).bind(source);
        let rows = select.fetch_all(&self.inner.readers).await?;
        rows.iter().map(file).collect()
    }

    /// Up to where each partition is in the lake, in order.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn lake_positions(&self) -> Result<Vec<LakePosition>, Error> {
        let select = "select topic, incarnation, partition_no, next_offset, newest_log from lake_positions \
                      order by topic, incarnation, partition_no";
        let rows = sqlx::query(select).fetch_all(&self.inner.readers).await?;
        let position = |row: &AnyRow| {
            Ok(LakePosition {
                topic: row.try_get("topic")?,
                incarnation: narrow(row.try_get("incarnation")?),
                partition: narrow(row.try_get("partition_no")?),
                next_offset: row.try_get("next_offset")?,
                newest_log: row.try_get::<Option<i64>, _>("newest_log")?.map(Micros),
            })
        };
        rows.iter().map(position).collect()
    }
}

/// All files that a database names.
pub(crate) async fn all_files(connection: &mut AnyConnection) -> Result<Vec<LakeFile>, Error> {
    let select = sqlx::query(AssertSqlSafe(format!("{FILE} {IN_ORDER}")));
    select.fetch_all(connection).await?.iter().map(file).collect()
}

fn file(row: &AnyRow) -> Result<LakeFile, Error> {
    Ok(LakeFile {
        path: row.try_get("path")?,
        layout: narrow(row.try_get("layout")?),
        source: row.try_get("source")?,
        hour: row.try_get("hour")?,
        earliest: Micros(row.try_get("earliest")?),
        latest: Micros(row.try_get("latest")?),
        events: unsigned(row.try_get("events")?),
        bytes: unsigned(row.try_get("bytes")?),
        written_at: Micros(row.try_get("written_at")?),
    })
}
