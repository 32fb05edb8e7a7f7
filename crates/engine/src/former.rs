//! Partitions of topics as they were before they were accepted anew, for as long as something found in them waits.
//!
//! In: partitions at the moment of acceptance, what each key group has not released when it is checkpointed. Out: what its
//! checkpoint says of them. What waits is in memory only and cannot be read again: should the process end before it is
//! released, the next start finds here what was given up ([`crate::GivenUp`]).
//! Invariants: a partition is forgotten once every group's checkpoint says that nothing of it waits, and knows the topic as it
//! is now, so that a checkpoint without it means just that; there are never more than [`MOST`].

use std::{collections::BTreeMap, sync::Arc};

use vedette_correlate::Origin;
use vedette_event::SourceIx;

use crate::{
    checkpoint::{GivenUp, PartitionPoint},
    partition::PartitionState,
};

/// How many are kept: each costs some 300 bytes in every checkpoint. Only a topic that is accepted again and again while its
/// rules wait for another source comes near it.
const MOST: usize = 1_024;

/// One such partition.
#[derive(Debug)]
struct Closed {
    source: SourceIx,
    began: i64,
    /// The offset after the last record that was read in this life.
    end: i64,
    last_hash: [u8; 32],
    /// By key group: whether its last checkpoint says that nothing waits.
    settled: u64,
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Former(BTreeMap<Origin, Closed>);

impl Former {
    /// Takes a partition that is read no more. Gives what is given up: what was read in an earlier life and not again since,
    /// and all of an older partition where there are too many.
    pub(crate) fn close(
        &mut self,
        origin: Origin,
        state: &PartitionState,
        name: impl Fn(Origin) -> Arc<str>,
    ) -> Vec<GivenUp> {
        let (end, (read, last_hash)) = (state.next(), state.furthest());
        let of = |(partition, incarnation): Origin, from, to| GivenUp {
            topic: name((partition, incarnation)),
            incarnation,
            partition: partition.number,
            from,
            to,
        };
        let mut given_up = Vec::new();
        if end < read {
            given_up.push(of(origin, end, read));
        }
        if state.began() < end {
            let (source, began) = (state.source, state.began());
            self.0.insert(origin, Closed { source, began, end, last_hash, settled: 0 });
        }
        while self.0.len() > MOST {
            let oldest =
                self.0.keys().min_by_key(|(partition, incarnation)| (*incarnation, *partition)).copied();
            let Some((oldest, closed)) = oldest.and_then(|oldest| self.0.remove_entry(&oldest)) else {
                break;
            };
            given_up.push(of(oldest, closed.began, closed.end));
        }
        given_up
    }

    /// Takes note of what a key group has not released as it is checkpointed.
    pub(crate) fn settle(&mut self, group: u8, unreleased: &BTreeMap<Origin, i64>) {
        for (origin, closed) in &mut self.0 {
            let bit = 1 << (group % 64);
            closed.settled =
                if unreleased.contains_key(origin) { closed.settled & !bit } else { closed.settled | bit };
        }
    }

    /// True if the group's last checkpoint says that something of them waits.
    pub(crate) fn unsettled(&self, group: u8) -> bool {
        self.0.values().any(|closed| closed.settled & (1 << (group % 64)) == 0)
    }

    /// What a checkpoint says of them; `point` knows the rest.
    pub(crate) fn points<'a>(
        &'a self,
        unreleased: &'a BTreeMap<Origin, i64>,
        point: impl Fn(Origin, SourceIx) -> PartitionPoint + 'a,
    ) -> impl Iterator<Item = PartitionPoint> + 'a {
        self.0.iter().map(move |(origin, closed)| PartitionPoint {
            began: closed.began,
            resume: unreleased.get(origin).copied().unwrap_or(closed.end),
            read_before: closed.end,
            last_hash: closed.last_hash,
            ..point(*origin, closed.source)
        })
    }

    /// Forgets those of which nothing waits, where all groups know the topic as it is now.
    pub(crate) fn forget(&mut self, known_to_all: impl Fn(Origin) -> bool) {
        self.0.retain(|origin, closed| closed.settled != u64::MAX || !known_to_all(*origin));
    }
}
