//! The shared state, at the bottom: what every use case and every route may need, and nothing that knows of them.
//!
//! In: the store, the snapshots, the settings. Out: one [`App`], shared. Invariant: this file names no route and no page,
//! so that use cases, routes and pages depend on it and never on one another through it.

use std::sync::Arc;

use tokio::sync::watch;
use vedette_act::{Board, Response};
use vedette_store::Store;

use crate::{
    admission::Admission, backtests::Backtests, checking::RuleCheck, connections::Connections,
    hunting::Hunting, hunts::Hunts, live::LiveView, metrics::Metrics, pace::Pace, proof::Proofs,
    relay::Relays, reload::Reloads, shares::Shares,
};

/// Event streams open at once.
pub(crate) const MAX_STREAMS: usize = 512;
/// Of these, one caller's: a page for each monitor of a whole shift, and an eighth of all.
pub(crate) const STREAMS_EACH: usize = 64;

/// Changes of as many alerts as a filter finds or a request names, and of those that are taken back, under way: each takes the writer
/// again and again, some tens of milliseconds at a time, and for publishing to wait for them all it takes no more than these.
pub(crate) const MAX_BULKS: usize = 4;
/// Of these, one caller's.
pub(crate) const BULKS_EACH: usize = 2;

/// Streams that read the store at once: each commit wakes all of them, and half of the store's connections stay free
/// for pages.
pub(crate) const STREAM_READS: usize = 2;

/// What routes share.
pub(crate) struct App {
    pub store: Store,
    pub live: LiveView,
    pub metrics: Arc<Metrics>,
    /// How counters moved lately.
    pub pace: Arc<Pace>,
    pub admission: Admission,
    pub proofs: Proofs,
    pub connections: Arc<Connections>,
    /// Nobody needs to sign in.
    pub open: bool,
    /// Browsers come over TLS, to this process or to a proxy in front of it.
    pub secure: bool,
    /// A proxy is in front, which says from where a request comes.
    pub proxied: bool,
    /// The server listens on loopback.
    pub loopback: bool,
    pub console: bool,
    pub hosts: Vec<String>,
    pub reloads: Option<Reloads>,
    /// How a rule's text is checked.
    pub check: RuleCheck,
    /// By whom rules are tried on the past, where there is one.
    pub backtests: Option<Backtests>,
    /// What enforcement points fetch, if any may.
    pub board: Option<Board>,
    /// By what people act.
    pub response: Option<Response>,
    /// By whom hunts are run.
    pub hunts: Option<Hunts>,
    /// The hunts that are known.
    pub hunting: Hunting,
    /// A place for each open event stream and each export.
    pub streams: Arc<Shares>,
    /// A place for each change of many alerts.
    pub bulks: Arc<Shares>,
    /// What streams are fed by.
    pub relays: Arc<Relays>,
    /// Becomes true when the server stops.
    pub stopping: watch::Receiver<bool>,
}
