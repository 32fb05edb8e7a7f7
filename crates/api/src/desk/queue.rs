//! The queue: which rows, in which order, counted by what, as of when.
//!
//! In: the words of its address. Out: the list's parameters for the same rows, or a problem. Invariants: each parameter has at most one
//! value; no status means what is not closed; what is not understood is refused.

use serde::Deserialize;
use utoipa::IntoParams;
use vedette_store::model::{ListQuery, SummaryBy};

use super::{
    filter::FilterParams,
    list::{ListParams, PageParams},
    past::AsOfParams,
};
use crate::{
    app::App,
    problem::{Kind, Problem, short},
};

/// What one looks through at once: a hundred took a browser half as long again from the address to the first paint.
const ROWS: &str = "50";
/// What is not closed.
const OPEN: &str = "new,acknowledged,in_progress";

/// What the queue is asked for.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct QueueParams {
    pub status: Option<String>,
    pub severity: Option<String>,
    pub state: Option<String>,
    pub source: Option<String>,
    pub rule: Option<String>,
    pub entity: Option<String>,
    /// What kind of entity: one value can be of several.
    pub entity_type: Option<String>,
    /// Who handles it; empty: nobody.
    pub assignee: Option<String>,
    pub technique: Option<String>,
    pub since: Option<String>,
    pub until: Option<String>,
    pub q: Option<String>,
    pub sort: Option<String>,
    pub case: Option<String>,
    /// `yes`: what a snooze hides. Where neither a status nor a case is asked for, that is left out.
    pub snoozed: Option<String>,
    /// `entity`, `rule` or `technique`: how many rows have it in common, instead of the rows.
    pub group: Option<String>,
    /// The queue as it was at this `seq` or time.
    pub as_of: Option<String>,
    /// What was changed on the way here: the id of the change.
    pub did: Option<String>,
    pub cursor: Option<String>,
}

/// What the words mean.
pub(crate) struct Asked {
    pub query: ListQuery,
    pub group: Option<SummaryBy>,
    /// As of which `seq`, where that is not now.
    pub at: Option<i64>,
}

impl QueueParams {
    /// What they mean, if they mean something.
    pub async fn asked(&self, app: &App) -> Result<Asked, Problem> {
        let query = self.list().query()?;
        let group = self.group()?;
        let at = AsOfParams { as_of: self.as_of.clone() }.seq(app).await?;
        Ok(Asked { query, group, at })
    }

    /// What rows are counted by instead of shown.
    pub fn group(&self) -> Result<Option<SummaryBy>, Problem> {
        let by = |name: &str| match name {
            "entity" => Ok(SummaryBy::Entity),
            "rule" => Ok(SummaryBy::Rule),
            "technique" => Ok(SummaryBy::Technique),
            other => {
                let detail = format!("The queue is not grouped by `{}`.", short(other));
                let valid = ["entity", "rule", "technique"];
                Err(Problem::new(Kind::InvalidParameter, detail).valid(valid))
            }
        };
        self.group.as_deref().map(by).transpose()
    }

    /// The API's filters for the same rows.
    pub fn filter(&self) -> FilterParams {
        let Self { status, severity, state, source, rule, entity, assignee, technique, .. } = self.clone();
        let Self { case, snoozed, entity_type, .. } = self.clone();
        let [since, until, q] =
            [&self.since, &self.until, &self.q].map(|text| given(text).map(str::to_owned));
        let queue = status.is_none() && case.is_none() && snoozed.is_none();
        let snoozed = if queue { Some("no".to_owned()) } else { snoozed };
        let status = match status.as_deref() {
            None => Some(OPEN.to_owned()),
            Some("all") => None,
            Some(_) => status,
        };
        FilterParams {
            status,
            state,
            severity,
            rule,
            entity,
            entity_type,
            source,
            assignee,
            technique,
            since,
            until,
            q,
            case,
            snoozed,
        }
    }

    /// The API's parameters for the same rows.
    pub fn list(&self) -> ListParams {
        let page =
            PageParams { sort: self.sort.clone(), limit: Some(ROWS.to_owned()), cursor: self.cursor.clone() };
        ListParams { filter: self.filter(), page, past: AsOfParams { as_of: self.as_of.clone() } }
    }
}

/// What is in a field of a form, if anything.
#[expect(clippy::ref_option, reason = "a field of the form")]
pub(crate) fn given(text: &Option<String>) -> Option<&str> {
    text.as_deref().filter(|text| !text.trim().is_empty())
}
