//! What people do: run a playbook by hand, approve, reject, revert, say what nothing may hit, stop everything.
//!
//! In: who asks, and for what. Out: actions as they are then, or why not. Invariants: all goes through the gate, with the same world as the
//! responder's; a dry run writes nothing; nobody approves what is their own where two people are needed.

use serde::Serialize;
use vedette_event::{Alert, Micros, Notice};
use vedette_respond::{
    Run, Subject, by_hand,
    gate::{Approvals, Decision, Policy},
};
use vedette_store::{
    Setting,
    model::{ActionChange, ActionRow, ActionState, ResponseState, RowState},
};

use crate::{
    responder::{approvals, new_action},
    response::{ActError, Response, Spared, entries, read_entry, stored},
};

/// Entries of the never-block set that people may make.
pub const MAX_ENTRIES: usize = 10_000;

/// What running a playbook by hand comes to, step by step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Planned {
    /// The step's name.
    pub step: String,
    /// What it does.
    pub deed: String,
    /// To whom.
    pub target: Option<String>,
    /// By what.
    pub connectors: Vec<String>,
    /// How far it comes: `due`, `waiting`, `refused`, `dry_run`.
    pub state: ActionState,
    /// How many people must approve it.
    pub people: u8,
    /// What the gate says.
    pub reasons: Vec<String>,
    /// The action, once there is one.
    pub action: Option<i64>,
}

/// What came of running a playbook by hand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ByHand {
    /// What is proposed.
    pub steps: Vec<Planned>,
    /// The steps that it leaves out, and why.
    pub skipped: Vec<(String, String)>,
}

/// The never-block set and the kill switch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guards {
    /// What people have set.
    pub entries: Vec<Spared>,
    /// What the configuration spares always.
    pub always: Vec<String>,
    /// The gate's limits.
    pub policy: Policy,
    /// Nothing is done.
    pub kill_switch: bool,
    /// Rises with each change.
    pub version: i64,
}

impl Response {
    /// Runs a playbook for an alert or a notice; as a dry run it only says what that would come to.
    ///
    /// # Errors
    /// If there is no such playbook or alert, or the playbook is not for it.
    pub async fn run_by_hand(
        &self,
        alert: &str,
        name: &str,
        dry_run: bool,
        (actor, now): (&str, Micros),
    ) -> Result<ByHand, ActError> {
        let playbooks = self.playbooks();
        let Some(playbook) = playbooks.get(name) else {
            let there = playbooks.playbooks.iter().map(|playbook| playbook.name.to_string()).collect();
            return Err(ActError::NoPlaybook { name: name.to_owned(), there });
        };
        let row = self.store().alert(alert).await?;
        let not_found = || vedette_store::Error::NotFound { what: "alert or notice", id: alert.to_owned() };
        let row = row.ok_or_else(not_found)?;
        let run: Option<Run> = match row.state {
            RowState::Notice => {
                let notice: Notice = stored(&row.body, "notice", 0)?;
                by_hand(&playbooks, playbook, &Subject::from(&notice), now)
            }
            RowState::Active | RowState::Ended => {
                let alert: Alert = stored(&row.body, "alert", 0)?;
                by_hand(&playbooks, playbook, &Subject::from(&alert), now)
            }
        };
        let run = run.ok_or_else(|| ActError::NotFor(name.to_owned()))?;
        let mut mirror = self.mirror().await?;
        let (mut new, mut steps) = (Vec::new(), Vec::new());
        for proposal in run.proposals {
            let mine = Approvals { proposer: Some(actor.into()), ..Approvals::default() };
            let (proposal, verdict) = self.judge(&mut mirror, proposal, &mine, 0, now).await?;
            let action = new_action(&proposal, &verdict, Some(actor));
            let connectors = proposal.connectors.iter().map(|connector| connector.name.to_string()).collect();
            steps.push(planned(&action.row, connectors));
            new.push(action);
        }
        if !dry_run {
            let rows = self.store().propose(&new, None).await?;
            for (step, row) in steps.iter_mut().zip(rows) {
                (step.action, step.state) = (Some(row.id), row.state);
            }
        }
        let skipped = run.skipped.into_iter().map(|(step, why)| (step.to_string(), why.to_string()));
        Ok(ByHand { steps, skipped: skipped.collect() })
    }

    /// The playbooks that a person may run for an alert or a notice, by name.
    #[must_use]
    pub fn runnable(&self, row: &vedette_store::model::AlertRow) -> Vec<String> {
        let playbooks = self.playbooks();
        let fits = |of: &Subject<'_>| {
            let fitting = playbooks.playbooks.iter().filter(|playbook| playbook.body.trigger.fits(of));
            fitting.map(|playbook| playbook.name.to_string()).collect()
        };
        match row.state {
            RowState::Notice => serde_json::from_str::<Notice>(&row.body).map(|of| fits(&Subject::from(&of))),
            RowState::Active | RowState::Ended => {
                serde_json::from_str::<Alert>(&row.body).map(|of| fits(&Subject::from(&of)))
            }
        }
        .unwrap_or_default()
    }

    /// Approves an action; it is done once enough people have.
    ///
    /// # Errors
    /// If it does not wait for approval, or is the approver's own where two people are needed.
    pub async fn approve(&self, id: i64, (actor, now): (&str, Micros)) -> Result<ActionRow, ActError> {
        let row = self.waiting(id, "only what waits for approval can be approved").await?;
        let mut mirror = self.mirror().await?;
        let proposal = stored(&row.proposal, "proposal", id)?;
        let mut all = approvals(&row);
        all.by.insert(actor.into());
        let own = row.proposer.as_deref() == Some(actor);
        let (_, verdict) = self.judge(&mut mirror, proposal, &all, id, now).await?;
        if own
            && (row.people > 1
                || matches!(verdict.decision, Decision::NeedsApproval { people } if people > 1))
        {
            return Err(ActError::OwnProposal(actor.to_owned()));
        }
        let mut change = ActionChange {
            approved_by: Some(actor.to_owned()),
            reasons: Some(verdict.reasons.iter().map(ToString::to_string).collect()),
            ..ActionChange::default()
        };
        match verdict.decision {
            Decision::NeedsApproval { people } => change.people = Some(people),
            // Whether it may be done, or only something milder, the responder finds when it does it.
            Decision::Act(_) | Decision::Lower { .. } | Decision::Refuse => {
                change.state = Some(ActionState::Due);
            }
        }
        Ok(self.store().change_action(id, row.version, &change, actor, "action_approved").await?)
    }

    /// Rejects an action that waits for approval.
    ///
    /// # Errors
    /// If it does not.
    pub async fn reject(&self, id: i64, why: Option<&str>, actor: &str) -> Result<ActionRow, ActError> {
        let row = self.waiting(id, "only what waits for approval can be rejected").await?;
        self.end(row, ActionState::Rejected, (why, actor), "action_rejected").await
    }

    /// Takes back a countermeasure that is live.
    ///
    /// # Errors
    /// If it is not.
    pub async fn revert(&self, id: i64, why: Option<&str>, actor: &str) -> Result<ActionRow, ActError> {
        let row = self.found(id).await?;
        if row.state != ActionState::Live {
            let needs = "only what is live can be taken back";
            return Err(ActError::WrongState { id, state: row.state, needs });
        }
        self.end(row, ActionState::Reverted, (why, actor), "action_reverted").await
    }

    /// Has connectors try again what they gave up of an action.
    ///
    /// # Errors
    /// If they gave up nothing.
    pub async fn replay(&self, id: i64, actor: &str) -> Result<ActionRow, ActError> {
        let row = self.found(id).await?;
        Ok(self.store().replay(id, row.version, actor).await?)
    }

    /// The never-block set and the kill switch.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn guards(&self) -> Result<Guards, ActError> {
        self.shown(&self.store().response_state().await?)
    }

    /// Sets the never-block set, from the version that was seen. What it covers comes out of what is live, too.
    ///
    /// # Errors
    /// If an entry is none, or the version is another.
    pub async fn set_never_block(
        &self,
        set: &[Spared],
        version: i64,
        actor: &str,
    ) -> Result<Guards, ActError> {
        if set.len() > MAX_ENTRIES {
            let max = MAX_ENTRIES;
            return Err(vedette_store::Error::Full { what: "entries of the never-block set", max }.into());
        }
        if let Some(at) = set.iter().position(|entry| read_entry(entry).is_none()) {
            return Err(ActError::BadEntry(at + 1));
        }
        let text = serde_json::to_string(set);
        let text = text.map_err(|source| ActError::Stored { what: "never-block set", id: 0, source })?;
        let state = self.store().set_response(&Setting::NeverBlock(text), Some(version), actor).await?;
        self.shown(&state)
    }

    /// Throws the kill switch, or releases it; what it took back stays so. Whoever throws it need not know what was set before.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn throw_kill_switch(&self, on: bool, actor: &str) -> Result<Guards, ActError> {
        let state = self.store().set_response(&Setting::KillSwitch(on), None, actor).await?;
        self.shown(&state)
    }

    fn shown(&self, state: &ResponseState) -> Result<Guards, ActError> {
        let always = self.settings().never_block.iter().map(ToString::to_string).collect();
        let (kill_switch, version) = (state.kill_switch, state.version);
        let policy = self.settings().policy.clone();
        Ok(Guards { entries: entries(state)?, always, policy, kill_switch, version })
    }

    /// Ends an action by a person's word.
    async fn end(
        &self,
        row: ActionRow,
        state: ActionState,
        (why, actor): (Option<&str>, &str),
        step: &'static str,
    ) -> Result<ActionRow, ActError> {
        let mut change = ActionChange { state: Some(state), ..ActionChange::default() };
        if let Some(why) = why.map(str::trim).filter(|why| !why.is_empty()) {
            let said = format!("{actor}: {why}");
            change.reasons = Some(row.reasons.into_iter().chain([said]).collect());
        }
        Ok(self.store().change_action(row.id, row.version, &change, actor, step).await?)
    }

    async fn found(&self, id: i64) -> Result<ActionRow, ActError> {
        let row = self.store().action(id).await?;
        let not_found = || vedette_store::Error::NotFound { what: "action", id: id.to_string() };
        Ok(row.ok_or_else(not_found)?)
    }

    async fn waiting(&self, id: i64, needs: &'static str) -> Result<ActionRow, ActError> {
        let row = self.found(id).await?;
        match row.state {
            ActionState::Waiting => Ok(row),
            state => Err(ActError::WrongState { id, state, needs }),
        }
    }
}

fn planned(row: &ActionRow, connectors: Vec<String>) -> Planned {
    Planned {
        step: row.step.clone(),
        deed: row.deed.clone(),
        target: row.target.clone(),
        connectors,
        state: row.state,
        people: row.people,
        reasons: row.reasons.clone(),
        action: None,
    }
}
