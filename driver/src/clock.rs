//! The clock: nanoseconds of `CLOCK_MONOTONIC` as one word.
//!
//! Whoever drives a turn reads the clock once and hands `now` down. Nothing
//! below asks for the time by itself, so that a test or a replay can put its
//! own.

use std::fmt;
use std::ops::{Add, Sub};
use std::time::Duration;

/// A point in time, in nanoseconds since an arbitrary start that all threads
/// of the process share.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Nanos(pub u64);

impl Nanos {
    /// The start of the clock.
    pub const ZERO: Nanos = Nanos(0);
    /// Later than every real time; a deadline that never comes.
    pub const MAX: Nanos = Nanos(u64::MAX);

    /// How long after `earlier` this is; zero when it is not.
    pub fn since(self, earlier: Nanos) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// Microseconds since the start of the clock, rounded down.
    pub fn as_micros(self) -> u64 {
        self.0 / 1_000
    }
}

impl fmt::Debug for Nanos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}ns", self.0)
    }
}

impl Add<Duration> for Nanos {
    type Output = Nanos;
    fn add(self, rhs: Duration) -> Nanos {
        let nanos = u64::try_from(rhs.as_nanos()).unwrap_or(u64::MAX);
        Nanos(self.0.saturating_add(nanos))
    }
}

impl Sub for Nanos {
    type Output = Duration;
    fn sub(self, rhs: Nanos) -> Duration {
        self.since(rhs)
    }
}

fn read(id: rustix::time::ClockId) -> u64 {
    let t = rustix::time::clock_gettime(id);
    let secs = u64::try_from(t.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(t.tv_nsec).unwrap_or(0);
    secs.saturating_mul(1_000_000_000).saturating_add(nanos)
}

/// The time now (`CLOCK_MONOTONIC`, clock_gettime(2)).
pub fn now() -> Nanos {
    Nanos(read(rustix::time::ClockId::Monotonic))
}

/// What to add to a [`Nanos`] to get nanoseconds since the Unix epoch, as the
/// wall clock stands now. Read it once per capture so that times in it never
/// run backwards.
pub fn wall_offset_ns() -> u64 {
    read(rustix::time::ClockId::Realtime).saturating_sub(now().0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_goes_forward_and_never_overflows() {
        let a = now();
        assert!(now() >= a);
        assert_eq!(Nanos::MAX + Duration::from_secs(1), Nanos::MAX);
        assert_eq!(Nanos(5).since(Nanos(9)), Duration::ZERO);
    }
}
