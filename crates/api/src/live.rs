//! What is going on right now: what the binary knows and the API only reads.
//!
//! In: a [`LiveView`] of the binary's. Out: [`Live`], put together anew for each request and each scrape.
//! Invariants: nothing in it waits for a stage, so it is there when all of them are stuck; what only the kernel knows
//! is as of [`Live::as_of`], everything else of the moment of the request; counters only grow while the process lives;
//! sources are sorted by name and rules by id, so that two views of the same state are equal.

use std::{collections::BTreeMap, fmt, sync::Arc};

use serde::Serialize;
use utoipa::ToSchema;
use vedette_event::{Micros, Severity, Span};

mod sources;

pub use sources::{Health, PartitionStatus, SourceStatus, TimeSource, TopicState, TopicStatus};

/// Everything the store does not hold.
#[derive(Debug, Clone, PartialEq)]
pub struct Live {
    /// When the kernel last said what only it knows: watermarks, counters, coverage. While it works, about a second ago.
    pub as_of: Micros,
    /// The stages in the order in which records pass through them.
    pub stages: Vec<StageStatus>,
    /// Whether work is being done, and if not, why.
    pub ready: Readiness,
    /// The process as a whole.
    pub status: Status,
    /// The sources, sorted by name.
    pub sources: Vec<SourceStatus>,
    /// The accepted rules, sorted by id.
    pub rules: Arc<Vec<RuleStatus>>,
    /// The refused documents.
    pub rejected: Arc<Vec<Rejected>>,
}

/// Looks at what is going on, whenever asked. Clones look at the same.
#[derive(Clone)]
pub struct LiveView(Arc<dyn Fn() -> Live + Send + Sync>);

impl LiveView {
    /// A view that asks this. It must not wait for anything that can be stuck.
    pub fn new(look: impl Fn() -> Live + Send + Sync + 'static) -> Self {
        Self(Arc::new(look))
    }

    /// What is going on at this moment.
    #[must_use]
    pub fn now(&self) -> Live {
        (self.0)()
    }
}

impl fmt::Debug for LiveView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LiveView")
    }
}

/// A stage that has work and does not move counts as stalled after this time.
pub const STALLED_AFTER: Span = Span::secs(5);
/// A stage that has work and shows no sign of life counts as hung after this time: the process does not work.
pub const HUNG_AFTER: Span = Span::secs(30);

/// One stage of the process: a thread with a name, or several that do one thing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct StageStatus {
    /// A stable name: `reader`, `prober`, `kernel`, `publisher`, `evidence`, `retention`, `topics`, `api`.
    pub name: String,
    /// What it is doing.
    pub state: StageState,
    /// True if it has work in hand.
    pub has_work: bool,
    /// When it last moved: took work up, went on with it or finished it.
    #[schema(value_type = String, format = DateTime)]
    pub moved_at: Micros,
    /// When it last showed a sign of life; later than `moved_at` in a stage that waits for another and tries again.
    #[schema(value_type = String, format = DateTime)]
    pub alive_at: Micros,
    /// What it waits for, if something else holds it up: a stage or `store`.
    pub waits_for: Option<String>,
}

/// What a stage is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum StageState {
    /// It has no work.
    Idle,
    /// It works.
    Working,
    /// Something else holds it up, not for long yet.
    Waiting,
    /// It has work and has not moved for 5 seconds.
    Stalled,
    /// It has work and has shown no sign of life for 30 seconds.
    Hung,
    /// It has ended.
    Ended,
}

impl StageState {
    /// The stable name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Working => "working",
            Self::Waiting => "waiting",
            Self::Stalled => "stalled",
            Self::Hung => "hung",
            Self::Ended => "ended",
        }
    }

    /// True if it stands still though it has work.
    #[must_use]
    pub const fn stands_still(self) -> bool {
        matches!(self, Self::Stalled | Self::Hung)
    }
}

/// Whether the service does its work.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, ToSchema)]
pub struct Readiness {
    /// True if there is no obstacle.
    pub ready: bool,
    /// What stands in the way, the most important first; empty if ready.
    pub obstacles: Vec<Obstacle>,
    /// What does not do its work while the rest does, the most important first.
    pub degraded: Vec<Degraded>,
}

/// One thing that stands in the way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Obstacle {
    /// A stable kebab-case name: `starting`, `broker-unreachable`, those of topics, `kernel-stalled`,
    /// `detector-stalled`, `store-unavailable`
    pub code: String,
    /// What is wrong and what helps, for a person.
    pub message: String,
    /// Since when.
    #[schema(value_type = String, format = DateTime)]
    pub since: Micros,
}

/// One thing that does not do its work while the rest does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Degraded {
    /// A stable kebab-case name: `topic-missing`, `topic-stopped`, `topic-waiting`, `topic-starting`,
    /// `partitions-unassigned`, `source-stopped`, `stage-stalled`, `dead-letter-topic`
    pub reason: String,
    /// What is wrong and what helps, for a person.
    pub message: String,
    /// Since when.
    #[schema(value_type = String, format = DateTime)]
    pub since: Micros,
}

/// The process as a whole.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Status {
    /// The program's version.
    pub version: String,
    /// Version of the engine's semantics: alert bodies compare only within one.
    pub semantics_version: u32,
    /// What this process does.
    pub mode: Mode,
    /// When it started.
    #[schema(value_type = String, format = DateTime)]
    pub started_at: Micros,
    /// The rule set in force.
    pub rule_set: RuleSetStatus,
    /// The lease under which this process is the active one.
    pub lease: LeaseStatus,
    /// The broker.
    pub broker: BrokerStatus,
    /// Publishing and checkpoints.
    pub publish: PublishStatus,
    /// The topic that dead letters are copied to; null if they are copied to none.
    pub dead_letter_topic: Option<DeadLetterTopicStatus>,
    /// How much the engine holds, against what it may.
    pub load: LoadStatus,
    /// What the process may hold in memory.
    pub memory: MemoryStatus,
    /// Announced degradations: state over budget, sketches in use, events that were not evaluated.
    pub degradations: Vec<Degradation>,
}

/// What the process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// The service.
    Run,
    /// Everything in one process with the simulator.
    Demo,
}

/// The rule set in force.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, ToSchema)]
pub struct RuleSetStatus {
    /// First 16 hexadecimal digits of the hash of all rules' meanings.
    pub version: String,
    /// The number of the version in force of rules, lists and mappings, counted from 1.
    pub number: u64,
    /// From which log time on it is in force; missing for the first version, in force from the beginning.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub in_force_from: Option<Micros>,
    /// Accepted rules.
    pub accepted: u64,
    /// Refused documents.
    pub rejected: u64,
    /// How often the rules were read again since the start and something new came into force.
    pub reloads: u64,
    /// How often they were, and nothing of it could be taken up.
    pub reloads_refused: u64,
}

/// The lease under which one process is active.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, ToSchema)]
pub struct LeaseStatus {
    /// True if this process holds it.
    pub held: bool,
    /// Its epoch; each holder's is higher than the one before.
    pub epoch: u64,
}

/// The broker, as ingest sees it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, ToSchema)]
pub struct BrokerStatus {
    /// Where it is.
    pub bootstrap: String,
    /// True if the last query was answered.
    pub connected: bool,
    /// What the last failure said.
    pub last_error: Option<String>,
    /// When the last answer came.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_answer: Option<Micros>,
}

/// The topic that dead letters are copied to; the store has them in any case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct DeadLetterTopicStatus {
    /// Its name.
    pub topic: String,
    /// Dead letters that it did not take since the process started.
    pub missed: u64,
    /// Why it takes none; null if it took the last.
    pub last_error: Option<String>,
    /// Since when it takes none.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub since: Option<Micros>,
}

/// Publishing and checkpoints.
#[derive(Debug, Clone, PartialEq, Default, Serialize, ToSchema)]
pub struct PublishStatus {
    /// The latest change's `seq`.
    pub seq: u64,
    /// When the last publish transaction was committed.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_at: Option<Micros>,
    /// Alerts opened since the process started, by severity.
    #[schema(value_type = BTreeMap<String, u64>)]
    pub alerts: BTreeMap<Severity, u64>,
    /// Notices raised since the process started.
    pub notices: u64,
    /// When the key group whose checkpoint is oldest was written.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub oldest_checkpoint: Option<Micros>,
}

/// How much the engine holds, against what it may.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, ToSchema)]
pub struct LoadStatus {
    /// Findings that wait until no earlier record can come, of rules all of whose sources are read; one with a long key counts as
    /// several.
    pub waiting: u64,
    /// From so many on, partitions that are ahead are paused.
    pub waiting_budget: u64,
    /// Findings that wait for a source that stands still, since its topics are missing, stopped or away.
    pub standing: u64,
    /// Beyond so many, events of these rules are not evaluated.
    pub standing_budget: u64,
    /// The rule for which the most findings wait.
    pub most_waiting: Option<RuleLoad>,
    /// Keys with state, over all rules.
    pub keys: u64,
    /// Entries that the rule with the fullest key group may hold in it.
    pub keys_budget: u64,
    /// The rule whose key group is fullest for what it may hold, and how many entries that holds.
    pub fullest: Option<RuleLoad>,
}

/// What the process may hold in memory, and what of it is for what.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, ToSchema)]
pub struct MemoryStatus {
    /// Bytes for the process.
    pub budget: u64,
    /// Bytes that the process holds; null where the system does not say.
    pub resident: Option<u64>,
    /// Of the budget, bytes for the keys of all rules.
    pub state: u64,
    /// Bytes for findings that wait until no earlier record can come.
    pub waiting: u64,
    /// Bytes for what notices remember.
    pub notices: u64,
    /// How many entries each rule may hold in one of 64 key groups. A key with one event is one; an open episode, many events or
    /// values and long keys take several.
    pub entries: Vec<RuleLoad>,
}

/// How much one rule holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct RuleLoad {
    /// Its id.
    pub rule_id: String,
    /// How many.
    pub count: u64,
}

/// A time in which state was over budget.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Degradation {
    /// The rule whose state it was.
    pub rule_id: String,
    /// A stable kebab-case name: `keys-over-budget`, `findings-over-budget`.
    pub code: String,
    /// What it means for the rule's alerts, for a person; names the top prefixes.
    pub message: String,
    /// From when.
    #[schema(value_type = String, format = DateTime)]
    pub since: Micros,
    /// Until when; missing while it lasts.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub until: Option<Micros>,
}

/// One accepted rule.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct RuleStatus {
    /// Its id.
    pub id: String,
    /// Its title.
    pub title: String,
    /// What it looks for.
    pub description: Option<String>,
    /// Its level.
    pub level: Severity,
    /// `single`, or the correlation's type.
    #[serde(rename = "type")]
    pub kind: String,
    /// First 16 hexadecimal digits of the hash of its meaning.
    pub version: String,
    /// Its tags, as written.
    pub tags: Vec<String>,
    /// Its known false positives.
    pub false_positives: Vec<String>,
    /// The file it came from.
    pub file: String,
    /// The line of its document, from 1.
    pub line: u64,
    /// Whether it raises alerts itself.
    pub emits: bool,
    /// The rules it refers to.
    pub refers_to: Vec<String>,
    /// The sources it reads.
    pub sources: Vec<String>,
    /// The parts of its key.
    pub group_by: Vec<String>,
    /// The window of a correlation.
    #[schema(value_type = Option<String>, example = "5m")]
    pub timespan: Option<Span>,
    /// The condition in words, such as `at least 20 events`.
    pub condition: Option<String>,
    /// What an analyst does first, as the rule's author says.
    pub next_steps: Vec<String>,
    /// Its document, for people.
    #[serde(skip)]
    pub text: Arc<str>,
    /// What it looks for in an event, by the names that events have; what it excludes is not among it.
    #[serde(skip)]
    pub looks_for: Arc<[vedette_sigma::Leaf]>,
    /// What it has seen and done.
    pub coverage: Coverage,
}

/// The coverage ledger of one rule: could it have fired?
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, ToSchema)]
pub struct Coverage {
    /// Evaluated strictly below this watermark; missing until its sources have one.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub through: Option<Micros>,
    /// It speaks of what crosses from then on; missing if it has been in force from the beginning.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub in_force_from: Option<Micros>,
    /// Until it is evaluated through this time, its windows are not whole, since it was not in force before.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub warming_until: Option<Micros>,
    /// The counters below begin here, when the process started; `lost` is of all time.
    #[schema(value_type = String, format = DateTime)]
    pub counted_since: Micros,
    /// Events of its sources.
    pub seen: u64,
    /// Events that matched it (or the rules it refers to).
    pub matched: u64,
    /// Of those, events whose time was replaced.
    pub flagged: u64,
    /// Of those, events without the group key.
    pub without_key: u64,
    /// Events that matched it and were not evaluated, since too many waited for their watermark.
    pub unevaluated: u64,
    /// Records of its sources that ended as dead letters.
    pub dead_lettered: u64,
    /// Records of its sources that were lost: the broker deleted them unread, or their topic was made anew before what was
    /// found in them was final.
    pub lost: u64,
    /// Alerts it has opened.
    pub alerts: u64,
    /// Microseconds that it took, estimated: what its conditions take alone (timed on samples) for each event seen, and its part, by findings,
    /// of the time that placement and correlation took. Missing until it was timed.
    pub time_us: Option<u64>,
    /// Sources it reads that are silent, unreachable or stopped.
    pub silent_sources: Vec<String>,
    /// Its announced degradations.
    pub degradations: Vec<Degradation>,
}

/// A refused document of the rule set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Rejected {
    /// The file.
    pub file: String,
    /// The line, from 1.
    pub line: u64,
    /// The column, from 1.
    pub column: u64,
    /// The rule's id, where it could be read.
    pub rule_id: Option<String>,
    /// A stable kebab-case code.
    pub code: String,
    /// What is wrong.
    pub message: String,
    /// What would be right.
    pub help: Option<String>,
    /// Whether what its file said before stays in force.
    pub kept: bool,
}

impl Live {
    /// A process that has just started and does nothing yet.
    #[must_use]
    pub fn starting(mode: Mode, version: &str, started_at: Micros) -> Self {
        let obstacle = Obstacle {
            code: "starting".to_owned(),
            message: "Vedette is starting: rules are compiled and the broker is asked for positions."
                .to_owned(),
            since: started_at,
        };
        Self {
            as_of: started_at,
            stages: Vec::new(),
            ready: Readiness { ready: false, obstacles: vec![obstacle], degraded: Vec::new() },
            status: Status {
                version: version.to_owned(),
                semantics_version: vedette_event::SEMANTICS_VERSION,
                mode,
                started_at,
                rule_set: RuleSetStatus::default(),
                lease: LeaseStatus::default(),
                broker: BrokerStatus::default(),
                publish: PublishStatus::default(),
                load: LoadStatus::default(),
                memory: MemoryStatus::default(),
                dead_letter_topic: None,
                degradations: Vec::new(),
            },
            sources: Vec::new(),
            rules: Arc::default(),
            rejected: Arc::default(),
        }
    }

    /// The stage of this name.
    #[must_use]
    pub fn stage(&self, name: &str) -> Option<&StageStatus> {
        self.stages.iter().find(|stage| stage.name == name)
    }

    /// The kernel, if it stands still: what it last said must not pass for what is.
    #[must_use]
    pub fn stalled_kernel(&self) -> Option<&StageStatus> {
        self.stage("kernel").filter(|kernel| kernel.state.stands_still())
    }

    /// The rule with this id.
    #[must_use]
    pub fn rule(&self, id: &str) -> Option<&RuleStatus> {
        self.rules.iter().find(|rule| rule.id == id)
    }
}
