//! How a runtime ends: by shutdown, or because nothing can ever happen again.

use std::sync::atomic::{Ordering, fence};
use std::sync::{MutexGuard, PoisonError};

use wirepath_driver::{Nanos, clock};

use super::Shared;
use super::state::{Mark, Phase};
use crate::g::G;
use crate::park::WaitReason;

/// Goroutines that the report of a deadlock lists; more are counted.
pub(super) const DEADLOCK_DUMP: usize = 1000;

impl Shared {
    pub(super) fn threads(&self) -> MutexGuard<'_, Vec<std::thread::JoinHandle<()>>> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the waits of all goroutines, now and from now on.
    pub(crate) fn cancel(&self) {
        self.cancelled.store(true, Ordering::SeqCst);
        let mut live = self.live();
        // By number, so that virtual time ends the same way each time.
        live.sort_unstable_by_key(|g| g.id);
        for g in live {
            if g.state.wake(Mark::CANCELLED) {
                super::ready(g);
            }
        }
    }

    /// Waits until no goroutine is left, or until `until`.
    pub(crate) fn wait_ended(&self, until: Nanos) {
        let mut ended = self.exited.lock().unwrap_or_else(PoisonError::into_inner);
        while !self.registry.is_empty() {
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

    /// Forgets threads that have ended.
    pub(super) fn reap_threads(&self) {
        let mut threads = self.threads();
        let before = threads.len();
        threads.retain(|thread| !thread.is_finished());
        let gone = before - threads.len();
        drop(threads);
        if gone > 0 {
            // Each told of its end before it was finished.
            *self.exited.lock().unwrap_or_else(PoisonError::into_inner) -= gone;
        }
    }

    /// The threads have ended, or are not waited for any more: whoever joins a
    /// goroutine that no thread will run again is told so.
    pub(crate) fn give_up(&self) {
        self.given_up.store(true, Ordering::SeqCst);
        self.give_up_after_stop();
    }

    /// As [`Shared::give_up`], for what was left after that: by a thread that
    /// ended later, or started by somebody who did not know.
    pub(crate) fn give_up_after_stop(&self) {
        // Whoever leaves a goroutine does it first, and looks here afterwards.
        fence(Ordering::SeqCst);
        if !self.given_up.load(Ordering::SeqCst) || self.registry.is_empty() {
            return;
        }
        for g in self.live() {
            // One that runs still does so on a thread that comes by here.
            if g.state.phase() != Phase::Running {
                g.end.give_up();
            }
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
    /// the process, as Go does. Otherwise: what keeps it from saying so.
    pub(super) fn check_deadlock(&self) -> Outlook {
        let threads = || std::fs::read_dir("/proc/self/task").map_or(usize::MAX, Iterator::count);
        let outlook = self.outlook(threads);
        if outlook == Outlook::Deadlock {
            eprintln!("fatal error: all goroutines are asleep - deadlock!\n");
            eprint!("{}", crate::dump::dump(self, DEADLOCK_DUMP));
            self.watchers.deadlocked(self.me.upgrade());
            std::process::exit(2);
        }
        outlook
    }

    /// A deadlock: every goroutine waits, and there is no timer, no network,
    /// nobody in `blocking`, and among the process's `threads` none but this
    /// runtime's, those that wait in `run`, and those that only watch. With a
    /// stack attached it cannot be known; a wait for a descriptor of the kernel
    /// may end.
    fn outlook(&self, threads: impl FnOnce() -> usize) -> Outlook {
        let quiet = self.netpoll.shards() == 0
            && self.in_blocking.load(Ordering::SeqCst) == 0
            && self.in_run.load(Ordering::SeqCst) > 0
            && self.next_timer() == Nanos::MAX
            && self.census.spinning() == 0
            && !self.any_work();
        if !quiet || self.exiting() || !self.all_idle() || self.live_count() == 0 {
            return Outlook::Open;
        }
        self.reap_threads();
        let known =
            self.threads().len() + self.in_run.load(Ordering::SeqCst) + self.watchers.threads();
        // What costs least is asked first: with a million goroutines the last
        // look is the long one.
        if threads() != known {
            Outlook::Foreign
        } else if self.registry.all(waits_for_another) && self.all_idle() {
            Outlook::Deadlock
        } else {
            Outlook::Open
        }
    }
}

/// What a runtime may expect whose P's are all idle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outlook {
    /// What wakes a goroutine takes a P into use, or there is nobody to wake.
    Open,
    /// Only a thread that the runtime does not know can wake one, and it may
    /// end, or say that it only watches, without a sign.
    Foreign,
    /// Nothing can ever wake one.
    Deadlock,
}

/// It waits, and not for a descriptor, which may become ready by itself.
fn waits_for_another(g: &G) -> bool {
    g.state.phase() == Phase::Parked && g.reason() != Some(WaitReason::IoWait)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::netpoll::Netpoll;
    use crate::park::{Parker, park};
    use crate::sched::Sizes;
    use crate::spawn::go_in;
    use std::panic::Location;

    #[test]
    fn a_deadlock_is_seen_and_a_foreign_thread_or_a_timer_is_not_one() {
        let shared = Shared::new(Sizes::of(2), Netpoll::new(None).unwrap(), None).unwrap();
        shared.start_first().unwrap();
        // As `Runtime::run` counts the thread that waits in it.
        shared.in_run.fetch_add(1, Ordering::SeqCst);
        let (tell, told) = std::sync::mpsc::channel();
        let waits = go_in(&shared, None, Location::caller(), move || {
            crate::sleep(std::time::Duration::from_millis(20));
            tell.send(Parker::current()).unwrap();
            park(WaitReason::ChanReceive, None);
        });
        let ours = || shared.threads().len() + 1;
        assert!(
            shared.outlook(ours) == Outlook::Open,
            "it runs, or a timer will wake it"
        );
        let parker = told.recv().unwrap();
        let start = clock::now();
        while shared.outlook(ours) != Outlook::Deadlock {
            assert!(clock::now().since(start).as_secs() < 20);
            std::thread::yield_now();
        }
        assert_eq!(shared.outlook(|| ours() + 1), Outlook::Foreign);
        let dump = crate::dump::dump(&shared, 10);
        assert!(
            dump.contains("goroutine 1 [chan receive, bound to M"),
            "{dump}"
        );
        let later = clock::now() + std::time::Duration::from_secs(185);
        shared.coarse.set(later);
        let dump = crate::dump::dump(&shared, 10);
        assert!(dump.contains("[chan receive, 3 minutes, bound"), "{dump}");
        parker.unpark();
        waits.join().unwrap();
        assert!(shared.outlook(ours) == Outlook::Open, "nobody waits");
        shared.exit();
        assert_eq!(shared.join_threads(clock::now()), 0);
    }

    #[test]
    fn a_wait_for_a_descriptor_of_the_kernel_is_no_deadlock() {
        let shared = Shared::new(Sizes::of(1), Netpoll::new(None).unwrap(), None).unwrap();
        shared.start_first().unwrap();
        shared.in_run.fetch_add(1, Ordering::SeqCst);
        let (reader, mut writer) = std::io::pipe().unwrap();
        let reads = go_in(&shared, None, Location::caller(), move || {
            let mut reader = crate::net::PollFd::new(reader).unwrap();
            std::io::Read::read(&mut reader, &mut [0; 8]).unwrap()
        });
        let start = clock::now();
        let waits = |g: &std::sync::Arc<G>| g.reason() == Some(WaitReason::IoWait);
        while !(shared.all_idle() && shared.live().iter().all(waits)) {
            assert!(clock::now().since(start).as_secs() < 20);
            std::thread::yield_now();
        }
        assert_eq!(shared.outlook(|| shared.threads().len() + 1), Outlook::Open);
        std::io::Write::write_all(&mut writer, b"x").unwrap();
        assert_eq!(reads.join().unwrap(), 1);
        shared.exit();
        assert_eq!(shared.join_threads(clock::now()), 0);
    }
}
