//! Who may come in: tokens of programs, users, and the sessions of those who signed in.
//!
//! Invariants: none of these holds a secret that lets somebody in but for [`Totp`]; `Debug` shows neither that nor a
//! password's hash.

use std::fmt;

use serde::{Deserialize, Serialize};
use vedette_event::Micros;

use super::Role;

/// An API token. The token itself is never stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Its name; unique among tokens in force.
    pub name: String,
    /// What it allows.
    pub role: Role,
    /// SHA-256 of the token.
    pub hash: [u8; 32],
    /// When it was made.
    pub created_at: Micros,
    /// When it was revoked.
    pub revoked_at: Option<Micros>,
    /// When it was last used, to the minute.
    pub last_used_at: Option<Micros>,
}

/// A person.
#[derive(Clone, PartialEq, Eq)]
pub struct User {
    /// The name, in small letters; never given twice.
    pub name: String,
    /// What they may do.
    pub role: Role,
    /// How they prove who they are.
    pub proof: Proof,
    /// When they were added.
    pub created_at: Micros,
    /// Since when they may not come in.
    pub disabled_at: Option<Micros>,
    /// When they last signed in.
    pub last_signed_in_at: Option<Micros>,
}

impl User {
    /// True if they may sign in and manage people.
    #[must_use]
    pub fn is_admitted_admin(&self) -> bool {
        self.role == Role::Admin && self.disabled_at.is_none()
    }
}

/// What an admin does with a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UserChange {
    /// Gives them this role.
    Role(Role),
    /// Keeps them out, or lets them in again.
    Disabled(bool),
    /// Ends all their sessions.
    SignedOut,
}

/// How a person proves who they are.
#[derive(Clone, PartialEq, Eq)]
pub enum Proof {
    /// By a password, and by a code of their authenticator if they have one.
    Password {
        /// The argon2id string.
        hash: String,
        /// The authenticator.
        totp: Option<Totp>,
    },
    /// By the word of an identity provider.
    Provider(Identity),
}

/// What an authenticator is known by.
#[derive(Clone, PartialEq, Eq)]
pub struct Totp {
    /// The secret that both hold.
    pub secret: Vec<u8>,
    /// The newest time step whose code was taken.
    pub step: i64,
}

/// Whom an identity provider vouches for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The provider.
    pub issuer: String,
    /// Its name for the person, which never changes.
    pub subject: String,
}

impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("User").field("name", &self.name).field("role", &self.role).finish_non_exhaustive()
    }
}

/// How somebody signed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// With a password.
    Password,
    /// With a password and a code.
    PasswordAndCode,
    /// At an identity provider.
    Provider,
}
names!(Method { Password = "password", PasswordAndCode = "password_and_code", Provider = "provider" });

/// Somebody who signed in. The session's secret is never stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// SHA-256 of the secret.
    pub hash: [u8; 32],
    /// Names it in lists.
    pub id: String,
    /// Whose it is.
    pub user: String,
    /// How they signed in.
    pub method: Method,
    /// From where.
    pub address: String,
    /// With which browser, as it calls itself.
    pub agent: String,
    /// When.
    pub created_at: Micros,
    /// When it was last used, to the minute.
    pub last_used_at: Micros,
}

/// Everybody who may come in at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Admitted {
    /// Which moment: rises with each change.
    pub version: i64,
    /// The tokens in force.
    pub tokens: Vec<Token>,
    /// The users, disabled ones too.
    pub users: Vec<User>,
    /// The sessions of those who are not disabled.
    pub sessions: Vec<Session>,
}
