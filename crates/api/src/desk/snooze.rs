//! Snoozes: a rule and an entity that stay out of the queue for a while, with a reason.
//!
//! In: a rule and an entity, or an alert of both; until when; why; who. Out: snoozes as they are served. Invariants: seven days at
//! most; nothing is hidden without somebody's name and reason; what is hidden is counted and linked to.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use vedette_event::{Micros, Severity};
use vedette_store::{
    LONGEST_SNOOZE,
    model::{EntityRef, Key, Made, NewSnooze, Once, Snooze},
};

use super::{alert, entity::EntityName};
use crate::{
    app::App,
    auth::Caller,
    metrics::now,
    problem::{Kind, Problem, short},
    shape,
};

/// Characters of a reason.
const MAX_REASON: usize = 500;

/// A snooze.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct SnoozeDocument {
    /// Its number.
    pub snooze_id: i64,
    /// The rule's id.
    pub rule: String,
    /// The rule's title when it began.
    pub rule_title: String,
    /// Whom it is about.
    #[schema(value_type = EntityName)]
    pub entity: EntityRef,
    /// The highest severity that was to be seen when it began: an alert above it is not hidden.
    pub severity: Severity,
    /// Why.
    pub reason: String,
    /// By whom.
    pub created_by: String,
    /// Since when.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Micros,
    /// Until when at most.
    #[schema(value_type = String, format = DateTime)]
    pub until: Micros,
    /// When it ended; null while it is in force.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    pub ended_at: Option<Micros>,
    /// Who ended it; `vedette` if its time was over.
    #[schema(required = true)]
    pub ended_by: Option<String>,
    /// How many open alerts it hides.
    pub hidden: u64,
}

impl From<Snooze> for SnoozeDocument {
    fn from(snooze: Snooze) -> Self {
        let Snooze { id, rule_id, rule_title, entity, severity, reason, .. } = snooze;
        Self {
            snooze_id: id,
            rule: rule_id,
            rule_title,
            entity,
            severity,
            reason,
            created_by: snooze.created_by,
            created_at: snooze.created_at,
            until: snooze.until,
            ended_at: snooze.ended_at,
            ended_by: snooze.ended_by,
            hidden: snooze.hidden,
        }
    }
}

/// Snoozes.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SnoozeList {
    /// In force: those that end first in front. Ended: the newest 500.
    pub items: Vec<SnoozeDocument>,
}

/// Which snoozes.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct SnoozeParams {
    /// `in_force` (the default) or `ended`.
    #[param(inline, value_type = Option<shape::SnoozeState>)]
    pub state: Option<String>,
}

/// A snooze to be: `alert_id`, or `rule` and `entity`.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SnoozeBody {
    /// An alert or a notice of the rule and the entity.
    #[serde(default)]
    pub alert_id: Option<String>,
    /// The rule's id.
    #[serde(default)]
    pub rule: Option<String>,
    /// Whom it is about.
    #[schema(value_type = Option<EntityName>)]
    #[serde(default)]
    pub entity: Option<EntityRef>,
    /// Until when (RFC 3339): at most 7 days from now.
    #[schema(format = DateTime)]
    pub until: String,
    /// Why: 1 to 500 characters.
    #[schema(value_type = shape::Reason)]
    pub reason: String,
}

/// Snoozes a rule and an entity.
pub(crate) async fn begin(
    app: &App,
    body: SnoozeBody,
    key: Option<Key>,
    caller: &Caller,
) -> Result<Made<SnoozeDocument>, Problem> {
    let (rule_id, entity) = match (body.alert_id, body.rule, body.entity) {
        (Some(id), None, None) => {
            let row = alert::row(app, &id).await?;
            let entity = row.entity.ok_or_else(|| {
                let detail =
                    "This alert is about no entity, so there is no pair of rule and entity to snooze.";
                Problem::new(Kind::InvalidBody, detail)
            })?;
            (row.rule_id, entity)
        }
        (None, Some(rule), Some(entity)) => (rule, entity),
        _ => {
            let detail = "Give either `alert_id`, or `rule` and `entity`.";
            return Err(Problem::new(Kind::InvalidBody, detail).valid(["alert_id", "rule", "entity"]));
        }
    };
    let until = Micros::parse_rfc3339(&body.until).ok_or_else(|| {
        let detail = format!("`until` is no RFC 3339 time: `{}`.", short(&body.until));
        Problem::new(Kind::InvalidBody, detail)
    })?;
    let latest = now().plus(LONGEST_SNOOZE);
    if until <= now() || until > latest {
        let detail = format!("`until` must be in the future and at most 7 days from now, which is {latest}.");
        return Err(Problem::new(Kind::InvalidBody, detail));
    }
    let reason = body.reason.trim().to_owned();
    if reason.is_empty() || reason.chars().count() > MAX_REASON {
        let detail = format!("A snooze needs a `reason` of 1 to {MAX_REASON} characters.");
        return Err(Problem::new(Kind::InvalidBody, detail));
    }
    let answer = |snooze: &Snooze| serde_json::to_string(&SnoozeDocument::from(snooze.clone()));
    let once = key.map(|key| Once { key, answer });
    let new = NewSnooze { rule_id, entity, until, reason };
    match app.store.snooze(&new, &caller.name, once.as_ref()).await? {
        Made::New(snooze) => Ok(Made::New(snooze.into())),
        Made::Again(answer) => Ok(Made::Again(answer)),
    }
}

/// Snoozes in force, or ended ones.
pub(crate) async fn list(app: &App, params: &SnoozeParams) -> Result<SnoozeList, Problem> {
    let ended = match params.state.as_deref() {
        None | Some("in_force") => false,
        Some("ended") => true,
        Some(other) => {
            let detail = format!("`{}` is no value of `state`.", short(other));
            return Err(Problem::new(Kind::InvalidParameter, detail).valid(["in_force", "ended"]));
        }
    };
    let items = app.store.snoozes(ended).await?.into_iter().map(Into::into).collect();
    Ok(SnoozeList { items })
}

/// Ends a snooze before its time.
pub(crate) async fn lift(app: &App, id: &str, caller: &Caller) -> Result<SnoozeDocument, Problem> {
    Ok(app.store.lift_snooze(number(id)?, &caller.name).await?.into())
}

fn number(id: &str) -> Result<i64, Problem> {
    id.parse()
        .map_err(|_| Problem::new(Kind::NotFound, format!("There is no snooze in force `{}`.", short(id))))
}
