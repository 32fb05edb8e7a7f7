//! The responder: from alerts to actions, and each action to its next step.
//!
//! In: the store, as it is. Out: actions in it, what is to be in force for those who see to it. One [`Responder::turn`] looks at new
//! alerts and notices, at what people decided, at what is due and at what is over; it holds nothing that the store has not, so that a
//! crash at any point is made good by the next turn. Invariants: what is due passes the gate once more before it is done; a countermeasure is
//! written down as live before any connector sees it; what a notice started is not started again by its alert.

use std::{collections::BTreeSet, sync::Arc};

use tokio::sync::watch;
use vedette_event::{Alert, Micros, Notice, Span};
use vedette_respond::{
    Proposal, Subject,
    desired::DesiredState,
    gate::{Act, Approvals, Decision, Verdict, World, decide},
    propose,
};
use vedette_store::model::{
    ActionChange, ActionQuery, ActionRow, ActionState, Effectiveness, NewAction, ToRespond,
};

use crate::{
    board::Board,
    recall::Recall,
    response::{ActError, Mirror, Response, stored},
};

/// Alerts and notices that one turn looks at: it writes what they come to in one transaction.
const SUBJECTS: u32 = 64;
/// Steps of one turn: each is a transaction, and people who decide wait for the turn.
const STEPS: usize = 64;
/// Within so long an enforcement point should have denied somebody who goes on: a firewall fetches its lists every five minutes.
const CONFIRMED: Span = Span::secs(600);
/// Who acts when nobody does.
const SYSTEM: &str = "vedette";

/// What is to be in force, with the world that it was made from.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// By connector.
    pub desired: DesiredState,
    /// What is spared, and whether anything is done at all.
    pub world: World,
}

/// What a turn came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turn {
    /// There is more to do at once.
    pub more: bool,
    /// When the next is due, if nothing changes before.
    pub next: Option<Micros>,
}

/// Takes turns.
pub struct Responder {
    response: Response,
    board: Board,
    recall: Recall,
    wanted: watch::Sender<Option<Arc<Wanted>>>,
    /// What the others were told of last.
    shown: Option<u64>,
}

impl Responder {
    /// One that has told nothing yet.
    #[must_use]
    pub fn new(response: Response, board: Board) -> Self {
        Self { response, board, recall: Recall::default(), wanted: watch::Sender::default(), shown: None }
    }

    /// What is to be in force, whenever it changes; nothing before that is known, since by an empty word all would be withdrawn.
    #[must_use]
    pub fn wanted(&self) -> watch::Receiver<Option<Arc<Wanted>>> {
        self.wanted.subscribe()
    }

    /// Does what there is to do.
    ///
    /// # Errors
    /// If the store fails, or does not hold what was written. What was done stays done.
    pub async fn turn(&mut self, now: Micros) -> Result<Turn, ActError> {
        let mut more = self.look_at_alerts(now).await?;
        let response = self.response.clone();
        let mut mirror = response.mirror().await?;
        let rows = mirror.open.values().map(|held| &held.row);
        let due = rows.filter(|row| due(row, &mirror.world, now));
        let steps: Vec<ActionRow> = due.take(STEPS).cloned().collect();
        more |= steps.len() == STEPS;
        if !steps.is_empty() {
            for row in steps {
                self.step(&mut mirror, row, now).await?;
            }
            drop(mirror);
            // What the steps made of it is in it now.
            mirror = response.mirror().await?;
        }
        let next = mirror.open.values().filter_map(|held| ends(&held.row, &mirror.world)).min();
        self.show(&mirror, now).await?;
        Ok(Turn { more, next })
    }

    /// Looks at what came since, proposes, and writes it with how far it looked; true if there is more.
    async fn look_at_alerts(&self, now: Micros) -> Result<bool, ActError> {
        let store = self.response.store();
        let Some(position) = store.response_state().await?.position else {
            store.begin_responding().await?;
            return Ok(true);
        };
        let (subjects, reached) = store.to_respond(position, SUBJECTS).await?;
        if reached == position {
            return Ok(false);
        }
        let mut mirror = self.response.mirror().await?;
        let mut new = Vec::new();
        for subject in &subjects {
            for proposal in self.proposals(subject, now).await? {
                let (proposal, verdict) =
                    self.response.judge(&mut mirror, proposal, &Approvals::default(), 0, now).await?;
                new.push(new_action(&proposal, &verdict, None));
            }
        }
        store.propose(&new, Some(reached)).await?;
        Ok(true)
    }

    /// What the playbooks propose for an alert or a notice, but for what its notices have started already.
    async fn proposals(&self, of: &ToRespond, now: Micros) -> Result<Vec<Proposal>, ActError> {
        let playbooks = self.response.playbooks();
        let read = match of.notice {
            true => serde_json::from_str::<Notice>(&of.body)
                .map(|notice| propose(&playbooks, &Subject::from(&notice), now)),
            false => serde_json::from_str::<Alert>(&of.body)
                .map(|alert| propose(&playbooks, &Subject::from(&alert), now)),
        };
        let mut proposals = match read {
            Ok(proposals) => proposals,
            Err(error) => {
                tracing::error!(id = of.id, %error, "a stored body cannot be read; no playbook looks at it");
                return Ok(Vec::new());
            }
        };
        if proposals.is_empty() {
            return Ok(proposals);
        }
        let mut started = BTreeSet::new();
        for notice in &of.covers {
            let query = ActionQuery {
                alert: Some(notice.clone()),
                limit: vedette_store::MAX_ACTIONS,
                ..ActionQuery::default()
            };
            let earlier = self.response.store().actions(&query).await?.items;
            started.extend(earlier.into_iter().map(|row| (row.playbook, row.step, row.target)));
        }
        proposals.retain(|proposal| {
            let target = proposal.target.as_ref().map(ToString::to_string);
            !started.contains(&(proposal.playbook.to_string(), proposal.step.to_string(), target))
        });
        Ok(proposals)
    }

    /// Takes an action's next step.
    async fn step(&self, mirror: &mut Mirror, row: ActionRow, now: Micros) -> Result<(), ActError> {
        let store = self.response.store();
        let to = |state| ActionChange { state: Some(state), ..ActionChange::default() };
        let over = row.until.is_some_and(|until| until <= now);
        let (change, step) = match row.state {
            ActionState::Live if !over => {
                let effect = Some(Effectiveness::Unconfirmed);
                (ActionChange { effect, ..ActionChange::default() }, "action_unconfirmed")
            }
            ActionState::Live => (to(ActionState::Expired), "action_expired"),
            ActionState::Waiting => (to(ActionState::Lapsed), "action_lapsed"),
            _ => return self.carry_out(mirror, row, now).await,
        };
        passing(store.change_action(row.id, row.version, &change, SYSTEM, step).await)
    }

    /// Does what is due, if the gate still lets it.
    async fn carry_out(&self, mirror: &mut Mirror, row: ActionRow, now: Micros) -> Result<(), ActError> {
        let store = self.response.store();
        let proposal: Proposal = stored(&row.proposal, "proposal", row.id)?;
        let approvals = approvals(&row);
        let (judged, mut verdict) =
            self.response.judge(mirror, proposal.clone(), &approvals, row.id, now).await?;
        if judged.id != proposal.id {
            // Something milder is another action, with a row of its own.
            store.propose(&[new_action(&judged, &verdict, row.proposer.as_deref())], None).await?;
            verdict.decision = Decision::Refuse;
        }
        let reasons = Some(verdict.reasons.iter().map(ToString::to_string).collect());
        let mut change = ActionChange { reasons, ..ActionChange::default() };
        let step = match verdict.decision {
            Decision::Act(Act::Tell) => {
                change.state = Some(ActionState::Telling);
                change.tell =
                    proposal.connectors.iter().map(|connector| connector.name.to_string()).collect();
                "action_sent"
            }
            Decision::Act(Act::Impose(order)) => {
                change.state = Some(ActionState::Live);
                let text = serde_json::to_string(&order).map_err(|source| ActError::Stored {
                    what: "order",
                    id: row.id,
                    source,
                })?;
                change.order = Some((text, now, order.until()));
                "action_ordered"
            }
            Decision::Act(Act::Lift { action, target, .. }) => {
                let hit = mirror.open.values().filter(|held| {
                    held.order
                        .as_ref()
                        .is_some_and(|order| order.action() == action && *order.target() == target)
                });
                let revert = ActionChange { state: Some(ActionState::Reverted), ..ActionChange::default() };
                for held in hit {
                    let (id, version) = (held.row.id, held.row.version);
                    let done = store.change_action(id, version, &revert, SYSTEM, "action_reverted").await;
                    if matches!(done, Err(vedette_store::Error::Stale { .. })) {
                        // Somebody changed it in between: it stands, so this is not done; the next turn tries again.
                        return Ok(());
                    }
                    done?;
                }
                change.state = Some(ActionState::Done);
                "action_lifted"
            }
            Decision::NeedsApproval { people } => {
                (change.state, change.people) = (Some(ActionState::Waiting), Some(people));
                "action_waits"
            }
            Decision::Lower { .. } | Decision::Refuse => {
                change.state = Some(ActionState::Refused);
                "action_refused"
            }
        };
        passing(store.change_action(row.id, row.version, &change, SYSTEM, step).await)
    }

    /// Tells everybody what is to be in force, where that has changed.
    async fn show(&mut self, mirror: &Mirror, now: Micros) -> Result<(), ActError> {
        if self.shown == Some(mirror.edition) {
            return Ok(());
        }
        let mut desired = DesiredState::default();
        mirror.open.values().filter_map(|held| held.order.as_ref()).for_each(|order| desired.admit(order));
        let world = mirror.world.clone();
        for outlet in self.board.outlets() {
            let (in_force, uncut) = desired.in_force(&outlet.name, &world, now);
            for (action, target) in uncut {
                tracing::error!(outlet = %outlet.name, %action, %target, "cut into too many prefixes; it is not in force");
            }
            let (store, board) = (self.response.store(), &self.board);
            self.recall.note((store, board), &outlet.name, &in_force, now).await?;
            board.show(&outlet.name, in_force, now);
        }
        self.wanted.send_replace(Some(Arc::new(Wanted { desired, world })));
        self.shown = Some(mirror.edition);
        Ok(())
    }
}

impl Response {
    /// What the gate says to a proposal, or, where it lets only something milder pass, to that.
    pub(crate) async fn judge(
        &self,
        mirror: &mut Mirror,
        proposal: Proposal,
        approvals: &Approvals,
        id: i64,
        now: Micros,
    ) -> Result<(Proposal, Verdict), ActError> {
        self.look_up(&mut mirror.world, (&proposal, id), now).await?;
        let mut verdict = decide(&proposal, approvals, &mirror.world, now);
        if let Some(missing) = proposal.connectors.iter().find(|connector| !self.settings().has(connector)) {
            verdict.decision = Decision::Refuse;
            verdict.reasons.push(vedette_respond::gate::Reason::NoConnector(missing.name.clone()));
        }
        let Decision::Lower { rung } = verdict.decision else { return Ok((proposal, verdict)) };
        let Some(lowered) = proposal.lowered(rung) else { return Ok((proposal, verdict)) };
        let mut milder = decide(&lowered, approvals, &mirror.world, now);
        milder.reasons.splice(0..0, verdict.reasons);
        Ok((lowered, milder))
    }
}

/// A change that somebody else has made in between is not made again: the next turn looks at what is there then.
fn passing(done: Result<ActionRow, vedette_store::Error>) -> Result<(), ActError> {
    match done {
        // The kill switch was thrown in between: the next turn looks at what is there, too.
        Ok(_) | Err(vedette_store::Error::Stale { .. } | vedette_store::Error::Clash { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// When an action is over, if nobody does anything.
fn ends(row: &ActionRow, world: &World) -> Option<Micros> {
    match row.state {
        ActionState::Live => [row.until, unconfirmed_at(row)].into_iter().flatten().min(),
        ActionState::Waiting => Some(row.proposed_at.plus(world.policy.lapse)),
        _ => None,
    }
}

/// When the enforcement points should have said something of a countermeasure that their logs can tell of.
fn unconfirmed_at(row: &ActionRow) -> Option<Micros> {
    let tells = matches!(row.deed.as_str(), "block_address" | "throttle" | "step_up") && row.effect.is_none();
    row.acted_at.filter(|_| tells).map(|at| at.plus(CONFIRMED))
}

fn due(row: &ActionRow, world: &World, now: Micros) -> bool {
    row.state == ActionState::Due || ends(row, world).is_some_and(|end| end <= now)
}

/// Who stands behind an action.
pub(crate) fn approvals(row: &ActionRow) -> Approvals {
    let by = row.approvals.iter().map(|name| Arc::from(&**name)).collect();
    Approvals { proposer: row.proposer.as_deref().map(Arc::from), by }
}

/// The row of what is proposed, by what the gate says to it.
pub(crate) fn new_action(proposal: &Proposal, verdict: &Verdict, proposer: Option<&str>) -> NewAction {
    let (state, people) = match (&verdict.decision, &verdict.would) {
        (_, Some(_)) => (ActionState::DryRun, 0),
        (Decision::Act(_), None) => (ActionState::Due, 0),
        (Decision::NeedsApproval { people }, None) => (ActionState::Waiting, *people),
        (Decision::Lower { .. } | Decision::Refuse, None) => (ActionState::Refused, 0),
    };
    let row = ActionRow {
        id: 0,
        state,
        playbook: proposal.playbook.to_string(),
        step: proposal.step.to_string(),
        deed: proposal.deed.name().to_owned(),
        action: proposal.deed.action().map(|action| action.name().to_owned()),
        target: proposal.target.as_ref().map(ToString::to_string),
        alert_id: proposal.cause.id.to_string(),
        rule_id: proposal.cause.rule.to_string(),
        severity: proposal.cause.severity,
        // What was read from JSON, or is made of texts and numbers, can be written as JSON.
        proposal: serde_json::to_string(proposal).unwrap_or_default(),
        reasons: verdict.reasons.iter().map(ToString::to_string).collect(),
        proposer: proposer.map(str::to_owned),
        approvals: Vec::new(),
        people,
        order: None,
        acted_at: None,
        until: None,
        effect: None,
        effect_at: None,
        proposed_at: proposal.at,
        changed_at: proposal.at,
        version: 0,
        seq: 0,
    };
    NewAction { proposal_id: proposal.id.to_string(), row }
}
