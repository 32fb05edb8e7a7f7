//! What the operating system says of this process: memory, processor time, descriptors.
//!
//! In: `/proc/self`. Out: the samples that Prometheus's own exporters give, by the same names. Invariants: what cannot
//! be read (another system, a sandbox) is left out, never told as zero; a look costs three small files and a folder.

use std::fs;

/// Ticks in which Linux counts processor time for programs: the same on every architecture that Vedette is built for,
/// whatever the kernel's own clock.
const TICKS_A_SECOND: f64 = 100.0;
const KIB: f64 = 1_024.0;

/// The process at this moment.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Process {
    /// Seconds of processor time, in the program and in the system for it.
    pub cpu_seconds: Option<f64>,
    /// Bytes of memory in use.
    pub resident_bytes: Option<f64>,
    /// Bytes of address space.
    pub virtual_bytes: Option<f64>,
    /// Open descriptors.
    pub open_fds: Option<f64>,
    /// As many may be open.
    pub max_fds: Option<f64>,
}

impl Process {
    pub(crate) fn look() -> Self {
        let read = |name: &str| fs::read_to_string(format!("/proc/self/{name}")).ok();
        let status = read("status");
        let kib = |name: &str| status.as_deref().and_then(|status| line(status, name)).map(|kib| kib * KIB);
        Self {
            cpu_seconds: read("stat").as_deref().and_then(cpu_seconds),
            resident_bytes: kib("VmRSS:"),
            virtual_bytes: kib("VmSize:"),
            // The folder that is being read is one of them.
            open_fds: fs::read_dir("/proc/self/fd").ok().map(|all| all.count().saturating_sub(1) as f64),
            max_fds: read("limits").as_deref().and_then(|limits| line(limits, "Max open files")),
        }
    }
}

/// The first number behind a name at the start of a line.
fn line(text: &str, name: &str) -> Option<f64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}

/// Fields 14 and 15 of `stat`; the second field, in parentheses, may hold anything.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<f64>().ok();
    Some((ticks()? + ticks()?) / TICKS_A_SECOND)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn processor_time_is_found_behind_any_name() {
        let stat = "17 (a) b (c)) S 1 17 17 0 -1 4194560 900 0 3 0 1234 66 0 0 20 0 9 0 1 2 3";
        assert_eq!(cpu_seconds(stat), Some(13.0));
        assert_eq!(cpu_seconds("17 (vedette) S 1"), None);
        assert_eq!(cpu_seconds(""), None);
    }

    #[test]
    fn lines_are_found_by_name() {
        let status = "VmPeak:\t    99 kB\nVmRSS:\t    42 kB\n";
        assert_eq!(line(status, "VmRSS:"), Some(42.0));
        assert_eq!(line(status, "VmSize:"), None);
        assert_eq!(
            line("Max open files            1024      unlimited   files", "Max open files"),
            Some(1_024.0)
        );
        assert_eq!(line("Max open files            unlimited unlimited   files", "Max open files"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_is_seen() {
        let before = Process::look();
        assert!(before.resident_bytes.unwrap() > 1e6 && before.resident_bytes < before.virtual_bytes);
        let file = fs::File::open("/proc/self/stat").unwrap();
        let after = Process::look();
        assert!(after.open_fds.unwrap() >= 4.0 && after.open_fds < after.max_fds, "{after:?}");
        assert!(after.cpu_seconds >= before.cpu_seconds && before.cpu_seconds.is_some());
        drop(file);
    }
}
