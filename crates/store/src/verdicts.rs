//! Verdicts: how alerts that are closed turned out, by rule and entity.
//!
//! In: pairs of a rule and an entity, those of a page of rows at once. Out: how many were closed as what. Invariants: a
//! figure is counted from the rows that a filter would list, never kept beside them; covered and withdrawn notices do
//! not count; of each pair and disposition at most [`MAX_COUNTED`] entries of an index are read.

use std::collections::BTreeMap;

use sqlx::{AnyConnection, AssertSqlSafe, Row};
use vedette_event::Micros;

use crate::{
    alerts::unsigned,
    error::Error,
    filter::MAX_PAGE,
    model::{Disposition, EntityRef},
    store::Store,
};

/// What is more is not counted on.
pub const MAX_COUNTED: u64 = 1_000;

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

    /// True if some figure may be higher, because it reached [`MAX_COUNTED`].
    #[must_use]
    pub fn capped(&self) -> bool {
        [self.true_positive, self.benign, self.false_positive, self.duplicate, self.undecided]
            .contains(&MAX_COUNTED)
    }

    /// The figure of a disposition.
    #[must_use]
    pub fn of(&self, disposition: Disposition) -> u64 {
        match disposition {
            Disposition::TruePositive => self.true_positive,
            Disposition::Benign => self.benign,
            Disposition::FalsePositive => self.false_positive,
            Disposition::Duplicate => self.duplicate,
        }
    }

    /// One more.
    pub(crate) fn add(&mut self, disposition: Option<Disposition>) {
        self.set(disposition.map(Disposition::name), 1);
    }

    /// The verdicts of both, as far as figures are counted.
    pub(crate) fn join(&mut self, other: Self) {
        for (own, other) in [
            (&mut self.true_positive, other.true_positive),
            (&mut self.benign, other.benign),
            (&mut self.false_positive, other.false_positive),
            (&mut self.duplicate, other.duplicate),
            (&mut self.undecided, other.undecided),
        ] {
            *own = (*own + other).min(MAX_COUNTED);
        }
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

/// Counts entries of `alerts_verdicts` of a pair, at most [`MAX_COUNTED`].
fn counted(disposition: &str, unchanged: &str) -> String {
    format!(
        "(select count(*) from (select 1 from alerts where rule_id = of_rule and entity_value = of_value and entity_type = of_type \
         and disposition {disposition} and closed_at >= of_since and covered_by is null and withdrawn is null \
         and status = 'closed'{unchanged} limit {MAX_COUNTED}))"
    )
}

/// The verdicts of each of these pairs of a rule's id and an entity (at most [`MAX_PAGE`]), in their order, closed since then, of rows
/// that have not changed since a place in commit order; one statement for all of them.
pub(crate) async fn of_pairs(
    connection: &mut AnyConnection,
    of: &[(&str, &EntityRef)],
    (since, unchanged_since): (Option<Micros>, Option<i64>),
) -> Result<Vec<Verdicts>, Error> {
    let of = of.get(..MAX_PAGE as usize).unwrap_or(of);
    let mut numbers: BTreeMap<(&str, &str, &str), usize> = BTreeMap::new();
    for (rule, entity) in of {
        let number = numbers.len();
        numbers.entry((rule, &entity.kind, &entity.value)).or_insert(number);
    }
    if numbers.is_empty() {
        return Ok(Vec::new());
    }
    let places = vec!["(?, ?, ?, ?, ?, ?)"; numbers.len()].join(", ");
    // The present is answered by the index alone.
    let unchanged = unchanged_since.map_or("", |_| " and seq <= of_seq");
    let figures = Disposition::ALL.iter().map(|of| {
        let name = of.name();
        format!("{} as {name}", counted(&format!("= '{name}'"), unchanged))
    });
    let figures: Vec<String> =
        figures.chain([format!("{} as undecided", counted("is null", unchanged))]).collect();
    let sql = format!(
        "with wanted (n, of_rule, of_type, of_value, of_since, of_seq) as (values {places}) select n, {} from wanted",
        figures.join(", ")
    );
    let since = since.map_or(i64::MIN, |since| since.0);
    let mut select = sqlx::query(AssertSqlSafe(sql));
    for ((rule, kind, value), n) in &numbers {
        select = select.bind(*n as i64).bind(*rule).bind(*kind).bind(*value).bind(since);
        select = select.bind(unchanged_since.unwrap_or(i64::MAX));
    }
    let mut found = vec![Verdicts::default(); numbers.len()];
    for row in select.fetch_all(connection).await? {
        let n: i64 = row.try_get("n")?;
        let Some(verdicts) = usize::try_from(n).ok().and_then(|n| found.get_mut(n)) else { continue };
        for disposition in Disposition::ALL {
            verdicts.set(Some(disposition.name()), unsigned(row.try_get(disposition.name())?));
        }
        verdicts.set(None, unsigned(row.try_get("undecided")?));
    }
    let found = of.iter().filter_map(|(rule, entity)| {
        let number = numbers.get(&(*rule, &*entity.kind, &*entity.value));
        number.and_then(|number| found.get(*number)).copied()
    });
    Ok(found.collect())
}

impl Store {
    /// The verdicts of each of these pairs of a rule's id and an entity (at most [`MAX_PAGE`]), in their order, closed since
    /// then.
    pub async fn verdicts(
        &self,
        of: &[(&str, &EntityRef)],
        since: Option<Micros>,
    ) -> Result<Vec<Verdicts>, Error> {
        of_pairs(&mut *self.inner.readers.acquire().await?, of, (since, None)).await
    }

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
