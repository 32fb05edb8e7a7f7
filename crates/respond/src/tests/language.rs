//! Playbooks as text: what is read, what is refused, and with which words.

use vedette_event::{Entity, Flags, Micros};
use vedette_sigma::{Style, render};

use super::*;
use crate::{Proposal, Subject, by_hand, propose, try_out};

#[test]
fn a_playbook_as_a_whole() {
    let set = read(&[
        "title: Contain\nid: 7F1F0F7E-8A44-4A3E-9C51-0D7BB2D2A001\nname: contain\ndescription: d\ndate: 2026-11-25\n\
        modified: 2026-11-28\nmode: automatic\n\
        trigger: {on: both, rules: [waf-class-burst], severity: medium, tags: [attack.t1190], entity: client.ip}\n\
        conditions: {count: {gte: 5, lt: 1000}}\n\
        guards: {per_hour: 5, live: 50, share: 0.05%, users: 2, people: 1, ceiling: 12h, never_block: [203.0.113.0/24, '2001:db8::1']}\n\
        steps:\n\
        - {name: block, do: block_address, target: client.ip, prefix: {ipv4: 24}, connectors: [crowdsec, edl/perimeter], for: {first: 30m, growth: 4, ceiling: 1d}, when: {key: {waf.attack_class: [rce, sqli]}}, last: true}\n\
        - {do: unblock_address, target: client.ip, connectors: crowdsec, when: {severity: {eq: medium}, entity: client.ip}}\n\
        - {do: notify, connectors: [slack/soc]}\n\
        tests:\n\
        - name: six\n  alert: {rule: waf-class-burst, key: {client.ip: 198.51.100.4, waf.attack_class: sqli}, count: 6}\n  \
          expect: [{do: block_address, target: 198.51.100.0/24, for: 30m}]\n",
    ]);
    assert!(set.rejected.is_empty() && set.warnings.is_empty(), "{:?} {:?}", set.rejected, set.warnings);
    insta::assert_debug_snapshot!(set.playbooks);
}

/// A trigger that is right, and one step.
fn with(trigger: &str, step: &str) -> String {
    text(trigger, &format!("- {step}\n"))
}

fn one_step(step: &str) -> String {
    with("{on: alert, rules: [waf-class-burst]}", step)
}

const BLOCK: &str = "do: block_address, target: client.ip, connectors: [crowdsec], for: 1h";

#[test]
fn messages_name_file_line_key_and_remedy() {
    let block = |more: &str| one_step(&format!("{{{BLOCK}{more}}}"));
    let texts = [
        one_step("{do: block_adress, target: client.ip, connectors: [crowdsec], for: 1h}"),
        one_step("{do: block_address, target: client.ip, connectors: [crowdsek], for: 1h}"),
        one_step("{do: throttle, target: client.ip, connectors: [edl/perimeter], for: 1h}"),
        one_step("{do: block_address, target: client.ip, connectors: [crowdsec]}"),
        one_step("{do: block_address, target: client.ip, connectors: [crowdsec], for: 0}"),
        one_step("{do: block_address, target: client.ip, connectors: [crowdsec], for: 31d}"),
        one_step(
            "{do: block_address, target: client.ip, connectors: [crowdsec], for: {first: 1h, growth: 4}}",
        ),
        one_step("{do: block_address, target: source.ip, connectors: [crowdsec], for: 1h}"),
        one_step("{do: block_address, target: waf.attack_class, connectors: [crowdsec], for: 1h}"),
        one_step("{do: suspend_key, target: client.ip, connectors: [webhook], for: 1h}"),
        one_step("{do: notify, connectors: [slack], for: 1h}"),
        block(", when: {severity: critical}"),
        block(", when: {key: {user.name: alice}}"),
        text(
            "{on: alert, rules: [waf-class-burst]}",
            &format!("- {{{BLOCK}, last: true, when: {{count: 5}}}}\n- {{{BLOCK}, when: {{count: 9}}}}\n"),
        ),
        format!("{}conditions: {{count: {{lt: 5}}}}\n", block(", when: {count: 9}")),
        with("{on: alert, rules: [waf-class-brust]}", &format!("{{{BLOCK}}}")),
        with("{on: alert, rules: [waf_attack]}", &format!("{{{BLOCK}}}")),
        with("{on: alert, tags: [attack.t1191]}", &format!("{{{BLOCK}}}")),
        with("{on: alert, entity: [user.nam]}", &format!("{{{BLOCK}}}")),
        with("{on: alert, rules: [waf-class-burst], severity: high}", &format!("{{{BLOCK}}}")),
        with("{on: alert, rules: [waf-class-burst], entity: [user.name]}", &format!("{{{BLOCK}}}")),
        with(
            "{on: notice, rules: [ato-mfa-fatigue]}",
            "{do: end_sessions, target: user.name, connectors: [webhook], for: 1h}",
        ),
        with("{on: tuesday}", &format!("{{{BLOCK}}}")),
        format!("{}guards: {{per_hour: 1000}}\n", block("")),
        format!("{}guards: {{share: 5%}}\n", block("")),
        format!("{}mode: dry_run\n", block("")),
        format!("{}stepps: []\n", block("")),
        format!(
            "{}tests: [{{name: x, alert: {{rule: waf-class-burst, key: {{client.op: a}}}}, expect: []}}]\n",
            block("")
        ),
        format!(
            "{}tests: [{{name: x, alert: {{rule: waf-class-burst, severity: high}}, expect: []}}]\n",
            block("")
        ),
        block("").replace("name: t", "name: T t"),
        block("").replace("7f1f0f7e", "7f1f0f7"),
        block("").replace("2026-11-28", "2026-13-28"),
        "# nothing\n".to_owned(),
        "title: [\n".to_owned(),
    ];
    let mut shown = String::new();
    for text in &texts {
        let set = read(&[text]);
        assert_eq!((set.playbooks.len(), set.rejected.len()), (0, 1), "{text}\n{:?}", set.rejected);
        assert!(set.rejected[0].help.is_some(), "{}", set.rejected[0]);
        shown.push_str(&render(&set.rejected[0], text, Style::default()));
        shown.push_str("\n\n");
    }
    insta::assert_snapshot!(shown);
}

#[test]
fn names_and_ids_are_used_once_across_files() {
    let good = one_step(&format!("{{{BLOCK}}}"));
    let other_id = good.replace("7f1f0f7e", "8f1f0f7e");
    let other_name = good.replace("name: t", "name: u");
    let set = read(&[&good, &other_id, &other_name, &other_id.replace("name: t", "name: u")]);
    assert_eq!(set.playbooks.len(), 2);
    let said: Vec<String> = set.rejected.iter().map(ToString::to_string).collect();
    assert_eq!(
        said,
        [
            "playbooks/1.yml:3:7: there is another playbook with the name `t` [duplicate-playbook]",
            "playbooks/2.yml:2:5: there is another playbook with the id `7f1f0f7e-8a44-4a3e-9c51-0d7bb2d2a001` [duplicate-playbook]",
        ]
    );
}

#[test]
fn a_target_that_only_some_alerts_have_is_warned_of() {
    let set = read(&[&with("{on: alert, severity: high}", &format!("{{{BLOCK}}}"))]);
    assert_eq!(set.playbooks.len(), 1);
    let codes: Vec<&str> = set.warnings.iter().map(|warning| warning.code).collect();
    assert_eq!(codes, ["target-not-always", "no-tests"]);
    let block = "do: block_address, target: client.ip, connectors: [edl/a, dag/b], for: 1h";
    for (prefix, warned) in [("ipv4: 24", false), ("ipv4: 24, ipv6: 48", true)] {
        let set = read(&[&one_step(&format!("{{{block}, prefix: {{{prefix}}}}}"))]);
        let of_groups: Vec<_> =
            set.warnings.iter().filter(|warning| warning.code == "group-prefix").collect();
        assert_eq!(of_groups.len(), usize::from(warned), "{:?} {:?}", set.rejected, set.warnings);
        assert!(
            of_groups.iter().all(|warning| warning.message.starts_with("`dag/b` takes single addresses"))
        );
    }
}

#[test]
fn the_version_knows_what_is_done_and_not_what_it_is_called() {
    let version = |text: &str| read(&[text]).playbooks[0].version.clone();
    let good = one_step(&format!("{{{BLOCK}}}"));
    assert_eq!(version(&good), version(&good.replace("title: t", "title: another")));
    for changed in [
        good.replace("for: 1h", "for: 2h"),
        good.replace("crowdsec", "edl"),
        format!("{good}mode: approve\n"),
        format!("{good}guards: {{people: 2}}\n"),
        format!("{good}conditions: {{count: 9}}\n"),
    ] {
        assert_ne!(version(&good), version(&changed), "{changed}");
    }
}

/// Proposals for an alert of this rule, by the rule's own id.
fn proposed(
    set: &PlaybookSet,
    rule_name: &str,
    parts: &[(&str, &str)],
    alert: (&str, bool, u64),
) -> Vec<Proposal> {
    let (_, rules) = content();
    let found = rules.rules.iter().find(|rule| rule.name.as_deref() == Some(rule_name)).unwrap();
    let (id, notice, count) = alert;
    let reference = RuleRef { tags: found.tags.clone(), ..rule(&found.id, found.level) };
    let key = key(parts);
    let (kind, value) = key.iter().next().unwrap();
    let entity = Entity { kind: kind.clone(), value: value.clone() };
    let of = Subject {
        notice,
        id,
        rule: &reference,
        key: &key,
        entity: Some(&entity),
        severity: found.level,
        count,
        flags: Flags::NONE,
    };
    propose(set, &of, Micros(0))
}

#[test]
fn the_same_alert_told_again_proposes_nothing_new_and_another_one_does() {
    let set = read(&[&with("{on: both, rules: [waf-class-burst]}", &format!("{{{BLOCK}}}"))]);
    let ip = |ip: &'static str| [("client.ip", ip), ("waf.attack_class", "sqli")];
    let id = |parts: &[(&str, &str)], alert| proposed(&set, "waf-class-burst", parts, alert)[0].id.clone();
    let first = id(&ip("198.51.100.4"), ("a1", false, 5));
    assert_eq!(first, id(&ip("198.51.100.4"), ("a1", false, 500)), "a later revision");
    assert_eq!(first, id(&ip("::ffff:198.51.100.4"), ("a1", false, 5)), "the same address");
    assert_ne!(first, id(&ip("198.51.100.5"), ("a1", false, 5)));
    assert_ne!(first, id(&ip("198.51.100.4"), ("a2", false, 5)));
    assert_eq!(first.len(), 64);
    assert!(proposed(&set, "waf-class-burst", &[("client.ip", "nonsense")], ("a", false, 5)).is_empty());
    assert!(
        proposed(&set, "waf-ssrf-metadata", &[("client.ip", "198.51.100.4")], ("a", false, 5)).is_empty()
    );
}

#[test]
fn only_rules_over_conversations_are_taken_for_unforged() {
    let set = read(&[&one_step(&format!("{{{BLOCK}}}"))]);
    let (_, rules) = content();
    let names = |established: bool| -> Vec<&str> {
        let all =
            rules.rules.iter().filter(|rule| rule.emits && set.established.contains(&rule.id) == established);
        let mut names: Vec<&str> = all.filter_map(|rule| rule.name.as_deref()).collect();
        names.sort_unstable();
        names
    };
    assert_eq!(
        names(false),
        ["fw-scan-vertical", "fw-threat-passed", "seg-deny-then-allow", "seg-wallet-zone"]
    );
    assert_eq!(names(true).len(), 6);
}

#[test]
fn a_person_starts_a_playbook_only_where_its_trigger_fits_and_is_told_what_is_left_out() {
    let steps = format!(
        "- {{{BLOCK}, when: {{count: 9}}}}\n- {{do: throttle, target: client.ip, connectors: [crowdsec], for: 1h, when: {{count: {{lte: 8}}}}, last: true}}\n- {{do: notify, connectors: [slack]}}\n"
    );
    let set = read(&[&text("{on: hand, entity: [client.ip]}", &steps)]);
    assert_eq!(set.rejected, []);
    let reference = rule("any", Severity::High);
    let key = key(&[("client.ip", "198.51.100.4")]);
    let about = |kind: &str| Entity { kind: kind.into(), value: Value::Text("198.51.100.4".into()) };
    let of = |entity| Subject {
        notice: false,
        id: "a",
        rule: &reference,
        key: &key,
        entity: Some(entity),
        severity: Severity::High,
        count: 5,
        flags: Flags::NONE,
    };
    let (address, user) = (about("client.ip"), about("user.name"));
    assert!(propose(&set, &of(&address), Micros(0)).is_empty());
    assert_eq!(by_hand(&set, &set.playbooks[0], &of(&user), Micros(0)), None);
    let run = by_hand(&set, &set.playbooks[0], &of(&address), Micros(0)).unwrap();
    let done: Vec<&str> = run.proposals.iter().map(|proposal| proposal.deed.name()).collect();
    assert_eq!(done, ["throttle"]);
    let skipped: Vec<String> = run.skipped.iter().map(|(step, why)| format!("{step}: {why}")).collect();
    assert_eq!(skipped, ["1: its condition does not hold", "3: step `2` was the last"]);
}

#[test]
fn a_test_that_does_not_come_out_says_what_came() {
    let tests = "tests:\n- {name: a, alert: {rule: waf-class-burst, key: {client.ip: 198.51.100.4}}, expect: []}\n\
        - {name: b, alert: {rule: waf-class-burst, key: {client.ip: 198.51.100.4}}, expect: [{do: block_address, target: 198.51.100.5}]}\n\
        - {name: c, alert: {rule: waf-class-burst, key: {client.ip: 198.51.100.4}}, expect: [{do: block_address, for: 2h}]}\n\
        - {name: d, alert: {rule: waf-class-burst, key: {client.ip: 198.51.100.4}}, expect: [{do: block_address, for: 1h}]}\n";
    let set = read(&[&format!("{}{tests}", one_step(&format!("{{{BLOCK}}}")))]);
    let (_, rules) = content();
    let said: Vec<Option<String>> =
        try_out(&set, &set.playbooks[0], &rules).into_iter().map(|trial| trial.failed).collect();
    let came = "block_address 198.51.100.4 for 1h";
    assert_eq!(
        said,
        [
            Some(format!("expected 0 proposals, came 1: {came}")),
            Some(format!("expected block_address 198.51.100.5, came: {came}")),
            Some(format!("expected block_address for 2h, came: {came}")),
            None,
        ]
    );
}

#[test]
fn an_author_may_say_that_a_rule_rests_on_established_flows() {
    let (sources, _) = content();
    let rule = |id: &str, tags: &str| {
        let detection = "logsource: {category: firewall}\ndetection: {s: {event.action: allow}, condition: s}\nlevel: high";
        format!("title: t\nid: {id}\n{detection}\ntags: [{tags}]\n")
    };
    let over = |id: &str, rules: &str| {
        let body =
            format!("correlation: {{type: temporal, rules: [{rules}], group-by: [source.ip], timespan: 5m}}");
        format!("title: t\nid: {id}\n{body}\nlevel: high\n")
    };
    let texts = [
        rule("said", crate::ESTABLISHED),
        rule("plain", "attack.t1046"),
        over("both", "said, plain"),
        over("one", "said"),
    ];
    let file = RuleFile { path: "r.yml".into(), text: texts.join("---\n") };
    let rules = vedette_sigma::load(&[file], &Lists::new(), &sources);
    assert_eq!(rules.rejected, []);
    let set = load(&[], &rules, &sources, &Policy::default());
    let known: Vec<&str> = set.established.iter().map(|id| &**id).collect();
    assert_eq!(known, ["one", "said"]);
}
