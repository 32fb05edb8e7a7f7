//! Sessions of people who signed in.
//!
//! In: the hash of a session's secret. Out: [`Session`]s to compare with. Invariants: a user has [`MAX_SESSIONS`] at most,
//! the oldest goes first; beginning and ending are in the audit log; a code of an authenticator begins one session.

use sqlx::{Row, any::AnyRow};
use vedette_event::{Micros, Span};

use crate::{
    error::Error,
    model::{Method, Session},
    store::Store,
    transaction::{Audit, WriteTx},
};

/// Sessions of one user: browsers on all their machines, and some that were never signed out of.
pub const MAX_SESSIONS: i64 = 20;
/// A session's use is written at most so often.
const NOTED_EVERY: Span = Span::secs(60);

/// What begins.
#[derive(Debug, Clone)]
pub struct NewSession<'a> {
    /// SHA-256 of its secret.
    pub hash: [u8; 32],
    /// Names it in lists.
    pub id: &'a str,
    /// Whose.
    pub user: &'a str,
    /// How they signed in.
    pub method: Method,
    /// The time step of the code that they gave.
    pub step: Option<i64>,
    /// From where.
    pub address: &'a str,
    /// With what.
    pub agent: &'a str,
}

impl Store {
    /// Begins a session. False if the user is kept out, or the code was taken before.
    pub async fn begin_session(&self, new: &NewSession<'_>) -> Result<bool, Error> {
        let mut tx = self.begin().await?;
        let now = tx.now.0;
        let enter = sqlx::query(
            "update users set last_signed_in_at = $1, totp_step = case when $2 = 0 then totp_step else $2 end where name = $3 and disabled_at is null \
             and ($2 = 0 or totp_step < $2)",
        );
        if tx.run(enter.bind(now).bind(new.step.unwrap_or(0)).bind(new.user)).await? == 0 {
            return Ok(false);
        }
        let oldest = sqlx::query(
            "delete from sessions where user_name = $1 and hash not in \
             (select hash from sessions where user_name = $1 order by last_used_at desc, id limit $2)",
        );
        tx.run(oldest.bind(new.user).bind(MAX_SESSIONS - 1)).await?;
        let insert = sqlx::query(
            "insert into sessions (hash, id, user_name, method, address, agent, created_at, last_used_at) \
             values ($1, $2, $3, $4, $5, $6, $7, $7)",
        )
        .bind(new.hash.to_vec())
        .bind(new.id)
        .bind(new.user)
        .bind(new.method.name())
        .bind(new.address)
        .bind(new.agent)
        .bind(now);
        tx.run(insert).await?;
        let after = serde_json::json!({"session": new.id, "method": new.method, "address": new.address});
        let after = Some(after.to_string());
        let audit = Audit { actor: new.user, action: "signed_in", target: new.user, before: None, after };
        tx.access_changed(audit).await?;
        tx.commit().await?;
        Ok(true)
    }

    /// Ends a session by the word of its user (`signed_out`) or of somebody else (`session_revoked`). `of` keeps to the
    /// sessions of one user.
    pub async fn end_session(&self, id: &str, of: Option<&str>, actor: &str) -> Result<(), Error> {
        let mut tx = self.begin().await?;
        let row = tx.one(sqlx::query("select user_name from sessions where id = $1").bind(id)).await?;
        let user: Option<String> = row.map(|row| row.try_get("user_name")).transpose()?;
        let Some(user) = user.filter(|user| of.is_none_or(|of| of == user)) else {
            return Err(Error::NotFound { what: "session", id: id.to_owned() });
        };
        tx.run(sqlx::query("delete from sessions where id = $1").bind(id)).await?;
        let action = if user == actor { "signed_out" } else { "session_revoked" };
        let before = Some(serde_json::json!({"session": id}).to_string());
        tx.access_changed(Audit { actor, action, target: &user, before, after: None }).await?;
        tx.commit().await.map(drop)
    }

    /// All sessions, newest first.
    pub async fn sessions(&self) -> Result<Vec<Session>, Error> {
        let rows = sqlx::query(
            "select s.hash, s.id, s.user_name, s.method, s.address, s.agent, s.created_at, s.last_used_at \
             from sessions s join users u on u.name = s.user_name where u.disabled_at is null \
             order by s.created_at desc, s.id",
        )
        .fetch_all(&self.inner.access)
        .await?;
        rows.iter().map(session).collect()
    }

    /// Notes that a session was used; written at most once a minute.
    pub async fn session_used(&self, hash: [u8; 32]) -> Result<(), Error> {
        let mut tx = self.begin().await?;
        let update =
            sqlx::query("update sessions set last_used_at = $1 where hash = $2 and last_used_at <= $3");
        let before = tx.now.0 - NOTED_EVERY.0;
        let noted = tx.run(update.bind(tx.now.0).bind(hash.to_vec()).bind(before)).await?;
        if noted > 0 {
            // So that who follows knows it too; nothing else changed, so the audit log has no entry.
            tx.run(sqlx::query("update access_version set version = version + 1 where id = 1")).await?;
        }
        tx.commit().await.map(drop)
    }

    /// Removes the sessions that nobody can use any more; how many.
    pub async fn remove_sessions(&self, idle_since: Micros, begun_before: Micros) -> Result<u64, Error> {
        let mut tx = self.begin().await?;
        let delete = sqlx::query("delete from sessions where last_used_at < $1 or created_at < $2");
        let removed = tx.run(delete.bind(idle_since.0).bind(begun_before.0)).await?;
        tx.commit().await?;
        Ok(removed)
    }
}

impl WriteTx {
    /// Ends all sessions of a user; how many.
    pub(crate) async fn end_sessions(&mut self, user: &str) -> Result<u64, Error> {
        self.run(sqlx::query("delete from sessions where user_name = $1").bind(user)).await
    }
}

fn session(row: &AnyRow) -> Result<Session, Error> {
    let id: String = row.try_get("id")?;
    let bad = |detail: &str| Error::BadValue { what: "session", id: id.clone(), detail: detail.to_owned() };
    let (hash, method): (Vec<u8>, String) = (row.try_get("hash")?, row.try_get("method")?);
    Ok(Session {
        hash: hash.try_into().map_err(|_| bad("its hash has another length"))?,
        user: row.try_get("user_name")?,
        method: Method::parse(&method).ok_or_else(|| bad("unknown method"))?,
        address: row.try_get("address")?,
        agent: row.try_get("agent")?,
        created_at: Micros(row.try_get("created_at")?),
        last_used_at: Micros(row.try_get("last_used_at")?),
        id,
    })
}
