//! Notices that wait for an alert: when to look whether one has come.
//!
//! In: what was announced, and how far each rule has come. Out: [`Passed`], on which the store withdraws what no alert can
//! cover any more. Invariants: each notice is looked after when its rule has passed its time, and once more when the revision
//! that would take it in has come; one that the store knows from an earlier life, too. Times are whole seconds, so that a
//! burst is looked after once.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use vedette_correlate::body;
use vedette_engine::Compiled;
use vedette_event::{Micros, RuleIx, Span, time::SECOND};
use vedette_sigma::RuleSet;
use vedette_store::model::{Passed, Withdrawal};

/// When to look after whose notices.
#[derive(Debug)]
pub struct NoticesDue {
    rules: Arc<RuleSet>,
    /// By rule, times that it must have passed.
    looks: BTreeMap<RuleIx, BTreeSet<Micros>>,
    /// To be looked after at once.
    first: Vec<Passed>,
}

impl NoticesDue {
    /// Takes up what an earlier life left: by rule id, the seconds in which notices crossed. Those of a rule that was changed
    /// or removed since are withdrawn, as the rule will not speak of that time any more.
    pub fn of(compiled: &Compiled, left: BTreeMap<String, Vec<Micros>>) -> Self {
        let mut waiting =
            Self { rules: Arc::clone(&compiled.rules), looks: BTreeMap::new(), first: Vec::new() };
        let emitting = compiled.newest().rules.iter().filter(|(_, rule)| rule.emits);
        let ids: BTreeMap<&str, RuleIx> = emitting.map(|(ix, rule)| (&*rule.id, ix)).collect();
        for (rule_id, seconds) in left {
            let known = ids.get(&*rule_id).copied().filter(|ix| !compiled.sources_of(*ix).is_empty());
            let gone_before = match known {
                Some(ix) => Some(compiled.since(ix)).filter(|since| *since != Micros::MIN),
                None => Some(Micros::MAX),
            };
            if let Some(before) = gone_before {
                let reason = Withdrawal::RuleChanged;
                waiting.first.push(Passed { rule_id, below: before, settled: before, reason });
            }
            for second in seconds {
                if let Some(ix) = known {
                    waiting.announced(ix, second.plus(SECOND));
                }
            }
        }
        waiting
    }

    /// Goes on by other versions of the rules, in which a rule may have another number. What was announced by one that is gone is
    /// withdrawn.
    pub fn carry(&mut self, rules: &Arc<RuleSet>, number: impl Fn(RuleIx) -> Option<RuleIx>) {
        for (rule, looks) in std::mem::take(&mut self.looks) {
            match number(rule) {
                Some(rule) => self.looks.entry(rule).or_default().extend(looks),
                None => self.first.push(Passed {
                    rule_id: self.rules.get(rule).id.to_string(),
                    below: looks.last().copied().unwrap_or(Micros::MIN),
                    settled: looks.last().copied().unwrap_or(Micros::MIN),
                    reason: Withdrawal::RuleChanged,
                }),
            }
        }
        self.rules = Arc::clone(rules);
    }

    /// Notes that a notice was given.
    pub fn announced(&mut self, rule: RuleIx, crossed_at: Micros) {
        let after = |time: Micros| time.floor(SECOND).plus(SECOND);
        let looks = self.looks.entry(rule).or_default();
        looks.insert(after(crossed_at));
        looks.insert(after(crossed_at.plus(body::update(self.rules.get(rule)))));
    }

    /// The rules that have passed a time at which they are to be looked after. `passed` says how far a rule has come.
    pub fn passed(&mut self, passed: impl Fn(RuleIx) -> Micros) -> Vec<Passed> {
        let mut due = std::mem::take(&mut self.first);
        for (rule, looks) in &mut self.looks {
            let below = passed(*rule);
            if looks.first().is_none_or(|first| *first > below) {
                continue;
            }
            *looks = looks.split_off(&below.plus(Span(1)));
            let of = self.rules.get(*rule);
            due.push(Passed {
                rule_id: of.id.to_string(),
                below,
                settled: below.minus(body::update(of)),
                reason: Withdrawal::Uncovered,
            });
        }
        self.looks.retain(|_, looks| !looks.is_empty());
        due
    }
}

#[cfg(test)]
mod tests {
    use vedette_engine::Version;

    use super::*;
    use crate::content;

    const ID: &str = "6f4f1d1e-64f5-4a0e-9f0b-1d5f0f8c2a11";

    fn secs(n: i64) -> Micros {
        Micros(n * 1_000_000)
    }

    /// Of one rule, in force since some time, and what is left: rule ids and seconds.
    fn waiting(since: Option<Micros>, left: &[(&str, i64)]) -> NoticesDue {
        let sources = Arc::new(content::sources(None).unwrap());
        let text = format!(
            "title: t\nid: {ID}\nlogsource: {{category: api}}\nlevel: low\n\
             detection:\n  a:\n    x: 1\n  condition: a\n"
        );
        let file = vedette_sigma::RuleFile { path: "t.yml".into(), text };
        let rules = Arc::new(vedette_sigma::load(&[file], &Default::default(), &sources));
        let topics = Arc::new(vedette_event::Topics::new(["api"]));
        let version = Version::compile(rules, sources);
        let version = version.in_force(Micros::MIN, |_| since.unwrap_or(Micros::MIN));
        let compiled = Compiled::with_versions(vec![Arc::new(version)], topics, [0; 32]);
        let left = left.iter().map(|(id, second)| ((*id).to_owned(), vec![secs(*second)])).collect();
        NoticesDue::of(&compiled, left)
    }

    fn uncovered(below: i64) -> Passed {
        let (below, settled) = (secs(below), secs(below - 60));
        Passed { rule_id: ID.to_owned(), below, settled, reason: Withdrawal::Uncovered }
    }

    #[test]
    fn notices_are_looked_after_twice() {
        let mut waiting = waiting(None, &[]);
        waiting.announced(RuleIx(0), Micros(10_500_000));
        waiting.announced(RuleIx(0), Micros(10_700_000));
        assert_eq!(waiting.passed(|_| Micros(10_900_000)), []);
        assert_eq!(waiting.passed(|_| secs(12)), [uncovered(12)]);
        assert_eq!(waiting.passed(|_| secs(70)), []);
        assert_eq!(waiting.passed(|_| secs(71)), [uncovered(71)]);
        assert_eq!(waiting.passed(|_| Micros::MAX), []);
    }

    #[test]
    fn what_an_earlier_life_left_is_looked_after() {
        let changed = |id: &str, before| Passed {
            rule_id: id.to_owned(),
            below: before,
            settled: before,
            reason: Withdrawal::RuleChanged,
        };
        let mut of = waiting(None, &[(ID, 10), ("gone", 5)]);
        assert_eq!(of.passed(|_| Micros::MIN), [changed("gone", Micros::MAX)]);
        assert_eq!(of.passed(|_| secs(12)), [uncovered(12)]);
        let mut of = waiting(Some(secs(100)), &[(ID, 10)]);
        assert_eq!(of.passed(|_| secs(9)), [changed(ID, secs(100))]);
    }
}
