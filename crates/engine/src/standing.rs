//! Which topics are read, and which sources stand still since none of theirs is.
//!
//! In: what ingest says of topics, how far the others have come. Out: for which topics a source waits, which sources stand still.
//!
//! | topic | its source's watermark | what waits for the source |
//! |---|---|---|
//! | not known yet | waits | pauses others |
//! | read | waits | pauses others |
//! | away for now | waits | if all topics are away or stopped, the source stands still: nobody is paused for it |
//! | stopped, missing | does not wait | the same |
//!
//! A source that comes back has as much to catch up with as it was away. Until it has come to where the others were when it came
//! back, it counts as standing still: to pause the others then would be the outage that was avoided all the time before.

use std::collections::BTreeMap;

use vedette_correlate::Still;
use vedette_event::{Micros, SourceIx, TopicIx};

/// What is known of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TopicStanding {
    /// Not yet which partitions it has, or whether there is such a topic.
    Unknown,
    /// It is read.
    Read,
    /// It cannot be read just now, which passes by itself.
    Away,
    /// It is not read until somebody decides or makes it.
    Stopped,
}

/// Topics and sources, as far as ingest has spoken of them. Of others is assumed that they are read.
#[derive(Debug)]
pub(crate) struct Standing {
    topics: BTreeMap<TopicIx, (SourceIx, TopicStanding)>,
    sources: Vec<Source>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Read,
    Still(Still),
    /// It is read again, and behind this.
    Returning(Micros, Still),
}

impl Standing {
    pub(crate) fn new(sources: usize) -> Self {
        Self { topics: BTreeMap::new(), sources: vec![Source::Read; sources] }
    }

    /// A topic that is going to be read.
    pub(crate) fn expect(&mut self, topic: TopicIx, source: SourceIx) {
        self.topics.insert(topic, (source, TopicStanding::Unknown));
    }

    /// Takes note of a topic's state; `furthest` is how far any partition has come. True if a source began or ceased to
    /// stand still, or will for longer.
    pub(crate) fn set(&mut self, topic: TopicIx, state: TopicStanding, furthest: Micros) -> bool {
        let Some((source, known)) = self.topics.get_mut(&topic) else { return false };
        *known = state;
        let source = *source;
        let stopped = |state: &TopicStanding| matches!(state, TopicStanding::Away | TopicStanding::Stopped);
        let still = self.topics.values().all(|(of, state)| *of != source || stopped(state));
        let passing = self.topics.values().any(|(of, state)| *of == source && *state == TopicStanding::Away);
        let Some(before) = self.sources.get_mut(usize::from(source.0)) else { return false };
        let now = match (*before, still) {
            (_, true) => Source::Still(if passing { Still::Passing } else { Still::Lasting }),
            (Source::Still(was), false) if furthest > Micros::MIN => Source::Returning(furthest, was),
            (Source::Still(_), false) => Source::Read,
            (as_it_was, false) => as_it_was,
        };
        std::mem::replace(before, now) != now
    }

    /// Takes note of the sources' watermarks. True if a source that had come back has caught up.
    pub(crate) fn reached(&mut self, watermarks: &[Micros]) -> bool {
        let mut caught_up = false;
        for (source, watermark) in self.sources.iter_mut().zip(watermarks) {
            if matches!(source, Source::Returning(furthest, _) if watermark >= furthest) {
                *source = Source::Read;
                caught_up = true;
            }
        }
        caught_up
    }

    /// Whether a source's watermark waits for the partitions of a topic.
    pub(crate) fn waits_for(&self, topic: TopicIx) -> bool {
        !matches!(self.topics.get(&topic), Some((_, TopicStanding::Stopped)))
    }

    /// Sources of which not all partitions are known.
    pub(crate) fn unknown(&self) -> impl Iterator<Item = SourceIx> {
        let unknown = self.topics.values().filter(|(_, state)| *state == TopicStanding::Unknown);
        unknown.map(|(source, _)| *source)
    }

    /// Whether nobody is to be paused for a source, and how long that may be.
    pub(crate) fn still(&self, source: SourceIx) -> Still {
        match self.sources.get(usize::from(source.0)) {
            Some(Source::Still(still) | Source::Returning(_, still)) => *still,
            Some(Source::Read) | None => Still::No,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: SourceIx = SourceIx(0);

    fn standing(topics: u16) -> Standing {
        let mut standing = Standing::new(1);
        (0..topics).for_each(|topic| standing.expect(TopicIx(topic), SOURCE));
        standing
    }

    #[test]
    fn a_source_stands_still_when_none_of_its_topics_is_read() {
        let mut standing = standing(2);
        let mut set = |topic, state| {
            standing.set(TopicIx(topic), state, Micros(9));
            (standing.still(SOURCE), standing.waits_for(TopicIx(topic)), standing.unknown().count())
        };
        assert_eq!(set(0, TopicStanding::Stopped), (Still::No, false, 1));
        assert_eq!(set(1, TopicStanding::Stopped), (Still::Lasting, false, 0));
        assert_eq!(set(1, TopicStanding::Away), (Still::Passing, true, 0));
        assert_eq!(set(1, TopicStanding::Read), (Still::Passing, true, 0));
        assert!(!standing.reached(&[Micros(8)]) && standing.still(SOURCE) == Still::Passing);
        assert!(standing.reached(&[Micros(9)]) && standing.still(SOURCE) == Still::No);
        assert!(!standing.reached(&[Micros(10)]));
    }

    #[test]
    fn a_source_that_comes_back_before_any_other_was_read_catches_up_with_nobody() {
        let mut standing = standing(1);
        assert!(standing.set(TopicIx(0), TopicStanding::Stopped, Micros::MIN));
        assert!(standing.set(TopicIx(0), TopicStanding::Read, Micros::MIN));
        assert!(standing.still(SOURCE) == Still::No);
    }

    #[test]
    fn a_topic_that_nobody_spoke_of_is_read() {
        let mut standing = standing(0);
        assert!(!standing.set(TopicIx(3), TopicStanding::Stopped, Micros(1)));
        assert!(standing.waits_for(TopicIx(3)) && standing.still(SOURCE) == Still::No);
    }
}
