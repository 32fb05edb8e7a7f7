//! The cluster, as every client of it is told.
//!
//! In: `kafka`. Out: what `ingest` takes. Invariant: whoever reads or writes there connects by the same settings.

use vedette_ingest::{Sasl, Security};

use super::{KafkaConfig, SecurityConfig};

impl KafkaConfig {
    /// The brokers, one by one.
    pub fn brokers(&self) -> Vec<String> {
        self.brokers.split(',').map(|broker| broker.trim().to_owned()).collect()
    }
}

impl SecurityConfig {
    /// What every client of the cluster is given.
    pub fn settings(&self) -> Security {
        let sasl = match (self.mechanism, &self.username, &self.password) {
            (Some(mechanism), Some(username), Some(password)) => {
                Some(Sasl { mechanism, username: username.clone(), password: password.clone() })
            }
            _ => None,
        };
        Security { protocol: self.protocol, sasl, ca_file: self.ca_file.clone() }
    }
}
