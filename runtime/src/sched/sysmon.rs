//! sysmon: the thread that watches the others, without a P.
//!
//! Every 10 ms, while any P is busy: it polls the network if nobody has, fires
//! timers that are late, and compensates for goroutines that keep their P.
//! While all P's are idle it sleeps.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use wirepath_driver::{Nanos, clock};

use super::Shared;

/// The period, and how long the network, a timer or a goroutine may go on
/// unwatched.
pub(super) const PERIOD: Duration = Duration::from_millis(10);

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

    /// Sleeps until it is rung, if `idle` still says so.
    ///
    /// Ringing happens under the lock of the idle lists, which `idle` takes:
    /// so `idle` is asked without the bell's lock. Whoever ends the idleness
    /// after the answer sees `asleep`, and rings.
    fn sleep_if(&self, idle: impl Fn() -> bool) {
        self.asleep.store(true, Ordering::SeqCst);
        if idle() {
            let mut lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
            while self.asleep.load(Ordering::SeqCst) {
                lock = self.rung.wait(lock).unwrap_or_else(PoisonError::into_inner);
            }
        }
        self.asleep.store(false, Ordering::SeqCst);
    }
}

/// The thread's life.
pub(super) fn run(shared: &Arc<Shared>) {
    let mut ticks = vec![None; shared.ps.len()];
    while !shared.exiting() {
        if shared.all_idle() && shared.in_use() == 0 {
            if shared.netpoll.kernel.registered() > 0 {
                shared.check_deadlock();
            }
            shared
                .sysmon
                .sleep_if(|| shared.all_idle() && shared.in_use() == 0 && !shared.exiting());
            ticks.fill(None);
        }
        std::thread::sleep(PERIOD);
        let now = clock::now();
        shared.poll_if_late(now);
        shared.fire_late(now);
        shared.watch(&mut ticks);
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
    fn covered(&self) -> Vec<usize> {
        let left = self.spares_left();
        let spares = self.ps[self.procs()..].iter();
        let used = spares.filter(|p| !left.contains(&p.id));
        used.map(|p| p.covers().0).collect()
    }

    /// Spare P's in use.
    pub(super) fn in_use(&self) -> usize {
        self.ps.len() - self.procs() - self.spares_left().len()
    }

    fn poll_if_late(&self, now: Nanos) {
        if self.all_idle() || self.sleeper.is_slept_on() {
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

    /// Compensates for each P whose goroutine has run for a whole period while
    /// free goroutines wait.
    fn watch(&self, ticks: &mut [Option<u32>]) {
        let waiting = self.any_work() && self.census.idle() == 0;
        let covered = self.covered();
        for (p, seen) in self.ps[..self.procs()].iter().zip(ticks) {
            let tick = p.tick.load(Ordering::Relaxed);
            let stuck = seen.replace(tick) == Some(tick);
            if waiting && stuck && !covered.contains(&p.id) && !self.compensate(p.id, tick) {
                return;
            }
        }
    }
}
