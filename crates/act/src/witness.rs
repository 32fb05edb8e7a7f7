//! The closed loop: what the enforcement points' own logs say of what is in force.
//!
//! In: events as they are read, what is to be in force. Out: of each address that a countermeasure is against, whether it was denied since, and
//! whether that hit somebody legitimate. Invariants: a deny counts only from the time on at which the countermeasure was ordered; a person counts
//! as hit only if they had come in from that address *before* it was ordered, so that an attacker cannot lift a block by putting a name into
//! a request; everything has a bound, and what falls out of it makes fewer effects known, never more.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::Arc,
};

use ipnet::IpNet;
use tokio::sync::watch;
use vedette_event::{EventBatch, Micros, Span};
use vedette_respond::gate::Users;
use vedette_store::model::{ActionChange, ActionRow, ActionState, Effectiveness};

use crate::{
    responder::Wanted,
    response::{ActError, Response},
};

/// The fields that it looks at.
pub const WITNESSED: [&str; 6] =
    ["client.ip", "source.ip", "event.action", "event.outcome", "http.response.status_code", "user.id"];
/// How long somebody who came in counts as being there.
const STAYS: Span = Span::secs(86_400);
/// Addresses with somebody behind them that are remembered; of each the newest few.
const MAX_ADDRESSES: usize = 100_000;
const MAX_USERS: usize = 4;
/// Users that are remembered.
const MAX_ACTIVE: usize = 500_000;
/// How far ahead of the clock an event may be.
const AHEAD: Span = Span::secs(300);
/// How often the gate is told who is there; what it knows counts for a quarter of an hour.
const TELL: Span = Span::secs(60);
/// What `event.action` says of a connection or a request that was not let through.
const DENIED: [&str; 8] =
    ["deny", "drop", "block", "blocked", "reset-client", "reset-server", "reset-both", "captcha"];
/// Who acts when nobody does.
const SYSTEM: &str = "vedette";

/// What was seen of a countermeasure since it was ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    at: Micros,
    wrong: bool,
}

/// A countermeasure against an address or a network, as the store has it.
#[derive(Debug, Clone, Copy)]
struct Watched {
    action: i64,
    net: IpNet,
    acted_at: Micros,
    effect: Option<Effectiveness>,
}

/// Looks at events.
pub struct Witness {
    response: Response,
    wanted: watch::Receiver<Option<Arc<Wanted>>>,
    watched: Vec<Watched>,
    /// Places in `watched` by single addresses; the others are walked.
    singles: HashMap<IpAddr, Vec<usize>>,
    wide: Vec<usize>,
    /// Who came in from where, and when last: a hash of each name.
    people: HashMap<IpAddr, Vec<(u64, Micros)>>,
    /// When each was active last.
    active: HashMap<u64, Micros>,
    /// From this time on, by our clock and not by what events claim, every event was looked at and everybody remembered.
    whole: Option<Micros>,
    /// What the clock said last.
    now: Micros,
    /// When it was last told who is there.
    told_at: Micros,
    seen: BTreeMap<i64, Seen>,
}

/// What an event says.
struct Event<'a> {
    address: IpAddr,
    denied: bool,
    came_in: bool,
    user: Option<&'a str>,
    at: Option<Micros>,
}

impl Witness {
    /// One that has seen nothing yet.
    #[must_use]
    pub fn new(response: Response, wanted: watch::Receiver<Option<Arc<Wanted>>>) -> Self {
        Self {
            response,
            wanted,
            watched: Vec::new(),
            singles: HashMap::new(),
            wide: Vec::new(),
            people: HashMap::new(),
            active: HashMap::new(),
            whole: None,
            now: Micros(0),
            told_at: Micros(0),
            seen: BTreeMap::new(),
        }
    }

    /// Some events were not looked at: what is known of people begins anew.
    pub fn missed(&mut self) {
        self.whole = None;
    }

    /// Looks at some events.
    pub fn look(&mut self, batch: &EventBatch) {
        let places = WITNESSED.map(|name| batch.projection().fields().iter().position(|own| **own == *name));
        for row in 0..batch.rows() {
            let text = |at: usize| {
                let text =
                    places[at].and_then(|at| batch.columns().get(at)).map(|column| column.cell(row).text);
                text.filter(|text| !text.is_empty())
            };
            let Some(address) = text(0).or_else(|| text(1)).and_then(|text| text.parse::<IpAddr>().ok())
            else {
                continue;
            };
            let action = text(2).unwrap_or_default();
            let status = text(4).unwrap_or_default();
            let denied = DENIED.iter().any(|word| action.eq_ignore_ascii_case(word))
                || matches!(status, "403" | "429");
            let came_in = !denied && text(3).is_some_and(|outcome| outcome.eq_ignore_ascii_case("success"));
            let event = Event {
                address: address.to_canonical(),
                denied,
                came_in,
                user: text(5),
                at: batch.claimed(row),
            };
            self.weigh(&event);
        }
    }

    fn weigh(&mut self, event: &Event<'_>) {
        let Some(at) = event.at else { return };
        let user = event.user.map(hash);
        // A time ahead of the clock would keep somebody there who is not, or push others out.
        if let (true, Some(user), true) = (event.came_in, user, at <= self.now.plus(AHEAD)) {
            self.remember(event.address, user, at);
        }
        if !event.denied || self.watched.is_empty() {
            return;
        }
        let singles = self.singles.get(&event.address).into_iter().flatten();
        for place in singles.chain(&self.wide) {
            let watched = self.watched[*place];
            if !watched.net.contains(&event.address) || at < watched.acted_at {
                continue;
            }
            let known = self.people.get(&event.address).into_iter().flatten();
            let mut known =
                known.filter(|(_, last)| *last < watched.acted_at && watched.acted_at.since(*last) <= STAYS);
            let wrong = user.is_some_and(|user| known.any(|(own, _)| *own == user));
            let seen = self.seen.entry(watched.action).or_insert(Seen { at, wrong });
            seen.wrong |= wrong;
        }
    }

    fn remember(&mut self, address: IpAddr, user: u64, at: Micros) {
        let limit = at.minus(STAYS);
        if self.active.len() >= MAX_ACTIVE && !self.active.contains_key(&user) {
            self.active.retain(|_, last| *last > limit);
        }
        if self.people.len() >= MAX_ADDRESSES && !self.people.contains_key(&address) {
            self.people.retain(|_, users| users.iter().any(|(_, last)| *last > limit));
        }
        if self.active.len() >= MAX_ACTIVE || self.people.len() >= MAX_ADDRESSES {
            // Who is not remembered would be missing from a count that has to be whole.
            self.missed();
            return;
        }
        self.active.insert(user, at);
        let users = self.people.entry(address).or_default();
        users.retain(|(own, _)| *own != user);
        users.push((user, at));
        if users.len() > MAX_USERS {
            users.remove(0);
        }
    }

    /// Who was active and behind which address within the last day, once it has looked for so long at everything.
    fn users(&self, now: Micros) -> Option<Users> {
        // Where nobody comes in, no log that names people is read: that is not a world without people.
        if now.since(self.whole?) < STAYS || self.active.is_empty() {
            return None;
        }
        let limit = now.minus(STAYS);
        let behind = self.people.iter().map(|(address, users)| {
            (*address, users.iter().filter(|(_, last)| *last > limit).count() as u64)
        });
        let active = self.active.values().filter(|last| **last > limit).count() as u64;
        Some(Users { as_of: now, active, behind: behind.filter(|(_, users)| *users > 0).collect() })
    }

    /// Tells the gate who is there, now and then.
    fn tell(&mut self, now: Micros) {
        if now.since(self.told_at) >= TELL {
            self.told_at = now;
            self.response.know(self.users(now));
        }
    }

    /// Writes down what was seen, takes back what hit somebody legitimate, and looks at what is in force now.
    ///
    /// # Errors
    /// If the store fails; what was seen is written at the next call.
    pub async fn note(&mut self, now: Micros) -> Result<(), ActError> {
        self.now = now;
        self.whole.get_or_insert(now);
        self.tell(now);
        let store = self.response.store().clone();
        for (id, seen) in std::mem::take(&mut self.seen) {
            let Some(row) = store.action(id).await? else { continue };
            if let Err(error) = note_one(&store, &row, seen).await {
                self.seen.insert(id, seen);
                return Err(error);
            }
        }
        // Of what is in force, by the rows, which know when each was ordered.
        if self.wanted.has_changed().unwrap_or(false) {
            self.follow().await?;
            self.wanted.mark_unchanged();
        }
        Ok(())
    }

    async fn follow(&mut self) -> Result<(), ActError> {
        let mirror = self.response.mirror().await?;
        let watched = mirror.open.values().filter_map(|held| {
            let (order, acted_at) = (held.order.as_ref()?, held.row.acted_at?);
            let net = order.target().network()?;
            Some(Watched { action: held.row.id, net, acted_at, effect: held.row.effect })
        });
        // What is known to work needs no further look but for whom it hits.
        self.watched = watched.filter(|of| of.effect != Some(Effectiveness::Wrong)).collect();
        (self.singles, self.wide) = (HashMap::new(), Vec::new());
        for (place, watched) in self.watched.iter().enumerate() {
            match watched.net.prefix_len() == watched.net.max_prefix_len() {
                true => self.singles.entry(watched.net.addr()).or_default().push(place),
                false => self.wide.push(place),
            }
        }
        Ok(())
    }
}

/// Writes down what was seen of one action.
async fn note_one(store: &vedette_store::Store, row: &ActionRow, seen: Seen) -> Result<(), ActError> {
    let effect = if seen.wrong { Effectiveness::Wrong } else { Effectiveness::Effective };
    if row.state != ActionState::Live || row.effect == Some(effect) {
        return Ok(());
    }
    let mut change =
        ActionChange { effect: Some(effect), effect_at: Some(seen.at), ..ActionChange::default() };
    let step = match seen.wrong {
        true => {
            tracing::error!(
                action = row.id,
                target = row.target,
                "it hit somebody legitimate, and is taken back"
            );
            change.state = Some(ActionState::Reverted);
            "action_wrong"
        }
        false => "action_effective",
    };
    match store.change_action(row.id, row.version, &change, SYSTEM, step).await {
        // Somebody else was faster: what is there then decides.
        Ok(_) | Err(vedette_store::Error::Stale { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn hash(name: &str) -> u64 {
    let bytes = *blake3::hash(name.as_bytes()).as_bytes();
    u64::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3], bytes[4], bytes[5], bytes[6], bytes[7]])
}
