//! Places of which each caller has a share.
//!
//! In: who wants a place. Out: a place, given back when it is dropped, or why there is none. Invariants: no more than all are taken; one
//! caller has no more than the share, so that no token keeps everybody else out. Where nobody needs to sign in all come under one
//! name, which is no one caller: for them there is no share.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{
    auth::{Caller, Credential},
    problem::{Kind, Problem},
};

/// Places that are shared.
#[derive(Debug)]
pub(crate) struct Shares {
    what: &'static str,
    all: usize,
    each: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    /// By caller; who has none is not in it.
    of: HashMap<String, usize>,
}

/// A place, as long as it is held.
#[derive(Debug)]
pub(crate) struct Share {
    shares: Arc<Shares>,
    caller: Option<String>,
}

impl Shares {
    /// So many places, of which one caller takes `each` at most; `what` is told where there is none.
    pub(crate) fn new(what: &'static str, all: usize, each: usize) -> Arc<Self> {
        Arc::new(Self { what, all, each, taken: Mutex::default() })
    }

    /// Takes a place for somebody.
    pub(crate) fn take(self: &Arc<Self>, caller: &Caller) -> Result<Share, Problem> {
        let Self { what, all, each, .. } = &**self;
        let mut taken = self.taken();
        if taken.all >= *all {
            let detail = format!("Too many {what} are under way. Try again in a moment.");
            return Err(Problem::new(Kind::TooManyRequests, detail));
        }
        let name = (caller.credential != Credential::None).then(|| caller.name.clone());
        if let Some(name) = &name {
            let own = taken.of.entry(name.clone()).or_default();
            if *own >= *each {
                let detail =
                    format!("{each} {what} of yours are under way, as many as one may have. End one first.");
                return Err(Problem::new(Kind::TooManyRequests, detail));
            }
            *own += 1;
        }
        taken.all += 1;
        Ok(Share { shares: Arc::clone(self), caller: name })
    }

    /// How many are taken.
    pub(crate) fn in_use(&self) -> usize {
        self.taken().all
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        // No panic leaves the counts half changed.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut taken = self.shares.taken();
        taken.all -= 1;
        if let Some(name) = &self.caller
            && let Some(own) = taken.of.get_mut(name)
        {
            *own -= 1;
            if *own == 0 {
                taken.of.remove(name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use vedette_store::model::Role;

    use super::*;

    fn caller(name: &str, credential: Credential) -> Caller {
        Caller { name: name.to_owned(), role: Role::Reader, ambient: false, credential }
    }

    #[test]
    fn one_caller_takes_a_share_and_all_take_all() {
        let shares = Shares::new("streams", 5, 2);
        let [ann, bob, eve] = ["ann", "bob", "eve"].map(|name| caller(name, Credential::Token([1; 32])));
        let first = shares.take(&ann).unwrap();
        let _held = [&ann, &bob, &bob].map(|caller| shares.take(caller).unwrap());
        assert!(shares.take(&ann).is_err());
        drop(first);
        let _again = shares.take(&ann).unwrap();
        let last = shares.take(&eve).unwrap();
        assert_eq!(shares.in_use(), 5);
        assert!(shares.take(&eve).is_err(), "all are taken");
        drop(last);
        assert_eq!((shares.in_use(), shares.taken().of.len()), (4, 2), "who has none is forgotten");
    }

    #[test]
    fn where_nobody_signs_in_there_is_no_share() {
        let shares = Shares::new("streams", 3, 1);
        let local = caller("local", Credential::None);
        let held: Vec<_> = (0..3).map(|_| shares.take(&local).unwrap()).collect();
        assert!(shares.take(&local).is_err());
        drop(held);
        assert_eq!(shares.in_use(), 0);
    }
}
