//! A clock that costs a load: the time to a second or so.
//!
//! It tells how many minutes a goroutine has waited, without a look at the
//! real clock at each park. sysmon sets it while any P is busy, and an M sets
//! it when it wakes, so whatever runs sees a time that is at most a period of
//! sysmon old, or a second. (Go stamps waiting goroutines when its collector
//! comes by; there is no collector here.)

use std::sync::atomic::{AtomicU32, Ordering};

use wirepath_driver::Nanos;

/// See the module. Starts at zero; the first M to take a P sets it.
#[derive(Default)]
pub(crate) struct Coarse(AtomicU32);

fn seconds(now: Nanos) -> u32 {
    u32::try_from(now.0 / 1_000_000_000).unwrap_or(u32::MAX)
}

impl Coarse {
    /// Seconds since the start of the clock.
    pub(crate) fn seconds(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }

    /// Written once a second at most, so that the line stays with its readers.
    pub(crate) fn set(&self, now: Nanos) {
        let now = seconds(now);
        if now > self.seconds() {
            self.0.fetch_max(now, Ordering::Relaxed);
        }
    }
}
