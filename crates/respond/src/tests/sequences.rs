//! Any sequence of proposals, approvals, changes of the never-block set, the kill switch and time, against a device that may have
//! forgotten or changed anything meanwhile.

use std::{collections::BTreeSet, net::IpAddr};

use ipnet::IpNet;
use proptest::prelude::*;
use vedette_event::{Flags, Micros, Span};

use super::{
    guards::{NOW, block, calm, connector},
    *,
};
use crate::{
    Action, ConnectorKind, Deed, Limit, Proposal, Target,
    desired::{Command, DesiredState, Observed, reconcile},
    gate::{Act, Approvals, Decision, Live, World, decide},
    playbook::Mode,
};

const MINUTE: i64 = 60_000_000;

/// Addresses so near one another that everything overlaps.
fn nets() -> impl Strategy<Value = IpNet> {
    let v4 = (0_u32..1024, 20_u8..=32)
        .prop_map(|(at, bits)| IpNet::new(std::net::Ipv4Addr::from(0xCB00_7000 + at).into(), bits));
    let v6 = (0_u128..64, 44_u8..=52).prop_map(|(at, bits)| {
        IpNet::new(std::net::Ipv6Addr::from((0x2001_0db8_u128 << 96) + (at << 78)).into(), bits)
    });
    prop_oneof![4 => v4, 1 => v6].prop_map(|net| net.unwrap().trunc())
}

fn targets() -> impl Strategy<Value = Target> {
    let named = |field: &'static str| {
        prop::sample::select(&["a", "b"][..])
            .prop_map(move |v| Target::Named { field: field.into(), value: v.into() })
    };
    prop_oneof![
        8 => nets().prop_map(Target::Network),
        1 => (64_500_u32..64_502).prop_map(Target::Asn),
        1 => Just(Target::Country("KP".into())),
        1 => named("user.name"),
        1 => named("api_key.id"),
    ]
}

fn limits() -> impl Strategy<Value = Limit> {
    (-1_i64..200, 0_u32..5, -1_i64..100_000).prop_map(|(first, growth, ceiling)| Limit {
        first: Span(first * MINUTE),
        growth,
        ceiling: Span(ceiling * MINUTE),
    })
}

fn proposals() -> impl Strategy<Value = Proposal> {
    let mode = prop_oneof![8 => Just(Mode::Automatic), 1 => Just(Mode::Approve), 1 => Just(Mode::DryRun)];
    let flags = prop_oneof![4 => Just(Flags::NONE), 1 => Just(Flags::CLOCK_LATE), 1 => Just(Flags::CAPPED)];
    let severity = prop_oneof![4 => Just(Severity::High), 1 => Just(Severity::Critical), 1 => Just(Severity::Medium), 1 => Just(Severity::Low)];
    let cause = (flags, severity, prop::bool::weighted(0.8), prop::bool::weighted(0.3), any::<bool>());
    let own = prop::collection::vec(nets(), 0..2);
    (targets(), prop::sample::select(&Action::ALL[..]), limits(), mode, cause, own).prop_map(
        |(target, action, limit, mode, (flags, severity, established, notice, by_hand), own)| {
            let mut proposal = Proposal {
                deed: Deed::Impose(action, limit),
                target: Some(target),
                mode,
                by_hand,
                ..block("203.0.113.7")
            };
            proposal.connectors = vec![connector(ConnectorKind::Kafka)];
            proposal.cause.flags = flags;
            proposal.cause.severity = severity;
            proposal.cause.established = established;
            proposal.cause.notice = notice;
            proposal.guards.never_block = own;
            proposal
        },
    )
}

#[derive(Debug, Clone)]
enum Event {
    Propose(Box<Proposal>, usize, Option<Action>),
    Spare(IpNet),
    Unspare,
    Wait(i64),
    Kill(bool),
    /// The device lost entries, or somebody put others into it.
    Disturb(Vec<(Target, Option<i64>)>, bool),
    Stale(bool),
}

fn events() -> impl Strategy<Value = Event> {
    let lift = prop::option::weighted(0.1, Just(Action::BlockAddress));
    let strange = (targets(), prop::option::of(-60_i64..600));
    prop_oneof![
        10 => (proposals(), 0_usize..4, lift).prop_map(|(p, people, lift)| Event::Propose(Box::new(p), people, lift)),
        2 => nets().prop_map(Event::Spare),
        1 => Just(Event::Unspare),
        3 => (1_i64..180).prop_map(Event::Wait),
        1 => any::<bool>().prop_map(Event::Kill),
        2 => (prop::collection::vec(strange, 0..3), any::<bool>()).prop_map(|(put, lost)| Event::Disturb(put, lost)),
        1 => any::<bool>().prop_map(Event::Stale),
    ]
}

fn apply(device: &mut Vec<Observed>, commands: Vec<Command>, world: &World) {
    for command in commands {
        match command {
            Command::Withdraw { action, target } => {
                device.retain(|held| (held.action, &held.target) != (action, &target))
            }
            Command::Impose { action, target, until, except } => {
                device.retain(|held| (held.action, &held.target) != (action, &target));
                let wide = matches!(target, Target::Asn(_) | Target::Country(_)) && action.hinders();
                assert!(!wide || world.never.nets.iter().all(|net| except.contains(net)));
                device.push(Observed { action, target, until: Some(until) });
            }
        }
    }
}

/// What must hold of a decision, told without looking at how it is made.
fn check(proposal: &Proposal, approvals: &Approvals, world: &World, decision: &Decision) {
    let Decision::Act(Act::Impose(order)) = decision else { return };
    let people = approvals.by.len();
    let Deed::Impose(action, limit) = proposal.deed else { panic!("not imposed") };
    assert!(!world.kill_switch && proposal.mode != Mode::DryRun);
    let ceiling = limit.ceiling.0.min(world.policy.ceiling.0);
    let length = order.until().0 - NOW.0;
    assert!(length > 0 && length <= ceiling, "{length}");
    assert!(people > 0 || length <= 60 * MINUTE);
    let wide = match order.target() {
        Target::Network(IpNet::V4(net)) => net.prefix_len() < 24,
        Target::Network(IpNet::V6(net)) => net.prefix_len() < 48,
        Target::Asn(_) | Target::Country(_) => true,
        Target::Named { .. } => false,
    };
    assert!(people >= if wide { 2 } else { 0 });
    let doubtful = !proposal.cause.established || proposal.cause.flags.has(Flags::CLOCK_LATE);
    let capped = world.acted.values().sum::<u32>() >= world.policy.per_hour;
    let asked = doubtful || proposal.mode == Mode::Approve || !action.reversible();
    let counted = !world.stands(action, order.target(), NOW) && capped;
    assert!(people >= usize::from(asked || counted));
    assert!(action.reversible() || !proposal.cause.notice);
    let shared = order.target().network().map_or(0, |net| world.users.behind(net));
    assert!(
        !matches!(action, Action::BlockAddress | Action::IsolateHost)
            || shared < 3
            || world.users(NOW).is_none()
    );
}

fn spared(world: &World, device: &[Observed], addresses: &[IpAddr]) {
    for held in device {
        let Some(net) = held.target.network().filter(|_| held.action.hinders()) else { continue };
        for address in addresses {
            let never = world.never.nets.iter().any(|spared| spared.contains(address));
            assert!(!never || !net.contains(address), "{net} covers {address}");
        }
        let overlap = world.never.nets.iter().find(|spared| spared.contains(&net) || net.contains(*spared));
        assert_eq!(overlap, None, "{net}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    #[test]
    fn no_sequence_hits_the_spared_stands_too_long_or_lacks_approval(events in prop::collection::vec(events(), 1..24)) {
        let mut world = calm();
        world.policy.per_hour = 6;
        for last in [5_u8, 9] {
            world.users.behind.insert(IpAddr::from([203, 0, 112, last]), u64::from(last) - 4);
        }
        let (mut state, mut device, mut clock) = (DesiredState::default(), Vec::<Observed>::new(), 0_i64);
        let addresses: Vec<IpAddr> = (0..1024_u32).map(|at| std::net::Ipv4Addr::from(0xCB00_7000 + at).into()).collect();
        for event in events {
            // The gate's clock stands still, so that what it decides can be told; what follows from it has a clock of its own.
            match event {
                Event::Propose(proposal, people, lift) => {
                    let names = ["a", "b", "c", "d"].into_iter().take(people).map(Arc::from).collect();
                    let approvals = Approvals { proposer: None, by: names };
                    let verdict = decide(&proposal, &approvals, &world, NOW);
                    check(&proposal, &approvals, &world, &verdict.decision);
                    if let Decision::Act(Act::Impose(order)) = verdict.decision {
                        *world.acted.entry(proposal.cause.rule.clone()).or_default() += 1;
                        world.live.push(Live { action: order.action(), target: order.target().clone(), until: order.until() });
                        state.admit(&order);
                        if let Some(action) = lift {
                            state.lift(action, order.target(), order.connectors());
                        }
                    }
                }
                Event::Spare(net) => world.never.nets.push(net),
                Event::Unspare => { world.never.nets.pop(); }
                Event::Wait(minutes) => clock += minutes * MINUTE,
                Event::Kill(on) => world.kill_switch = on,
                Event::Stale(on) => world.users.as_of = if on { Micros(0) } else { NOW },
                Event::Disturb(put, lost) => {
                    if lost {
                        device.truncate(device.len() / 2);
                    }
                    let strange = |(target, minutes): (Target, Option<i64>)| Observed {
                        action: Action::BlockAddress,
                        target,
                        until: minutes.map(|m| Micros(NOW.0 + clock + m * MINUTE)),
                    };
                    device.extend(put.into_iter().map(strange));
                }
            }
            let now = Micros(NOW.0 + clock);
            let done = reconcile(&state, "kafka", &device, &world, now);
            apply(&mut device, done.commands, &world);
            prop_assert_eq!(reconcile(&state, "kafka", &device, &world, now).commands, vec![]);
            spared(&world, &device, &addresses);
            let limit = Micros(NOW.0 + world.policy.ceiling.0);
            for held in &device {
                prop_assert!(held.until.is_some_and(|until| until > now && until <= limit), "{:?}", held);
            }
            prop_assert!(!world.kill_switch || device.is_empty());
            let mut seen = BTreeSet::new();
            for held in &device {
                prop_assert!(seen.insert((held.action.lane(), held.target.clone())), "one of a lane on a target");
            }
            let before = state.clone();
            state.forget(now);
            prop_assert_eq!(reconcile(&state, "kafka", &device, &world, now), reconcile(&before, "kafka", &device, &world, now));
        }
        device.iter_mut().for_each(|held| held.until = None);
        let end = Micros(NOW.0 + world.policy.ceiling.0);
        let done = reconcile(&state, "kafka", &device, &world, end);
        apply(&mut device, done.commands, &world);
        prop_assert!(device.is_empty(), "nothing is for ever: {:?}", device);
    }

    #[test]
    fn the_same_orders_in_any_order_come_to_the_same_state(mut orders in prop::collection::vec(proposals(), 0..8)) {
        let world = calm();
        let approvals = Approvals { proposer: None, by: ["a", "b"].map(Arc::from).into() };
        let collect = |orders: &[Proposal]| {
            let mut state = DesiredState::default();
            for proposal in orders {
                if let Decision::Act(Act::Impose(order)) = decide(proposal, &approvals, &world, NOW).decision {
                    state.admit(&order);
                    state.admit(&order);
                }
            }
            state
        };
        let first = collect(&orders);
        orders.reverse();
        prop_assert_eq!(first, collect(&orders));
    }
}

#[test]
fn a_longer_throttle_takes_over_when_a_block_ends_and_does_not_lengthen_it() {
    let (world, target) = (calm(), super::guards::net("203.0.113.7"));
    let approvals = Approvals { proposer: None, by: ["a"].map(Arc::from).into() };
    let mut state = DesiredState::default();
    for (action, minutes) in [(Action::Throttle, 120), (Action::BlockAddress, 60), (Action::BlockAddress, 30)]
    {
        let span = Span(minutes * MINUTE);
        let proposal = Proposal {
            deed: Deed::Impose(action, Limit { first: span, growth: 1, ceiling: span }),
            ..block("203.0.113.7")
        };
        let Decision::Act(Act::Impose(order)) = decide(&proposal, &approvals, &world, NOW).decision else {
            panic!()
        };
        state.admit(&order);
    }
    let at = |minutes: i64| Micros(NOW.0 + minutes * MINUTE);
    let mut device = Vec::new();
    let mut held_at = |minutes: i64| {
        let done = reconcile(&state, "crowdsec", &device, &world, at(minutes));
        apply(&mut device, done.commands, &world);
        device.iter().map(|held| (held.action, held.until)).collect::<Vec<_>>()
    };
    assert_eq!(held_at(0), [(Action::BlockAddress, Some(at(60)))]);
    assert_eq!(held_at(59), [(Action::BlockAddress, Some(at(60)))]);
    assert_eq!(held_at(60), [(Action::Throttle, Some(at(120)))]);
    assert_eq!(held_at(120), []);
    assert!(reconcile(&state, "edl", &[], &world, NOW).commands.is_empty(), "another connector's");
    let almost = [Observed {
        action: Action::BlockAddress,
        target: target.clone(),
        until: Some(Micros(at(60).0 - 1_000_000)),
    }];
    assert_eq!(reconcile(&state, "crowdsec", &almost, &world, NOW).commands, []);
}

#[test]
fn an_address_that_is_spared_later_is_cut_out_of_what_is_live() {
    let mut world = calm();
    let approvals = Approvals::default();
    let mut state = DesiredState::default();
    let Decision::Act(Act::Impose(order)) =
        decide(&block("203.0.113.0/30"), &approvals, &world, NOW).decision
    else {
        panic!()
    };
    state.admit(&order);
    let mut device = Vec::new();
    let first = reconcile(&state, "crowdsec", &device, &world, NOW).commands;
    apply(&mut device, first, &world);
    world.never.nets.push("203.0.113.1/32".parse().unwrap());
    let commands = reconcile(&state, "crowdsec", &device, &world, NOW).commands;
    assert!(
        matches!(commands[0], Command::Withdraw { .. }),
        "it passes again as soon as it can: {commands:?}"
    );
    apply(&mut device, commands, &world);
    let held: Vec<String> = device.iter().map(|held| held.target.to_string()).collect();
    assert_eq!(held, ["203.0.113.0", "203.0.113.2/31"]);
    let spread =
        (0..600_u32).map(|n| IpNet::from(IpAddr::from(std::net::Ipv4Addr::from(0xCB00_0000 + n * 100))));
    world.never.nets = spread.collect();
    let wide = decide(
        &block("203.0.0.0/16"),
        &Approvals { proposer: None, by: ["a", "b"].map(Arc::from).into() },
        &world,
        NOW,
    );
    assert_eq!(wide.decision, Decision::Refuse, "cut into too many: {:?}", wide.reasons);
}

#[test]
fn what_a_device_holds_must_have_the_right_end_in_every_entry() {
    let (world, target) = (calm(), super::guards::net("203.0.113.7"));
    let Decision::Act(Act::Impose(order)) =
        decide(&block("203.0.113.7"), &Approvals::default(), &world, NOW).decision
    else {
        panic!()
    };
    let mut state = DesiredState::default();
    state.admit(&order);
    let until = order.until();
    let held = |until: Option<i64>| Observed {
        action: Action::BlockAddress,
        target: target.clone(),
        until: until.map(Micros),
    };
    let right = held(Some(until.0));
    let imposed =
        Command::Impose { action: Action::BlockAddress, target: target.clone(), until, except: Vec::new() };
    for (device, commands) in [
        (vec![], vec![imposed.clone()]),
        (vec![held(None)], vec![imposed.clone()]),
        (vec![held(Some(until.0 + 1))], vec![imposed.clone()]),
        (vec![held(Some(until.0 - 2_000_001))], vec![imposed.clone()]),
        (vec![held(Some(until.0 - 2_000_000))], vec![]),
        (vec![right.clone(), held(None)], vec![imposed.clone()]),
        (vec![held(None), right.clone()], vec![imposed]),
        (vec![right.clone(), right], vec![]),
    ] {
        assert_eq!(reconcile(&state, "crowdsec", &device, &world, NOW).commands, commands, "{device:?}");
    }
}

#[test]
fn what_a_playbook_spares_stays_spared_and_two_that_merge_spare_what_either_does() {
    let world = calm();
    let order = |spared: &str| {
        let mut proposal = block("203.0.113.0/30");
        proposal.guards.never_block = vec![spared.parse().unwrap()];
        match decide(&proposal, &Approvals::default(), &world, NOW).decision {
            Decision::Act(Act::Impose(order)) => order,
            other => panic!("{other:?}"),
        }
    };
    let mut state = DesiredState::default();
    let held = |state: &DesiredState| -> Vec<String> {
        let commands = reconcile(state, "crowdsec", &[], &world, NOW).commands;
        let target = |command: Command| match command {
            Command::Impose { target, .. } | Command::Withdraw { target, .. } => target.to_string(),
        };
        commands.into_iter().map(target).collect()
    };
    state.admit(&order("203.0.113.1/32"));
    assert_eq!(held(&state), ["203.0.113.0", "203.0.113.2/31"]);
    state.admit(&order("203.0.113.2/32"));
    assert_eq!(held(&state), ["203.0.113.0", "203.0.113.3"]);
}
