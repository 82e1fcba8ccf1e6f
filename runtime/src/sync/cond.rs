//! A condition to wait for.

use std::fmt;
use std::time::Duration;

use wirepath_driver::Nanos;

use super::MutexGuard;
use crate::model::{Latch, Parker, WaitReason, Wake, park};
use crate::waiters::{Settled, Waiters};

/// Where goroutines wait for a change of what a [`Mutex`](super::Mutex) guards,
/// as Go's `sync.Cond`.
///
/// It differs in that the guard is given to [`wait`](Cond::wait) and comes back
/// from it, so it cannot be called without the lock. As in Go a wait ends only
/// by a signal, in the order of the waits; still look again at what was waited
/// for, since others may have taken it before the lock came back.
pub struct Cond {
    waiting: Latch<Waiters<()>>,
}

impl Cond {
    /// Nobody waits.
    #[cfg(not(loom))]
    pub const fn new() -> Cond {
        Cond {
            waiting: Latch::new(Waiters::new()),
        }
    }

    /// Nobody waits.
    #[cfg(loom)]
    pub fn new() -> Cond {
        Cond {
            waiting: Latch::new(Waiters::new()),
        }
    }

    /// Gives the mutex back and waits for a signal, without missing one in
    /// between; then takes the mutex again.
    ///
    /// A goroutine whose runtime shuts down meanwhile ends, by unwinding,
    /// without the lock.
    pub fn wait<'a, T: ?Sized>(&self, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
        self.wait_until(guard, None).0
    }

    /// Waits while `condition` says so.
    pub fn wait_while<'a, T: ?Sized>(
        &self,
        mut guard: MutexGuard<'a, T>,
        mut condition: impl FnMut(&mut T) -> bool,
    ) -> MutexGuard<'a, T> {
        while condition(&mut guard) {
            guard = self.wait(guard);
        }
        guard
    }

    /// As [`wait`](Cond::wait), for `timeout` at most. True: it was signalled.
    pub fn wait_timeout<'a, T: ?Sized>(
        &self,
        guard: MutexGuard<'a, T>,
        timeout: Duration,
    ) -> (MutexGuard<'a, T>, bool) {
        self.wait_until(guard, Some(crate::time::now() + timeout))
    }

    fn wait_until<'a, T: ?Sized>(
        &self,
        guard: MutexGuard<'a, T>,
        deadline: Option<Nanos>,
    ) -> (MutexGuard<'a, T>, bool) {
        let ticket = self.waiting.lock().push(Parker::current(), None);
        let mutex = guard.mutex();
        drop(guard);
        let signalled = self.settle(ticket, deadline);
        (mutex.lock(), signalled)
    }

    fn settle(&self, ticket: usize, deadline: Option<Nanos>) -> bool {
        loop {
            let woken = park(WaitReason::CondWait, deadline);
            let settled = self.waiting.lock().settle(ticket, woken != Wake::Notified);
            if woken == Wake::Cancelled {
                if matches!(settled, Settled::Completed(_)) {
                    self.signal();
                }
                crate::spawn::unwind_cancelled();
            }
            match settled {
                Settled::Waits => {}
                Settled::Completed(_) => return true,
                Settled::Withdrawn(_) => return false,
            }
        }
    }

    /// Ends the wait of the one that waits for longest, if any. The caller may
    /// have the mutex, but need not.
    pub fn signal(&self) {
        let first = self.waiting.lock().pop().map(|(parker, _)| parker);
        if let Some(parker) = first {
            parker.into_unparked();
        }
    }

    /// Ends the waits of all.
    pub fn broadcast(&self) {
        let mut woken = Vec::new();
        let mut waiting = self.waiting.lock();
        while let Some((parker, _)) = waiting.pop() {
            woken.push(parker);
        }
        drop(waiting);
        woken.into_iter().for_each(Parker::into_unparked);
    }
}

impl Default for Cond {
    fn default() -> Cond {
        Cond::new()
    }
}

impl fmt::Debug for Cond {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cond").finish_non_exhaustive()
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use crate::sync::{Cond, Mutex};
    use loom::sync::Arc;
    use loom::thread;

    #[test]
    fn loom_cond_a_signal_is_not_missed() {
        loom::model(|| {
            let pair = Arc::new((Mutex::new(false), Cond::new()));
            let other = pair.clone();
            let setter = thread::spawn(move || {
                *other.0.lock() = true;
                other.1.signal();
            });
            assert!(*pair.1.wait_while(pair.0.lock(), |set| !*set));
            setter.join().unwrap();
        });
    }

    #[test]
    fn loom_cond_a_broadcast_reaches_all() {
        loom::model(|| {
            let pair = Arc::new((Mutex::new(false), Cond::new()));
            let other = pair.clone();
            let waiter = thread::spawn(move || {
                drop(other.1.wait_while(other.0.lock(), |set| !*set));
            });
            let other = pair.clone();
            let setter = thread::spawn(move || {
                *other.0.lock() = true;
                other.1.broadcast();
            });
            drop(pair.1.wait_while(pair.0.lock(), |set| !*set));
            waiter.join().unwrap();
            setter.join().unwrap();
        });
    }
}
