//! Dead letters: the full text of the first thousand per source, reason and hour, then offset ranges and counts; the same
//! beyond so many bytes.
//!
//! In: [`NewDeadLetter`]s, in order of offset and index within one reason and partition. Out: pages and counts.
//! Invariant: a letter is counted exactly once, however often it is published: what is not above the highest seen of
//! its source, reason, hour and partition is a repetition.

use std::collections::{BTreeMap, BTreeSet, btree_map::Entry};

use sqlx::{Row, any::AnyRow};
use vedette_event::{Micros, time::HOUR};

use crate::{
    alerts::{narrow, unsigned},
    bulk::Bulk,
    error::Error,
    filter::MAX_PAGE,
    model::{ChangeKind, DeadLetterCount, DeadLetterRow, NewDeadLetter, Page},
    store::Store,
    topics::{Incarnations, incarnation},
    transaction::WriteTx,
};

/// Letters kept with their text per source, reason and hour.
pub(crate) const MAX_KEPT: i64 = 1_000;
/// Bytes of them: a thousand records of 16 KiB. Who writes megabytes into a log shall not fill the disk, nor take from the
/// next hour what the source may have in all.
pub(crate) const MAX_KEPT_BYTES: i64 = 16 << 20;

const KNOWN: Bulk = Bulk {
    head: "with wanted (n, of_topic, of_incarnation, of_partition, of_offset, of_index) as (values ",
    columns: 6,
    tail: ") select n from wanted where exists (select 1 from dead_letters where topic = of_topic and \
           incarnation = of_incarnation and partition_no = of_partition and offset_no = of_offset and \
           index_no = of_index)",
};
const LETTERS: Bulk = Bulk {
    head: "insert into dead_letters (seq, topic, incarnation, partition_no, offset_no, index_no, source, reason, \
           hour, ts_log, stored_at, detail, payload) values ",
    columns: 13,
    tail: "",
};
const COUNTS: Bulk = Bulk {
    head: "insert into dead_letter_counts (source, reason, hour, topic, incarnation, partition_no, kept, folded, \
           first_offset, last_offset, top_offset, top_index, bytes, stored_at) values ",
    columns: 14,
    tail: " on conflict (source, reason, hour, topic, incarnation, partition_no) do update set \
           kept = excluded.kept, folded = excluded.folded, first_offset = excluded.first_offset, \
           last_offset = excluded.last_offset, top_offset = excluded.top_offset, top_index = excluded.top_index, bytes = excluded.bytes, \
           stored_at = excluded.stored_at",
};
const SOURCE_BYTES: Bulk = Bulk {
    head: "insert into dead_letter_bytes (source, bytes) values ",
    columns: 2,
    tail: " on conflict (source) do update set bytes = excluded.bytes",
};

/// A letter that is kept with its text.
struct Kept<'a> {
    letter: &'a NewDeadLetter,
    incarnation: i64,
    hour: i64,
    seq: i64,
}

/// Letters that are there: by number in the publication, and by topic, partition and place those that it brings.
struct Known<'a> {
    numbers: BTreeSet<i64>,
    places: BTreeSet<(&'a str, i32, (i64, i64))>,
}

/// Source, reason, hour.
type Cap<'a> = (&'a str, &'a str, i64);

/// By kind, topic and partition.
type Counts<'a> = BTreeMap<(Cap<'a>, &'a str, i32), Count>;

#[derive(Debug, Clone, Copy, Default)]
struct Count {
    kept: i64,
    bytes: i64,
    folded: i64,
    first: Option<i64>,
    last: Option<i64>,
    /// Offset and index (−1 for a whole record) of the highest seen.
    top: Option<(i64, i64)>,
}

impl WriteTx {
    /// How many letters were new, and how many repetitions.
    pub(crate) async fn write_dead_letters(
        &mut self,
        letters: &[NewDeadLetter],
        of: &Incarnations,
    ) -> Result<(u64, u64), Error> {
        // How many, and their bytes.
        let mut kept: BTreeMap<Cap<'_>, (i64, i64)> = BTreeMap::new();
        let mut of_source: BTreeMap<&str, i64> = BTreeMap::new();
        let mut counts = Counts::new();
        let mut folded_of = BTreeSet::new();
        let mut known = self.kept_among(letters, of).await?;
        let mut keep = Vec::new();
        let (mut new, mut old) = (0, 0);
        for (n, letter) in (0..).zip(letters) {
            let hour = letter.ts_log.unwrap_or(self.now).floor(HOUR).0;
            let cap = (letter.source.as_str(), letter.reason.as_str(), hour);
            let incarnation = incarnation(of, &letter.topic);
            let kept = match kept.entry(cap) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(new) => new.insert(self.kept_letters(cap).await?),
            };
            let count = match counts.entry((cap, letter.topic.as_str(), letter.partition)) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(new) => new.insert(self.load_count(cap, letter, incarnation).await?),
            };
            let place = (letter.offset, letter.index.map_or(-1, i64::from));
            let at = (letter.topic.as_str(), letter.partition, place);
            if count.top.is_some_and(|top| place <= top)
                || known.numbers.contains(&n)
                || known.places.contains(&at)
            {
                old += 1;
                continue;
            }
            count.top = Some(place);
            new += 1;
            let bytes = letter.payload.len() as i64;
            let in_all = match of_source.entry(&letter.source) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(new) => new.insert(self.kept_bytes(&letter.source).await?),
            };
            let room = kept.0 < MAX_KEPT && kept.1 + bytes <= MAX_KEPT_BYTES;
            if room && *in_all + bytes <= self.dead_letter_bytes() {
                *kept = (kept.0 + 1, kept.1 + bytes);
                *in_all += bytes;
                count.kept += 1;
                count.bytes += bytes;
                known.places.insert(at);
                let seq = self.change(ChangeKind::DeadLetters, &letter.source);
                keep.push(Kept { letter, incarnation, hour, seq });
            } else {
                count.folded += 1;
                count.first = Some(count.first.map_or(letter.offset, |first| first.min(letter.offset)));
                count.last = Some(count.last.map_or(letter.offset, |last| last.max(letter.offset)));
                folded_of.insert(letter.source.as_str());
            }
        }
        self.write_counts(counts, of).await?;
        let of_source: Vec<_> = of_source.into_iter().collect();
        self.run_bulk(SOURCE_BYTES, &of_source, |upsert, (source, bytes)| upsert.bind(*source).bind(bytes))
            .await?;
        let now = self.now.0;
        self.run_bulk(LETTERS, &keep, |insert, Kept { letter, incarnation, hour, seq }| {
            let insert =
                insert.bind(seq).bind(&letter.topic).bind(incarnation).bind(i64::from(letter.partition));
            let insert = insert.bind(letter.offset).bind(letter.index.map_or(-1, i64::from));
            let insert = insert.bind(&letter.source).bind(&letter.reason).bind(hour);
            let insert = insert.bind(letter.ts_log.map(|time| time.0)).bind(now);
            insert.bind(&*letter.detail).bind(letter.payload.as_slice())
        })
        .await?;
        for source in folded_of {
            self.change(ChangeKind::DeadLetters, source);
        }
        Ok((new, old))
    }

    /// Writes how many there are of each kind and partition, and up to where.
    async fn write_counts(&mut self, counts: Counts<'_>, of: &Incarnations) -> Result<(), Error> {
        let counts: Vec<_> = counts.into_iter().collect();
        let now = self.now.0;
        self.run_bulk(COUNTS, &counts, |upsert, ((cap, topic, partition), count)| {
            let (top_offset, top_index) = count.top.unwrap_or((-1, -1));
            let upsert = upsert.bind(cap.0).bind(cap.1).bind(cap.2).bind(*topic).bind(incarnation(of, topic));
            let upsert = upsert.bind(i64::from(*partition)).bind(count.kept).bind(count.folded);
            let upsert = upsert.bind(count.first).bind(count.last).bind(top_offset).bind(top_index);
            upsert.bind(count.bytes).bind(now)
        })
        .await?;
        Ok(())
    }

    /// Which of the letters are there already, perhaps for another reason or in another hour.
    async fn kept_among<'a>(
        &mut self,
        letters: &'a [NewDeadLetter],
        of: &Incarnations,
    ) -> Result<Known<'a>, Error> {
        let numbered: Vec<(i64, &NewDeadLetter)> = (0..).zip(letters).collect();
        let known = self.all_bulk(KNOWN, &numbered, |select, (n, letter)| {
            let select = select.bind(n).bind(&letter.topic).bind(incarnation(of, &letter.topic));
            let select = select.bind(i64::from(letter.partition)).bind(letter.offset);
            select.bind(letter.index.map_or(-1, i64::from))
        });
        let known = known.await?;
        let numbers = known.iter().map(|row| Ok(row.try_get("n")?)).collect::<Result<_, Error>>()?;
        Ok(Known { numbers, places: BTreeSet::new() })
    }

    /// How many letters are kept, and their bytes.
    async fn kept_letters(&mut self, (source, reason, hour): Cap<'_>) -> Result<(i64, i64), Error> {
        let sum = sqlx::query(
            "select cast(coalesce(sum(kept), 0) as bigint) as n, cast(coalesce(sum(bytes), 0) as bigint) as bytes \
             from dead_letter_counts where source = $1 and reason = $2 and hour = $3",
        );
        let row = self.one(sum.bind(source).bind(reason).bind(hour)).await?;
        let read = row.map(|row| Ok::<_, Error>((row.try_get("n")?, row.try_get("bytes")?)));
        Ok(read.transpose()?.unwrap_or_default())
    }

    /// Bytes of all letters that are kept of a source.
    async fn kept_bytes(&mut self, source: &str) -> Result<i64, Error> {
        let row = self.one(sqlx::query("select bytes from dead_letter_bytes where source = $1").bind(source));
        Ok(row.await?.map(|row| row.try_get("bytes")).transpose()?.unwrap_or(0))
    }

    async fn load_count(
        &mut self,
        cap: Cap<'_>,
        letter: &NewDeadLetter,
        incarnation: i64,
    ) -> Result<Count, Error> {
        let select = sqlx::query(
            "select kept, bytes, folded, first_offset, last_offset, top_offset, top_index from dead_letter_counts \
             where source = $1 and reason = $2 and hour = $3 and topic = $4 and incarnation = $5 and partition_no = $6",
        )
        .bind(cap.0)
        .bind(cap.1)
        .bind(cap.2)
        .bind(&letter.topic)
        .bind(incarnation)
        .bind(i64::from(letter.partition));
        let Some(row) = self.one(select).await? else { return Ok(Count::default()) };
        Ok(Count {
            kept: row.try_get("kept")?,
            bytes: row.try_get("bytes")?,
            folded: row.try_get("folded")?,
            first: row.try_get("first_offset")?,
            last: row.try_get("last_offset")?,
            top: Some((row.try_get("top_offset")?, row.try_get("top_index")?)),
        })
    }
}

impl Store {
    /// Kept dead letters, newest first, of one source or all. `limit` is brought into 1 to [`MAX_PAGE`].
    pub async fn dead_letters(
        &self,
        source: Option<&str>,
        limit: u32,
        cursor: Option<&str>,
    ) -> Result<Page<DeadLetterRow>, Error> {
        let before: i64 = match cursor {
            Some(cursor) => cursor.parse().map_err(|_| Error::BadCursor)?,
            None => i64::MAX,
        };
        let limit = limit.clamp(1, MAX_PAGE);
        let columns = "select seq, topic, partition_no, offset_no, index_no, source, reason, ts_log, stored_at, \
                       detail, length(payload) as bytes, substr(payload, 1, 16384) as start from dead_letters \
                       where seq < $1";
        let filter = if source.is_some() { " and source = $3" } else { "" };
        let sql = format!("{columns}{filter} order by seq desc limit $2");
        let mut select = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(before).bind(i64::from(limit) + 1);
        if let Some(source) = source {
            select = select.bind(source);
        }
        let rows = select.fetch_all(&self.inner.readers).await?;
        let shown = rows.get(..limit as usize).unwrap_or(&rows);
        let items = shown.iter().map(letter_row).collect::<Result<Vec<_>, _>>()?;
        let more = rows.len() > items.len();
        let next_cursor = items.last().filter(|_| more).map(|last| last.seq.to_string());
        Ok(Page { items, next_cursor })
    }

    /// The whole record of a kept dead letter.
    pub async fn dead_letter_payload(&self, seq: i64) -> Result<Option<Vec<u8>>, Error> {
        let row = sqlx::query("select payload from dead_letters where seq = $1")
            .bind(seq)
            .fetch_optional(&self.inner.readers)
            .await?;
        Ok(row.map(|row| row.try_get("payload")).transpose()?)
    }

    /// How many records ended unevaluated since then (to the hour), by source, reason, hour and partition.
    pub async fn dead_letter_counts(&self, since: Micros) -> Result<Vec<DeadLetterCount>, Error> {
        let rows = sqlx::query(
            "select source, reason, hour, topic, partition_no, kept, folded, first_offset, last_offset \
             from dead_letter_counts where hour >= $1 order by hour desc, source, reason, topic, partition_no",
        )
        .bind(since.floor(HOUR).0)
        .fetch_all(&self.inner.readers)
        .await?;
        rows.iter()
            .map(|row| {
                Ok(DeadLetterCount {
                    source: row.try_get("source")?,
                    reason: row.try_get("reason")?,
                    hour: Micros(row.try_get("hour")?),
                    topic: row.try_get("topic")?,
                    partition: narrow(row.try_get("partition_no")?),
                    kept: unsigned(row.try_get("kept")?),
                    folded: unsigned(row.try_get("folded")?),
                    first_offset: row.try_get("first_offset")?,
                    last_offset: row.try_get("last_offset")?,
                })
            })
            .collect()
    }
}

fn letter_row(row: &AnyRow) -> Result<DeadLetterRow, Error> {
    let index: i64 = row.try_get("index_no")?;
    Ok(DeadLetterRow {
        seq: row.try_get("seq")?,
        stored_at: Micros(row.try_get("stored_at")?),
        source: row.try_get("source")?,
        topic: row.try_get("topic")?,
        partition: narrow(row.try_get("partition_no")?),
        offset: row.try_get("offset_no")?,
        index: u32::try_from(index).ok(),
        ts_log: row.try_get::<Option<i64>, _>("ts_log")?.map(Micros),
        reason: row.try_get("reason")?,
        detail: row.try_get("detail")?,
        // SQLite has no part of an empty value: it says null.
        start: row.try_get::<Option<Vec<u8>>, _>("start")?.unwrap_or_default(),
        bytes: unsigned(row.try_get("bytes")?),
    })
}
