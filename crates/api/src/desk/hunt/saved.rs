//! Hunts that people keep by name.
//!
//! In: a name, a text, how far back it looks. Out: one's own kept hunts and those that others share. Invariant: keeping one asks nothing;
//! a text that cannot be answered says so when it is asked.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use vedette_event::{Micros, Span};
use vedette_store::model::{Key, Made, NewSavedHunt, Once, Role, SavedHunt};

use super::MAX_SQL;
use crate::{
    app::App,
    auth::Caller,
    problem::{Kind, Problem, short},
    shape,
};

/// Characters of a name.
const MAX_NAME: usize = 60;

/// A kept hunt.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct SavedHuntDocument {
    /// Its number.
    pub saved_hunt_id: i64,
    /// Whose.
    pub owner: String,
    /// Its name.
    pub name: String,
    /// What it asks.
    pub sql: String,
    /// How far back it looks, as `24h`; null: as far as there is something.
    #[schema(required = true)]
    pub span: Option<String>,
    /// Shown to everybody who may hunt.
    pub shared: bool,
    /// Since when.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Micros,
}

impl From<SavedHunt> for SavedHuntDocument {
    fn from(saved: SavedHunt) -> Self {
        let SavedHunt { id, owner, hunt: NewSavedHunt { name, sql, span, shared }, created_at } = saved;
        Self { saved_hunt_id: id, owner, name, sql, span, shared, created_at }
    }
}

/// Kept hunts.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SavedHuntList {
    /// One's own and those that others share, by name.
    pub items: Vec<SavedHuntDocument>,
}

/// A hunt to be kept.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SavedHuntBody {
    /// Its name: 1 to 60 characters.
    #[schema(value_type = shape::ViewName)]
    pub name: String,
    /// What it asks, at most 65,536 bytes.
    #[schema(value_type = shape::HuntText)]
    pub sql: String,
    /// How far back it looks: a whole number and `s`, `m`, `h`, `d` or `w`, as `24h`. Default: as far as there is something.
    #[schema(value_type = Option<shape::Length>)]
    #[serde(default)]
    pub span: Option<String>,
    /// Shown to everybody who may hunt.
    #[serde(default)]
    pub shared: bool,
}

/// Keeps a hunt.
pub(crate) async fn save(
    app: &App,
    body: SavedHuntBody,
    key: Option<Key>,
    caller: &Caller,
) -> Result<Made<SavedHuntDocument>, Problem> {
    let invalid = |detail: String| Problem::new(Kind::InvalidBody, detail);
    let name = body.name.trim().to_owned();
    if name.is_empty() || name.chars().count() > MAX_NAME || name.chars().any(char::is_control) {
        return Err(invalid(format!("`name` must be 1 to {MAX_NAME} characters on one line.")));
    }
    if body.sql.trim().is_empty() || body.sql.len() > MAX_SQL {
        return Err(invalid(format!("`sql` must be 1 to {MAX_SQL} bytes.")));
    }
    let span = body.span.filter(|span| !span.is_empty());
    if span.as_deref().is_some_and(|span| Span::parse(span).is_none_or(|span| span.0 <= 0)) {
        return Err(invalid(
            "`span` must be a whole number and `s`, `m`, `h`, `d` or `w`, as `24h`.".to_owned(),
        ));
    }
    let answer = |saved: &SavedHunt| serde_json::to_string(&SavedHuntDocument::from(saved.clone()));
    let once = key.map(|key| Once { key, answer });
    let new = NewSavedHunt { name, sql: body.sql, span, shared: body.shared };
    Ok(match app.store.save_hunt(&new, &caller.name, once.as_ref()).await? {
        Made::New(saved) => Made::New(saved.into()),
        Made::Again(answer) => Made::Again(answer),
    })
}

/// One's own kept hunts and those that others share.
pub(crate) async fn list(app: &App, caller: &Caller) -> Result<SavedHuntList, Problem> {
    let items = app.store.saved_hunts(&caller.name).await?.into_iter().map(Into::into).collect();
    Ok(SavedHuntList { items })
}

/// Removes a kept hunt of one's own; admins remove shared ones of anybody.
pub(crate) async fn remove(app: &App, id: &str, caller: &Caller) -> Result<(), Problem> {
    let none = || Problem::new(Kind::NotFound, format!("There is no saved hunt `{}`.", short(id)));
    let number = id.parse().map_err(|_| none())?;
    Ok(app.store.remove_saved_hunt(number, &caller.name, caller.role >= Role::Admin).await?)
}
