//! What a report counts, and how far back is read.
#![allow(clippy::unwrap_used)]

use vedette_event::{
    Micros, Span,
    time::{DAY, HOUR},
};
use vedette_sigma::{RuleFile, RuleSet};
use vedette_store::model::{Disposition, FiredAlert};

use super::{
    memory,
    report::{Told, by_day, by_rule},
    way,
};
use crate::content::{self, RuleText};

const RULES: &str = "
title: Refusals
id: 00000000-0000-4000-8000-000000000001
name: refusal
logsource: {category: api}
detection: {any: {event.outcome: failure}, condition: any}
vedette: {emit: {rearm: 30m}}
---
title: Many
id: 00000000-0000-4000-8000-000000000002
name: many
correlation: {type: event_count, rules: [refusal], group-by: [user.name], timespan: 2h, condition: {gte: 3}}
vedette: {emit: {rearm: 1h}}
---
title: Many at two
id: 00000000-0000-4000-8000-000000000003
correlation: {type: temporal, rules: [many, refusal], group-by: [user.name], timespan: 1h, generate: true}
";

fn rules(text: &str) -> RuleSet {
    let file = RuleFile { path: "r.yml".into(), text: text.to_owned() };
    let rules = RuleText::of(vec![file], Default::default()).load(&content::sources(None).unwrap());
    assert_eq!(rules.rejected, []);
    rules
}

fn told(id: &str, rule: u32, key: &str, minute: i64) -> Told {
    let at = |minute: i64| Micros(minute * 60_000_000);
    Told {
        alert_id: id.to_owned(),
        rule,
        key: format!("{{\"user.name\":\"{key}\"}}"),
        first_seen: at(minute - 1),
        crossed_at: at(minute),
        last_seen: at(minute + 1),
        open: false,
    }
}

fn fired(told: &Told, rules: &RuleSet, closed: Option<Disposition>) -> FiredAlert {
    FiredAlert {
        alert_id: told.alert_id.clone(),
        rule_id: rules.rules[told.rule as usize].id.to_string(),
        rule_title: String::new(),
        key: told.key.clone(),
        first_seen: told.first_seen,
        crossed_at: told.crossed_at,
        last_seen: told.last_seen,
        closed: closed.is_some(),
        disposition: closed,
    }
}

#[test]
fn each_alert_that_fired_is_held_against_one_of_now() {
    let rules = rules(RULES);
    let now = [
        told("same", 0, "ann", 10),
        told("other", 0, "ann", 30),
        told("new", 0, "bob", 31),
        told("x", 1, "ann", 2_000),
    ];
    let then = [
        fired(&now[0], &rules, Some(Disposition::FalsePositive)),
        // Of a rule that meant something else: another id, and a little later.
        fired(
            &Told { alert_id: "was".to_owned(), last_seen: Micros(32 * 60_000_000), ..now[1].clone() },
            &rules,
            Some(Disposition::TruePositive),
        ),
        fired(&Told { alert_id: "again".to_owned(), ..now[1].clone() }, &rules, None),
        fired(&told("gone", 0, "eve", 50), &rules, Some(Disposition::Benign)),
    ];
    let all = by_rule(&rules, &now, &then, (Micros(0), Micros(2 * DAY.0)));
    let first = &all[0];
    assert_eq!((&*first.title, first.alerts, first.keys, first.same), ("Refusals", 3, 2, 1));
    let outcome = first.fired_then;
    assert_eq!((outcome.alerts, outcome.false_positive, outcome.true_positive, outcome.open), (2, 1, 1, 0));
    assert_eq!((first.no_longer.alerts, first.no_longer.benign, first.no_longer.open), (2, 1, 1));
    assert_eq!((first.a_day, first.most_in_a_day), (1.5, 3));
    let loudest = &first.noisiest[0];
    assert_eq!(
        (loudest.key["user.name"].as_str(), loudest.alerts, loudest.fired_then.true_positive),
        (Some("ann"), 2, 1)
    );
    assert_eq!((all[1].alerts, all[1].fired_then.alerts, all[2].alerts), (1, 0, 0), "{:?}", all[1].title);
    assert_eq!(
        by_day(&now).into_iter().collect::<Vec<_>>(),
        [("1970-01-01".to_owned(), 3), ("1970-01-02".to_owned(), 1)]
    );
}

#[test]
fn so_far_back_as_the_longest_chain_looks() {
    let rules = rules(RULES);
    // 1 h and its rearm of 1 h over 2 h and 1 h over a rearm of 30 min.
    assert_eq!(memory::longest(&rules), Span(5 * HOUR.0 + HOUR.0 / 2));
    let at = Micros(10 * DAY.0 + 5 * HOUR.0);
    assert_eq!(memory::back_from(&rules, at), Micros(10 * DAY.0 - 5 * HOUR.0 - HOUR.0 / 2));
    assert_eq!(memory::back_from(&rules, Micros::MIN), Micros::MIN);
}

#[test]
fn what_the_lake_cannot_say_is_refused_by_name() {
    let sources = content::sources(None).unwrap();
    let why = |logsource: &str, detection: &str| {
        let text = format!(
            "title: t\nid: 00000000-0000-4000-8000-000000000009\nlogsource: {logsource}\ndetection: {{a: {detection}, condition: a}}\n"
        );
        let rules = rules(&text);
        way::unanswerable(&rules, &rules.rules[0], &sources)
    };
    assert_eq!(why("{category: api}", "{event.outcome: failure, no.such.member: 1}"), None);
    let asks = why("{category: api}", "{user_id: 1}").unwrap();
    assert!(asks.contains("`user_id` as `user.id`"), "{asks}");
    let asks = why("{category: api}", "{geo: 1}").unwrap();
    assert!(asks.contains("exchange_api"), "{asks}");
    let asks = why("{category: api}", "['word']").unwrap();
    assert!(asks.contains("whole records") && asks.contains("exchange_api"), "{asks}");
    assert_eq!(why("{category: process_creation}", "['word']"), None, "of form json all is there");
}
