//! The timer entry of one direction of a poll descriptor.
//!
//! The timer heap's entries are never removed, so a deadline that moves must
//! not cost an entry each time: an HTTP server moves it several times a
//! request. One entry stands for the direction, due at its deadline or before
//! it. Moving the deadline further away touches nothing; when the old entry
//! fires it finds the later deadline and puts itself in again. Only a deadline
//! nearer than the entry needs a new entry, and a new sequence number turns
//! the old one stale.
//!
//! # The order that matters
//!
//! A setter stores the deadline, then loads [`Entry::queued`]. A firing entry
//! stores `queued` (no entry any more), then loads the deadline. All four are
//! sequentially consistent, so at least one of the two sees what the other
//! stored: never is a deadline left without an entry.

use crate::model::{AtomicU64, Mutex, Ordering, lock};

/// A time that never comes: no deadline, or no entry.
pub(super) const NEVER: u64 = u64::MAX;

/// What the timer heap holds for one direction.
pub(super) struct Entry {
    /// When the entry fires, in nanoseconds; [`NEVER`] without one. Changed
    /// under `seq`, read without.
    queued: AtomicU64,
    /// The sequence number of the entry that counts; others are stale.
    seq: Mutex<u64>,
}

impl Entry {
    pub(super) fn new() -> Entry {
        Entry {
            queued: AtomicU64::new(NEVER),
            seq: Mutex::new(0),
        }
    }

    /// Sees to it that an entry fires at `deadline` or before it. Called after
    /// the deadline was stored (`SeqCst`).
    pub(super) fn cover(&self, deadline: u64, insert: impl FnOnce(u64, u64)) {
        if self.queued.load(Ordering::SeqCst) <= deadline {
            return;
        }
        let mut seq = lock(&self.seq);
        // An entry that fired in between may have found the deadline already.
        if self.queued.load(Ordering::SeqCst) > deadline {
            self.queue(deadline, &mut seq, insert);
        }
    }

    /// The entry with number `seq` fired at `now`. `deadline` loads the
    /// deadline (`SeqCst`). True: it has passed.
    pub(super) fn fired(
        &self,
        now: u64,
        seq: u64,
        deadline: impl FnOnce() -> u64,
        insert: impl FnOnce(u64, u64),
    ) -> bool {
        let mut current = lock(&self.seq);
        if *current != seq {
            return false;
        }
        self.queued.store(NEVER, Ordering::SeqCst);
        match deadline() {
            NEVER => false,
            at if at <= now => true,
            at => {
                self.queue(at, &mut current, insert);
                false
            }
        }
    }

    fn queue(&self, at: u64, seq: &mut u64, insert: impl FnOnce(u64, u64)) {
        *seq += 1;
        self.queued.store(at, Ordering::SeqCst);
        insert(at, *seq);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Arc;

    #[cfg(loom)]
    use loom::{model, thread};
    #[cfg(not(loom))]
    use std::thread;

    #[cfg(not(loom))]
    fn model(run: impl Fn()) {
        (0..1_000).for_each(|_| run());
    }

    /// A direction with its deadline and the timer heap.
    struct Rig {
        deadline: AtomicU64,
        entry: Entry,
        heap: Mutex<Vec<(u64, u64)>>,
    }

    impl Rig {
        fn new() -> Arc<Rig> {
            Arc::new(Rig {
                deadline: AtomicU64::new(NEVER),
                entry: Entry::new(),
                heap: Mutex::new(Vec::new()),
            })
        }

        fn set(&self, deadline: u64) {
            self.deadline.store(deadline, Ordering::SeqCst);
            self.entry
                .cover(deadline, |at, seq| lock(&self.heap).push((at, seq)));
        }

        /// Fires what is due; whether the deadline was found to have passed.
        fn run(&self, now: u64) -> bool {
            let due: Vec<_> = lock(&self.heap).extract_if(.., |e| e.0 <= now).collect();
            let mut passed = false;
            for (_, seq) in due {
                passed |= self.entry.fired(
                    now,
                    seq,
                    || self.deadline.load(Ordering::SeqCst),
                    |at, seq| lock(&self.heap).push((at, seq)),
                );
            }
            passed
        }

        fn entries(&self) -> usize {
            lock(&self.heap).len()
        }
    }

    #[test]
    fn a_deadline_set_while_the_old_one_fires_is_kept() {
        for (old, new) in [(10, 20), (20, 10), (10, 10)] {
            model(move || {
                let rig = Rig::new();
                rig.set(old);
                let firing = rig.clone();
                let firing = thread::spawn(move || firing.run(old));
                rig.set(new);
                let early = firing.join().unwrap();
                // What fired early may have been the new one already.
                let early = early && new <= old;
                assert!(rig.run(20) || early, "{old} then {new} was lost");
            });
        }
    }

    #[test]
    fn two_setters_leave_the_last_deadline_covered() {
        model(|| {
            let rig = Rig::new();
            let other = rig.clone();
            let other = thread::spawn(move || other.set(10));
            rig.set(20);
            other.join().unwrap();
            let last = rig.deadline.load(Ordering::SeqCst);
            let mut passed = false;
            for now in [10, 20] {
                passed |= rig.run(now) && now == last;
            }
            assert!(passed, "{last} was lost");
        });
    }

    #[test]
    #[cfg(not(loom))]
    fn moving_a_deadline_away_costs_no_entry() {
        let rig = Rig::new();
        for at in 10..1_000 {
            rig.set(at);
            rig.set(NEVER);
            rig.set(at + 100);
        }
        assert_eq!(rig.entries(), 1);
        // It finds the later one, and puts itself in again.
        assert!(!rig.run(10));
        assert_eq!(*lock(&rig.heap), [(1_099, 2)]);
        // A nearer one needs a new entry; the old one is stale then.
        rig.set(50);
        assert_eq!(rig.entries(), 2);
        assert!(!rig.run(49));
        assert!(rig.run(50));
        assert!(!rig.run(2_000));
        assert_eq!(rig.entries(), 0);
    }

    #[test]
    #[cfg(not(loom))]
    fn a_cleared_deadline_never_passes() {
        let rig = Rig::new();
        rig.set(10);
        rig.set(NEVER);
        assert!(!rig.run(10));
        assert_eq!(rig.entries(), 0);
    }
}
