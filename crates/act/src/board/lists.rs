//! Lists that firewalls and gateways fetch whole.
//!
//! In: what is shown, the time. Out: an external dynamic list as text, rate limits as JSON. Invariants: the text is never empty, and
//! each of its lines is a comment, or an address or a prefix; the same entries give the same bytes, so that a list that did not change is
//! not read again.

use std::io::Write as _;

use serde_json::json;
use vedette_event::Micros;
use vedette_respond::Target;

use super::shown::{Entry, Shown};

/// What a throttled address, user or key may do: requests, and in how many seconds. A playbook says that somebody is throttled,
/// not how much.
pub const RATE: (u32, u32) = (60, 60);

/// Characters of a comment; firewalls cut lines at 255.
const MAX_COMMENT: usize = 64;

/// An external dynamic list.
pub(super) fn edl(name: &str, shown: &Shown, now: Micros) -> Vec<u8> {
    let entries: Vec<&Entry> = shown.entries.iter().filter(|entry| entry.until > now).collect();
    let mut text = Vec::with_capacity(96 + entries.len() * 48);
    // A list without any entry would be refused by the firewall, and one without a line taken for a failure.
    let (count, left_out) = (entries.len(), shown.left_out);
    let _ = writeln!(text, "# {}: {count} entries, {left_out} left out for want of room", word(name));
    for entry in entries {
        let _ = writeln!(text, "{} {}", entry.target, word(&entry.playbook));
    }
    text
}

/// A name as one word that can be nothing but a comment.
fn word(name: &str) -> String {
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '/') { c } else { '_' }
    };
    name.chars().take(MAX_COMMENT).map(plain).collect()
}

/// The rate limits.
pub(super) fn rate_limits(shown: &Shown, now: Micros) -> Vec<u8> {
    let (requests, seconds) = RATE;
    let item = |entry: &Entry| {
        let (kind, value) = match &entry.target {
            Target::Named { field, value } => (&**field, value.to_string()),
            Target::Network(net) if net.prefix_len() < net.max_prefix_len() => ("range", net.to_string()),
            target => ("ip", target.to_string()),
        };
        json!({
            "key": {"type": kind, "value": value},
            "rate": {"requests": requests, "seconds": seconds},
            "until": entry.until.to_string(),
        })
    };
    let items: Vec<_> = shown.entries.iter().filter(|entry| entry.until > now).map(item).collect();
    json!({"items": items, "next_cursor": null}).to_string().into_bytes()
}
