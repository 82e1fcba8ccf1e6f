//! The time of an event, cheaply.
//!
//! Reading `CLOCK_MONOTONIC` costs as much as everything else about an event
//! together. Where the kernel itself keeps time by the processor's time stamp
//! counter, that counter is the same on all cores and never stops, so an event
//! notes the counter, and whoever reads the ring makes nanoseconds of it, by the
//! pairs of counter and clock ([`Anchor`]) that the ring's writer leaves every so
//! often. Elsewhere an event notes the clock.
//!
//! Under virtual time an event notes that ([`set_virtual`]).

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::clock::{self, Nanos};

/// The mark of a time that is a counter. Nanoseconds do not reach it in 292
/// years, and neither does a counter of a few GHz in a century.
const COUNTER: u64 = 1 << 63;

/// No virtual time.
const REAL: u64 = u64::MAX;

static VIRTUAL: AtomicU64 = AtomicU64::new(REAL);

/// What the kernel keeps time by.
const SOURCE: &str = "/sys/devices/system/clocksource/clocksource0/current_clocksource";

/// The time of what happens now, for an event: to be given to [`super::emit`]
/// and to nobody else, since it need not be nanoseconds.
#[inline]
pub fn stamp() -> Nanos {
    match VIRTUAL.load(Ordering::Relaxed) {
        REAL => real_stamp(),
        now => Nanos(now),
    }
}

#[inline]
fn real_stamp() -> Nanos {
    static BY_COUNTER: OnceLock<bool> = OnceLock::new();
    if *BY_COUNTER.get_or_init(kernel_uses_counter) {
        Nanos(counter() | COUNTER)
    } else {
        clock::now()
    }
}

/// From now on events have this time; None: the real one.
pub fn set_virtual(now: Option<Nanos>) {
    VIRTUAL.store(now.map_or(REAL, |now| now.0), Ordering::Relaxed);
}

/// Whether events have a virtual time.
pub fn is_virtual() -> bool {
    VIRTUAL.load(Ordering::Relaxed) != REAL
}

fn kernel_uses_counter() -> bool {
    cfg!(target_arch = "x86_64") && std::fs::read_to_string(SOURCE).is_ok_and(|s| s.trim() == "tsc")
}

#[cfg(target_arch = "x86_64")]
#[inline]
#[allow(unsafe_code, reason = "the only way to read the counter")]
fn counter() -> u64 {
    // SAFETY: RDTSC reads a register and touches no memory; every x86-64
    // processor has it, and Linux leaves it to user mode unless a process asks
    // otherwise (PR_SET_TSC).
    unsafe { core::arch::x86_64::_rdtsc() & !COUNTER }
}

#[cfg(not(target_arch = "x86_64"))]
fn counter() -> u64 {
    0
}

/// The counter of a time that is one.
pub(super) fn counter_of(at: Nanos) -> Option<u64> {
    (at.0 & COUNTER != 0).then_some(at.0 & !COUNTER)
}

/// A moment, by the counter and by the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Anchor {
    pub(super) counter: u64,
    pub(super) clock: Nanos,
}

impl Anchor {
    /// The present moment; None where events note the clock.
    pub(super) fn now() -> Option<Anchor> {
        let counter = counter_of(real_stamp())?;
        Some(Anchor {
            counter,
            clock: clock::now(),
        })
    }
}

/// Makes nanoseconds of counters.
pub(super) struct Scale(Vec<Anchor>);

impl Scale {
    /// By these moments, in any order.
    pub(super) fn new(mut anchors: Vec<Anchor>) -> Scale {
        anchors.sort_unstable_by_key(|a| a.counter);
        anchors.dedup_by_key(|a| a.counter);
        Scale(anchors)
    }

    /// The time on the clock: on the line through the moments around it, or
    /// through the two next to it.
    pub(super) fn clock(&self, at: Nanos) -> Nanos {
        let Some(counter) = counter_of(at) else {
            return at;
        };
        let after = self.0.partition_point(|a| a.counter <= counter);
        let last = self.0.len().saturating_sub(1);
        let high = after.clamp(1.min(last), last);
        let (Some(a), Some(b)) = (self.0.get(high.saturating_sub(1)), self.0.get(high)) else {
            return Nanos(counter);
        };
        let span = i128::from(b.counter) - i128::from(a.counter);
        let ahead = i128::from(counter) - i128::from(a.counter);
        let nanos = i128::from(b.clock.0) - i128::from(a.clock.0);
        let moved = if span == 0 { 0 } else { ahead * nanos / span };
        Nanos(u64::try_from(i128::from(a.clock.0) + moved).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn anchor(counter: u64, clock: u64) -> Anchor {
        Anchor {
            counter,
            clock: Nanos(clock),
        }
    }

    #[test]
    fn a_counter_is_a_time_on_the_line_through_the_nearest_moments() {
        // 2 ticks a nanosecond at first, then 4.
        let scale = Scale::new(vec![
            anchor(3000, 1250),
            anchor(1000, 500),
            anchor(2000, 1000),
        ]);
        for (counter, clock) in [
            (1500, 750),
            (2000, 1000),
            (2400, 1100),
            (3400, 1350),
            (800, 400),
        ] {
            assert_eq!(
                scale.clock(Nanos(counter | COUNTER)),
                Nanos(clock),
                "{counter}"
            );
        }
        assert_eq!(scale.clock(Nanos(77)), Nanos(77));
        assert_eq!(
            Scale::new(vec![anchor(10, 100)]).clock(Nanos(15 | COUNTER)),
            Nanos(100)
        );
    }

    #[test]
    fn a_stamp_is_between_two_looks_at_the_clock() {
        let Some(first) = Anchor::now() else { return };
        let before = clock::now();
        let stamp = stamp();
        let after = clock::now();
        std::thread::sleep(std::time::Duration::from_millis(5));
        let scale = Scale::new(vec![first, Anchor::now().expect("as before")]);
        let at = scale.clock(stamp);
        // The clock is read a little after the counter.
        let slack = std::time::Duration::from_micros(200);
        assert!(
            at + slack >= before && at <= after + slack,
            "{before:?} {at:?} {after:?}"
        );
    }
}
