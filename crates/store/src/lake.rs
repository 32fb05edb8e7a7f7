//! The catalog of the lake: files and positions, changed together or not at all.
//!
//! In: files that are whole and safe where they are, and up to where their events go; what is dropped of them, and what replaces them. Out: the
//! files there are. Invariants: what a file holds and the positions behind it are one transaction, and so are one file and those that it
//! replaces, so that each event is in the lake once, whatever is killed when; a position never goes back; what was dropped is counted.

use std::collections::BTreeMap;

use sqlx::{AnyConnection, AssertSqlSafe, Row, any::AnyRow};
use vedette_event::Micros;

use crate::{
    alert_rows::signed,
    alerts::{narrow, unsigned},
    bulk::Bulk,
    error::Error,
    ledger::lost_interval,
    model::{DropReason, Holds, LakeCatalog, LakeDrop, LakeFile, LakePosition, LeavingFile, LostInterval},
    store::Store,
    transaction::WriteTx,
};

const FILES: Bulk = Bulk {
    head: "insert into lake_files (path, layout, source, hour, earliest, latest, events, bytes, index_bytes, written_at, holds) values ",
    columns: 11,
    tail: "",
};
const POSITIONS: Bulk = Bulk {
    head: "insert into lake_positions (topic, incarnation, partition_no, next_offset, newest_log, last_hash, through) values ",
    columns: 7,
    tail: " on conflict (topic, incarnation, partition_no) do update set next_offset = excluded.next_offset, \
           newest_log = excluded.newest_log, last_hash = excluded.last_hash, \
           through = coalesce(excluded.through, lake_positions.through) \
           where lake_positions.next_offset <= excluded.next_offset",
};
const LEAVING: Bulk =
    Bulk { head: "insert into lake_leaving (path, bytes, left_at) values ", columns: 3, tail: "" };
const LEFT: Bulk = Bulk { head: "delete from lake_leaving where path in (", columns: 1, tail: ")" };
const DROPPED: Bulk = Bulk {
    head: "insert into lake_dropped (source, holds, reason, through, events, dropped_at) values ",
    columns: 6,
    tail: " on conflict (source, holds, reason) do update set events = lake_dropped.events + excluded.events, \
           dropped_at = excluded.dropped_at, through = case when lake_dropped.through < excluded.through \
           then excluded.through else lake_dropped.through end",
};
const LOST: Bulk = Bulk {
    head: "insert into lake_lost (topic, incarnation, partition_no, from_offset, to_offset, noticed_at) values ",
    columns: 6,
    tail: " on conflict (topic, incarnation, partition_no, from_offset) do update set to_offset = excluded.to_offset \
           where lake_lost.to_offset < excluded.to_offset",
};
const POSITIONS_OF_ALL: &str = "select topic, incarnation, partition_no, next_offset, newest_log, last_hash, through \
    from lake_positions order by topic, incarnation, partition_no";
const DROPPED_OF_SOURCE: &str = "select source, holds, reason, through, events, dropped_at from lake_dropped \
    where $1 is null or source = $1 order by source, holds, reason";
const LOST_OF_ALL: &str = "select topic, incarnation, partition_no, from_offset, to_offset, noticed_at \
    from lake_lost order by topic, incarnation, partition_no, from_offset";
const FILES_OF_SOURCE: &str = "select path, layout, source, hour, earliest, latest, events, bytes, index_bytes, written_at, holds \
    from lake_files where $1 is null or source = $1 order by source, earliest, path";

const FILE: &str = "select path, layout, source, hour, earliest, latest, events, bytes, index_bytes, written_at, holds from lake_files";
const IN_ORDER: &str = "order by source, earliest, path";

impl Store {
    /// Takes files in, together with the positions behind all that is in them.
    ///
    /// # Errors
    /// If a file is there already, and those of writing: then nothing is taken in.
    pub async fn add_to_lake(&self, files: &[LakeFile], positions: &[LakePosition]) -> Result<(), Error> {
        let mut tx = self.begin_as_engine().await?;
        add(&mut tx, files).await?;
        tx.run_bulk(POSITIONS, positions, |insert, position| {
            let insert = insert.bind(&position.topic).bind(i64::from(position.incarnation));
            let insert = insert.bind(i64::from(position.partition)).bind(position.next_offset);
            let insert = insert.bind(position.newest_log.map(|time| time.0));
            insert
                .bind(position.last_hash.as_ref().map(|hash| &hash[..]))
                .bind(position.through.map(|time| time.0))
        })
        .await?;
        tx.commit().await.map(drop)
    }

    /// Takes files out of the catalog, since what they hold is to be kept no longer: that is gone for whoever asks from then on, and counted.
    /// The files themselves are [`Store::leaving_lake`] until they are deleted.
    ///
    /// # Errors
    /// If a file is not there, and those of writing: then all is as it was.
    pub async fn drop_from_lake(&self, files: &[LakeFile], why: DropReason) -> Result<(), Error> {
        let mut tx = self.begin_as_engine().await?;
        leave(&mut tx, files).await?;
        let mut by_source: BTreeMap<(&str, Holds), (i64, i64)> = BTreeMap::new();
        for file in files {
            let (through, events) = by_source.entry((&file.source, file.holds)).or_insert((i64::MIN, 0));
            *through = (*through).max(file.latest.0);
            *events += signed(file.events);
        }
        let now = tx.now.0;
        let dropped: Vec<_> = by_source.iter().collect();
        tx.run_bulk(DROPPED, &dropped, |insert, ((source, holds), (through, events))| {
            insert.bind(*source).bind(holds.text()).bind(why.text()).bind(*through).bind(*events).bind(now)
        })
        .await?;
        for (holds, kind) in [(Holds::Events, "lake_events"), (Holds::Originals, "lake_originals")] {
            let of = by_source.iter().filter(|((_, of), _)| *of == holds);
            let counts = of.map(|((source, _), (_, events))| ((*source).to_owned(), *events));
            tx.count_removed(kind, counts.collect()).await?;
        }
        tx.commit().await.map(drop)
    }

    /// Names one file in place of others that held the same.
    ///
    /// # Errors
    /// If one of those is not there, or the new one is, and those of writing: then all is as it was.
    pub async fn replace_in_lake(&self, files: &[LakeFile], by: &LakeFile) -> Result<(), Error> {
        let mut tx = self.begin_as_engine().await?;
        leave(&mut tx, files).await?;
        add(&mut tx, std::slice::from_ref(by)).await?;
        tx.commit().await.map(drop)
    }

    /// The files that the catalog names no more and that are still to be deleted, the oldest first.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn leaving_lake(&self) -> Result<Vec<LeavingFile>, Error> {
        let select = "select path, bytes, left_at from lake_leaving order by left_at, path";
        let rows = sqlx::query(select).fetch_all(&self.inner.readers).await?;
        let leaving = |row: &AnyRow| {
            Ok(LeavingFile {
                path: row.try_get("path")?,
                bytes: unsigned(row.try_get("bytes")?),
                left_at: Micros(row.try_get("left_at")?),
            })
        };
        rows.iter().map(leaving).collect()
    }

    /// These files are deleted.
    ///
    /// # Errors
    /// Those of writing.
    pub async fn left_lake(&self, files: &[LeavingFile]) -> Result<(), Error> {
        let mut tx = self.begin_as_engine().await?;
        tx.run_bulk(LEFT, files, |delete, file| delete.bind(&file.path)).await?;
        tx.commit().await.map(drop)
    }

    /// How many bytes all files have, those that are leaving too.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn lake_bytes(&self) -> Result<u64, Error> {
        let select = "select cast(coalesce(sum(bytes), 0) as bigint) as bytes from lake_files";
        let row = sqlx::query(select).fetch_one(&self.inner.readers).await?;
        Ok(unsigned(row.try_get("bytes")?))
    }

    /// Records were deleted before the lake had read them. Told again, it changes nothing.
    ///
    /// # Errors
    /// Those of writing.
    pub async fn lost_for_lake(&self, lost: &LostInterval) -> Result<(), Error> {
        let mut tx = self.begin_as_engine().await?;
        tx.run_bulk(LOST, std::slice::from_ref(lost), |insert, lost| {
            let insert = insert.bind(&lost.topic).bind(i64::from(lost.incarnation));
            let insert = insert.bind(i64::from(lost.partition)).bind(lost.from);
            insert.bind(lost.to).bind(lost.noticed_at.0)
        })
        .await?;
        tx.commit().await.map(drop)
    }

    /// The files that may hold events of these times, both included, or originals of such, of one source or all, by source and time.
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

    /// The files that hold this, and of that nothing as late as this time.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn lake_files_before(&self, holds: Holds, time: Micros) -> Result<Vec<LakeFile>, Error> {
        let select = format!("{FILE} where holds = $1 and latest < $2 {IN_ORDER}");
        let select = sqlx::query(AssertSqlSafe(select)).bind(holds.text()).bind(time.0);
        select.fetch_all(&self.inner.readers).await?.iter().map(file).collect()
    }

    /// Up to where each partition is in the lake, in order.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn lake_positions(&self) -> Result<Vec<LakePosition>, Error> {
        let rows = sqlx::query(POSITIONS_OF_ALL).fetch_all(&self.inner.readers).await?;
        rows.iter().map(position).collect()
    }

    /// The files of one source or all, and up to where all partitions are in files, both as of one moment.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn lake_catalog(&self, source: Option<&str>) -> Result<LakeCatalog, Error> {
        let mut snapshot = self.inner.readers.begin().await?;
        let files = sqlx::query(FILES_OF_SOURCE).bind(source).fetch_all(&mut *snapshot).await?;
        let positions = sqlx::query(POSITIONS_OF_ALL).fetch_all(&mut *snapshot).await?;
        let dropped = sqlx::query(DROPPED_OF_SOURCE).bind(source).fetch_all(&mut *snapshot).await?;
        let lost = sqlx::query(LOST_OF_ALL).fetch_all(&mut *snapshot).await?;
        snapshot.rollback().await?;
        let files = files.iter().map(file).collect::<Result<Vec<_>, Error>>()?;
        let (files, originals) = files.into_iter().partition(|file| file.holds == Holds::Events);
        Ok(LakeCatalog {
            files,
            originals,
            positions: positions.iter().map(position).collect::<Result<_, Error>>()?,
            dropped: dropped.iter().map(dropped_row).collect::<Result<_, Error>>()?,
            lost: lost.iter().map(lost_interval).collect::<Result<_, Error>>()?,
        })
    }
}

/// Names files.
async fn add(tx: &mut WriteTx, files: &[LakeFile]) -> Result<(), Error> {
    let added = tx.run_bulk(FILES, files, |insert, file| {
        let insert = insert.bind(&file.path).bind(i64::from(file.layout)).bind(&file.source);
        let insert = insert.bind(file.hour).bind(file.earliest.0).bind(file.latest.0);
        let insert = insert.bind(signed(file.events)).bind(signed(file.bytes));
        insert.bind(signed(file.index_bytes)).bind(file.written_at.0).bind(file.holds.text())
    });
    added.await.map(drop)
}

/// Names files no more; they are still where they are.
async fn leave(tx: &mut WriteTx, files: &[LakeFile]) -> Result<(), Error> {
    for file in files {
        let remove = sqlx::query("delete from lake_files where path = $1").bind(&file.path);
        if tx.run(remove).await? == 0 {
            return Err(Error::NotFound { what: "file of the lake", id: file.path.clone() });
        }
    }
    let now = tx.now.0;
    let left = tx.run_bulk(LEAVING, files, |insert, file| {
        insert.bind(&file.path).bind(signed(file.stored())).bind(now)
    });
    left.await.map(drop)
}

fn position(row: &AnyRow) -> Result<LakePosition, Error> {
    let hash: Option<Vec<u8>> = row.try_get("last_hash")?;
    Ok(LakePosition {
        topic: row.try_get("topic")?,
        incarnation: narrow(row.try_get("incarnation")?),
        partition: narrow(row.try_get("partition_no")?),
        next_offset: row.try_get("next_offset")?,
        newest_log: row.try_get::<Option<i64>, _>("newest_log")?.map(Micros),
        last_hash: hash.and_then(|hash| hash.try_into().ok()),
        through: row.try_get::<Option<i64>, _>("through")?.map(Micros),
    })
}

fn dropped_row(row: &AnyRow) -> Result<LakeDrop, Error> {
    let reason: String = row.try_get("reason")?;
    Ok(LakeDrop {
        source: row.try_get("source")?,
        holds: Holds::of(&row.try_get::<String, _>("holds")?),
        why: if reason == DropReason::Size.text() { DropReason::Size } else { DropReason::Age },
        through: Micros(row.try_get("through")?),
        events: unsigned(row.try_get("events")?),
        at: Micros(row.try_get("dropped_at")?),
    })
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
        holds: Holds::of(&row.try_get::<String, _>("holds")?),
        source: row.try_get("source")?,
        hour: row.try_get("hour")?,
        earliest: Micros(row.try_get("earliest")?),
        latest: Micros(row.try_get("latest")?),
        events: unsigned(row.try_get("events")?),
        bytes: unsigned(row.try_get("bytes")?),
        index_bytes: unsigned(row.try_get("index_bytes")?),
        written_at: Micros(row.try_get("written_at")?),
    })
}
