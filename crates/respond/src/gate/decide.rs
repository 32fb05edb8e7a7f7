//! The seven guards, one after another, over one proposal.
//!
//! In: proposal, approvals, world, time. Out: [`Verdict`]. Each guard adds its reasons, whatever the others found, so that a person
//! sees all of them at once.

use vedette_event::{Flags, Micros, Severity, Span};

use super::{Act, Approvals, Cap, Decision, Order, Reason, Verdict, World};
use crate::{
    deed::{Action, Deed, Lane, Limit},
    propose::Proposal,
    target::{Prefix, Target},
};

/// What may come of a proposal.
#[must_use]
pub fn decide(proposal: &Proposal, approvals: &Approvals, world: &World, now: Micros) -> Verdict {
    let mut gate = Gate { proposal, world, now, reasons: Vec::new(), refused: false, people: 0, lower: None };
    if now.since(proposal.at) > world.policy.lapse {
        gate.refuse(Reason::Lapsed(world.policy.lapse));
    }
    let sort = proposal.target.as_ref().and_then(Target::sort);
    if !proposal.connectors.iter().all(|connector| connector.kind.carries(proposal.deed, sort)) {
        gate.refuse(Reason::Unable);
    }
    let act = match (proposal.deed, &proposal.target) {
        (Deed::Notify | Deed::Ticket | Deed::Webhook, _) => Some(Act::Tell),
        (Deed::Lift(action), Some(target)) => Some(gate.lift(action, target)),
        (Deed::Impose(action, limit), Some(target)) => gate.impose(action, limit, target, approvals),
        (Deed::Lift(_) | Deed::Impose(..), None) => {
            gate.refuse(Reason::Unable);
            None
        }
    };
    gate.verdict(act, approvals)
}

/// What was found so far.
struct Gate<'a> {
    proposal: &'a Proposal,
    world: &'a World,
    now: Micros,
    reasons: Vec<Reason>,
    refused: bool,
    people: u8,
    lower: Option<Action>,
}

impl Gate<'_> {
    fn refuse(&mut self, why: Reason) {
        self.refused = true;
        self.reasons.push(why);
    }

    fn ask(&mut self, people: u8, why: Reason) {
        self.people = self.people.max(people);
        self.reasons.push(why);
    }

    fn verdict(mut self, act: Option<Act>, approvals: &Approvals) -> Verdict {
        let decision = match (act, self.lower) {
            _ if self.refused => Decision::Refuse,
            (_, Some(rung)) => Decision::Lower { rung },
            (None, None) => Decision::Refuse,
            _ if approvals.counted(self.people) < usize::from(self.people) => {
                Decision::NeedsApproval { people: self.people }
            }
            (Some(act), None) => Decision::Act(act),
        };
        if self.proposal.mode == crate::playbook::Mode::DryRun {
            self.reasons.insert(0, Reason::DryRun);
            return Verdict { decision: Decision::Refuse, reasons: self.reasons, would: Some(decision) };
        }
        Verdict { decision, reasons: self.reasons, would: None }
    }

    fn mode(&mut self) {
        if self.proposal.mode == crate::playbook::Mode::Approve {
            self.ask(1, Reason::ApproveMode);
        }
        if let Some(people) = self.proposal.guards.people {
            self.ask(people.clamp(1, 2), Reason::Guard(people));
        }
    }

    fn lift(&mut self, action: Action, target: &Target) -> Act {
        self.mode();
        if !self.proposal.by_hand {
            self.ask(1, Reason::LiftUnasked);
        }
        Act::Lift { action, target: target.clone(), connectors: self.proposal.connectors.clone() }
    }

    fn impose(
        &mut self,
        action: Action,
        limit: Limit,
        target: &Target,
        approvals: &Approvals,
    ) -> Option<Act> {
        if self.world.kill_switch {
            self.refuse(Reason::KillSwitch);
        }
        self.mode();
        self.severity(action);
        self.evidence();
        self.width(target);
        self.never_block(action, target);
        self.shared(action, limit, target);
        self.caps(action, target);
        let span = self.span(limit, target, approvals)?;
        Some(Act::Impose(Order {
            action,
            target: target.clone(),
            until: self.now.plus(span),
            connectors: self.proposal.connectors.clone(),
            spared: self.proposal.guards.never_block.clone(),
            playbook: self.proposal.playbook.clone(),
        }))
    }

    /// What the severity allows, and what a notice does.
    fn severity(&mut self, action: Action) {
        let cause = &self.proposal.cause;
        let level = cause.severity;
        match level {
            Severity::Informational | Severity::Low if !self.proposal.by_hand => {
                self.refuse(Reason::SeverityTooLow(level));
            }
            Severity::Informational | Severity::Low | Severity::Medium => {
                self.ask(1, Reason::SeverityAsks(level))
            }
            Severity::High | Severity::Critical => {}
        }
        if !action.reversible() {
            match cause.notice {
                true => self.refuse(Reason::IrreversibleOnNotice(action)),
                false => self.ask(1, Reason::Irreversible(action)),
            }
        }
    }

    /// What the evidence is worth.
    fn evidence(&mut self) {
        if !self.proposal.cause.established {
            self.ask(1, Reason::Forgeable);
        }
        if Flags::CLOCK.into_iter().any(|flag| self.proposal.cause.flags.has(flag)) {
            self.ask(1, Reason::Clock);
        }
        if self.proposal.cause.flags.has(Flags::HUNT) {
            self.ask(1, Reason::Hunt);
        }
    }

    fn width(&mut self, target: &Target) {
        match target {
            Target::Network(net) => {
                let bits = |of: Prefix| if net.max_prefix_len() == 32 { of.ipv4 } else { of.ipv6 };
                let (widest, two) = (bits(self.world.policy.widest), bits(self.world.policy.two_people));
                if net.prefix_len() < widest {
                    self.refuse(Reason::TooBroad(widest));
                }
                if net.prefix_len() < two {
                    self.ask(2, Reason::Wide(target.clone()));
                }
            }
            Target::Asn(_) | Target::Country(_) => self.ask(2, Reason::Wide(target.clone())),
            Target::Named { .. } => {}
        }
    }

    fn never_block(&mut self, action: Action, target: &Target) {
        let (never, policy) = (&self.world.never, &self.world.policy);
        let more = &self.proposal.guards.never_block;
        match never.cut(action, target, more, policy.pieces) {
            Ok(left) if left.is_empty() => self.refuse(Reason::NeverBlock(target.clone())),
            Ok(left) if left.as_slice() != std::slice::from_ref(target) => {
                self.reasons.push(Reason::Cut { pieces: left.len() });
            }
            Ok(_) => {}
            Err(too_many) => self.refuse(Reason::TooManyPieces(too_many.0)),
        }
        if matches!(target, Target::Asn(_) | Target::Country(_)) && action.hinders() {
            let spared = never.nets.len() + more.len();
            self.reasons.push(Reason::SparedByConnector(spared));
        }
    }

    /// A shared address is throttled at the most; a registered key is left alone unless somebody approves.
    fn shared(&mut self, action: Action, limit: Limit, target: &Target) {
        if let Target::Named { field, value } = target
            && crate::Sort::of(field) == Some(crate::Sort::Key)
            && self.world.registered.contains(value)
        {
            self.ask(1, Reason::Registered);
        }
        let harsher = action > Action::Throttle;
        let (Some(net), true) = (target.network(), harsher) else { return };
        let most = self.world.policy.shared_users;
        let most = self.proposal.guards.users.map_or(most, |own| own.min(most));
        match self.world.users(self.now).map(|users| users.behind(net)) {
            None => self.ask(1, Reason::UsersUnknown),
            Some(users) if users >= most => {
                let milder = Deed::Impose(Action::Throttle, limit);
                let able = |c: &crate::Connector| c.kind.carries(milder, target.sort());
                let rung = action.lane() == Lane::Ladder && self.proposal.connectors.iter().any(able);
                match rung {
                    true => {
                        self.lower = Some(Action::Throttle);
                        self.reasons.push(Reason::Shared(users));
                    }
                    false => self.refuse(Reason::Shared(users)),
                }
            }
            Some(_) => {}
        }
    }

    /// Past a cap a person decides. What stands already is not counted again.
    fn caps(&mut self, action: Action, target: &Target) {
        if self.world.stands(action, target, self.now) {
            return;
        }
        let (policy, guards) = (&self.world.policy, &self.proposal.guards);
        let least = |policy: u32, own: Option<u32>| u64::from(own.map_or(policy, |own| own.min(policy)));
        let acted = &self.world.acted;
        let of_rule = acted.get(&self.proposal.cause.rule).copied().unwrap_or_default();
        let all = acted.values().fold(0_u64, |sum, n| sum.saturating_add(u64::from(*n)));
        let world = self.world;
        let now = self.now;
        let live = world.live.iter().filter(|live| live.until > now);
        let counts = [
            (Cap::RuleHour, u64::from(of_rule), least(policy.per_rule_hour, guards.per_hour)),
            (Cap::Hour, all, u64::from(policy.per_hour)),
            (Cap::Live, live.clone().count() as u64, least(policy.live, guards.live)),
        ];
        for (cap, before, most) in counts {
            let count = before.saturating_add(1);
            if count > most {
                self.ask(1, Reason::Breaker { cap, count, most });
            }
        }
        if !action.hinders() {
            return;
        }
        let Some(users) = world.users(now) else {
            if !self.reasons.contains(&Reason::UsersUnknown) {
                self.ask(1, Reason::UsersUnknown);
            }
            return;
        };
        let hindered = live.filter(|live| live.action.hinders()).filter_map(|live| users.hit(&live.target));
        let hit = hindered.chain(users.hit(target)).fold(0_u64, u64::saturating_add);
        let share = match (hit, users.active) {
            (0, _) => 0,
            (_, 0) => u64::MAX,
            (hit, active) => {
                u64::try_from(u128::from(hit) * 1_000_000 / u128::from(active)).unwrap_or(u64::MAX)
            }
        };
        let most = least(policy.share, guards.share);
        if share > most {
            self.ask(1, Reason::Breaker { cap: Cap::Share, count: share, most });
        }
    }

    /// How long it stands: longer for who comes back, no longer than the ceilings, and an hour where nobody approved it.
    fn span(&mut self, limit: Limit, target: &Target, approvals: &Approvals) -> Option<Span> {
        let policy = &self.world.policy;
        let most = self.proposal.guards.ceiling.map_or(policy.ceiling, |own| own.min(policy.ceiling));
        let earlier = self.world.earlier.get(target).copied().unwrap_or_default();
        if limit.first <= Span::ZERO || limit.ceiling <= Span::ZERO {
            self.refuse(Reason::NoLimit);
            return None;
        }
        let wanted = limit.after(earlier, Span(i64::MAX));
        let approved = approvals.counted(self.people) > 0;
        let most = if approved || self.people > 0 { most } else { most.min(policy.automatic) };
        let span = limit.after(earlier, most);
        if span <= Span::ZERO {
            self.refuse(Reason::NoLimit);
            return None;
        }
        if span < wanted {
            self.reasons.push(Reason::Shortened { from: wanted, to: span });
        }
        Some(span)
    }
}
