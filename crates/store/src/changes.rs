//! The stream of changes, by `seq` in commit order.
//!
//! In: the last `seq` a reader saw. Out: what came after, or [`Changes::Reset`] when that is no longer kept.

use sqlx::Row;
use tokio::sync::watch;

use crate::{
    error::Error,
    model::{Change, ChangeKind, Changes},
    store::Store,
};

impl Store {
    /// The changes after `after`, at most `limit`.
    pub async fn changes(&self, after: i64, limit: u32) -> Result<Changes, Error> {
        let rows = sqlx::query("select seq, kind, id from changes where seq > $1 order by seq limit $2")
            .bind(after)
            .bind(i64::from(limit))
            .fetch_all(&self.inner.readers)
            .await?;
        // Read after the changes: what was forgotten in between makes a reset, never a gap.
        let engine = sqlx::query("select seq, oldest_change from engine where id = 1")
            .fetch_one(&self.inner.readers)
            .await?;
        let (seq, oldest): (i64, i64) = (engine.try_get("seq")?, engine.try_get("oldest_change")?);
        if after < oldest || after > seq {
            return Ok(Changes::Reset { seq });
        }
        let changes = rows.iter().map(|row| {
            let kind: String = row.try_get("kind")?;
            let kind = ChangeKind::parse(&kind).ok_or_else(|| Error::BadValue {
                what: "change",
                id: kind,
                detail: "unknown kind".to_owned(),
            })?;
            Ok(Change { seq: row.try_get("seq")?, kind, id: row.try_get("id")? })
        });
        changes.collect::<Result<_, Error>>().map(Changes::Next)
    }

    /// The newest `seq`. Read it before a list to know from where to follow the changes.
    pub async fn newest_seq(&self) -> Result<i64, Error> {
        let row = sqlx::query("select seq from engine where id = 1").fetch_one(&self.inner.readers).await?;
        Ok(row.try_get("seq")?)
    }

    /// Wakes whenever this process has committed changes; holds the newest `seq`. Other processes' changes do not wake it.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<i64> {
        self.inner.newest.subscribe()
    }
}
