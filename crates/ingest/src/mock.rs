//! A broker within the process, for demonstrations and tests.
//!
//! In: topics to make. Out: the address to connect to. It is librdkafka's mock cluster, and shares its limits: it
//! keeps 5 MiB or 100,000 records a partition and drops older ones, knows CreateTime only, does not wake a waiting
//! fetch (so use a short [`crate::IngestSettings::fetch_wait`]), and forgets everything with the process.

use rdkafka::{mocking::MockCluster, producer::DefaultProducerContext};

use crate::Error;

/// A broker on loopback that lives as long as this value.
pub struct MockBroker(pub(crate) MockCluster<'static, DefaultProducerContext>);

impl MockBroker {
    /// Starts it on a free port.
    ///
    /// # Errors
    /// [`Error::Client`] if librdkafka cannot.
    pub fn start() -> Result<Self, Error> {
        MockCluster::new(1).map(Self).map_err(failed)
    }

    /// Makes a topic.
    ///
    /// # Errors
    /// [`Error::Client`] if there is one of this name, or librdkafka refuses the name or the number.
    pub fn create_topic(&self, name: &str, partitions: i32) -> Result<(), Error> {
        self.0.create_topic(name, partitions, 1).map_err(failed)
    }

    /// Where it listens: `host:port`.
    #[must_use]
    pub fn bootstrap_servers(&self) -> String {
        self.0.bootstrap_servers()
    }

    /// Takes it off the network, or puts it back.
    ///
    /// # Errors
    /// [`Error::Client`] if librdkafka cannot.
    pub fn set_reachable(&self, reachable: bool) -> Result<(), Error> {
        let done = if reachable { self.0.broker_up(1) } else { self.0.broker_down(1) };
        done.map_err(failed)
    }
}

fn failed(error: rdkafka::error::KafkaError) -> Error {
    Error::Client { reason: format!("mock broker: {error}") }
}
