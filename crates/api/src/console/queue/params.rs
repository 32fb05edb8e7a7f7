//! The queue's address: links to the same page with one thing changed.
//!
//! In: the queue's parameters. Out: addresses. Invariant: a link keeps all but what it changes.

use serde::Deserialize;
use utoipa::{
    IntoParams,
    openapi::path::{Parameter, ParameterIn},
};

use crate::{
    console::href,
    desk::queue::{QueueParams, given},
};

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

    /// Where the page hears of changes after `seq`.
    pub fn stream(&self, seq: i64) -> String {
        let after = seq.to_string();
        let mut pairs: Vec<(&str, &str)> = vec![("after", &after)];
        let kept = self.pairs().filter(|(name, _)| !matches!(*name, "sort" | "group" | "as_of"));
        pairs.extend(kept.filter_map(|(name, value)| value.map(|value| (name, value))));
        href("/live", &pairs)
    }
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
