//! How many P's are idle and how many M's look for work: what decides whether
//! an M is woken for work.
//!
//! # The delicate order
//!
//! A submitter makes work visible (a queue, an inbox, a timer), then looks
//! whether somebody must be woken ([`Census::must_wake`]). An M that gives up
//! first makes itself visible as such (its P among the idle ones, no longer
//! spinning), then looks for work once more ([`Census::recheck`]). A full fence
//! lies between the two steps on both sides, so at least one of the two sees
//! the other. The other way round, a goroutine could be queued just after the
//! look and just before the sleep, and nobody would run it.
//!
//! A submitter wakes nobody while an M spins: the spinner either finds the
//! work, and wakes another if there is more, or stops spinning and then looks
//! once more.

use crate::sync_shim::{AtomicUsize, Ordering, fence};

/// The two numbers.
pub(super) struct Census {
    /// Idle P's; changed under the lock of the idle lists.
    idle: AtomicUsize,
    /// M's that look for work.
    spinning: AtomicUsize,
}

impl Census {
    pub(super) fn new(idle: usize) -> Census {
        Census {
            idle: AtomicUsize::new(idle),
            spinning: AtomicUsize::new(0),
        }
    }

    pub(super) fn idle(&self) -> usize {
        self.idle.load(Ordering::SeqCst)
    }

    pub(super) fn set_idle(&self, idle: usize) {
        self.idle.store(idle, Ordering::SeqCst);
    }

    pub(super) fn spinning(&self) -> usize {
        self.spinning.load(Ordering::SeqCst)
    }

    pub(super) fn spin(&self) {
        self.spinning.fetch_add(1, Ordering::SeqCst);
    }

    pub(super) fn unspin(&self) {
        self.spinning.fetch_sub(1, Ordering::SeqCst);
    }

    /// After work was made visible. True: the caller must give an idle P to an
    /// M, which is counted as spinning already.
    #[must_use]
    pub(super) fn must_wake(&self) -> bool {
        fence(Ordering::SeqCst);
        self.idle() > 0
            && self
                .spinning
                .compare_exchange(0, 1, Ordering::SeqCst, Ordering::SeqCst)
                .is_ok()
    }

    /// An M gave its P up, or stops to spin, or both: the look that must follow.
    /// True: as for [`Census::must_wake`].
    #[must_use]
    pub(super) fn recheck(&self, spun: bool, any_work: impl FnOnce() -> bool) -> bool {
        if spun {
            self.unspin();
        }
        fence(Ordering::SeqCst);
        any_work() && self.must_wake()
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use loom::sync::{Arc, Mutex};
    use loom::thread;

    /// P's, and a queue with room for one free goroutine.
    struct Rig {
        census: Census,
        ps: Mutex<usize>,
        work: AtomicUsize,
    }

    impl Rig {
        fn new(idle: usize) -> Arc<Rig> {
            Arc::new(Rig {
                census: Census::new(idle),
                ps: Mutex::new(idle),
                work: AtomicUsize::new(0),
            })
        }

        /// As `ready` does. Whether somebody was woken.
        fn submit(&self) -> bool {
            self.work.fetch_add(1, Ordering::Release);
            self.census.must_wake()
        }

        fn put_p(&self) {
            let mut ps = self.ps.lock().unwrap();
            *ps += 1;
            self.census.set_idle(*ps);
        }

        fn has_work(&self) -> bool {
            self.work.load(Ordering::Acquire) > 0
        }

        /// As `find` and `rest` do. Whether it found the work, or woke somebody.
        fn look_and_rest(&self, spun: bool) -> (bool, bool) {
            if self.has_work() {
                return (true, false);
            }
            self.put_p();
            (false, self.census.recheck(spun, || self.has_work()))
        }
    }

    #[test]
    fn loom_idle_work_is_found_or_somebody_is_woken_for_it() {
        for (idle, spun) in [(0, false), (0, true), (1, true)] {
            loom::model(move || {
                let rig = Rig::new(idle);
                if spun {
                    rig.census.spin();
                }
                let other = rig.clone();
                let m = thread::spawn(move || other.look_and_rest(spun));
                let woke = rig.submit();
                let (found, rechecked) = m.join().unwrap();
                // A spinner that found it counts as spinning still.
                let wakes = usize::from(woke) + usize::from(rechecked);
                assert!(wakes + usize::from(found) > 0, "lost");
                assert!(wakes <= 1, "woken twice for one");
                assert_eq!(rig.census.spinning(), wakes + usize::from(found && spun));
            });
        }
    }

    #[test]
    fn loom_idle_a_submitter_and_two_that_rest() {
        loom::model(|| {
            let rig = Rig::new(0);
            rig.census.spin();
            let (a, b) = (rig.clone(), rig.clone());
            let spinner = thread::spawn(move || a.look_and_rest(true));
            let other = thread::spawn(move || b.look_and_rest(false));
            let woke = rig.submit();
            let (found_a, woke_a) = spinner.join().unwrap();
            let (found_b, woke_b) = other.join().unwrap();
            let wakes = [woke, woke_a, woke_b]
                .map(usize::from)
                .iter()
                .sum::<usize>();
            assert!(found_a || found_b || wakes > 0, "lost");
            assert!(wakes <= 1, "woken twice for one");
        });
    }

    #[test]
    fn loom_idle_a_spinner_that_finds_work_wakes_another_for_the_rest() {
        loom::model(|| {
            let rig = Rig::new(1);
            rig.census.spin();
            rig.work.store(1, Ordering::Release);
            let other = rig.clone();
            let m = thread::spawn(move || {
                other.work.fetch_sub(1, Ordering::AcqRel);
                other.census.recheck(true, || other.has_work())
            });
            let woke = rig.submit();
            let rechecked = m.join().unwrap();
            assert_eq!(usize::from(woke) + usize::from(rechecked), 1);
        });
    }
}
