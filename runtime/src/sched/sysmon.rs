//! sysmon: the thread that watches the others, without a P.
//!
//! Every 10 ms, while any P is busy: it polls the network if nobody has, fires
//! timers that are late, and compensates for goroutines that keep their P, which
//! it also counts and names ([`super::watch`]). Once all P's are idle it looks
//! whether all goroutines wait for ever, and sleeps; it wakes only for the
//! scheduler's line, where one was asked for, and to look again where only a
//! thread that the runtime does not know could wake one.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use wirepath_driver::{Nanos, clock};

use super::Shared;
use super::end::Outlook;
use super::watch::Watch;
use crate::schedtrace::Schedule;

/// The period, and how long the network, a timer or a goroutine may go on
/// unwatched.
pub(super) const PERIOD: Duration = Duration::from_millis(10);

/// How long after the end of the last foreign thread a deadlock is told at most.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Frames taken in one poll for a busy P.
const POLL_BUDGET: usize = 64;

/// What wakes sysmon from its sleep.
#[derive(Default)]
pub(super) struct Bell {
    asleep: AtomicBool,
    lock: Mutex<()>,
    rung: Condvar,
}

impl Bell {
    /// A P is taken into use, or the runtime ends.
    pub(super) fn ring(&self) {
        if self.asleep.load(Ordering::SeqCst) {
            let _lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
            self.asleep.store(false, Ordering::SeqCst);
            self.rung.notify_one();
        }
    }

    /// Sleeps until it is rung, if `idle` still says so. False: it was not,
    /// and `until` has come.
    ///
    /// Ringing happens under the lock of the idle lists, which `idle` takes:
    /// so `idle` is asked without the bell's lock. Whoever ends the idleness
    /// after the answer sees `asleep`, and rings.
    fn sleep_if(&self, idle: impl Fn() -> bool, until: Nanos) -> bool {
        self.asleep.store(true, Ordering::SeqCst);
        let mut rung = true;
        if idle() {
            let mut lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
            while self.asleep.load(Ordering::SeqCst) && rung {
                let left = until.since(clock::now());
                rung = !left.is_zero();
                lock = match until {
                    Nanos::MAX => self.rung.wait(lock).unwrap_or_else(PoisonError::into_inner),
                    _ => {
                        let waited = self.rung.wait_timeout(lock, left);
                        waited.unwrap_or_else(PoisonError::into_inner).0
                    }
                };
            }
        }
        self.asleep.store(false, Ordering::SeqCst);
        rung
    }
}

/// The thread's life.
pub(super) fn run(shared: &Arc<Shared>) {
    let mut watch = Watch::new(shared);
    let mut lines = Schedule::new(shared.see.wishes(), clock::now());
    let resting = || shared.all_idle() && shared.in_use() == 0;
    while !shared.exiting() {
        if resting() {
            let until = match shared.check_deadlock() {
                Outlook::Foreign => lines.next().min(clock::now() + LOOK_AGAIN),
                _ => lines.next(),
            };
            let rung = shared
                .sysmon
                .sleep_if(|| resting() && !shared.exiting(), until);
            watch.forget();
            if !rung {
                lines.print_if_due(shared, clock::now());
                continue;
            }
        }
        std::thread::sleep(PERIOD);
        let now = clock::now();
        shared.coarse.set(now);
        shared.poll_if_late(now);
        shared.fire_late(now);
        watch.look(shared, now);
        lines.print_if_due(shared, now);
    }
}

impl Shared {
    pub(crate) fn start_sysmon(self: &Arc<Self>) -> std::io::Result<()> {
        let shared = self.clone();
        let thread = std::thread::Builder::new()
            .name("wirepath-sysmon".into())
            .spawn(move || {
                run(&shared);
                shared.note_exit();
            })?;
        self.threads().push(thread);
        Ok(())
    }

    /// The P's that spare ones in use stand in for.
    pub(super) fn covered(&self) -> Vec<usize> {
        let left = self.spares_left();
        let spares = self.ps[self.procs()..].iter();
        let used = spares.filter(|p| !left.contains(&p.id));
        used.map(|p| p.covers().0).collect()
    }

    /// Spare P's in use.
    pub(super) fn in_use(&self) -> usize {
        self.count_idle().spares_used
    }

    fn poll_if_late(&self, now: Nanos) {
        if self.all_idle() || self.sleeper.vigil.is_kept() {
            return;
        }
        let mut woken = Vec::new();
        if now.since(self.netpoll.kernel.last()) >= PERIOD {
            self.netpoll.poll_kernel(now, &mut woken);
        }
        for (shard, last) in self.last_polls.iter().enumerate() {
            if now.since(Nanos(last.load(Ordering::Relaxed))) < PERIOD {
                continue;
            }
            last.store(now.0, Ordering::Relaxed);
            self.netpoll.poll(shard, now, POLL_BUDGET, &mut woken);
            self.netpoll.flush(shard, now);
            self.rearm(shard);
        }
        self.events_moved();
        super::unpark_batch(&mut woken);
    }

    fn fire_late(&self, now: Nanos) {
        let mut woken = Vec::new();
        for p in &self.ps {
            if p.timers.next() + PERIOD <= now {
                p.timers.fire(now, &mut woken);
            }
        }
        super::unpark_batch(&mut woken);
    }
}
