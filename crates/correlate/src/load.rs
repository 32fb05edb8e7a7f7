//! How much is held, against what may be: for operators, who should see a budget before it is used up.
//!
//! In: [`Correlator`]. Out: [`Load`].

use vedette_event::RuleIx;

use crate::{Correlator, group::Group, plan::Node};

/// What is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Load {
    /// Findings that wait for the watermarks of sources that are read, in entries: one with a long key takes several.
    pub waiting: usize,
    /// From so many on, partitions ahead are paused.
    pub waiting_budget: usize,
    /// Findings that wait for a source that stands still.
    pub standing: usize,
    /// Beyond so many, they are not evaluated.
    pub standing_budget: usize,
    /// The rule for which the most findings wait, and how many.
    pub most_waiting: Option<(RuleIx, usize)>,
    /// Keys with state, over all rules.
    pub keys: usize,
    /// Entries that the rule with the fullest key group may hold in one.
    pub keys_budget: usize,
    /// The rule with the key group that is fullest for its budget, and how many entries that holds.
    pub fullest: Option<(RuleIx, usize)>,
}

impl Correlator {
    /// What waits for live sources, in entries, and where pausing begins.
    #[must_use]
    pub fn waiting(&self) -> (usize, usize) {
        self.waiting.live()
    }

    /// How much is held now. Takes a look at each rule and key group: not for every batch.
    #[must_use]
    pub fn load(&self) -> Load {
        let (mut keys, mut fullest): (usize, Option<(&Node, usize, usize)>) = (0, None);
        for (at, state) in self.groups.iter().flat_map(Group::trees) {
            let Some(tree) = self.plan.trees.get(at as usize) else { continue };
            for (node, state) in tree.nodes.iter().zip(&state.nodes).filter(|(_, s)| !s.keys.is_empty()) {
                let (held, budget) = (state.entries(), self.budgets.get(node).entries);
                keys += state.keys.len();
                let fuller = |(_, most, of): (_, usize, usize)| {
                    held as u128 * of as u128 > most as u128 * budget as u128
                };
                if fullest.is_none_or(fuller) {
                    fullest = Some((node, held, budget));
                }
            }
        }
        let (waiting, waiting_budget) = self.waiting.live();
        let (standing, standing_budget) = self.waiting.standing();
        let most = self.waiting.most();
        Load {
            waiting,
            waiting_budget,
            standing,
            standing_budget,
            most_waiting: most.and_then(|(at, n)| Some((self.plan.trees.get(at)?.root, n))),
            keys,
            keys_budget: fullest.map_or(0, |(.., budget)| budget),
            fullest: fullest.map(|(node, held, _)| (node.rule, held)),
        }
    }
}
