//! The seven guards, one by one.

use std::collections::BTreeSet;

use vedette_event::{Flags, Micros, Span};

use super::*;
use crate::{
    Action, Cause, Connector, ConnectorKind, Deed, Limit, Proposal, Target,
    gate::{Act, Approvals, Cap, Decision, Live, Reason, Users, World, decide},
    playbook::{Guards, Mode},
};

pub(super) const NOW: Micros = Micros(1_800_000_000_000_000);
const HOUR: Span = Span(3_600_000_000);

pub(super) fn net(text: &str) -> Target {
    Target::Network(crate::network(text).unwrap())
}

pub(super) fn connector(kind: ConnectorKind) -> Connector {
    Connector { kind, name: kind.name().into() }
}

/// A block of an address for half an hour, by a playbook that acts, for a high alert over a web application's log.
pub(super) fn block(target: &str) -> Proposal {
    Proposal {
        id: "p".into(),
        playbook: "t".into(),
        version: "v".into(),
        step: "1".into(),
        deed: Deed::Impose(
            Action::BlockAddress,
            Limit { first: Span(HOUR.0 / 2), growth: 4, ceiling: Span(HOUR.0 * 24) },
        ),
        target: Some(net(target)),
        connectors: vec![connector(ConnectorKind::Crowdsec)],
        mode: Mode::Automatic,
        guards: Guards::default(),
        cause: Cause {
            notice: false,
            id: "a".into(),
            rule: "r".into(),
            rule_version: "v".into(),
            severity: Severity::High,
            flags: Flags::NONE,
            established: true,
        },
        by_hand: false,
        at: NOW,
    }
}

/// A world in which nothing speaks against anything.
pub(super) fn calm() -> World {
    World { users: Users { as_of: NOW, active: 1_000_000, ..Users::default() }, ..World::default() }
}

fn by(names: &[&str]) -> Approvals {
    Approvals { proposer: None, by: names.iter().map(|name| (*name).into()).collect() }
}

fn of(proposal: &Proposal, world: &World) -> (Decision, Vec<Reason>) {
    let verdict = decide(proposal, &Approvals::default(), world, NOW);
    (verdict.decision, verdict.reasons)
}

fn ends(decision: &Decision) -> Option<Span> {
    match decision {
        Decision::Act(Act::Impose(order)) => Some(order.until().since(NOW)),
        _ => None,
    }
}

#[test]
fn where_nothing_speaks_against_it_it_is_done_and_ends() {
    let (decision, reasons) = of(&block("203.0.113.7"), &calm());
    assert_eq!((ends(&decision), reasons), (Some(Span(HOUR.0 / 2)), vec![]));
}

#[test]
fn the_never_block_set_refuses_and_subtracts() {
    let mut world = calm();
    world.never.nets = vec!["203.0.113.0/28".parse().unwrap(), "::ffff:203.0.113.99/128".parse().unwrap()];
    for inside in ["203.0.113.7", "203.0.113.99", "10.1.2.3", "127.0.0.1", "fe80::1", "::ffff:10.0.0.1", "::"]
    {
        let approved = decide(&block(inside), &by(&["a", "b"]), &world, NOW);
        assert_eq!(approved.decision, Decision::Refuse, "{inside}");
        assert!(approved.reasons.contains(&Reason::NeverBlock(net(inside))), "{inside}");
    }
    let (decision, reasons) = of(&block("203.0.113.0/24"), &world);
    assert!(ends(&decision).is_some());
    assert_eq!(reasons, [Reason::Cut { pieces: 3 + 6 }]);
    let tag = Deed::Impose(Action::Tag, Limit { first: HOUR, growth: 1, ceiling: HOUR });
    let tag =
        Proposal { deed: tag, connectors: vec![connector(ConnectorKind::Kafka)], ..block("203.0.113.7") };
    assert!(ends(&of(&tag, &world).0).is_some(), "a mark hinders nobody");
    let own = Proposal {
        guards: Guards { never_block: vec!["203.0.113.64/26".parse().unwrap()], ..Guards::default() },
        ..block("203.0.113.65")
    };
    assert_eq!(of(&own, &calm()).0, Decision::Refuse);
    let isolate = Deed::Impose(Action::IsolateHost, Limit { first: HOUR, growth: 1, ceiling: HOUR });
    let isolate =
        Proposal { deed: isolate, connectors: vec![connector(ConnectorKind::Dag)], ..block("10.30.4.9") };
    assert!(ends(&of(&isolate, &calm()).0).is_some(), "a host inside is what is meant");
    world.never.targets.insert(Target::Named { field: "user.id".into(), value: "treasury".into() });
    let hold = Deed::Impose(Action::HoldWithdrawals, Limit { first: HOUR, growth: 1, ceiling: HOUR });
    let target = Some(Target::Named { field: "user.id".into(), value: "treasury".into() });
    let hold = Proposal {
        deed: hold,
        target,
        connectors: vec![connector(ConnectorKind::Webhook)],
        ..block("203.0.113.7")
    };
    assert_eq!(of(&hold, &world).0, Decision::Refuse);
}

#[test]
fn who_comes_back_is_dealt_with_longer_and_never_beyond_a_ceiling() {
    let mut world = calm();
    world.earlier.insert(net("203.0.113.7"), 2);
    let (decision, reasons) = of(&block("203.0.113.7"), &world);
    assert_eq!(ends(&decision), Some(HOUR), "unasked for an hour at most");
    assert_eq!(reasons, [Reason::Shortened { from: Span(HOUR.0 * 8), to: HOUR }]);
    let approved = decide(&block("203.0.113.7"), &by(&["a"]), &world, NOW);
    assert_eq!(ends(&approved.decision), Some(Span(HOUR.0 * 8)));
    world.policy.ceiling = Span(HOUR.0 * 3);
    assert_eq!(
        ends(&decide(&block("203.0.113.7"), &by(&["a"]), &world, NOW).decision),
        Some(Span(HOUR.0 * 3))
    );
    let mut own = block("203.0.113.7");
    own.guards.ceiling = Some(Span(HOUR.0 * 2));
    assert_eq!(ends(&decide(&own, &by(&["a"]), &world, NOW).decision), Some(Span(HOUR.0 * 2)));
    own.deed = Deed::Impose(Action::BlockAddress, Limit { first: Span::ZERO, growth: 1, ceiling: HOUR });
    assert!(of(&own, &world).1.contains(&Reason::NoLimit));
    assert_eq!(of(&own, &world).0, Decision::Refuse);
}

#[test]
fn past_a_cap_the_breaker_opens_and_somebody_is_paged() {
    let live = |n: u32| Live {
        action: Action::BlockAddress,
        target: net(&format!("198.51.{}.{}", n / 256, n % 256)),
        until: NOW.plus(HOUR),
    };
    let mut rule = calm();
    rule.acted.insert("r".into(), 20);
    let mut hour = calm();
    hour.acted.insert("other".into(), 100);
    let mut many = calm();
    many.policy.live = 3;
    many.live = (0..3).map(live).collect();
    let mut share = calm();
    share.users.behind.insert("203.0.113.7".parse().unwrap(), 2);
    share.users.active = 1_000;
    for (world, cap) in [(rule, Cap::RuleHour), (hour, Cap::Hour), (many, Cap::Live), (share, Cap::Share)] {
        let verdict = decide(&block("203.0.113.7"), &Approvals::default(), &world, NOW);
        assert_eq!(verdict.decision, Decision::NeedsApproval { people: 1 }, "{cap:?}");
        assert!(
            verdict.pages() && matches!(verdict.reasons[..], [Reason::Breaker { cap: c, .. }] if c == cap)
        );
        assert!(ends(&decide(&block("203.0.113.7"), &by(&["a"]), &world, NOW).decision).is_some());
        let mut standing = world;
        standing.live.push(Live {
            action: Action::BlockAddress,
            target: net("203.0.113.7"),
            until: NOW.plus(HOUR),
        });
        assert!(ends(&of(&block("203.0.113.7"), &standing).0).is_some(), "what stands is not counted again");
    }
    let mut own = block("203.0.113.7");
    own.guards.per_hour = Some(0);
    assert_eq!(of(&own, &calm()).0, Decision::NeedsApproval { people: 1 });
}

#[test]
fn the_severity_decides_what_happens_unasked() {
    let at = |severity, by_hand| {
        let mut proposal = block("203.0.113.7");
        proposal.cause.severity = severity;
        proposal.by_hand = by_hand;
        of(&proposal, &calm()).0
    };
    let ask = Decision::NeedsApproval { people: 1 };
    assert_eq!(at(Severity::Low, false), Decision::Refuse);
    assert_eq!((at(Severity::Low, true), at(Severity::Medium, false)), (ask.clone(), ask.clone()));
    assert!(ends(&at(Severity::Critical, false)).is_some());
    let sessions = Deed::Impose(Action::EndSessions, Limit { first: HOUR, growth: 1, ceiling: HOUR });
    let target = Some(Target::Named { field: "user.name".into(), value: "bob".into() });
    let mut end = Proposal {
        deed: sessions,
        target,
        connectors: vec![connector(ConnectorKind::Webhook)],
        ..block("203.0.113.7")
    };
    assert_eq!(of(&end, &calm()).0, ask);
    end.cause.notice = true;
    assert_eq!(decide(&end, &by(&["a", "b"]), &calm(), NOW).decision, Decision::Refuse);
}

#[test]
fn what_is_wide_needs_two_people_of_whom_neither_proposed_it() {
    let asn = Proposal {
        target: Some(Target::Asn(64_500)),
        connectors: vec![connector(ConnectorKind::Webhook)],
        ..block("203.0.113.7")
    };
    let country = Proposal { target: Some(Target::Country("KP".into())), ..asn.clone() };
    for wide in [block("203.0.112.0/23"), block("2001:db8::/47"), asn, country] {
        let decided = |approvals: &Approvals| decide(&wide, approvals, &calm(), NOW).decision;
        assert_eq!(decided(&by(&["a"])), Decision::NeedsApproval { people: 2 });
        assert!(ends(&decided(&by(&["a", "b"]))).is_some());
        let own = Approvals { proposer: Some("a".into()), ..by(&["a", "b"]) };
        assert_eq!(decided(&own), Decision::NeedsApproval { people: 2 });
    }
    for narrow in [block("203.0.113.0/24"), block("2001:db8::/48")] {
        assert!(ends(&of(&narrow, &calm()).0).is_some());
    }
    for broad in [block("203.0.0.0/15"), block("2001:d00::/31")] {
        assert_eq!(decide(&broad, &by(&["a", "b"]), &calm(), NOW).decision, Decision::Refuse);
    }
    let mut one = block("203.0.113.7");
    one.guards.people = Some(1);
    let own = Approvals { proposer: Some("a".into()), ..by(&["a"]) };
    assert!(ends(&decide(&one, &own, &calm(), NOW).decision).is_some());
}

#[test]
fn a_shared_address_is_throttled_at_the_most_and_an_unknown_one_needs_a_person() {
    let mut world = calm();
    world.users.behind.insert("203.0.113.7".parse().unwrap(), 3);
    world.users.behind.insert("203.0.113.8".parse().unwrap(), 2);
    let lowered = Decision::Lower { rung: Action::Throttle };
    let approved = |proposal: &Proposal| decide(proposal, &by(&["a", "b"]), &world, NOW).decision;
    assert_eq!(approved(&block("203.0.113.7")), lowered);
    assert_eq!(approved(&block("203.0.113.0/24")), lowered);
    assert!(ends(&approved(&block("203.0.113.8"))).is_some());
    let mut strict = block("203.0.113.8");
    strict.guards.users = Some(2);
    assert_eq!(approved(&strict), lowered);
    let milder = block("203.0.113.7").lowered(Action::Throttle).unwrap();
    assert!(ends(&of(&milder, &world).0).is_some());
    assert_ne!(milder.id, block("203.0.113.7").id);
    let mut list = block("203.0.113.7");
    list.connectors = vec![connector(ConnectorKind::Edl)];
    assert_eq!((approved(&list), list.lowered(Action::Throttle)), (Decision::Refuse, None));
    world.users.as_of = NOW.minus(HOUR);
    let (decision, reasons) = of(&block("203.0.113.8"), &world);
    assert_eq!((decision, reasons), (Decision::NeedsApproval { people: 1 }, vec![Reason::UsersUnknown]));
}

#[test]
fn a_registered_key_is_left_alone_unless_somebody_approves() {
    let suspend = Deed::Impose(Action::SuspendKey, Limit { first: HOUR, growth: 1, ceiling: HOUR });
    let target = Some(Target::Named { field: "api_key.id".into(), value: "k-1".into() });
    let suspend = Proposal {
        deed: suspend,
        target,
        connectors: vec![connector(ConnectorKind::Webhook)],
        ..block("203.0.113.7")
    };
    assert!(ends(&of(&suspend, &calm()).0).is_some());
    let world = World { registered: BTreeSet::from(["k-1".into()]), ..calm() };
    assert_eq!(of(&suspend, &world), (Decision::NeedsApproval { people: 1 }, vec![Reason::Registered]));
}

#[test]
fn what_can_be_forged_or_rests_on_doubtful_times_needs_a_person() {
    let mut forged = block("203.0.113.7");
    forged.cause.established = false;
    assert_eq!(of(&forged, &calm()), (Decision::NeedsApproval { people: 1 }, vec![Reason::Forgeable]));
    for flag in [
        Flags::CLOCK_MISSING,
        Flags::CLOCK_FUTURE,
        Flags::CLOCK_LATE,
        Flags::CLOCK_OVERTAKEN,
        Flags::CLOCK_BROKER,
    ] {
        let mut flagged = block("203.0.113.7");
        flagged.cause.flags = Flags::CAPPED.with(flag);
        assert_eq!(of(&flagged, &calm()), (Decision::NeedsApproval { people: 1 }, vec![Reason::Clock]));
    }
    let mut hunted = block("203.0.113.7");
    hunted.cause.flags = Flags::HUNT;
    assert_eq!(of(&hunted, &calm()), (Decision::NeedsApproval { people: 1 }, vec![Reason::Hunt]));
}

#[test]
fn a_dry_run_says_what_would_have_come_and_nothing_opens_it() {
    let dry = Proposal { mode: Mode::DryRun, ..block("203.0.113.7") };
    let verdict = decide(&dry, &by(&["a", "b"]), &calm(), NOW);
    assert_eq!((verdict.decision, verdict.reasons), (Decision::Refuse, vec![Reason::DryRun]));
    assert!(ends(&verdict.would.unwrap()).is_some());
    let approve = Proposal { mode: Mode::Approve, ..block("203.0.113.7") };
    assert_eq!(of(&approve, &calm()), (Decision::NeedsApproval { people: 1 }, vec![Reason::ApproveMode]));
    let world = World { kill_switch: true, ..calm() };
    assert_eq!(decide(&block("203.0.113.7"), &by(&["a", "b"]), &world, NOW).decision, Decision::Refuse);
    let late = decide(&block("203.0.113.7"), &by(&["a", "b"]), &calm(), NOW.plus(Span(HOUR.0 * 5)));
    assert_eq!(late.decision, Decision::Refuse);
    assert!(late.reasons.contains(&Reason::Lapsed(Span(HOUR.0 * 4))));
}

#[test]
fn telling_is_done_at_once_and_taking_back_is_asked_for() {
    let tell = Proposal {
        deed: Deed::Notify,
        target: None,
        connectors: vec![connector(ConnectorKind::Slack)],
        ..block("203.0.113.7")
    };
    let mut world = World { kill_switch: true, ..calm() };
    world.acted.insert("r".into(), 1_000);
    assert_eq!(of(&tell, &world).0, Decision::Act(Act::Tell));
    let lift = Proposal { deed: Deed::Lift(Action::BlockAddress), ..block("203.0.113.7") };
    assert_eq!(of(&lift, &world), (Decision::NeedsApproval { people: 1 }, vec![Reason::LiftUnasked]));
    let lift = Proposal { by_hand: true, ..lift };
    assert!(matches!(of(&lift, &world).0, Decision::Act(Act::Lift { .. })));
    let nobody = Proposal { target: None, ..block("203.0.113.7") };
    let unable = Proposal { connectors: vec![connector(ConnectorKind::Slack)], ..block("203.0.113.7") };
    for wrong in [nobody, unable] {
        let verdict = decide(&wrong, &by(&["a", "b"]), &calm(), NOW);
        assert_eq!((verdict.decision, verdict.reasons), (Decision::Refuse, vec![Reason::Unable]));
    }
}

#[test]
fn every_reason_is_told_at_once_in_plain_words() {
    let mut proposal = block("203.0.112.0/23");
    proposal.cause.established = false;
    proposal.cause.flags = Flags::CLOCK_LATE;
    proposal.cause.severity = Severity::Medium;
    proposal.mode = Mode::Approve;
    proposal.guards.people = Some(2);
    let mut world = calm();
    world.users.as_of = Micros(0);
    world.never.nets = vec!["203.0.113.0/24".parse().unwrap()];
    world.acted.insert("r".into(), 20);
    let (decision, reasons) = of(&proposal, &world);
    assert_eq!(decision, Decision::NeedsApproval { people: 2 });
    let said: Vec<String> = reasons.iter().map(ToString::to_string).collect();
    insta::assert_snapshot!(said.join("\n"));
}
