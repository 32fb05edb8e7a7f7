//! How many files and connections the process may have open.
//!
//! In: the system's bounds. Out: the softer of them raised. Invariant: never above the hard bound, never lowered.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// 832 connections of the API, those to brokers and the store, files being read. Systems begin with 1,024, for programs that wait for
/// descriptors in the old way, and let each raise it.
const WANTED: u64 = 4_096;
/// With fewer, streams of the API may be refused.
const LEAST: u64 = 1_536;

/// Raises the bound for this process; says so where too few are allowed.
pub fn allow() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let Some(now) = current.filter(|now| *now < WANTED) else { return };
    let wanted = maximum.map_or(WANTED, |most| most.min(WANTED)).max(now);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum });
    let allowed = if raised.is_ok() { wanted } else { now };
    if allowed < LEAST {
        tracing::warn!(
            allowed,
            wanted = WANTED,
            "few descriptors: raise `LimitNOFILE` of the unit, or `ulimit -n`"
        );
    }
}
