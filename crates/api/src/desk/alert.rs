//! One alert or notice: its row, and with everything that is known of it.
//!
//! In: an id. Out: the row, the contents of its evidence, its revisions. Invariant: a covered notice is its alert.

use vedette_event::alert::references;
use vedette_store::model::AlertRow;

use crate::{
    app::App,
    problem::{Kind, Problem, short},
    wire::{AlertDocument, contents},
};

/// An alert or notice with everything.
pub(crate) async fn full(app: &App, id: &str) -> Result<AlertDocument, Problem> {
    let row = row(app, id).await?;
    let stored = app.store.evidence(&row.id).await?;
    let revisions = app.store.revisions(&row.id).await?;
    let mut document = AlertDocument::of(row);
    document.envelope.events = Some(contents(&references(&document.row.body), stored));
    document.envelope.revisions = Some(revisions.into_iter().map(Into::into).collect());
    Ok(document)
}

/// The row of an alert or notice; for a covered notice, that of its alert.
pub(crate) async fn row(app: &App, id: &str) -> Result<AlertRow, Problem> {
    let found = app.store.alert(id).await?;
    found.ok_or_else(|| Problem::new(Kind::NotFound, format!("There is no alert `{}`.", short(id))))
}
