//! Verdicts: how alerts that are closed turned out, by rule.
//!
//! In: a time. Out: of each rule, how many alerts were closed as what since then. Invariants: a figure is counted from the
//! rows that a filter would list, never kept beside them; covered and withdrawn notices do not count.

use std::collections::BTreeMap;

use sqlx::Row;
use vedette_event::Micros;

use crate::{alerts::unsigned, error::Error, model::Disposition, store::Store};

/// How closed alerts turned out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Verdicts {
    /// Attacks and breaches of policy.
    pub true_positive: u64,
    /// What the rule describes, for a legitimate reason.
    pub benign: u64,
    /// Not what the rule describes.
    pub false_positive: u64,
    /// Handled elsewhere.
    pub duplicate: u64,
    /// Closed without a word.
    pub undecided: u64,
}

impl Verdicts {
    /// How many were closed.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.true_positive + self.benign + self.false_positive + self.duplicate + self.undecided
    }

    fn set(&mut self, disposition: Option<&str>, count: u64) {
        let place = match disposition.and_then(Disposition::parse) {
            Some(Disposition::TruePositive) => &mut self.true_positive,
            Some(Disposition::Benign) => &mut self.benign,
            Some(Disposition::FalsePositive) => &mut self.false_positive,
            Some(Disposition::Duplicate) => &mut self.duplicate,
            None => &mut self.undecided,
        };
        *place += count;
    }
}

impl Store {
    /// The verdicts of each rule since then, whole: an entry of an index is read for each alert closed.
    pub async fn rule_verdicts(&self, since: Micros) -> Result<BTreeMap<String, Verdicts>, Error> {
        let rows = sqlx::query(
            "select rule_id, disposition, count(*) as n from alerts where closed_at >= $1 and covered_by is null \
             and withdrawn is null and status = 'closed' group by rule_id, disposition",
        )
        .bind(since.0)
        .fetch_all(&self.inner.searchers)
        .await?;
        let mut rules: BTreeMap<String, Verdicts> = BTreeMap::new();
        for row in rows {
            let disposition: Option<String> = row.try_get("disposition")?;
            let verdicts = rules.entry(row.try_get("rule_id")?).or_default();
            verdicts.set(disposition.as_deref(), unsigned(row.try_get("n")?));
        }
        Ok(rules)
    }
}
