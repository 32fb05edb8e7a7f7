//! What a topic is set to, where it makes a difference before the first record: whose time its records carry.
//!
//! In: a topic's name. Out: its `message.timestamp.type`, or nothing where the brokers do not tell (it takes a right of
//! its own, DescribeConfigs); then each record tells.

use std::{sync::Arc, time::Duration};

use rdkafka::{
    admin::{AdminClient, AdminOptions, ConfigResourceResult, ResourceSpecifier},
    config::FromClientConfigAndContext,
    error::KafkaResult,
};

use crate::{
    client::{self, Connection, Listener},
    ingested::Clock,
    settings::IngestSettings,
};

/// How long to wait for an answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// The setting's name.
const TIMESTAMP_TYPE: &str = "message.timestamp.type";

/// Whose time the topic's next records will carry.
pub(crate) fn clock(settings: &IngestSettings, connection: &Arc<Connection>, topic: &str) -> Option<Clock> {
    let config = client::connect(&settings.brokers, &settings.security).ok()?;
    let found =
        AdminClient::from_config_and_context(&config, Listener(connection.clone())).and_then(|admin| {
            let options =
                AdminOptions::new().request_timeout(Some(PATIENCE)).operation_timeout(Some(PATIENCE));
            futures_executor::block_on(admin.describe_configs([&ResourceSpecifier::Topic(topic)], &options))
        });
    told(found)
        .inspect_err(|reason| tracing::debug!(target: "kafka", topic, reason, "not told whose time it is"))
        .ok()
}

fn told(answer: KafkaResult<Vec<ConfigResourceResult>>) -> Result<Clock, String> {
    let resource = answer.map_err(|e| e.to_string())?.pop().ok_or("no answer")?;
    let resource = resource.map_err(|e| e.to_string())?;
    match resource.get(TIMESTAMP_TYPE).and_then(|entry| entry.value.as_deref()) {
        Some("LogAppendTime") => Ok(Clock::Broker),
        Some("CreateTime") => Ok(Clock::Producer),
        other => Err(format!("{TIMESTAMP_TYPE} is {other:?}")),
    }
}
