//! Hunts that people keep by name.

use vedette_event::Micros;

/// A hunt to be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewSavedHunt {
    /// Its name.
    pub name: String,
    /// What it asks.
    pub sql: String,
    /// How far back it looks, as `24h`; as far as there is something without.
    pub span: Option<String>,
    /// Shown to everybody who may hunt.
    pub shared: bool,
}

/// A kept hunt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedHunt {
    /// Its number.
    pub id: i64,
    /// Whose.
    pub owner: String,
    /// What it is.
    pub hunt: NewSavedHunt,
    /// Since when.
    pub created_at: Micros,
}
