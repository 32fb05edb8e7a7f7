//! Who tries too often waits: per user and per address, longer each time.
//!
//! In: attempts and their outcome, and the time. Out: how long to wait. Invariants: an attempt counts as failed until it is
//! known to be right, so that many at once gain nothing; names that nobody has are held like others; memory is bounded, and
//! whom few attempts were made for is forgotten first; somebody who locks out a name holds its owner for a minute at most.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, RandomState},
    net::IpAddr,
    sync::{Mutex, PoisonError},
};

use vedette_event::{Micros, Span};

/// What is remembered of users and of addresses each: 100 bytes at most, so a megabyte in all.
const MAX_ENTRIES: usize = 4_096;
/// After so long without an attempt it is forgotten.
const FORGOTTEN_AFTER: Span = Span::secs(3_600);

/// How patient one is.
#[derive(Debug, Clone, Copy)]
struct Patience {
    /// Attempts that cost nothing.
    free: u32,
    /// The longest wait.
    longest: Span,
}

/// For a name: 1,440 guesses a day at most.
const OF_USERS: Patience = Patience { free: 5, longest: Span::secs(60) };
/// For an address, behind which there may be an office.
const OF_ADDRESSES: Patience = Patience { free: 20, longest: Span::secs(300) };

#[derive(Debug, Clone, Copy)]
struct Entry {
    failures: u32,
    seen: Micros,
    until: Micros,
}

/// Failed attempts of late.
#[derive(Debug, Default)]
pub(crate) struct Lockout {
    hasher: RandomState,
    tables: Mutex<[HashMap<u64, Entry>; 2]>,
}

impl Lockout {
    /// Begins an attempt, which counts as failed until [`Lockout::succeeded`].
    ///
    /// # Errors
    /// How long to wait.
    pub fn begin(&self, name: &str, address: IpAddr, now: Micros) -> Result<(), Span> {
        let keys = [self.hasher.hash_one(name), self.hasher.hash_one(network(address))];
        let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        let waits = tables.iter().zip(keys).filter_map(|(table, key)| table.get(&key));
        let wait = waits.map(|entry| entry.until.since(now)).max().unwrap_or(Span::ZERO);
        if wait > Span::ZERO {
            return Err(wait);
        }
        for ((table, key), patience) in tables.iter_mut().zip(keys).zip([OF_USERS, OF_ADDRESSES]) {
            note(table, key, patience, now);
        }
        Ok(())
    }

    /// Forgets the failures for a name. Those from the address stay: whoever has a name of their own could try others' for
    /// ever.
    pub fn succeeded(&self, name: &str) {
        let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        let [users, _] = &mut *tables;
        users.remove(&self.hasher.hash_one(name));
    }
}

fn note(table: &mut HashMap<u64, Entry>, key: u64, patience: Patience, now: Micros) {
    if table.len() >= MAX_ENTRIES && !table.contains_key(&key) {
        table.retain(|_, entry| now.since(entry.seen) < FORGOTTEN_AFTER);
        let least = table.iter().min_by_key(|(_, entry)| (entry.failures, entry.seen)).map(|(key, _)| *key);
        if table.len() >= MAX_ENTRIES
            && let Some(least) = least
        {
            table.remove(&least);
        }
    }
    let entry = table.entry(key).or_insert(Entry { failures: 0, seen: now, until: now });
    if now.since(entry.seen) >= FORGOTTEN_AFTER {
        entry.failures = 0;
    }
    entry.failures = entry.failures.saturating_add(1);
    entry.seen = now;
    if entry.failures >= patience.free {
        let doubled = 1_i64 << (entry.failures - patience.free).min(20);
        entry.until = Micros(now.0 + Span::secs(doubled).0.min(patience.longest.0));
    }
}

/// Whom an address belongs to: of IPv6 the network, of which one customer has all addresses.
fn network(address: IpAddr) -> [u8; 8] {
    match address.to_canonical() {
        IpAddr::V4(v4) => {
            let [a, b, c, d] = v4.octets();
            [0, 0, 0, 0, a, b, c, d]
        }
        IpAddr::V6(v6) => {
            let [a, b, c, d, e, f, g, h, ..] = v6.octets();
            [a, b, c, d, e, f, g, h]
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn at(seconds: i64) -> Micros {
        Micros(seconds * 1_000_000)
    }

    fn from(n: u16) -> IpAddr {
        IpAddr::from([10, 0, (n >> 8) as u8, n as u8])
    }

    #[test]
    fn each_failure_waits_twice_as_long_up_to_a_minute() {
        let lockout = Lockout::default();
        let mut now = 0;
        let mut waits = Vec::new();
        for n in 0..14 {
            // From everywhere, so that only the name counts.
            lockout.begin("ann", from(n), at(now)).unwrap();
            let wait = lockout.begin("ann", from(n), at(now)).err().unwrap_or(Span::ZERO).0 / 1_000_000;
            waits.push(wait);
            now += wait;
        }
        // The second attempt of each of the first four rounds was let in as well.
        assert_eq!(waits, [0, 0, 1, 2, 4, 8, 16, 32, 60, 60, 60, 60, 60, 60]);
        assert!(lockout.begin("bob", from(99), at(now)).is_ok());
        lockout.succeeded("ann");
        assert!(lockout.begin("ann", from(98), at(now)).is_ok());
    }

    #[test]
    fn an_address_waits_whatever_names_it_tries() {
        let lockout = Lockout::default();
        for n in 0..20 {
            lockout.begin(&format!("user{n}"), from(1), at(0)).unwrap();
        }
        assert_eq!(lockout.begin("ann", from(1), at(0)), Err(Span::secs(1)));
        assert!(lockout.begin("ann", from(2), at(0)).is_ok());
        lockout.succeeded("user0");
        assert!(lockout.begin("ann", from(1), at(0)).is_err(), "a name of one's own opens nothing");
        // One customer's network is one.
        let network = |host: u16| IpAddr::from([0x2001, 0xdb8, 0, 1, 0, 0, 0, host]);
        for host in 0..20 {
            lockout.begin(&format!("other{host}"), network(host), at(0)).unwrap();
        }
        assert!(lockout.begin("eve", network(99), at(0)).is_err());
    }

    #[test]
    fn an_hour_without_attempts_is_forgotten() {
        let lockout = Lockout::default();
        for n in 0..5 {
            lockout.begin("ann", from(n), at(0)).unwrap();
        }
        assert!(lockout.begin("ann", from(9), at(0)).is_err());
        for n in 0..4 {
            lockout.begin("ann", from(n), at(3_601)).unwrap();
        }
        assert!(lockout.begin("ann", from(9), at(3_601)).is_ok());
    }

    #[test]
    fn memory_is_bounded_and_the_stubborn_are_remembered() {
        let lockout = Lockout::default();
        for n in 0..5 {
            lockout.begin("ann", from(60_000 + n), at(1)).unwrap();
        }
        for n in 0..10_000_u16 {
            let _ = lockout.begin(&format!("x{n}"), from(n), at(1));
        }
        let tables = lockout.tables.lock().unwrap();
        assert!(tables.iter().all(|table| table.len() == MAX_ENTRIES));
        drop(tables);
        assert!(lockout.begin("ann", from(50_000), at(1)).is_err());
    }
}
