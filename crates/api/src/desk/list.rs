//! A page of alerts: which, in which order, from where.
//!
//! In: the words of a list. Out: rows with their envelopes, and where the next page starts. Invariant: a page has a bound.

use serde::{Deserialize, Serialize};
use utoipa::{
    IntoParams,
    openapi::path::{Parameter, ParameterIn},
};
use vedette_store::{
    MAX_FOUND, MAX_PAGE,
    model::{ListQuery, Sort, SortKey},
};

use super::{filter::FilterParams, past::AsOfParams};
use crate::{
    app::App,
    problem::{Kind, Problem, short},
    shape,
    wire::AlertDocument,
};

/// Rows unless asked otherwise: what a person looks through.
const PAGE: u32 = 50;

/// In which order, from where.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct PageParams {
    /// `crossed_at`, `last_seen`, `severity`, `count` or `created`; `-` in front: highest first. Default: `-crossed_at`.
    #[param(inline, value_type = Option<shape::Order>)]
    pub sort: Option<String>,
    /// At most so many: 1 to 500, fewer where their bodies are long. Default: 50.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 500)]
    pub limit: Option<String>,
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
}

/// The parameters of the list.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct ListParams {
    #[serde(flatten)]
    pub filter: FilterParams,
    #[serde(flatten)]
    pub page: PageParams,
    #[serde(flatten)]
    pub past: AsOfParams,
}

impl IntoParams for ListParams {
    fn into_params(place: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        [FilterParams::into_params(&place), PageParams::into_params(&place), AsOfParams::into_params(&place)]
            .concat()
    }
}

impl ListParams {
    /// The query they mean.
    pub fn query(&self) -> Result<ListQuery, Problem> {
        let sort = match self.page.sort.as_deref() {
            None => Sort::default(),
            Some(text) => Sort::parse(text).ok_or_else(|| {
                let keys = SortKey::ALL
                    .iter()
                    .map(|key| key.name())
                    .flat_map(|key| [key.to_owned(), format!("-{key}")]);
                let detail = format!("`sort={}` is no order of this list.", short(text));
                Problem::new(Kind::InvalidParameter, detail).valid(keys)
            })?,
        };
        let limit = page_size(self.page.limit.as_deref())?;
        Ok(ListQuery { filter: self.filter.filter()?, sort, limit, cursor: self.page.cursor.clone() })
    }
}

/// How many items a page may have.
pub(crate) fn page_size(given: Option<&str>) -> Result<u32, Problem> {
    let Some(text) = given else { return Ok(PAGE) };
    text.parse().ok().filter(|n| (1..=MAX_PAGE).contains(n)).ok_or_else(|| {
        let detail = format!("`limit={}` is no whole number from 1 to {MAX_PAGE}.", short(text));
        Problem::new(Kind::InvalidParameter, detail)
    })
}

/// One page of a list.
#[derive(Debug, Serialize)]
pub(crate) struct Listed<T> {
    pub items: Vec<T>,
    pub next_cursor: Option<String>,
    /// How many of the rows found a search looked at, if there were more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub search_capped: Option<i64>,
}

/// One page of alerts and notices.
pub(crate) async fn page(app: &App, params: &ListParams) -> Result<Listed<AlertDocument>, Problem> {
    let query = params.query()?;
    let (page, capped) = match params.past.seq(app).await? {
        None => (app.store.list(&query).await?, app.store.search_capped(&query.filter).await?),
        Some(seq) => {
            let mut then = app.store.then(seq).await?;
            (then.list(&query).await?, then.search_capped(&query.filter).await?)
        }
    };
    let items = page.items.into_iter().map(AlertDocument::of).collect();
    Ok(Listed { items, next_cursor: page.next_cursor, search_capped: capped.then_some(MAX_FOUND) })
}
