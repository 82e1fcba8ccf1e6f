//! How a runtime ends: by shutdown, or because nothing can ever happen again.

use std::sync::atomic::Ordering;
use std::sync::{MutexGuard, PoisonError};

use wirepath_driver::{Nanos, clock};

use super::Shared;
use super::state::{Mark, Phase};

impl Shared {
    pub(super) fn threads(&self) -> MutexGuard<'_, Vec<std::thread::JoinHandle<()>>> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the waits of all goroutines, now and from now on.
    pub(crate) fn cancel(&self) {
        self.cancelled.store(true, Ordering::SeqCst);
        for g in self.live() {
            if g.state.wake(Mark::CANCELLED) {
                super::ready(g);
            }
        }
    }

    /// Waits until no goroutine is left, or until `until`.
    pub(crate) fn wait_ended(&self, until: Nanos) {
        let mut ended = self.exited.lock().unwrap_or_else(PoisonError::into_inner);
        while !self.live().is_empty() {
            let left = until.since(clock::now());
            if left.is_zero() {
                return;
            }
            // `finished` does not take the lock, so look again now and then.
            let nap = left.min(std::time::Duration::from_millis(1));
            let waited = self.exit_signal.wait_timeout(ended, nap);
            ended = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// A thread of the runtime ends.
    pub(super) fn note_exit(&self) {
        *self.exited.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.exit_signal.notify_all();
    }

    pub(crate) fn has_exited(&self) -> bool {
        self.exiting.load(Ordering::SeqCst)
    }

    /// Joins the threads that end by `until` (those that are idle do at once).
    /// Returns how many did not.
    pub(crate) fn join_threads(&self, until: Nanos) -> usize {
        // Idle threads need a moment, also where the caller gives none.
        let until = until.max(clock::now() + super::sysmon::PERIOD * 5);
        let threads = std::mem::take(&mut *self.threads());
        let mut exited = self.exited.lock().unwrap_or_else(PoisonError::into_inner);
        while *exited < threads.len() {
            let left = until.since(clock::now());
            if left.is_zero() {
                break;
            }
            let waited = self.exit_signal.wait_timeout(exited, left);
            exited = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        if *exited < threads.len() {
            return threads.len() - *exited;
        }
        drop(exited);
        let own = std::thread::current().id();
        for thread in threads {
            if thread.thread().id() != own {
                // A thread of ours catches what goroutines throw.
                let _ = thread.join();
            }
        }
        0
    }

    /// Every P is idle. If nothing can ever wake a goroutine, says so and ends
    /// the process, as Go does: no timer, no network, nobody in `blocking`, and
    /// no thread in the process but this runtime's and those that wait in
    /// `run`. With a stack attached it cannot be known.
    pub(super) fn check_deadlock(&self) {
        let quiet = self.netpoll.shards() == 0
            && self.in_blocking.load(Ordering::SeqCst) == 0
            && self.in_run.load(Ordering::SeqCst) > 0
            && self.next_timer() == Nanos::MAX
            && self.spinning.load(Ordering::SeqCst) == 0
            && !self.any_work();
        if !quiet || self.exiting() || !self.all_idle() {
            return;
        }
        let live = self.live();
        if live.is_empty() || live.iter().any(|g| g.state.phase() != Phase::Parked) {
            return;
        }
        let ours = self.threads().len() + self.in_run.load(Ordering::SeqCst);
        let all = std::fs::read_dir("/proc/self/task").map_or(usize::MAX, Iterator::count);
        if all != ours || !self.all_idle() {
            return;
        }
        eprintln!("fatal error: all goroutines are asleep - deadlock!\n");
        eprint!("{}", crate::dump::dump(self));
        std::process::exit(2);
    }
}
