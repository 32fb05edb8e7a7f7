//! Tests on real files in temporary folders.
#![allow(clippy::unwrap_used, clippy::panic)]

mod bulk;
mod cases;
mod concurrency;
mod database_files;
mod dead_letters;
mod evidence;
mod feed;
mod figures;
mod fired;
mod hunt_schedules;
mod hunts;
mod lake;
mod opening;
mod parts;
mod past;
mod people;
mod publishing;
mod reading;
mod replay;
mod response;
mod retention;
mod search;
mod snoozes;
mod then;
mod topics;
mod triage;
mod verdicts;
mod views;
mod withdrawal;

use tempfile::TempDir;
use vedette_event::{Flags, Micros, Severity, State};

use crate::{Access, Store, StoreSettings, model::*};

/// A store in a folder of its own.
async fn store() -> (TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(StoreSettings::new(folder.path(), Access::Engine)).await.unwrap();
    (folder, store)
}

/// One revision; crossing and last event at the same second.
fn alert(id: &str, revision: u32, second: i64, count: u64) -> AlertRevision {
    let at = Micros(second * 1_000_000);
    AlertRevision {
        alert_id: id.to_owned(),
        revision,
        state: State::Active,
        continuation: false,
        rule_id: "rule-1".to_owned(),
        rule_title: "Many Logins".to_owned(),
        tags: vec!["attack.t1110.001".to_owned(), "attack.credential-access".to_owned()],
        severity: Severity::Medium,
        key: format!("{{\"user\":\"{id}\"}}"),
        entity: Some(EntityRef { kind: "user.name".to_owned(), value: format!("user-{id}") }),
        sources: vec!["api".to_owned()],
        first_seen: at,
        crossed_at: at,
        last_seen: at,
        covers_until: Micros(at.0 + 60_000_000),
        count,
        measured: Some(count.to_string()),
        summary: format!("{count} logins of {id}"),
        concerns: Vec::new(),
        body: format!("{{\"alert_id\":\"{id}\",\"revision\":{revision},\"count\":{count}}}"),
    }
}

fn notice(id: &str, of: &AlertRevision) -> NewNotice {
    NewNotice {
        notice_id: id.to_owned(),
        rule_id: of.rule_id.clone(),
        rule_title: of.rule_title.clone(),
        tags: of.tags.clone(),
        severity: of.severity,
        key: of.key.clone(),
        entity: of.entity.clone(),
        sources: of.sources.clone(),
        crossed_at: of.crossed_at,
        count: of.count,
        summary: of.summary.clone(),
        concerns: Vec::new(),
        body: format!("{{\"notice_id\":\"{id}\"}}"),
    }
}

fn rule_text(rule: &str, version: &str, text: &str) -> RuleText {
    RuleText { rule_id: rule.into(), version: version.into(), text: text.into() }
}

fn letter(offset: i64) -> NewDeadLetter {
    NewDeadLetter {
        source: "waf".to_owned(),
        topic: "waf".to_owned(),
        partition: 0,
        offset,
        index: None,
        ts_log: Some(Micros(7_200_000_000)),
        reason: "malformed".to_owned(),
        detail: "no JSON".to_owned(),
        payload: b"{".to_vec(),
    }
}

async fn publish_alerts(store: &Store, alerts: Vec<AlertRevision>) -> PublishOutcome {
    store.publish(&Publication { alerts, ..Default::default() }).await.unwrap()
}

async fn publish_notices(store: &Store, notices: Vec<NewNotice>) -> PublishOutcome {
    store.publish(&Publication { notices, ..Default::default() }).await.unwrap()
}

async fn get(store: &Store, id: &str) -> AlertRow {
    store.alert(id).await.unwrap().unwrap()
}

fn to(status: Status) -> TriagePatch {
    TriagePatch { status: Some(status), ..Default::default() }
}

fn flags() -> Flags {
    Flags::CLOCK_OVERTAKEN
}

/// All checkpoints, as a start takes them up.
async fn checkpoints(store: &Store) -> Result<Vec<Checkpoint>, crate::Error> {
    let mut all: Vec<Checkpoint> = Vec::new();
    while let Some(next) = store.next_checkpoint(all.last().map(|last| last.group)).await? {
        all.push(next);
    }
    Ok(all)
}

/// All placements, in pages as small as can be.
async fn placements(store: &Store) -> Vec<vedette_event::StoredPlacement> {
    let mut all: Vec<vedette_event::StoredPlacement> = Vec::new();
    loop {
        let page = store.placements(all.last(), 100).await.unwrap();
        assert!(page.len() <= 100);
        if page.is_empty() {
            return all;
        }
        all.extend(page);
    }
}

/// The newest entries of the audit log.
fn newest(limit: u32) -> AuditQuery {
    AuditQuery { limit, ..AuditQuery::default() }
}

/// A request with this key, that is answered with a number.
fn once<T>(key: &str, request: u8, answer: fn(&T) -> serde_json::Result<String>) -> Once<T> {
    Once { key: Key { caller: "ann".to_owned(), name: key.to_owned(), request: [request; 32] }, answer }
}

/// What came of a change of many rows.
async fn changed(store: &Store, target: &BulkTarget, patch: &TriagePatch, actor: &str) -> BulkChange {
    made(store.bulk_triage(target, patch, actor, None).await.unwrap())
}

/// What was made just now.
fn made<T: std::fmt::Debug>(made: Made<T>) -> T {
    match made {
        Made::New(made) => made,
        Made::Again(answer) => panic!("made before: {answer}"),
    }
}
