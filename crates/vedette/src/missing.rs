//! What an answer of the lake cannot rest on: what was dropped, and what was lost.
//!
//! In: the catalog's word. Out: lines on standard error. Invariant: what is missing is said, and each line names where and up to when.

use vedette_event::Micros;
use vedette_hunt::lake::Missing;
use vedette_store::model::{DropReason, Holds, LakeDrop, LostInterval};

use crate::table;

/// Lost intervals that are named one by one.
const NAMED: usize = 5;

/// Says what is missing.
pub fn say(missing: &Missing) {
    lines(missing).iter().for_each(|line| say!("missing: {line}"));
}

/// What is missing of originals, each in a line.
pub fn lines_of_originals(missing: &Missing) -> Vec<String> {
    missing.originals.iter().map(line).collect()
}

fn line(LakeDrop { source, holds, why, through, events, .. }: &LakeDrop) -> String {
    let (what, key) = match holds {
        Holds::Events => ("events", "lake.keep"),
        Holds::Originals => ("originals", "lake.originals.keep"),
    };
    let why = match why {
        DropReason::Age => format!("they were as old as `{key}` allows"),
        DropReason::Size => "the lake had more than `lake.size`".to_owned(),
    };
    format!("{events} {what} of {} up to {through} were dropped, since {why}", table::plain(source))
}

/// What is missing, each in a line.
pub fn lines(Missing { dropped, lost, renewed, .. }: &Missing) -> Vec<String> {
    let mut lines: Vec<String> = dropped.iter().map(line).collect();
    for LostInterval { topic, partition, from, to, noticed_at, .. } in lost.iter().take(NAMED) {
        let topic = table::plain(topic);
        lines.push(format!(
            "Kafka deleted {} records of partition {partition} of {topic} (offsets {from} to {}) before they were read; \
             noticed at {noticed_at}",
            to.saturating_sub(*from),
            to.saturating_sub(1)
        ));
    }
    if let Some(more) = lost.len().checked_sub(NAMED).filter(|more| *more > 0) {
        lines.push(format!("{more} more such intervals (`vedette lake status --format json`)"));
    }
    for (topic, until) in renewed {
        let until = until.map_or_else(|| "at all".to_owned(), |until: Micros| format!("after {until}"));
        lines.push(format!(
            "{} was deleted and made anew; what the one before had {until} was never read, if there was any",
            table::plain(topic)
        ));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_said_with_where_and_when() {
        let dropped = LakeDrop {
            source: "fw".to_owned(),
            holds: Holds::Events,
            why: DropReason::Age,
            through: Micros(0),
            events: 7,
            at: Micros(0),
        };
        let lost = |from| LostInterval {
            topic: "t".to_owned(),
            incarnation: 0,
            partition: 3,
            from,
            to: from + 5,
            noticed_at: Micros(0),
        };
        let renewed = vec![("u".to_owned(), Some(Micros(0)))];
        let original = LakeDrop { holds: Holds::Originals, ..dropped.clone() };
        let originals = vec![original];
        let missing = Missing { dropped: vec![dropped], lost: vec![lost(10)], renewed, originals };
        assert_eq!(
            lines_of_originals(&missing),
            [
                "7 originals of fw up to 1970-01-01T00:00:00.000000Z were dropped, since they were as old as `lake.originals.keep` allows"
            ]
        );
        let said = lines(&missing);
        assert_eq!(
            said[0],
            "7 events of fw up to 1970-01-01T00:00:00.000000Z were dropped, since they were as old as `lake.keep` allows"
        );
        assert!(
            said[1].starts_with("Kafka deleted 5 records of partition 3 of t (offsets 10 to 14)"),
            "{said:?}"
        );
        assert!(
            said[2].starts_with("u was deleted and made anew; what the one before had after 1970-01-01"),
            "{said:?}"
        );
        let many = Missing { lost: (0..8).map(|n| lost(n * 10)).collect(), ..Missing::default() };
        let said = lines(&many);
        assert_eq!(said.len(), 6);
        assert!(said[5].contains("3 more"), "{said:?}");
        assert_eq!(lines(&Missing::default()), [""; 0]);
    }
}
