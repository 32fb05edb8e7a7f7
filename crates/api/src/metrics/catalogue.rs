//! All metrics by name, with their labels and what each means.
//!
//! Invariant: the names are a contract with dashboards; a snapshot test holds them.

/// Every metric. Counters bear the suffix `_total` in the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Metric {
    /// Whether the service is ready.
    Ready,
    /// Records read.
    Records,
    /// Events evaluated.
    Events,
    /// Dead letters.
    DeadLetters,
    /// Events whose time was replaced.
    FlaggedEvents,
    /// Records deleted by the broker before they were read.
    LostRecords,
    /// Records not read yet.
    Lag,
    /// How far the watermark is behind the wall clock.
    WatermarkDelay,
    /// Rules accepted and refused.
    Rules,
    /// The number of the version of the rules in force.
    RulesVersion,
    /// How often the rules were read again.
    Reloads,
    /// Events that matched a rule.
    RuleMatches,
    /// Alerts opened by a rule.
    RuleAlerts,
    /// Alerts opened.
    Alerts,
    /// Notices raised.
    Notices,
    /// Dead letters that their topic did not take.
    MissedDeadLetters,
    /// From release to commit.
    PublishLatency,
    /// Age of the oldest checkpoint.
    CheckpointAge,
    /// Whether each topic is read.
    TopicState,
    /// Partitions of each topic, by whether they are read.
    TopicPartitions,
    /// Findings that wait.
    PendingFindings,
    /// How many may.
    PendingFindingsLimit,
    /// Keys with state.
    StateKeys,
    /// Keys of the fullest key group.
    FullestState,
    /// How many a key group may hold.
    FullestStateLimit,
    /// Age of what only the kernel knows.
    ViewAge,
    /// What each stage is doing.
    StageState,
    /// For how long a stage has had work and not moved.
    StageStill,
    /// For how long a stage has had work and shown no sign of life.
    StageSilent,
    /// Bytes of the store's files.
    StoreBytes,
    /// Requests answered.
    HttpRequests,
    /// Connections open.
    HttpConnections,
    /// Connections closed to make room.
    HttpConnectionsShed,
    /// Event streams open.
    HttpStreams,
    /// Attempts to sign in.
    SignIns,
    /// Actions by state.
    Actions,
    /// Countermeasures by effect.
    ActionEffects,
    /// How a connector is doing.
    ConnectorFailures,
    /// What waits for it.
    ConnectorWaiting,
    /// What it gave up.
    ConnectorGivenUp,
    /// What is in force there.
    ConnectorInForce,
    /// What is not.
    ConnectorLeftOut,
    /// How long it takes.
    ConnectorEffect,
    /// Processor time.
    CpuSeconds,
    /// Memory in use.
    ResidentMemory,
    /// Address space.
    VirtualMemory,
    /// Open descriptors.
    OpenFds,
    /// Descriptors that may be open.
    MaxFds,
    /// When the process started.
    StartTime,
}

impl Metric {
    /// All metrics in the order in which they are declared, since each finds its own by its place: stable name, labels, what it means.
    const CATALOGUE: [(Self, &'static str, &'static str, &'static str); 49] = [
        (Self::Ready, "vedette_ready", "", "1 if the service does its work, else 0"),
        (Self::Records, "vedette_records", "source", "Records read"),
        (Self::Events, "vedette_events", "source", "Events evaluated"),
        (
            Self::DeadLetters,
            "vedette_dead_letters",
            "source,reason",
            "Records and events that ended unevaluated",
        ),
        (Self::FlaggedEvents, "vedette_flagged_events", "source,flag", "Events whose time was replaced"),
        (
            Self::LostRecords,
            "vedette_lost_records",
            "source",
            "Records that were lost: deleted unread, or their topic was made anew too early",
        ),
        (Self::Lag, "vedette_lag_records", "source,partition", "Records not read yet"),
        (
            Self::WatermarkDelay,
            "vedette_watermark_delay_seconds",
            "source",
            "How far the source's watermark is behind the wall clock",
        ),
        (Self::Rules, "vedette_rules", "state", "Rule documents by state"),
        (Self::RulesVersion, "vedette_rules_version", "", "The number of the version of the rules in force"),
        (
            Self::Reloads,
            "vedette_reloads",
            "result",
            "How often the rules were read again, with something new or refused as a whole",
        ),
        (Self::RuleMatches, "vedette_rule_matches", "rule", "Events that matched the rule"),
        (Self::RuleAlerts, "vedette_rule_alerts", "rule", "Alerts that the rule opened"),
        (Self::Alerts, "vedette_alerts", "severity", "Alerts opened"),
        (Self::Notices, "vedette_notices", "", "Notices raised"),
        (
            Self::MissedDeadLetters,
            "vedette_missed_dead_letters",
            "",
            "Dead letters that the topic they are copied to did not take; the store has them",
        ),
        (
            Self::PublishLatency,
            "vedette_publish_latency_seconds",
            "",
            "From the moment there was something to publish to its commit",
        ),
        (
            Self::CheckpointAge,
            "vedette_checkpoint_age_seconds",
            "",
            "Age of the key group's checkpoint that is the oldest",
        ),
        (
            Self::TopicState,
            "vedette_topic_state",
            "topic,state",
            "1 for what becomes of the topic: starting, read, waiting, missing or stopped",
        ),
        (
            Self::TopicPartitions,
            "vedette_topic_partitions",
            "topic,state",
            "Partitions of the topic: read, paused since others are far behind, or unassigned and so not read",
        ),
        (
            Self::PendingFindings,
            "vedette_pending_findings",
            "waits_for",
            "Findings that wait: for their watermark, or for a source that stands still",
        ),
        (
            Self::PendingFindingsLimit,
            "vedette_pending_findings_limit",
            "waits_for",
            "So many may wait: beyond, partitions ahead are paused, or events are not evaluated",
        ),
        (Self::StateKeys, "vedette_state_keys", "", "Keys with state, over all rules"),
        (
            Self::FullestState,
            "vedette_fullest_state_keys",
            "rule",
            "Keys in the fullest key group of all, which is one of this rule",
        ),
        (
            Self::FullestStateLimit,
            "vedette_fullest_state_keys_limit",
            "",
            "So many keys a rule may hold in one key group before counts are estimates",
        ),
        (
            Self::ViewAge,
            "vedette_view_age_seconds",
            "",
            "How long ago the kernel last said what only it knows: watermarks, counters, coverage",
        ),
        (Self::StageState, "vedette_stage_state", "stage,state", "1 for what the stage is doing"),
        (
            Self::StageStill,
            "vedette_stage_still_seconds",
            "stage",
            "For how long the stage has had work and not moved; 0 if it has none",
        ),
        (
            Self::StageSilent,
            "vedette_stage_silent_seconds",
            "stage",
            "For how long the stage has had work and shown no sign of life; 0 if it has none",
        ),
        (Self::StoreBytes, "vedette_store_bytes", "file", "Size on disk of the database and of its journal"),
        (Self::HttpRequests, "vedette_http_requests", "method,route,status", "Requests answered"),
        (
            Self::HttpConnections,
            "vedette_http_connections",
            "place",
            "Connections open, by place: ordinary ones, and those of the reserve for probes",
        ),
        (
            Self::HttpConnectionsShed,
            "vedette_http_connections_shed",
            "",
            "Connections closed because a new one needed the place and they had waited longest for their peer",
        ),
        (Self::HttpStreams, "vedette_http_streams", "", "Event streams open"),
        (
            Self::SignIns,
            "vedette_sign_ins",
            "outcome",
            "Attempts to sign in: signed_in, refused, or held since there were too many",
        ),
        (Self::Actions, "vedette_actions", "state", "Actions stored, by how far they have come"),
        (
            Self::ActionEffects,
            "vedette_action_effects",
            "effect",
            "Countermeasures stored, by what the enforcement points' logs say: effective, unconfirmed or wrong",
        ),
        (
            Self::ConnectorFailures,
            "vedette_connector_failures_in_a_row",
            "connector",
            "Failures since the connector last took something",
        ),
        (
            Self::ConnectorWaiting,
            "vedette_connector_waiting",
            "connector",
            "Messages that wait for the connector",
        ),
        (
            Self::ConnectorGivenUp,
            "vedette_connector_given_up",
            "connector",
            "Messages that the connector gave up, until somebody has them tried again",
        ),
        (
            Self::ConnectorInForce,
            "vedette_connector_in_force",
            "connector",
            "Countermeasures in force at the connector: shown to those who fetch, or by a device's own word",
        ),
        (
            Self::ConnectorLeftOut,
            "vedette_connector_left_out",
            "connector",
            "Countermeasures that are not in force at the connector, for want of room or since it cannot hold them",
        ),
        (
            Self::ConnectorEffect,
            "vedette_connector_effect_seconds",
            "connector",
            "Seconds from the order to the first deny that half of the newest countermeasures took at most",
        ),
        // The names that all of Prometheus's exporters give.
        (
            Self::CpuSeconds,
            "process_cpu_seconds",
            "",
            "Processor time, of the program and of the system for it",
        ),
        (Self::ResidentMemory, "process_resident_memory_bytes", "", "Memory in use"),
        (Self::VirtualMemory, "process_virtual_memory_bytes", "", "Address space"),
        (Self::OpenFds, "process_open_fds", "", "Open descriptors"),
        (Self::MaxFds, "process_max_fds", "", "Descriptors that may be open"),
        (Self::StartTime, "process_start_time_seconds", "", "When the process started, in Unix time"),
    ];

    /// All metrics, in the order in which they are declared.
    #[cfg(test)]
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        Self::CATALOGUE.into_iter().map(|(metric, ..)| metric)
    }

    /// The stable name, its labels and what it means.
    #[must_use]
    pub const fn parts(self) -> (&'static str, &'static str, &'static str) {
        let (_, name, labels, meaning) = Self::CATALOGUE[self as usize];
        (name, labels, meaning)
    }
}
