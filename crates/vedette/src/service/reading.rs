//! Which topics are read, and why the others are not.
//!
//! In: what ingest says of each topic. Out: an [`InputTopic`] each, from which health and readiness follow, and what the engine
//! is to make of it. Invariant: a topic of which nothing was said counts as not read; silence is never taken for health.

use std::collections::BTreeMap;

use vedette_event::{Micros, SourceIx, TopicIx};
use vedette_ingest::{Error, TopicSettings};

/// The topics of the configuration, by rank.
pub type InputTopics = BTreeMap<TopicIx, InputTopic>;

/// One topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputTopic {
    /// Its name.
    pub name: String,
    /// Its source.
    pub source: SourceIx,
    /// Whether it is read.
    pub state: InputState,
    /// Since when that is so.
    pub since: Micros,
}

/// Whether a topic is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InputState {
    /// It has not been looked up, or its partitions have not been begun.
    Starting,
    /// It is read.
    Read,
    /// It cannot be read just now, which passes by itself.
    Waiting(String),
    /// There is no such topic, or the brokers refuse it; it is looked for again.
    Missing(String),
    /// It needs somebody's decision.
    Stopped(String),
}

impl InputState {
    /// What an error of ingest makes of a topic.
    pub fn of(error: &Error) -> Self {
        let text = error.to_string();
        match (error, error.retryable()) {
            (error, _) if error.passing() => Self::Waiting(text),
            (Error::UnknownTopic { .. }, _) => Self::Missing(text),
            _ => Self::Stopped(text),
        }
    }

    /// A stable kebab-case name for why it is not read; nothing if it is.
    pub const fn reason(&self) -> Option<&'static str> {
        match self {
            Self::Starting => Some("topic-starting"),
            Self::Read => None,
            Self::Waiting(_) => Some("topic-waiting"),
            Self::Missing(_) => Some("topic-missing"),
            Self::Stopped(_) => Some("topic-stopped"),
        }
    }

    /// Why it is not read, for a person.
    pub fn why(&self) -> Option<&str> {
        match self {
            Self::Starting => Some("its partitions have not been begun yet"),
            Self::Read => None,
            Self::Waiting(why) | Self::Missing(why) | Self::Stopped(why) => Some(why),
        }
    }
}

/// All topics before anything was said of them.
pub fn starting(topics: &[TopicSettings], at: Micros) -> InputTopics {
    let topic = |t: &TopicSettings| {
        (
            t.topic,
            InputTopic { name: t.name.to_string(), source: t.source, state: InputState::Starting, since: at },
        )
    };
    topics.iter().map(topic).collect()
}

impl InputTopic {
    /// Takes note of a state; the time of an unchanged one stays.
    pub fn set(&mut self, state: InputState, now: Micros) {
        if self.state != state {
            (self.state, self.since) = (state, now);
        }
    }

    /// Why it is not read, as a sentence that names it.
    pub fn message(&self) -> Option<String> {
        let why = self.state.why()?;
        // Ingest's errors begin with the name.
        let named = why.starts_with("topic ");
        Some(if named { why.to_owned() } else { format!("topic {}: {why}", self.name) })
    }
}

/// The topics of a source.
pub fn of_source(topics: &InputTopics, source: SourceIx) -> impl Iterator<Item = &InputTopic> {
    topics.values().filter(move |topic| topic.source == source)
}

/// Whether none of a source's topics is read, though it has some.
pub fn stands_still(topics: &InputTopics, source: SourceIx) -> bool {
    let mut own = of_source(topics, source).peekable();
    own.peek().is_some() && own.all(|topic| topic.state != InputState::Read)
}

/// Whether some of a source's topics is not read.
pub fn lacks(topics: &InputTopics, source: SourceIx) -> bool {
    of_source(topics, source).any(|topic| topic.state != InputState::Read)
}
