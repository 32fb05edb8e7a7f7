//! Looking at the past: which place in commit order somebody means, and what was there.
//!
//! In: a `seq`, or a time. Out: a place in commit order; documents as they were. Invariants: what is shown of the past can be looked at
//! only; a place that is still to come is refused; where a course is not kept any more, the document says so.

use serde::Deserialize;
use utoipa::IntoParams;
use vedette_event::{Micros, alert::references};

use super::history::HistoryEntry;
use crate::{
    app::App,
    problem::{Kind, Problem, short},
    shape,
    wire::{AlertDocument, ContentState, contents},
};

/// At which place in commit order.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct AsOfParams {
    /// As it was at this `seq`, or at this time (RFC 3339, to the minute).
    #[param(inline, value_type = Option<shape::Place>)]
    pub as_of: Option<String>,
}

impl AsOfParams {
    /// The `seq` that is meant; none where nothing is said, which means now.
    pub async fn seq(&self, app: &App) -> Result<Option<i64>, Problem> {
        match self.as_of.as_deref() {
            None => Ok(None),
            Some(as_of) => seq(app, as_of).await.map(Some),
        }
    }
}

/// The `seq` that is meant by `as_of`: a number, or a time, to the minute.
pub(crate) async fn seq(app: &App, as_of: &str) -> Result<i64, Problem> {
    let newest = app.store.newest_seq().await?;
    let invalid = |detail: String| Problem::new(Kind::InvalidParameter, detail);
    if let Ok(seq) = as_of.parse::<i64>() {
        if (0..=newest).contains(&seq) {
            return Ok(seq);
        }
        return Err(invalid(format!("`as_of={seq}` is no place in commit order; the newest is {newest}.")));
    }
    let time = Micros::parse_rfc3339(as_of).ok_or_else(|| {
        invalid(format!("`as_of={}` is neither a `seq` nor an RFC 3339 time.", short(as_of)))
    })?;
    let found = app.store.seq_at(time).await?;
    found.ok_or_else(|| invalid("Nothing is known of that time.".to_owned()))
}

/// A document as it was, and whether that is exact.
pub(crate) struct Past {
    pub document: AlertDocument,
    pub exact: bool,
}

/// An alert or notice with everything, as it was. Of events to which only the body of then refers, the contents are not kept.
pub(crate) async fn full(app: &App, id: &str, seq: i64) -> Result<Past, Problem> {
    let found = app.store.alert_at(id, seq).await?;
    let past = found.ok_or_else(|| {
        Problem::new(Kind::NotFound, format!("There was no alert `{}` at {seq}.", short(id)))
    })?;
    let stored = app.store.evidence(&past.row.id).await?;
    let revisions = app.store.revisions(&past.row.id).await?;
    let newest = app.store.alert(id).await?.map(|row| references(&row.body)).unwrap_or_default();
    let mut document = AlertDocument::of(past.row);
    let referred = references(&document.row.body);
    let mut events = contents(&referred, stored);
    for (event, reference) in events.iter_mut().zip(&referred) {
        // Nobody fetches what only a revision of then refers to.
        if event.state == ContentState::Pending && !newest.contains(reference) {
            event.state = ContentState::Left;
        }
    }
    document.envelope.events = Some(events);
    let newest = document.row.revision;
    let revisions = revisions.into_iter().filter(|revision| revision.revision <= newest);
    document.envelope.revisions = Some(revisions.map(Into::into).collect());
    Ok(Past { document, exact: past.exact })
}

/// What had been done to an alert by then.
pub(crate) async fn history(app: &App, id: &str, seq: i64) -> Result<Vec<HistoryEntry>, Problem> {
    let entries = app.store.history(id).await?;
    Ok(entries.into_iter().filter(|entry| entry.seq <= seq).map(Into::into).collect())
}
