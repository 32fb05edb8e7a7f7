//! Saved views: the queue's query strings by name.
//!
//! In: [`NewView`]. Out: a person's own views and those that others share. Invariants: a name is an owner's once; an owner
//! has [`MAX_VIEWS`] at most; only the owner, or somebody who may remove anybody's, removes one; all is audited.

use sqlx::{Row, any::AnyRow};
use vedette_event::Micros;

use crate::{
    error::Error,
    kept_answers::Begun,
    model::{ChangeKind, Made, NewView, Once, View},
    store::Store,
    transaction::Audit,
};

/// Views of one owner.
pub const MAX_VIEWS: usize = 50;

/// Shared views that are listed.
const MAX_SHARED: i64 = 500;

impl Store {
    /// Saves a view.
    pub async fn save_view(
        &self,
        new: &NewView,
        owner: &str,
        once: Option<&Once<View>>,
    ) -> Result<Made<View>, Error> {
        let mut tx = match self.begin_once(once).await? {
            Begun::New(tx) => tx,
            Begun::Again(answer) => return Ok(Made::Again(answer)),
        };
        let own = tx.all(sqlx::query("select name from views where owner = $1").bind(owner)).await?;
        if own.len() >= MAX_VIEWS {
            return Err(Error::Full { what: "saved views of one person", max: MAX_VIEWS });
        }
        for row in &own {
            if row.try_get::<&str, _>("name")? == new.name {
                let detail = format!("A view of yours has the name `{}` already.", new.name);
                return Err(Error::Clash { detail });
            }
        }
        let id = tx.number("view").await?;
        let insert = sqlx::query(
            "insert into views (id, owner, name, query, shared, created_at) values ($1, $2, $3, $4, $5, $6)",
        );
        let insert = insert.bind(id).bind(owner).bind(&new.name).bind(&new.query);
        tx.run(insert.bind(i64::from(new.shared)).bind(tx.now.0)).await?;
        let target = format!("view:{id}");
        let after = serde_json::json!({"name": new.name, "query": new.query, "shared": new.shared});
        let seq = tx.change(ChangeKind::Desk, &target);
        let entry = Audit {
            actor: owner,
            action: "view_saved",
            target: &target,
            before: None,
            after: Some(after.to_string()),
        };
        tx.audit(seq, entry).await?;
        let view = View {
            id,
            owner: owner.to_owned(),
            name: new.name.clone(),
            query: new.query.clone(),
            shared: new.shared,
            created_at: tx.now,
        };
        tx.commit_once(once, view).await
    }

    /// The views of this owner and those that others share, by name.
    pub async fn views(&self, owner: &str) -> Result<Vec<View>, Error> {
        let rows = sqlx::query(
            "select id, owner, name, query, shared, created_at from views where owner = $1 union all \
             select * from (select id, owner, name, query, shared, created_at from views \
             where shared = 1 and owner <> $1 order by name, id limit $2) as others order by name, id",
        );
        let rows = rows.bind(owner).bind(MAX_SHARED).fetch_all(&self.inner.readers).await?;
        rows.iter().map(view).collect()
    }

    /// Removes a view of this owner; with `any`, anybody's shared one, too.
    pub async fn remove_view(&self, id: i64, actor: &str, any: bool) -> Result<(), Error> {
        let mut tx = self.begin().await?;
        let delete = sqlx::query(
            "delete from views where id = $1 and (owner = $2 or (shared = 1 and $3 = 1)) \
             returning id, owner, name, query, shared, created_at",
        );
        let removed = tx.one(delete.bind(id).bind(actor).bind(i64::from(any))).await?;
        let Some(row) = removed else {
            return Err(Error::NotFound { what: "view", id: id.to_string() });
        };
        let View { owner, name, query, shared, .. } = view(&row)?;
        let target = format!("view:{id}");
        let before = serde_json::json!({"owner": owner, "name": name, "query": query, "shared": shared});
        let seq = tx.change(ChangeKind::Desk, &target);
        let entry = Audit {
            actor,
            action: "view_removed",
            target: &target,
            before: Some(before.to_string()),
            after: None,
        };
        tx.audit(seq, entry).await?;
        tx.commit().await.map(drop)
    }
}

fn view(row: &AnyRow) -> Result<View, Error> {
    Ok(View {
        id: row.try_get("id")?,
        owner: row.try_get("owner")?,
        name: row.try_get("name")?,
        query: row.try_get("query")?,
        shared: row.try_get::<i64, _>("shared")? == 1,
        created_at: Micros(row.try_get("created_at")?),
    })
}
