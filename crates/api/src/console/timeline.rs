//! One line of time for machine and people: what happened to an alert, whoever did it.
//!
//! In: a dossier. Out: entries, the newest first. Invariants: nothing that people did is left out; of many revisions in a row
//! the first and the last are told, and how many lie between; times are those at which things became known here, but for the
//! first event and the crossing, which are the events'.

use serde_json::Value;
use vedette_event::{Alert, Micros};
use vedette_store::model::{Covered, RowState, Withdrawal};

use super::{Stamp, words};
use crate::{desk::history::HistoryEntry, wire::Revision};

/// Revisions in a row that are all told.
const IN_A_ROW: usize = 6;

/// Something that happened.
pub(super) struct Entry {
    pub at: Stamp,
    pub what: String,
    /// Who did it; none where the machine did.
    pub who: Option<String>,
    pub text: Option<String>,
}

/// Something with its time, so that all can be put in order: at the same time, events come before what is said of them.
struct Timed(Micros, u8, Entry);

fn machine(at: Micros, order: u8, what: String) -> Timed {
    Timed(at, order, Entry { at: Stamp::of(at), what, who: None, text: None })
}

/// All that happened, the newest first.
pub(super) fn entries(
    body: &Alert,
    state: RowState,
    revisions: &[Revision],
    covered: &[Covered],
    history: Vec<HistoryEntry>,
) -> Vec<Entry> {
    let notice = state == RowState::Notice;
    let mut all = Vec::new();
    if !notice && body.first_seen < body.crossed_at {
        all.push(machine(body.first_seen, 0, "First event".to_owned()));
    }
    let met =
        if notice { "Announced: the condition holds over what was read so far" } else { "Condition met" };
    all.push(machine(body.crossed_at, 1, met.to_owned()));
    all.extend(
        covered.iter().map(|notice| machine(notice.created_at, 2, "Announced by a notice".to_owned())),
    );
    all.extend(history.into_iter().map(|entry| Timed(entry.at, 4, done(entry))));
    let people: Vec<Micros> = all.iter().filter(|entry| entry.1 == 4).map(|entry| entry.0).collect();
    all.extend(revised(revisions, state, &people));
    all.sort_by_key(|Timed(at, order, _)| (*at, *order));
    all.into_iter().rev().map(|Timed(_, _, entry)| entry).collect()
}

/// Revisions; of more than a few between which nobody did anything, the first and the last.
fn revised(revisions: &[Revision], state: RowState, people: &[Micros]) -> Vec<Timed> {
    let mut all = Vec::new();
    let mut before: Option<&Revision> = None;
    let group = |revision: &Revision| people.iter().filter(|at| **at <= revision.stored_at).count();
    for some in revisions.chunk_by(|a, b| group(a) == group(b)) {
        for (n, revision) in some.iter().enumerate() {
            let told = some.len() <= IN_A_ROW || n < 2 || n + 2 >= some.len();
            if told {
                all.push(machine(revision.stored_at, 3, told_of(revision, before, state, revisions.last())));
            } else if n == 2 {
                let text = format!("{} revisions more", some.len() - 4);
                all.push(machine(revision.stored_at, 3, text));
            }
            before = Some(revision);
        }
    }
    all
}

fn told_of(
    revision: &Revision,
    before: Option<&Revision>,
    state: RowState,
    last: Option<&Revision>,
) -> String {
    let events = match revision.count {
        1 => "1 event".to_owned(),
        n => format!("{} events", words::number(n)),
    };
    let is_last = last.is_some_and(|last| last.revision == revision.revision);
    let ended = is_last && state == RowState::Ended;
    let rose = before.filter(|before| before.severity < revision.severity);
    let severity =
        rose.map(|_| format!(", severity rose to {}", revision.severity.name())).unwrap_or_default();
    let kind = match (revision.revision, ended) {
        (1, false) => "Alert raised",
        (1, true) => "Alert raised and ended",
        (_, true) => "Episode ended",
        (_, false) => "Revised",
    };
    format!("{kind}: {events}{severity} (revision {})", revision.revision)
}

/// What somebody did, or the system by itself.
fn done(entry: HistoryEntry) -> Entry {
    let HistoryEntry { at, actor, action, from, to, .. } = entry;
    let who = (actor != "vedette").then_some(actor);
    let (what, text) = match action.as_str() {
        "comment" => ("Comment".to_owned(), to.as_ref().map(words::scalar)),
        "recurred" => ("Came back to the queue".to_owned(), None),
        "withdrawn" => {
            let reason = to.as_ref().and_then(Value::as_str).and_then(Withdrawal::parse);
            ("Withdrawn".to_owned(), reason.map(|reason| words::withdrawn(reason).to_owned()))
        }
        "inherited" => ("Triage taken over from a notice or predecessor".to_owned(), None),
        "case" => (moved(from.as_ref(), to.as_ref()), None),
        _ => (changed(from.as_ref(), to.as_ref()), None),
    };
    Entry { at: Stamp::of(at), what, who, text }
}

/// Into which case it went, or out of which.
fn moved(from: Option<&Value>, to: Option<&Value>) -> String {
    let case = |state: Option<&Value>| state?.get("case")?.as_i64();
    match (case(from), case(to)) {
        (_, Some(to)) => format!("Into case {to}"),
        (Some(from), None) => format!("Out of case {from}"),
        (None, None) => "Case".to_owned(),
    }
}

/// What differs between two states of triage.
fn changed(from: Option<&Value>, to: Option<&Value>) -> String {
    let of = |state: Option<&Value>, name: &str| {
        state.and_then(|state| state.get(name)).filter(|value| !value.is_null()).map(words::scalar)
    };
    let mut parts = Vec::new();
    if of(from, "status") != of(to, "status")
        && let Some(status) = of(to, "status")
    {
        parts.push(words::label(&status));
    }
    if of(from, "disposition") != of(to, "disposition")
        && let Some(disposition) = of(to, "disposition")
    {
        parts.push(format!("as {}", words::label(&disposition).to_lowercase()));
    }
    if of(from, "assignee") != of(to, "assignee") {
        parts.push(match of(to, "assignee") {
            Some(owner) => format!("assigned to {owner}"),
            None => "owner removed".to_owned(),
        });
    }
    let text = parts.join(", ");
    let mut chars = text.chars();
    chars.next().map_or_else(|| "Looked at".to_owned(), |first| first.to_uppercase().chain(chars).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use vedette_event::Severity;

    use super::*;

    fn revision(n: u32, second: i64, severity: Severity) -> Revision {
        let at = Micros(second * 1_000_000);
        Revision { revision: n, last_seen: at, count: u64::from(n), value: None, severity, stored_at: at }
    }

    #[test]
    fn of_many_revisions_in_a_row_the_ends_are_told_and_people_part_them() {
        let many: Vec<_> = (1..=20).map(|n| revision(n, i64::from(n), Severity::Medium)).collect();
        let told = |people: &[Micros]| -> Vec<String> {
            revised(&many, RowState::Ended, people).into_iter().map(|Timed(_, _, entry)| entry.what).collect()
        };
        let quiet = told(&[]);
        assert_eq!(quiet.len(), 5);
        assert_eq!(quiet[0], "Alert raised: 1 event (revision 1)");
        assert_eq!(quiet[2], "16 revisions more");
        assert_eq!(quiet[4], "Episode ended: 20 events (revision 20)");
        // Who looks at revision 15 finds told what came before and after.
        assert!(told(&[Micros(15_000_000)]).contains(&"Revised: 14 events (revision 14)".to_owned()));
    }

    #[test]
    fn a_severity_that_rises_is_said() {
        let (low, high) = (revision(1, 1, Severity::Low), revision(2, 2, Severity::High));
        let text = told_of(&high, Some(&low), RowState::Active, Some(&high));
        assert_eq!(text, "Revised: 2 events, severity rose to high (revision 2)");
    }
}
