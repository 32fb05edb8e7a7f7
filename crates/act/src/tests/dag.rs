//! A dynamic address group, against a firewall that follows the documented interface and fails as real ones do.

use std::{
    net::IpAddr,
    path::Path,
    sync::atomic::{AtomicI64, Ordering},
    time::Duration,
};

use ipnet::IpNet;
use vedette_respond::{Target, desired::DesiredState, gate::Order, network};

use super::{
    double::{Device, Double, Fault, KEY, Says},
    *,
};
use crate::{
    Wanted,
    dag::{Done, Fault as Failed, Group, LeftOut},
    http::{Client, Reach},
    settings::{Firewall, Secret},
};

const NAME: &str = "dag/perimeter";
/// For one answer; a double that is slow takes longer.
const PATIENCE: Duration = Duration::from_secs(2);
/// When nothing is left to be done it is looked at again after this.
const QUIET: Span = Span::secs(180);
pub(super) const TAG: &str = "vedette-block";

/// A firewall or two, and what acts on them.
pub(super) struct Bench {
    clock: Arc<AtomicI64>,
    pub doubles: Vec<Double>,
    pub firewall: Firewall,
    group: Group,
    orders: BTreeMap<(Action, IpNet), Micros>,
    pub world: vedette_respond::gate::World,
}

impl Bench {
    pub async fn new(doubles: usize) -> Self {
        // An hour of 2027, to the microsecond: nothing may rest on whole seconds.
        let clock = Arc::new(AtomicI64::new(1_800_000_000_250_000));
        let mut all = Vec::new();
        for _ in 0..doubles {
            all.push(Double::new(&clock).await);
        }
        if let [one, other] = all.as_slice() {
            (one.lock().state, other.lock().state) = (Some("active"), Some("passive"));
        }
        let firewall = Firewall {
            hosts: all.iter().map(|double| double.url().into()).collect(),
            key: Secret::new(KEY),
            tag: "vedette".into(),
            vsys: Some("vsys1".into()),
            target: None,
            capacity: 1_000,
        };
        let group = Group::new(firewall.clone(), client(PATIENCE));
        let (orders, world) = (BTreeMap::new(), vedette_respond::gate::World::default());
        Self { clock, doubles: all, firewall, group, orders, world }
    }

    /// As after a start of ours, or with another configuration.
    pub fn anew(&mut self) {
        self.group = Group::new(self.firewall.clone(), client(PATIENCE));
    }

    pub fn now(&self) -> Micros {
        Micros(self.clock.load(Ordering::SeqCst))
    }

    pub fn advance(&self, seconds: i64) {
        self.clock.fetch_add(seconds * SECOND, Ordering::SeqCst);
    }

    pub fn impose(&mut self, action: Action, target: &str, seconds: i64) {
        let until = self.now().plus(Span::secs(seconds));
        let held = self.orders.entry((action, network(target).unwrap())).or_insert(until);
        *held = until.max(*held);
    }

    pub fn block(&mut self, target: &str, seconds: i64) {
        self.impose(Action::BlockAddress, target, seconds);
    }

    pub fn lift(&mut self, target: &str) {
        let net = network(target).unwrap();
        self.orders.retain(|(_, own), _| *own != net);
    }

    fn wanted(&self) -> Wanted {
        let mut desired = DesiredState::default();
        for ((action, net), until) in &self.orders {
            let order = serde_json::json!({
                "action": action, "target": Target::Network(*net), "until": until, "spared": [],
                "connectors": [connector(NAME)], "playbook": "p",
            });
            desired.admit(&serde_json::from_value::<Order>(order).unwrap());
        }
        Wanted { desired, world: self.world.clone() }
    }

    pub async fn enforce(&mut self) -> Result<Done, Failed> {
        let (wanted, clock) = (self.wanted(), self.clock.clone());
        self.group.enforce(NAME, &wanted, move || Micros(clock.load(Ordering::SeqCst))).await
    }

    /// Until nothing is left to be done; what came of the last look.
    pub async fn settle(&mut self) -> Done {
        for _ in 0..5 {
            let done = self.enforce().await.unwrap();
            if done.pause == QUIET {
                return done;
            }
            self.advance(10);
        }
        panic!("it finds something to do again and again: {:?}", self.doubles[0].lock().told)
    }

    pub fn device(&self) -> std::sync::MutexGuard<'_, Device> {
        self.doubles[0].lock()
    }

    /// What by the orders must be so for an address: until when it has the tag of an action.
    pub fn due(&self, action: Action, address: IpAddr) -> Option<Micros> {
        let spared = action != Action::Tag && self.world.never.nets.iter().any(|net| net.contains(&address));
        if self.world.kill_switch || spared {
            return None;
        }
        let now = self.now();
        let of = |((own, net), until): (&(Action, IpNet), &Micros)| {
            (*own == action && net.contains(&address) && *until > now).then_some(*until)
        };
        self.orders.iter().filter_map(of).max()
    }
}

fn client(patience: Duration) -> Client {
    Client::new(None::<&Path>, Reach::Private, patience).unwrap()
}

/// What was said to it since it was asked last.
fn told(device: &mut Device) -> Vec<String> {
    std::mem::take(&mut device.told)
}

#[tokio::test]
async fn what_is_blocked_is_tagged_and_what_is_over_is_not() {
    let mut bench = Bench::new(1).await;
    bench.block("203.0.113.7", 60);
    bench.block("2001:db8::7", 3_600);
    let done = bench.settle().await;
    assert_eq!((done.there.in_force, done.there.left_out.len()), (2, 0));
    assert_eq!(bench.device().asked.len(), 3, "it is read, told and read");
    assert_eq!(bench.device().holds(), [format!("2001:db8::7 {TAG}"), format!("203.0.113.7 {TAG}")]);
    // The tag ends by itself, also when we are away.
    bench.advance(60);
    assert_eq!(bench.device().holds(), [format!("2001:db8::7 {TAG}")]);
    // Taken back.
    bench.lift("2001:db8::7");
    bench.settle().await;
    assert!(bench.device().holds().is_empty());
    assert_eq!(bench.device().wrong, [""; 0]);
    let asked = &bench.device().asked;
    assert!(asked.contains(&"POST /api/?type=user-id&vsys=vsys1 HTTP/1.1".to_owned()), "{asked:?}");
}

#[tokio::test]
async fn a_spared_address_is_cut_out_of_what_is_live() {
    let mut bench = Bench::new(1).await;
    bench.block("203.0.113.0/29", 3_600);
    bench.settle().await;
    assert_eq!(bench.device().holds(), [format!("203.0.113.0/29 {TAG}")]);
    bench.world.never.nets.push("203.0.113.1/32".parse().unwrap());
    told(&mut bench.device());
    bench.settle().await;
    let mut device = bench.device();
    // It passes first, then the rest is blocked again.
    let told = told(&mut device);
    assert_eq!(told[0], format!("unregister 203.0.113.0/29 {TAG}"));
    assert_eq!(told.len(), 4);
    let net: IpNet = "203.0.113.0/29".parse().unwrap();
    for address in IpNet::hosts(&net).chain(["203.0.113.0".parse().unwrap()]) {
        let spared = address.to_string() == "203.0.113.1";
        assert_eq!(device.until(address, TAG).is_none(), spared, "{address}");
    }
}

#[tokio::test]
async fn a_later_end_is_told_by_taking_the_earlier_away_first() {
    for says in [Says::Left, Says::Given, Says::Nothing] {
        let mut bench = Bench::new(1).await;
        bench.device().says = says;
        bench.block("203.0.113.7", 600);
        bench.settle().await;
        told(&mut bench.device());
        bench.advance(100);
        bench.settle().await;
        assert_eq!(told(&mut bench.device()), [""; 0], "it is as it should be: {says:?}");
        bench.block("203.0.113.7", 3_600);
        let end = bench.now().plus(Span::secs(3_600));
        bench.settle().await;
        let entry = format!("203.0.113.7 {TAG}");
        assert_eq!(told(&mut bench.device()), [format!("unregister {entry}"), format!("register {entry}")]);
        let until = bench.device().until("203.0.113.7".parse().unwrap(), TAG).unwrap();
        assert!((end.0 - SECOND..=end.0).contains(&until), "{says:?}");
        // Ours is gone and what was given with it: one that says nothing gets it once more, the others not.
        bench.anew();
        bench.settle().await;
        assert_eq!(told(&mut bench.device()).is_empty(), says == Says::Left, "{says:?}");
        bench.advance(300);
        bench.settle().await;
        assert_eq!(told(&mut bench.device()), [""; 0], "{says:?}");
        assert_eq!(bench.device().wrong, [""; 0]);
    }
}

#[tokio::test]
async fn tags_and_addresses_of_others_stay_and_ours_that_nobody_ordered_go() {
    let mut bench = Bench::new(1).await;
    for n in 0..1_200 {
        bench.device().set(&format!("10.1.{}.{}", n / 256, n % 256), "vm.web", 0);
    }
    bench.device().capacity = 2_000;
    bench.firewall.capacity = 2_000;
    bench.anew();
    bench.device().set("203.0.113.7", "suspicious", 0);
    bench.device().set("203.0.113.7", "vedette-blocked", 0);
    // With our tag: for ever, a range, in another spelling, one that nobody ordered.
    bench.device().set("203.0.113.8", TAG, 0);
    bench.device().set("10.9.0.1-10.9.0.9", TAG, 600);
    bench.device().set("2001:DB8:0::9", TAG, 600);
    bench.device().set("198.51.100.1", "vedette-isolate", 600);
    bench.block("203.0.113.7", 600);
    bench.block("203.0.113.8", 600);
    bench.settle().await;
    let mut device = bench.device();
    let ours: Vec<String> = device.holds().into_iter().filter(|held| !held.ends_with("vm.web")).collect();
    assert_eq!(
        ours,
        [
            "203.0.113.7 suspicious",
            "203.0.113.7 vedette-block",
            "203.0.113.7 vedette-blocked",
            "203.0.113.8 vedette-block"
        ]
    );
    assert_eq!(device.holds().len(), 1_204);
    assert!(device.until("203.0.113.8".parse().unwrap(), TAG).unwrap() < i64::MAX);
    assert_eq!(device.wrong, [""; 0]);
}

#[tokio::test]
async fn what_is_there_with_an_end_that_nobody_knows_gets_the_right_one() {
    // It would stay for ever, and is to end so soon that the difference would not be looked at.
    let mut bench = Bench::new(1).await;
    bench.device().set("203.0.113.7", TAG, 0);
    bench.block("203.0.113.7", 4);
    bench.enforce().await.unwrap();
    assert!(bench.device().until("203.0.113.7".parse().unwrap(), TAG).unwrap() < i64::MAX);
    // It was not listed, and so not known to be there; then it is listed without its end.
    let mut bench = Bench::new(1).await;
    bench.device().says = Says::Nothing;
    bench.block("203.0.113.7", 600);
    bench.settle().await;
    bench.device().set("203.0.113.7", TAG, 0);
    bench.device().hides.push("203.0.113.7".to_owned());
    let done = bench.enforce().await.unwrap();
    assert_eq!((done.there.in_force, done.there.left_out.len()), (1, 0), "`already exists, ignore`");
    bench.device().hides.clear();
    bench.settle().await;
    assert!(bench.device().until("203.0.113.7".parse().unwrap(), TAG).unwrap() < i64::MAX);
    // The other of a pair has it for ever, which it does not say either.
    let mut bench = Bench::new(2).await;
    bench.doubles.iter().for_each(|double| double.lock().says = Says::Nothing);
    bench.block("203.0.113.7", 600);
    bench.settle().await;
    bench.doubles[1].lock().set("203.0.113.7", TAG, 0);
    (bench.doubles[0].lock().state, bench.doubles[1].lock().state) = (Some("passive"), Some("active"));
    bench.settle().await;
    assert!(bench.doubles[1].lock().until("203.0.113.7".parse().unwrap(), TAG).unwrap() < i64::MAX);
}

#[tokio::test]
async fn what_is_not_let_go_is_an_error_and_holds_up_nothing_else() {
    let mut bench = Bench::new(1).await;
    bench.block("203.0.113.7", 600);
    bench.settle().await;
    bench.lift("203.0.113.7");
    bench.block("203.0.113.8", 600);
    bench.device().keeps = true;
    let failed = bench.enforce().await.err().unwrap().to_string();
    assert_eq!(failed, "it does not let go of 203.0.113.7: failed to unregister");
    assert_eq!(bench.device().holds().len(), 2);
    bench.device().keeps = false;
    bench.settle().await;
    assert_eq!(bench.device().holds(), [format!("203.0.113.8 {TAG}")]);
}

#[tokio::test]
async fn a_mark_and_a_block_are_told_apart() {
    let mut bench = Bench::new(1).await;
    bench.impose(Action::Tag, "203.0.113.7", 600);
    bench.impose(Action::IsolateHost, "10.30.4.9", 600);
    bench.block("203.0.113.8", 600);
    // Nothing hinders what is spared; a mark hinders nobody.
    bench.world.never.nets.push("203.0.113.7/32".parse().unwrap());
    bench.settle().await;
    assert_eq!(
        bench.device().holds(),
        ["10.30.4.9 vedette-isolate", "203.0.113.7 vedette-tag", "203.0.113.8 vedette-block"]
    );
}

#[tokio::test]
async fn what_there_is_no_room_for_is_said_and_what_lasts_longest_stays() {
    let mut bench = Bench::new(1).await;
    bench.device().set("10.0.0.1", "vm.web", 0);
    bench.device().set("203.0.113.5", "suspicious", 0);
    bench.firewall.capacity = 4;
    bench.anew();
    for n in 1..=5 {
        bench.block(&format!("203.0.113.{n}"), 600 + n);
    }
    bench.block("2001:db8:7::/64", 600);
    let done = bench.settle().await;
    // Two more fit beside those of others; the fifth has its place already.
    assert_eq!(done.there.in_force, 3);
    let why: Vec<String> =
        done.there.left_out.iter().map(|((_, target), why)| format!("{target}: {why}")).collect();
    assert_eq!(
        why,
        [
            "203.0.113.1: there is no room for it",
            "203.0.113.2: there is no room for it",
            "2001:db8:7::/64: a dynamic address group takes single addresses of IPv6 only",
        ]
    );
    let held = |n: i32| format!("203.0.113.{n} {TAG}");
    let holds = bench.device().holds();
    assert_eq!([1, 2, 3, 4, 5].map(|n| holds.contains(&held(n))), [false, false, true, true, true]);
    // Room comes free: those that wait longest move up.
    bench.device().registered.remove("10.0.0.1");
    let done = bench.settle().await;
    assert_eq!((done.there.in_force, done.there.left_out.len()), (4, 2));
}

#[tokio::test]
async fn a_device_that_is_full_before_it_should_be_says_so_for_each_and_keeps_the_rest() {
    let mut bench = Bench::new(1).await;
    bench.device().capacity = 2;
    for n in 1..=3 {
        bench.block(&format!("203.0.113.{n}"), 600 + n);
    }
    let done = bench.settle().await;
    assert_eq!(done.there.in_force, 2);
    let left: Vec<&LeftOut> = done.there.left_out.values().collect();
    assert_eq!(left, [&LeftOut::Refused("Failed to register, maximum number of entries reached".into())]);
    bench.device().capacity = 3;
    let done = bench.settle().await;
    assert_eq!((done.there.in_force, done.there.left_out.len()), (3, 0));
}

#[tokio::test]
async fn a_wrong_key_is_told_and_never_shown() {
    let mut bench = Bench::new(1).await;
    bench.device().key = "another";
    bench.block("203.0.113.7", 600);
    let failed = bench.enforce().await.err().unwrap();
    assert!(matches!(failed, Failed::Refused(_)), "{failed:?}");
    assert!(failed.to_string().starts_with("it refuses the API key (Invalid Credential): give one"));
    assert!(!format!("{failed:?} {:?}", bench.firewall).contains(KEY));
    bench.device().key = KEY;
    bench.settle().await;
    assert_eq!(bench.device().holds().len(), 1);
}

#[tokio::test]
async fn whatever_fails_is_made_good_by_the_next_look() {
    let all = [Fault::Closes, Fault::ClosesAfter, Fault::Slow, Fault::Busy, Fault::Internal, Fault::Half];
    for fault in all {
        let mut bench = Bench::new(1).await;
        bench.block("203.0.113.7", 600);
        bench.settle().await;
        // While it is read, and while it is told: the first message unregisters, the second registers.
        for at in 0..3 {
            bench.block("203.0.113.7", 700 + at);
            bench.advance(10);
            bench.device().faults = (0..at).map(|_| None).chain([Some(fault)]).collect();
            let failed = bench.enforce().await;
            assert!(matches!(failed, Err(Failed::Passing(_))), "{fault:?} at {at}");
            bench.settle().await;
            assert_eq!(bench.device().holds(), [format!("203.0.113.7 {TAG}")], "{fault:?} at {at}");
            assert_eq!(bench.device().wrong, [""; 0]);
        }
    }
}

#[tokio::test]
async fn one_that_was_restarted_gets_all_again() {
    let mut bench = Bench::new(1).await;
    for n in 1..=9 {
        bench.block(&format!("203.0.113.{n}"), 600 + n);
    }
    bench.settle().await;
    let before = bench.device().holds();
    bench.device().restart();
    assert!(bench.device().holds().is_empty());
    bench.settle().await;
    assert_eq!(bench.device().holds(), before);
}

#[tokio::test]
async fn of_a_pair_the_active_one_is_told() {
    let mut bench = Bench::new(2).await;
    bench.block("203.0.113.7", 600);
    bench.settle().await;
    assert_eq!(bench.doubles[1].lock().holds(), [""; 0]);
    // They change places, and what was registered was not taken along.
    (bench.doubles[0].lock().state, bench.doubles[1].lock().state) = (Some("passive"), Some("active"));
    bench.settle().await;
    assert_eq!(bench.doubles[1].lock().holds(), [format!("203.0.113.7 {TAG}")]);
    // The first is away altogether, and so is the second then.
    bench.doubles[0].lock().faults = [Some(Fault::Closes); 64].into();
    bench.block("203.0.113.8", 600);
    bench.settle().await;
    assert_eq!(bench.doubles[1].lock().holds().len(), 2);
    bench.doubles[1].lock().state = Some("suspended");
    let failed = bench.enforce().await.err().unwrap().to_string();
    assert!(
        failed.starts_with("neither of the pair is active; ") && failed.contains("it is suspended"),
        "{failed}"
    );
    bench.doubles[0].lock().faults.clear();
    bench.doubles[0].lock().state = Some("active");
    bench.settle().await;
    for double in &bench.doubles {
        assert_eq!(double.lock().holds().len(), 2);
        assert_eq!(double.lock().wrong, [""; 0]);
    }
}

#[tokio::test]
async fn a_firewall_behind_a_panorama_is_named_in_each_request() {
    let mut bench = Bench::new(1).await;
    bench.firewall.target = Some("0123456789".into());
    bench.firewall.vsys = Some("vsys 2".into());
    bench.anew();
    bench.block("203.0.113.7", 600);
    bench.settle().await;
    let asked = bench.device().asked.clone();
    assert_eq!(
        asked[..2],
        [
            "POST /api/?type=op&vsys=vsys+2&target=0123456789 HTTP/1.1",
            "POST /api/?type=user-id&vsys=vsys+2&target=0123456789 HTTP/1.1"
        ]
    );
}

#[tokio::test]
async fn as_few_messages_as_fit_and_pages_as_many_as_there_are() {
    let mut bench = Bench::new(1).await;
    bench.firewall.capacity = 100_000;
    // A double in a build for tests takes its time over so many.
    bench.group = Group::new(bench.firewall.clone(), client(crate::dag::PATIENCE));
    bench.device().capacity = 100_000;
    let count = 40_000;
    for n in 0..count {
        bench.block(&format!("198.18.{}.{}", n / 256, n % 256), 3_600);
    }
    let done = bench.settle().await;
    assert_eq!(done.there.in_force, count);
    let device = bench.device();
    assert_eq!(device.wrong, [""; 0]);
    let messages = device.asked.iter().filter(|asked| asked.contains("type=user-id")).count();
    assert_eq!(messages, 2, "some 150 bytes each");
    assert_eq!(device.asked.len(), 1 + 2 + count / 500 + 1);
}

#[tokio::test]
async fn the_kill_switch_takes_all_of_ours_away() {
    let mut bench = Bench::new(1).await;
    bench.device().set("10.0.0.1", "vm.web", 0);
    bench.block("203.0.113.0/24", 600);
    bench.impose(Action::Tag, "203.0.113.7", 600);
    bench.settle().await;
    bench.world.kill_switch = true;
    bench.settle().await;
    assert_eq!(bench.device().holds(), ["10.0.0.1 vm.web"]);
}

/// Waits until it holds.
async fn until(holds: impl Fn() -> bool, said: impl Fn() -> String) {
    for _ in 0..500 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{}", said());
}

/// The connector as it is configured.
fn connected(double: &Double) -> ConnectorSettings {
    let firewall = Firewall {
        hosts: vec![double.url().into()],
        key: Secret::new(KEY),
        tag: "vedette".into(),
        vsys: None,
        target: None,
        capacity: 2,
    };
    let means = Means::Dag { firewall, private: true, authorities: None };
    ConnectorSettings { connector: connector(NAME), means }
}

/// All of it: an alert, an approval, the courier, the firewall.
#[tokio::test]
async fn an_approved_block_is_on_the_firewall_and_gone_once_it_is_taken_back() {
    let clock = Arc::new(AtomicI64::new(now().0));
    let double = Double::new(&clock).await;
    double.lock().set("10.0.0.1", "vm.web", 0);
    let settings = connected(&double);
    let blocks = playbook("block", Mode::Automatic, vec![block(&[NAME])]);
    let mut world = World::new(vec![blocks], vec![settings.clone()]).await;
    let courier = crate::Courier::new(world.response.clone(), settings, world.responder.wanted(), now);
    let running = tokio::spawn(courier.unwrap().unwrap().run(std::future::pending()));
    for (id, address) in [("a", "203.0.113.9"), ("b", "203.0.113.10")] {
        world.alert(id, 1, address).await;
        world.turns().await;
        let row = waiting(&world.store).await.remove(0);
        world.response.approve(row.id, ("ann", now())).await.unwrap();
        world.turns().await;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let holds = async |wanted: &[&str]| {
        until(|| double.lock().holds() == wanted, || format!("{:?}", double.lock().holds())).await;
    };
    // The second lasts longer, and there is room for one.
    holds(&["10.0.0.1 vm.web", "203.0.113.10 vedette-block"]).await;
    let rows = world.actions().await;
    let left_out = || world.response.left_out(&rows[0]).len() + world.response.left_out(&rows[1]).len();
    until(|| left_out() == 1, || format!("{:?}", world.response.connectors().read())).await;
    assert_eq!(world.response.left_out(&rows[0]), [(NAME.into(), "there is no room for it".to_owned())]);
    // The next look fails, and is made good though nothing changes.
    double.lock().faults = [Some(Fault::Busy)].into();
    world.response.revert(rows[1].id, None, "ann").await.unwrap();
    world.turns().await;
    holds(&["10.0.0.1 vm.web", "203.0.113.9 vedette-block"]).await;
    let health = world.response.connectors().read()[NAME].clone();
    assert_eq!((health.in_a_row, health.failed), (0, 1));
    running.abort();
}

#[tokio::test]
async fn a_connector_whose_key_is_refused_is_told_of_and_left_alone_for_a_while() {
    let clock = Arc::new(AtomicI64::new(now().0));
    let double = Double::new(&clock).await;
    double.lock().key = "another";
    let settings = connected(&double);
    let blocks = playbook("block", Mode::Automatic, vec![block(&[NAME])]);
    let mut world = World::new(vec![blocks], vec![settings.clone()]).await;
    let courier = crate::Courier::new(world.response.clone(), settings, world.responder.wanted(), now);
    let running = tokio::spawn(courier.unwrap().unwrap().run(std::future::pending()));
    let health = world.response.connectors().clone();
    for n in 0..5 {
        world.alert(&format!("a{n}"), 1, &format!("203.0.113.{n}")).await;
        world.turns().await;
        let row = waiting(&world.store).await.remove(0);
        world.response.approve(row.id, ("ann", now())).await.unwrap();
        world.turns().await;
        // Three tries; then what changes waits until it has rested.
        for _ in 0..if n < 3 { 500 } else { 30 } {
            if health.read().get(NAME).is_some_and(|health| health.in_a_row > n) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    let health = health.read()[NAME].clone();
    assert_eq!((health.in_a_row, double.lock().asked.len()), (3, 3));
    assert!(health.rests_until.is_some_and(|until| until > now()));
    let failure = health.failure.unwrap();
    assert!(failure.contains("it refuses the API key") && !failure.contains(KEY), "{failure}");
    running.abort();
}
