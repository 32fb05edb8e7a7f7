//! The table of routes: the least role that each takes, and which kind of work it is.
//!
//! In: a method and a route's template. Out: a [`Door`]. Invariants: every route that is served stands in the table
//! (a test walks the OpenAPI document); a path that is none is told to no stranger and no scraper; kinds of work have
//! permits of their own, so that slow bodies, searches and writes never keep out a probe or a list.

use axum::http::{Method, Uri};
use vedette_store::model::Role;

use crate::proof::oidc::CALLBACK;

/// What a request is let in by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Door {
    /// The least role; `None` where a stranger may ask.
    pub role: Option<Role>,
    pub work: WorkKind,
}

/// Kinds of work, each with its own permits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum WorkKind {
    /// Answered from memory in microseconds: needs no permit and is answered over the reserve, too.
    Probe,
    /// Reads a page through an index.
    Read,
    /// Reads rows one by one.
    Search,
    /// Takes a password's turn, and anybody may ask for it.
    SignIn,
    /// Waits for the identity provider, and anybody may ask for it.
    Provider,
    /// Takes a body and the store's writer.
    Write,
    /// Takes a body and the store's writer, step by step for as long as it takes.
    Bulk,
    /// Takes a body that says what to read.
    Question,
    /// Takes a body that says what to read of the lake: has a place among few for as long as it takes.
    Hunt,
    /// An event stream, which has permits for its whole life.
    Stream,
    /// What enforcement points fetch, from memory, again and again, and what they count: apart from what people wait for. Here
    /// alone a token may come as a bouncer's key or a firewall's password.
    Fetch,
}

const METRICS: Option<Role> = Some(Role::Metrics);
const BOUNCER: Option<Role> = Some(Role::Bouncer);
const READER: Option<Role> = Some(Role::Reader);
const ANALYST: Option<Role> = Some(Role::Analyst);
const ENGINEER: Option<Role> = Some(Role::Engineer);
const ADMIN: Option<Role> = Some(Role::Admin);
const PROPOSES: Option<Role> = Some(Permission::Propose.least());
const HUNTS: Option<Role> = Some(Permission::Hunt.least());
const SCHEDULES: Option<Role> = Some(Permission::ScheduleHunts.least());
const APPROVES: Option<Role> = Some(Permission::Approve.least());
const GUARDS: Option<Role> = Some(Permission::SetNeverBlock.least());

/// Every route: method, template, least role, work. Health and the console's own files tell a stranger nothing. What of
/// a dead letter an analyst sees, the route decides.
pub(crate) const ROUTES: &[(Method, &str, Option<Role>, WorkKind)] = &[
    (Method::GET, "/healthz", None, WorkKind::Probe),
    (Method::GET, "/readyz", None, WorkKind::Probe),
    (Method::GET, "/metrics", METRICS, WorkKind::Probe),
    (Method::GET, "/api/v1/openapi.json", READER, WorkKind::Read),
    (Method::GET, "/api/v1/alerts", READER, WorkKind::Read),
    (Method::GET, "/api/v1/alerts/summary", READER, WorkKind::Search),
    (Method::GET, "/api/v1/alerts/export", READER, WorkKind::Search),
    (Method::GET, "/api/v1/alerts/stream", READER, WorkKind::Stream),
    (Method::POST, "/api/v1/alerts/bulk", ANALYST, WorkKind::Bulk),
    (Method::POST, "/api/v1/alerts/undo", ANALYST, WorkKind::Bulk),
    (Method::GET, "/api/v1/alerts/{id}", READER, WorkKind::Read),
    (Method::PATCH, "/api/v1/alerts/{id}", ANALYST, WorkKind::Write),
    (Method::POST, "/api/v1/alerts/{id}/comments", ANALYST, WorkKind::Write),
    (Method::GET, "/api/v1/alerts/{id}/history", READER, WorkKind::Read),
    (Method::GET, "/api/v1/alerts/{id}/exception", READER, WorkKind::Search),
    (Method::GET, "/api/v1/cases", READER, WorkKind::Search),
    (Method::POST, "/api/v1/cases", ANALYST, WorkKind::Write),
    (Method::GET, "/api/v1/cases/{id}", READER, WorkKind::Read),
    (Method::PATCH, "/api/v1/cases/{id}", ANALYST, WorkKind::Write),
    (Method::POST, "/api/v1/cases/{id}/alerts", ANALYST, WorkKind::Write),
    (Method::DELETE, "/api/v1/cases/{id}/alerts/{alert}", ANALYST, WorkKind::Write),
    (Method::POST, "/api/v1/cases/{id}/notes", ANALYST, WorkKind::Write),
    (Method::POST, "/api/v1/cases/{id}/merge", ANALYST, WorkKind::Write),
    (Method::POST, "/api/v1/cases/{id}/split", ANALYST, WorkKind::Write),
    (Method::GET, "/api/v1/cases/{id}/history", READER, WorkKind::Read),
    (Method::GET, "/api/v1/snoozes", READER, WorkKind::Read),
    (Method::POST, "/api/v1/snoozes", ANALYST, WorkKind::Write),
    (Method::DELETE, "/api/v1/snoozes/{id}", ANALYST, WorkKind::Write),
    (Method::GET, "/api/v1/views", READER, WorkKind::Read),
    (Method::POST, "/api/v1/views", READER, WorkKind::Write),
    (Method::DELETE, "/api/v1/views/{id}", READER, WorkKind::Write),
    (Method::GET, "/api/v1/audit", ENGINEER, WorkKind::Search),
    (Method::GET, "/api/v1/entities/{type}/{value}", READER, WorkKind::Search),
    (Method::GET, "/api/v1/rules", READER, WorkKind::Read),
    (Method::GET, "/api/v1/rules/outcomes", READER, WorkKind::Search),
    (Method::GET, "/api/v1/rules/attack", READER, WorkKind::Read),
    (Method::GET, "/api/v1/rules/navigator", READER, WorkKind::Read),
    (Method::GET, "/api/v1/rules/{id}", READER, WorkKind::Read),
    (Method::GET, "/api/v1/rules/{id}/coverage", READER, WorkKind::Read),
    (Method::POST, "/api/v1/reload", ENGINEER, WorkKind::Write),
    (Method::GET, "/api/v1/backtests", ENGINEER, WorkKind::Read),
    (Method::POST, "/api/v1/backtests", ENGINEER, WorkKind::Write),
    (Method::GET, "/api/v1/backtests/{id}", ENGINEER, WorkKind::Read),
    (Method::DELETE, "/api/v1/backtests/{id}", ENGINEER, WorkKind::Write),
    (Method::GET, "/api/v1/sources", READER, WorkKind::Read),
    (Method::GET, "/api/v1/status", READER, WorkKind::Read),
    (Method::GET, "/api/v1/dead-letters", READER, WorkKind::Read),
    (Method::GET, "/api/v1/dead-letters/summary", READER, WorkKind::Read),
    (Method::GET, "/api/v1/overview", READER, WorkKind::Search),
    (Method::GET, "/api/v1/feeds/edl/{list}", BOUNCER, WorkKind::Fetch),
    (Method::GET, "/api/v1/decisions/ratelimit", BOUNCER, WorkKind::Fetch),
    // The paths of CrowdSec's interface, which bouncers know.
    (Method::GET, "/v1/decisions/stream", BOUNCER, WorkKind::Fetch),
    (Method::GET, "/v1/decisions", BOUNCER, WorkKind::Fetch),
    (Method::POST, "/v1/usage-metrics", BOUNCER, WorkKind::Fetch),
    (Method::GET, "/api/v1/playbooks", READER, WorkKind::Read),
    (Method::POST, "/api/v1/alerts/{id}/playbooks/{name}", PROPOSES, WorkKind::Write),
    (Method::GET, "/api/v1/actions", READER, WorkKind::Read),
    (Method::GET, "/api/v1/actions/{id}", READER, WorkKind::Read),
    (Method::POST, "/api/v1/actions/{id}/approve", APPROVES, WorkKind::Write),
    (Method::POST, "/api/v1/actions/{id}/reject", APPROVES, WorkKind::Write),
    (Method::POST, "/api/v1/actions/{id}/revert", APPROVES, WorkKind::Write),
    (Method::POST, "/api/v1/actions/{id}/replay", APPROVES, WorkKind::Write),
    (Method::GET, "/api/v1/never-block", READER, WorkKind::Read),
    (Method::PUT, "/api/v1/never-block", GUARDS, WorkKind::Write),
    (Method::POST, "/api/v1/kill-switch", APPROVES, WorkKind::Write),
    (Method::GET, "/api/v1/hunts", HUNTS, WorkKind::Read),
    (Method::POST, "/api/v1/hunts", HUNTS, WorkKind::Hunt),
    (Method::GET, "/api/v1/hunts/schema", HUNTS, WorkKind::Read),
    (Method::GET, "/api/v1/hunts/saved", HUNTS, WorkKind::Read),
    (Method::POST, "/api/v1/hunts/saved", HUNTS, WorkKind::Write),
    (Method::DELETE, "/api/v1/hunts/saved/{id}", HUNTS, WorkKind::Write),
    (Method::GET, "/api/v1/hunts/schedules", HUNTS, WorkKind::Read),
    (Method::POST, "/api/v1/hunts/schedules", SCHEDULES, WorkKind::Write),
    (Method::PATCH, "/api/v1/hunts/schedules/{id}", SCHEDULES, WorkKind::Write),
    (Method::DELETE, "/api/v1/hunts/schedules/{id}", SCHEDULES, WorkKind::Write),
    (Method::GET, "/api/v1/hunts/{id}", HUNTS, WorkKind::Read),
    (Method::DELETE, "/api/v1/hunts/{id}", HUNTS, WorkKind::Write),
    (Method::GET, "/api/v1/account", READER, WorkKind::Read),
    (Method::GET, "/api/v1/sessions", READER, WorkKind::Read),
    (Method::DELETE, "/api/v1/sessions/{id}", READER, WorkKind::Write),
    (Method::GET, "/api/v1/users", ADMIN, WorkKind::Read),
    (Method::POST, "/mcp", READER, WorkKind::Question),
    (Method::GET, "/", READER, WorkKind::Search),
    (Method::GET, "/live", READER, WorkKind::Stream),
    (Method::POST, "/alerts/bulk", ANALYST, WorkKind::Bulk),
    (Method::POST, "/alerts/undo", ANALYST, WorkKind::Bulk),
    (Method::GET, "/alerts/{id}", READER, WorkKind::Read),
    (Method::GET, "/alerts/{id}/events/{number}", READER, WorkKind::Read),
    (Method::POST, "/alerts/{id}/triage", ANALYST, WorkKind::Write),
    (Method::POST, "/alerts/{id}/comments", ANALYST, WorkKind::Write),
    (Method::GET, "/alerts/{id}/exception", READER, WorkKind::Search),
    (Method::POST, "/alerts/{id}/playbooks", PROPOSES, WorkKind::Write),
    (Method::GET, "/actions", READER, WorkKind::Read),
    (Method::GET, "/actions/{id}", READER, WorkKind::Read),
    (Method::POST, "/actions/{id}/{decision}", APPROVES, WorkKind::Write),
    (Method::GET, "/playbooks", READER, WorkKind::Read),
    (Method::GET, "/guards", READER, WorkKind::Read),
    (Method::POST, "/guards", GUARDS, WorkKind::Write),
    (Method::POST, "/kill-switch", APPROVES, WorkKind::Write),
    (Method::GET, "/hunt", HUNTS, WorkKind::Hunt),
    (Method::POST, "/hunt", HUNTS, WorkKind::Hunt),
    (Method::GET, "/hunt/event", HUNTS, WorkKind::Hunt),
    (Method::POST, "/hunt/saved", HUNTS, WorkKind::Write),
    (Method::POST, "/hunt/saved/{id}/remove", HUNTS, WorkKind::Write),
    (Method::POST, "/hunt/schedules", SCHEDULES, WorkKind::Write),
    (Method::POST, "/hunt/schedules/{id}", SCHEDULES, WorkKind::Write),
    (Method::POST, "/hunt/case", HUNTS, WorkKind::Write),
    (Method::GET, "/cases", READER, WorkKind::Search),
    (Method::POST, "/cases", ANALYST, WorkKind::Write),
    (Method::GET, "/cases/{id}", READER, WorkKind::Read),
    (Method::POST, "/cases/{id}/change", ANALYST, WorkKind::Write),
    (Method::POST, "/cases/{id}/notes", ANALYST, WorkKind::Write),
    (Method::POST, "/cases/{id}/merge", ANALYST, WorkKind::Write),
    (Method::POST, "/cases/{id}/remove", ANALYST, WorkKind::Write),
    (Method::POST, "/cases/{id}/split", ANALYST, WorkKind::Write),
    (Method::GET, "/snoozes", READER, WorkKind::Read),
    (Method::POST, "/snoozes", ANALYST, WorkKind::Write),
    (Method::POST, "/snoozes/{id}/lift", ANALYST, WorkKind::Write),
    (Method::GET, "/views", READER, WorkKind::Read),
    (Method::POST, "/views", READER, WorkKind::Write),
    (Method::POST, "/views/{id}/remove", READER, WorkKind::Write),
    (Method::GET, "/audit", ENGINEER, WorkKind::Search),
    (Method::GET, "/rules", READER, WorkKind::Search),
    (Method::GET, "/rules/{id}", READER, WorkKind::Search),
    (Method::POST, "/rules/{id}/backtests", ENGINEER, WorkKind::Write),
    (Method::GET, "/backtests/{id}", ENGINEER, WorkKind::Read),
    (Method::POST, "/backtests/{id}/stop", ENGINEER, WorkKind::Write),
    (Method::GET, "/attack", READER, WorkKind::Search),
    (Method::GET, "/overview", READER, WorkKind::Search),
    (Method::GET, "/entities/{type}/{value}", READER, WorkKind::Search),
    (Method::GET, "/sources", READER, WorkKind::Read),
    (Method::GET, "/dead-letters", READER, WorkKind::Read),
    (Method::GET, "/account", READER, WorkKind::Read),
    (Method::POST, "/account/password", READER, WorkKind::Write),
    (Method::POST, "/account/authenticator", READER, WorkKind::Write),
    (Method::POST, "/account/authenticator/remove", READER, WorkKind::Write),
    // Whose sessions, the use case decides.
    (Method::POST, "/account/sessions/{id}/end", READER, WorkKind::Write),
    (Method::POST, "/account/users/{name}", ADMIN, WorkKind::Write),
    (Method::GET, "/sign-in", None, WorkKind::Read),
    (Method::POST, "/sign-in", None, WorkKind::SignIn),
    (Method::GET, "/sign-in/begin", None, WorkKind::Provider),
    (Method::GET, CALLBACK, None, WorkKind::Provider),
    (Method::POST, "/sign-out", READER, WorkKind::Write),
    (Method::GET, "/assets/{name}", None, WorkKind::Read),
];

/// What is allowed beside the routes: parts of an answer, and what a page offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permission {
    /// To change alerts: triage, comments, cases, snoozes.
    Triage,
    /// To see records as they came, whose fields may hold more than an alert shows.
    RawRecords,
    /// To see the records of dead letters, whose secrets nobody has masked.
    DeadLetterRecords,
    /// To have what is watched changed.
    Operate,
    /// To ask the events in SQL: all fields of all of them, with what is masked as everywhere.
    Hunt,
    /// To ask for records as they came, all of those that are kept so (`event.original`); secrets are masked as everywhere.
    Originals,
    /// To have hunts run again and again, and raise alerts: that is to detect, as rules do.
    ScheduleHunts,
    /// To run playbooks by hand: what comes of it is a proposal.
    Propose,
    /// To approve, reject and take back what is proposed or done, and to throw the kill switch.
    Approve,
    /// To say what no countermeasure may hit.
    SetNeverBlock,
    /// To manage people and the sessions of others.
    ManagePeople,
}

impl Permission {
    /// The least role that has it.
    #[must_use]
    pub const fn least(self) -> Role {
        match self {
            Self::Triage | Self::RawRecords | Self::Propose | Self::Hunt => Role::Analyst,
            Self::DeadLetterRecords
            | Self::Operate
            | Self::ScheduleHunts
            | Self::Approve
            | Self::Originals => Role::Engineer,
            Self::ManagePeople | Self::SetNeverBlock => Role::Admin,
        }
    }
}

/// The door of a request; `template` is its route's, if there is one.
pub(crate) fn door(method: &Method, template: Option<&str>, uri: &Uri) -> Door {
    // HEAD is answered by GET's route.
    let get = *method == Method::HEAD;
    let of = |(own, path, ..): &&(Method, &str, _, _)| {
        Some(*path) == template && (own == method || (get && *own == Method::GET))
    };
    let Some((_, path, role, work)) = ROUTES.iter().find(of) else {
        let work = if method.is_safe() { WorkKind::Read } else { WorkKind::Write };
        return Door { role: READER, work };
    };
    let query = uri.query().unwrap_or_default();
    let searches = match *path {
        "/api/v1/alerts" => is_search(query),
        "/alerts/{id}" => named(query, "as_of"),
        _ => false,
    };
    Door { role: *role, work: if searches { WorkKind::Search } else { *work } }
}

/// True if the list's parameters make the store read rows one by one.
fn is_search(query: &str) -> bool {
    let named = |name: &str| named(query, name);
    named("q") || named("source") || named("as_of") || (named("entity_type") && !named("entity"))
}

fn named(query: &str, wanted: &str) -> bool {
    form_urlencoded::parse(query.as_bytes()).any(|(name, _)| name == wanted)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeSet;

    use super::*;
    use crate::openapi_document;

    fn of(method: &str, template: &str, uri: &str) -> Door {
        door(&method.parse().unwrap(), Some(template), &uri.parse().unwrap())
    }

    #[test]
    fn the_table_has_every_documented_route_and_no_other() {
        let document = serde_json::to_value(openapi_document()).unwrap();
        let mut documented = BTreeSet::new();
        for (path, operations) in document["paths"].as_object().unwrap() {
            for method in ["get", "post", "put", "patch", "delete"] {
                if operations.get(method).is_some() {
                    documented.insert((method.to_uppercase(), path.clone()));
                }
            }
        }
        let listed = ROUTES.iter().filter(|(_, path, ..)| path.starts_with("/api/v1/"));
        let listed: BTreeSet<_> =
            listed.map(|(method, path, ..)| (method.to_string(), (*path).to_owned())).collect();
        let undocumented: Vec<_> = listed.difference(&documented).collect();
        assert_eq!(undocumented, [&("GET".to_owned(), "/api/v1/openapi.json".to_owned())]);
        assert!(documented.is_subset(&listed), "{:?}", documented.difference(&listed));
    }

    #[test]
    fn what_is_in_no_table_needs_a_reader() {
        let unknown = door(&Method::GET, None, &"/nothing".parse().unwrap());
        assert_eq!(unknown, Door { role: READER, work: WorkKind::Read });
        assert_eq!(of("DELETE", "/healthz", "/healthz"), Door { role: READER, work: WorkKind::Write });
        assert_eq!(of("HEAD", "/metrics", "/metrics").role, METRICS);
    }

    #[test]
    fn a_list_that_reads_rows_one_by_one_is_a_search() {
        let work = |query: &str| of("GET", "/api/v1/alerts", &format!("/api/v1/alerts?{query}")).work;
        assert_eq!(work("status=new&limit=5"), WorkKind::Read);
        assert_eq!(work("status=new&q=x"), WorkKind::Search);
        assert_eq!(work("%71=x"), WorkKind::Search);
        assert_eq!(work("as_of=7"), WorkKind::Search);
        assert_eq!(of("GET", "/alerts/{id}", "/alerts/a?as_of=7").work, WorkKind::Search);
        assert_eq!(of("GET", "/alerts/{id}", "/alerts/a").work, WorkKind::Read);
        assert_eq!(work("source=waf"), WorkKind::Search);
        assert_eq!(work("entity_type=host.name"), WorkKind::Search);
        assert_eq!(work("entity_type=host.name&entity=web-1"), WorkKind::Read);
    }
}
