//! Waiting for a condition, without guessing how long it takes.

use std::time::{Duration, Instant};

/// How long a test waits for something that ought to happen at once. It is
/// generous on purpose: it ends a test that hangs and measures nothing.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// How long [`poll_until`] rests between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Looks at `condition` until it holds or `timeout` is over, and says whether
/// it held.
pub fn poll_until(timeout: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + timeout;
    loop {
        if condition() {
            return true;
        }
        if Instant::now() >= end {
            return false;
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Waits for `condition`, which `what` describes.
///
/// # Panics
/// If it does not hold within [`PATIENCE`].
#[track_caller]
pub fn wait_until(what: &str, condition: impl FnMut() -> bool) {
    assert!(
        poll_until(PATIENCE, condition),
        "waited {PATIENCE:?} in vain: {what}"
    );
}
