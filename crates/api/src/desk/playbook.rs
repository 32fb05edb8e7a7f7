//! Playbooks in force, and the connectors that they act by.
//!
//! In: the shared state. Out: documents. Invariant: a step that needs a connector which is not there says so.

use std::{collections::BTreeMap, sync::Arc};

use serde::Serialize;
use utoipa::ToSchema;
use vedette_act::{Response, settings::Means};
use vedette_event::{Micros, Span};
use vedette_respond::{ConnectorKind, Deed, Playbook, gate::Order, playbook::On};

use super::{action::response, took::Took};
use crate::{app::App, problem::Problem, shape};

/// Countermeasures that the times to effect are taken from.
const MEASURED: u32 = 1_000;

/// A playbook in force.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PlaybookDocument {
    /// By what people and routes call it.
    pub name: String,
    /// Its title.
    pub title: String,
    /// What it is for.
    #[schema(required = true)]
    pub description: Option<String>,
    /// `dry-run`, `approve` or `automatic`.
    pub mode: &'static str,
    /// `notice`, `alert`, `both` or `hand`.
    pub on: &'static str,
    /// Of what its body is hashed to.
    pub version: String,
    /// Its file.
    pub file: String,
    /// What it does, in order.
    pub steps: Vec<StepDocument>,
}

/// A step of a playbook.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct StepDocument {
    /// Its name.
    pub name: String,
    /// What it does.
    pub deed: &'static str,
    /// The field of the alert's key that names the target.
    #[schema(required = true)]
    pub target: Option<String>,
    /// How long it stands the first time, in seconds.
    #[schema(required = true)]
    pub seconds: Option<i64>,
    /// By what.
    pub connectors: Vec<String>,
    /// Those of them that are not configured: the step is refused.
    pub missing: Vec<String>,
}

impl StepDocument {
    /// How long it stands the first time.
    pub fn lasts(&self) -> Option<Span> {
        self.seconds.map(Span::secs)
    }
}

/// A connector, and how it is doing.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ConnectorDocument {
    /// By what playbooks call it.
    pub name: String,
    /// What kind it is.
    pub kind: &'static str,
    /// `fetched` (the other side asks), `ok`, or `failing`.
    #[schema(value_type = shape::ConnectorState)]
    pub state: &'static str,
    /// Countermeasures in force there: those shown to who fetches, or by a device's own word; null where nothing is known.
    #[schema(required = true)]
    pub in_force: Option<usize>,
    /// Those that are not in force there, for want of room or since it cannot hold them.
    pub left_out: usize,
    /// From the order of a countermeasure that went by it to the first deny of its target in an enforcement point's log: among the newest
    /// 1,000 that took effect.
    pub effect: Took,
    /// Failures since it last took something.
    pub failures: u32,
    /// Messages that wait for it.
    pub waiting: u64,
    /// Messages that it gave up, until somebody has them tried again.
    pub given_up: u64,
    /// What went wrong last.
    #[schema(required = true)]
    pub failure: Option<String>,
    /// When.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    pub failed_at: Option<Micros>,
    /// When it last took something.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    pub taken_at: Option<Micros>,
}

/// Playbooks, and those that were refused; and by what they act.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PlaybookList {
    /// In force.
    pub items: Vec<PlaybookDocument>,
    /// Refused, each with its place and what is wrong.
    pub rejected: Vec<String>,
    /// The connectors that are configured.
    pub connectors: Vec<ConnectorDocument>,
}

/// All playbooks.
pub(crate) async fn playbooks(app: &App) -> Result<PlaybookList, Problem> {
    let response = response(app)?;
    let connectors = connectors(app).await?;
    let set = response.playbooks();
    let items = set.playbooks.iter().map(|playbook| playbook_document(playbook, response)).collect();
    Ok(PlaybookList { items, rejected: set.rejected.iter().map(ToString::to_string).collect(), connectors })
}

/// How long countermeasures took, by the connectors they went by.
async fn effect_times(response: &Response) -> Result<BTreeMap<Arc<str>, Vec<Span>>, Problem> {
    let mut times: BTreeMap<Arc<str>, Vec<Span>> = BTreeMap::new();
    for (order, took) in response.store().took_effect(MEASURED).await? {
        // One that cannot be read is said to be so where it is live.
        let Ok(order) = serde_json::from_str::<Order>(&order) else { continue };
        for connector in order.connectors() {
            times.entry(connector.name.clone()).or_default().push(took);
        }
    }
    Ok(times)
}

/// The connectors that are configured, and how each is doing.
pub(crate) async fn connectors(app: &App) -> Result<Vec<ConnectorDocument>, Problem> {
    let response = response(app)?;
    let mut times = effect_times(response).await?;
    let figures = response.store().connector_figures().await?;
    let health = response.connectors().read();
    let all = response.settings().connectors.iter().map(|of| {
        let name = &of.connector.name;
        let own = figures.iter().find(|figures| *figures.connector == **name);
        let health = health.get(name).cloned().unwrap_or_default();
        // Those who fetch are shown it; a device says it.
        let fetches = of.connector.kind != ConnectorKind::Dag;
        let shown = app.board.as_ref().filter(|_| fetches).and_then(|board| board.held(name));
        let there = health.there.as_ref().map(|there| (there.in_force, there.left_out.len()));
        let there = shown.map(|held| (held.shown, held.left_out + held.unfit)).or(there);
        ConnectorDocument {
            name: name.to_string(),
            kind: of.connector.kind.name(),
            state: match of.means {
                Means::Fetched(_) => "fetched",
                _ if health.in_a_row > 0 => "failing",
                _ => "ok",
            },
            in_force: there.map(|(in_force, _)| in_force),
            left_out: there.map_or(0, |(_, left_out)| left_out),
            effect: Took::of(times.remove(name).unwrap_or_default()),
            failures: health.in_a_row,
            waiting: own.map_or(0, |figures| figures.due),
            given_up: own.map_or(0, |figures| figures.dead),
            failure: health.failure,
            failed_at: health.failed_at,
            taken_at: health.taken_at,
        }
    });
    Ok(all.collect())
}

fn playbook_document(playbook: &Playbook, response: &Response) -> PlaybookDocument {
    let steps = playbook.body.steps.iter().map(|step| {
        let missing = step.connectors.iter().filter(|connector| !response.settings().has(connector));
        StepDocument {
            name: step.name.to_string(),
            deed: step.deed.name(),
            target: step.target.as_ref().map(ToString::to_string),
            seconds: match step.deed {
                Deed::Impose(_, limit) => Some(limit.first.0 / 1_000_000),
                _ => None,
            },
            connectors: step.connectors.iter().map(|connector| connector.name.to_string()).collect(),
            missing: missing.map(|connector| connector.name.to_string()).collect(),
        }
    });
    PlaybookDocument {
        name: playbook.name.to_string(),
        title: playbook.title.to_string(),
        description: playbook.description.as_ref().map(ToString::to_string),
        mode: playbook.body.mode.name(),
        on: match playbook.body.trigger.on {
            On::Notice => "notice",
            On::Alert => "alert",
            On::Both => "both",
            On::Hand => "hand",
        },
        version: playbook.version.to_string(),
        file: playbook.file.to_string(),
        steps: steps.collect(),
    }
}
