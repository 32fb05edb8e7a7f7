//! The attacks, each made for one rule of ours and labelled with that rule's name.
//!
//! In: the time at which it starts. Out: all its records, in order of time.

use serde_json::json;
use vedette_event::{Micros, Span};

use crate::{
    Record,
    random::Random,
    wire::{self, Request, Session, Threat},
};

/// Writes all records of one attack.
pub type Attack = fn(&mut Random, Micros) -> Vec<Record>;

/// All attacks, in the order in which they first come.
pub const ALL: [Attack; 10] = [
    wallet_zone,
    port_scan,
    injections,
    bad_signatures,
    passed_threat,
    metadata,
    brute_force,
    fatigue,
    whitelist,
    deny_then_allow,
];

const SCANNER: &str = "sqlmap/1.9.6#stable (https://sqlmap.org)";

fn later(start: Micros, millis: u64) -> Micros {
    start.plus(Span(millis as i64 * 1_000))
}

/// When one who does not give up tries: so many times at this pace in milliseconds, then each three seconds until two minutes are over.
/// So there is somebody whom a block hits that took a person a minute to approve.
fn persistent(start: Micros, quick: u64, pace: u64) -> impl Iterator<Item = (u64, Micros)> {
    let slow = (1..).map(move |n| quick * pace + n * 3_000).take_while(|at| *at < 120_000);
    (0..).zip((0..quick).map(move |n| n * pace).chain(slow).map(move |at| later(start, at)))
}

fn attacker(random: &mut Random) -> String {
    format!("203.0.113.{}", 1 + random.below(250))
}

fn wallet_zone(random: &mut Random, start: Micros) -> Vec<Record> {
    let source = format!("10.30.{}.{}", random.below(8), 1 + random.below(250));
    let session = Session {
        source: &source,
        destination: "10.60.0.11",
        source_port: 1_024 + random.below(60_000),
        port: 22,
        from: "office",
        to: "wallet",
        application: "ssh",
        action: "allow",
        bytes: 90_000,
    };
    vec![wire::traffic(start, &session, Some("seg-wallet-zone"))]
}

fn port_scan(random: &mut Random, start: Micros) -> Vec<Record> {
    let source = attacker(random);
    (0..80)
        .map(|n| {
            let session = Session {
                source: &source,
                destination: "10.20.0.5",
                source_port: 40_000 + n,
                port: 1 + n * 7,
                from: "untrust",
                to: "dmz",
                application: "not-applicable",
                action: "deny",
                bytes: 60,
            };
            wire::traffic(later(start, n * 120), &session, Some("fw-scan-vertical"))
        })
        .collect()
}

fn injections(random: &mut Random, start: Micros) -> Vec<Record> {
    let client = attacker(random);
    persistent(start, 9, 700)
        .map(|(n, at)| {
            let query = format!("id={n}%27%20UNION%20SELECT%20password%20FROM%20users--%20-");
            let request = Request {
                client: &client,
                method: "GET",
                path: "/markets/history",
                query: &query,
                agent: SCANNER,
                blocked: Some((
                    "AWS-AWSManagedRulesSQLiRuleSet",
                    "awswaf:managed:aws:sql-database:SQLi_QueryArguments",
                )),
            };
            wire::waf(at, &request, random.bits(), Some("waf-class-burst"))
        })
        .collect()
}

fn bad_signatures(random: &mut Random, start: Micros) -> Vec<Record> {
    let (key, client) = (format!("k-{}", random.below(4_000)), attacker(random));
    persistent(start, 28, 250)
        .map(|(_, at)| {
            let more = json!({
                "reason": "signature_mismatch",
                "signature_ok": false,
                "api_key_id": key,
                "client_ip": client,
            });
            wire::api(at, "order_place", "failure", more, Some("api-sigfail"))
        })
        .collect()
}

fn passed_threat(random: &mut Random, start: Micros) -> Vec<Record> {
    let source = attacker(random);
    let session = Session {
        source: &source,
        destination: "10.20.0.9",
        source_port: 51_000,
        port: 8_080,
        from: "untrust",
        to: "dmz",
        application: "web-browsing",
        action: "alert",
        bytes: 4_000,
    };
    let threat = Threat {
        subtype: "vulnerability",
        name: "Apache Log4j Remote Code Execution Vulnerability(91991)",
        category: "code-execution",
        severity: "critical",
        url: "www.exchange.example/api/v1/search",
    };
    (0..3).map(|n| wire::threat(later(start, n * 400), &session, &threat, Some("fw-threat-passed"))).collect()
}

fn metadata(random: &mut Random, start: Micros) -> Vec<Record> {
    let client = attacker(random);
    let request = Request {
        client: &client,
        method: "GET",
        path: "/avatar/import",
        query: "url=http%3A%2F%2F169.254.169.254%2Flatest%2Fmeta-data%2Fiam%2F",
        agent: "curl/8.9.1",
        blocked: None,
    };
    vec![wire::waf(start, &request, random.bits(), Some("waf-ssrf-metadata"))]
}

/// The part of a record that says who it is about.
fn who(customer: u64, client: &str) -> serde_json::Value {
    json!({"user_id": format!("u-{customer}"), "username": format!("customer{customer}"), "client_ip": client})
}

/// The same with one more member.
fn with(mut who: serde_json::Value, name: &str, value: serde_json::Value) -> serde_json::Value {
    who[name] = value;
    who
}

fn brute_force(random: &mut Random, start: Micros) -> Vec<Record> {
    let customer = random.below(4_000);
    (0..12)
        .map(|n| {
            let more =
                with(who(customer, &format!("198.51.100.{}", 10 + n)), "reason", "bad_password".into());
            wire::api(later(start, n * 500), "login", "failure", more, Some("bot-user-bruteforce"))
        })
        .collect()
}

fn fatigue(random: &mut Random, start: Micros) -> Vec<Record> {
    let who = who(random.below(4_000), &attacker(random));
    let challenge = with(who, "mfa_type", "push".into());
    let label = Some("ato-mfa-fatigue");
    let mut records: Vec<_> = (0..6)
        .map(|n| {
            let denied = with(challenge.clone(), "reason", "denied".into());
            wire::api(later(start, n * 800), "mfa_challenge", "failure", denied, label)
        })
        .collect();
    records.push(wire::api(later(start, 6_000), "mfa_challenge", "success", challenge, label));
    records
}

fn whitelist(random: &mut Random, start: Micros) -> Vec<Record> {
    let who = who(random.below(4_000), &attacker(random));
    let label = Some("wd-whitelist-24h");
    let withdrawal = json!({"asset": "BTC", "network": "bitcoin", "amount": "1.25", "amount_usd": 118_000});
    let withdrawn = with(who.clone(), "withdrawal", withdrawal);
    vec![
        wire::api(start, "whitelist_add", "success", who, label),
        wire::api(later(start, 3_000), "withdraw_request", "success", withdrawn, label),
    ]
}

fn deny_then_allow(random: &mut Random, start: Micros) -> Vec<Record> {
    let source = format!("10.30.{}.{}", random.below(8), 1 + random.below(250));
    (0..7)
        .map(|n| {
            let session = Session {
                source: &source,
                destination: "10.50.0.7",
                source_port: 50_000 + n,
                port: if n < 6 { 445 } else { 443 },
                from: "office",
                to: "core",
                application: if n < 6 { "not-applicable" } else { "ssl" },
                action: if n < 6 { "deny" } else { "allow" },
                bytes: 500,
            };
            // PAN-OS times have whole seconds; the allowed session must lie in a later one.
            wire::traffic(later(start, n * 1_100), &session, Some("seg-deny-then-allow"))
        })
        .collect()
}
