//! A service in this process, open on loopback.
//!
//! In: a store, what there is to be seen of the engine, what acts beside it. Out: a server that is bound and does not run yet.

use std::sync::Arc;

use anyhow::Result;
use vedette_act::Response;
use vedette_api::{Metrics, Server, ServerSettings, SessionLimits, checking::RuleCheck, live::LiveView};
use vedette_store::Store;

pub async fn bind(store: &Store, live: LiveView, response: Option<Response>) -> Result<Server> {
    let settings = ServerSettings {
        address: "127.0.0.1:0".parse()?,
        open_loopback: true,
        console: true,
        oidc: None,
        sessions: SessionLimits::USUAL,
        proxy_tls: false,
        tls: None,
        hosts: Vec::new(),
        reloads: None,
        check: RuleCheck::new(|_| Err("no rules here".to_owned())),
        board: None,
        response,
        hunts: None,
        backtests: None,
    };
    let metrics = Arc::new(Metrics::new(live.clone()));
    Ok(Server::bind(settings, store.clone(), live, metrics).await?)
}
