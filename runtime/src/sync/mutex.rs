//! Who may have a mutex.
//!
//! As in Go there are two ways to pass it on. Usually an unlock frees it and
//! wakes the first waiter, which competes with whoever else comes: a goroutine
//! that runs takes it without any switch. Once the first waiter has waited for
//! [`PATIENCE`], an unlock hands the mutex to it instead, so nobody starves:
//! waiters go in order, one that lost goes back to the front, and each is the
//! first at some time.
//!
//! Free or taken with nobody else about, it costs one compare-and-swap to lock
//! and one to unlock.
//!
//! Rejected: handing it over always. Each contended section would then cost a
//! switch, since the lock is taken while its next owner is not running yet.
//! Rejected: spinning before the wait, as Go does: the holder is often bound to
//! the thread that would spin.

#[cfg(not(loom))]
use std::time::Duration;

use wirepath_driver::Nanos;

use crate::model::{AtomicUsize, Latch, Ordering, Parker, WaitReason, Wake, park};
use crate::waiters::{Settled, Waiters};

/// Go's `starvationThresholdNs`.
#[cfg(not(loom))]
const PATIENCE: Duration = Duration::from_millis(1);

const LOCKED: usize = 1;
/// There are waiters; changed under the latch.
const QUEUED: usize = 2;
/// A waiter was woken and competes: an unlock need not wake another. Taken back
/// by that waiter.
const WOKEN: usize = 4;

/// A mutex without data.
pub(super) struct RawMutex {
    state: AtomicUsize,
    /// Each with the time since when it waits; without it, the mutex was handed
    /// to it.
    waiting: Latch<Waiters<Nanos>>,
    /// The model has no time: it tries both.
    #[cfg(loom)]
    hands_over: bool,
}

impl Default for RawMutex {
    fn default() -> RawMutex {
        RawMutex::new()
    }
}

impl RawMutex {
    #[cfg(not(loom))]
    pub(super) const fn new() -> RawMutex {
        RawMutex {
            state: AtomicUsize::new(0),
            waiting: Latch::new(Waiters::new()),
        }
    }

    #[cfg(loom)]
    pub(super) fn new() -> RawMutex {
        RawMutex {
            state: AtomicUsize::new(0),
            waiting: Latch::new(Waiters::new()),
            hands_over: false,
        }
    }

    #[cfg(not(loom))]
    fn is_overdue(&self, since: Nanos) -> bool {
        crate::time::now().since(since) >= PATIENCE
    }

    #[cfg(loom)]
    fn is_overdue(&self, _since: Nanos) -> bool {
        self.hands_over
    }

    fn swap(&self, from: usize, to: usize) -> bool {
        self.state
            .compare_exchange(from, to, Ordering::Acquire, Ordering::Relaxed)
            .is_ok()
    }

    pub(super) fn is_locked(&self) -> bool {
        self.state.load(Ordering::Relaxed) & LOCKED != 0
    }

    /// Takes it if it is free.
    pub(super) fn try_lock(&self) -> bool {
        self.take_free(0)
    }

    /// Takes it if it is free, and `mark` back with it.
    fn take_free(&self, mark: usize) -> bool {
        loop {
            let seen = self.state.load(Ordering::Relaxed);
            if seen & LOCKED != 0 {
                return false;
            }
            if self.swap(seen, (seen | LOCKED) & !mark) {
                return true;
            }
        }
    }

    /// Takes it, for `reason` if that needs a wait.
    #[inline]
    pub(super) fn lock(&self, reason: WaitReason) {
        if !self.swap(0, LOCKED) {
            self.lock_slowly(reason);
        }
    }

    #[cold]
    fn lock_slowly(&self, reason: WaitReason) {
        let mut since = None;
        loop {
            let mark = if since.is_some() { WOKEN } else { 0 };
            if self.take_free(mark) {
                return;
            }
            let Some(ticket) = self.enqueue(since, mark) else {
                continue;
            };
            match self.wait(ticket, reason) {
                None => return,
                lost => since = lost,
            }
        }
    }

    /// Enters the list, at its front if it waited before. None: it is free now.
    fn enqueue(&self, since: Option<Nanos>, mark: usize) -> Option<usize> {
        let mut waiting = self.waiting.lock();
        loop {
            let seen = self.state.load(Ordering::Relaxed);
            if seen & LOCKED == 0 {
                return None;
            }
            if self.swap(seen, (seen | QUEUED) & !mark) {
                break;
            }
        }
        let me = Parker::current();
        Some(match since {
            None => waiting.push(me, Some(crate::time::now())),
            Some(_) => waiting.push_first(me, since),
        })
    }

    /// Waits to be woken. None: it has the mutex; else since when it waits.
    fn wait(&self, ticket: usize, reason: WaitReason) -> Option<Nanos> {
        loop {
            let cancelled = park(reason, None) == Wake::Cancelled;
            let mut waiting = self.waiting.lock();
            let settled = waiting.settle(ticket, cancelled);
            if cancelled {
                if waiting.is_empty() {
                    self.state.fetch_and(!QUEUED, Ordering::Relaxed);
                }
                drop(waiting);
                self.pass_on(&settled);
                crate::spawn::unwind_cancelled();
            }
            match settled {
                Settled::Waits => {}
                Settled::Completed(lost) | Settled::Withdrawn(lost) => return lost,
            }
        }
    }

    /// One that gives up passes on what it was given meanwhile.
    fn pass_on(&self, settled: &Settled<Nanos>) {
        match settled {
            Settled::Completed(None) => self.unlock(),
            Settled::Completed(Some(_)) => {
                self.state.fetch_and(!WOKEN, Ordering::Relaxed);
                // An unlock that counted on this one has woken nobody.
                if self.try_lock() {
                    self.unlock();
                }
            }
            Settled::Waits | Settled::Withdrawn(_) => {}
        }
    }

    /// Gives it back; the caller has it.
    #[inline]
    pub(super) fn unlock(&self) {
        let freed = self
            .state
            .compare_exchange(LOCKED, 0, Ordering::Release, Ordering::Relaxed);
        if freed.is_err() {
            self.unlock_slowly();
        }
    }

    #[cold]
    fn unlock_slowly(&self) {
        let mut waiting = self.waiting.lock();
        // While it is locked, the state changes under the latch only, but for
        // WOKEN, which goes by the waiter's own hand.
        let overdue = waiting.first().is_some_and(|since| self.is_overdue(*since));
        let woken = self.state.load(Ordering::Relaxed) & WOKEN != 0;
        if waiting.is_empty() || (woken && !overdue) {
            self.state.fetch_and(!LOCKED, Ordering::Release);
            return;
        }
        let Some((first, since)) = waiting.pop() else {
            unreachable!("it is not empty");
        };
        if overdue {
            *since = None;
        }
        let queued = if waiting.is_empty() { QUEUED } else { 0 };
        if overdue {
            // It stays locked, for the first.
            self.state.fetch_and(!queued, Ordering::Release);
        } else {
            // One step would do but for a WOKEN that is cleared meanwhile; none
            // is set now, so nobody clears it.
            self.state.fetch_or(WOKEN, Ordering::Relaxed);
            self.state.fetch_and(!(queued | LOCKED), Ordering::Release);
        }
        drop(waiting);
        first.into_unparked();
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use loom::cell::UnsafeCell;
    use loom::sync::Arc;
    use loom::thread;

    struct Guarded {
        raw: RawMutex,
        count: UnsafeCell<usize>,
    }

    fn add(guarded: &Guarded) {
        guarded.raw.lock(WaitReason::MutexLock);
        // Loom sees it if two are here at once.
        guarded.count.with_mut(|_| ());
        guarded.raw.unlock();
    }

    fn all_get_it(hands_over: bool, others: usize) {
        loom::model(move || {
            let mut raw = RawMutex::new();
            raw.hands_over = hands_over;
            let guarded = Arc::new(Guarded {
                raw,
                count: UnsafeCell::new(0),
            });
            let others: Vec<_> = (0..others)
                .map(|_| {
                    let guarded = guarded.clone();
                    thread::spawn(move || add(&guarded))
                })
                .collect();
            add(&guarded);
            others.into_iter().for_each(|t| t.join().unwrap());
            assert_eq!(guarded.raw.state.load(Ordering::SeqCst), 0);
        });
    }

    #[test]
    fn loom_mutex_wakes_the_next() {
        all_get_it(false, 2);
    }

    #[test]
    fn loom_mutex_hands_over() {
        all_get_it(true, 2);
    }
}
