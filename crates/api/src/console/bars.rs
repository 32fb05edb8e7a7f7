//! Figures over time as bars.
//!
//! In: figures by time. Out: a picture, which is also told in words. Invariant: what is there is seen, however little it is.

use vedette_event::Micros;

use super::{Stamp, words};

/// Of a picture, in its own units.
const WIDTH: i64 = 720;
const HEIGHT: i64 = 96;

/// One bar of a picture, with its figure for who points at it.
pub(super) struct Bar {
    pub x: i64,
    pub y: i64,
    pub width: i64,
    pub height: i64,
    pub title: String,
}

/// Figures over time.
pub(super) struct Picture {
    pub bars: Vec<Bar>,
    pub label: String,
    pub from: Stamp,
    pub until: Stamp,
    pub top: String,
}

/// A time, until when, a figure and how it is told.
pub(super) type Point = (Micros, Micros, u64, String);

impl Picture {
    /// Bars by time; none where there is nothing to show.
    pub fn of(points: &[Point], what: &str) -> Option<Self> {
        let ((from, ..), (_, until, ..)) = (points.first()?, points.last()?);
        let (from, until) = (*from, *until);
        let whole = until.since(from).0.max(1);
        let most = points.iter().map(|(_, _, n, _)| *n).max().unwrap_or(0).max(1);
        let place =
            |at: Micros| (i128::from(at.since(from).0) * i128::from(WIDTH) / i128::from(whole)) as i64;
        let bar = |(a, b, n, told): &Point| {
            let (x, end) = (place(*a), place(*b));
            // What is there is seen, however little it is.
            let height = (u128::from(*n) * HEIGHT as u128 / u128::from(most)) as i64;
            let height = if *n > 0 { height.max(2) } else { 0 };
            let title = format!("{}: {told}", Stamp::of(*a).text);
            Bar { x, y: HEIGHT - height, width: (end - x - 1).max(1), height, title }
        };
        let total: u64 = points.iter().map(|(_, _, n, _)| *n).sum();
        Some(Self {
            bars: points.iter().map(bar).filter(|bar| bar.height > 0).collect(),
            label: format!(
                "{what} from {} to {} UTC: {} in all, at most {} in one step",
                Stamp::of(from).text,
                Stamp::of(until).text,
                words::number(total),
                words::number(most)
            ),
            from: Stamp::of(from),
            until: Stamp::of(until),
            top: words::number(most),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use vedette_event::Span;

    use super::*;

    #[test]
    fn bars_stand_where_their_time_is_and_what_is_little_is_seen() {
        let at = |seconds: i64| Micros(1_769_860_800_000_000).plus(Span::secs(seconds));
        let points: Vec<Point> = [(0, 1_000_000), (30, 0), (60, 1)]
            .map(|(from, n)| (at(from), at(from + 30), n, format!("{n} events")))
            .into();
        let picture = Picture::of(&points, "Events").unwrap();
        let bars: Vec<_> = picture.bars.iter().map(|bar| (bar.x, bar.width, bar.y, bar.height)).collect();
        assert_eq!(bars, [(0, 239, 0, HEIGHT), (480, 239, HEIGHT - 2, 2)]);
        assert!(picture.label.contains("in all, at most"), "{}", picture.label);
        assert!(Picture::of(&[], "Events").is_none());
    }
}
