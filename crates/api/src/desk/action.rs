//! Response: what playbooks propose, and what people decide about it.
//!
//! In: an alert and a playbook, or an action and a decision; who asks. Out: actions as they are served. Invariants: everything goes through the
//! gate; a dry run changes nothing; without a responder behind this server all of it is refused, and says so.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use vedette_act::{ActError, Guards, Planned, Response, Spared};
use vedette_event::{Micros, Severity};
use vedette_respond::gate::Policy;
use vedette_store::model::{ActionQuery, ActionRow, ActionState, AuditEntry, Delivery, Effectiveness};

use super::{
    audit::AuditDocument,
    filter::case_number,
    list::{Listed, page_size},
};
use crate::{
    app::App,
    auth::Caller,
    metrics::now,
    problem::{Kind, Problem, short},
    shape,
};

/// Characters of what a person says to a decision.
const MAX_REASON: usize = 500;

/// What was proposed, and what became of it.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct ActionDocument {
    /// Its number.
    pub action_id: i64,
    /// How far it has come.
    #[schema(value_type = shape::ActionStateName)]
    pub state: ActionState,
    /// What the enforcement points' own logs say; null while nothing is known.
    #[schema(value_type = Option<shape::EffectName>, required = true)]
    pub effect: Option<Effectiveness>,
    /// Since when, by their clock: with `acted_at` the time to effect.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    pub effect_at: Option<Micros>,
    /// The playbook's name.
    pub playbook: String,
    /// The step's name.
    pub step: String,
    /// What the step does.
    pub deed: String,
    /// To whom; null for what only tells.
    #[schema(required = true)]
    pub target: Option<String>,
    /// The alert or notice.
    pub alert_id: String,
    /// Its rule.
    pub rule: String,
    /// Its severity when it was proposed.
    pub severity: Severity,
    /// What the gate and people say, a line each.
    pub reasons: Vec<String>,
    /// Who started it; null if the playbook did by itself.
    #[schema(required = true)]
    pub proposer: Option<String>,
    /// Who approved it.
    pub approvals: Vec<String>,
    /// How many people must approve it in all.
    pub approvals_needed: u8,
    /// When it was ordered.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    pub acted_at: Option<Micros>,
    /// Until when it stands.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    pub until: Option<Micros>,
    /// When it was proposed.
    #[schema(value_type = String, format = DateTime)]
    pub proposed_at: Micros,
    /// When it changed last.
    #[schema(value_type = String, format = DateTime)]
    pub changed_at: Micros,
    /// Rises by one with each change.
    pub version: i64,
}

impl From<ActionRow> for ActionDocument {
    fn from(row: ActionRow) -> Self {
        Self {
            action_id: row.id,
            state: row.state,
            effect: row.effect,
            effect_at: row.effect_at,
            playbook: row.playbook,
            step: row.step,
            deed: row.deed,
            target: row.target,
            alert_id: row.alert_id,
            rule: row.rule_id,
            severity: row.severity,
            reasons: row.reasons,
            proposer: row.proposer,
            approvals: row.approvals,
            approvals_needed: row.people,
            acted_at: row.acted_at,
            until: row.until,
            proposed_at: row.proposed_at,
            changed_at: row.changed_at,
            version: row.version,
        }
    }
}

/// What one connector is to tell of an action, or has told.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct DeliveryDocument {
    /// By which connector.
    pub connector: String,
    /// `due`, `done` or `dead` (given up).
    #[schema(value_type = shape::DeliveryStateName)]
    pub state: &'static str,
    /// How often it was tried.
    pub tries: u32,
    /// What went wrong last.
    #[schema(required = true)]
    pub detail: Option<String>,
}

impl From<Delivery> for DeliveryDocument {
    fn from(of: Delivery) -> Self {
        Self { connector: of.connector, state: of.state.name(), tries: of.tries, detail: of.detail }
    }
}

/// A connector at which a live action is not in force.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct LeftOutDocument {
    /// Which.
    pub connector: String,
    /// Why.
    pub why: String,
}

/// An action with each of its steps.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct WholeAction {
    /// As in the list.
    #[serde(flatten)]
    pub action: ActionDocument,
    /// What is told by whom.
    pub deliveries: Vec<DeliveryDocument>,
    /// Where it is live and not in force, or not with all of its target.
    pub left_out: Vec<LeftOutDocument>,
    /// Every step, in order.
    pub steps: Vec<AuditDocument>,
}

/// Which actions.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct ActionParams {
    /// In any of these states, separated by commas; without it in any.
    #[param(inline, value_type = Option<shape::ActionStates>)]
    pub state: Option<String>,
    /// With this effect: `effective`, `unconfirmed` or `wrong`.
    #[param(inline, value_type = Option<shape::EffectName>)]
    pub effect: Option<String>,
    /// For this alert or notice.
    pub alert_id: Option<String>,
    /// For the alerts of this case.
    #[param(inline, value_type = Option<shape::CaseNumber>)]
    pub case: Option<String>,
    /// At most so many: 1 to 500. Default: 50.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 500)]
    pub limit: Option<String>,
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
}

/// How a playbook is run by hand.
#[derive(Debug, Default, Deserialize, IntoParams, ToSchema)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct RunParams {
    /// `true`: only say what it would come to.
    #[serde(default)]
    pub dry_run: Option<bool>,
}

/// What one step comes to.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PlannedDocument {
    /// The step's name.
    pub step: String,
    /// What it does.
    pub deed: String,
    /// To whom.
    #[schema(required = true)]
    pub target: Option<String>,
    /// By what.
    pub connectors: Vec<String>,
    /// How far it comes, or has come.
    #[schema(value_type = shape::ActionStateName)]
    pub state: ActionState,
    /// How many people must approve it in all.
    pub approvals_needed: u8,
    /// What the gate says.
    pub reasons: Vec<String>,
    /// The action; null in a dry run.
    #[schema(required = true)]
    pub action_id: Option<i64>,
}

impl From<Planned> for PlannedDocument {
    fn from(of: Planned) -> Self {
        Self {
            step: of.step,
            deed: of.deed,
            target: of.target,
            connectors: of.connectors,
            state: of.state,
            approvals_needed: of.people,
            reasons: of.reasons,
            action_id: of.action,
        }
    }
}

/// A step that was left out.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SkippedDocument {
    /// The step's name.
    pub step: String,
    /// Why.
    pub why: String,
}

/// What came of running a playbook by hand.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RunDocument {
    /// True if nothing was written.
    pub dry_run: bool,
    /// What is proposed.
    pub steps: Vec<PlannedDocument>,
    /// What was left out.
    pub skipped: Vec<SkippedDocument>,
}

/// What a person says to a decision.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DecisionBody {
    /// Why: at most 500 characters.
    #[serde(default)]
    pub reason: Option<String>,
}

/// An entry of the never-block set: a network, or a field and its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SparedDocument {
    /// An address or a network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    /// Of anything else, the field that names it, such as `user.name`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// Its value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// Why it is there: at most 200 characters.
    #[serde(default)]
    pub note: String,
}

/// The never-block set, as it is set.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NeverBlockBody {
    /// All of it: what is left out is spared no longer. At most 10,000.
    pub entries: Vec<SparedDocument>,
}

/// The gate's caps.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
pub(crate) struct LimitsDocument {
    /// Countermeasures for one rule in an hour.
    pub per_rule_hour: u32,
    /// Countermeasures in an hour.
    pub per_hour: u32,
    /// Countermeasures that are live at once.
    pub live: u32,
    /// Of the active users those that are hit at once, in per cent.
    pub share_percent: f64,
    /// So many users behind an address within a day make it a shared one, which is throttled at the most.
    pub shared_users: u64,
    /// No countermeasure stands longer, in seconds.
    pub ceiling_seconds: i64,
    /// One that nobody approved stands no longer, in seconds.
    pub automatic_seconds: i64,
}

impl From<Policy> for LimitsDocument {
    fn from(policy: Policy) -> Self {
        Self {
            per_rule_hour: policy.per_rule_hour,
            per_hour: policy.per_hour,
            live: policy.live,
            share_percent: f64::from(policy.share) / 1e4,
            shared_users: policy.shared_users,
            ceiling_seconds: policy.ceiling.0 / 1_000_000,
            automatic_seconds: policy.automatic.0 / 1_000_000,
        }
    }
}

/// What no countermeasure may hit, and whether anything is done at all.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct GuardsDocument {
    /// What people have set.
    pub entries: Vec<SparedDocument>,
    /// What the configuration spares always, beside private addresses.
    pub always: Vec<String>,
    /// The caps, as configured: past one a person must approve.
    pub limits: LimitsDocument,
    /// Nothing is done.
    pub kill_switch: bool,
    /// Rises with each change; also the `ETag`.
    pub version: i64,
}

impl From<Guards> for GuardsDocument {
    fn from(guards: Guards) -> Self {
        let entries = guards
            .entries
            .into_iter()
            .map(|Spared { network, field, value, note }| SparedDocument { network, field, value, note });
        let Guards { always, policy, kill_switch, version, .. } = guards;
        Self { entries: entries.collect(), always, limits: policy.into(), kill_switch, version }
    }
}

/// The kill switch.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct KillSwitchBody {
    /// `true` takes back all that is live and lets nothing be done; `false` lets things be done again.
    pub on: bool,
}

/// What acts behind this server.
pub(crate) fn response(app: &App) -> Result<&Response, Problem> {
    app.response.as_ref().ok_or_else(|| {
        Problem::new(Kind::NotReady, "No responder runs beside this server, so nothing can be done here.")
    })
}

/// A page of actions, the newest first.
pub(crate) async fn page(app: &App, params: &ActionParams) -> Result<Listed<ActionDocument>, Problem> {
    let unknown = |what: &str, value: &str, valid: Vec<&'static str>| {
        let detail = format!("`{}` is no value of `{what}`.", short(value));
        Problem::new(Kind::InvalidParameter, detail).valid(valid)
    };
    let states = params.state.as_deref().into_iter().flat_map(|list| list.split(','));
    let states = states.map(|name| {
        let all = || ActionState::ALL.iter().map(|state| state.name()).collect();
        ActionState::parse(name).ok_or_else(|| unknown("state", name, all()))
    });
    let effect = params.effect.as_deref().map(|name| {
        let all = || Effectiveness::ALL.iter().map(|effect| effect.name()).collect();
        Effectiveness::parse(name).ok_or_else(|| unknown("effect", name, all()))
    });
    let before = params.cursor.as_deref().map(|cursor| {
        let bad = "This cursor is not one that this list gave out.";
        cursor.parse().map_err(|_| Problem::new(Kind::InvalidCursor, bad))
    });
    let query = ActionQuery {
        states: states.collect::<Result<_, _>>()?,
        effect: effect.transpose()?,
        alert: params.alert_id.clone(),
        case: params.case.as_deref().map(|text| case_number("case", text)).transpose()?,
        before: before.transpose()?,
        limit: page_size(params.limit.as_deref())?,
    };
    let page = app.store.actions(&query).await?;
    let items = page.items.into_iter().map(Into::into).collect();
    Ok(Listed { items, next_cursor: page.next_cursor, search_capped: None })
}

/// One action with its steps.
pub(crate) async fn whole(app: &App, id: i64) -> Result<WholeAction, Problem> {
    let row = app.store.action(id).await?;
    let row = row.ok_or_else(|| not_found(&id.to_string()))?;
    let steps: Vec<AuditEntry> = app.store.action_steps(id).await?;
    let deliveries = app.store.deliveries(id).await?.into_iter().map(Into::into).collect();
    let left_out = app.response.as_ref().map(|response| response.left_out(&row)).unwrap_or_default();
    let left_out = left_out
        .into_iter()
        .map(|(connector, why)| LeftOutDocument { connector: connector.to_string(), why });
    Ok(WholeAction {
        action: row.into(),
        deliveries,
        left_out: left_out.collect(),
        steps: steps.into_iter().map(Into::into).collect(),
    })
}

/// The number that a path names.
pub(crate) fn number(id: &str) -> Result<i64, Problem> {
    id.parse().map_err(|_| not_found(id))
}

fn not_found(id: &str) -> Problem {
    Problem::new(Kind::NotFound, format!("There is no action `{}`.", short(id)))
}

/// Runs a playbook for an alert or a notice, or says what that would come to.
pub(crate) async fn run(
    app: &App,
    (alert, playbook): (&str, &str),
    dry_run: bool,
    caller: &Caller,
) -> Result<RunDocument, Problem> {
    let done = response(app)?.run_by_hand(alert, playbook, dry_run, (&caller.name, now())).await?;
    let skipped = done.skipped.into_iter().map(|(step, why)| SkippedDocument { step, why });
    Ok(RunDocument {
        dry_run,
        steps: done.steps.into_iter().map(Into::into).collect(),
        skipped: skipped.collect(),
    })
}

/// What a person decides about an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decision {
    /// To do it.
    Approve,
    /// Not to.
    Reject,
    /// To take it back.
    Revert,
    /// To have connectors try again.
    Replay,
}

/// Carries out what a person decides.
pub(crate) async fn decide(
    app: &App,
    id: i64,
    decision: Decision,
    body: DecisionBody,
    caller: &Caller,
) -> Result<ActionDocument, Problem> {
    let why = body.reason.as_deref();
    if why.is_some_and(|why| why.chars().count() > MAX_REASON) {
        let detail = format!("`reason` is longer than {MAX_REASON} characters.");
        return Err(Problem::new(Kind::InvalidBody, detail));
    }
    let (response, who) = (response(app)?, caller.name.as_str());
    let row = match decision {
        Decision::Approve => response.approve(id, (who, now())).await?,
        Decision::Reject => response.reject(id, why, who).await?,
        Decision::Revert => response.revert(id, why, who).await?,
        Decision::Replay => response.replay(id, who).await?,
    };
    Ok(row.into())
}

/// The never-block set and the kill switch.
pub(crate) async fn guards(app: &App) -> Result<GuardsDocument, Problem> {
    Ok(response(app)?.guards().await?.into())
}

/// Sets the never-block set.
pub(crate) async fn set_never_block(
    app: &App,
    body: NeverBlockBody,
    version: i64,
    caller: &Caller,
) -> Result<GuardsDocument, Problem> {
    if let Some(at) = body.entries.iter().position(|entry| entry.note.chars().count() > 200) {
        let detail = format!("The note of entry {} is longer than 200 characters.", at + 1);
        return Err(Problem::new(Kind::InvalidBody, detail));
    }
    let texts = |entry: &SparedDocument| {
        let SparedDocument { network, field, value, note } = entry.clone();
        [network, field, value, Some(note)].into_iter().flatten().collect::<String>()
    };
    if let Some(at) = body.entries.iter().position(|entry| texts(entry).contains(char::is_control)) {
        let detail = format!("Entry {} holds a control character; write it in one line.", at + 1);
        return Err(Problem::new(Kind::InvalidBody, detail));
    }
    let set: Vec<Spared> = body
        .entries
        .into_iter()
        .map(|SparedDocument { network, field, value, note }| Spared { network, field, value, note })
        .collect();
    Ok(response(app)?.set_never_block(&set, version, &caller.name).await?.into())
}

/// Throws or releases the kill switch.
pub(crate) async fn kill_switch(app: &App, on: bool, caller: &Caller) -> Result<GuardsDocument, Problem> {
    Ok(response(app)?.throw_kill_switch(on, &caller.name).await?.into())
}

impl From<ActError> for Problem {
    fn from(error: ActError) -> Self {
        let said = format!("{error}.");
        let sentence = said.chars().next().map(|c| c.to_uppercase().to_string() + &said[c.len_utf8()..]);
        let detail = sentence.unwrap_or(said);
        match error {
            ActError::Store(error) => error.into(),
            ActError::Stored { .. } => Self::new(Kind::Internal, detail),
            ActError::NoPlaybook { .. } => Self::new(Kind::NotFound, detail),
            ActError::NotFor(_) | ActError::WrongState { .. } => Self::new(Kind::Conflict, detail),
            ActError::OwnProposal(_) => Self::new(Kind::Forbidden, detail),
            ActError::BadEntry(_) => Self::new(Kind::InvalidBody, detail),
        }
    }
}
