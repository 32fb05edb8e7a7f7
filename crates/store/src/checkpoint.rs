//! Checkpoints by key group, and small values that belong to the whole store.
//!
//! In: bytes. Out: the same bytes, or a typed error that names the damaged group. Invariant: a checkpoint is written
//! with or after the publication it rests on, never before.

use sqlx::Row;

use crate::{
    alerts::narrow,
    error::Error,
    model::{ChangeKind, Checkpoint},
    store::Store,
    transaction::{Audit, WriteTx},
};

impl Store {
    /// Writes checkpoints of groups whose publications are committed; all or none.
    pub async fn save_checkpoints(&self, checkpoints: &[Checkpoint]) -> Result<(), Error> {
        let mut tx = self.begin_as_engine().await?;
        tx.write_checkpoints(checkpoints).await?;
        tx.commit().await.map(drop)
    }

    /// The first checkpoint after that of a group, in order of group: one at a time, since together they are as large as the
    /// state of all rules.
    pub async fn next_checkpoint(&self, after: Option<u8>) -> Result<Option<Checkpoint>, Error> {
        let next = sqlx::query(
            "select key_group, state, checksum from checkpoints where key_group > $1 order by key_group limit 1",
        );
        let next = next.bind(after.map_or(-1, i64::from)).fetch_optional(&self.inner.readers).await?;
        let Some(row) = next else { return Ok(None) };
        let group: u8 = narrow(row.try_get("key_group")?);
        let bytes: Vec<u8> = row.try_get("state")?;
        let stored: Vec<u8> = row.try_get("checksum")?;
        if stored != checksum(group, &bytes) {
            return Err(Error::CorruptCheckpoint { group });
        }
        Ok(Some(Checkpoint { group, bytes }))
    }

    /// Drops all checkpoints but that of this group, which must be there and whole; how many.
    pub async fn drop_checkpoints_but(&self, group: u8, actor: &str) -> Result<u64, Error> {
        let mut tx = self.begin_as_engine().await?;
        let kept = sqlx::query("select state, checksum from checkpoints where key_group = $1");
        let kept = tx.one(kept.bind(i64::from(group))).await?;
        let kept = kept.ok_or_else(|| Error::NotFound { what: "checkpoint", id: group.to_string() })?;
        let (state, stored): (Vec<u8>, Vec<u8>) = (kept.try_get("state")?, kept.try_get("checksum")?);
        if stored != checksum(group, &state) {
            return Err(Error::CorruptCheckpoint { group });
        }
        let drop = sqlx::query("delete from checkpoints where key_group <> $1");
        let dropped = tx.run(drop.bind(i64::from(group))).await?;
        let seq = tx.change(ChangeKind::Admin, "checkpoints");
        let (before, after) = (Some(dropped.to_string()), Some("0".to_owned()));
        let target = "checkpoints";
        tx.audit(seq, Audit { actor, action: "checkpoints_dropped", target, before, after }).await?;
        tx.commit().await?;
        Ok(dropped)
    }

    /// A small value of the store.
    pub async fn meta(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        let row = sqlx::query("select value from meta where name = $1")
            .bind(name)
            .fetch_optional(&self.inner.readers)
            .await?;
        Ok(match row {
            Some(row) => Some(row.try_get("value")?),
            None => None,
        })
    }

    /// Sets a small value of the store.
    pub async fn set_meta(&self, name: &str, value: &[u8]) -> Result<(), Error> {
        let mut tx = self.begin().await?;
        let set = sqlx::query(
            "insert into meta (name, value) values ($1, $2) on conflict (name) do update set value = excluded.value",
        );
        tx.run(set.bind(name).bind(value)).await?;
        tx.change(ChangeKind::Admin, name);
        tx.commit().await.map(drop)
    }

    /// The value of this name; `proposed` becomes it if there is none. For what is created once, such as the
    /// deployment's secret.
    pub async fn meta_or(&self, name: &str, proposed: &[u8]) -> Result<Vec<u8>, Error> {
        if let Some(value) = self.meta(name).await? {
            return Ok(value);
        }
        let mut tx = self.begin().await?;
        let set = sqlx::query("insert into meta (name, value) values ($1, $2) on conflict (name) do nothing");
        tx.run(set.bind(name).bind(proposed)).await?;
        let value = tx.one(sqlx::query("select value from meta where name = $1").bind(name)).await?;
        let value = value.map(|row| row.try_get("value")).transpose()?;
        tx.commit().await?;
        value.ok_or_else(|| Error::NotFound { what: "value", id: name.to_owned() })
    }
}

impl WriteTx {
    /// Writes checkpoints as part of a publication.
    pub(crate) async fn write_checkpoints(
        &mut self,
        checkpoints: impl IntoIterator<Item = &Checkpoint>,
    ) -> Result<(), Error> {
        for checkpoint in checkpoints {
            let upsert = sqlx::query(
                "insert into checkpoints (key_group, state, checksum) values ($1, $2, $3) \
                 on conflict (key_group) do update set state = excluded.state, checksum = excluded.checksum",
            )
            .bind(i64::from(checkpoint.group))
            .bind(checkpoint.bytes.as_slice())
            .bind(checksum(checkpoint.group, &checkpoint.bytes));
            self.run(upsert).await?;
        }
        Ok(())
    }
}

/// blake3 over the group and the bytes, so that a checkpoint in another group's place is found out too.
fn checksum(group: u8, bytes: &[u8]) -> Vec<u8> {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&[group]).update(bytes);
    hasher.finalize().as_bytes().to_vec()
}
