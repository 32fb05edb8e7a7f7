//! What must hold of an alert, in so few words that it can be told which conditions can never hold and which follow from others.
//!
//! In: an alert's severity, count, entity and key. Out: whether a [`Condition`] holds; what two of them have in common; whether one
//! follows from another. Invariant: [`Condition::both`] holds of an alert exactly if both do.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde::Serialize;
use vedette_event::{Severity, Value};

use crate::subject::Subject;

/// All of it must hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Condition {
    /// From and to, both included.
    pub severity: (Severity, Severity),
    /// From and to, both included.
    pub count: (u64, u64),
    /// About any of these; empty for anything.
    pub entity: BTreeSet<Arc<str>>,
    /// Parts of the key, each with the values that it may have.
    pub key: BTreeMap<Arc<str>, BTreeSet<Value>>,
}

impl Default for Condition {
    fn default() -> Self {
        Self {
            severity: (Severity::Informational, Severity::Critical),
            count: (1, u64::MAX),
            entity: BTreeSet::new(),
            key: BTreeMap::new(),
        }
    }
}

impl Condition {
    /// Whether it holds of an alert or a notice.
    #[must_use]
    pub fn holds(&self, of: &Subject<'_>) -> bool {
        let entity = || of.entity.is_some_and(|entity| self.entity.contains(&entity.kind));
        (self.severity.0..=self.severity.1).contains(&of.severity)
            && (self.count.0..=self.count.1).contains(&of.count)
            && (self.entity.is_empty() || entity())
            && self.key.iter().all(|(name, values)| of.key.get(name).is_some_and(|v| values.contains(v)))
    }

    /// What holds exactly where both do; or, where that is never, the word for why.
    ///
    /// # Errors
    /// With what they contradict each other in.
    pub fn both(&self, other: &Self) -> Result<Self, &'static str> {
        let severity = (self.severity.0.max(other.severity.0), self.severity.1.min(other.severity.1));
        let count = (self.count.0.max(other.count.0), self.count.1.min(other.count.1));
        if severity.0 > severity.1 {
            return Err("severity");
        }
        if count.0 > count.1 {
            return Err("count");
        }
        let entity: BTreeSet<Arc<str>> = match (self.entity.is_empty(), other.entity.is_empty()) {
            (true, _) => other.entity.clone(),
            (_, true) => self.entity.clone(),
            _ => self.entity.intersection(&other.entity).cloned().collect(),
        };
        if entity.is_empty() && !(self.entity.is_empty() && other.entity.is_empty()) {
            return Err("entity");
        }
        let mut key = self.key.clone();
        for (name, values) in &other.key {
            let common = match key.get(name) {
                None => values.clone(),
                Some(own) => own.intersection(values).cloned().collect(),
            };
            if common.is_empty() {
                return Err("key");
            }
            key.insert(name.clone(), common);
        }
        Ok(Self { severity, count, entity, key })
    }

    /// Whether `other` holds wherever this one does.
    #[must_use]
    pub fn implies(&self, other: &Self) -> bool {
        let within = |name: &Arc<str>, values: &BTreeSet<Value>| {
            self.key.get(name).is_some_and(|own| own.is_subset(values))
        };
        self.severity.0 >= other.severity.0
            && self.severity.1 <= other.severity.1
            && self.count.0 >= other.count.0
            && self.count.1 <= other.count.1
            && (other.entity.is_empty() || (!self.entity.is_empty() && self.entity.is_subset(&other.entity)))
            && other.key.iter().all(|(name, values)| within(name, values))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;
    use vedette_event::{Entity, Flags};

    use super::*;
    use crate::tests::{key, rule};

    fn conditions() -> impl Strategy<Value = Condition> {
        let few =
            |names: &'static [&'static str]| prop::collection::btree_set(prop::sample::select(names), 0..3);
        let key = prop::collection::btree_map(
            prop::sample::select(&["a", "b"][..]),
            prop::collection::btree_set(prop::sample::select(&["1", "2", "3"][..]), 1..3),
            0..3,
        );
        (0..5_usize, 0..5_usize, 1..5_u64, 1..5_u64, few(&["a", "b", "c"]), key).prop_map(
            |(a, b, c, d, entity, key)| Condition {
                severity: (Severity::ALL[a.min(b)], Severity::ALL[a.max(b)]),
                count: (c.min(d), c.max(d)),
                entity: entity.into_iter().map(Arc::from).collect(),
                key: key
                    .into_iter()
                    .map(|(k, v)| (k.into(), v.into_iter().map(|v| Value::Text(v.into())).collect()))
                    .collect(),
            },
        )
    }

    /// Every alert that the conditions above can tell apart.
    fn all_alerts(mut each: impl FnMut(&Subject<'_>)) {
        let rule = rule("r", Severity::High);
        for severity in Severity::ALL {
            for count in 1..6 {
                for about in ["a", "b", "c", "d"] {
                    for a in ["1", "2", "3", "4"] {
                        for b in ["1", "2", "3", ""] {
                            let parts = [("a", a), ("b", b)];
                            let key = key(parts.get(..if b.is_empty() { 1 } else { 2 }).unwrap());
                            let entity = Entity { kind: about.into(), value: Value::Bool(true) };
                            each(&Subject {
                                notice: false,
                                id: "x",
                                rule: &rule,
                                key: &key,
                                entity: Some(&entity),
                                severity,
                                count,
                                flags: Flags::NONE,
                            });
                        }
                    }
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn both_and_implies_say_what_holds(a in conditions(), b in conditions()) {
            let both = a.both(&b);
            let implies = a.implies(&b);
            all_alerts(|alert| {
                let hold = a.holds(alert) && b.holds(alert);
                assert_eq!(both.as_ref().is_ok_and(|both| both.holds(alert)), hold);
                assert!(!implies || !a.holds(alert) || b.holds(alert));
            });
        }
    }

    #[test]
    fn what_is_narrower_implies_what_is_wider() {
        let wide = Condition::default();
        let narrow = Condition { count: (5, 9), ..Condition::default() };
        assert!(narrow.implies(&wide) && !wide.implies(&narrow) && narrow.implies(&narrow));
    }
}
