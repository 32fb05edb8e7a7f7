//! Who is connected: a bounded table of connections, what each of them waits for and since when.
//!
//! In: a peer's address at its accept, whose turn it is in the meantime. Out: a [`Slot`], and word to the connection
//! that has to make room. Invariants: the table never holds more than its bounds; nobody is turned away without an
//! answer: when all places are taken, the connection that has waited longest for its own peer is closed, and where
//! nobody waits for a peer (all are being answered, or follow the stream), a reserve of short-lived places answers
//! probes and tells all others when to come again; a peer over its own bound costs only itself.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use axum::http::{Extensions, HeaderMap};
use tokio::sync::Notify;

use crate::bind::is_loopback;

/// Mark of a request that came over a place of the reserve: only probes are answered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reserve;

/// Who is at the other end of the connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Visiting(pub IpAddr);

/// Who asks: what the connection says, or where a proxy is in front, the last address that it wrote down, since all before that
/// may be the asker's own words.
pub(crate) fn client(extensions: &Extensions, headers: &HeaderMap, proxied: bool) -> IpAddr {
    let peer = extensions.get::<Visiting>().map_or(Ipv4Addr::UNSPECIFIED.into(), |peer| peer.0);
    let forwarded = headers.get_all("x-forwarded-for").iter().next_back().filter(|_| proxied);
    let forwarded = forwarded.and_then(|value| value.to_str().ok()?.rsplit(',').next()?.trim().parse().ok());
    let address: IpAddr = forwarded.unwrap_or(peer);
    address.to_canonical()
}

/// How many connections there may be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Places {
    /// Connections that are served in full. 768 have room for all streams and for 256 others.
    pub connections: usize,
    /// Of those, how many one peer may hold. 64 are ten browsers, and twelve such peers are needed to fill the table.
    pub per_peer: usize,
    /// Places for probes when all others are taken. They live for seconds, so that a few are enough.
    pub reserve: usize,
    /// A connection that waits for its peer for less is left alone, so that a burst of honest peers does not end one
    /// another: the first bytes of most are there within 100 ms. It takes 7,000 connects a second to fill the table in that time.
    pub patience: Duration,
}

impl Places {
    pub(crate) const USUAL: Self =
        Self { connections: 768, per_peer: 64, reserve: 64, patience: Duration::from_millis(100) };
}

/// For whom connections are counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Peer {
    /// An IPv4 address, or the /64 that one IPv6 subscriber has all addresses of.
    Net(IpAddr),
    /// Loopback, or whoever connects where a proxy stands in front: one address carries everybody, so that a bound for
    /// it would let one client behind the proxy lock out all others. There only the table's own bound holds.
    Shared,
}

impl Peer {
    fn of(ip: IpAddr, proxied: bool) -> Self {
        if proxied || is_loopback(ip) {
            return Self::Shared;
        }
        Self::Net(match ip.to_canonical() {
            IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64)),
            v4 => v4,
        })
    }
}

/// Whose turn it is.
#[derive(Debug, Clone, Copy)]
enum Turn {
    /// The peer's since then: a handshake, the head of a request.
    Peer(Instant),
    /// Ours: a request is being answered.
    Ours,
    /// Nobody's: an event stream waits for events.
    Stream,
}

/// How far a connection has come; written by itself, read when a place is needed.
#[derive(Debug)]
pub(crate) struct Progress {
    state: Mutex<State>,
    cut: Notify,
}

#[derive(Debug, Clone, Copy)]
struct State {
    turn: Turn,
    /// Since when the peer has taken no byte of what waits for it.
    unread: Option<Instant>,
}

impl Progress {
    fn new(now: Instant) -> Self {
        Self { state: Mutex::new(State { turn: Turn::Peer(now), unread: None }), cut: Notify::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A whole head is there.
    pub(crate) fn asked(&self) {
        self.state().turn = Turn::Ours;
    }

    /// The answer is an event stream.
    pub(crate) fn streams(&self) {
        self.state().turn = Turn::Stream;
    }

    /// The answer has been handed over as a whole.
    pub(crate) fn answered(&self) {
        self.state().turn = Turn::Peer(Instant::now());
    }

    /// The peer takes nothing, from now on.
    pub(crate) fn blocked(&self) {
        self.state().unread.get_or_insert_with(Instant::now);
    }

    /// The peer took something.
    pub(crate) fn took(&self) {
        self.state().unread = None;
    }

    /// True while an event stream is open.
    pub(crate) fn is_stream(&self) -> bool {
        matches!(self.state().turn, Turn::Stream)
    }

    /// Ready when the connection has to make room.
    pub(crate) async fn cut(&self) {
        self.cut.notified().await;
    }

    /// Since when it waits for its peer, if it does.
    fn waits_since(&self) -> Option<Instant> {
        let State { turn, unread } = *self.state();
        let waits = match turn {
            Turn::Peer(since) => Some(since),
            Turn::Ours | Turn::Stream => None,
        };
        [waits, unread].into_iter().flatten().min()
    }
}

#[derive(Debug)]
struct Accepted {
    peer: Peer,
    reserve: bool,
    since: Instant,
    progress: Arc<Progress>,
}

#[derive(Debug, Default)]
struct Table {
    next: u64,
    ordinary: usize,
    reserve: usize,
    /// How many had to make room.
    shed: u64,
    open: HashMap<u64, Accepted>,
}

impl Table {
    /// Of these, the one that has waited longest for its peer, at least as long as is patient.
    fn longest_waiting(&self, patient: Instant, among: impl Fn(&Accepted) -> bool) -> Option<u64> {
        let waiting = self.open.iter().filter(|(_, accepted)| !accepted.reserve && among(accepted));
        let waiting = waiting.filter_map(|(id, accepted)| Some((accepted.progress.waits_since()?, *id)));
        waiting.filter(|(since, _)| *since <= patient).min().map(|(_, id)| id)
    }

    fn insert(&mut self, accepted: Accepted) -> u64 {
        *self.of(accepted.reserve) += 1;
        let id = self.next;
        self.next += 1;
        self.open.insert(id, accepted);
        id
    }

    fn remove(&mut self, id: u64) -> Option<Accepted> {
        let accepted = self.open.remove(&id)?;
        *self.of(accepted.reserve) -= 1;
        Some(accepted)
    }

    /// Has a connection make room.
    fn shed(&mut self, id: u64) {
        if let Some(accepted) = self.remove(id) {
            self.shed += 1;
            accepted.progress.cut.notify_one();
        }
    }

    fn of(&mut self, reserve: bool) -> &mut usize {
        if reserve { &mut self.reserve } else { &mut self.ordinary }
    }
}

/// All connections. An accept walks the table at most twice, 832 entries, and only where places are short or a peer has
/// a bound of its own.
#[derive(Debug)]
pub(crate) struct Connections {
    places: Places,
    /// A proxy in front carries everybody's requests.
    proxied: bool,
    table: Mutex<Table>,
}

impl Connections {
    pub(crate) fn new(places: Places, proxied: bool) -> Self {
        Self { places, proxied, table: Mutex::default() }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a new connection. It always gets one; another connection may have to go for it.
    pub(crate) fn admit(self: &Arc<Self>, ip: IpAddr, now: Instant) -> Slot {
        let peer = Peer::of(ip, self.proxied);
        let places = self.places;
        let mut table = self.table();
        let own = |table: &Table| table.open.values().filter(|e| !e.reserve && e.peer == peer).count();
        let over = peer != Peer::Shared && own(&table) >= places.per_peer;
        let mut reserve = false;
        if over || table.ordinary >= places.connections {
            let patient = now.checked_sub(places.patience).unwrap_or(now);
            match table.longest_waiting(patient, |accepted| !over || accepted.peer == peer) {
                Some(id) => table.shed(id),
                None => reserve = true,
            }
        }
        if reserve && table.reserve >= places.reserve {
            let all = table.open.iter().filter(|(_, accepted)| accepted.reserve);
            if let Some(oldest) = all.min_by_key(|(id, accepted)| (accepted.since, **id)).map(|(id, _)| *id) {
                table.shed(oldest);
            }
        }
        let progress = Arc::new(Progress::new(now));
        let id = table.insert(Accepted { peer, reserve, since: now, progress: Arc::clone(&progress) });
        drop(table);
        Slot { connections: Arc::clone(self), id, reserve, progress }
    }

    /// True while places are scarce: then nobody keeps one from one request to the next. So those who ask on and on
    /// without reading get one answer for each connection that they make.
    pub(crate) fn scarce(&self) -> bool {
        self.table().ordinary * 4 >= self.places.connections * 3
    }

    /// Closes the connection that has waited longest for its peer; false if none waits.
    pub(crate) fn shed(&self, now: Instant) -> bool {
        let mut table = self.table();
        let longest = table.longest_waiting(now, |_| true);
        longest.inspect(|id| table.shed(*id)).is_some()
    }

    /// How many there are.
    pub(crate) fn open(&self) -> Open {
        let table = self.table();
        Open { ordinary: table.ordinary, reserve: table.reserve, shed: table.shed }
    }

    /// Closes all that are left.
    pub(crate) fn cut_all(&self) -> usize {
        let Table { open, .. } = std::mem::take(&mut *self.table());
        open.values().for_each(|entry| entry.progress.cut.notify_one());
        open.len()
    }
}

/// How many connections there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Open {
    /// Served in full.
    pub ordinary: usize,
    /// For probes, while all other places are taken.
    pub reserve: usize,
    /// Those that had to make room, since the start.
    pub shed: u64,
}

/// A connection's place; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    pub connections: Arc<Connections>,
    id: u64,
    /// One of the reserve: short-lived, for probes alone.
    pub reserve: bool,
    pub progress: Arc<Progress>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.connections.table().remove(self.id);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use futures::FutureExt as _;

    use super::*;

    const PLACES: Places =
        Places { connections: 4, per_peer: 2, reserve: 2, patience: Duration::from_millis(100) };
    const SECOND: Duration = Duration::from_secs(1);

    fn connections(proxied: bool) -> Arc<Connections> {
        Arc::new(Connections::new(PLACES, proxied))
    }

    fn is_cut(slot: &Slot) -> bool {
        slot.progress.cut().now_or_never().is_some()
    }

    /// Four connections of four peers, the first accepted four seconds ago, the last one second ago.
    fn full(connections: &Arc<Connections>, now: Instant) -> Vec<Slot> {
        let ip = |n: u32| format!("192.0.2.{n}").parse().unwrap();
        (1..=4).map(|n| connections.admit(ip(n), now - (5 - n) * SECOND)).collect()
    }

    #[test]
    fn who_waits_longest_for_its_peer_makes_room() {
        let (all, now) = (connections(false), Instant::now());
        let open = full(&all, now);
        // The first is being answered and the second follows the stream; only the peers of the others keep us waiting.
        open[0].progress.asked();
        open[1].progress.streams();
        let new = all.admit("198.51.100.1".parse().unwrap(), now);
        assert!(!new.reserve);
        assert_eq!(open.iter().map(is_cut).collect::<Vec<_>>(), [false, false, true, false]);
    }

    #[test]
    fn a_peer_that_reads_nothing_waits_whatever_it_asked_for() {
        let (all, now) = (connections(false), Instant::now());
        let open = full(&all, now);
        open.iter().for_each(|slot| slot.progress.asked());
        open[1].progress.streams();
        open[1].progress.blocked();
        let new = all.admit("198.51.100.1".parse().unwrap(), now + SECOND);
        assert!(!new.reserve);
        assert_eq!(open.iter().map(is_cut).collect::<Vec<_>>(), [false, true, false, false]);
        // One that reads again is safe.
        open[2].progress.blocked();
        open[2].progress.took();
        new.progress.asked();
        assert!(all.admit("198.51.100.2".parse().unwrap(), now + SECOND).reserve);
    }

    #[test]
    fn where_nobody_waits_the_reserve_answers_and_its_oldest_goes() {
        let (all, now) = (connections(false), Instant::now());
        let open = full(&all, now);
        open.iter().for_each(|slot| slot.progress.asked());
        let spare: Vec<_> =
            (1..=3).map(|n| all.admit(format!("198.51.100.{n}").parse().unwrap(), now)).collect();
        assert!(spare.iter().all(|slot| slot.reserve));
        assert_eq!(spare.iter().map(is_cut).collect::<Vec<_>>(), [true, false, false]);
        assert!(!open.iter().any(is_cut));
        // A place that was given back is an ordinary one again.
        drop(open);
        assert!(!all.admit("198.51.100.9".parse().unwrap(), now).reserve);
    }

    #[test]
    fn a_burst_does_not_end_itself() {
        let (all, now) = (connections(false), Instant::now());
        let ip = |n: u32| format!("192.0.2.{n}").parse().unwrap();
        let burst: Vec<_> = (1..=5).map(|n| all.admit(ip(n), now)).collect();
        assert_eq!(
            burst.iter().map(|slot| slot.reserve).collect::<Vec<_>>(),
            [false, false, false, false, true]
        );
        assert!(!burst.iter().any(is_cut));
    }

    #[test]
    fn a_peer_over_its_bound_costs_only_itself() {
        let (all, now) = (connections(false), Instant::now());
        let [other, first, second] = ["192.0.2.1", "2001:db8:1:2::1", "2001:db8:1:2:ffff::2"]
            .map(|ip| all.admit(ip.parse().unwrap(), now - SECOND));
        let third = all.admit("2001:db8:1:2::3".parse().unwrap(), now);
        assert!(!third.reserve && is_cut(&first) && !is_cut(&second) && !is_cut(&other));
        [&second, &third].iter().for_each(|slot| slot.progress.asked());
        assert!(all.admit("2001:db8:1:2::4".parse().unwrap(), now).reserve);
        assert!(!is_cut(&other));
        // The next /64 is another peer.
        assert!(!all.admit("2001:db8:1:3::4".parse().unwrap(), now).reserve);
    }

    #[test]
    fn loopback_and_whoever_comes_through_a_proxy_share_the_whole_table() {
        for (proxied, ip) in
            [(false, "127.0.0.1"), (false, "::1"), (false, "::ffff:127.0.0.9"), (true, "192.0.2.1")]
        {
            let (all, now) = (connections(proxied), Instant::now());
            let open: Vec<_> = (0..4).map(|_| all.admit(ip.parse().unwrap(), now)).collect();
            assert!(!open.iter().any(|slot| slot.reserve), "{ip}");
        }
    }

    #[test]
    fn the_table_holds_what_is_open_and_no_more() {
        let (all, now) = (connections(true), Instant::now());
        let mut open = Vec::new();
        for n in 0..1_000 {
            let slot = all.admit("192.0.2.1".parse().unwrap(), now + n * SECOND);
            if n % 2 == 0 {
                slot.progress.asked();
            }
            open.push(slot);
            assert!(all.table().open.len() <= PLACES.connections + PLACES.reserve);
        }
        assert_eq!(
            (all.open().ordinary, all.open().shed > 400),
            (PLACES.connections, true),
            "{:?}",
            all.open()
        );
        drop(open);
        assert!(all.table().open.is_empty());
    }
}
