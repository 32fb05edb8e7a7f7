//! The queue's address: filters, order, grouping, place.
//!
//! In: a query string. Out: the API's parameters for the same rows, and links to the same page with one thing changed.
//! Invariants: each parameter has at most one value; no status means what is not closed; a link keeps all but what it changes.

use serde::Deserialize;
use utoipa::{
    IntoParams,
    openapi::path::{Parameter, ParameterIn},
};
use vedette_store::model::SummaryBy;

use crate::{
    console::href,
    desk::{
        filter::FilterParams,
        list::{ListParams, PageParams},
        past::AsOfParams,
    },
    problem::{Kind, Problem, short},
};

const ROWS: &str = "100";
/// What is not closed.
const OPEN: &str = "new,acknowledged,in_progress";

/// The page's own parameters.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(in crate::console) struct QueueParams {
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

impl QueueParams {
    /// What a link keeps; the forms of search and of times send empty texts, which ask for nothing.
    pub fn pairs(&self) -> impl Iterator<Item = (&'static str, Option<&str>)> {
        [
            ("status", self.status.as_deref()),
            ("severity", self.severity.as_deref()),
            ("state", self.state.as_deref()),
            ("source", self.source.as_deref()),
            ("rule", self.rule.as_deref()),
            ("entity", self.entity.as_deref()),
            ("entity_type", self.entity_type.as_deref()),
            ("assignee", self.assignee.as_deref()),
            ("technique", self.technique.as_deref()),
            ("since", given(&self.since)),
            ("until", given(&self.until)),
            ("q", given(&self.q)),
            ("sort", self.sort.as_deref()),
            ("case", self.case.as_deref()),
            ("snoozed", self.snoozed.as_deref()),
            ("group", self.group.as_deref()),
            ("as_of", self.as_of.as_deref()),
        ]
        .into_iter()
    }

    /// This page with one parameter replaced or left out, from the first row on.
    pub fn with(&self, name: &str, value: Option<&str>) -> String {
        self.changed(&[(name, value)])
    }

    /// This page with some parameters replaced or left out, from the first row on.
    pub fn changed(&self, changes: &[(&str, Option<&str>)]) -> String {
        let mut pairs: Vec<(&str, &str)> = Vec::new();
        for (name, kept) in self.pairs() {
            let value = changes.iter().find(|(other, _)| *other == name).map_or(kept, |(_, value)| *value);
            pairs.extend(value.map(|value| (name, value)));
        }
        // A place in the list and what was done stand in one address only.
        let once = changes.iter().filter(|(name, _)| matches!(*name, "cursor" | "did"));
        pairs.extend(once.filter_map(|(name, value)| value.map(|value| (*name, value))));
        href("/", &pairs)
    }

    /// The query string of this page, from the first row on.
    pub fn query(&self) -> String {
        self.changed(&[]).split_once('?').map(|(_, query)| query.to_owned()).unwrap_or_default()
    }

    /// True if any filter is on.
    pub fn filters(&self) -> bool {
        self.pairs().any(|(name, value)| !matches!(name, "sort" | "group" | "as_of") && value.is_some())
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

    /// Where the page hears of changes after `seq`.
    pub fn stream(&self, seq: i64) -> String {
        let after = seq.to_string();
        let mut pairs: Vec<(&str, &str)> = vec![("after", &after)];
        let kept = self.pairs().filter(|(name, _)| !matches!(*name, "sort" | "group" | "as_of"));
        pairs.extend(kept.filter_map(|(name, value)| value.map(|value| (name, value))));
        href("/live", &pairs)
    }
}

/// What is in a field of a form, if anything.
#[expect(clippy::ref_option, reason = "a field of the form")]
fn given(text: &Option<String>) -> Option<&str> {
    text.as_deref().filter(|text| !text.trim().is_empty())
}

/// The parameters of the page's stream.
#[derive(Debug, Deserialize)]
pub(in crate::console) struct LiveParams {
    /// Changes after this `seq`.
    pub after: Option<String>,
    #[serde(flatten)]
    pub queue: QueueParams,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "names the parameter")]
struct After {
    after: Option<String>,
}

impl IntoParams for LiveParams {
    fn into_params(place: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        [After::into_params(&place), QueueParams::into_params(&place)].concat()
    }
}
