//! The scheduler in virtual time: one M, one P, and an order from a seed.
//!
//! Each time, one of all runnable goroutines is picked at random, so another
//! seed goes through another interleaving, and the same seed through the same.
//! Nothing else chooses: there is no sysmon, no second M, no thief, and
//! [`super::blocking`] keeps its P.
//!
//! When nothing is runnable and no frame is on its way, whoever asked for that
//! ([`crate::simulation::wait`]) goes on; otherwise the clock jumps to the
//! first timer of goroutines or event of the network. If there is neither, the
//! goroutines wait for each other for ever: their waits are ended as at
//! shutdown, and [`crate::Runtime::run`] says who waited for what.
//!
//! The network is left alone until somebody waits in `run` for the first time:
//! whether the M polled it before that thread came would be chance, and with it
//! the time of the first frames.
//!
//! The clock stands while nobody waits in `run`. As in Go's `synctest` it
//! stands also once the main goroutine has returned, since a ticker that
//! nobody stopped would otherwise let it run for ever.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use wirepath_driver::{Nanos, trace};

use super::Shared;
use super::state::Phase;
use crate::g::G;
use crate::m::Local;
use crate::p::P;
use crate::park::Parker;

/// When virtual time begins: not at zero, which stands for «never» here and
/// there, and far enough for the past to be told.
pub(crate) const START: Nanos = Nanos(3_600_000_000_000);

/// How far the clock goes on when something that was due did not get done by a
/// poll (a full ring): it is tried again, and time passes.
const TICK: Duration = Duration::from_micros(1);

/// One in so many looks for a goroutine polls the network first.
const POLL_CHANCE: usize = 8;

/// What virtual time needs beyond the scheduler's own.
pub(crate) struct Simulation {
    seed: u64,
    now: AtomicU64,
    /// Main goroutines that have begun and not ended, and plain threads that
    /// wait for another goroutine's end: while there is one, time goes on.
    attended: AtomicUsize,
    /// Somebody has attended.
    begun: AtomicBool,
    inner: Mutex<Inner>,
    rested: Condvar,
}

struct Inner {
    rng: u64,
    runs: u64,
    fingerprint: u64,
    waiter: Option<Parker>,
    deadlock: Option<String>,
    /// Nothing can run, and nobody is there for whom time would go on.
    at_rest: bool,
}

/// Counts one whom time goes on for.
pub(crate) struct Attendance(Arc<Shared>);

impl Drop for Attendance {
    fn drop(&mut self) {
        if let Some(simulation) = &self.0.simulation {
            simulation.attended.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

/// A well mixed number from any (the finalizer of splitmix64).
fn mixed(seed: u64) -> u64 {
    let mut x = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    // Never zero, from which xorshift does not get away.
    (x ^ (x >> 31)) | 1
}

impl Inner {
    fn below(&mut self, n: usize) -> usize {
        self.rng ^= self.rng << 13;
        self.rng ^= self.rng >> 7;
        self.rng ^= self.rng << 17;
        (self.rng >> 33) as usize % n
    }

    /// Notes a run in the fingerprint (FNV-1a, a word at a time).
    fn note(&mut self, id: u64, now: Nanos) {
        self.runs += 1;
        for word in [id, now.0] {
            self.fingerprint = (self.fingerprint ^ word).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

impl Simulation {
    pub(crate) fn new(seed: u64) -> Simulation {
        if trace::enabled() {
            trace::set_virtual(Some(START));
        }
        Simulation {
            seed,
            now: AtomicU64::new(START.0),
            attended: AtomicUsize::new(0),
            begun: AtomicBool::new(false),
            inner: Mutex::new(Inner {
                rng: mixed(seed),
                runs: 0,
                fingerprint: 0xcbf2_9ce4_8422_2325,
                waiter: None,
                deadlock: None,
                at_rest: false,
            }),
            rested: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn now(&self) -> Nanos {
        Nanos(self.now.load(Ordering::SeqCst))
    }

    /// Where the M's own random numbers start.
    pub(crate) fn local_seed(&self) -> u64 {
        mixed(!self.seed)
    }

    /// Runs so far, and a number that depends on each of them, its order and
    /// its time.
    pub(crate) fn runs(&self) -> (u64, u64) {
        let inner = self.lock();
        (inner.runs, inner.fingerprint)
    }

    /// The list of those that waited for each other for ever, if that came.
    pub(crate) fn deadlock(&self) -> Option<String> {
        self.lock().deadlock.clone()
    }

    /// Has `parker` unparked when nothing else can run. False: another waits
    /// for that.
    pub(crate) fn set_waiter(&self, parker: Parker) -> bool {
        let mut inner = self.lock();
        let free = inner.waiter.is_none();
        if free {
            inner.waiter = Some(parker);
        }
        free
    }

    pub(crate) fn is_waiter(&self, parker: &Parker) -> bool {
        self.lock().waiter.as_ref() == Some(parker)
    }

    /// Takes a waiter back that goes on for another reason.
    pub(crate) fn clear_waiter(&self) {
        self.lock().waiter = None;
    }

    /// Wakes who waits for the moment in which nothing can run.
    fn wake_waiter(&self) -> bool {
        let mut inner = self.lock();
        let waiter = inner.waiter.take();
        drop(inner);
        waiter.as_ref().map(Parker::unpark).is_some()
    }

    /// Draws nothing before the main goroutine runs: how often the M looks for
    /// it until then is chance.
    fn wants_poll(&self) -> bool {
        self.is_attended() && self.lock().below(POLL_CHANCE) == 0
    }

    /// Goes on to `at`; if that has come already, a little further.
    fn jump(&self, at: Nanos) {
        let now = self.now();
        let to = if at > now { at } else { now + TICK };
        self.now.store(to.0, Ordering::SeqCst);
        self.tell_trace();
    }

    /// Events have this time, if they were asked for when it all began.
    fn tell_trace(&self) {
        if trace::is_virtual() {
            trace::set_virtual(Some(self.now()));
        }
    }

    /// It is `at` or later.
    pub(crate) fn reach(&self, at: Nanos) {
        self.now.fetch_max(at.0, Ordering::SeqCst);
        self.tell_trace();
    }

    fn set_at_rest(&self, at_rest: bool) {
        let mut inner = self.lock();
        inner.at_rest = at_rest;
        if at_rest {
            self.rested.notify_all();
        }
    }

    /// Blocks the thread until nothing can run any more. For a thread from
    /// outside, when nobody attends.
    pub(crate) fn wait_for_rest(&self) {
        let mut inner = self.lock();
        while !inner.at_rest {
            inner = self
                .rested
                .wait(inner)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn is_attended(&self) -> bool {
        self.attended.load(Ordering::SeqCst) > 0
    }
}

impl Drop for Simulation {
    fn drop(&mut self) {
        trace::set_virtual(None);
    }
}

impl Shared {
    /// The time as this runtime's goroutines and its network see it.
    #[inline]
    pub(crate) fn now(&self) -> Nanos {
        match &self.simulation {
            None => wirepath_driver::clock::now(),
            Some(simulation) => simulation.now(),
        }
    }

    /// Whether the network is looked at: see the module's text.
    pub(super) fn has_begun(&self) -> bool {
        let simulation = self.simulation.as_ref();
        simulation.is_none_or(|simulation| simulation.begun.load(Ordering::SeqCst))
    }

    /// In virtual time: keeps the clock going until it is dropped.
    pub(crate) fn attend(self: &Arc<Self>) -> Option<Attendance> {
        let simulation = self.simulation.as_ref()?;
        simulation.attended.fetch_add(1, Ordering::SeqCst);
        simulation.begun.store(true, Ordering::SeqCst);
        Some(Attendance(self.clone()))
    }

    /// As [`Shared::attend`], for a thread that begins to wait: the M may sleep
    /// because nobody did.
    pub(crate) fn attend_from_outside(self: &Arc<Self>) -> Option<Attendance> {
        let attendance = self.attend();
        if attendance.is_some() {
            self.nudge();
        }
        attendance
    }

    /// Goroutines wait for each other for ever: ends their waits.
    fn end_deadlock(&self, simulation: &Simulation) {
        let list = crate::dump::dump(self, super::end::DEADLOCK_DUMP);
        simulation.lock().deadlock.get_or_insert(list);
        self.cancel();
    }

    /// Nothing is runnable. Wakes somebody, or lets time go on. False: there is
    /// nothing to do until a thread from outside does something.
    fn go_on(&self, simulation: &Simulation) -> bool {
        if self.in_blocking.load(Ordering::SeqCst) > 0 {
            return false;
        }
        if simulation.wake_waiter() {
            return true;
        }
        if !simulation.is_attended() {
            return false;
        }
        let next = self.next_timer().min(self.next_event());
        if next != Nanos::MAX {
            simulation.jump(next);
            return true;
        }
        let live = self.live();
        let all_wait = live.iter().all(|g| g.state.phase() == Phase::Parked);
        let deadlock = !live.is_empty() && all_wait && !self.cancelled.load(Ordering::SeqCst);
        if deadlock {
            self.end_deadlock(simulation);
        }
        deadlock
    }
}

impl Local {
    /// [`Local::find`] in virtual time.
    pub(crate) fn find_simulated(&self, simulation: &Simulation) -> Option<Arc<G>> {
        loop {
            if self.shared.exiting() {
                return None;
            }
            let p = self.p().expect("an M looks for work with a P");
            if self.spinning.get() {
                self.stop_spinning();
            }
            self.fire_timers(p, simulation.now());
            // What is drawn must not depend on how often an M looked in vain while
            // a thread from outside was on its way.
            if self.has_runnable(p) && simulation.wants_poll() {
                self.flush();
                self.poll(p);
            }
            if let Some(g) = self.pick(simulation, p) {
                return Some(g);
            }
            self.flush();
            let polled = self.shared.has_begun() && self.poll(p);
            self.flush();
            if polled || self.shared.arm_all() {
                continue;
            }
            // An M that waits in the middle of unwinding has its P given away,
            // and wants one afterwards.
            let wanted = self.shared.is_wanted() && self.serve_wanting();
            if !wanted && self.shared.go_on(simulation) {
                continue;
            }
            simulation.set_at_rest(!wanted);
            if !self.rest() {
                return None;
            }
            simulation.set_at_rest(false);
        }
    }

    fn has_runnable(&self, p: &P) -> bool {
        !p.queue.is_empty() || !self.shared.global.is_empty() || self.has_bound()
    }

    /// One of the runnable goroutines: free ones, which all are in the global
    /// queue here, and those bound to this M.
    fn pick(&self, simulation: &Simulation, p: &P) -> Option<Arc<G>> {
        let free = std::iter::from_fn(|| p.queue.pop_next().or_else(|| p.queue.pop()));
        self.shared.global.extend(free);
        self.fetch_bound();
        let mut bound = self.inbox.borrow_mut();
        let all = self.shared.global.len() + bound.len();
        if all == 0 {
            return None;
        }
        let mut inner = simulation.lock();
        let chosen = inner.below(all);
        let g = match chosen.checked_sub(bound.len()) {
            None => bound.remove(chosen),
            Some(i) => self.shared.global.take_at(i),
        }?;
        inner.note(g.id, simulation.now());
        Some(g)
    }
}
