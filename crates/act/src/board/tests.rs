#![allow(clippy::unwrap_used, clippy::indexing_slicing)]
//! What bouncers and firewalls make of what they fetch, by models of them that know nothing of the board.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::IpNet;
use proptest::prelude::*;
use serde_json::Value;
use vedette_event::Span;
use vedette_respond::{Action, Target};

use super::*;

const T0: Micros = Micros(1_769_860_800_000_000);

fn at(seconds: i64) -> Micros {
    T0.plus(Span::secs(seconds))
}

fn outlet(name: &str, kind: ConnectorKind, capacity: usize) -> Outlet {
    Outlet { name: name.into(), kind, capacity }
}

fn board() -> Board {
    Board::new(vec![
        outlet("crowdsec", ConnectorKind::Crowdsec, 100_000),
        outlet("edl/perimeter", ConnectorKind::Edl, 3),
        outlet("ratelimit", ConnectorKind::Ratelimit, 10),
    ])
}

fn one(action: Action, target: &str, until: Micros) -> InForce {
    let target = Target::Network(vedette_respond::network(target).unwrap());
    InForce { action, target, until, except: Vec::new(), playbook: "perimeter".into() }
}

fn ban(target: &str, until: Micros) -> InForce {
    one(Action::BlockAddress, target, until)
}

fn asker(n: u8) -> Asker {
    let address = IpAddr::V4(Ipv4Addr::new(192, 0, 2, n));
    Asker { key: [n; 32], address, name: format!("bouncer-{n}").into(), agent: "test/1".into() }
}

/// A poll whose answer arrives.
fn poll(board: &Board, asker: &Asker, startup: bool, now: Micros) -> Value {
    let part = board.stream(asker, startup, &Filter::default(), now).unwrap();
    board.sent(asker, &part);
    serde_json::from_slice(&part.body).unwrap()
}

/// `type value` of each.
fn told(answer: &Value, list: &str) -> Vec<String> {
    let text = |one: &Value, name: &str| one[name].as_str().unwrap().to_owned();
    let all = answer[list].as_array().unwrap();
    all.iter().map(|one| format!("{} {}", text(one, "type"), text(one, "value"))).collect()
}

fn both(answer: &Value) -> (Vec<String>, Vec<String>) {
    (told(answer, "new"), told(answer, "deleted"))
}

fn list(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

#[test]
fn before_the_first_word_nothing_is_told() {
    let board = board();
    let all = Filter::default();
    assert_eq!(board.stream(&asker(1), true, &all, T0).unwrap_err(), Silence::NotYet);
    assert_eq!(board.look_up(&Lookup::default(), T0).unwrap_err(), Silence::NotYet);
    assert_eq!(board.edl("perimeter", T0).unwrap_err(), Silence::NotYet);
    assert_eq!(board.rate_limits(T0).unwrap_err(), Silence::NotYet);
    assert_eq!(board.edl("other", T0).unwrap_err(), Silence::NoOutlet);
    assert_eq!(board.held("crowdsec"), None);
    // What ended before is no word of what is in force.
    board.ended("crowdsec", vec![ban("203.0.113.9", at(60))], T0);
    assert_eq!(board.stream(&asker(1), true, &all, T0).unwrap_err(), Silence::NotYet);
    board.show("crowdsec", Vec::new(), T0);
    board.show("nothing", vec![ban("203.0.113.9", at(60))], T0);
    let answer = poll(&board, &asker(1), false, T0);
    assert_eq!(both(&answer), (list(&[]), list(&["ban 203.0.113.9"])));
    assert_eq!(&board.look_up(&Lookup::default(), T0).unwrap()[..], b"null");
}

#[test]
fn of_several_outlets_the_one_without_a_name_of_its_own_is_meant() {
    let of = |names: &[&str]| {
        let all = names.iter().map(|name| outlet(name, ConnectorKind::Crowdsec, 10)).collect();
        let board = Board::new(all);
        for (n, name) in names.iter().enumerate() {
            board.show(name, vec![ban(&format!("203.0.113.{n}"), at(60))], T0);
        }
        board
            .stream(&asker(1), true, &Filter::default(), T0)
            .map(|part| told(&serde_json::from_slice(&part.body).unwrap(), "new").join(","))
    };
    assert_eq!(of(&["crowdsec/edge"]).unwrap(), "ban 203.0.113.0");
    assert_eq!(of(&["crowdsec/edge", "crowdsec"]).unwrap(), "ban 203.0.113.1");
    assert_eq!(of(&["crowdsec/edge", "crowdsec/core"]).unwrap_err(), Silence::NoOutlet);
}

#[test]
fn a_bouncer_is_told_what_changed_since_it_was_there() {
    let (board, me) = (board(), asker(1));
    let (a, b) = ("203.0.113.1", "2001:db8::/48");
    board.show("crowdsec", vec![ban(a, at(3_600)), ban(b, at(30))], T0);
    let first = poll(&board, &me, true, T0);
    assert_eq!(both(&first), (list(&["ban 203.0.113.1", "ban 2001:db8::/48"]), list(&[])));
    assert_eq!((&first["new"][0]["scope"], &first["new"][1]["scope"]), (&"Ip".into(), &"Range".into()));
    assert_eq!(both(&poll(&board, &me, false, at(1))), (list(&[]), list(&[])));
    // Taken away; told, and again for two seconds.
    board.show("crowdsec", vec![ban(b, at(30))], at(5));
    assert_eq!(both(&poll(&board, &me, false, at(6))), (list(&[]), list(&["ban 203.0.113.1"])));
    assert_eq!(told(&poll(&board, &me, false, at(7)), "deleted").len(), 1);
    assert_eq!(told(&poll(&board, &me, false, at(9)), "deleted").len(), 0);
    // Ended by itself, though nobody said so.
    assert_eq!(both(&poll(&board, &me, false, at(31))), (list(&[]), list(&["ban 2001:db8::/48"])));
    board.show("crowdsec", Vec::new(), at(32));
    assert_eq!(told(&poll(&board, &me, false, at(34)), "deleted").len(), 1);
    assert_eq!(both(&poll(&board, &me, false, at(35))), (list(&[]), list(&[])));
    // Who is not known is told everything.
    board.show("crowdsec", vec![ban(a, at(3_600))], at(40));
    let answer = poll(&board, &asker(2), false, at(41));
    assert_eq!(both(&answer), (list(&["ban 203.0.113.1"]), list(&["ban 2001:db8::/48"])));
    assert_eq!(both(&poll(&board, &me, false, at(42))), (list(&["ban 203.0.113.1"]), list(&[])));
}

#[test]
fn a_cursor_moves_only_once_the_answer_has_gone_out() {
    let (board, me) = (board(), asker(1));
    board.show("crowdsec", Vec::new(), T0);
    poll(&board, &me, true, T0);
    board.show("crowdsec", vec![ban("203.0.113.1", at(3_600))], at(1));
    for _ in 0..2 {
        let lost = board.stream(&me, false, &Filter::default(), at(2)).unwrap();
        assert_eq!(told(&serde_json::from_slice(&lost.body).unwrap(), "new").len(), 1);
    }
    // The same key from elsewhere is somebody else.
    let elsewhere = Asker { address: asker(9).address, ..me.clone() };
    poll(&board, &elsewhere, false, at(3));
    assert_eq!(told(&poll(&board, &me, false, at(4)), "new").len(), 1);
    assert_eq!(told(&poll(&board, &me, false, at(5)), "new").len(), 0);
}

#[test]
fn a_change_that_comes_while_an_older_body_is_read_is_not_lost() {
    let (board, me) = (board(), asker(1));
    board.show("crowdsec", vec![ban("203.0.113.1", at(3_600))], T0);
    let first = board.stream(&asker(2), true, &Filter::default(), T0).unwrap();
    board.show("crowdsec", vec![ban("203.0.113.1", at(3_600)), ban("203.0.113.2", at(3_600))], T0);
    // Written once a second, whatever changed.
    let again = board.stream(&me, true, &Filter::default(), Micros(T0.0 + 900_000)).unwrap();
    assert_eq!(first.body.as_ptr(), again.body.as_ptr());
    board.sent(&me, &again);
    assert_eq!(told(&poll(&board, &me, false, at(1)), "new"), list(&["ban 203.0.113.2"]));
    let later = board.stream(&me, true, &Filter::default(), at(1)).unwrap();
    assert_ne!(first.body.as_ptr(), later.body.as_ptr());
}

#[test]
fn one_decision_a_target_the_strongest() {
    let (board, me) = (board(), asker(1));
    let (a, end) = ("203.0.113.1", at(3_600));
    let (throttle, captcha) = (one(Action::Throttle, a, at(9_000)), one(Action::StepUp, a, at(7_200)));
    board.show("crowdsec", vec![throttle.clone(), ban(a, end), captcha.clone()], T0);
    assert_eq!(told(&poll(&board, &me, true, T0), "new"), list(&["ban 203.0.113.1"]));
    // Weaker now: the ban is deleted, and what is in force is told along with that, and once more for those that delete last.
    board.show("crowdsec", vec![throttle.clone(), captcha], at(10));
    let weaker = (list(&["captcha 203.0.113.1"]), list(&["ban 203.0.113.1"]));
    assert_eq!(both(&poll(&board, &me, false, at(10))), weaker);
    assert_eq!(both(&poll(&board, &me, false, at(11))), (list(&["captcha 203.0.113.1"]), list(&[])));
    assert_eq!(both(&poll(&board, &me, false, at(12))), (list(&[]), list(&[])));
    // Stronger again: nothing is deleted while it stands, and all that stood there when it ends.
    board.show("crowdsec", vec![throttle, ban(a, end)], at(20));
    assert_eq!(both(&poll(&board, &me, false, at(20))), (list(&["ban 203.0.113.1"]), list(&[])));
    assert_eq!(told(&poll(&board, &me, false, at(25)), "deleted"), list(&[]));
    board.show("crowdsec", Vec::new(), at(30));
    assert_eq!(
        told(&poll(&board, &me, false, at(40)), "deleted"),
        list(&["captcha 203.0.113.1", "ban 203.0.113.1"])
    );
}

/// What has ended hides nothing, however strong it was, and takes no room.
#[test]
fn what_has_ended_is_not_shown() {
    let board = Board::new(vec![outlet("crowdsec", ConnectorKind::Crowdsec, 1)]);
    let (a, b) = ("203.0.113.1", "203.0.113.2");
    board.show("crowdsec", vec![ban(a, at(9)), ban(b, T0), one(Action::StepUp, a, at(60))], at(10));
    assert_eq!(told(&poll(&board, &asker(1), true, at(10)), "new"), list(&["captcha 203.0.113.1"]));
    assert_eq!(board.held("crowdsec").unwrap(), Held { shown: 1, left_out: 0, unfit: 0 });
}

#[test]
fn names_are_the_same_after_a_restart() {
    let of = |name: &str, action| {
        let board = Board::new(vec![outlet(name, ConnectorKind::Crowdsec, 10)]);
        board.show(name, vec![one(action, "203.0.113.7", at(60))], T0);
        let answer = poll(&board, &asker(1), true, T0);
        (answer["new"][0]["id"].as_u64().unwrap(), answer["new"][0]["uuid"].as_str().unwrap().to_owned())
    };
    let name = of("crowdsec", Action::BlockAddress);
    assert_eq!(name, of("crowdsec", Action::BlockAddress));
    // Held for good: bouncers remember them.
    assert_eq!(name, (946_718_453_987_815, "d367271b-fc80-805e-a6aa-dc71f106c518".to_owned()));
    assert!(name.0 > 0 && name.0 < 1 << 53);
    assert_ne!(name.0, of("crowdsec", Action::StepUp).0);
    assert_ne!(name.0, of("crowdsec/edge", Action::BlockAddress).0);
}

#[test]
fn what_is_left_is_told_and_never_none() {
    let (board, me) = (board(), asker(1));
    board.show("crowdsec", vec![ban("203.0.113.1", at(14_400)), ban("203.0.113.2", at(1))], T0);
    // As of a second later, since the body may be read until then.
    let answer = poll(&board, &me, true, T0);
    assert_eq!(
        (answer["new"].as_array().unwrap().len(), &answer["new"][0]["duration"]),
        (1, &"3h59m59s".into())
    );
    let lookup = Lookup::parse([("ip", "203.0.113.2")]).unwrap();
    let found: Value = serde_json::from_slice(&board.look_up(&lookup, T0).unwrap()).unwrap();
    assert_eq!(found[0]["duration"], "1s");
    assert_eq!(&board.look_up(&lookup, Micros(T0.0 + 1)).unwrap()[..], b"null");
    assert_eq!(poll(&board, &me, false, at(4))["deleted"][0]["duration"], "-3s");
}

#[test]
fn filters_are_those_of_the_query() {
    let board = board();
    let mut other = ban("203.0.113.0/24", at(60));
    other.playbook = "Waf-Contain".into();
    board.show("crowdsec", vec![ban("203.0.113.1", at(60)), other], T0);
    let new = |query: &[(&str, &str)]| {
        let (startup, filter) = Filter::parse(query.iter().copied()).unwrap();
        assert!(startup);
        let part = board.stream(&asker(1), startup, &filter, T0).unwrap();
        told(&serde_json::from_slice(&part.body).unwrap(), "new").len()
    };
    let on = ("startup", "true");
    assert_eq!(new(&[on]), 2);
    assert_eq!(new(&[on, ("scopes", "ip")]), 1);
    assert_eq!(new(&[on, ("scopes", "Ip,Range")]), 2);
    assert_eq!(new(&[on, ("scopes", "country")]), 0);
    assert_eq!(new(&[on, ("scopes", ""), ("origins", "")]), 2);
    assert_eq!(new(&[on, ("origins", "cscli,vedette")]), 2);
    assert_eq!(new(&[on, ("origins", "cscli")]), 0);
    assert_eq!(new(&[on, ("scenarios_containing", "waf,x")]), 1);
    assert_eq!(new(&[on, ("scenarios_not_containing", "waf")]), 1);
    assert_eq!(new(&[on, ("additional_pull", "true"), ("dedup", "false")]), 2);
    assert!(Filter::parse([("origins", vec!["x"; 65].join(","))]).is_err());
    assert!(!Filter::parse([("startup", "TRUE")]).unwrap().0);
}

#[test]
fn no_more_bouncers_and_figures_are_remembered_than_there_is_room_for() {
    let board = board();
    board.show("crowdsec", vec![ban("203.0.113.1", at(3_600))], T0);
    let nth = |n: u32| Asker { address: Ipv4Addr::from(n).into(), ..asker(1) };
    for n in 0..=MAX_BOUNCERS as u32 {
        poll(&board, &nth(n), true, at(i64::from(n)));
    }
    assert_eq!(board.bouncers().len(), MAX_BOUNCERS);
    let now = at(MAX_BOUNCERS as i64 + 1);
    assert_eq!(told(&poll(&board, &nth(1), false, now), "new").len(), 0);
    assert_eq!(told(&poll(&board, &nth(0), false, now), "new").len(), 1, "it was forgotten");

    let item =
        r#"{"name": "dropped", "unit": "packet", "value": 3, "labels": {"origin": "vedette", "n": 1}}"#;
    let many = vec![item; 2 * MAX_FIGURES].join(",");
    let body = format!(
        r#"{{"log_processors": null, "remediation_components": [[1], {{"metrics": [{{"items": [{many}]}}]}}]}}"#
    );
    board.count(&nth(5), body.as_bytes(), now).unwrap();
    let bouncers = board.bouncers();
    let counted = bouncers.iter().find(|bouncer| bouncer.counted_at.is_some()).unwrap();
    assert_eq!((counted.figures.len(), counted.figures[0].value), (MAX_FIGURES, 3.0));
    assert_eq!(counted.figures[0].labels, BTreeMap::from([("origin".to_owned(), "vedette".to_owned())]));
    for body in ["", "[]", "{", "7"] {
        assert!(board.count(&nth(5), body.as_bytes(), now).is_err(), "{body}");
    }
    for body in
        ["{}", r#"{"remediation_components": null}"#, r#"{"remediation_components": [{"metrics": 1}]}"#]
    {
        board.count(&nth(5), body.as_bytes(), now).unwrap();
    }
}

/// What a firewall makes of a list: each line is empty, a comment, or an address or a prefix and then, if anything, a blank and a comment.
fn firewall_reads(text: &str) -> Result<Vec<IpNet>, String> {
    let mut nets = Vec::new();
    for line in text.split('\n').filter(|line| !line.is_empty()) {
        if line.len() > 255 || !line.is_ascii() || line.contains(['\r', '\t', '\0']) {
            return Err(format!("{line:?}"));
        }
        let entry = line.split(' ').next().unwrap_or_default();
        if entry.starts_with('#') {
            continue;
        }
        let (address, bits) = entry.split_once('/').map_or((entry, None), |(a, bits)| (a, Some(bits)));
        let address: IpAddr = address.parse().map_err(|_| format!("{line:?}"))?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Ok(most), str::parse).map_err(|_| format!("{line:?}"))?;
        let net = IpNet::new(address, bits).map_err(|_| format!("{line:?}"))?;
        if net.trunc() != net {
            return Err(format!("bits behind the prefix: {line:?}"));
        }
        nets.push(net);
    }
    Ok(nets)
}

#[test]
fn a_list_is_never_empty_and_keeps_what_lasts_longest() {
    let board = board();
    board.show("edl/perimeter", Vec::new(), T0);
    let empty = board.edl("perimeter", T0).unwrap();
    let text = String::from_utf8(empty.body.to_vec()).unwrap();
    assert!(!text.trim().is_empty() && firewall_reads(&text).unwrap().is_empty(), "{text}");
    let mut hostile = ban("2001:db8::/32", at(500));
    hostile.playbook = "evil\n0.0.0.0/0 #".into();
    let all = vec![
        ban("203.0.113.4", at(100)),
        ban("203.0.113.5", at(300)),
        ban("198.51.100.0/24", at(400)),
        hostile,
        ban("203.0.113.6", at(200)),
        one(Action::Throttle, "203.0.113.7", at(900)),
        one(Action::StepUp, "203.0.113.8", at(900)),
        InForce { target: Target::Asn(64_500), ..ban("203.0.113.9", at(900)) },
    ];
    board.show("edl/perimeter", all.clone(), at(1));
    let list = board.edl("perimeter", at(1)).unwrap();
    let text = String::from_utf8(list.body.to_vec()).unwrap();
    let nets = firewall_reads(&text).unwrap_or_else(|wrong| panic!("{wrong} in {text}"));
    assert_eq!(nets, ["198.51.100.0/24", "203.0.113.5/32", "2001:db8::/32"].map(|n| n.parse().unwrap()));
    assert!(text.starts_with("# edl/perimeter: 3 entries, 2 left out"), "{text}");
    assert_eq!(board.held("edl/perimeter").unwrap(), Held { shown: 3, left_out: 2, unfit: 3 });
    // The same entries in another order are the same list.
    board.show("edl/perimeter", all.into_iter().rev().collect(), at(2));
    assert_eq!(board.edl("perimeter", at(90)).unwrap().etag, list.etag);
    assert_ne!(list.etag, empty.etag);
    // What has ended is not in it, though nobody said so.
    let later = board.edl("perimeter", at(450)).unwrap();
    assert_eq!(firewall_reads(str::from_utf8(&later.body).unwrap()).unwrap().len(), 1);
}

#[test]
fn rate_limits_name_whom_they_are_for() {
    let board = board();
    let named = Target::Named { field: "user.name".into(), value: "al\"ice".into() };
    board.show(
        "ratelimit",
        vec![
            one(Action::Throttle, "203.0.113.7", at(60)),
            one(Action::Throttle, "2001:db8::/64", at(60)),
            InForce { target: named, ..one(Action::Throttle, "203.0.113.7", at(60)) },
            ban("203.0.113.8", at(60)),
        ],
        T0,
    );
    let list = board.rate_limits(T0).unwrap();
    let limits: Value = serde_json::from_slice(&list.body).unwrap();
    let key = |kind: &str, value: &str| serde_json::json!({"type": kind, "value": value});
    let keys: Vec<_> = limits["items"].as_array().unwrap().iter().map(|item| item["key"].clone()).collect();
    assert_eq!(keys, [key("ip", "203.0.113.7"), key("range", "2001:db8::/64"), key("user.name", "al\"ice")]);
    assert_eq!(limits["items"][0]["rate"], serde_json::json!({"requests": 60, "seconds": 60}));
    assert_eq!(limits["items"][0]["until"], at(60).to_string());
    assert_eq!(board.rate_limits(at(61)).unwrap().body, r#"{"items":[],"next_cursor":null}"#);
}

#[test]
fn what_was_deleted_is_bounded() {
    let board = board();
    let many = |from: u32, until| -> Vec<InForce> {
        let net =
            |n: u32| Target::Network(IpNet::from(IpAddr::V6(Ipv6Addr::from(u128::from(from + n) << 80))));
        let one = ban("203.0.113.1", until);
        (0..60_000).map(|n| InForce { target: net(n), ..one.clone() }).collect()
    };
    for round in 0..3_i64 {
        board.show("crowdsec", many(round as u32 * 60_000, at(86_400)), at(round));
    }
    board.show("crowdsec", Vec::new(), at(3));
    let gone = |now| told(&poll(&board, &asker(1), true, now), "deleted").len();
    assert_eq!(gone(at(4)), 100_000);
    // And as long as anybody can hold it.
    board.show("crowdsec", Vec::new(), at(86_400 + 3_601));
    assert_eq!(gone(at(86_400 + 3_601)), 0);
}

/// A bouncer that knows a target by its value alone, as those of nginx, Traefik and HAProxy do.
#[derive(Default)]
struct ByValue {
    held: BTreeMap<String, String>,
    deletes_last: bool,
}

impl ByValue {
    fn take(&mut self, answer: &Value) {
        let text = |one: &Value, name: &str| one[name].as_str().unwrap().to_owned();
        let delete = |held: &mut BTreeMap<String, String>| {
            answer["deleted"].as_array().unwrap().iter().for_each(|one| {
                held.remove(&text(one, "value"));
            });
        };
        if !self.deletes_last {
            delete(&mut self.held);
        }
        for one in answer["new"].as_array().unwrap() {
            self.held.insert(text(one, "value"), text(one, "type"));
        }
        if self.deletes_last {
            delete(&mut self.held);
        }
    }
}

/// A bouncer that takes bans alone, counts the time itself and leaves alone what it holds, as the one for nftables does.
#[derive(Default)]
struct Firewall {
    held: BTreeMap<String, Micros>,
    let_go: BTreeMap<String, Micros>,
}

impl Firewall {
    fn pass(&mut self, now: Micros) {
        for (value, until) in &self.held {
            if *until <= now {
                self.let_go.insert(value.clone(), *until);
            }
        }
        self.held.retain(|_, until| *until > now);
    }

    fn take(&mut self, answer: &Value, now: Micros) {
        let bans = |list: &str| {
            let all = answer[list].as_array().unwrap().clone();
            all.into_iter().filter(|one| one["type"] == "ban").map(|one| {
                (one["value"].as_str().unwrap().to_owned(), seconds(one["duration"].as_str().unwrap()))
            })
        };
        for (value, _) in bans("deleted") {
            self.held.remove(&value);
        }
        for (value, seconds) in bans("new") {
            assert!(seconds > 0);
            self.held.entry(value).or_insert(now.plus(Span::secs(seconds)));
        }
    }
}

fn seconds(duration: &str) -> i64 {
    let (mut all, mut number) = (0, 0);
    for c in duration.trim_start_matches('-').chars() {
        match c {
            'h' => all += std::mem::take(&mut number) * 3_600,
            'm' => all += std::mem::take(&mut number) * 60,
            's' => all += std::mem::take(&mut number),
            digit => number = number * 10 + i64::from(digit.to_digit(10).unwrap()),
        }
    }
    if duration.starts_with('-') { -all } else { all }
}

/// What happens: a new set is shown, or some seconds pass.
#[derive(Debug, Clone)]
enum Step {
    /// Of each of six targets what is in force, for so many seconds.
    Show(Vec<Option<(u8, i64)>>),
    Pass(i64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let entry = prop::option::weighted(0.6, (0_u8..3, 2_i64..90));
    let show = prop::collection::vec(entry, 6).prop_map(Step::Show);
    prop::collection::vec(prop_oneof![2 => show, 3 => (0_i64..30).prop_map(Step::Pass)], 1..14)
}

proptest! {
    #[test]
    fn whatever_happens_bouncers_hold_what_is_in_force(steps in steps(), answered in prop::collection::vec(any::<bool>(), 14)) {
        let board = board();
        let (mut now, mut shown) = (T0, Vec::new());
        let targets = ["203.0.113.1", "203.0.113.2", "203.0.113.0/24", "2001:db8::1", "2001:db8::/32", "0.0.0.0/1"];
        let actions = [Action::Throttle, Action::StepUp, Action::BlockAddress];
        board.show("crowdsec", Vec::new(), now);
        let (mut first, mut last) = (ByValue::default(), ByValue { deletes_last: true, ..ByValue::default() });
        let mut firewall = Firewall::default();
        // What has two seconds left, as a body may be a second old.
        let in_force = |shown: &[InForce], now: Micros| -> BTreeMap<String, String> {
            let standing = shown.iter().filter(|one| one.until.since(now) >= Span::secs(2));
            standing.map(|one| (one.target.to_string(), decisions::kind(one.action).to_owned())).collect()
        };
        // What ends by the bouncer's own clock says nothing about what it was told.
        let held = |bouncer: &mut ByValue, shown: &[InForce], now: Micros| {
            bouncer.held.retain(|value, _| {
                shown.iter().all(|one| one.target.to_string() != *value || one.until.since(now) >= Span::secs(2))
            });
            bouncer.held.clone()
        };
        for (n, step) in steps.into_iter().enumerate() {
            now = now.plus(SECOND);
            match step {
                Step::Pass(seconds) => now = now.plus(Span::secs(seconds)),
                Step::Show(entries) => {
                    let entries = targets.iter().zip(entries);
                    shown = entries
                        .filter_map(|(target, entry)| entry.map(|(a, s)| one(actions[usize::from(a)], target, now.plus(Span::secs(s)))))
                        .collect();
                    board.show("crowdsec", shown.clone(), now);
                }
            }
            firewall.pass(now);
            if answered[n] {
                // Its answer was lost on the way.
                board.stream(&asker(1), false, &Filter::default(), now).unwrap();
                continue;
            }
            let answer = poll(&board, &asker(1), n == 0, now);
            first.take(&answer);
            last.take(&answer);
            firewall.take(&answer, now);
            prop_assert_eq!(held(&mut first, &shown, now), in_force(&shown, now), "{}", answer);
            for value in firewall.held.keys() {
                let standing = |one: &InForce| {
                    one.action == Action::BlockAddress && one.target.to_string() == *value && one.until > now
                };
                prop_assert!(shown.iter().any(standing), "{value} is held beyond its time: {answer}");
            }
            // After another poll without a change.
            now = now.plus(Span::secs(3));
            firewall.pass(now);
            let answer = poll(&board, &asker(1), false, now);
            first.take(&answer);
            last.take(&answer);
            firewall.take(&answer, now);
            prop_assert_eq!(held(&mut last, &shown, now), in_force(&shown, now), "{}", answer);
            for (value, kind) in in_force(&shown, now) {
                let lately = firewall.let_go.get(&value).is_some_and(|at| now.since(*at) <= Span::secs(4));
                prop_assert!(kind != "ban" || firewall.held.contains_key(&value) || lately, "{value} is let go: {answer}");
            }
        }
    }

    #[test]
    fn lookups_find_what_a_look_at_each_finds(
        nets in prop::collection::vec((0_u32..64, 22_u8..=32, 0_u8..3), 0..40),
        asked in (0_u32..64, 22_u8..=32),
        inner in any::<bool>(),
    ) {
        let board = board();
        let net = |(n, bits): (u32, u8)| IpNet::new(Ipv4Addr::from(0xCB00_7100 + n).into(), bits).unwrap().trunc();
        let actions = [Action::Throttle, Action::StepUp, Action::BlockAddress];
        let all: Vec<InForce> = nets.iter().map(|(n, bits, a)| one(actions[usize::from(*a)], &net((*n, *bits)).to_string(), at(60))).collect();
        board.show("crowdsec", all.clone(), T0);
        let asked = net(asked);
        let lookup = Lookup::parse([("range", asked.to_string().as_str()), ("contains", if inner { "false" } else { "true" })]).unwrap();
        let body = board.look_up(&lookup, T0).unwrap();
        let found: Option<Vec<Value>> = serde_json::from_slice(&body).unwrap();
        let found: BTreeSet<String> = found.unwrap_or_default().iter().map(|one| one["value"].as_str().unwrap().to_owned()).collect();
        let wanted: BTreeSet<String> = all
            .iter()
            .filter(|one| one.target.network().is_some_and(|own| if inner { asked.contains(&own) } else { own.contains(&asked) }))
            .map(|one| one.target.to_string())
            .collect();
        prop_assert_eq!(&found, &wanted);
        prop_assert_eq!(&body[..] == b"null", wanted.is_empty());
    }

    #[test]
    fn whatever_is_asked_is_answered(
        pairs in prop::collection::vec((
            prop_oneof![
                Just("ip"), Just("range"), Just("scope"), Just("value"), Just("type"), Just("origins"), Just("contains"), Just("startup"),
                Just("scopes"), Just("scenarios_containing"), Just("scenarios_not_containing"), Just("x")
            ],
            prop_oneof!["\\PC{0,40}", "[0-9a-f:./,]{0,24}", Just("203.0.113.7".to_owned()), Just("true".to_owned())],
        ), 0..8),
        why in "\\PC{0,20}",
    ) {
        let board = board();
        board.show("crowdsec", vec![InForce { playbook: why.into(), ..ban("203.0.113.7", at(60)) }], T0);
        if let Ok(lookup) = Lookup::parse(pairs.iter().map(|(n, v)| (*n, v.as_str()))) {
            let body = board.look_up(&lookup, T0).unwrap();
            let found: Value = serde_json::from_slice(&body).unwrap();
            prop_assert!(found.is_null() || !found.as_array().unwrap().is_empty());
        }
        if let Ok((startup, filter)) = Filter::parse(pairs.iter().map(|(n, v)| (*n, v.as_str()))) {
            let part = board.stream(&asker(1), startup, &filter, T0).unwrap();
            let answer: Value = serde_json::from_slice(&part.body).unwrap();
            prop_assert!(answer["new"].is_array() && answer["deleted"].is_array());
        }
    }
}
