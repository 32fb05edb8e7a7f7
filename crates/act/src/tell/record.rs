//! Records: what topics say of alerts, actions and countermeasures.
//!
//! In: what happened, what is told, what is ordered. Out: a key and JSON. Invariants: an alert's record is the row as the API lists it, its body
//! byte for byte as it was published where it is the newest; records of one alert, of one action, of one countermeasure's target have one key each,
//! so that they keep their order.

use serde::Serialize;
use serde_json::json;
use vedette_event::Micros;
use vedette_respond::desired::Command;
use vedette_store::model::{ActionRow, AlertRow, AuditEntry, Disposition, News, Status, Triage};

use super::{enforcement, message::Told};

/// What the store knows besides the body.
#[derive(Serialize)]
struct Envelope<'a> {
    seq: i64,
    created_at: Micros,
    predecessor: Option<&'a str>,
    successor: Option<&'a str>,
    covers: &'a [String],
    triage: Handling<'a>,
    case_id: Option<i64>,
    snooze_id: Option<i64>,
}

#[derive(Serialize)]
struct Handling<'a> {
    status: Status,
    assignee: Option<&'a str>,
    disposition: Option<Disposition>,
    version: i64,
    recurred: bool,
    since_closed: Option<u64>,
}

/// An alert or a notice as the API lists it.
///
/// # Errors
/// If the stored body is no JSON object.
pub fn document(row: &AlertRow) -> Result<String, serde_json::Error> {
    let Triage { status, assignee, disposition, version } = &row.triage;
    let envelope = Envelope {
        seq: row.seq,
        created_at: row.created_at,
        predecessor: row.predecessor.as_deref(),
        successor: row.successor.as_deref(),
        covers: &row.covers,
        triage: Handling {
            status: *status,
            assignee: assignee.as_deref(),
            disposition: *disposition,
            version: *version,
            recurred: row.recurred,
            since_closed: row.since_closed,
        },
        case_id: row.case,
        snooze_id: row.snooze,
    };
    row.document(&envelope)
}

/// Whether it is about an alert or about what is done, its key, and what it says.
pub(super) fn news(news: &News) -> Result<(bool, String, String), serde_json::Error> {
    Ok(match news {
        News::Alert(row) => (true, row.id.clone(), document(row)?),
        News::Covered { seq, notice, alert } => {
            let said = json!({"state": "covered", "notice_id": notice, "covered_by": alert, "seq": seq});
            (true, notice.clone(), said.to_string())
        }
        News::Step(step) => {
            let (entry, action) = &**step;
            let key = entry.target.strip_prefix("action:").unwrap_or(&entry.target);
            (false, key.to_owned(), self::step(entry, action.as_ref()))
        }
    })
}

/// One step of an action, or what was set for all.
fn step(entry: &AuditEntry, action: Option<&ActionRow>) -> String {
    let value = |text: &Option<String>| {
        text.as_deref().map(|text| serde_json::from_str(text).unwrap_or_else(|_| json!(text)))
    };
    let mut said = json!({
        "type": if entry.target == "response" { "vedette.response" } else { "vedette.step" },
        "seq": entry.seq,
        "at": entry.at,
        "actor": entry.actor,
        "step": entry.action,
        "from": value(&entry.from),
        "to": value(&entry.to),
    });
    if let Some(number) = entry.target.strip_prefix("action:").and_then(|number| number.parse::<i64>().ok()) {
        said["action"] = json!(number);
    }
    if let Some(action) = action {
        for (name, value) in [
            ("playbook", json!(action.playbook)),
            ("playbook_step", json!(action.step)),
            ("deed", json!(action.deed)),
            ("target", json!(action.target)),
            ("alert_id", json!(action.alert_id)),
            ("rule_id", json!(action.rule_id)),
            ("severity", json!(action.severity)),
        ] {
            said[name] = value;
        }
    }
    said.to_string()
}

/// What a playbook tells, with its key.
pub(super) fn told(told: &Told<'_>) -> (String, String) {
    (told.action.id.to_string(), told.webhook().to_string())
}

/// What a program is to do, with its key.
pub(super) fn order(command: &Command) -> (String, String) {
    let (Command::Impose { action, target, .. } | Command::Withdraw { action, target }) = command;
    (format!("{action} {target}"), enforcement::message(command).to_string())
}
