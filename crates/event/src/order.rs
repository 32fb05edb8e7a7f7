//! Where an event comes from and where it stands in the total order.
//!
//! In: topic names and coordinates. Out: [`Order`], compared as the semantics say:
//! (`ts_event`, topic, partition, offset, index), where a topic is its name and its incarnation.
//! Invariants: a [`TopicIx`] is the topic's rank by name, so comparing ranks compares names; an event keeps the incarnation
//! that its topic had when it was read, whatever the topic is by now.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::time::Micros;

/// Index of a source in [`crate::Sources`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SourceIx(pub u16);

/// Rank of a topic's name in [`Topics`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TopicIx(pub u16);

/// One partition of one topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Partition {
    /// The topic.
    pub topic: TopicIx,
    /// Its number within the topic.
    pub number: i32,
}

/// How often a topic was accepted anew: 0 at first. Sixteen bits, because every event that state holds bears one.
pub type Incarnation = u16;

/// An event's place in the total order; the derived comparison is that order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Order {
    /// `ts_event`.
    pub time: Micros,
    /// Rank of the topic's name.
    pub topic: TopicIx,
    /// Which of the topics of that name.
    pub incarnation: Incarnation,
    /// Partition number.
    pub partition: i32,
    /// Offset of the record.
    pub offset: i64,
    /// Index of the event within its record.
    pub index: u32,
}

impl Order {
    /// The partition the event came from.
    #[must_use]
    pub const fn partition(&self) -> Partition {
        Partition { topic: self.topic, number: self.partition }
    }
}

/// The topics in use, sorted by name, each with its incarnation (0 at first, raised when an operator accepts a recreated topic).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Topics {
    names: Vec<(Arc<str>, Incarnation)>,
}

impl Topics {
    /// Builds the table from names in any order; duplicates are one topic.
    #[must_use]
    pub fn new<S: Into<Arc<str>>>(names: impl IntoIterator<Item = S>) -> Self {
        Self::with_incarnations(names.into_iter().map(|name| (name.into(), 0)))
    }

    /// Builds the table from names and incarnations in any order.
    #[must_use]
    pub fn with_incarnations(names: impl IntoIterator<Item = (Arc<str>, Incarnation)>) -> Self {
        let mut names: Vec<_> = names.into_iter().collect();
        names.sort();
        names.dedup_by(|a, b| a.0 == b.0);
        Self { names }
    }

    /// The rank of a name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<TopicIx> {
        let found = self.names.binary_search_by(|(n, _)| (**n).cmp(name)).ok()?;
        u16::try_from(found).ok().map(TopicIx)
    }

    /// The name of a topic of this table.
    #[must_use]
    pub fn name(&self, topic: TopicIx) -> &Arc<str> {
        &self.names[usize::from(topic.0)].0
    }

    /// The incarnation of a topic of this table.
    #[must_use]
    pub fn incarnation(&self, topic: TopicIx) -> Incarnation {
        self.names[usize::from(topic.0)].1
    }

    /// The same table with the next incarnation of one topic.
    #[must_use]
    pub fn accepted(&self, topic: TopicIx) -> Self {
        let mut names = self.names.clone();
        if let Some((_, incarnation)) = names.get_mut(usize::from(topic.0)) {
            *incarnation = incarnation.saturating_add(1);
        }
        Self { names }
    }

    /// How many topics there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// True if there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_follow_names() {
        let topics = Topics::new(["waf", "api", "firewall", "api"]);
        assert_eq!(topics.len(), 3);
        assert_eq!(topics.find("api"), Some(TopicIx(0)));
        assert_eq!(&**topics.name(TopicIx(2)), "waf");
        assert_eq!(topics.find("dns"), None);
    }

    #[test]
    fn time_decides_before_topic() {
        let at = |time, topic| Order {
            time: Micros(time),
            topic: TopicIx(topic),
            incarnation: 9 - topic,
            partition: 0,
            offset: 0,
            index: 0,
        };
        assert!(at(1, 9) < at(2, 0));
        assert!(at(1, 0) < at(1, 1));
    }

    #[test]
    fn an_incarnation_stands_behind_the_one_before_and_before_the_next_topic() {
        let topics = Topics::new(["api", "waf"]);
        let accepted = topics.accepted(TopicIx(0));
        let at = |topic: TopicIx, topics: &Topics, partition| {
            let incarnation = topics.incarnation(topic);
            Order { time: Micros(1), topic, incarnation, partition, offset: 0, index: 0 }
        };
        assert_eq!((accepted.find("api"), accepted.len()), (Some(TopicIx(0)), 2));
        assert!(at(TopicIx(0), &topics, 9) < at(TopicIx(0), &accepted, 0));
        assert!(at(TopicIx(0), &accepted, 9) < at(TopicIx(1), &topics, 0));
        let last = Topics::with_incarnations([("api".into(), Incarnation::MAX)]);
        assert_eq!(last.accepted(TopicIx(0)), last, "`vedette topic accept` refuses it before");
    }
}
