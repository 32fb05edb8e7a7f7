//! Publishing: everything the engine has to say, in transactions of a bounded size.
//!
//! In: a [`Publication`]. Out: [`PublishOutcome`]. Invariants: publishing the same again changes nothing; a revision not
//! above the stored one is ignored; a revision never changes a triage version; at most one notice per rule and key
//! is open, and every alert covers those of its episode.
//!
//! A large publication is cut into [`Part`]s, each a transaction. A crash between two of them loses nothing, since the
//! engine finds again what no checkpoint has passed, and publishing is idempotent by id and revision; but it rests on
//! the order, which is therefore an invariant: placements and versions first, then the positions (which say that the
//! records up to there were placed), then notices, then alerts and dead letters, then the checkpoints, which rest
//! on all of it. The topics' new incarnations come last, behind the withdrawn notices and in a transaction of their own,
//! since all else is of the ones before: with it, or before it, a publication that is tried again would be filed under the new ones.

use vedette_event::StoredPlacement;

use crate::{
    error::Error,
    model::{
        AlertRevision, Checkpoint, HealthEvent, LostInterval, NewDeadLetter, NewNotice, Publication,
        PublishOutcome, RuleText, RuleVersion,
    },
    store::Store,
    topics::Incarnations,
};

/// Rows of a publication in one transaction: some 200 ms at 5,000 rows a second, for which a notice may wait. Twice as many
/// write a tenth fewer bytes a row, since rows share pages of the indexes.
pub const MAX_ROWS: usize = 1_024;
/// Bytes of a publication in one transaction, beyond those of its first row.
const MAX_BYTES: usize = 4 << 20;

/// What one transaction takes of a publication.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Part<'a> {
    placements: &'a [StoredPlacement],
    rule_versions: &'a [RuleVersion],
    rule_texts: &'a [RuleText],
    positions: Option<&'a Checkpoint>,
    lost: &'a [LostInterval],
    health: &'a [HealthEvent],
    notices: &'a [NewNotice],
    alerts: &'a [AlertRevision],
    dead_letters: &'a [NewDeadLetter],
    checkpoints: &'a [Checkpoint],
}

/// The room that is left in a part.
struct Room {
    rows: usize,
    bytes: usize,
}

impl Room {
    /// Takes from a list what still fits; of an empty part at least one row.
    fn take<'a, T>(&mut self, list: &mut &'a [T], size: impl Fn(&T) -> usize) -> &'a [T] {
        let mut taken = 0;
        for item in list.iter() {
            let bytes = size(item);
            if self.rows == 0 || (bytes > self.bytes && self.rows < MAX_ROWS) {
                // What comes later in the order waits for the next part, too.
                self.rows = 0;
                break;
            }
            taken += 1;
            self.rows -= 1;
            self.bytes = self.bytes.saturating_sub(bytes);
        }
        let (taken, rest) = list.split_at(taken);
        *list = rest;
        taken
    }
}

/// Cuts a publication into parts, in the order that the invariant above demands; at least one.
pub(crate) fn parts(publication: &Publication) -> impl Iterator<Item = Part<'_>> {
    let mut rest = Some(Part {
        placements: &publication.placements,
        rule_versions: &publication.rule_versions,
        rule_texts: &publication.rule_texts,
        positions: publication.positions.as_ref(),
        lost: &publication.lost,
        health: &publication.health,
        notices: &publication.notices,
        alerts: &publication.alerts,
        dead_letters: &publication.dead_letters,
        checkpoints: &publication.checkpoints,
    });
    std::iter::from_fn(move || {
        let mut left = rest?;
        let mut room = Room { rows: MAX_ROWS, bytes: MAX_BYTES };
        let placements = room.take(&mut left.placements, |_| 64);
        let rule_versions =
            room.take(&mut left.rule_versions, |version| version.content.len() + version.texts.len());
        let rule_texts = room.take(&mut left.rule_texts, |rule| rule.text.len());
        let mut positions = left.positions.as_slice();
        let position = room.take(&mut positions, |positions| positions.bytes.len()).first().copied();
        left.positions = positions.first().copied();
        let part = Part {
            placements,
            rule_versions,
            rule_texts,
            positions: position,
            lost: room.take(&mut left.lost, |_| 64),
            health: room.take(&mut left.health, |event| event.message.len()),
            notices: room.take(&mut left.notices, |notice| notice.body.len()),
            alerts: room.take(&mut left.alerts, |alert| alert.body.len()),
            dead_letters: room.take(&mut left.dead_letters, |letter| letter.payload.len()),
            checkpoints: room.take(&mut left.checkpoints, |checkpoint| checkpoint.bytes.len()),
        };
        rest = (left.rows() > 0).then_some(left);
        Some(part)
    })
}

impl Part<'_> {
    pub(crate) fn rows(&self) -> usize {
        self.placements.len()
            + self.rule_versions.len()
            + self.rule_texts.len()
            + usize::from(self.positions.is_some())
            + self.lost.len()
            + self.health.len()
            + self.notices.len()
            + self.alerts.len()
            + self.dead_letters.len()
            + self.checkpoints.len()
    }

    /// Which kinds it holds, numbered in the promised order.
    #[cfg(test)]
    pub(crate) fn kinds(&self) -> Vec<usize> {
        let rows = [
            self.placements.len(),
            self.rule_versions.len(),
            self.rule_texts.len(),
            usize::from(self.positions.is_some()),
            self.lost.len(),
            self.health.len(),
            self.notices.len(),
            self.alerts.len(),
            self.dead_letters.len(),
            self.checkpoints.len(),
        ];
        (0..).zip(rows).filter(|(_, rows)| *rows > 0).map(|(kind, _)| kind).collect()
    }
}

impl Store {
    /// Publishes everything, in as many transactions as it takes. After an error some of it may be stored; publishing it
    /// again stores the rest.
    pub async fn publish(&self, publication: &Publication) -> Result<PublishOutcome, Error> {
        let mut done = PublishOutcome::default();
        for part in parts(publication) {
            let of_part = self.publish_part(part).await?;
            done.seq = of_part.seq;
            done.applied += of_part.applied;
            done.ignored += of_part.ignored;
        }
        // Only when all alerts are there: what they cover is not to be withdrawn.
        if !publication.passed.is_empty() && self.withdraw(&publication.passed).await? > 0 {
            done.seq = self.newest_seq().await?;
        }
        if let Some(number) = publication.oldest_version {
            // Checkpoints that need no older one are written.
            self.forget_versions_before(number).await?;
        }
        if !publication.incarnations.is_empty() {
            done.seq = self.accept_topics(&publication.incarnations).await?;
        }
        Ok(done)
    }

    /// Publishes a part in one transaction.
    pub(crate) async fn publish_part(&self, part: Part<'_>) -> Result<PublishOutcome, Error> {
        let mut tx = self.begin_as_engine().await?;
        let incarnations = match part.rows() {
            0 => Incarnations::default(),
            _ => tx.incarnations().await?,
        };
        tx.write_placements(part.placements, &incarnations).await?;
        tx.write_rule_versions(part.rule_versions).await?;
        tx.write_rule_texts(part.rule_texts).await?;
        tx.write_checkpoints(part.positions).await?;
        tx.write_lost(part.lost).await?;
        tx.write_health(part.health).await?;
        let mut applied = tx.write_notices(part.notices).await?;
        applied += tx.write_alerts(part.alerts).await?;
        let (new, old) = tx.write_dead_letters(part.dead_letters, &incarnations).await?;
        tx.write_checkpoints(part.checkpoints).await?;
        let ignored = (part.notices.len() + part.alerts.len()) as u64 - applied;
        Ok(PublishOutcome { seq: tx.commit().await?, applied: applied + new, ignored: ignored + old })
    }
}
