//! What all of this rests on: the store, the settings, the playbooks in force, and the world as the gate looks at it.
//!
//! In: changes of actions, by their order. Out: [`World`] for one decision. Invariants: what is live is kept in memory as the store has it,
//! caught up before each decision; a target's earlier times, and the counts of the last hour, are asked of the store.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, MutexGuard, watch};
use vedette_event::{Micros, Span, time::HOUR};
use vedette_respond::{
    PlaybookSet, Proposal, Target,
    gate::{Live, NeverBlock, Order, Users, World},
    network,
};
use vedette_store::{
    Store,
    model::{ActionRow, ActionState, ResponseState},
};

use crate::{settings::Settings, tell::Connectors};

/// Changes of actions that are read at once.
const STEP: u32 = 500;

/// Why something cannot be done.
#[derive(Debug, thiserror::Error)]
pub enum ActError {
    /// The store says so.
    #[error(transparent)]
    Store(#[from] vedette_store::Error),
    /// What was stored is not what was written.
    #[error("the stored {what} of action {id} cannot be read")]
    Stored {
        /// What of it.
        what: &'static str,
        /// Which action; 0 for what holds for all.
        id: i64,
        /// Why.
        source: serde_json::Error,
    },
    /// There is no such playbook.
    #[error("there is no playbook `{name}`; {}", known(.there))]
    NoPlaybook {
        /// The name asked for.
        name: String,
        /// Those that there are.
        there: Vec<String>,
    },
    /// The alert is none that the playbook is for.
    #[error("playbook `{0}` is not for such an alert: its trigger does not fit")]
    NotFor(String),
    /// The action is not at a point where this can be done.
    #[error("action {id} is {state}; {needs}")]
    WrongState {
        /// Which.
        id: i64,
        /// How far it has come.
        state: ActionState,
        /// What it would have to be.
        needs: &'static str,
    },
    /// Where two people are needed, nobody approves what is their own.
    #[error("{0} proposed this, and where two people are needed somebody else must approve it")]
    OwnProposal(String),
    /// An entry of the never-block set is not one.
    #[error(
        "entry {0} of the never-block set is neither a network (no broader than /8, in IPv6 /16) nor a field and its value"
    )]
    BadEntry(usize),
}

fn known(names: &[String]) -> String {
    if names.is_empty() { "there is none".to_owned() } else { format!("there are: {}", names.join(", ")) }
}

/// An entry of the never-block set, as people write it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spared {
    /// An address or a network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    /// Of anything else, the field that names it, such as `user.name`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// Its value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// Why it is there.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
}

/// Everything that acting rests on; to be cloned.
#[derive(Clone)]
pub struct Response {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    settings: Settings,
    playbooks: watch::Receiver<Arc<PlaybookSet>>,
    connectors: Connectors,
    users: watch::Sender<Option<Users>>,
    mirror: Mutex<Mirror>,
}

/// What is in force, as the store has it.
#[derive(Default)]
pub(crate) struct Mirror {
    /// Caught up to here.
    seq: i64,
    /// Open actions by number.
    pub(crate) open: BTreeMap<i64, Held>,
    /// The world but for what is asked of the store for one decision.
    pub(crate) world: World,
    /// Rises when what is to be in force may have changed.
    pub(crate) edition: u64,
    /// What the world has as live is not yet what is open.
    stale: bool,
    /// Of the settings of all actions.
    settings_version: Option<i64>,
    users: Option<watch::Receiver<Option<Users>>>,
}

/// An open action.
pub(crate) struct Held {
    pub(crate) row: ActionRow,
    pub(crate) order: Option<Order>,
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response").finish_non_exhaustive()
    }
}

impl Response {
    /// Knows nothing yet.
    #[must_use]
    pub fn new(store: Store, settings: Settings, playbooks: watch::Receiver<Arc<PlaybookSet>>) -> Self {
        let (connectors, mirror) = (Connectors::default(), Mutex::default());
        let users = watch::Sender::default();
        Self { inner: Arc::new(Inner { store, settings, playbooks, connectors, users, mirror }) }
    }

    /// The store.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.inner.store
    }

    /// What is configured.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.inner.settings
    }

    /// How the connectors that send are doing.
    #[must_use]
    pub fn connectors(&self) -> &Connectors {
        &self.inner.connectors
    }

    /// Where a live action is not in force, and why: by connector, as far as these say.
    #[must_use]
    pub fn left_out(&self, row: &ActionRow) -> Vec<(Arc<str>, String)> {
        let order = row.order.as_deref().filter(|_| row.state == ActionState::Live);
        let order = order.and_then(|order| stored::<Order>(order, "order", row.id).ok());
        order.map_or_else(Vec::new, |order| self.connectors().left_out(&order))
    }

    /// Takes up who is there, as far as that is known.
    pub(crate) fn know(&self, users: Option<Users>) {
        self.inner.users.send_replace(users);
    }

    /// The playbooks in force.
    #[must_use]
    pub fn playbooks(&self) -> Arc<PlaybookSet> {
        self.inner.playbooks.borrow().clone()
    }

    /// What is open, caught up with the store.
    pub(crate) async fn mirror(&self) -> Result<MutexGuard<'_, Mirror>, ActError> {
        let mut mirror = self.inner.mirror.lock().await;
        mirror.catch_up(&self.inner.store, &self.inner.settings).await?;
        let users = mirror.users.get_or_insert_with(|| {
            let mut users = self.inner.users.subscribe();
            users.mark_changed();
            users
        });
        if users.has_changed().unwrap_or(false) {
            let known = users.borrow_and_update().clone();
            mirror.world.users = known.unwrap_or_default();
        }
        Ok(mirror)
    }

    /// Fills in what the gate asks of one target, and of the last hour.
    pub(crate) async fn look_up(
        &self,
        world: &mut World,
        (proposal, id): (&Proposal, i64),
        now: Micros,
    ) -> Result<(), ActError> {
        let acted = self.inner.store.acted_since(now.minus(Span(HOUR.0))).await?;
        world.acted = acted.into_iter().map(|(rule, n)| (rule.into(), n)).collect();
        world.earlier.clear();
        if let Some(target) = &proposal.target {
            let times = self.inner.store.earlier(&target.to_string(), id).await?;
            world.earlier.insert(target.clone(), times);
        }
        Ok(())
    }
}

impl Mirror {
    async fn catch_up(&mut self, store: &Store, settings: &Settings) -> Result<(), ActError> {
        let state = store.response_state().await?;
        if self.settings_version != Some(state.version) {
            self.world.policy = settings.policy.clone();
            self.world.never = never_block(&state, &settings.never_block)?;
            self.world.kill_switch = state.kill_switch;
            self.settings_version = Some(state.version);
            self.edition += 1;
        }
        loop {
            let rows = store.actions_since(self.seq, STEP).await?;
            if rows.is_empty() {
                break;
            }
            // Row by row: whoever asks may be gone at the next wait, and what was taken up must be known as such.
            for row in rows {
                self.seq = row.seq;
                if self.take(row) {
                    self.edition += 1;
                    self.stale = true;
                }
            }
        }
        if std::mem::take(&mut self.stale) {
            let live = self.open.values().filter_map(|held| held.order.as_ref());
            let live = live.map(|order| Live {
                action: order.action(),
                target: order.target().clone(),
                until: order.until(),
            });
            self.world.live = live.collect();
        }
        Ok(())
    }

    /// Takes a row up; true if what is live changed. An order that cannot be read is in force nowhere, and hides no other.
    fn take(&mut self, row: ActionRow) -> bool {
        let was = self.open.get(&row.id).is_some_and(|held| held.order.is_some());
        if !row.state.is_open() {
            self.open.remove(&row.id);
            return was;
        }
        let order = row.order.as_deref().filter(|_| row.state == ActionState::Live);
        let order = order.and_then(|order| match stored::<Order>(order, "order", row.id) {
            Ok(order) => Some(order),
            Err(error) => {
                tracing::error!(action = row.id, %error, "it is live and in force nowhere; take it back");
                None
            }
        });
        let is = order.is_some();
        let mut row = row;
        if is {
            // There may be a hundred thousand of these, and nobody asks for it here.
            (row.proposal, row.order, row.reasons) = (String::new(), None, Vec::new());
        }
        self.open.insert(row.id, Held { row, order });
        was || is
    }
}

/// What was stored as JSON.
pub(crate) fn stored<T: serde::de::DeserializeOwned>(
    text: &str,
    what: &'static str,
    id: i64,
) -> Result<T, ActError> {
    serde_json::from_str(text).map_err(|source| ActError::Stored { what, id, source })
}

/// The entries as people wrote them.
pub(crate) fn entries(state: &ResponseState) -> Result<Vec<Spared>, ActError> {
    stored(&state.never_block, "never-block set", 0)
}

fn never_block(state: &ResponseState, always: &[IpNet]) -> Result<NeverBlock, ActError> {
    let mut never = NeverBlock { nets: always.to_vec(), targets: BTreeSet::new() };
    for (at, entry) in entries(state)?.iter().enumerate() {
        match read_entry(entry).ok_or(ActError::BadEntry(at + 1))? {
            Target::Network(net) => never.nets.push(net),
            other => drop(never.targets.insert(other)),
        }
    }
    Ok(never)
}

/// Not half the internet: who spares that has nothing done at all, and has the kill switch for it.
fn is_some_network(net: &IpNet) -> bool {
    net.prefix_len() >= if matches!(net, IpNet::V4(_)) { 8 } else { 16 }
}

/// What an entry names; nothing where it names nothing.
pub(crate) fn read_entry(entry: &Spared) -> Option<Target> {
    match (&entry.network, &entry.field, &entry.value) {
        (Some(net), None, None) => network(net.trim()).filter(is_some_network).map(Target::Network),
        (None, Some(field), Some(value)) => {
            let value = vedette_event::Value::Text(value.trim().into());
            Target::of(&field.trim().into(), &value, None).ok()
        }
        _ => None,
    }
}
