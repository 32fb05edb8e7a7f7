//! Checkpoints: one key group's state with the places from which its findings can be read again.
//!
//! In: [`GroupCheckpoint`] bytes from the store, of any quality. Out: where to start each partition ([`PartitionStart`]).
//! Invariants: hostile bytes give an error, never a panic; starting positions are at or before every finding that
//! some group has not released.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};
use vedette_event::{Incarnation, Micros, Partition, TopicIx, Topics};

use crate::{
    KEY_GROUPS,
    error::Error,
    partition::{Mark, Stepped},
};

/// The layout written here.
const LAYOUT: u32 = 1;
/// Not a key group: what is stored with every publication, so that a restart knows what had been passed.
pub const POSITIONS: u8 = KEY_GROUPS;
/// A header beyond this is damaged.
const MAX_HEADER: usize = 64 << 20;

/// One key group's checkpoint, to be stored with or after the publishing of all that lies below its watermark.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupCheckpoint {
    /// 0 to 63, or [`POSITIONS`].
    pub group: u8,
    /// The checkpoint.
    pub bytes: Vec<u8>,
}

/// A partition as a checkpoint remembers it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionPoint {
    /// The topic.
    pub topic: Arc<str>,
    /// Its incarnation.
    pub incarnation: Incarnation,
    /// The partition.
    pub partition: i32,
    /// Where reading began when the partition was first assigned.
    pub began: i64,
    /// Lowest offset whose findings this group may not have released.
    pub resume: i64,
    /// The running maximum of `ts_log` before `resume`, in microseconds.
    pub max_log: Option<i64>,
    /// The offset read up to (exclusive).
    pub read_before: i64,
    /// The highest `ts_log` read up to there, in microseconds; checkpoints of earlier versions have none.
    #[serde(default)]
    pub newest_log: Option<i64>,
    /// blake3 of the last record read.
    #[serde(with = "hexadecimal")]
    pub last_hash: [u8; 32],
    /// The source's watermark then, in microseconds.
    pub floor: i64,
    /// Records below what the partition had promised: offset of the last, lowest time in microseconds.
    pub stepped: Option<(i64, i64)>,
}

/// A hash as text. One that cannot be read makes the header unreadable: taken for another, it would have a topic look recreated.
mod hexadecimal {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(hash: &[u8; 32], s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&blake3::Hash::from_bytes(*hash).to_hex())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<[u8; 32], D::Error> {
        let text = String::deserialize(d)?;
        blake3::Hash::from_hex(&text).map(|hash| *hash.as_bytes()).map_err(D::Error::custom)
    }
}

/// Where to start a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionStart {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: i32,
    /// The first offset to read.
    pub offset: i64,
    /// The running maximum of `ts_log` before it.
    pub max_log: Option<Micros>,
    /// The last record read before, and its blake3: if it is no longer there, the topic was recreated.
    pub last_read: Option<(i64, [u8; 32])>,
}

/// Records of a topic as it was before it was accepted anew: they were read, and what was found in them was not released by all
/// key groups. They cannot be read again.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct GivenUp {
    /// The topic.
    pub topic: Arc<str>,
    /// Its incarnation then.
    pub incarnation: Incarnation,
    /// The partition.
    pub partition: i32,
    /// The first of them.
    pub from: i64,
    /// The offset after the last.
    pub to: i64,
}

#[derive(Debug, Serialize, Deserialize)]
struct Header {
    layout: u32,
    semantics: u32,
    partitions: Vec<PartitionPoint>,
}

/// Writes a checkpoint: length of the header, the header as JSON, the correlator's bytes, blake3 over all of it.
pub(crate) fn write(
    group: u8,
    partitions: Vec<PartitionPoint>,
    state: &[u8],
) -> Result<GroupCheckpoint, Error> {
    let refuse = |reason: String| Error::Unwritten { group, reason };
    let header = Header { layout: LAYOUT, semantics: vedette_event::SEMANTICS_VERSION, partitions };
    let header = serde_json::to_vec(&header).map_err(|e| refuse(e.to_string()))?;
    if header.len() > MAX_HEADER {
        return Err(refuse(format!("its header has {} bytes; {MAX_HEADER} can be read back", header.len())));
    }
    let mut bytes = Vec::with_capacity(header.len() + state.len() + 40);
    bytes.extend_from_slice(&(header.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&header);
    bytes.extend_from_slice(state);
    let sum = blake3::hash(&bytes);
    bytes.extend_from_slice(sum.as_bytes());
    Ok(GroupCheckpoint { group, bytes })
}

/// Reads a checkpoint: its partitions and the correlator's bytes.
pub(crate) fn read(checkpoint: &GroupCheckpoint) -> Result<(Vec<PartitionPoint>, &[u8]), Error> {
    let refuse = |reason: &str| Error::Checkpoint { group: checkpoint.group, reason: reason.to_owned() };
    let bytes = &checkpoint.bytes[..];
    let (content, sum) = bytes.split_last_chunk::<32>().ok_or_else(|| refuse("it is too short"))?;
    if blake3::hash(content).as_bytes() != sum {
        return Err(refuse("its checksum does not agree with its content"));
    }
    let (len, rest) = content.split_first_chunk::<4>().ok_or_else(|| refuse("it is too short"))?;
    let len = u32::from_le_bytes(*len) as usize;
    if len > MAX_HEADER || len > rest.len() {
        return Err(refuse("its header is longer than the checkpoint"));
    }
    let (header, state) = rest.split_at(len);
    let header: Header =
        serde_json::from_slice(header).map_err(|e| refuse(&format!("its header cannot be read: {e}")))?;
    if header.layout != LAYOUT || header.semantics != vedette_event::SEMANTICS_VERSION {
        return Err(refuse(&format!(
            "it has layout {} of semantics {}; this engine reads layout {LAYOUT} of semantics {}",
            header.layout,
            header.semantics,
            vedette_event::SEMANTICS_VERSION
        )));
    }
    Ok((header.partitions, state))
}

/// What all groups together say of one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Merged {
    pub(crate) began: i64,
    pub(crate) offset: i64,
    pub(crate) max_log: Option<Micros>,
    pub(crate) read_before: i64,
    pub(crate) newest_log: Option<Micros>,
    pub(crate) last_hash: [u8; 32],
    pub(crate) stepped: Option<Stepped>,
}

/// The topic of a point, unless that is another incarnation or is read no more.
fn current(point: &PartitionPoint, topics: &Topics) -> Option<TopicIx> {
    topics.find(&point.topic).filter(|topic| topics.incarnation(*topic) == point.incarnation)
}

/// The resume points of one checkpoint, of topics that are still in use.
pub(crate) fn marks(points: &[PartitionPoint], topics: &Topics) -> BTreeMap<Partition, Mark> {
    let mark = |point: &PartitionPoint| {
        let topic = current(point, topics)?;
        let mark = Mark { offset: point.resume, max_log: point.max_log.map(Micros) };
        Some((Partition { topic, number: point.partition }, mark))
    };
    points.iter().filter_map(mark).collect()
}

/// Lowest resume point and furthest reading of each partition over all groups' checkpoints.
///
/// A group without a checkpoint, or with one from before a partition was assigned, has released nothing of that
/// partition: it is then read again from where reading began.
///
/// Points of [`POSITIONS`] say nothing of what was released, only how far was read and what was passed.
pub(crate) fn merge(points: &[(u8, PartitionPoint)], topics: &Topics) -> BTreeMap<(Arc<str>, i32), Merged> {
    let points = || points.iter().filter(|(_, point)| current(point, topics).is_some());
    let mut known: BTreeMap<(&str, i32), usize> = BTreeMap::new();
    for (_, point) in points().filter(|(group, _)| *group != POSITIONS) {
        *known.entry((&*point.topic, point.partition)).or_default() += 1;
    }
    let mut merged: BTreeMap<(Arc<str>, i32), Merged> = BTreeMap::new();
    for (group, point) in points() {
        let by_all =
            known.get(&(&*point.topic, point.partition)).is_some_and(|n| *n == usize::from(KEY_GROUPS));
        let new = Merged {
            began: point.began,
            offset: match (by_all, *group == POSITIONS) {
                (true, true) => i64::MAX,
                (true, false) => point.resume,
                (false, _) => point.began,
            },
            max_log: if by_all { point.max_log.map(Micros) } else { None },
            read_before: point.read_before,
            newest_log: point.newest_log.max(point.max_log).map(Micros),
            last_hash: point.last_hash,
            stepped: point.stepped.map(|(until, low)| Stepped { until, low: Micros(low) }),
        };
        merged
            .entry((point.topic.clone(), point.partition))
            .and_modify(|old| {
                if new.offset < old.offset {
                    (old.offset, old.max_log) = (new.offset, new.max_log);
                }
                if new.read_before > old.read_before {
                    (old.read_before, old.last_hash) = (new.read_before, new.last_hash);
                }
                old.newest_log = old.newest_log.max(new.newest_log);
                old.began = old.began.min(new.began);
                old.stepped = Stepped::join(old.stepped, new.stepped);
            })
            .or_insert(new);
    }
    merged
}

/// What one group says of a partition.
type Of<'a> = (u8, &'a PartitionPoint);

/// What the checkpoints say was read of incarnations before the present ones and not released by all groups.
///
/// A group that knows a later incarnation of the topic and nothing of this one had released all of it; one that knows neither
/// had not seen the partition yet, and so released nothing.
pub(crate) fn given_up(points: &[(u8, PartitionPoint)], topics: &Topics) -> Vec<GivenUp> {
    let mut newest: BTreeMap<(u8, &str), Incarnation> = BTreeMap::new();
    let mut former: BTreeMap<(&str, Incarnation, i32), Vec<Of<'_>>> = BTreeMap::new();
    for (group, point) in points {
        let known = newest.entry((*group, &point.topic)).or_default();
        *known = point.incarnation.max(*known);
        if topics.find(&point.topic).is_some_and(|topic| point.incarnation < topics.incarnation(topic)) {
            former
                .entry((&point.topic, point.incarnation, point.partition))
                .or_default()
                .push((*group, point));
        }
    }
    let given_up = former.into_iter().map(|((topic, incarnation, partition), points)| {
        let resume = |group: u8| match points.iter().find(|(of, _)| *of == group) {
            Some((_, point)) => point.resume,
            None if newest.get(&(group, topic)).is_some_and(|newest| *newest > incarnation) => i64::MAX,
            None => points.iter().map(|(_, point)| point.began).min().unwrap_or(i64::MAX),
        };
        let from = (0..KEY_GROUPS).map(resume).min().unwrap_or(i64::MAX);
        let to = points.iter().map(|(_, point)| point.read_before).max().unwrap_or(i64::MIN);
        GivenUp { topic: topic.into(), incarnation, partition, from, to }
    });
    given_up.filter(|given_up| given_up.from < given_up.to).collect()
}

/// The watermark that a source had passed by what all points say of a topic, whatever its incarnation.
pub(crate) fn floors(points: &[(u8, PartitionPoint)]) -> BTreeMap<Arc<str>, Micros> {
    let mut floors: BTreeMap<Arc<str>, Micros> = BTreeMap::new();
    for (_, point) in points {
        let floor = floors.entry(point.topic.clone()).or_insert(Micros::MIN);
        *floor = Micros(point.floor).max(*floor);
    }
    floors
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(resume: i64, read_before: i64) -> PartitionPoint {
        PartitionPoint {
            topic: "firewall".into(),
            incarnation: 0,
            partition: 3,
            began: 20,
            resume,
            max_log: Some(resume * 10),
            read_before,
            newest_log: Some(read_before * 10),
            last_hash: *blake3::hash(b"x").as_bytes(),
            floor: read_before * 5,
            stepped: (resume < 60).then_some((resume, -resume)),
        }
    }

    #[test]
    fn a_checkpoint_reads_back_and_damage_is_noticed() {
        let good = write(7, vec![point(5, 9)], b"state").unwrap();
        let (points, state) = read(&good).unwrap();
        assert_eq!((points, state), (vec![point(5, 9)], &b"state"[..]));
        for at in 0..good.bytes.len() {
            let mut bad = good.clone();
            bad.bytes[at] ^= 1;
            assert!(read(&bad).is_err(), "byte {at}");
            bad.bytes.truncate(at);
            assert!(read(&bad).is_err(), "cut at {at}");
        }
    }

    /// Nothing in it falls back to a default: what cannot be read is refused, what could not be read back is not written.
    #[test]
    fn a_sound_checkpoint_of_nonsense_is_refused_and_none_is_written_that_cannot_be_read() {
        let seal = |header: &str| {
            let mut bytes = (header.len() as u32).to_le_bytes().to_vec();
            bytes.extend_from_slice(header.as_bytes());
            let sum = blake3::hash(&bytes);
            bytes.extend_from_slice(sum.as_bytes());
            GroupCheckpoint { group: 7, bytes }
        };
        let good = write(7, vec![point(5, 9)], b"").unwrap();
        let header = String::from_utf8(good.bytes[4..good.bytes.len() - 32].to_vec()).unwrap();
        assert_eq!(read(&seal(&header)).unwrap().0, [point(5, 9)]);
        let hash = blake3::hash(b"x").to_hex();
        for other in [hash[1..].to_owned(), hash.replacen(|_: char| true, "z", 1), String::new()] {
            let refused = read(&seal(&header.replace(hash.as_str(), &other))).unwrap_err();
            assert!(matches!(refused, Error::Checkpoint { group: 7, .. }), "{refused}");
        }
        // One of an earlier version.
        let earlier = header.replace("\"newest_log\":90,", "");
        assert_eq!(read(&seal(&earlier)).unwrap().0, [PartitionPoint { newest_log: None, ..point(5, 9) }]);

        let long = PartitionPoint { topic: "t".repeat(MAX_HEADER).into(), ..point(5, 9) };
        assert!(matches!(write(9, vec![long], b""), Err(Error::Unwritten { group: 9, .. })));
    }

    #[test]
    fn the_lowest_resume_and_the_furthest_reading_win() {
        let topics = Topics::new(["firewall"]);
        let lowest = (point(50, 90), point(40, 80));
        let mut points: Vec<_> = (0..KEY_GROUPS).map(|group| (group, point(60, 100))).collect();
        (points[30].1, points[31].1) = lowest;
        let merged = merge(&points, &topics);
        let start = merged[&("firewall".into(), 3)];
        assert_eq!((start.began, start.offset, start.max_log), (20, 40, Some(Micros(400))));
        assert_eq!(start.read_before, 100);
        assert_eq!(start.newest_log, Some(Micros(1_000)));
        assert_eq!(start.stepped, Some(Stepped { until: 50, low: Micros(-50) }));
        assert!(merge(&points, &Topics::new(["waf"])).is_empty());
    }

    #[test]
    fn a_partition_that_some_group_does_not_know_is_read_from_where_reading_began() {
        let topics = Topics::new(["firewall"]);
        let some: Vec<_> = (1..KEY_GROUPS).map(|group| (group, point(60, 100))).collect();
        let start = merge(&some, &topics)[&("firewall".into(), 3)];
        assert_eq!((start.offset, start.max_log), (20, None));
        assert_eq!(start.read_before, 100);
    }

    #[test]
    fn a_group_that_knows_only_an_earlier_incarnation_does_not_know_the_partition() {
        let topics = Topics::with_incarnations([("firewall".into(), 1)]);
        let mut points: Vec<_> = (0..KEY_GROUPS).map(|group| (group, point(60, 100))).collect();
        assert!(merge(&points, &topics).is_empty());
        points[7].1 = PartitionPoint { incarnation: 1, ..point(50, 90) };
        let start = merge(&points, &topics)[&("firewall".into(), 3)];
        assert_eq!((start.offset, start.read_before), (20, 90));
    }

    #[test]
    fn positions_raise_what_was_passed_and_never_where_reading_starts() {
        let topics = Topics::new(["firewall"]);
        let mut points: Vec<_> = (0..KEY_GROUPS).map(|group| (group, point(60, 100))).collect();
        points.insert(0, (POSITIONS, point(150, 200)));
        let start = merge(&points, &topics)[&("firewall".into(), 3)];
        assert_eq!((start.offset, start.max_log), (60, Some(Micros(600))));
        assert_eq!((start.read_before, floors(&points)["firewall"]), (200, Micros(1_000)));
        let alone = merge(&points[..1], &topics)[&("firewall".into(), 3)];
        assert_eq!((alone.offset, alone.read_before), (20, 200));
    }
}
