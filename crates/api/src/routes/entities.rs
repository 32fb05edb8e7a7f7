//! Entities over HTTP: all that concerns one address, user, key or host.

use std::sync::Arc;

use axum::{Json, extract::State};

use crate::{
    app::App,
    desk::entity::{self, EntityDocument, EntityParams},
    metrics::now,
    params::{Segments, Strict},
    problem::{self, Problem},
};

/// All that concerns an entity: its alerts over time (open ones also by themselves), its neighbours, verdicts.
#[utoipa::path(
    get, path = "/entities/{type}/{value}", operation_id = "get_entity", tag = "alerts",
    params(
        ("type" = String, Path, description = "A field that names it, such as `source.ip`; fields of one sort name the same"),
        ("value" = String, Path, description = "Its value, exactly"),
        EntityParams
    ),
    responses(
        (status = 200, description = "What is known of it; empty where nothing is", body = EntityDocument),
        problem::ProblemDocument
    )
)]
pub(crate) async fn one(
    State(app): State<Arc<App>>,
    Segments(kind, value): Segments,
    Strict(params): Strict<EntityParams>,
) -> Result<Json<EntityDocument>, Problem> {
    Ok(Json(entity::of(&app, (kind, value), &params, now()).await?))
}
