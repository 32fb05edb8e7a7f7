//! Saved views: the queue's filters by name.
//!
//! In: a name and the queue's query string. Out: one's own views and those that others share. Invariant: a view only ever leads to
//! the queue, and never to a queue that would refuse it: what the page would not show is not saved.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use vedette_event::Micros;
use vedette_store::model::{Key, ListQuery, Made, NewView, Once, Role, View};

use super::queue::{Asked, QueueParams};
use crate::{
    app::App,
    auth::Caller,
    problem::{Kind, Problem, short},
    shape,
};

/// Characters of a name.
const MAX_NAME: usize = 60;
/// Bytes of a query string.
const MAX_QUERY: usize = 2_000;

/// A saved view.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct ViewDocument {
    /// Its number.
    pub view_id: i64,
    /// Whose.
    pub owner: String,
    /// Its name.
    pub name: String,
    /// The queue's query string, without `?`.
    pub query: String,
    /// Shown to everybody.
    pub shared: bool,
    /// Since when.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Micros,
}

impl From<View> for ViewDocument {
    fn from(view: View) -> Self {
        let View { id, owner, name, query, shared, created_at } = view;
        Self { view_id: id, owner, name, query, shared, created_at }
    }
}

/// Saved views.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ViewList {
    /// One's own and those that others share, by name.
    pub items: Vec<ViewDocument>,
}

/// A view to be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ViewBody {
    /// Its name: 1 to 60 characters.
    #[schema(value_type = shape::ViewName)]
    pub name: String,
    /// The queue's query string, as in `severity=high&rule=bot-stuffing`: at most 2,000 bytes.
    #[schema(max_length = 2000)]
    pub query: String,
    /// Shown to everybody.
    #[serde(default)]
    pub shared: bool,
}

/// A view's query written anew, so that whatever was given is names and values and nothing else; a place in a list, and what was done
/// on the way there, are no part of a view.
pub(crate) fn written(query: &str) -> String {
    let pairs = form_urlencoded::parse(query.trim().trim_start_matches('?').as_bytes());
    let pairs = pairs.filter(|(name, _)| !matches!(&**name, "cursor" | "did"));
    form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
}

/// Saves a view; `queue` is what its query, as it is [`written`], asks the queue for.
pub(crate) async fn save(
    app: &App,
    body: ViewBody,
    queue: &QueueParams,
    key: Option<Key>,
    caller: &Caller,
) -> Result<Made<ViewDocument>, Problem> {
    let name = body.name.trim().to_owned();
    if name.is_empty() || name.chars().count() > MAX_NAME || name.chars().any(char::is_control) {
        let detail = format!("`name` must be 1 to {MAX_NAME} characters on one line.");
        return Err(Problem::new(Kind::InvalidBody, detail));
    }
    if body.query.len() > MAX_QUERY {
        let detail = format!("`query` must be at most {MAX_QUERY} bytes.");
        return Err(Problem::new(Kind::InvalidBody, detail));
    }
    let Asked { query: rows, .. } = queue.asked(app).await?;
    // What only the store refuses.
    app.store.list(&ListQuery { limit: 1, cursor: None, ..rows }).await?;
    let query = written(&body.query);
    let answer = |view: &View| serde_json::to_string(&ViewDocument::from(view.clone()));
    let once = key.map(|key| Once { key, answer });
    let new = NewView { name, query, shared: body.shared };
    match app.store.save_view(&new, &caller.name, once.as_ref()).await? {
        Made::New(view) => Ok(Made::New(view.into())),
        Made::Again(answer) => Ok(Made::Again(answer)),
    }
}

/// One's own views and those that others share.
pub(crate) async fn list(app: &App, caller: &Caller) -> Result<ViewList, Problem> {
    let items = app.store.views(&caller.name).await?.into_iter().map(Into::into).collect();
    Ok(ViewList { items })
}

/// Removes a view of one's own; admins remove shared ones of anybody.
pub(crate) async fn remove(app: &App, id: &str, caller: &Caller) -> Result<(), Problem> {
    let number =
        id.parse().map_err(|_| Problem::new(Kind::NotFound, format!("There is no view `{}`.", short(id))))?;
    Ok(app.store.remove_view(number, &caller.name, caller.role >= Role::Admin).await?)
}
