//! How much memory the process may take, and what of it is for what.
//!
//! In: `engine.memory`, or half of what the machine or the process's control group has. Out: [`Memory`], which the engine's budgets
//! follow from.
//!
//! | what grows | bound | at the bound |
//! |---|---|---|
//! | keys with their windows and episodes, sketches, prefixes | ten sixteenths of what grows, divided between rules and key groups (`correlate/over/budget`) | estimates, or others go; announced |
//! | findings that wait for a watermark | five sixteenths, half of it for sources that stand still (`correlate/pending/waiting`) | partitions ahead are paused, then findings refused; announced |
//! | what notices remember of unreleased events | one sixteenth (`correlate/notices/ahead`) | notices stay out |
//! | timers | two for each open episode, as many of what is gone (`correlate/step/timers`) | with the episodes |
//! | a rule's hours for storms | a thousand crossings an hour, three hours (`correlate/storm/hour`) | one alert for the rest |
//! | records from Kafka | 32 MiB in librdkafka, 64 batches of a megabyte at most (`ingest`) | Kafka waits |
//! | batches being evaluated | 32 MiB and four a thread (`pipeline`) | the reader waits |
//! | alerts and notices on their way to the store | two thousand rows, 64 MiB (`service/outbox`) | nothing is released, then nothing read |
//! | files before their first time | 8 MiB (`engine/files`) | they have none |
//! | blocks of files that are read | 8 MiB, or one a file while it is read (`ingest/files`, `inputs`) | the rest is read later |
//! | alerts until the end of `scan` | their number: each is printed in the order of all | none |
//!
//! The upper three grow without an end while somebody wants them to, so they are what the budget is divided between; [`FIXED`] is for
//! the others, rules and code.
//! Invariant: nothing here looks at what is read, so the same configuration over the same rules gives the same budgets on any number of
//! threads.

use std::fs;

use vedette_engine::{EngineSettings, NOTICE_ENTRY, WaitingBudget};

use crate::pipeline::RELEASE_AFTER;

/// What does not grow with what is read, or only up to a fixed bound: 60 MiB with all community rules compiled, the bounds of the table
/// above, the store's caches.
const FIXED: u64 = 192 << 20;
/// A smaller budget leaves no more than some thousand keys a rule to fifty rules.
pub const LEAST: u64 = 256 << 20;
/// Keys that every rule must have room for in a key group.
pub const ENTRIES: usize = 1;
/// What a machine is taken to have that does not say.
const UNKNOWN: u64 = 4 << 30;

/// Bytes, and what they are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// For the process.
    pub budget: u64,
    /// For keys.
    pub state: usize,
    /// For findings that wait.
    pub waiting: usize,
    /// For notices.
    pub notices: usize,
}

impl Memory {
    /// Divides what was configured, or else half of what there is.
    pub fn of(configured: Option<u64>) -> Self {
        let read = |path: &str| fs::read_to_string(path).ok();
        let budget = configured.unwrap_or_else(|| available(read) / 2).max(LEAST);
        let share =
            |sixteenths: u64| usize::try_from((budget - FIXED) / 16 * sixteenths).unwrap_or(usize::MAX);
        Self { budget, state: share(10), waiting: share(5), notices: share(1) }
    }

    /// Where nothing is configured: at least what the rules need.
    pub fn for_rules(least: usize) -> Self {
        let memory = Self::of(None);
        if memory.state < least { Self::with_state(least) } else { memory }
    }

    /// One that has at least so many bytes for keys.
    pub fn with_state(bytes: usize) -> Self {
        Self::of(Some((bytes as u64).div_ceil(10).saturating_add(1).saturating_mul(16).saturating_add(FIXED)))
    }

    /// An engine's settings within it.
    pub fn settings(&self, secret: [u8; 32]) -> EngineSettings {
        let waiting = WaitingBudget::of(self.waiting);
        EngineSettings {
            state: self.state,
            waiting,
            // What is due must not count as waiting for long where little may wait.
            release_after: RELEASE_AFTER.min(waiting.pause / 8),
            // Half as much again is for sources that stand still.
            notice_budget: self.notices / NOTICE_ENTRY / 3 * 2,
            ..EngineSettings::new(secret)
        }
    }
}

/// Bytes that the process holds in memory now, where the system says so.
pub fn resident() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    kibibytes(&status, "VmRSS:")
}

/// A line of `/proc` such as `MemTotal:  16316412 kB`, in bytes.
fn kibibytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1_024)
}

/// The machine's memory, or the least that the process's control group and those above it may have.
fn available(read: impl Fn(&str) -> Option<String>) -> u64 {
    let machine = read("/proc/meminfo").and_then(|text| kibibytes(&text, "MemTotal:")).unwrap_or(UNKNOWN);
    let groups = read("/proc/self/cgroup").unwrap_or_default();
    let mut least = machine;
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        let (mount, files): (_, &[&str]) = match controllers {
            "" => ("/sys/fs/cgroup", &["memory.max", "memory.high"]),
            of if of.split(',').any(|of| of == "memory") => {
                ("/sys/fs/cgroup/memory", &["memory.limit_in_bytes"])
            }
            _ => continue,
        };
        // A group's limits hold for those below it. In a container the path can be the host's, of which only the root is there.
        let mut path = path.trim_end_matches('/');
        loop {
            // `max` is no number, and no limit; so is a number beyond the machine's.
            let limits =
                files.iter().filter_map(|file| read(&format!("{mount}{path}/{file}"))?.trim().parse().ok());
            least = limits.fold(least, u64::min);
            match path.rfind('/') {
                Some(end) => path = &path[..end],
                None => break,
            }
        }
    }
    least
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const MACHINE: (&str, &str) = ("/proc/meminfo", "MemTotal:       16000000 kB\nMemFree: 1 kB\n");

    fn with(files: &[(&str, &str)]) -> u64 {
        let files: BTreeMap<&str, &str> = files.iter().chain(&[MACHINE]).copied().collect();
        available(|path| files.get(path).map(|text| (*text).to_owned()))
    }

    #[test]
    fn the_least_of_machine_and_control_groups_holds() {
        assert_eq!(available(|_| None), UNKNOWN);
        assert_eq!(with(&[]), 16_000_000 << 10);
        let v2 = ("/proc/self/cgroup", "0::/system.slice/vedette.service\n");
        let own = "/sys/fs/cgroup/system.slice/vedette.service/memory.max";
        assert_eq!(with(&[v2, (own, "max\n")]), 16_000_000 << 10);
        assert_eq!(with(&[v2, (own, "2000000000\n")]), 2_000_000_000);
        let above = ("/sys/fs/cgroup/system.slice/memory.high", "1000000000\n");
        assert_eq!(with(&[v2, (own, "2000000000\n"), above]), 1_000_000_000);
        // In a container the root of what is mounted is its own.
        let inside = ("/proc/self/cgroup", "0::/\n");
        assert_eq!(with(&[inside, ("/sys/fs/cgroup/memory.max", "512\n")]), 512);
        let v1 = ("/proc/self/cgroup", "3:cpu,cpuacct:/\n2:memory:/docker/abc\n0::/x\n");
        let none = ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
        assert_eq!(with(&[v1, none]), 16_000_000 << 10);
        let some = ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "700\n");
        assert_eq!(with(&[v1, some]), 700);
    }

    #[test]
    fn the_shares_are_less_than_the_whole() {
        for budget in [LEAST, 1 << 30, 12 << 30] {
            let Memory { state, waiting, notices, .. } = Memory::of(Some(budget));
            let all = (state + waiting + notices) as u64;
            assert!(all + FIXED <= budget && all + FIXED > budget - 16, "{budget}");
        }
        assert_eq!(Memory::of(Some(1)).budget, LEAST);
        for state in [100 << 20, 12_345_678_901] {
            assert!((state..state + 64).contains(&Memory::with_state(state).state));
        }
    }

    #[test]
    fn the_system_says_what_is_held() {
        assert_eq!(kibibytes("Name: x\nVmRSS:\t   123 kB\n", "VmRSS:"), Some(123 << 10));
        assert!(resident().is_none_or(|bytes| bytes > 1 << 20));
    }
}
