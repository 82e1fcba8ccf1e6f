//! P: the right to run goroutines, and what comes with it.
//!
//! An M that holds a P owns its run queue's tail, its tick and its dirty
//! shards; the rest may be used by all.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::g::G;
use crate::metrics::Histogram;
use crate::sched::run_queue::RunQueue;
use crate::timer::Timers;

/// Goroutines that fit a P's queue, as in Go.
pub(crate) const QUEUE: usize = 256;

/// A P.
pub(crate) struct P {
    pub(crate) id: usize,
    /// Free goroutines only.
    pub(crate) queue: RunQueue<G, QUEUE>,
    pub(crate) timers: Timers,
    /// Goroutines run; written by the owner.
    pub(crate) tick: AtomicU32,
    /// Runs since the network was last polled; written by the owner.
    pub(crate) since_poll: AtomicU32,
    /// A bit for each shard that has something to send; written by the owner.
    dirty: [AtomicU64; 4],
    /// Of a spare P: the stuck P that it stands in for, and that one's tick.
    covers: AtomicU64,
    pub(crate) steals: AtomicU64,
    pub(crate) parks: AtomicU64,
    pub(crate) polls: AtomicU64,
    pub(crate) handoffs: AtomicU64,
    /// From runnable to running, of those that ran here; written by the owner.
    pub(crate) latencies: Histogram,
}

/// Adds one to a counter that only its owner writes.
pub(crate) fn count(counter: &AtomicU64) {
    counter.store(counter.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
}

impl P {
    pub(crate) fn new(id: usize) -> P {
        P {
            id,
            queue: RunQueue::new(),
            timers: Timers::new(),
            tick: AtomicU32::new(0),
            since_poll: AtomicU32::new(0),
            dirty: Default::default(),
            covers: AtomicU64::new(0),
            steals: AtomicU64::new(0),
            parks: AtomicU64::new(0),
            polls: AtomicU64::new(0),
            handoffs: AtomicU64::new(0),
            latencies: Histogram::new(),
        }
    }

    /// Another goroutine runs. Owner only.
    pub(crate) fn advance(&self) {
        let next =
            |n: &AtomicU32| n.store(n.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        next(&self.tick);
        next(&self.since_poll);
    }

    /// Of a spare P: it stands in for `stuck` while that is at `tick`.
    pub(crate) fn cover(&self, stuck: usize, tick: u32) {
        let covers = (stuck as u64) << 32 | u64::from(tick);
        self.covers.store(covers, Ordering::Relaxed);
    }

    /// Of a spare P: the stuck P, and its tick then.
    pub(crate) fn covers(&self) -> (usize, u32) {
        let covers = self.covers.load(Ordering::Relaxed);
        ((covers >> 32) as usize, covers as u32)
    }

    /// Remembers a shard that has something to send. Owner only.
    pub(crate) fn mark_dirty(&self, shard: usize) {
        let word = &self.dirty[shard / 64 % 4];
        word.store(
            word.load(Ordering::Relaxed) | 1 << (shard % 64),
            Ordering::Relaxed,
        );
    }

    /// Takes the shards that have something to send. Owner only.
    pub(crate) fn take_dirty(&self, mut each: impl FnMut(usize)) {
        for (i, word) in self.dirty.iter().enumerate() {
            let mut bits = word.load(Ordering::Relaxed);
            if bits == 0 {
                continue;
            }
            word.store(0, Ordering::Relaxed);
            while bits != 0 {
                each(i * 64 + bits.trailing_zeros() as usize);
                bits &= bits - 1;
            }
        }
    }
}
