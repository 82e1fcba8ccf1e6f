//! Timers that tell a channel or start a goroutine.
//!
//! No goroutine stands behind a timer: it is an entry in a P's heap. As for the
//! deadlines of netpoll, one entry counts for a timer; setting it to a later
//! time leaves the entry where it is, which puts itself in again when it fires
//! too early. What nobody waits for any more is swept out of the heap.

use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use wirepath_driver::Nanos;

use super::now;
use crate::chan::{ReceiveFrom, Receiver, Sender, channel};
use crate::latch::Latch;
use crate::model;
use crate::park::Parker;
use crate::sched::{self, Shared};
use crate::timer::TimerTarget;

/// What a timer does when its time comes.
enum Action {
    /// Sends the time, if the last one was received.
    Send(Sender<Nanos>),
    /// Starts a goroutine.
    Start(Arc<dyn Fn() + Send + Sync>),
}

/// What all handles of a timer share.
struct Core {
    runtime: Weak<Shared>,
    action: Action,
    plan: Latch<Plan>,
}

/// Lock order: a heap's lock, then this, then a channel's.
struct Plan {
    /// When it fires; `None` when it is stopped or has fired.
    when: Option<Nanos>,
    period: Option<Duration>,
    /// When the entry that counts is due.
    queued: Option<Nanos>,
    /// The entry's number.
    seq: u64,
}

impl Plan {
    /// Sees to an entry at `when` or before. The number of one to be added.
    fn cover(&mut self, when: Nanos) -> Option<u64> {
        if self.queued.is_some_and(|at| at <= when) {
            return None;
        }
        self.queued = Some(when);
        self.seq += 1;
        Some(self.seq)
    }
}

impl Core {
    /// # Panics
    /// Without any runtime.
    fn start(action: Action, after: Duration, period: Option<Duration>) -> Arc<Core> {
        let runtime = sched::runtime_or_last();
        let runtime = runtime.expect("timers are made while there is a runtime");
        let core = Arc::new(Core {
            runtime: Arc::downgrade(&runtime),
            action,
            plan: Latch::new(Plan {
                when: None,
                period: None,
                queued: None,
                seq: 0,
            }),
        });
        core.set(after, period);
        core
    }

    fn add_entry(self: &Arc<Core>, when: Nanos, seq: Option<u64>) {
        if let (Some(seq), Some(runtime)) = (seq, self.runtime.upgrade()) {
            runtime.add_timer(when, seq, self.clone());
        }
    }

    /// True: it was set before. What it has sent and nobody has received yet is
    /// taken back.
    fn set(self: &Arc<Core>, after: Duration, period: Option<Duration>) -> bool {
        let when = now() + after;
        let mut plan = self.plan.lock();
        let was_set = plan.when.replace(when).is_some() | self.retract();
        plan.period = period;
        let seq = plan.cover(when);
        drop(plan);
        self.add_entry(when, seq);
        was_set
    }

    fn stop(&self) -> bool {
        let mut plan = self.plan.lock();
        plan.when.take().is_some() | self.retract()
    }

    /// True: it took a time back that was not received.
    fn retract(&self) -> bool {
        match &self.action {
            Action::Send(times) => times.retract().is_some(),
            Action::Start(_) => false,
        }
    }

    /// Does what is to be done at `now`. Called under the plan's lock, so that
    /// who stops the timer afterwards finds it done, or not.
    fn act(&self, now: Nanos) -> Option<model::Parker> {
        match &self.action {
            Action::Send(times) => times.deliver(now),
            Action::Start(_) => None,
        }
    }

    #[track_caller]
    fn start_goroutine(&self) {
        if let (Action::Start(f), Some(runtime)) = (&self.action, self.runtime.upgrade()) {
            let f = f.clone();
            crate::spawn::go_in(&runtime, None, std::panic::Location::caller(), move || f());
        }
    }
}

/// The first tick after `now`: those that were missed are dropped.
fn next_tick(when: Nanos, period: Duration, now: Nanos) -> Nanos {
    let period = u64::try_from(period.as_nanos()).unwrap_or(u64::MAX);
    let missed = now.0.saturating_sub(when.0) / period;
    Nanos(when.0.saturating_add(period.saturating_mul(missed + 1)))
}

impl TimerTarget for Core {
    fn fire(self: Arc<Self>, now: Nanos, seq: u64, _woken: &mut Vec<Parker>) {
        let mut plan = self.plan.lock();
        if plan.seq != seq {
            return;
        }
        plan.queued = None;
        let Some(when) = plan.when else { return };
        let due = when <= now;
        let mut receiver = None;
        if due {
            plan.when = plan.period.map(|period| next_tick(when, period, now));
            receiver = self.act(now);
        }
        let next = plan.when;
        let added = next.and_then(|next| plan.cover(next));
        drop(plan);
        if let Some(receiver) = receiver {
            receiver.into_unparked();
        }
        if let Some(next) = next {
            self.add_entry(next, added);
        }
        if due {
            self.start_goroutine();
        }
    }

    fn is_stale(&self, seq: u64) -> bool {
        let mut plan = self.plan.lock();
        if plan.seq != seq {
            return true;
        }
        let heard = match &self.action {
            Action::Send(times) => times.has_receivers(),
            Action::Start(_) => true,
        };
        let stale = plan.when.is_none() || !heard;
        if stale {
            plan.queued = None;
        }
        stale
    }
}

fn timer_channel(after: Duration, period: Option<Duration>) -> (Arc<Core>, Receiver<Nanos>) {
    let (times, receiver) = channel(1);
    (Core::start(Action::Send(times), after, period), receiver)
}

/// Sends the time once, as Go's `time.Timer` since Go 1.23: after
/// [`stop`](Timer::stop) or [`reset`](Timer::reset) no time from before is
/// received.
///
/// It can be a case of a select: `recv(timer) -> at`. A timer whose receivers
/// are all gone costs nothing.
pub struct Timer {
    core: Arc<Core>,
    times: Receiver<Nanos>,
}

impl Timer {
    /// Sends the time after `duration`.
    ///
    /// # Panics
    /// When there is no runtime.
    pub fn new(duration: Duration) -> Timer {
        let (core, times) = timer_channel(duration, None);
        Timer { core, times }
    }

    /// Where it sends the time to. The channel is never closed.
    pub fn times(&self) -> &Receiver<Nanos> {
        &self.times
    }

    /// Keeps it from firing. True: it was going to, or had and nobody had
    /// received that.
    pub fn stop(&self) -> bool {
        self.core.stop()
    }

    /// Sets it to `duration` from now. What it returns is as of
    /// [`stop`](Timer::stop).
    pub fn reset(&self, duration: Duration) -> bool {
        self.core.set(duration, None)
    }
}

/// Sends the time again and again, as Go's `time.Ticker`. Ticks that nobody
/// receives in time are dropped.
pub struct Ticker {
    core: Arc<Core>,
    times: Receiver<Nanos>,
}

fn check(period: Duration) {
    assert!(!period.is_zero(), "a ticker needs a period above zero");
}

impl Ticker {
    /// Sends the time every `period`.
    ///
    /// # Panics
    /// When `period` is zero (as in Go), or there is no runtime.
    pub fn new(period: Duration) -> Ticker {
        check(period);
        let (core, times) = timer_channel(period, Some(period));
        Ticker { core, times }
    }

    /// Where it sends the time to. The channel is never closed.
    pub fn times(&self) -> &Receiver<Nanos> {
        &self.times
    }

    /// Ends it; a tick that was not received is gone.
    pub fn stop(&self) {
        self.core.stop();
    }

    /// Goes on with another period; the next tick comes after one of it.
    ///
    /// # Panics
    /// When `period` is zero.
    pub fn reset(&self, period: Duration) {
        check(period);
        self.core.set(period, Some(period));
    }
}

impl ReceiveFrom for Timer {
    type Item = Nanos;
    fn receiver(&self) -> Option<&Receiver<Nanos>> {
        Some(&self.times)
    }
}

impl ReceiveFrom for Ticker {
    type Item = Nanos;
    fn receiver(&self) -> Option<&Receiver<Nanos>> {
        Some(&self.times)
    }
}

/// Where the time is sent to once, after `duration`, as Go's `time.After`.
///
/// # Panics
/// When there is no runtime.
pub fn after(duration: Duration) -> Receiver<Nanos> {
    timer_channel(duration, None).1
}

/// Where the time is sent to every `period`, as Go's `time.Tick`. It ends when
/// the receiver is dropped.
///
/// # Panics
/// When `period` is zero, or there is no runtime.
pub fn tick(period: Duration) -> Receiver<Nanos> {
    check(period);
    timer_channel(period, Some(period)).1
}

/// A function that is called in a goroutine of its own, as of Go's
/// `time.AfterFunc`. Dropping this does not stop it.
pub struct AfterFunc {
    core: Arc<Core>,
}

/// Calls `f` in a goroutine of its own after `duration`.
///
/// # Panics
/// When there is no runtime.
pub fn after_func(duration: Duration, f: impl Fn() + Send + Sync + 'static) -> AfterFunc {
    let core = Core::start(Action::Start(Arc::new(f)), duration, None);
    AfterFunc { core }
}

impl AfterFunc {
    /// Keeps it from being called. False: it was called already (and may still
    /// run), or stopped.
    pub fn stop(&self) -> bool {
        self.core.stop()
    }

    /// Has it called after `duration` from now, also if it was called before.
    /// What it returns is as of [`stop`](AfterFunc::stop).
    pub fn reset(&self, duration: Duration) -> bool {
        self.core.set(duration, None)
    }
}

macro_rules! debug {
    ($($name:ident),*) => {$(
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let when = self.core.plan.lock().when;
                f.debug_struct(stringify!($name)).field("when", &when).finish()
            }
        }
    )*};
}

debug!(Timer, Ticker, AfterFunc);

#[cfg(all(test, not(loom)))]
mod tests;
