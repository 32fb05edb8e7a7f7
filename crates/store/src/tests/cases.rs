//! Cases: selections, severity, closing, merging, splitting, what retention leaves.

use vedette_event::{Severity, Span};

use super::*;
use crate::{Error, MAX_CASE_ALERTS, Sweep};

fn of(title: &str, alerts: &[&str]) -> NewCase {
    let alerts = alerts.iter().map(|id| (*id).to_owned()).collect();
    NewCase { title: title.to_owned(), alerts, ..NewCase::default() }
}

async fn open(store: &Store, title: &str, alerts: &[&str]) -> Case {
    made(store.create_case(&of(title, alerts), "ann", None).await.unwrap())
}

async fn case(store: &Store, id: i64) -> Case {
    store.case(id).await.unwrap().unwrap()
}

fn level(id: &str, revision: u32, severity: Severity) -> AlertRevision {
    AlertRevision { severity, ..alert(id, revision, 10, 5) }
}

async fn actions(store: &Store, id: i64) -> Vec<String> {
    store.case_history(id).await.unwrap().into_iter().map(|entry| entry.action).collect()
}

#[tokio::test]
async fn a_case_is_made_of_a_selection_in_one_step_or_not_at_all() {
    let (_folder, store) = store().await;
    publish_alerts(&store, vec![alert("a", 1, 10, 5), alert("b", 1, 11, 5)]).await;
    let refused = store.create_case(&of("x", &["a", "nobody"]), "ann", None).await.unwrap_err();
    assert!(matches!(refused, Error::NotFound { what: "alert", .. }), "{refused}");
    assert_eq!(store.cases(&CaseQuery { limit: 9, ..CaseQuery::default() }).await.unwrap().items, []);

    let made = open(&store, "Stuffing", &["a", "b", "a"]).await;
    assert_eq!((made.id, made.alerts, made.open_alerts, made.version), (1, 2, 2, 0));
    assert_eq!(made.severity(), Severity::Medium);
    assert_eq!(get(&store, "a").await.case, Some(1));
    let filter = Filter { case: Some(1), ..Filter::default() };
    let query = ListQuery { filter, limit: 10, ..ListQuery::default() };
    assert_eq!(store.list(&query).await.unwrap().items.len(), 2);
    let history = store.history("a").await.unwrap();
    let entry = (history[0].actor.as_str(), history[0].action.as_str(), history[0].to.as_deref());
    assert_eq!(entry, ("ann", "case", Some(r#"{"case":1}"#)));

    let taken = store.create_case(&of("Another", &["b"]), "bob", None).await.unwrap_err();
    assert!(matches!(&taken, Error::Clash { detail } if detail.contains("in case 1")), "{taken}");
    let left = store.remove_from_case(1, &["b".to_owned()], "ann").await.unwrap();
    assert_eq!((left.alerts, get(&store, "b").await.case), (1, None));
    assert_eq!(actions(&store, 1).await, ["case_opened", "case_alerts", "case_alerts"]);
    assert_eq!(get(&store, "a").await.triage.version, 0, "a case changes no triage");
}

#[tokio::test]
async fn the_highest_severity_stays() {
    let (_folder, store) = store().await;
    publish_alerts(&store, vec![level("a", 1, Severity::Medium)]).await;
    open(&store, "x", &["a"]).await;
    publish_alerts(&store, vec![level("a", 2, Severity::Critical)]).await;
    assert_eq!(case(&store, 1).await.highest, Some(Severity::Critical));
    publish_alerts(&store, vec![level("a", 3, Severity::Low)]).await;
    store.remove_from_case(1, &["a".to_owned()], "ann").await.unwrap();
    assert_eq!(case(&store, 1).await.highest, Some(Severity::Critical));
    let history = store.case_history(1).await.unwrap();
    let rise = history.iter().find(|entry| entry.action == "case_severity").unwrap();
    assert_eq!((rise.actor.as_str(), rise.to.as_deref()), ("vedette", Some(r#"{"severity":"critical"}"#)));
    let floor = CasePatch { floor: Some(Some(Severity::High)), ..CasePatch::default() };
    let patched = store.patch_case(1, 0, &floor, "ann").await.unwrap().case;
    assert_eq!((patched.floor, patched.severity()), (Some(Severity::High), Severity::Critical));
}

#[tokio::test]
async fn closing_a_case_closes_its_alerts_as_they_were_seen() {
    let (_folder, store) = store().await;
    let rows = ["seen", "revised", "touched"].map(|id| alert(id, 1, 10, 5));
    publish_alerts(&store, rows.to_vec()).await;
    open(&store, "x", &["seen", "revised", "touched"]).await;
    let as_of = store.newest_seq().await.unwrap();
    publish_alerts(&store, vec![alert("revised", 2, 10, 6)]).await;
    store.patch_triage("touched", 0, &to(Status::Acknowledged), "bob").await.unwrap();
    let close = CasePatch {
        status: Some(CaseStatus::Closed),
        disposition: Some(Disposition::FalsePositive),
        close_alerts: Some(as_of),
        ..CasePatch::default()
    };
    let unsaid = CasePatch { disposition: None, ..close.clone() };
    assert!(matches!(store.patch_case(1, 0, &unsaid, "ann").await, Err(Error::Clash { .. })));
    let done = store.patch_case(1, 0, &close, "ann").await.unwrap();
    let outcomes: Vec<_> = done
        .alerts
        .iter()
        .map(|result| (result.id.as_str(), result.outcome.as_ref().ok().map(|done| done.triage.status)))
        .collect();
    let expected = [("seen", Some(Status::Closed)), ("revised", Some(Status::New)), ("touched", None)];
    assert_eq!(outcomes, expected);
    assert_eq!((done.case.status, done.case.version, done.case.open_alerts), (CaseStatus::Closed, 1, 2));
    assert_eq!(get(&store, "seen").await.triage.disposition, Some(Disposition::FalsePositive));
    let stale = store.patch_case(1, 0, &close, "ann").await.unwrap_err();
    assert!(matches!(stale, Error::Stale { version: 1, .. }), "{stale}");
    let refused = store.add_to_case(1, &["seen".to_owned()], "ann").await.unwrap_err();
    assert!(matches!(refused, Error::Clash { .. }), "{refused}");
    let reopen = CasePatch { status: Some(CaseStatus::Open), ..CasePatch::default() };
    let opened = store.patch_case(1, 1, &reopen, "ann").await.unwrap().case;
    assert_eq!((opened.disposition, opened.closed_at), (None, None));
}

#[tokio::test]
async fn merging_and_splitting_keep_the_trail_of_both() {
    let (_folder, store) = store().await;
    let rows = ["a", "b", "c"].map(|id| alert(id, 1, 10, 5));
    publish_alerts(&store, rows.to_vec()).await;
    publish_alerts(&store, vec![level("d", 1, Severity::High)]).await;
    open(&store, "first", &["a", "b"]).await;
    open(&store, "second", &["c", "d"]).await;
    store.note_case(2, "of the second", "bob", None).await.unwrap();
    let merged = store.merge_cases(1, 2, "ann").await.unwrap();
    assert_eq!((merged.alerts, merged.highest, merged.version), (4, Some(Severity::High), 1));
    let gone = case(&store, 2).await;
    assert_eq!((gone.status, gone.merged_into, gone.alerts), (CaseStatus::Closed, Some(1), 0));
    assert_eq!(gone.highest, Some(Severity::High));
    assert_eq!(actions(&store, 2).await, ["case_opened", "case_alerts", "case_note", "case_merged"]);
    let history = store.case_history(1).await.unwrap();
    assert_eq!(history.len(), 7, "its own three and the other's four");
    assert!(history.iter().any(|entry| entry.to.as_deref() == Some("\"of the second\"")));
    let say = history.last().unwrap().to.clone().unwrap();
    assert!(say.contains("\"from\":2") && say.contains("[\"c\",\"d\"]"), "{say}");
    for refused in [
        store.merge_cases(1, 2, "ann").await.unwrap_err(),
        store.merge_cases(1, 1, "ann").await.unwrap_err(),
        store.merge_cases(2, 1, "ann").await.unwrap_err(),
        store.note_case(2, "late", "ann", None).await.unwrap_err(),
    ] {
        assert!(matches!(refused, Error::Clash { .. }), "{refused}");
    }

    let part = made(store.split_case(1, &of("part", &["d"]), "ann", None).await.unwrap());
    assert_eq!((part.id, part.alerts, part.split_from), (3, 1, Some(1)));
    let rest = case(&store, 1).await;
    assert_eq!((rest.alerts, rest.highest), (3, Some(Severity::High)), "what was stays");
    assert_eq!(actions(&store, 3).await, ["case_opened", "case_split"]);
    assert_eq!(actions(&store, 1).await.last().unwrap(), "case_split");
    let foreign = store.split_case(1, &of("part", &["d"]), "ann", None).await.unwrap_err();
    assert!(matches!(foreign, Error::NotFound { .. }), "{foreign}");
    assert!(store.split_case(1, &of("part", &[]), "ann", None).await.is_err());
}

#[tokio::test]
async fn what_goes_on_from_an_alert_of_a_case_is_in_it() {
    let (_folder, store) = store().await;
    let later = alert("later", 1, 20, 5);
    publish_notices(&store, vec![notice("early", &later)]).await;
    open(&store, "x", &["early"]).await;
    publish_alerts(&store, vec![later]).await;
    assert_eq!((get(&store, "later").await.case, case(&store, 1).await.alerts), (Some(1), 1));
    // The day after, cut by midnight.
    let mut next = alert("next", 1, 86_400 + 5, 1);
    (next.key, next.continuation) = (get_key("later"), true);
    publish_alerts(&store, vec![next]).await;
    let row = get(&store, "next").await;
    assert_eq!((row.case, row.predecessor.as_deref()), (Some(1), Some("later")));
    assert_eq!(store.history("next").await.unwrap()[0].actor, "vedette");
}

fn get_key(id: &str) -> String {
    alert(id, 1, 1, 1).key
}

#[tokio::test]
async fn cases_have_bounds() {
    let (_folder, store) = store().await;
    let ids: Vec<String> = (0..=MAX_CASE_ALERTS).map(|n| format!("a{n}")).collect();
    publish_alerts(&store, ids.iter().map(|id| alert(id, 1, 10, 5)).collect()).await;
    let all = NewCase { title: "x".to_owned(), alerts: ids.clone(), ..NewCase::default() };
    assert!(matches!(store.create_case(&all, "ann", None).await, Err(Error::Full { .. })));
    let most = NewCase { alerts: ids[1..].to_vec(), ..all };
    let full = made(store.create_case(&most, "ann", None).await.unwrap());
    let over = store.add_to_case(full.id, &ids[..1], "ann").await.unwrap_err();
    assert!(matches!(over, Error::Full { max: MAX_CASE_ALERTS, .. }), "{over}");
}

#[tokio::test]
async fn cases_are_listed_by_what_is_said_of_them() {
    let (_folder, store) = store().await;
    publish_alerts(&store, vec![level("a", 1, Severity::High)]).await;
    open(&store, "Credential 100% stuffing", &["a"]).await;
    open(&store, "Other", &[]).await;
    open(&store, "Third", &[]).await;
    let owner = CasePatch { assignee: Some("bob".to_owned()), ..CasePatch::default() };
    store.patch_case(2, 0, &owner, "ann").await.unwrap();
    let work = CasePatch { status: Some(CaseStatus::InProgress), ..CasePatch::default() };
    store.patch_case(3, 0, &work, "ann").await.unwrap();
    let found = async |query: CaseQuery| {
        let page = store.cases(&CaseQuery { limit: 10, ..query }).await.unwrap();
        page.items.into_iter().map(|case| case.id).collect::<Vec<_>>()
    };
    let any = CaseQuery::default;
    assert_eq!(found(any()).await, [3, 2, 1]);
    assert_eq!(found(CaseQuery { status: vec![CaseStatus::Open], ..any() }).await, [2, 1]);
    let both = vec![CaseStatus::InProgress, CaseStatus::Closed];
    assert_eq!(found(CaseQuery { status: both, ..any() }).await, [3]);
    assert_eq!(found(CaseQuery { assignee: Some("bob".to_owned()), ..any() }).await, [2]);
    assert_eq!(found(CaseQuery { assignee: Some(String::new()), ..any() }).await, [3, 1]);
    assert_eq!(found(CaseQuery { severity: Some(Severity::High), ..any() }).await, [1]);
    assert_eq!(found(CaseQuery { q: Some("100% S".to_owned()), ..any() }).await, [1]);
    assert_eq!(found(CaseQuery { q: Some("100_".to_owned()), ..any() }).await, [0_i64; 0]);
    let page = store.cases(&CaseQuery { limit: 2, ..any() }).await.unwrap();
    assert_eq!(page.next_cursor.as_deref(), Some("2"));
    assert_eq!(found(CaseQuery { before: Some(2), ..any() }).await, [1]);
}

async fn sweep_all(store: &Store, kept: Span) {
    let retention = Retention { alerts: kept, revisions: kept, dead_letters: kept, ledger: kept };
    let mut sweep = Sweep::default();
    while store.sweep(&mut sweep, &retention, &[]).await.unwrap() {}
}

#[tokio::test]
async fn an_open_case_keeps_its_alerts_and_a_closed_one_lets_them_go() {
    let (_folder, store) = store().await;
    let mut rows = ["in", "out"].map(|id| alert(id, 1, 10, 5));
    rows.iter_mut().for_each(|row| row.state = State::Ended);
    publish_alerts(&store, rows.to_vec()).await;
    open(&store, "x", &["in"]).await;
    open(&store, "merged", &[]).await;
    store.merge_cases(1, 2, "ann").await.unwrap();
    for id in ["in", "out"] {
        store.patch_triage(id, 0, &to(Status::Closed), "ann").await.unwrap();
    }
    let now = Span::secs(-1);
    sweep_all(&store, now).await;
    assert!(store.alert("out").await.unwrap().is_none());
    assert!(store.alert("in").await.unwrap().is_some());
    assert!(store.case(2).await.unwrap().is_some(), "what went into a case is part of its trail");
    let close = CasePatch {
        status: Some(CaseStatus::Closed),
        disposition: Some(Disposition::Benign),
        ..CasePatch::default()
    };
    store.patch_case(1, 1, &close, "ann").await.unwrap();
    sweep_all(&store, Span::secs(3_600)).await;
    assert!(store.case(1).await.unwrap().is_some(), "not yet");
    for _ in 0..2 {
        sweep_all(&store, now).await;
    }
    assert!(store.case(1).await.unwrap().is_none());
    assert!(store.case(2).await.unwrap().is_none());
    assert!(store.alert("in").await.unwrap().is_none());
    let log = store.audit(&newest(100)).await.unwrap().items;
    assert!(log.iter().any(|entry| entry.target == "case:1" && entry.action == "case_changed"));
    assert_eq!(open(&store, "new", &[]).await.id, 3, "no number is given twice");
}
