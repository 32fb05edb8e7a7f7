//! The kernel takes other versions of the rules.
//!
//! In: a version that the reloader has compiled, versions that nothing needs any more. Out: rows to store before anything that
//! follows from them; an answer to the reloader.
//! Invariants: one change at a time is on its way; it takes its place among the records, so that all read before are evaluated by the
//! versions before; what the kernel holds by rule is renumbered in that moment; of a version that nothing needs any more, all key
//! groups are written first, then its texts are removed, and only then is it dropped. A key group written without it knows
//! nothing of its rules: a start that found the texts would have that group evaluate them again, from nothing.

use std::{collections::VecDeque, sync::Arc};

use anyhow::Result;
use crossbeam_channel::{Receiver, Sender};
use tokio::sync::watch;
use vedette_engine::{Compiled, KEY_GROUPS, Version};
use vedette_event::{Micros, RuleIx, Span};
use vedette_ingest::Ingested;
use vedette_store::model::{HealthEvent, RuleVersion};

use super::{
    kernel::{Kernel, sources_by_rule},
    versions,
};
use crate::pipeline::Pipeline;

/// What the reloader has for the kernel.
pub enum FromReloader {
    /// A version.
    Version(Box<NewVersion>),
    /// Something for operators.
    Health(Vec<HealthEvent>),
}

/// A version to be taken.
pub struct NewVersion {
    /// Compiled.
    pub version: Version,
    /// What from, packed.
    pub texts: Vec<u8>,
    /// For the answer. Nothing comes if the kernel ends before.
    pub answer: Sender<Result<Adopted, TooMany>>,
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Adopted {
    /// The number of the version.
    pub number: u64,
    /// From when on it is in force.
    pub from: Micros,
}

/// As many versions as may be are needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooMany;

/// What is on its way to the kernel, among the records.
enum Coming {
    /// A version: its texts, and whom to answer.
    New(Vec<u8>, Sender<Result<Adopted, TooMany>>),
    /// The others without the oldest.
    Fewer,
}

/// The kernel's end of it.
pub struct Adopter {
    /// From the reloader.
    pub asked: Receiver<FromReloader>,
    /// The numbers of the versions in force, the oldest first.
    pub numbers: VecDeque<u64>,
    /// For whoever needs the versions in force.
    pub in_force: watch::Sender<Arc<Compiled>>,
    coming: Option<Coming>,
    outgrown: Option<Outgrown>,
}

/// The oldest versions, which nothing needs any more.
struct Outgrown {
    versions: usize,
    /// Key groups that have yet to be written. With none left, the texts go, and then the versions.
    unwritten: u8,
}

impl Adopter {
    /// Nothing is on its way; `numbers` are those of the versions held, the oldest first.
    pub fn new(
        asked: Receiver<FromReloader>,
        numbers: VecDeque<u64>,
        in_force: watch::Sender<Arc<Compiled>>,
    ) -> Self {
        Self { asked, numbers, in_force, coming: None, outgrown: None }
    }

    /// Whether every key group is to be written, also one that would begin where reading stands: what an ended rule no longer
    /// takes in does not wait, so how far the group was let through may be from before it.
    pub const fn wants_all(&self) -> bool {
        matches!(self.outgrown, Some(Outgrown { unwritten: 1.., .. }))
    }

    /// Notes that a key group's checkpoint is as new as it can be; once all are, the oldest version whose texts any needs.
    pub fn written(&mut self) -> Option<u64> {
        let Outgrown { versions, unwritten } = self.outgrown.as_mut()?;
        *unwritten = unwritten.checked_sub(1)?;
        if *unwritten > 0 { None } else { self.numbers.get(*versions).copied() }
    }
}

impl Kernel {
    /// Takes up a change, if there is one and none is on its way.
    pub(super) fn take_change(&mut self, pipeline: &mut Pipeline<Ingested, Ingested>) {
        if self.changes.coming.is_some() {
            return;
        }
        match self.changes.asked.try_recv() {
            Ok(FromReloader::Health(events)) => self.backlog.early().health.extend(events),
            Ok(FromReloader::Version(new)) => {
                let NewVersion { version, texts, answer } = *new;
                if self.compiled.versions().len() >= versions::MOST {
                    // Whoever asked may be gone.
                    let _ = answer.send(Err(TooMany));
                    return;
                }
                // Above what ingest lets pass; and above all that was handed out, should the clock have been set back.
                pipeline.add_version(version, crate::now().plus(self.skew).plus(Span(1)));
                self.changes.coming = Some(Coming::New(texts, answer));
            }
            Err(_) => {}
        }
    }

    /// Notes which versions nothing needs any more, and drops them once that is written and stored. What was said by one and waits
    /// for the publisher does not need it.
    pub(super) fn drop_outgrown(&mut self, pipeline: &mut Pipeline<Ingested, Ingested>) {
        match self.changes.outgrown {
            None if self.compiled.versions().len() > 1 => {
                let versions = self.engine.outgrown();
                let outgrown = Outgrown { versions, unwritten: KEY_GROUPS };
                self.changes.outgrown = (versions > 0).then_some(outgrown);
            }
            Some(Outgrown { versions, unwritten: 0 }) if self.changes.coming.is_none() => {
                pipeline.drop_oldest(versions);
                self.changes.coming = Some(Coming::Fewer);
            }
            _ => {}
        }
    }

    /// Goes on by other versions.
    pub(super) fn adopt(&mut self, compiled: &Arc<Compiled>) -> Result<()> {
        // What was said so far has the numbers from before.
        self.publish(false)?;
        let carried = compiled.carried(&self.compiled);
        let carry = |rule: RuleIx| carried.get(rule.0 as usize).copied().flatten();
        self.backlog.carry(carry);
        self.waiting.carry(&compiled.rules, carry);
        self.compiled = self.engine.adopt(compiled);
        self.view.adopt(&self.compiled, carry);
        self.rule_sources = sources_by_rule(&self.compiled);
        self.changes.in_force.send_replace(self.compiled.clone());
        match self.changes.coming.take() {
            Some(Coming::New(texts, answer)) => {
                let number = self.changes.numbers.back().map_or(1, |last| last + 1);
                let newest = self.compiled.newest();
                let (row, from) = (versions::row(number, newest, texts)?, newest.from);
                self.note_version(row);
                self.changes.numbers.push_back(number);
                // Whoever asked may be gone.
                let _ = answer.send(Ok(Adopted { number, from }));
            }
            Some(Coming::Fewer) | None => {
                while self.changes.numbers.len() > self.compiled.versions().len() {
                    self.changes.numbers.pop_front();
                }
                self.changes.outgrown = None;
            }
        }
        Ok(())
    }

    /// A version is to be stored before anything that follows from it.
    pub(super) fn note_version(&mut self, row: RuleVersion) {
        tracing::info!(number = row.number, in_force_from = %row.in_force_from, "rules came into force");
        let texts = versions::new_texts(self.compiled.newest());
        let early = self.backlog.early();
        early.rule_versions.push(row);
        early.rule_texts.extend(texts);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::tests::compiled;

    #[test]
    fn versions_are_forgotten_once_all_key_groups_are_written_and_not_again() {
        let (_, asked) = crossbeam_channel::unbounded();
        let mut changes = Adopter::new(asked, [3, 4, 5].into(), watch::Sender::new(compiled()));
        assert_eq!(changes.written(), None, "nothing is outgrown");
        assert!(!changes.wants_all());
        changes.outgrown = Some(Outgrown { versions: 2, unwritten: KEY_GROUPS });
        let mut wanted = 0;
        let written: Vec<_> = (0..2 * KEY_GROUPS)
            .map(|_| {
                wanted += u8::from(changes.wants_all());
                changes.written()
            })
            .collect();
        assert_eq!(wanted, KEY_GROUPS);
        assert_eq!(written.iter().position(Option::is_some), Some(usize::from(KEY_GROUPS) - 1));
        assert_eq!(written.into_iter().flatten().collect::<Vec<_>>(), [5]);
    }
}
