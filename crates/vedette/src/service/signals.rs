//! Signals to stop and to read the rules again, and the last resort when stopping gets stuck.
//!
//! In: Ctrl-C, SIGTERM, SIGHUP. Out: the supervisor's word to stop; the word to the reloader; at a second signal, or when stopping
//! takes too long, the end of the process. Invariant: it has a thread and a runtime of its own and waits for nothing
//! that another thread can hold up, not even for standard error.

use std::{sync::mpsc, thread, time::Duration};

use anyhow::Result;
use crossbeam_channel::Sender;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{reload::Ask, supervisor::Supervisor};

/// How long all of stopping may take: what the stages may take and closing the store, with some room.
const ALL: Duration = Duration::from_millis(8_800);
/// How long the last line may take.
const LAST_LINE: Duration = Duration::from_millis(200);

/// Listens from now on.
///
/// # Errors
/// If there is no thread or no runtime for it.
///
/// SIGHUP is for the reloader, where there is one; else it means the terminal's end.
pub fn listen(supervisor: &Supervisor, reload: Option<&Sender<Ask>>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (supervisor, reload) = (supervisor.clone(), reload.cloned());
    let (ready, listening) = mpsc::channel();
    thread::Builder::new().name("signals".into()).spawn(move || {
        runtime.block_on(async {
            let mut signals = Signals::hear(reload);
            // Who asked for it waits for this.
            let _ = ready.send(());
            tokio::select! {
                () = signals.next() => supervisor.stop(),
                () = supervisor.asked_to_stop() => {}
            }
            let why = tokio::select! {
                () = signals.next() => "asked to stop again",
                () = tokio::time::sleep(ALL) => "stopping took too long",
            };
            cut_off(&supervisor, why)
        });
    })?;
    // Signals are heard once it has begun; it cannot end before.
    let _ = listening.recv();
    Ok(())
}

/// Ends the process at once, naming what was still at work.
///
/// What is committed stays: the store's journal is safe to leave at any point, and what was not published is found
/// again at the next start.
pub fn cut_off(supervisor: &Supervisor, why: &str) -> ! {
    let left: Vec<String> = supervisor.left().iter().map(ToString::to_string).collect();
    let left = if left.is_empty() { "closing the store".to_owned() } else { left.join(", ") };
    last_line(format!(
        "vedette: {why}; cut off: {left}. What was not published is found again at the next start"
    ));
    std::process::exit(3)
}

/// Writes a line to standard error, unless nobody reads it.
fn last_line(line: String) {
    let (written, done) = mpsc::channel();
    let writer = thread::Builder::new().name("last line".into()).spawn(move || {
        say!("{line}");
        // Nobody may wait for it any more.
        let _ = written.send(());
    });
    if writer.is_ok() {
        // Late or not, the process ends now.
        let _ = done.recv_timeout(LAST_LINE);
    }
}

/// The signals that mean: stop.
struct Signals {
    interrupt: Option<Signal>,
    terminate: Option<Signal>,
    hangup: Option<Signal>,
    reload: Option<Sender<Ask>>,
}

impl Signals {
    fn hear(reload: Option<Sender<Ask>>) -> Self {
        let hear = |kind| {
            signal(kind)
                .inspect_err(|error| tracing::warn!(%error, ?kind, "a signal to stop cannot be heard"))
                .ok()
        };
        Self {
            interrupt: hear(SignalKind::interrupt()),
            terminate: hear(SignalKind::terminate()),
            // Under `nohup` it would tell of the terminal only, unless somebody is to hear it.
            hangup: if reload.is_none() && hangup_is_ignored() { None } else { hear(SignalKind::hangup()) },
            reload,
        }
    }

    /// Waits for one to stop; hands on those to reload.
    async fn next(&mut self) {
        let Self { interrupt, terminate, hangup, reload } = self;
        loop {
            tokio::select! {
                () = heard(interrupt) => return,
                () = heard(terminate) => return,
                () = heard(hangup) => match reload {
                    // One that is full has enough to do.
                    Some(reload) => drop(reload.try_send(Ask::Signal)),
                    None => return,
                },
            }
        }
    }
}

/// Waits for a signal; for ever if it cannot be heard.
async fn heard(signal: &mut Option<Signal>) {
    if let Some(signal) = signal
        && signal.recv().await.is_some()
    {
        return;
    }
    std::future::pending().await
}

/// True under `nohup`, which is there to outlive the terminal.
fn hangup_is_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 == 1)
}
