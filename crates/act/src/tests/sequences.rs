//! Any sequence of alerts, approvals, rejections, the passing of time, kill switches, changes of the never-block set and crashes, told
//! without looking at how it is decided: nothing spared is in force, nothing stands beyond its limit, nothing acts without the approvals
//! that it needs.

use std::collections::BTreeSet;

use ipnet::IpNet;
use proptest::prelude::*;
use vedette_respond::Prefix;
use vedette_store::model::ActionState;

use super::*;
use crate::Spared;

#[derive(Debug, Clone)]
enum Event {
    Alert(u8),
    Approve(usize, u8),
    Reject(usize),
    Revert(usize),
    Wait(i64),
    Spare(Option<(u8, u8)>),
    Kill(bool),
    Crash,
}

fn events() -> impl Strategy<Value = Event> {
    prop_oneof![
        5 => (0_u8..8).prop_map(Event::Alert),
        6 => (0_usize..8, 0_u8..3).prop_map(|(at, who)| Event::Approve(at, who)),
        1 => (0_usize..8).prop_map(Event::Reject),
        1 => (0_usize..8).prop_map(Event::Revert),
        3 => (1_i64..90).prop_map(Event::Wait),
        2 => prop::option::of((0_u8..8, 25_u8..=32)).prop_map(Event::Spare),
        1 => any::<bool>().prop_map(Event::Kill),
        2 => Just(Event::Crash),
    ]
}

/// One playbook that blocks an address and one that blocks its network, for which two people are needed.
async fn world() -> World {
    let wide =
        Step { name: "wide".into(), prefix: Some(Prefix { ipv4: 22, ipv6: 48 }), ..block(&["crowdsec"]) };
    let books = vec![
        playbook("one", Mode::Automatic, vec![block(&["crowdsec"])]),
        playbook("two", Mode::Automatic, vec![wide]),
    ];
    World::new(books, vec![fetched("crowdsec")]).await
}

fn address(n: u8) -> String {
    format!("203.0.{}.{}", 112 + n % 4, n * 17)
}

struct Run {
    world: World,
    clock: Micros,
    alerts: u32,
    spared: Vec<IpNet>,
    killed: bool,
}

impl Run {
    async fn apply(&mut self, event: Event) {
        let rows = self.world.actions().await;
        let of = |at: usize| rows.get(at % rows.len().max(1)).map(|row| row.id);
        let response = self.world.response.clone();
        match event {
            Event::Alert(n) => {
                self.alerts += 1;
                self.world.alert(&format!("a{}", self.alerts), 1, &address(n)).await;
            }
            // What is not at that point is refused, which is what this is about.
            Event::Approve(at, who) => {
                if let Some(id) = of(at) {
                    let _ = response.approve(id, (["ann", "bob", "cyd"][usize::from(who)], self.clock)).await;
                }
            }
            Event::Reject(at) => {
                if let Some(id) = of(at) {
                    let _ = response.reject(id, None, "ann").await;
                }
            }
            Event::Revert(at) => {
                if let Some(id) = of(at) {
                    let _ = response.revert(id, None, "ann").await;
                }
            }
            Event::Wait(minutes) => self.clock = Micros(self.clock.0 + minutes * 60 * SECOND),
            Event::Spare(net) => {
                let net = net.map(|(n, bits)| IpNet::new(address(n).parse().unwrap(), bits).unwrap().trunc());
                self.spared = net.into_iter().collect();
                let set = self.spared.iter().map(|net| Spared {
                    network: Some(net.to_string()),
                    field: None,
                    value: None,
                    note: String::new(),
                });
                let version = response.guards().await.unwrap().version;
                response.set_never_block(&set.collect::<Vec<_>>(), version, "ann").await.unwrap();
            }
            Event::Kill(on) => {
                response.throw_kill_switch(on, "ann").await.unwrap();
                self.killed = on;
            }
            Event::Crash => self.world.restart(),
        }
    }

    async fn check(&mut self) {
        self.world.turns_at(self.clock).await;
        let wanted = self.world.responder.wanted().borrow().clone().unwrap();
        let (in_force, _) = wanted.desired.in_force("crowdsec", &wanted.world, self.clock);
        let rows = self.world.actions().await;
        for of in &in_force {
            let net = of.target.network().unwrap();
            assert!(!self.killed);
            assert!(
                self.spared.iter().all(|own| !own.contains(&net) && !net.contains(own)),
                "{net} is spared"
            );
            let left = of.until.since(self.clock);
            assert!(left > Span::ZERO && left <= Span(2 * HOUR), "{left}");
            let of_row = |row: &&ActionRow| {
                let target: IpNet = row.target.as_ref().unwrap().parse().unwrap_or_else(|_| {
                    IpNet::from(row.target.as_ref().unwrap().parse::<std::net::IpAddr>().unwrap())
                });
                row.state == ActionState::Live && target.contains(&net)
            };
            let row = rows.iter().find(of_row).expect("something in force is of a live action");
            let people: BTreeSet<&String> = row.approvals.iter().collect();
            let needed = if row.playbook == "two" { 2 } else { 1 };
            assert!(people.len() >= needed, "{row:?}");
        }
        for row in rows.iter().filter(|row| row.state == ActionState::Live) {
            assert!(row.until.unwrap() > self.clock);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn no_sequence_acts_where_it_must_not(events in prop::collection::vec(events(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut run = Run { world: world().await, clock: now(), alerts: 0, spared: vec![], killed: false };
            for event in events {
                run.apply(event).await;
                run.check().await;
            }
        });
    }
}
