//! Hunts: that somebody asked, what came of it, and those that people keep by name.
//!
//! In: texts of hunts, how they ended, [`NewSavedHunt`]. Out: numbers, kept hunts. Invariants: a hunt is in the audit log before it reads
//! anything, and once more when it is over; a name is an owner's once; an owner has [`MAX_SAVED_HUNTS`] at most.

use sqlx::{Row, any::AnyRow};
use vedette_event::Micros;

use crate::{
    error::Error,
    kept_answers::Begun,
    model::{ChangeKind, Made, NewSavedHunt, Once, SavedHunt},
    store::Store,
    transaction::Audit,
};

/// Kept hunts of one owner.
pub const MAX_SAVED_HUNTS: usize = 100;
/// Shared ones that are listed.
const MAX_SHARED: i64 = 500;

/// What the audit log calls the beginning and the end of a hunt.
pub const HUNT_BEGUN: &str = "hunt_begun";
/// See [`HUNT_BEGUN`].
pub const HUNT_ENDED: &str = "hunt_ended";

impl Store {
    /// Notes that somebody asks this (JSON); the hunt's number, which no other ever has.
    ///
    /// # Errors
    /// Those of writing: then it must not be asked.
    pub async fn begin_hunt(&self, actor: &str, asked: String) -> Result<i64, Error> {
        let mut tx = self.begin().await?;
        let id = tx.number("hunt").await?;
        let target = format!("hunt:{id}");
        let seq = tx.change(ChangeKind::Admin, &target);
        let entry = Audit { actor, action: HUNT_BEGUN, target: &target, before: None, after: Some(asked) };
        tx.audit(seq, entry).await?;
        tx.commit().await?;
        Ok(id)
    }

    /// Notes how a hunt ended (JSON).
    ///
    /// # Errors
    /// Those of writing.
    pub async fn end_hunt(&self, id: i64, actor: &str, asked: String, ended: String) -> Result<(), Error> {
        let mut tx = self.begin().await?;
        let target = format!("hunt:{id}");
        let seq = tx.change(ChangeKind::Admin, &target);
        let (before, after) = (Some(asked), Some(ended));
        tx.audit(seq, Audit { actor, action: HUNT_ENDED, target: &target, before, after }).await?;
        tx.commit().await.map(drop)
    }

    /// Keeps a hunt by name.
    ///
    /// # Errors
    /// If the owner has one of this name or no room for more, and those of writing.
    pub async fn save_hunt(
        &self,
        new: &NewSavedHunt,
        owner: &str,
        once: Option<&Once<SavedHunt>>,
    ) -> Result<Made<SavedHunt>, Error> {
        let mut tx = match self.begin_once(once).await? {
            Begun::New(tx) => tx,
            Begun::Again(answer) => return Ok(Made::Again(answer)),
        };
        let own = tx.all(sqlx::query("select name from saved_hunts where owner = $1").bind(owner)).await?;
        if own.len() >= MAX_SAVED_HUNTS {
            return Err(Error::Full { what: "saved hunts of one person", max: MAX_SAVED_HUNTS });
        }
        for row in &own {
            if row.try_get::<&str, _>("name")? == new.name {
                let detail = format!("A hunt of yours has the name `{}` already.", new.name);
                return Err(Error::Clash { detail });
            }
        }
        let id = tx.number("saved_hunt").await?;
        let NewSavedHunt { name, sql, span, shared } = new;
        let insert = sqlx::query(
            "insert into saved_hunts (id, owner, name, sql, span, shared, created_at) \
             values ($1, $2, $3, $4, $5, $6, $7)",
        );
        let insert = insert.bind(id).bind(owner).bind(name).bind(sql).bind(span);
        tx.run(insert.bind(i64::from(*shared)).bind(tx.now.0)).await?;
        let target = format!("saved_hunt:{id}");
        let after = serde_json::json!({"name": name, "sql": sql, "span": span, "shared": shared});
        let seq = tx.change(ChangeKind::Admin, &target);
        let entry = Audit {
            actor: owner,
            action: "hunt_saved",
            target: &target,
            before: None,
            after: Some(after.to_string()),
        };
        tx.audit(seq, entry).await?;
        let saved = SavedHunt { id, owner: owner.to_owned(), hunt: new.clone(), created_at: tx.now };
        tx.commit_once(once, saved).await
    }

    /// The kept hunts of this owner and those that others share, by name.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn saved_hunts(&self, owner: &str) -> Result<Vec<SavedHunt>, Error> {
        let rows = sqlx::query(
            "select id, owner, name, sql, span, shared, created_at from saved_hunts where owner = $1 union all \
             select * from (select id, owner, name, sql, span, shared, created_at from saved_hunts \
             where shared = 1 and owner <> $1 order by name, id limit $2) as others order by name, id",
        );
        let rows = rows.bind(owner).bind(MAX_SHARED).fetch_all(&self.inner.readers).await?;
        rows.iter().map(saved).collect()
    }

    /// Removes a kept hunt of this owner; with `any`, anybody's shared one, too.
    ///
    /// # Errors
    /// If there is none, or it is scheduled, and those of writing.
    pub async fn remove_saved_hunt(&self, id: i64, actor: &str, any: bool) -> Result<(), Error> {
        let mut tx = self.begin().await?;
        let delete = sqlx::query(
            "delete from saved_hunts where id = $1 and (owner = $2 or (shared = 1 and $3 = 1)) \
             returning id, owner, name, sql, span, shared, created_at",
        );
        let removed = tx.one(delete.bind(id).bind(actor).bind(i64::from(any))).await?;
        let Some(row) = removed else {
            return Err(Error::NotFound { what: "saved hunt", id: id.to_string() });
        };
        tx.is_not_scheduled(id).await?;
        let SavedHunt { owner, hunt: NewSavedHunt { name, sql, span, shared }, .. } = saved(&row)?;
        let target = format!("saved_hunt:{id}");
        let before =
            serde_json::json!({"owner": owner, "name": name, "sql": sql, "span": span, "shared": shared});
        let seq = tx.change(ChangeKind::Admin, &target);
        let entry = Audit {
            actor,
            action: "hunt_removed",
            target: &target,
            before: Some(before.to_string()),
            after: None,
        };
        tx.audit(seq, entry).await?;
        tx.commit().await.map(drop)
    }
}

fn saved(row: &AnyRow) -> Result<SavedHunt, Error> {
    Ok(SavedHunt {
        id: row.try_get("id")?,
        owner: row.try_get("owner")?,
        hunt: NewSavedHunt {
            name: row.try_get("name")?,
            sql: row.try_get("sql")?,
            span: row.try_get("span")?,
            shared: row.try_get::<i64, _>("shared")? == 1,
        },
        created_at: Micros(row.try_get("created_at")?),
    })
}
