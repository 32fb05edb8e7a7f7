//! Gives back to the system what is free, every few seconds.
//!
//! In: nothing. Out: nothing. Invariant: little goes back at a time, because it is asked for often: the kernel must not wait for
//! seconds when it allocates meanwhile.

use std::time::Duration;

use tokio::runtime::Handle;

use super::supervisor::Stage;
use crate::allocator;

/// How often. A flood is forgotten as fast as it came, a hundred thousand keys a second at most, which are some tens of mebibytes
/// in that time and as many milliseconds; where nothing is free it takes less than a tenth of one.
const EVERY: Duration = Duration::from_secs(5);

/// Gives back what is free until it is to stop.
pub fn run(runtime: &Handle, stage: &Stage) {
    while !stage.stopping() {
        stage.works();
        allocator::give_back();
        stage.rests();
        // A word to stop ends the pause.
        runtime.block_on(async {
            let _ = tokio::time::timeout(EVERY, stage.asked_to_stop()).await;
        });
    }
}
