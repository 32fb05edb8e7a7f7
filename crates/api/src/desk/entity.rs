//! All that concerns one address, user, key or host: its alerts over time, who else is in them, what became of them.
//!
//! In: a type (a field's name) and a value. Out: an [`EntityDocument`]. Invariants: an address is the same one whichever field
//! names it; what is counted over a part says over which; a page goes on exactly where the one before ended.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use vedette_event::Micros;
use vedette_store::{
    MAX_PAGE,
    model::{AlertRow, ConcernRole, Disposition, EntityRef, Neighbour},
};

use super::{
    dossier::{VERDICTS, verdicts_since},
    list::page_size,
    past::AsOfParams,
};
use crate::{
    app::App,
    problem::{Kind, Problem},
    shape,
    wire::{AlertDocument, AlertOrNotice},
};

/// Open rows that come first on the first page.
const OPEN: u32 = 50;
/// Rows of a page of the past, each of which is made by itself.
const PAST: u32 = 50;

/// From where, how many.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct EntityParams {
    /// At most so many: 1 to 500. Default: 50.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 500)]
    pub limit: Option<String>,
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
    /// As it was at this `seq`, or at this time (RFC 3339, to the minute); 50 alerts a page at most.
    #[param(inline, value_type = Option<shape::Place>)]
    pub as_of: Option<String>,
}

/// What part an entity plays in an alert.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[allow(dead_code, reason = "only its schema is used")]
pub(crate) enum RoleName {
    /// The alert is about it.
    Entity,
    /// It is a part of the key.
    Key,
    /// It is a part of the key of an episode below.
    Child,
    /// An event of the evidence names it.
    Evidence,
}

/// An entity, by the field that names it and its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct EntityName {
    /// The field's name.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its value as text.
    pub value: String,
}

/// Another entity in the same alerts.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct NeighbourCount {
    #[serde(flatten)]
    pub entity: EntityName,
    /// In how many of the alerts that were looked at.
    pub alerts: u64,
}

/// An alert that concerns an entity.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EntityAlert {
    /// What part the entity plays in it.
    #[schema(value_type = RoleName)]
    pub role: ConcernRole,
    /// The alert or notice, as in a list.
    #[schema(value_type = AlertOrNotice)]
    pub alert: AlertDocument,
}

/// All that concerns an entity.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EntityDocument {
    #[serde(flatten)]
    pub entity: EntityName,
    /// The newest alerts that concern it and are not closed; on the first page, 50 at most.
    #[schema(value_type = Vec<AlertOrNotice>)]
    pub open: Vec<AlertDocument>,
    /// As what alerts about it were closed in the last thirty days.
    #[schema(value_type = BTreeMap<String, u64>)]
    pub verdicts: BTreeMap<Disposition, u64>,
    /// Others in the same alerts, those in the most first; on the first page, 30 at most.
    pub neighbours: Vec<NeighbourCount>,
    /// In how many of its newest alerts neighbours were looked for: 500 at most.
    pub neighbours_of: u64,
    /// Everything that concerns it, the newest first.
    pub items: Vec<EntityAlert>,
    /// Where the next page starts; null on the last.
    #[schema(required = true)]
    pub next_cursor: Option<String>,
}

/// All that concerns an entity, from a cursor on.
pub(crate) async fn of(
    app: &App,
    (kind, value): (String, String),
    params: &EntityParams,
    now: Micros,
) -> Result<EntityDocument, Problem> {
    let entity = EntityRef { kind, value };
    let limit = page_size(params.limit.as_deref())?.min(MAX_PAGE);
    let before = params.cursor.as_deref().map(|cursor| {
        cursor
            .parse::<i64>()
            .map_err(|_| Problem::new(Kind::InvalidCursor, "The cursor is none of this list."))
    });
    let before = before.transpose()?;
    let at = AsOfParams { as_of: params.as_of.clone() }.seq(app).await?;
    if let Some(seq) = at {
        return as_of(app, entity, (before, limit.min(PAST)), seq).await;
    }
    let page = app.store.entity_rows(&entity, (before, limit)).await?;
    let (mut open, mut neighbours, mut looked) = (Vec::new(), Vec::new(), 0);
    if before.is_none() {
        open = app.store.entity_open(&entity, OPEN).await?;
        (neighbours, looked) = app.store.neighbours(&entity, i64::MAX).await?;
    }
    let verdicts = app.store.entity_verdicts(&entity, (now.minus(VERDICTS), now)).await?;
    let item = |(row, role): (AlertRow, ConcernRole)| EntityAlert { role, alert: AlertDocument::of(row) };
    Ok(EntityDocument {
        entity: EntityName { kind: entity.kind, value: entity.value },
        open: open.into_iter().map(AlertDocument::of).collect(),
        verdicts,
        neighbours: neighbours.into_iter().map(neighbour).collect(),
        neighbours_of: looked,
        items: page.rows.into_iter().map(item).collect(),
        next_cursor: page.next.map(|next| next.to_string()),
    })
}

/// As [`of`], at a place in commit order.
async fn as_of(
    app: &App,
    entity: EntityRef,
    (before, limit): (Option<i64>, u32),
    seq: i64,
) -> Result<EntityDocument, Problem> {
    let page = app.store.entity_rows_at(&entity, (before, limit), seq).await?;
    let mut then = app.store.then(seq).await?;
    let (mut open, mut neighbours, mut looked) = (Vec::new(), Vec::new(), 0);
    if before.is_none() {
        let numbers = app.store.concerning(&entity, seq).await?;
        open = then.open_among(&numbers, OPEN).await?;
        (neighbours, looked) = app.store.neighbours(&entity, seq).await?;
    }
    let since = verdicts_since(&mut then).await?;
    let verdicts = then.entity_verdicts(&entity, since).await?;
    Ok(EntityDocument {
        entity: EntityName { kind: entity.kind, value: entity.value },
        open: open.into_iter().map(AlertDocument::of).collect(),
        verdicts,
        neighbours: neighbours.into_iter().map(neighbour).collect(),
        neighbours_of: looked,
        items: page
            .rows
            .into_iter()
            .map(|(row, role)| EntityAlert { role, alert: AlertDocument::of(row) })
            .collect(),
        next_cursor: page.next.map(|next| next.to_string()),
    })
}

fn neighbour(Neighbour { entity: EntityRef { kind, value }, alerts }: Neighbour) -> NeighbourCount {
    NeighbourCount { entity: EntityName { kind, value }, alerts }
}
