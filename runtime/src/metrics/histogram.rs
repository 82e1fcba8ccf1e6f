//! A histogram of times that one thread writes and all may read.
//!
//! Buckets are spaced as Go's `timeHistogram`: each power of two is cut into
//! four, so a bucket's bounds are at most a quarter apart, from a nanosecond to
//! eighteen minutes; what is longer falls into the last. An array of plain
//! counters: recording is a load and a store by the owner, and there is one for
//! each P, merged by whoever reads.
//!
//! Rejected: a crate's histogram (`hdrhistogram`): it needs a lock or a
//! channel between the writer and the reader, and grows as it is used.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::p::count;

/// Parts that a power of two is cut into, as a power of two.
const SUB_BITS: u32 = 2;
const SUBS: u64 = 1 << SUB_BITS;
/// Powers of two: up to 2^40 ns.
const POWERS: u64 = 40;
const BUCKETS: usize = (POWERS * SUBS) as usize;

/// The bucket of a time in nanoseconds.
fn bucket(ns: u64) -> usize {
    if ns < SUBS {
        return ns as usize;
    }
    let power = ns.ilog2();
    let sub = ns >> (power - SUB_BITS) & (SUBS - 1);
    let at = u64::from(power - SUB_BITS + 1) * SUBS + sub;
    (at as usize).min(BUCKETS - 1)
}

/// The least time of a bucket, in nanoseconds.
fn floor(at: usize) -> u64 {
    let at = at as u64;
    if at < SUBS {
        return at;
    }
    let power = at / SUBS + u64::from(SUB_BITS) - 1;
    (SUBS + at % SUBS) << (power - u64::from(SUB_BITS))
}

/// The writer's side.
pub(crate) struct Histogram([AtomicU64; BUCKETS]);

impl Histogram {
    pub(crate) fn new() -> Histogram {
        Histogram([const { AtomicU64::new(0) }; BUCKETS])
    }

    /// Counts a time. Owner only.
    pub(crate) fn record(&self, time: Duration) {
        let ns = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        count(&self.0[bucket(ns)]);
    }
}

/// A distribution of times, as Go's `metrics.Float64Histogram`.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Latencies {
    /// The bounds of the buckets in seconds: bucket `i` counts the times from
    /// `bounds[i]` up to, but not with, `bounds[i + 1]`. The last is infinity.
    pub bounds: Vec<f64>,
    /// How many fell into each.
    pub counts: Vec<u64>,
}

impl Latencies {
    pub(crate) fn merge<'a>(parts: impl Iterator<Item = &'a Histogram>) -> Latencies {
        let mut counts = vec![0; BUCKETS];
        for part in parts {
            for (sum, n) in counts.iter_mut().zip(&part.0) {
                *sum += n.load(Ordering::Relaxed);
            }
        }
        let floors = (0..BUCKETS).map(|at| floor(at) as f64 / 1e9);
        Latencies {
            bounds: floors.chain([f64::INFINITY]).collect(),
            counts,
        }
    }

    /// How many were counted.
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// A time, in seconds, that at least the part `q` (0 to 1) of what was
    /// counted does not exceed by more than its bucket: the lower bound of the
    /// bucket. None when nothing was counted.
    pub fn quantile(&self, q: f64) -> Option<f64> {
        let wanted = (self.total() as f64 * q.clamp(0.0, 1.0)).ceil().max(1.0);
        let mut seen = 0;
        for (n, bound) in self.counts.iter().zip(&self.bounds) {
            seen += n;
            if seen as f64 >= wanted {
                return Some(*bound);
            }
        }
        None
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_time_falls_into_the_bucket_whose_bounds_hold_it() {
        let powers = (0..40).map(|power| 1u64 << power);
        let times = powers.flat_map(|t| [t, t + t / 4, t + t / 2, t * 2 - 1]);
        for ns in times {
            let at = bucket(ns);
            assert!(floor(at) <= ns, "{ns} in {at} from {}", floor(at));
            assert!(ns < floor(at + 1), "{ns} in {at}");
            assert!(floor(at + 1) - floor(at) <= ns / 4 + 1, "{ns}: narrow");
        }
        assert_eq!(bucket(0), 0);
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn bounds_grow_and_parts_are_added() {
        let parts = [Histogram::new(), Histogram::new()];
        parts[0].record(Duration::from_micros(1));
        parts[1].record(Duration::from_micros(1));
        parts[1].record(Duration::from_secs(2));
        let all = Latencies::merge(parts.iter());
        assert!(all.bounds.windows(2).all(|w| w[0] < w[1]));
        assert_eq!(all.bounds.len(), all.counts.len() + 1);
        assert_eq!(all.total(), 3);
        let median = all.quantile(0.5).unwrap();
        assert!((0.75e-6..=1e-6).contains(&median), "{median}");
        let most = all.quantile(1.0).unwrap();
        assert!((1.5..=2.0).contains(&most), "{most}");
        assert_eq!(Latencies::default().quantile(0.5), None);
    }
}
