//! When an alert begins, goes on, is revised and ends.
//!
//! In: the events that take part for one rule and key, and at which of them the condition holds. Out: [`Episode`]s.

use std::collections::BTreeSet;

use vedette_event::time::{DAY, HOUR};
use vedette_sigma::{Correlation, Rule};

use super::{
    conditions::{self, Taking},
    keys::Key,
    witness,
};

/// One episode; all numbers are indexes into the events that take part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Episode {
    /// The crossing event.
    pub crossing: usize,
    /// What made the condition hold.
    pub witness: BTreeSet<usize>,
    /// The crossing event and every later one that took part while it was open.
    pub joined: Vec<usize>,
    /// When it ended.
    pub end: i64,
    /// Whether it goes on from the day before.
    pub continuation: bool,
}

/// The episodes of a correlation that is not judged.
pub fn correlated(rule: &Rule, correlation: &Correlation, all: &[Taking<'_>]) -> Vec<Episode> {
    // "Default: the timespan."
    let rearm = rule.extras.rearm.unwrap_or(correlation.timespan).0;
    let held: Vec<bool> = (0..all.len()).map(|at| conditions::holds_at(correlation, all, at)).collect();
    let mut episodes = split(all, &held, rearm);
    for episode in &mut episodes {
        episode.witness = witness::of(correlation, all, episode.crossing);
    }
    episodes
}

/// The episodes of a single-event rule: it holds at every match.
pub fn single(rule: &Rule, key: &Key, all: &[Taking<'_>]) -> Vec<Episode> {
    // "1 h for single-event rules."
    let rearm = rule.extras.rearm.unwrap_or(HOUR).0;
    if key.is_empty() {
        // "With none present the key is `{}` and each event is its own alert, ended after `rearm` like any other."
        let alone = |at: usize| {
            let t = all[at].event.at.time;
            let end = t.saturating_add(rearm).min(next_midnight(t));
            Episode {
                crossing: at,
                witness: BTreeSet::from([at]),
                joined: vec![at],
                end,
                continuation: false,
            }
        };
        return (0..all.len()).map(alone).collect();
    }
    split(all, &vec![true; all.len()], rearm)
}

/// "The crossing event is the first in total order at which the condition holds while no episode is open. It opens one;
/// each later event at which it holds extends it. The episode ends when none did for `rearm` (an event at exactly
/// `last + rearm` still belongs), and always at 00:00 UTC (an event at exactly 00:00 belongs to the new day)."
fn split(all: &[Taking<'_>], held: &[bool], rearm: i64) -> Vec<Episode> {
    let time = |i: usize| all[i].event.at.time;
    let mut episodes = Vec::new();
    let mut at = 0;
    while at < all.len() {
        if !held[at] {
            at += 1;
            continue;
        }
        let crossing = at;
        let midnight = next_midnight(time(crossing));
        let mut last = time(crossing);
        let mut joined = vec![crossing];
        at += 1;
        while at < all.len() && time(at) <= last.saturating_add(rearm) && time(at) < midnight {
            if held[at] {
                last = time(at);
            }
            joined.push(at);
            at += 1;
        }
        episodes.push(Episode {
            crossing,
            witness: BTreeSet::from([crossing]),
            joined,
            end: last.saturating_add(rearm).min(midnight),
            continuation: continues(all, held, rearm, crossing),
        });
    }
    episodes
}

/// "An episode is a continuation when the condition also held at an event of the very day before, within `rearm` before
/// its crossing."
fn continues(all: &[Taking<'_>], held: &[bool], rearm: i64, crossing: usize) -> bool {
    let crossed = all[crossing].event.at.time;
    (0..crossing).any(|i| {
        let time = all[i].event.at.time;
        held[i] && next_midnight(time) == next_midnight(crossed) - DAY.0 && crossed - time <= rearm
    })
}

/// The first 00:00 UTC after a time.
fn next_midnight(time: i64) -> i64 {
    (time.div_euclid(DAY.0) + 1) * DAY.0
}

/// When an episode is revised after revision 1, and for each time whether that is its end: "one for each interval
/// `(crossed_at + (k−1)·update, crossed_at + k·update]` in which an event joined (the first includes later events at
/// `crossed_at`), one at the end; those due at the same instant are one, and an interval is due at its right end: one
/// that the end cuts short gives none". `joined`: the times of the events that joined after the crossing event.
pub fn revisions(crossed: i64, joined: &[i64], end: i64, update: i64) -> Vec<(i64, bool)> {
    // The least k ≥ 1 with time ≤ crossed + k·update.
    let interval = |time: &i64| (time - crossed + update - 1).div_euclid(update).max(1);
    let due = joined.iter().map(|time| crossed + interval(time) * update);
    let in_time: BTreeSet<i64> = due.filter(|due| *due < end).collect();
    in_time.into_iter().map(|due| (due, false)).chain([(end, true)]).collect()
}
