//! Time as goroutines see it.

use std::time::Duration;

use wirepath_driver::{Nanos, clock};

use crate::park::{WaitReason, Wake, park};

/// The time now.
pub fn now() -> Nanos {
    clock::now()
}

/// Waits for `duration`. On a plain thread it blocks the thread.
///
/// A goroutine whose runtime shuts down meanwhile ends here, by unwinding.
pub fn sleep(duration: Duration) {
    let until = now() + duration;
    while now() < until {
        // A token that was left by an earlier wait ends a park early.
        if park(WaitReason::Sleep, Some(until)) == Wake::Cancelled {
            crate::spawn::unwind_cancelled();
        }
    }
}
