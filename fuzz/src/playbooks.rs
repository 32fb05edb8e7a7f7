//! Playbooks: from text to proposals, and what the gate and the reconciler make of them.
//!
//! In: text. Invariants: messages point into the file and say what would be right; what is accepted proposes the same for the same
//! alert, exports, and comes to no state that reconciling does not reach or that covers what is spared.

use std::{collections::BTreeMap, sync::LazyLock};

use vedette_event::{Entity, Flags, Micros, RuleRef, Value};
use vedette_respond::{
    PlaybookSet, Proposal, Subject, Target, by_hand, cacao,
    desired::{Command, DesiredState, Observed, reconcile},
    gate::{Act, Approvals, Decision, NeverBlock, Policy, Users, World, decide},
    load, network, propose, try_out,
};
use vedette_sigma::{Lists, RuleSet};

use crate::{SOURCES, file};

/// The project's own playbooks, to begin with.
pub const SHIPPED: [(&str, &str); 4] = [
    ("waf_contain", include_str!("../../detections/playbooks/waf_contain.yml")),
    ("ddos", include_str!("../../detections/playbooks/ddos.yml")),
    ("api_key", include_str!("../../detections/playbooks/api_key.yml")),
    ("account_takeover_contain", include_str!("../../detections/playbooks/account_takeover_contain.yml")),
];

/// The rules whose alerts start them.
static RULES: LazyLock<RuleSet> = LazyLock::new(|| {
    let files = [
        include_str!("../../detections/correlations/waf_class_burst.yml"),
        include_str!("../../detections/correlations/bot_user_bruteforce.yml"),
        include_str!("../../detections/correlations/ato_mfa_fatigue.yml"),
        include_str!("../../detections/correlations/api_sigfail.yml"),
        include_str!("../../detections/rules/firewall/seg_wallet_zone.yml"),
    ];
    let files: Vec<_> = files.iter().enumerate().map(|(at, text)| file(&format!("{at}.yml"), text)).collect();
    let rules = vedette_sigma::load(&files, &Lists::default(), &SOURCES);
    assert!(rules.rejected.is_empty(), "{:?}", rules.rejected);
    rules
});

const NOW: Micros = Micros(1_800_000_000_000_000);

/// Reads a file and goes all the way with what it holds.
pub fn check(text: &str) {
    let set = load(&[file("fuzz.yml", text)], &RULES, &SOURCES, &Policy::default());
    // A carriage return alone ends a line of YAML, too.
    let lines = text.split(['\n', '\r']).count();
    for rejection in set.rejected.iter().chain(&set.warnings) {
        assert!((1..=lines + 1).contains(&rejection.line), "{rejection:?} points nowhere");
        assert!(!rejection.message.is_empty() && !rejection.code.is_empty());
        let _ = vedette_sigma::render(rejection, text, vedette_sigma::Style::default());
    }
    let mut state = DesiredState::default();
    for playbook in &set.playbooks {
        let _ = try_out(&set, playbook, &RULES);
        let out = cacao(playbook);
        assert!(out["workflow"][out["workflow_start"].as_str().unwrap_or_default()].is_object());
    }
    each_alert(|of| proposed(&set, of, &mut state));
    settled(&state);
}

/// An alert and a notice of each rule.
fn each_alert(mut each: impl FnMut(&Subject<'_>)) {
    let key: BTreeMap<_, _> = [
        ("client.ip", "198.51.100.4"),
        ("source.ip", "10.30.4.9"),
        ("waf.attack_class", "sqli"),
        ("user.name", "bob"),
        ("api_key.id", "k-1"),
    ]
    .into_iter()
    .map(|(name, value)| (name.into(), Value::Text(value.into())))
    .collect();
    for rule in RULES.rules.iter().filter(|rule| rule.emits) {
        let reference = RuleRef {
            id: rule.id.clone(),
            title: rule.title.clone(),
            level: rule.level,
            kind: "single".into(),
            version: "v".into(),
            tags: rule.tags.clone(),
        };
        let kind = rule.extras.entity.clone().unwrap_or_else(|| "client.ip".into());
        let entity = key.get(&kind).map(|value| Entity { kind, value: value.clone() });
        for (notice, count) in [(false, 1), (true, 50), (false, u64::MAX)] {
            each(&Subject {
                notice,
                id: "a",
                rule: &reference,
                key: &key,
                entity: entity.as_ref(),
                severity: rule.level,
                count,
                flags: Flags::NONE,
            });
        }
    }
}

fn world() -> World {
    let users = Users { as_of: NOW, active: 1_000_000, ..Users::default() };
    let never = NeverBlock { nets: network("198.51.100.5").into_iter().collect(), ..NeverBlock::default() };
    World { users, never, ..World::default() }
}

fn proposed(set: &PlaybookSet, of: &Subject<'_>, state: &mut DesiredState) {
    let all = propose(set, of, NOW);
    assert_eq!(all, propose(set, of, NOW));
    let started = set.playbooks.iter().filter_map(|playbook| by_hand(set, playbook, of, NOW));
    let by_hand: Vec<Proposal> = started.flat_map(|run| run.proposals).collect();
    let approvals = Approvals { proposer: None, by: ["a", "b"].map(Into::into).into() };
    for proposal in all.iter().chain(&by_hand) {
        let acting = Proposal { mode: vedette_respond::playbook::Mode::Automatic, ..proposal.clone() };
        if let Decision::Act(Act::Impose(order)) = decide(&acting, &approvals, &world(), NOW).decision {
            let longest = NOW.plus(Policy::default().ceiling);
            assert!(order.until() > NOW && order.until() <= longest, "{order:?}");
            state.admit(&order);
        }
    }
}

/// Reconciles an empty device with the state, for each connector that a playbook can name.
fn settled(state: &DesiredState) {
    for connector in state.connectors() {
        let mut device = Vec::new();
        for command in reconcile(state, connector, &device, &world(), NOW).commands {
            let Command::Impose { action, target, until, .. } = command else {
                panic!("nothing is there to be withdrawn")
            };
            if let (Target::Network(net), Some(Target::Network(spared))) =
                (&target, network("198.51.100.5").map(Target::Network))
            {
                assert!(!action.hinders() || !net.contains(&spared), "{net}");
            }
            device.push(Observed { action, target, until: Some(until) });
        }
        assert!(reconcile(state, connector, &device, &world(), NOW).commands.is_empty());
    }
}
