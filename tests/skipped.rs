//! A word for every test that does not run here, so that no suite passes by not running.
//!
//! In: the suite and the reason. Out: a line `SKIPPED suite: reason` on standard error, past the capture of the test
//! runner, which shows nothing of a test that passes. `.ci/run` looks for these lines.

use std::io::Write as _;

/// Says that a test does not run, and what it would need.
pub fn say(what: &str, why: &str) {
    // Not `eprintln!`, which the test runner captures. A closed standard error is no reason to fail.
    let _ = writeln!(std::io::stderr(), "SKIPPED {what}: {why}");
}
