//! How many alerts there are of each kind.
//!
//! In: a property and a filter. Out: a count for each of its values. Invariant: the filter is the list's.

use serde::{Deserialize, Serialize};
use utoipa::{
    IntoParams, ToSchema,
    openapi::path::{Parameter, ParameterIn},
};
use vedette_event::Severity;
use vedette_store::{
    MAX_FOUND,
    model::{Group, SummaryBy},
};

use super::{filter::FilterParams, past::AsOfParams};
use crate::{
    app::App,
    problem::{Kind, Problem, short},
    shape,
};

/// What to count by.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct ByParams {
    /// `severity`, `status`, `rule`, `state`, `entity` or `technique`.
    #[param(inline, value_type = shape::By)]
    pub by: String,
}

/// The parameters of the summary.
#[derive(Debug, Deserialize)]
pub(crate) struct SummaryParams {
    #[serde(flatten)]
    pub by: ByParams,
    #[serde(flatten)]
    pub filter: FilterParams,
    #[serde(flatten)]
    pub past: AsOfParams,
}

impl IntoParams for SummaryParams {
    fn into_params(place: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        [ByParams::into_params(&place), FilterParams::into_params(&place), AsOfParams::into_params(&place)]
            .concat()
    }
}

/// Counts of alerts.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Summary {
    /// What was counted by.
    pub by: String,
    /// The counts: of entities and techniques the largest first, at most 500.
    pub items: Vec<SummaryItem>,
    /// True if there are more than these.
    pub more: bool,
    /// How many of the rows found a search looked at, if there were more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub search_capped: Option<i64>,
}

/// How many alerts have one value.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SummaryItem {
    /// The value.
    pub name: String,
    /// Of an entity, its type.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entity_type: Option<String>,
    /// How many.
    pub count: u64,
    /// The highest severity among them.
    pub severity: Severity,
}

/// Counts alerts and notices by one of their properties.
pub(crate) async fn count(app: &App, params: &SummaryParams) -> Result<Summary, Problem> {
    let name = &params.by.by;
    let by = SummaryBy::parse(name).ok_or_else(|| {
        let detail = format!("Alerts are not counted by `{}`.", short(name));
        Problem::new(Kind::InvalidParameter, detail).valid(SummaryBy::ALL.iter().map(|by| by.name()))
    })?;
    let filter = params.filter.filter()?;
    let summary = match params.past.seq(app).await? {
        None => app.store.summary(by, &filter).await?,
        Some(seq) => app.store.then(seq).await?.summary(by, &filter).await?,
    };
    let item = |group: Group| {
        let Group { name, entity_type, count, severity } = group;
        SummaryItem { name, entity_type, count, severity }
    };
    Ok(Summary {
        by: by.name().to_owned(),
        items: summary.groups.into_iter().map(item).collect(),
        more: summary.more,
        search_capped: summary.capped.then_some(MAX_FOUND),
    })
}
