//! Time as goroutines see it: the clock, [`sleep`], and timers as in Go's
//! `time`.

mod timers;

use std::time::Duration;

use wirepath_driver::{Nanos, clock};

use crate::m;
use crate::park::{WaitReason, Wake, park};

pub use timers::{AfterFunc, Ticker, Timer, after, after_func, tick};

/// The time now: the calling goroutine's runtime may be in virtual time, which
/// has a clock of its own. A plain thread gets the real one.
pub fn now() -> Nanos {
    m::with_local(|local| local.map_or_else(clock::now, |local| local.shared.now()))
}

/// The time to a second or so: costs a load where [`now`] asks a clock. In
/// virtual time it is exact, and a plain thread gets [`now`].
pub fn recent() -> Nanos {
    m::with_local(|local| match local {
        Some(local) if local.shared.simulation.is_none() => {
            Nanos(u64::from(local.shared.coarse.seconds()) * 1_000_000_000)
        }
        Some(local) => local.shared.now(),
        None => clock::now(),
    })
}

/// A goroutine that blocks its thread waited until `at`: in virtual time it is
/// as late now.
pub(crate) fn reached(at: Nanos) {
    m::with_local(|local| {
        if let Some(simulation) = local.and_then(|local| local.shared.simulation.as_ref()) {
            simulation.reach(at);
        }
    });
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
