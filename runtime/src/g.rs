//! G: a goroutine.
//!
//! A `G` is shared by its handle, by whoever may wake it, and by the queue or
//! M that has it; the runtime's registry keeps it until it ends. What runs is
//! `body`, reached only by the M that runs the goroutine.
//!
//! # Free and bound
//!
//! `home` is [`FREE`] while no code of the goroutine is on a stack: before its
//! first run and between two steps. All that exists of it then is `body`,
//! which is `Send`, and any M may run it. Once it runs, `home` is the index of
//! the M, and it stays so while the code is suspended: such a goroutine is
//! readied into that M's inbox and never runs elsewhere.

use std::cell::{Cell, UnsafeCell};
use std::panic::Location;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use wirepath_driver::{Nanos, clock, trace};

use crate::Next;
use crate::coro::{self, Fiber, Out, Stacks, Suspender};
use crate::events;
use crate::local::Locals;
use crate::metrics::Histogram;
use crate::park::{Parker, WaitReason, Wake};
use crate::sched::registry::Place;
use crate::sched::state::{Mark, Phase, State};
use crate::sched::{self, Shared};
use crate::spans;
use crate::spawn::End;
use crate::timer::TimerTarget;

/// `home` of a goroutine that may run on any M.
pub(crate) const FREE: usize = usize::MAX;

const NO_REASON: u8 = u8::MAX;

/// One in so many runs of a goroutine is timed from runnable to running (Go's
/// `gTrackingPeriod`). A power of two.
const TRACKING_PERIOD: u8 = 8;

/// What a goroutine does.
pub(crate) trait Body: Send {
    /// Runs one step (all of it, for `go`), and leaves its result in `end` when
    /// that was the last. Never unwinds.
    fn run(&mut self, end: &End) -> Next;

    /// Ends it without running on, for a reason that its handle reports.
    fn abandon(&mut self, why: Box<dyn std::any::Any + Send>, end: &End);
}

/// What a goroutine is started with, beside what it does.
pub(crate) struct Birth {
    pub(crate) name: Option<Arc<str>>,
    pub(crate) site: &'static Location<'static>,
    pub(crate) stacks: Option<Arc<Stacks>>,
    pub(crate) claimed: bool,
}

/// The body of a goroutine that ended before it was anywhere.
pub(crate) struct Ended;

impl Body for Ended {
    fn run(&mut self, _end: &End) -> Next {
        Next::Done
    }

    fn abandon(&mut self, _why: Box<dyn std::any::Any + Send>, _end: &End) {}
}

/// The body of a goroutine that must not run on.
struct Doomed {
    body: Box<dyn Body>,
    why: Option<Box<dyn std::any::Any + Send>>,
}

impl Body for Doomed {
    fn run(&mut self, end: &End) -> Next {
        if let Some(why) = self.why.take() {
            self.body.abandon(why, end);
        }
        Next::Done
    }

    fn abandon(&mut self, why: Box<dyn std::any::Any + Send>, end: &End) {
        self.body.abandon(why, end);
    }
}

/// A goroutine.
pub(crate) struct G {
    /// Its number, from 1.
    pub(crate) id: u64,
    /// Its name, when it has one.
    pub(crate) name: Option<Arc<str>>,
    /// Where it was started.
    pub(crate) site: &'static Location<'static>,
    /// The goroutine that started it; 0 when a plain thread did.
    pub(crate) creator: u64,
    /// Its runtime.
    pub(crate) shared: Arc<Shared>,
    /// Where it is.
    pub(crate) state: State,
    home: AtomicUsize,
    reason: AtomicU8,
    /// Its runs so far, as a byte; written by the M that runs it.
    runs: AtomicU8,
    /// When it began to wait, in seconds of the coarse clock.
    waits_since: AtomicU32,
    /// When it became runnable, in nanoseconds, if this run is timed; else 0.
    runnable_at: AtomicU64,
    /// The number of the timer that counts.
    timer: AtomicU64,
    /// Where its stack comes from, if it is not of the usual size.
    pub(crate) stacks: Option<Arc<Stacks>>,
    /// It has claimed a stack, until its end.
    pub(crate) claimed: bool,
    /// The top of the stack that its suspended code is on, or was on last.
    stack_high: AtomicUsize,
    /// Its place in the registry.
    place: AtomicU64,
    /// The word of the select that it is in.
    #[cfg(not(loom))]
    pub(crate) claim: crate::claim::Claim,
    /// How it ended.
    pub(crate) end: End,
    locals: OnceLock<Box<Locals>>,
    body: UnsafeCell<Option<Box<dyn Body>>>,
    /// Marks that were taken when it was started, and that it has not seen yet.
    told: Cell<Mark>,
    /// The stack that its suspended code is on.
    fiber: UnsafeCell<Option<Fiber>>,
    /// What its last step wants next.
    next: Cell<Next>,
    /// How its code switches away; set by the fiber when it starts to run it.
    suspender: Cell<Option<Suspender>>,
}

// SAFETY: the fields that are not Sync by themselves (`body`, `told`, `fiber`,
// `next`, `suspender`) are touched only by the M that moved `state` from Runnable to
// Running, until it moves it on; both moves are atomic, so one M's use happens
// before the next one's. `body` is Send, so it may be used from one M after
// another. `fiber` holds code in the middle of user frames, which need not be
// Send: it is there only while `home` names one M, the readying paths of
// `sched` queue such a G for that M alone, and only that M resumes it. A G that
// is freed with a fiber in it leaks the stack instead of unwinding it.
unsafe impl Sync for G {}
// SAFETY: as for Sync.
unsafe impl Send for G {}

impl G {
    pub(crate) fn new(id: u64, birth: Birth, shared: Arc<Shared>, body: Box<dyn Body>) -> G {
        G {
            id,
            name: birth.name,
            site: birth.site,
            creator: crate::m::current_id_in(&shared),
            shared,
            state: State::new(),
            home: AtomicUsize::new(FREE),
            reason: AtomicU8::new(NO_REASON),
            // So that goroutines that run once are sampled as well.
            runs: AtomicU8::new(id as u8),
            waits_since: AtomicU32::new(0),
            runnable_at: AtomicU64::new(0),
            timer: AtomicU64::new(0),
            stacks: birth.stacks,
            claimed: birth.claimed,
            stack_high: AtomicUsize::new(0),
            place: AtomicU64::new(0),
            #[cfg(not(loom))]
            claim: crate::claim::Claim::new(),
            end: End::default(),
            locals: OnceLock::new(),
            body: UnsafeCell::new(Some(body)),
            told: Cell::new(Mark::NONE),
            fiber: UnsafeCell::new(None),
            next: Cell::new(Next::Done),
            suspender: Cell::new(None),
        }
    }

    /// Makes a new goroutine of one that ended, to which nothing else refers. The
    /// number of its timer goes on, its runtime stays.
    pub(crate) fn renew(&mut self, id: u64, birth: Birth, body: Box<dyn Body>) {
        self.id = id;
        self.name = birth.name;
        self.site = birth.site;
        self.stacks = birth.stacks;
        self.claimed = birth.claimed;
        self.stack_high = AtomicUsize::new(0);
        self.creator = crate::m::current_id_in(&self.shared);
        *self.runs.get_mut() = id as u8;
        *self.runnable_at.get_mut() = 0;
        self.state = State::new();
        self.home = AtomicUsize::new(FREE);
        self.end = End::default();
        self.locals = OnceLock::new();
        self.told.set(Mark::NONE);
        *self.body.get_mut() = Some(body);
        debug_assert!(self.fiber.get_mut().is_none(), "it ended");
    }

    /// Its goroutine-local values.
    pub(crate) fn locals(&self) -> &Locals {
        self.locals.get_or_init(Box::default)
    }

    /// As [`G::locals`], if it ever had any.
    pub(crate) fn locals_if_any(&self) -> Option<&Locals> {
        self.locals.get().map(|locals| &**locals)
    }

    pub(crate) fn place(&self) -> Place {
        Place::from_bits(self.place.load(Ordering::Relaxed))
    }

    /// Called under the registry's lock.
    pub(crate) fn set_place(&self, place: Place) {
        self.place.store(place.to_bits(), Ordering::Relaxed);
    }

    /// The M that it is bound to, or [`FREE`].
    pub(crate) fn home(&self) -> usize {
        self.home.load(Ordering::Acquire)
    }

    pub(crate) fn set_home(&self, m: usize) {
        self.home.store(m, Ordering::Release);
    }

    /// What it waits for, when it waits.
    pub(crate) fn reason(&self) -> Option<WaitReason> {
        (self.state.phase() == Phase::Parked)
            .then(|| WaitReason::from_number(self.reason.load(Ordering::Relaxed)))?
    }

    /// What it waits for, or waited for last.
    pub(crate) fn last_reason(&self) -> Option<WaitReason> {
        WaitReason::from_number(self.reason.load(Ordering::Relaxed))
    }

    pub(crate) fn set_reason(&self, reason: WaitReason) {
        self.reason.store(reason as u8, Ordering::Relaxed);
        let now = self.shared.coarse.seconds();
        self.waits_since.store(now, Ordering::Relaxed);
    }

    /// How long it waits already, if it does: right to a second or so.
    pub(crate) fn waited_secs(&self) -> u32 {
        let since = self.waits_since.load(Ordering::Relaxed);
        self.shared.coarse.seconds().saturating_sub(since)
    }

    /// It is about to be put into a queue. Called by whoever made it runnable.
    pub(crate) fn note_runnable(&self) {
        if self
            .runs
            .load(Ordering::Relaxed)
            .is_multiple_of(TRACKING_PERIOD)
        {
            self.runnable_at.store(clock::now().0, Ordering::Relaxed);
        }
    }

    /// It starts to run. Called by the M that runs it.
    pub(crate) fn note_running(&self, latencies: &Histogram) {
        let runs = self.runs.load(Ordering::Relaxed);
        self.runs.store(runs.wrapping_add(1), Ordering::Relaxed);
        if !runs.is_multiple_of(TRACKING_PERIOD) {
            return;
        }
        let at = self.runnable_at.load(Ordering::Relaxed);
        if at != 0 {
            self.runnable_at.store(0, Ordering::Relaxed);
            latencies.record(clock::now().since(Nanos(at)));
        }
    }

    /// Runs one step of the body.
    ///
    /// # Safety
    /// The caller is the fiber that the running M resumed for this G.
    #[inline(never)]
    pub(crate) unsafe fn run_body(&self, suspender: Suspender) {
        self.suspender.set(Some(suspender));
        // SAFETY: the running M alone touches the body, and it does so once:
        // steps do not nest.
        let body = unsafe { &mut *self.body.get() };
        let next = body.as_mut().map_or(Next::Done, |body| body.run(&self.end));
        if matches!(next, Next::Done) {
            *body = None;
        }
        self.suspender.set(None);
        self.next.set(next);
    }

    /// What the step that just ended wants next.
    ///
    /// # Safety
    /// The caller is the M that runs this G.
    pub(crate) unsafe fn take_next(&self) -> Next {
        self.next.replace(Next::Done)
    }

    /// Has the goroutine end in place of its next step: what it holds is dropped
    /// on its own stack, where that may wait.
    ///
    /// # Safety
    /// The caller is the M that runs this G, between steps.
    pub(crate) unsafe fn doom(&self, why: Box<dyn std::any::Any + Send>) {
        // SAFETY: as for run_body.
        let slot = unsafe { &mut *self.body.get() };
        *slot = slot.take().map(|body| {
            let why = Some(why);
            Box::new(Doomed { body, why }) as Box<dyn Body>
        });
    }

    /// Ends the goroutine without a stack of its own.
    ///
    /// # Safety
    /// As for [`G::doom`].
    pub(crate) unsafe fn abandon_body(&self, why: Box<dyn std::any::Any + Send>) {
        // SAFETY: as for run_body.
        if let Some(mut body) = unsafe { &mut *self.body.get() }.take() {
            body.abandon(why, &self.end);
        }
    }

    /// Puts the suspended stack into the G.
    ///
    /// # Safety
    /// The caller is the M that runs this G.
    pub(crate) unsafe fn put_fiber(&self, fiber: Fiber) {
        self.stack_high.store(fiber.bounds().1, Ordering::Relaxed);
        // SAFETY: only the running M touches the field.
        unsafe { *self.fiber.get() = Some(fiber) };
    }

    /// How deep its stack has grown, in bytes, as [`crate::stack_high_water`]
    /// says; 0 while none of its code waits on a stack.
    pub(crate) fn stack_high_water(&self) -> usize {
        if self.state.phase() == Phase::Done || self.home() == FREE {
            return 0;
        }
        let high = self.stack_high.load(Ordering::Relaxed);
        let stacks = self.stacks.as_ref().unwrap_or(&self.shared.stacks);
        match high.checked_sub(stacks.stack_size()) {
            // Memory of the arena's, also if the goroutine ends meanwhile.
            Some(low) => coro::high_water((low, high)),
            None => 0,
        }
    }

    /// Takes the suspended stack, if there is one.
    ///
    /// # Safety
    /// The caller is the M that runs this G, and its home if it has one.
    pub(crate) unsafe fn take_fiber(&self) -> Option<Fiber> {
        // SAFETY: only the running M touches the field.
        unsafe { (*self.fiber.get()).take() }
    }

    /// Switches from the goroutine's stack to its M.
    #[inline(always)]
    fn suspend(&self, out: Out) {
        let spans = spans::leave();
        let suspender = self.suspender.get();
        // SAFETY: called on this G's own stack (park and yield_now are), whose
        // suspender was set when its step began.
        unsafe { suspender.expect("set while a step runs").suspend(out) };
        // Steps of others ran meanwhile, but they set their own G's.
        self.suspender.set(suspender);
        spans.enter();
    }

    /// Leaves the goroutine marks that were taken for it.
    ///
    /// # Safety
    /// The caller is the M that runs this G.
    pub(crate) unsafe fn tell(&self, told: Mark) {
        self.told.set(self.told.get().and(told));
    }

    /// What it was told since it last asked.
    fn take_told(&self) -> Mark {
        self.told.replace(Mark::NONE).and(self.state.take())
    }

    /// Waits on the goroutine's own stack.
    #[inline(always)]
    pub(crate) fn park(self: &Arc<G>, reason: WaitReason, deadline: Option<Nanos>) -> Wake {
        let told = self.take_told();
        if told.has(Mark::TOKEN) {
            return Wake::Notified;
        }
        if told.has(Mark::CANCELLED) {
            return Wake::Cancelled;
        }
        if let Some(at) = deadline {
            if at <= self.shared.now() {
                return Wake::Deadline;
            }
            self.set_timer(at);
        }
        self.set_reason(reason);
        self.suspend(Out::Park);
        let told = self.take_told();
        if deadline.is_some() {
            // The entry that may still be in the heap is stale now.
            self.timer.fetch_add(1, Ordering::Relaxed);
        }
        if told.has(Mark::TOKEN) {
            Wake::Notified
        } else if told.has(Mark::CANCELLED) {
            Wake::Cancelled
        } else if deadline.is_some_and(|at| self.shared.now() >= at) {
            Wake::Deadline
        } else {
            Wake::Notified
        }
    }

    /// Lets others run.
    #[inline(always)]
    pub(crate) fn yield_now(&self) {
        self.suspend(Out::Yield);
    }

    /// Sets a timer that leaves the mark `EXPIRED` at `when`.
    pub(crate) fn set_timer(self: &Arc<G>, when: Nanos) {
        let seq = self.timer.fetch_add(1, Ordering::Relaxed) + 1;
        self.shared.add_timer(when, seq, self.clone());
    }

    /// Sets the token and wakes it.
    pub(crate) fn unpark(self: &Arc<G>) {
        if self.state.wake(Mark::TOKEN) {
            self.trace_unblock();
            sched::ready(self.clone());
        }
    }

    /// As [`G::unpark`]; hands the caller's count on.
    pub(crate) fn into_unparked(self: Arc<G>) {
        if self.state.wake(Mark::TOKEN) {
            self.trace_unblock();
            sched::ready(self);
        }
    }
}

impl G {
    /// It was woken, not by netpoll.
    pub(crate) fn trace_unblock(&self) {
        if trace::enabled() && self.last_reason() != Some(WaitReason::IoWait) {
            events::unblock(self);
        }
    }
}

impl TimerTarget for G {
    fn fire(self: Arc<Self>, _now: Nanos, seq: u64, _woken: &mut Vec<Parker>) {
        if self.timer.load(Ordering::Relaxed) == seq && self.state.wake(Mark::EXPIRED) {
            if trace::enabled() {
                events::unblock(&self);
            }
            sched::ready(self);
        }
    }

    fn is_stale(&self, seq: u64) -> bool {
        self.timer.load(Ordering::Relaxed) != seq
    }
}
