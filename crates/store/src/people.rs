//! Users: names, roles, and what they prove themselves by.
//!
//! In: argon2id strings and authenticators' secrets. Out: [`User`]s. Invariants: a name is given once and never to a token
//! too, so that it says who did what; each change is in the audit log, but for secrets; these are written sealed; a change that takes
//! something from a user ends their sessions; no admin takes the last one away.

use sqlx::{Row, any::AnyRow};
use vedette_event::Micros;

use crate::{
    error::Error,
    model::{Admitted, ChangeKind, Identity, Proof, Role, Totp, User, UserChange},
    seal::Seal,
    store::Store,
    transaction::{Audit, SYSTEM, WriteTx},
};

/// Users at most: everybody is held in memory by who lets people in.
pub const MAX_USERS: i64 = 10_000;
/// Bytes of an authenticator's secret as earlier builds wrote it.
const IN_CLEAR: usize = 20;
const COLUMNS: &str = "select name, role, password, issuer, subject, totp_secret, totp_step, created_at, disabled_at, \
                       last_signed_in_at from users";

/// Refuses the name under which the audit log tells what nobody did, in whatever case it is written.
pub(crate) fn not_the_systems(name: &str) -> Result<(), Error> {
    if name.to_lowercase() == SYSTEM {
        return Err(Error::SystemsName { name: name.to_owned() });
    }
    Ok(())
}

impl Store {
    /// Refuses a name that a user or a token has, or that nobody may have, as [`Store::add_user`] does.
    pub async fn name_is_free(&self, name: &str) -> Result<(), Error> {
        self.begin().await?.name_is_free(name).await
    }

    /// Adds a user. The name is stored in small letters.
    pub async fn add_user(&self, name: &str, role: Role, proof: &Proof, actor: &str) -> Result<(), Error> {
        let name = &name.to_lowercase();
        let mut tx = self.begin().await?;
        tx.name_is_free(name).await?;
        let count = tx.one(sqlx::query("select count(*) as n from users")).await?;
        if count.map(|row| row.try_get::<i64, _>("n")).transpose()?.unwrap_or(0) >= MAX_USERS {
            return Err(Error::TooManyUsers { max: MAX_USERS });
        }
        let (password, identity) = match proof {
            Proof::Password { hash, .. } => (Some(hash.as_str()), None),
            Proof::Provider(identity) => (None, Some(identity)),
        };
        let insert = sqlx::query(
            "insert into users (name, role, password, issuer, subject, created_at) values ($1, $2, $3, $4, $5, $6)",
        )
        .bind(name)
        .bind(role.name())
        .bind(password)
        .bind(identity.map(|identity| identity.issuer.as_str()))
        .bind(identity.map(|identity| identity.subject.as_str()))
        .bind(tx.now.0);
        tx.run(insert).await?;
        let after = Some(serde_json::to_string(&role)?);
        tx.access_changed(Audit { actor, action: "user_added", target: name, before: None, after }).await?;
        tx.commit().await.map(drop)
    }

    /// Gives a user another role. True if it is another one.
    pub async fn set_user_role(&self, name: &str, role: Role, actor: &str) -> Result<bool, Error> {
        let mut tx = self.begin().await?;
        let user = tx.user(name).await?;
        let changed = tx.set_role(&user, role, actor).await?;
        tx.commit().await?;
        Ok(changed)
    }

    /// Keeps a user out, or lets them in again. Who is kept out has no sessions any more.
    pub async fn set_user_disabled(&self, name: &str, disabled: bool, actor: &str) -> Result<bool, Error> {
        let mut tx = self.begin().await?;
        let user = tx.user(name).await?;
        let changed = tx.set_disabled(&user, disabled, actor).await?;
        tx.commit().await?;
        Ok(changed)
    }

    /// What an admin does with a user. True if that changes something. Unlike the operator's command line, it takes the last
    /// admin from nobody, because those who are left could not give it back, and keeps to what a provider's claim says.
    ///
    /// # Errors
    /// [`Error::Clash`] where nobody would be left to manage people, or where the provider gives the role.
    pub async fn manage_user(&self, name: &str, change: UserChange, actor: &str) -> Result<bool, Error> {
        let mut tx = self.begin().await?;
        let user = tx.user(name).await?;
        let stays = match change {
            UserChange::Role(role) => role == Role::Admin,
            UserChange::Disabled(disabled) => !disabled,
            UserChange::SignedOut => true,
        };
        if user.is_admitted_admin() && !stays && !tx.has_another_admin(&user.name).await? {
            let detail =
                format!("{} is the last admin who may sign in. Make somebody else one first.", user.name);
            return Err(Error::Clash { detail });
        }
        let changed = match change {
            UserChange::Role(_) if matches!(user.proof, Proof::Provider(_)) => {
                let detail = format!("{} gets the role from the provider at each sign-in.", user.name);
                return Err(Error::Clash { detail });
            }
            UserChange::Role(role) => tx.set_role(&user, role, actor).await?,
            UserChange::Disabled(disabled) => tx.set_disabled(&user, disabled, actor).await?,
            UserChange::SignedOut => tx.sign_out(&user, actor).await?,
        };
        tx.commit().await?;
        Ok(changed)
    }

    /// Gives a user another password, which ends their sessions.
    pub async fn set_password(&self, name: &str, hash: &str, actor: &str) -> Result<(), Error> {
        let mut tx = self.begin().await?;
        let user = tx.local_user(name).await?;
        let update = sqlx::query("update users set password = $1 where name = $2");
        tx.run(update.bind(hash).bind(&user.name)).await?;
        tx.end_sessions(&user.name).await?;
        let audit = Audit { actor, action: "user_password", target: &user.name, before: None, after: None };
        tx.access_changed(audit).await?;
        tx.commit().await.map(drop)
    }

    /// Seals authenticators' secrets that an earlier build wrote in clear.
    pub(crate) async fn seal_secrets(&self) -> Result<(), Error> {
        let clear = sqlx::query("select name, totp_secret from users where length(totp_secret) = $1");
        let clear = clear.bind(IN_CLEAR as i64).fetch_all(&self.inner.access).await?;
        if clear.is_empty() {
            return Ok(());
        }
        let mut tx = self.begin().await?;
        for row in &clear {
            let (name, secret): (String, Vec<u8>) = (row.try_get("name")?, row.try_get("totp_secret")?);
            let sealed = self.inner.seal.seal(&name, &secret)?;
            let update =
                sqlx::query("update users set totp_secret = $1 where name = $2 and totp_secret = $3");
            tx.run(update.bind(sealed).bind(name).bind(secret)).await?;
        }
        tx.commit().await?;
        tracing::info!(users = clear.len(), "authenticators' secrets are sealed now");
        Ok(())
    }

    /// Gives a user an authenticator, or takes it away. `step` is that of the code with which they showed that they have it.
    pub async fn set_totp(&self, name: &str, totp: Option<&Totp>, actor: &str) -> Result<(), Error> {
        let mut tx = self.begin().await?;
        let user = tx.local_user(name).await?;
        let sealed = totp.map(|totp| self.inner.seal.seal(&user.name, &totp.secret)).transpose()?;
        let update = sqlx::query("update users set totp_secret = $1, totp_step = $2 where name = $3")
            .bind(sealed)
            .bind(totp.map_or(0, |totp| totp.step))
            .bind(&user.name);
        tx.run(update).await?;
        let action = if totp.is_some() { "user_authenticator" } else { "user_authenticator_removed" };
        tx.access_changed(Audit { actor, action, target: &user.name, before: None, after: None }).await?;
        tx.commit().await.map(drop)
    }

    /// A user by name, in whatever case it is written.
    pub async fn user(&self, name: &str) -> Result<Option<User>, Error> {
        let query = format!("{COLUMNS} where name = $1");
        let row = sqlx::query(sqlx::AssertSqlSafe(query))
            .bind(name.to_lowercase())
            .fetch_optional(&self.inner.access)
            .await?;
        row.as_ref().map(|row| user(row, &self.inner.seal)).transpose()
    }

    /// The user whom an identity provider vouches for.
    pub async fn user_of(&self, identity: &Identity) -> Result<Option<User>, Error> {
        let query = format!("{COLUMNS} where issuer = $1 and subject = $2");
        let row = sqlx::query(sqlx::AssertSqlSafe(query))
            .bind(&identity.issuer)
            .bind(&identity.subject)
            .fetch_optional(&self.inner.access)
            .await?;
        row.as_ref().map(|row| user(row, &self.inner.seal)).transpose()
    }

    /// All users, by name.
    pub async fn users(&self) -> Result<Vec<User>, Error> {
        let query = format!("{COLUMNS} order by name");
        let rows = sqlx::query(sqlx::AssertSqlSafe(query)).fetch_all(&self.inner.access).await?;
        rows.iter().map(|row| user(row, &self.inner.seal)).collect()
    }

    /// Which moment of [`Admitted`] it is.
    pub async fn access_version(&self) -> Result<i64, Error> {
        let row = sqlx::query("select version from access_version where id = 1");
        Ok(row.fetch_one(&self.inner.access).await?.try_get("version")?)
    }

    /// Everybody who may come in, over a connection that nothing else uses: access never waits for a search.
    pub async fn admitted(&self) -> Result<Admitted, Error> {
        // Before the rest: what changes meanwhile is read again.
        let version = self.access_version().await?;
        let (tokens, users) = (self.tokens_in_force().await?, self.users().await?);
        Ok(Admitted { version, tokens, users, sessions: self.sessions().await? })
    }

    /// Notes in the audit log that somebody did not get in. For names that are there only: what else was typed may be a
    /// password.
    pub async fn sign_in_refused(&self, name: &str, why: &str, address: &str) -> Result<(), Error> {
        let mut tx = self.begin().await?;
        let seq = tx.change(ChangeKind::Admin, name);
        let after = Some(serde_json::to_string(&serde_json::json!({"why": why, "address": address}))?);
        let audit = Audit { actor: name, action: "sign_in_refused", target: name, before: None, after };
        tx.audit(seq, audit).await?;
        tx.commit().await.map(drop)
    }
}

impl WriteTx {
    /// Writes to the audit log that somebody's access changed, and has those who follow it read again.
    pub(crate) async fn access_changed(&mut self, audit: Audit<'_>) -> Result<(), Error> {
        let seq = self.change(ChangeKind::Admin, audit.target);
        self.audit(seq, audit).await?;
        self.run(sqlx::query("update access_version set version = version + 1 where id = 1")).await.map(drop)
    }

    /// An error if a user or a token in force has this name.
    pub(crate) async fn name_is_free(&mut self, name: &str) -> Result<(), Error> {
        not_the_systems(name)?;
        let token = sqlx::query("select 1 from tokens where lower(name) = $1 and revoked_at is null");
        if self.one(token.bind(name.to_lowercase())).await?.is_some() {
            return Err(Error::TokenExists { name: name.to_owned() });
        }
        let user = sqlx::query("select 1 from users where name = $1");
        if self.one(user.bind(name.to_lowercase())).await?.is_some() {
            return Err(Error::UserExists { name: name.to_owned() });
        }
        Ok(())
    }

    async fn set_role(&mut self, user: &User, role: Role, actor: &str) -> Result<bool, Error> {
        if user.role == role {
            return Ok(false);
        }
        let update = sqlx::query("update users set role = $1 where name = $2");
        self.run(update.bind(role.name()).bind(&user.name)).await?;
        let (before, after) = (Some(serde_json::to_string(&user.role)?), Some(serde_json::to_string(&role)?));
        self.access_changed(Audit { actor, action: "user_role", target: &user.name, before, after }).await?;
        Ok(true)
    }

    async fn set_disabled(&mut self, user: &User, disabled: bool, actor: &str) -> Result<bool, Error> {
        if user.disabled_at.is_some() == disabled {
            return Ok(false);
        }
        let at = disabled.then_some(self.now.0);
        let update = sqlx::query("update users set disabled_at = $1 where name = $2");
        self.run(update.bind(at).bind(&user.name)).await?;
        if disabled {
            self.end_sessions(&user.name).await?;
        }
        let action = if disabled { "user_disabled" } else { "user_enabled" };
        self.access_changed(Audit { actor, action, target: &user.name, before: None, after: None }).await?;
        Ok(true)
    }

    /// Ends all sessions of a user, and says so in the audit log.
    async fn sign_out(&mut self, user: &User, actor: &str) -> Result<bool, Error> {
        let ended = self.end_sessions(&user.name).await?;
        if ended > 0 {
            let before = Some(serde_json::json!({"sessions": ended}).to_string());
            let audit = Audit { actor, action: "sessions_revoked", target: &user.name, before, after: None };
            self.access_changed(audit).await?;
        }
        Ok(ended > 0)
    }

    /// True if somebody else may sign in and manage people.
    async fn has_another_admin(&mut self, name: &str) -> Result<bool, Error> {
        let other =
            sqlx::query("select 1 from users where role = $1 and disabled_at is null and name <> $2 limit 1");
        Ok(self.one(other.bind(Role::Admin.name()).bind(name)).await?.is_some())
    }

    pub(crate) async fn user(&mut self, name: &str) -> Result<User, Error> {
        let query = format!("{COLUMNS} where name = $1");
        let row = self.one(sqlx::query(sqlx::AssertSqlSafe(query)).bind(name.to_lowercase())).await?;
        row.as_ref()
            .map(|row| user(row, self.seal()))
            .transpose()?
            .ok_or(Error::NotFound { what: "user", id: name.to_owned() })
    }

    /// A user who has a password.
    async fn local_user(&mut self, name: &str) -> Result<User, Error> {
        let user = self.user(name).await?;
        match user.proof {
            Proof::Password { .. } => Ok(user),
            Proof::Provider(_) => Err(Error::NotLocal { name: user.name }),
        }
    }
}

/// An authenticator as the database holds it. Where its secret does not open no code is right, rather than none asked for.
fn opened(seal: &Seal, name: &str, held: Vec<u8>, step: i64) -> Result<Totp, Error> {
    if held.len() == IN_CLEAR {
        return Ok(Totp { secret: held, step });
    }
    if let Some(secret) = seal.open(name, &held)? {
        return Ok(Totp { secret, step });
    }
    tracing::error!(user = name, "the authenticator's secret does not open with this folder's vedette.key");
    Ok(Totp { secret: Vec::new(), step: i64::MAX })
}

fn user(row: &AnyRow, seal: &Seal) -> Result<User, Error> {
    let name: String = row.try_get("name")?;
    let bad = |detail: &str| Error::BadValue { what: "user", id: name.clone(), detail: detail.to_owned() };
    let role: String = row.try_get("role")?;
    let password: Option<String> = row.try_get("password")?;
    let (issuer, subject): (Option<String>, Option<String>) =
        (row.try_get("issuer")?, row.try_get("subject")?);
    let proof = match (password, issuer, subject) {
        (Some(hash), None, None) => {
            let held: Option<Vec<u8>> = row.try_get("totp_secret")?;
            let step = row.try_get("totp_step")?;
            let totp = held.map(|held| opened(seal, &name, held, step)).transpose()?;
            Proof::Password { hash, totp }
        }
        (None, Some(issuer), Some(subject)) => Proof::Provider(Identity { issuer, subject }),
        _ => return Err(bad("neither a password nor a provider")),
    };
    let time = |column: &str| Ok::<_, Error>(row.try_get::<Option<i64>, _>(column)?.map(Micros));
    Ok(User {
        role: Role::parse(&role).ok_or_else(|| bad("unknown role"))?,
        proof,
        created_at: Micros(row.try_get("created_at")?),
        disabled_at: time("disabled_at")?,
        last_signed_in_at: time("last_signed_in_at")?,
        name,
    })
}
