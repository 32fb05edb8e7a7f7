//! All that is known of one alert beside itself: who it is about, what was said of that before, what it rests on.
//!
//! In: an id. Out: a [`Dossier`]. Invariants: every part has a bound; nothing here knows what it looks like.

use std::collections::BTreeMap;

use serde_json::Value;
use vedette_event::{Micros, Span};
use vedette_store::{
    Then, Verdicts,
    model::{
        AlertRow, Covered, Disposition, EarlierVerdict, EntityRef, Filter, ListQuery, Page, Sort, Status,
    },
};

use super::{
    alert,
    history::HistoryEntry,
    past::{self, Past},
};
use crate::{app::App, problem::Problem, wire::AlertDocument};

/// Open rows of an entity that are listed.
const OPEN: u32 = 6;
/// How far back verdicts are counted.
pub(crate) const VERDICTS: Span = Span::secs(30 * 86_400);

/// How an entity stands.
#[derive(Default)]
pub(crate) struct Standing {
    /// Its other rows that are not closed, the worst first.
    pub open: Vec<AlertRow>,
    /// Whether there are more than these.
    pub more: bool,
    /// As what its rows were closed in the last thirty days.
    pub verdicts: BTreeMap<Disposition, u64>,
}

/// An alert with all that is known of it.
pub(crate) struct Dossier {
    pub document: AlertDocument,
    pub history: Vec<HistoryEntry>,
    /// None where the alert is about nobody in particular.
    pub standing: Option<Standing>,
    /// Verdicts on earlier alerts of its rule about its entity, the newest first.
    pub earlier: Vec<EarlierVerdict>,
    /// How all of these turned out, as the queue counts it.
    pub verdicts: Option<Verdicts>,
    /// The notices it covers.
    pub covered: Vec<Covered>,
}

/// An alert or notice as it was, with what was known of it then.
pub(crate) async fn at(app: &App, id: &str, seq: i64) -> Result<(Dossier, bool), Problem> {
    let Past { document, exact } = past::full(app, id, seq).await?;
    let history = past::history(app, &document.row.id, seq).await?;
    let mut covered = app.store.covered(&document.row.id).await?;
    covered.retain(|notice| document.row.covers.contains(&notice.id));
    let row = &document.row;
    let (standing, earlier, verdicts) = match &row.entity {
        None => (None, Vec::new(), None),
        Some(entity) => {
            let mut then = app.store.then_of(seq, entity).await?;
            let page = then.list(&open_of(entity)).await?;
            let since = verdicts_since(&mut then).await?;
            let standing = Standing::of(page, &row.id, then.entity_verdicts(entity, since).await?);
            let earlier = then.earlier_verdicts((&row.rule_id, entity), &row.id).await?;
            (Some(standing), earlier, then.verdicts(&[(&row.rule_id, entity)]).await?.pop())
        }
    };
    Ok((Dossier { document, history, standing, earlier, verdicts, covered }, exact))
}

/// From when on verdicts are counted of the past: thirty days before the minute of then.
pub(crate) async fn verdicts_since(then: &mut Then) -> Result<Micros, Problem> {
    Ok(then.time().await?.map_or(Micros::MIN, |time| time.minus(VERDICTS)))
}

/// Everything about one alert or notice.
pub(crate) async fn of(app: &App, id: &str, now: Micros) -> Result<Dossier, Problem> {
    let document = alert::full(app, id).await?;
    let row = &document.row;
    let history = app.store.history(&row.id).await?.into_iter().map(Into::into).collect();
    let covered = app.store.covered(&row.id).await?;
    let (standing, earlier, verdicts) = match &row.entity {
        None => (None, Vec::new(), None),
        Some(entity) => {
            let standing = standing(app, entity, &row.id, now).await?;
            let earlier = app.store.earlier_verdicts((&row.rule_id, entity), &row.id, now).await?;
            let verdicts = app.store.verdicts(&[(&row.rule_id, entity)], None).await?.pop();
            (Some(standing), earlier, verdicts)
        }
    };
    Ok(Dossier { document, history, standing, earlier, verdicts, covered })
}

async fn standing(app: &App, entity: &EntityRef, but: &str, now: Micros) -> Result<Standing, Problem> {
    let page = app.store.list(&open_of(entity)).await?;
    let verdicts = app.store.entity_verdicts(entity, (now.minus(VERDICTS), now)).await?;
    Ok(Standing::of(page, but, verdicts))
}

/// What is open about an entity, the worst first.
fn open_of(entity: &EntityRef) -> ListQuery {
    let open = [Status::New, Status::Acknowledged, Status::InProgress];
    let filter = Filter {
        status: open.into(),
        entity_type: Some(entity.kind.clone()),
        entity: Some(entity.value.clone()),
        ..Filter::default()
    };
    let sort = Sort::parse("-severity").unwrap_or_default();
    ListQuery { filter, sort, limit: OPEN + 1, cursor: None }
}

impl Standing {
    fn of(page: Page<AlertRow>, but: &str, verdicts: BTreeMap<Disposition, u64>) -> Self {
        let mut open: Vec<AlertRow> = page.items.into_iter().filter(|row| row.id != but).collect();
        let more = page.next_cursor.is_some() || open.len() > OPEN as usize;
        open.truncate(OPEN as usize);
        Self { open, more, verdicts }
    }
}

/// The name under which an event's content has the record as it came.
pub(crate) const RECORD: &str = "event.original";

/// Leaves the records as they came out of a document: the fields stay. Of an event that is nothing but text, that is all.
pub(crate) fn without_records(document: &mut AlertDocument) {
    for event in document.envelope.events.iter_mut().flatten() {
        match &mut event.content {
            Some(Value::Object(members)) => {
                members.remove(RECORD);
            }
            content => *content = None,
        }
    }
}
