//! Another plan while findings wait and episodes are open.
//!
//! In: a plan that was merged with the one before ([`Plan::merge`]). Out: a correlator that goes on by it.
//! Invariants: what is kept, waits or is due of a tree that stays is not touched, since trees and sets of sources keep their places; a
//! tree that ends takes in what comes before its end, lets it through and ends what is open then, in the order of event time, so
//! nothing depends on when the plan was adopted; what it costs goes with the number of trees and key groups, not of keys.

use std::sync::Arc;

use vedette_event::Micros;

use crate::{Correlator, Plan, over::budget::Budgets};

impl Correlator {
    /// Goes on by another plan.
    pub fn adopt(&mut self, plan: &Arc<Plan>) {
        let before = std::mem::replace(&mut self.plan, Arc::clone(plan));
        let kept = |at: usize| {
            let (before, now) = (before.trees.get(at)?, plan.trees.get(at)?);
            (before.fingerprint == now.fingerprint).then_some((before, now))
        };
        for (at, tree) in before.trees.iter().enumerate().filter(|(at, _)| kept(*at).is_none()) {
            for group in &mut self.groups {
                group.drop_tree(at as u32, tree.set);
            }
            Arc::make_mut(&mut self.storms).drop_tree(at as u32);
            self.waiting.drop_tree(at);
            self.announced.remove(&(at as u32));
        }
        self.watermarks.resize(plan.sets.len(), Micros::MIN);
        self.budgets = Arc::new(Budgets::of(plan, self.settings.state));
        self.report.adopt(plan);
        self.waiting.adopt(plan);
        let ending = (0..plan.trees.len()).filter_map(|at| {
            let (before, now) = kept(at)?;
            (before.until != now.until).then_some((at as u32, now))
        });
        let ending: Vec<_> = ending.collect();
        let budgets = &self.budgets;
        Arc::make_mut(&mut self.storms).adopt(plan, budgets, ending.iter().map(|(_, tree)| tree.set));
        for group in &mut self.groups {
            group.adopt(plan);
            for (at, tree) in &ending {
                if group.tree(*at).is_some()
                    && let Some(agenda) = group.agendas.get_mut(tree.set)
                {
                    agenda.end_at(tree.until, *at);
                }
            }
        }
        self.count_remembered();
    }

    /// Whether all was let through that has to do with instants up to one: what trees which end by then will ever say, what those that
    /// go on say under the titles and levels of then, and what a source of which nothing was read yet may bring. What a release has not
    /// come to was not let through.
    #[must_use]
    pub fn is_past(&self, end: Micros) -> bool {
        let mut sets = self.plan.sets.iter().zip(&self.plan.members).zip(&self.watermarks);
        sets.all(|((sources, trees), mark)| sources.is_empty() || trees.is_empty() || *mark > end)
    }
}
