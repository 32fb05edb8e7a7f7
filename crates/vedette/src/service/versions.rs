//! Versions in force: from which log time on each rule may speak.
//!
//! In: the rules and what the store remembers of the version before. Out: [`Versions`], and the new version to store.
//! Invariant: a rule that is new or means something new says nothing of events before the time at which it came into
//! force, and that time is stored, so every replay agrees. The first version of all is in force from the beginning.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use vedette_event::{Micros, RuleIx};
use vedette_sigma::RuleSet;
use vedette_store::model::RuleVersion;

/// From when each rule is in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Versions {
    /// By rule; those in force from the beginning are left out.
    pub since: BTreeMap<RuleIx, Micros>,
    /// The version to store, if it is not the one before.
    pub new: Option<RuleVersion>,
}

/// One rule of a stored version.
#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    id: String,
    meaning: String,
    since_us: i64,
}

impl Versions {
    /// Compares the rules with the newest of the stored versions, which come in the order in which they were stored. `above`
    /// lies above every `ts_log` that was read.
    ///
    /// # Errors
    /// If the stored version cannot be read.
    pub fn of(rules: &RuleSet, stored: &[RuleVersion], above: Micros) -> Result<Self> {
        // Not the one that came into force last: a clock that was ahead once would stay ahead of all later versions.
        let before = stored.last();
        let old: Vec<Entry> = match before {
            None => Vec::new(),
            Some(v) => serde_json::from_str(&v.content)
                .with_context(|| format!("stored rule version {}", v.version))?,
        };
        let old: BTreeMap<(&str, &str), i64> =
            old.iter().map(|e| ((e.id.as_str(), e.meaning.as_str()), e.since_us)).collect();
        let new_since = if before.is_none() { Micros::MIN } else { above };
        let mut since = BTreeMap::new();
        let mut entries = Vec::new();
        for (ix, rule) in rules.iter() {
            let meaning: String = rule.meaning.iter().map(|b| format!("{b:02x}")).collect();
            // Nothing that was read lies above `above`, so a rule that was to speak only from then on, since a clock was
            // ahead, has said nothing yet and loses nothing by speaking earlier.
            let known = old.get(&(&*rule.id, meaning.as_str())).copied();
            let from = known.map_or(new_since, |since| Micros(since).min(above));
            if from != Micros::MIN {
                since.insert(ix, from);
            }
            entries.push(Entry { id: rule.id.to_string(), meaning, since_us: from.0 });
        }
        entries.sort_by(|a, b| a.id.cmp(&b.id));
        let content = serde_json::to_string(&entries)?;
        let unchanged = before.is_some_and(|v| v.content == content);
        let version = content_hash(&content);
        let new = (!unchanged).then_some(RuleVersion { version, in_force_from: new_since, content });
        Ok(Self { since, new })
    }

    /// Whether a rule may speak of an episode that crossed at this time.
    #[must_use]
    pub fn in_force(&self, rule: RuleIx, crossed_at: Micros) -> bool {
        self.since.get(&rule).is_none_or(|since| crossed_at >= *since)
    }
}

fn content_hash(content: &str) -> String {
    let hash = vedette_event::raw::record_hash(Some(content.as_bytes()));
    hash.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content;

    fn rules(level: &str, value: &str) -> RuleSet {
        let text = format!(
            "title: t\nid: 6f4f1d1e-64f5-4a0e-9f0b-1d5f0f8c2a11\nlogsource: {{category: api}}\nlevel: {level}\n\
             detection:\n  a:\n    x: {value}\n  condition: a\n"
        );
        let file = vedette_sigma::RuleFile { path: "t.yml".into(), text };
        let rules = vedette_sigma::load(&[file], &Default::default(), &content::sources(None).unwrap());
        assert_eq!(rules.rules.len(), 1, "{:?}", rules.rejected);
        rules
    }

    #[test]
    fn the_first_version_is_in_force_from_the_beginning_and_a_changed_rule_is_not() {
        let first = Versions::of(&rules("low", "a"), &[], Micros(500)).unwrap();
        assert!(first.in_force(RuleIx(0), Micros(0)));
        let stored = vec![first.new.unwrap()];
        assert_eq!(Versions::of(&rules("low", "a"), &stored, Micros(900)).unwrap().new, None);

        let changed = Versions::of(&rules("low", "b"), &stored, Micros(900)).unwrap();
        assert!(!changed.in_force(RuleIx(0), Micros(899)) && changed.in_force(RuleIx(0), Micros(900)));

        let stored = vec![stored[0].clone(), changed.new.unwrap()];
        let again = Versions::of(&rules("low", "b"), &stored, Micros(2_000)).unwrap();
        assert_eq!(again.new, None);
        assert!(again.in_force(RuleIx(0), Micros(900)) && !again.in_force(RuleIx(0), Micros(899)));
    }

    /// One start with a clock a year ahead spoils no later version, and does not silence its own rules for a year.
    #[test]
    fn a_clock_that_was_ahead_once_spoils_nothing() {
        let mut stored = Vec::new();
        let mut start = |value: &str, above: i64| {
            let versions = Versions::of(&rules("low", value), &stored, Micros(above)).unwrap();
            stored.extend(versions.new.clone());
            versions.since.get(&RuleIx(0)).copied()
        };
        assert_eq!(start("a", 500), None);
        assert_eq!(start("b", 1_000_000), Some(Micros(1_000_000)));
        // The same rules under a clock that is right.
        assert_eq!(start("b", 600), Some(Micros(600)));
        assert_eq!(start("b", 700), Some(Micros(600)));
        // Another change, and the rules as they were at first: new again.
        assert_eq!(start("c", 800), Some(Micros(800)));
        assert_eq!(start("a", 900), Some(Micros(900)));
        assert_eq!(start("a", 1_000), Some(Micros(900)));
        assert_eq!(stored.len(), 5);
    }
}
