//! What is configured: the limits of the gate, networks that are always spared, connectors and what each needs.
//!
//! In: the configuration, checked. Out: [`Settings`]. Invariant: nothing here shows a secret in `Debug`.

use std::{fmt, path::PathBuf, sync::Arc};

use ipnet::IpNet;
pub use lettre::message::Mailbox;
use serde::Deserialize;
use vedette_ingest::Security;
use vedette_respond::{Connector, gate::Policy};

use crate::board::Outlet;

/// Everything.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// The gate's limits.
    pub policy: Policy,
    /// Spared always, beside what people set.
    pub never_block: Vec<IpNet>,
    /// What is there to act by.
    pub connectors: Vec<ConnectorSettings>,
    /// How browsers reach the console, for links.
    pub console: Option<Arc<str>>,
}

/// One connector.
#[derive(Debug, Clone)]
pub struct ConnectorSettings {
    /// Its kind, and by what playbooks call it.
    pub connector: Connector,
    /// What it needs.
    pub means: Means,
}

/// What a connector needs.
#[derive(Debug, Clone)]
pub enum Means {
    /// The other side fetches at most so many.
    Fetched(usize),
    /// A program of the deployment's own.
    Webhook {
        /// Where it listens.
        url: Secret,
        /// What requests are signed with.
        secret: Secret,
        /// It may be inside the network, and without TLS.
        private: bool,
        /// PEM of the authorities behind its certificate; those that browsers trust without it.
        authorities: Option<PathBuf>,
    },
    /// A channel, by an incoming webhook.
    Slack {
        /// Its address, which is the secret.
        url: Secret,
        /// As of [`Means::Webhook`].
        private: bool,
        /// As of [`Means::Webhook`].
        authorities: Option<PathBuf>,
    },
    /// A service, by events v2.
    Pagerduty {
        /// Where events go.
        url: Secret,
        /// Which service.
        routing_key: Secret,
        /// As of [`Means::Webhook`].
        private: bool,
        /// As of [`Means::Webhook`].
        authorities: Option<PathBuf>,
    },
    /// A dynamic address group of a firewall.
    Dag {
        /// Which.
        firewall: Firewall,
        /// As of [`Means::Webhook`].
        private: bool,
        /// As of [`Means::Webhook`].
        authorities: Option<PathBuf>,
    },
    /// A mail server.
    Email(Mail),
    /// Topics.
    Kafka(Topics),
}

/// Where everything is told.
#[derive(Debug, Clone)]
pub struct Topics {
    /// `host:port` of each broker.
    pub brokers: Vec<String>,
    /// How to connect.
    pub security: Security,
    /// Each alert and notice, whenever it changes.
    pub alerts: Arc<str>,
    /// Each step of an action, what playbooks tell, what programs are to do.
    pub actions: Arc<str>,
}

/// A firewall of PAN-OS, or a pair, and the tags that are ours there.
#[derive(Debug, Clone)]
pub struct Firewall {
    /// One URL, or those of both of a pair: of the firewall's management, or of a Panorama.
    pub hosts: Vec<Arc<str>>,
    /// Of the XML interface.
    pub key: Secret,
    /// What our tags begin with.
    pub tag: Arc<str>,
    /// Which virtual system.
    pub vsys: Option<Arc<str>>,
    /// The serial number of the firewall behind a Panorama.
    pub target: Option<Arc<str>>,
    /// The most addresses that it takes, those of others among them.
    pub capacity: usize,
}

/// Messages to people, by a mail server.
#[derive(Debug, Clone)]
pub struct Mail {
    /// The server's name or address.
    pub server: String,
    /// Its port.
    pub port: u16,
    /// How the connection is made safe.
    pub tls: MailTls,
    /// As of [`Means::Webhook`].
    pub private: bool,
    /// As of [`Means::Webhook`].
    pub authorities: Option<PathBuf>,
    /// Who writes.
    pub from: Mailbox,
    /// To whom.
    pub to: Vec<Mailbox>,
    /// A user and its password, where the server asks for one.
    pub login: Option<(Secret, Secret)>,
}

/// How a connection to a mail server is made safe.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MailTls {
    /// By STARTTLS, and not at all without it.
    #[default]
    Starttls,
    /// From the first byte on.
    Implicit,
    /// It is in the clear.
    None,
}

impl MailTls {
    /// The port that is usual.
    #[must_use]
    pub const fn port(self) -> u16 {
        match self {
            Self::Starttls => 587,
            Self::Implicit => 465,
            Self::None => 25,
        }
    }
}

impl Settings {
    /// The connectors whose other side fetches.
    #[must_use]
    pub fn outlets(&self) -> Vec<Outlet> {
        let outlets = self.connectors.iter().filter_map(|of| match of.means {
            Means::Fetched(capacity) => {
                Some(Outlet { name: of.connector.name.clone(), kind: of.connector.kind, capacity })
            }
            _ => None,
        });
        outlets.collect()
    }

    /// True if there is such a connector.
    #[must_use]
    pub fn has(&self, connector: &Connector) -> bool {
        self.connectors.iter().any(|of| of.connector == *connector)
    }
}

/// A text that nobody may read.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<str>);

impl Secret {
    /// Hides a text.
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// The text, for whoever sends it.
    #[must_use]
    pub fn show(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}
