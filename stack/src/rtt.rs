//! The round-trip time of a flow, as far as segments tell it.
//!
//! smoltcp keeps its own estimate to itself. This one is made from outside: one
//! segment at a time is timed from when it left until an ACK covers it, and the
//! samples are smoothed as RFC 6298 §2 has it. By Karn's rule (RFC 6298 §3) a
//! segment counts no longer once something was sent again. Times are those of
//! turns, so an estimate is not finer than a turn is long, and includes the
//! peer's delay of its ACK.

use std::time::Duration;

use wirepath_driver::Nanos;

use crate::segment::Sent;

/// What a flow's segments amount to so far; goes along with the last of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Segments that left.
    pub(crate) segments: u64,
    /// Of these, those with data that had been sent before.
    pub(crate) again: u64,
    /// The sequence number after the segment that is being timed, and when it
    /// left.
    timed: Option<(u32, Nanos)>,
}

impl Tally {
    /// With another segment, which leaves at `now`.
    pub(crate) fn with(mut self, sent: &Sent, now: Nanos) -> Tally {
        self.segments += 1;
        if sent.is_again {
            self.again += u64::from(sent.len > 0);
            self.timed = None;
        } else if self.timed.is_none() && sent.next() != sent.seq {
            self.timed = Some((sent.next(), now));
        }
        self
    }

    /// The time from a segment to the ACK of everything before `una`, if that is
    /// the end of a measurement.
    pub(crate) fn acked(&mut self, una: u32, now: Nanos) -> Option<Duration> {
        let (end, at) = self.timed?;
        if una.wrapping_sub(end).cast_signed() < 0 {
            return None;
        }
        self.timed = None;
        Some(now.since(at))
    }
}

/// The estimate, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RttEstimate {
    /// The smoothed round-trip time (SRTT of RFC 6298).
    pub smoothed_us: u32,
    /// Its mean deviation (RTTVAR).
    pub deviation_us: u32,
    /// The least seen.
    pub least_us: u32,
}

impl RttEstimate {
    /// With one more sample (RFC 6298 §2.2 and §2.3).
    pub(crate) fn with(before: Option<RttEstimate>, sample: Duration) -> RttEstimate {
        let us = u32::try_from(sample.as_micros()).unwrap_or(u32::MAX);
        let Some(before) = before else {
            return RttEstimate {
                smoothed_us: us,
                deviation_us: us / 2,
                least_us: us,
            };
        };
        let part = |old: u32, new: u32, of: u64| {
            ((u64::from(old) * (of - 1) + u64::from(new)) / of) as u32
        };
        RttEstimate {
            deviation_us: part(before.deviation_us, before.smoothed_us.abs_diff(us), 4),
            smoothed_us: part(before.smoothed_us, us, 8),
            least_us: before.least_us.min(us),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::SYN;

    fn sent(seq: u32, len: u32, is_again: bool) -> Sent {
        Sent {
            seq,
            len,
            is_again,
            ..Sent::default()
        }
    }

    #[test]
    fn a_segment_is_timed_until_it_is_covered() {
        let tally = Tally::default()
            .with(&sent(u32::MAX - 9, 20, false), Nanos(1_000))
            .with(&sent(10, 100, false), Nanos(5_000));
        let mut covered = tally;
        assert_eq!(covered.acked(9, Nanos(9_000)), None);
        assert_eq!(
            covered.acked(10, Nanos(9_000)),
            Some(Duration::from_nanos(8_000))
        );
        assert_eq!(covered.acked(110, Nanos(9_500)), None);
        assert_eq!((tally.segments, tally.again), (2, 0));
    }

    #[test]
    fn what_was_sent_twice_tells_no_time() {
        let mut tally = Tally::default()
            .with(&sent(0, 10, false), Nanos(0))
            .with(&sent(0, 10, true), Nanos(9));
        assert_eq!(tally.again, 1);
        assert_eq!(tally.acked(10, Nanos(20)), None);
        tally = tally.with(&sent(10, 0, false), Nanos(30));
        assert_eq!(
            tally.acked(10, Nanos(40)),
            None,
            "a bare ACK is not acknowledged"
        );
        let syn = Sent {
            flags: SYN,
            ..sent(10, 0, false)
        };
        tally = tally.with(&syn, Nanos(50));
        assert_eq!(tally.acked(11, Nanos(70)), Some(Duration::from_nanos(20)));
    }

    #[test]
    fn samples_are_smoothed_as_the_rfc_has_it() {
        let ms = |n| Duration::from_millis(n);
        let first = RttEstimate::with(None, ms(100));
        assert_eq!((first.smoothed_us, first.deviation_us), (100_000, 50_000));
        let next = RttEstimate::with(Some(first), ms(180));
        assert_eq!(next.deviation_us, (3 * 50_000 + 80_000) / 4);
        assert_eq!(next.smoothed_us, (7 * 100_000 + 180_000) / 8);
        assert_eq!(next.least_us, 100_000);
    }
}
