//! Too many episodes of one rule in one hour.
//!
//! In: a rule's drafts. Out: its drafts, those beyond 1,000 in an hour folded into one.

use std::collections::BTreeMap;

use vedette_event::time::HOUR;
use vedette_sigma::Rule;

use super::{body::Draft, keys};

/// How many episodes of a rule may cross in one hour before the rest are folded.
const MOST: usize = 1_000;

/// "More than 1,000 episodes of one rule that cross in one UTC clock hour: the rest become one storm alert."
pub fn fold(_rule: &Rule, mut drafts: Vec<Draft>) -> Vec<Draft> {
    drafts.sort_by_key(|draft| (draft.crossing.clone(), keys::json(&draft.key)));
    let mut hours: BTreeMap<i64, Vec<Draft>> = BTreeMap::new();
    for draft in drafts {
        hours.entry(draft.crossing.time.div_euclid(HOUR.0)).or_default().push(draft);
    }
    let mut kept = Vec::new();
    for (_, mut hour) in hours {
        let rest = hour.split_off(hour.len().min(MOST));
        kept.append(&mut hour);
        assert!(rest.is_empty(), "a storm");
    }
    kept
}
