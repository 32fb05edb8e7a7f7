//! The playbooks that come with the project: they are accepted over its own rules, dry runs, and pass their tests.

use super::*;
use crate::{cacao, playbook::Mode, try_out};

fn shipped() -> (PlaybookSet, RuleSet) {
    let (sources, rules) = content();
    (load(&files("detections/playbooks"), &rules, &sources, &Policy::default()), rules)
}

#[test]
fn all_eleven_are_accepted_as_dry_runs_and_pass_their_tests() {
    let (set, rules) = shipped();
    assert!(set.rejected.is_empty() && set.warnings.is_empty(), "{:#?} {:#?}", set.rejected, set.warnings);
    let mut names: Vec<&str> = set.playbooks.iter().map(|playbook| &*playbook.name).collect();
    names.sort_unstable();
    let wanted = [
        "account-takeover-contain",
        "api-key",
        "credential-stuffing",
        "ddos",
        "host-isolate",
        "perimeter-block",
        "rate-ladder",
        "triage",
        "waf-contain",
        "wallet-emergency",
        "withdrawal-hold",
    ];
    assert_eq!(names, wanted);
    for playbook in &set.playbooks {
        assert_eq!(playbook.body.mode, Mode::DryRun, "{}", playbook.name);
        let trials = try_out(&set, playbook, &rules);
        let fires = playbook.tests.iter().any(|test| !test.expect.is_empty());
        assert!(fires && trials.len() >= 2, "{}: a test that proposes, and one that does not", playbook.name);
        for trial in trials {
            assert_eq!(trial.failed, None, "{}: {}", playbook.name, trial.name);
        }
    }
}

#[test]
fn each_step_of_each_playbook_is_proposed_in_some_test() {
    let (set, _) = shipped();
    for playbook in &set.playbooks {
        for step in &playbook.body.steps {
            let expected = playbook.tests.iter().flat_map(|test| &test.expect);
            let times = expected.filter(|expected| expected.deed == step.deed.name()).count();
            assert!(times > 0, "{}: {}", playbook.name, step.name);
        }
    }
}

#[test]
fn each_is_exported_with_all_that_cacao_requires() {
    let (set, _) = shipped();
    let mut ids = std::collections::BTreeSet::new();
    for playbook in &set.playbooks {
        let out = cacao(playbook);
        assert_eq!(out, cacao(playbook));
        check(&out);
        assert!(ids.insert(out["id"].as_str().unwrap().to_owned()));
    }
    insta::assert_json_snapshot!(cacao(set.get("waf-contain").unwrap()));
}

/// `<kind>--<UUID of version 5>`.
fn identifier(value: &serde_json::Value, kind: &str) {
    let text = value.as_str().unwrap();
    let (prefix, uuid) = text.split_once("--").unwrap();
    assert_eq!(prefix, kind, "{text}");
    assert_eq!(uuid::Uuid::parse_str(uuid).unwrap().get_version_num(), 5, "{text}");
}

fn check(out: &serde_json::Value) {
    assert_eq!((out["type"].as_str(), out["spec_version"].as_str()), (Some("playbook"), Some("cacao-2.0")));
    identifier(&out["id"], "playbook");
    identifier(&out["created_by"], "identity");
    assert!(!out["name"].as_str().unwrap().is_empty());
    for time in ["created", "modified"] {
        let text = out[time].as_str().unwrap();
        assert!(text.len() == "2026-11-28T00:00:00.000Z".len() && text.ends_with(".000Z"), "{text}");
        assert!(vedette_event::Micros::parse_rfc3339(text).is_some());
    }
    identifier(&out["workflow_start"], "start");
    let workflow = out["workflow"].as_object().unwrap();
    assert_eq!(workflow[out["workflow_start"].as_str().unwrap()]["type"], "start");
    let mut reached = std::collections::BTreeSet::new();
    let mut open = vec![out["workflow_start"].as_str().unwrap().to_owned()];
    while let Some(id) = open.pop() {
        let step = &workflow[&id];
        if !reached.insert(id) {
            continue;
        }
        let kind = step["type"].as_str().unwrap();
        match kind {
            "start" => {}
            "end" => continue,
            "action" => {
                for command in step["commands"].as_array().unwrap() {
                    assert_eq!(command["type"], "manual");
                    assert!(!command["command"].as_str().unwrap().is_empty());
                }
                let agent = step["agent"].as_str().unwrap();
                let agent = &out["agent_definitions"][agent];
                assert!(agent["type"].is_string() && agent["name"].is_string());
            }
            "if-condition" => assert!(!step["condition"].as_str().unwrap().is_empty()),
            other => panic!("{other} is no step of ours"),
        }
        for next in ["on_completion", "on_true", "on_false"] {
            open.extend(step.get(next).map(|next| next.as_str().unwrap().to_owned()));
        }
    }
    let all: std::collections::BTreeSet<String> = workflow.keys().cloned().collect();
    assert_eq!(reached, all, "every step is reached");
    for (id, step) in workflow {
        identifier(&serde_json::Value::from(id.as_str()), step["type"].as_str().unwrap());
    }
    let variables = out["playbook_variables"].as_object().unwrap();
    let text = out["workflow"].to_string();
    for (at, _) in text.match_indices(":value") {
        let name = text[..at].rsplit([' ', '"', '(']).next().unwrap();
        assert!(variables.contains_key(name), "{name} is no variable of the playbook");
    }
}

#[test]
fn the_playbook_on_the_page_for_writers_loads_and_passes_its_test() {
    let page = include_str!("../../../../detections/README.md");
    let section = page.split("## Playbooks").nth(1).unwrap();
    let example = section.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let set = read(&[example]);
    assert!(set.rejected.is_empty() && set.warnings.is_empty(), "{:?} {:?}", set.rejected, set.warnings);
    assert_eq!(
        try_out(&set, &set.playbooks[0], &content().1).into_iter().find_map(|trial| trial.failed),
        None
    );
    for name in crate::Deed::names() {
        assert!(section.contains(&format!("`{name}`")), "{name} is not on the page");
    }
}
