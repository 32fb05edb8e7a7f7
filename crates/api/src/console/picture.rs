//! The picture of an alert: how its count grew over its revisions, as steps in an SVG.
//!
//! In: the revisions. Out: coordinates for the template. Invariant: bounded size, whatever the number of revisions.

use std::fmt::Write as _;

use vedette_event::Micros;

use super::{Stamp, words};
use crate::wire::Revision;

const LEFT: f64 = 52.0;
const RIGHT: f64 = 748.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 164.0;
/// A point each six units of the width: closer ones lie upon each other.
const MAX_POINTS: usize = 120;

/// What the template draws in a box of 760 × 190.
#[derive(Debug)]
pub(super) struct Picture {
    pub area: String,
    pub steps: String,
    pub points: Vec<(String, String, String)>,
    pub rules: Vec<(i32, String)>,
    pub from: String,
    pub to: String,
    pub alt: String,
    pub revisions: String,
}

/// The picture of these revisions, from the first event on; `None` if there is no stretch of time to draw.
pub(super) fn picture(first_seen: Micros, revisions: &[Revision]) -> Option<Picture> {
    let last = revisions.last()?;
    if last.last_seen <= first_seen {
        return None;
    }
    let stride = revisions.len().div_ceil(MAX_POINTS);
    let mut shown: Vec<&Revision> = revisions.iter().step_by(stride).collect();
    if shown.last().is_some_and(|shown| shown.revision != last.revision) {
        shown.push(last);
    }
    let length = last.last_seen.since(first_seen).0 as f64;
    let highest = scale(revisions.iter().map(|revision| revision.count).max().unwrap_or(1).max(1));
    let x =
        |time: Micros| LEFT + (RIGHT - LEFT) * ((time.since(first_seen).0.max(0)) as f64 / length).min(1.0);
    let y = |count: u64| BOTTOM - (BOTTOM - TOP) * (count as f64 / highest as f64);
    let mut steps = format!("M{LEFT:.1} {BOTTOM:.1}");
    let mut points = Vec::with_capacity(shown.len());
    for revision in shown {
        let (x, y) = (x(revision.last_seen), y(revision.count));
        let _ = write!(steps, " L{x:.1} {y:.1}");
        let label = format!(
            "Revision {}: {} events by {}",
            revision.revision,
            words::number(revision.count),
            Stamp::of(revision.last_seen).text
        );
        points.push((format!("{x:.1}"), format!("{y:.1}"), label));
    }
    let area = format!("{steps} L{:.1} {BOTTOM:.1} Z", x(last.last_seen));
    let revisions = match revisions.len() {
        1 => "1 revision".to_owned(),
        n => format!("{n} revisions"),
    };
    Some(Picture {
        alt: format!(
            "{} events by {}, in {revisions}",
            words::number(last.count),
            Stamp::of(last.last_seen).text
        ),
        area,
        steps,
        points,
        rules: [0, highest / 2, highest].iter().map(|n| (y(*n).round() as i32, words::number(*n))).collect(),
        from: Stamp::of(first_seen).text,
        to: Stamp::of(last.last_seen).text,
        revisions,
    })
}

/// The next even round number at or above `n`: 2, 4, 6, 10, 20, 40, 60, 100, …
fn scale(n: u64) -> u64 {
    let mut unit = 1_u64;
    loop {
        for step in [2, 4, 6, 8, 10] {
            let Some(top) = unit.checked_mul(step) else { return u64::MAX };
            if top >= n {
                return top;
            }
        }
        unit = unit.saturating_mul(10);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use vedette_event::Severity;

    use super::*;

    fn revision(n: u32, seconds: i64, count: u64) -> Revision {
        let at = Micros(seconds * 1_000_000);
        Revision { revision: n, last_seen: at, count, severity: Severity::High, stored_at: at }
    }

    #[test]
    fn no_revisions_no_picture() {
        assert!(picture(Micros(0), &[]).is_none());
    }

    #[test]
    fn an_instant_is_not_drawn_and_one_revision_is_a_rise() {
        assert!(picture(Micros(0), &[revision(1, 0, 1)]).is_none());
        let drawn = picture(Micros(0), &[revision(1, 60, 2)]).unwrap();
        assert_eq!(drawn.steps, "M52.0 164.0 L748.0 14.0");
        assert_eq!(drawn.area, "M52.0 164.0 L748.0 14.0 L748.0 164.0 Z");
    }

    #[test]
    fn many_revisions_stay_bounded_and_end_at_the_last() {
        let many: Vec<_> = (1..=10_000).map(|n| revision(n, i64::from(n), u64::from(n) * 7)).collect();
        let drawn = picture(Micros(0), &many).unwrap();
        assert!(drawn.points.len() <= MAX_POINTS + 1);
        assert!(drawn.points.last().unwrap().2.contains("Revision 10000"));
    }

    #[test]
    fn scales_are_round() {
        let scales: Vec<_> = [1, 3, 7, 11, 99, 101, 1_000_001].into_iter().map(scale).collect();
        assert_eq!(scales, [2, 4, 8, 20, 100, 200, 2_000_000]);
        assert_eq!(scale(u64::MAX), u64::MAX);
    }
}
