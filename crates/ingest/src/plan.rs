//! Where a partition is taken up: recovery decisions as a pure function.
//!
//! In: where the former run got to, what the log holds now, whether its last record is still the same. Out: [`ReadPlan`].
//! Invariant: a plan that reads never skips an offset that is there, and names every one that is not there any more.

use crate::settings::{OnLoss, Resume, StartAt};

/// What the log of a partition holds: offsets from `low` to `high` (exclusive).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Extent {
    pub low: i64,
    pub high: i64,
}

/// Whether the record that was read last is still the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is, or nobody can say any more: it was deleted, or compacted away, or none is known.
    Credible,
    /// Another record has its offset.
    Different,
}

/// What to do with a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ReadPlan {
    /// Read from this offset on.
    Read { offset: i64, lost: Option<(i64, i64)> },
    /// Report the interval and stop the topic.
    StopLost { from: i64, to: i64 },
    /// This is not the topic that was read before.
    Recreated { reason: String },
}

/// Decides where to begin.
pub(crate) fn begin(
    resume: Option<&Resume>,
    start: StartAt,
    log: Extent,
    last: Verdict,
    on_loss: OnLoss,
) -> ReadPlan {
    let Some(resume) = resume else {
        let offset = if start == StartAt::Latest { log.high } else { log.low };
        return ReadPlan::Read { offset, lost: None };
    };
    let position = resume.last.map_or(resume.offset, |last| resume.offset.max(last.offset.saturating_add(1)));
    if let Some(reason) = recreated(position, log.high, last) {
        return ReadPlan::Recreated { reason };
    }
    match (log.low > resume.offset, on_loss) {
        (false, _) => ReadPlan::Read { offset: resume.offset, lost: None },
        (true, OnLoss::Continue) => ReadPlan::Read { offset: log.low, lost: Some((resume.offset, log.low)) },
        (true, OnLoss::Stop) => ReadPlan::StopLost { from: resume.offset, to: log.low },
    }
}

/// Why this is not the topic in which everything below `position` was read, if it shows.
pub(crate) fn recreated(position: i64, high: i64, last: Verdict) -> Option<String> {
    if high < position {
        Some(format!("it ends at offset {high}, but was read up to {position}"))
    } else if last == Verdict::Different {
        Some("the record that was read last has another content now".to_owned())
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::LastRead;

    const LOG: Extent = Extent { low: 10, high: 20 };

    fn resume(offset: i64, last: Option<i64>) -> Resume {
        Resume { offset, log_max: None, last: last.map(|offset| LastRead { offset, hash: [0; 32] }) }
    }

    fn plan(resume: &Resume) -> ReadPlan {
        begin(Some(resume), StartAt::Latest, LOG, Verdict::Credible, OnLoss::Continue)
    }

    #[test]
    fn without_a_position_the_setting_decides() {
        let at = |start| begin(None, start, LOG, Verdict::Credible, OnLoss::Stop);
        assert_eq!(at(StartAt::Earliest), ReadPlan::Read { offset: 10, lost: None });
        assert_eq!(at(StartAt::Latest), ReadPlan::Read { offset: 20, lost: None });
    }

    #[test]
    fn a_position_within_the_log_is_taken_up_exactly() {
        for offset in 10..=20 {
            assert_eq!(plan(&resume(offset, None)), ReadPlan::Read { offset, lost: None });
        }
        assert_eq!(plan(&resume(12, Some(19))), ReadPlan::Read { offset: 12, lost: None });
    }

    #[test]
    fn what_was_deleted_unread_is_named() {
        assert_eq!(plan(&resume(4, Some(15))), ReadPlan::Read { offset: 10, lost: Some((4, 10)) });
        let stop = begin(Some(&resume(4, None)), StartAt::Earliest, LOG, Verdict::Credible, OnLoss::Stop);
        assert_eq!(stop, ReadPlan::StopLost { from: 4, to: 10 });
    }

    #[test]
    fn another_topic_is_never_read() {
        assert!(matches!(plan(&resume(21, None)), ReadPlan::Recreated { .. }));
        assert!(matches!(plan(&resume(12, Some(20))), ReadPlan::Recreated { .. }));
        let different =
            begin(Some(&resume(12, Some(15))), StartAt::Earliest, LOG, Verdict::Different, OnLoss::Continue);
        assert!(matches!(different, ReadPlan::Recreated { .. }));
    }
}
