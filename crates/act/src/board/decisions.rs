//! Decisions as CrowdSec's bouncers read them.
//!
//! In: what is shown, how far a bouncer is, the time. Out: JSON. Invariants: a duration is what is left, in whole seconds, never more and
//! never `0s`; what is deleted does not lift what is in force on the same target.

use std::{io::Write as _, ops::Range};

use vedette_event::{Micros, Span};
use vedette_respond::{Action, Target};

use super::{
    filter::{Filter, Lookup},
    pollers::Cursor,
    shown::{Beside, Entry, Gone, Name, Shown},
};

/// By how much what is told as deleted overlaps with what was told before.
const OVERLAP: Span = Span(2_000_000);

/// How the bouncers call an action.
pub(super) const fn kind(action: Action) -> &'static str {
    match action {
        Action::StepUp => "captcha",
        Action::Throttle => "throttle",
        _ => "ban",
    }
}

/// How they call a sort of target.
pub(super) fn scope(target: &Target) -> &'static str {
    match target {
        Target::Network(net) if net.prefix_len() == net.max_prefix_len() => "Ip",
        _ => "Range",
    }
}

/// All that is in force, and all that was deleted lately; where the array of what is in force stands.
pub(super) fn whole(shown: &Shown, filter: &Filter, now: Micros) -> (Vec<u8>, Range<usize>) {
    let mut page = Page::new(shown.entries.len(), now);
    for entry in shown.entries.iter().filter(|entry| entry.stands(now) && filter.takes((*entry).into())) {
        page.entry(entry);
    }
    let all = page.turn();
    let told = |gone: &&Gone| gone.beside != Beside::Stronger;
    for gone in shown.gone.iter().filter(told).filter(|gone| filter.takes((*gone).into())) {
        page.gone(gone);
    }
    for entry in shown.entries.iter().filter(|entry| entry.until <= now && filter.takes((*entry).into())) {
        page.ended(entry);
    }
    (page.finish(), all)
}

/// What changed since a bouncer was there.
pub(super) fn part(shown: &Shown, cursor: Cursor, filter: &Filter, now: Micros) -> Vec<u8> {
    // A clock that was set back must not hide what ended meanwhile.
    let before = cursor.at.min(now);
    let mut page = Page::new(0, now);
    let is_new = |entry: &&Entry| {
        entry.since > cursor.version
            // Once more, since bouncers that take in what is deleted last have lifted what took its place.
            || (entry.instead && entry.since > cursor.before)
            || entry.is_let_go((before, now))
    };
    for entry in shown.entries.iter().filter(is_new).filter(|entry| entry.stands(now)) {
        if filter.takes(entry.into()) {
            page.entry(entry);
        }
    }
    page.turn();
    let is_gone = |gone: &&Gone| match gone.beside {
        Beside::Stronger => false,
        Beside::Weaker => gone.version > cursor.version || (gone.version == 0 && gone.at > before),
        Beside::Nothing => gone.version > cursor.version || gone.at > before.minus(OVERLAP),
    };
    for gone in shown.gone.iter().filter(is_gone).filter(|gone| filter.takes((*gone).into())) {
        page.gone(gone);
    }
    let ended = |entry: &&Entry| entry.until <= now && entry.until > before.minus(OVERLAP);
    for entry in shown.entries.iter().filter(ended).filter(|entry| filter.takes((*entry).into())) {
        page.ended(entry);
    }
    page.finish()
}

/// What a lookup finds.
pub(super) fn found(shown: &Shown, lookup: &Lookup, now: Micros) -> Vec<u8> {
    let mut page = Page { body: Vec::new(), now, first: true };
    page.body.push(b'[');
    let mut take = |entry: &Entry| {
        if entry.stands(now) && lookup.takes(entry) {
            page.entry(entry);
        }
    };
    match lookup.net() {
        Some(net) if lookup.inner() => shown.within(net).for_each(&mut take),
        // The narrowest first: some bouncers look at the first one alone.
        Some(net) => {
            let mut found: Vec<&Entry> = shown.containing(net).collect();
            found.reverse();
            found.into_iter().for_each(&mut take);
        }
        None => shown.entries.iter().for_each(&mut take),
    }
    if page.first {
        return b"null".to_vec();
    }
    page.body.push(b']');
    page.body
}

/// A body as it grows.
struct Page {
    body: Vec<u8>,
    now: Micros,
    /// The array has no item yet.
    first: bool,
}

impl Page {
    fn new(entries: usize, now: Micros) -> Self {
        let mut body = Vec::with_capacity(64 + entries * 224);
        body.extend_from_slice(b"{\"new\":[");
        Self { body, now, first: true }
    }

    /// Ends the first array and begins the second; returns where the first stands.
    fn turn(&mut self) -> Range<usize> {
        self.body.push(b']');
        let all = b"{\"new\":".len()..self.body.len();
        self.body.extend_from_slice(b",\"deleted\":[");
        self.first = true;
        all
    }

    fn finish(mut self) -> Vec<u8> {
        self.body.extend_from_slice(b"]}");
        self.body
    }

    fn entry(&mut self, entry: &Entry) {
        let left = entry.until.since(self.now).0 / 1_000_000;
        self.item(entry.name, entry.action, &entry.target, &entry.playbook, left.max(1));
    }

    fn gone(&mut self, gone: &Gone) {
        let over = self.now.since(gone.at).0 / 1_000_000;
        self.item(gone.name, gone.action, &gone.target, &gone.playbook, -over.max(1));
    }

    fn ended(&mut self, entry: &Entry) {
        let over = self.now.since(entry.until).0 / 1_000_000;
        self.item(entry.name, entry.action, &entry.target, &entry.playbook, -over.max(1));
    }

    fn item(&mut self, name: Name, action: Action, target: &Target, playbook: &str, seconds: i64) {
        let body = &mut self.body;
        if !std::mem::replace(&mut self.first, false) {
            body.push(b',');
        }
        // Writing into memory does not fail, and neither does a text as JSON.
        let _ = write!(body, "{{\"id\":{},\"uuid\":\"", name.id);
        for (at, byte) in name.uuid.iter().enumerate() {
            if matches!(at, 4 | 6 | 8 | 10) {
                body.push(b'-');
            }
            let digit = |n: u8| b"0123456789abcdef".get(usize::from(n)).copied().unwrap_or_default();
            body.extend([digit(byte >> 4), digit(byte & 15)]);
        }
        body.extend_from_slice(b"\",\"origin\":\"vedette\",\"type\":\"");
        body.extend_from_slice(kind(action).as_bytes());
        body.extend_from_slice(b"\",\"scope\":\"");
        body.extend_from_slice(scope(target).as_bytes());
        let _ = write!(body, "\",\"value\":\"{target}\",\"duration\":\"");
        duration(body, seconds);
        body.extend_from_slice(b"\",\"scenario\":");
        let _ = serde_json::to_writer(&mut *body, playbook);
        body.push(b'}');
    }
}

/// As Go writes and reads durations.
fn duration(to: &mut Vec<u8>, seconds: i64) {
    if seconds < 0 {
        to.push(b'-');
    }
    let n = seconds.unsigned_abs();
    let (hours, minutes, seconds) = (n / 3_600, n / 60 % 60, n % 60);
    let _ = match (hours, minutes) {
        (0, 0) => write!(to, "{seconds}s"),
        (0, _) => write!(to, "{minutes}m{seconds}s"),
        _ => write!(to, "{hours}h{minutes}m{seconds}s"),
    };
}

#[cfg(test)]
mod tests {
    use super::duration;

    #[test]
    fn durations_are_written_as_go_does() {
        for (seconds, text) in [
            (1, "1s"),
            (59, "59s"),
            (60, "1m0s"),
            (14_399, "3h59m59s"),
            (14_400, "4h0m0s"),
            (360_000, "100h0m0s"),
            (-61, "-1m1s"),
        ] {
            let mut written = Vec::new();
            duration(&mut written, seconds);
            assert_eq!(String::from_utf8_lossy(&written), text);
        }
    }
}
