//! API tokens: names, roles and hashes, never the tokens themselves.
//!
//! In: a SHA-256 of a token. Out: [`Token`]s to compare with. Invariant: a name is in force at most once; every
//! creation and revocation is in the audit log.

use sqlx::{Row, any::AnyRow};
use vedette_event::Micros;

use crate::{
    error::Error,
    model::{Role, Token},
    people::not_the_systems,
    store::{Store, now},
    transaction::Audit,
};

impl Store {
    /// Stores a new token's hash.
    pub async fn create_token(
        &self,
        name: &str,
        role: Role,
        hash: [u8; 32],
        actor: &str,
    ) -> Result<(), Error> {
        not_the_systems(name)?;
        let mut tx = self.begin().await?;
        let known = sqlx::query("select 1 from tokens where name = $1 and revoked_at is null").bind(name);
        if tx.one(known).await?.is_some() {
            return Err(Error::TokenExists { name: name.to_owned() });
        }
        // A name says who did what.
        let user = sqlx::query("select 1 from users where name = $1").bind(name.to_lowercase());
        if tx.one(user).await?.is_some() {
            return Err(Error::UserExists { name: name.to_owned() });
        }
        let insert = sqlx::query("insert into tokens (hash, name, role, created_at) values ($1, $2, $3, $4)")
            .bind(hash.to_vec())
            .bind(name)
            .bind(role.name())
            .bind(tx.now.0);
        tx.run(insert).await?;
        let after = Some(serde_json::to_string(&role)?);
        tx.access_changed(Audit { actor, action: "token_created", target: name, before: None, after })
            .await?;
        tx.commit().await.map(drop)
    }

    /// Revokes the token of this name that is in force.
    pub async fn revoke_token(&self, name: &str, actor: &str) -> Result<(), Error> {
        let mut tx = self.begin().await?;
        let update = sqlx::query("update tokens set revoked_at = $1 where name = $2 and revoked_at is null");
        if tx.run(update.bind(tx.now.0).bind(name)).await? == 0 {
            return Err(Error::NotFound { what: "token", id: name.to_owned() });
        }
        tx.access_changed(Audit { actor, action: "token_revoked", target: name, before: None, after: None })
            .await?;
        tx.commit().await.map(drop)
    }

    /// All tokens, revoked ones too, in order of creation.
    pub async fn tokens(&self) -> Result<Vec<Token>, Error> {
        let rows = sqlx::query(
            "select hash, name, role, created_at, revoked_at, last_used_at from tokens order by created_at, name",
        )
        .fetch_all(&self.inner.readers)
        .await?;
        rows.iter().map(token).collect()
    }

    /// The tokens in force, by name, over a connection that nothing else uses: access never waits for a search.
    pub async fn tokens_in_force(&self) -> Result<Vec<Token>, Error> {
        let rows = sqlx::query(
            "select hash, name, role, created_at, revoked_at, last_used_at from tokens \
             where revoked_at is null order by name",
        )
        .fetch_all(&self.inner.access)
        .await?;
        rows.iter().map(token).collect()
    }

    /// Notes that a token was used; written at most once a minute.
    pub async fn token_used(&self, token: &Token) -> Result<(), Error> {
        const MINUTE: i64 = 60_000_000;
        if token.last_used_at.is_some_and(|last| now().0 - last.0 < MINUTE) {
            return Ok(());
        }
        let mut tx = self.begin().await?;
        let update = sqlx::query(
            "update tokens set last_used_at = $1 where hash = $2 and (last_used_at is null or last_used_at < $3)",
        );
        tx.run(update.bind(tx.now.0).bind(token.hash.to_vec()).bind(tx.now.0 - MINUTE)).await?;
        tx.commit().await.map(drop)
    }
}

fn token(row: &AnyRow) -> Result<Token, Error> {
    let name: String = row.try_get("name")?;
    let bad = |detail: &str| Error::BadValue { what: "token", id: name.clone(), detail: detail.to_owned() };
    let hash: Vec<u8> = row.try_get("hash")?;
    let role: String = row.try_get("role")?;
    Ok(Token {
        hash: hash.try_into().map_err(|_| bad("its hash has another length"))?,
        role: Role::parse(&role).ok_or_else(|| bad("unknown role"))?,
        created_at: Micros(row.try_get("created_at")?),
        revoked_at: row.try_get::<Option<i64>, _>("revoked_at")?.map(Micros),
        last_used_at: row.try_get::<Option<i64>, _>("last_used_at")?.map(Micros),
        name,
    })
}
