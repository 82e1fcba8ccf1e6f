//! M: an OS thread that runs goroutines while it holds a P.
//!
//! [`M`] is what others see of it: the inbox for its bound goroutines, whether
//! it has a P, and the note that it sleeps on. [`Local`] is what the thread
//! alone uses; it lives on the thread's own stack and is found through a
//! thread-local.
//!
//! # Thread-locals across a switch
//!
//! A compiler may keep a thread-local's address in a register across a stack
//! switch. For a goroutine in the middle of a step that is harmless, since it
//! stays on its thread; the root loop of a fiber, which does move, reaches no
//! thread-local but through functions that are never inlined.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::mem::ManuallyDrop;
use std::panic::Location;
use std::sync::atomic::{AtomicI32, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use wirepath_driver::Nanos;
use wirepath_driver::trace::{self, Kind};

use crate::Next;
use crate::coro::{Fiber, Out};
use crate::events;
use crate::g::{FREE, G};
use crate::p::{P, count};
use crate::park::{Parker, WaitReason, Wake};
use crate::sched::Shared;
use crate::sched::registry::Place;
use crate::sched::state::Mark;
use crate::spawn::SpawnError;
use crate::word::Arm;

/// What an M does, as others need to know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Status {
    /// It has a P: it looks into its inbox by itself.
    Running,
    /// It sleeps without a P: who fills its inbox sees to it that it gets one.
    Idle,
    /// It is in `blocking`: it asks for a P itself when it is done.
    Blocking,
    /// Its thread ends.
    Gone,
}

/// An M.
pub(crate) struct M {
    pub(crate) index: usize,
    /// It runs one goroutine, and nothing else.
    pub(crate) own: bool,
    status: AtomicU8,
    inbox: Mutex<VecDeque<Arc<G>>>,
    /// Goroutines in the inbox; changed under its lock.
    inbox_len: AtomicUsize,
    note: Mutex<Option<Order>>,
    noted: Condvar,
    /// Goroutines suspended in the middle of a step here; written by the M.
    pub(crate) bound: AtomicUsize,
    /// Its thread, as /proc names it; 0 before it runs.
    pub(crate) tid: AtomicI32,
    /// The P that it holds, or [`NO_P`]. For those who watch.
    pub(crate) p: AtomicUsize,
    /// The goroutine that it runs, or 0. For those who watch.
    pub(crate) current: AtomicU64,
    /// The place of that goroutine in the registry.
    place: AtomicU64,
    /// Goroutines that its thread itself readied. For those who watch.
    ready: AtomicUsize,
    /// Goroutines that ended here.
    pub(crate) ended: AtomicU64,
}

/// `p` of an M without one.
pub(crate) const NO_P: usize = usize::MAX;

/// What a sleeping M is woken for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Order {
    /// Take this P; look for work on behalf of all if `spinning`.
    Run { p: usize, spinning: bool },
    /// Sleep as the poller.
    Poll,
    /// End.
    Exit,
}

impl M {
    pub(crate) fn new(index: usize, own: bool) -> M {
        M {
            index,
            own,
            status: AtomicU8::new(Status::Idle as u8),
            inbox: Mutex::default(),
            inbox_len: AtomicUsize::new(0),
            note: Mutex::new(None),
            noted: Condvar::new(),
            bound: AtomicUsize::new(0),
            tid: AtomicI32::new(0),
            p: AtomicUsize::new(NO_P),
            current: AtomicU64::new(0),
            place: AtomicU64::new(0),
            ready: AtomicUsize::new(0),
            ended: AtomicU64::new(0),
        }
    }

    /// Tells those who watch that it runs `g` now, and has `ready` others.
    fn begin(&self, g: &G, ready: usize) {
        self.place.store(g.place().to_bits(), Ordering::Relaxed);
        self.current.store(g.id, Ordering::Relaxed);
        self.ready.store(ready, Ordering::Relaxed);
    }

    /// The place of the goroutine that it runs, if it still does.
    pub(crate) fn place(&self) -> Place {
        Place::from_bits(self.place.load(Ordering::Relaxed))
    }

    /// Bound goroutines that are ready to run here.
    pub(crate) fn bound_ready(&self) -> usize {
        self.inbox_len.load(Ordering::Relaxed) + self.ready.load(Ordering::Relaxed)
    }

    pub(crate) fn status(&self) -> Status {
        match self.status.load(Ordering::SeqCst) {
            0 => Status::Running,
            1 => Status::Idle,
            2 => Status::Blocking,
            _ => Status::Gone,
        }
    }

    pub(crate) fn set_status(&self, status: Status) {
        self.status.store(status as u8, Ordering::SeqCst);
    }

    /// A goroutine was suspended here, or goes on. Called by the M itself.
    fn count_bound(&self, change: isize) {
        let bound = self.bound.load(Ordering::Relaxed);
        self.bound
            .store(bound.wrapping_add_signed(change), Ordering::Relaxed);
    }

    /// Puts a bound goroutine into the inbox, from any thread.
    pub(crate) fn post(&self, g: Arc<G>) {
        let mut inbox = self.inbox.lock().expect("nothing panics under this lock");
        inbox.push_back(g);
        self.inbox_len.store(inbox.len(), Ordering::SeqCst);
    }

    pub(crate) fn has_mail(&self) -> bool {
        self.inbox_len.load(Ordering::SeqCst) > 0
    }

    fn fetch(&self, into: &mut VecDeque<Arc<G>>) {
        let mut inbox = self.inbox.lock().expect("nothing panics under this lock");
        into.append(&mut inbox);
        self.inbox_len.store(0, Ordering::SeqCst);
    }

    /// Leaves an order and wakes the M if it sleeps on its note.
    pub(crate) fn order(&self, order: Order) {
        *self.note.lock().expect("nothing panics under this lock") = Some(order);
        self.noted.notify_one();
    }

    pub(crate) fn has_order(&self) -> bool {
        let note = self.note.lock().expect("nothing panics under this lock");
        note.is_some()
    }

    pub(crate) fn take_order(&self) -> Option<Order> {
        self.note
            .lock()
            .expect("nothing panics under this lock")
            .take()
    }

    /// Sleeps until there is an order.
    pub(crate) fn wait_order(&self) -> Order {
        let mut note = self.note.lock().expect("nothing panics under this lock");
        loop {
            if let Some(order) = note.take() {
                return order;
            }
            note = self
                .noted
                .wait(note)
                .expect("nothing panics under this lock");
        }
    }
}

/// Idle fibers of the usual size that an M keeps; more go to the runtime's pool.
pub(crate) const SPARE_FIBERS: usize = 16;

/// What belongs to the thread of an M.
pub(crate) struct Local {
    pub(crate) shared: Arc<Shared>,
    pub(crate) m: Arc<M>,
    /// Index of the P that it holds.
    p: Cell<Option<usize>>,
    pub(crate) spinning: Cell<bool>,
    /// After a sleep in epoll: shards of others may have frames as well.
    pub(crate) poll_all: Cell<bool>,
    /// Looking for work made some for this P: look again.
    pub(crate) progress: Cell<bool>,
    /// Runs in a row that came from runnext.
    pub(crate) nexts: Cell<u32>,
    /// Bound goroutines readied by this thread.
    pub(crate) inbox: RefCell<VecDeque<Arc<G>>>,
    fibers: RefCell<Vec<Fiber>>,
    /// Stacks claimed for goroutines that are still to be started.
    pub(crate) claims: Cell<usize>,
    /// Goroutines that ended here and are still in the registry.
    pub(crate) ended: RefCell<Vec<Arc<G>>>,
    /// Goroutines that ended, to be used again.
    pub(crate) dead: RefCell<Vec<Arc<G>>>,
    pub(crate) woken: Cell<Vec<Parker>>,
    pub(crate) rng: Cell<u64>,
    current: Cell<*const G>,
    stack: Cell<(usize, usize)>,
    blocking: Cell<bool>,
    /// Its goroutine is in `as_thread`.
    as_thread: Cell<bool>,
    /// The runtime ended while this thread was in `blocking`.
    pub(crate) orphaned: Cell<bool>,
}

thread_local! {
    static LOCAL: Cell<*const Local> = const { Cell::new(std::ptr::null()) };
}

#[inline(never)]
fn local_ptr() -> *const Local {
    LOCAL.get()
}

/// Calls `f` with the state of the current thread's M, if it is one.
pub(crate) fn with_local<R>(f: impl FnOnce(Option<&Local>) -> R) -> R {
    // SAFETY: the pointer is null or of a Local that lives in a frame below on
    // this thread's stack: `thread_main` sets and clears it.
    f(unsafe { local_ptr().as_ref() })
}

/// The goroutine that calls, unless it counts as its thread (see `park`), as a
/// count that the caller does not own.
fn current() -> Option<ManuallyDrop<Arc<G>>> {
    let g = with_local(|local| {
        let is_thread =
            |l: &Local| l.blocking.get() || l.as_thread.get() || std::thread::panicking();
        let local = local.filter(|l| !is_thread(l))?;
        Some(local.current.get()).filter(|g| !g.is_null())
    })?;
    // SAFETY: `current` is from `Arc::as_ptr`, and the G that calls lives while
    // it runs (`execute` holds a count) and while it is parked (the registry
    // does). The count is never dropped.
    Some(ManuallyDrop::new(unsafe { Arc::from_raw(g) }))
}

/// Calls `f` with the goroutine whose code calls, also where that counts as its
/// thread. `f` does not wait.
pub(crate) fn with_running<R>(f: impl FnOnce(Option<&G>) -> R) -> R {
    let g = with_local(|local| local.map_or(std::ptr::null(), |l| l.current.get()));
    // SAFETY: null, or the G that runs on this thread and calls: `execute`
    // holds a count of it meanwhile.
    f(unsafe { g.as_ref() })
}

/// The goroutine that calls, unless it counts as its thread (see `park`).
pub(crate) fn current_g() -> Option<Arc<G>> {
    current().map(|g| Arc::clone(&g))
}

/// Lets others run before the goroutine that calls. False: it counts as its
/// thread.
#[inline(always)]
pub(crate) fn yield_current() -> bool {
    current().map(|g| g.yield_now()).is_some()
}

/// Parks the goroutine that calls. None: it counts as its thread.
///
/// This and what it calls up to the switch is inlined into what waits, and so
/// is `execute` into the M's loop: after a switch the processor predicts every
/// return wrongly, since its stack of return addresses is that of the other
/// side, so each level of calls costs a misprediction.
#[inline(always)]
pub(crate) fn park_current(reason: WaitReason, deadline: Option<Nanos>) -> Option<Wake> {
    Some(current()?.park(reason, deadline))
}

/// Calls `f`, in which the goroutine that calls counts as its thread: if it
/// waits, the thread does, without its P.
pub(crate) fn as_thread<R>(f: impl FnOnce() -> R) -> R {
    let set = |to| with_local(|local| local.is_some_and(|l| l.as_thread.replace(to)));
    struct Restore<F: Fn(bool) -> bool>(F, bool);
    impl<F: Fn(bool) -> bool> Drop for Restore<F> {
        fn drop(&mut self) {
            (self.0)(self.1);
        }
    }
    let before = set(true);
    let _restore = Restore(set, before);
    f()
}

/// Whether the goroutine that calls was woken and has not taken note yet: its
/// next park returns at once.
pub(crate) fn is_told() -> bool {
    current().is_some_and(|g| g.state.is_told())
}

/// The number of the goroutine of that runtime which calls; 0 for a plain
/// thread, and for a goroutine of another runtime.
pub(crate) fn current_id_in(shared: &Shared) -> u64 {
    with_local(|local| {
        let local = local.filter(|l| std::ptr::eq(&*l.shared, shared));
        local.map_or(0, |l| l.m.current.load(Ordering::Relaxed))
    })
}

/// What the overflow handler tells of the goroutine that runs.
pub(crate) struct Running {
    pub(crate) id: u64,
    pub(crate) name: Option<&'static str>,
    pub(crate) site: &'static Location<'static>,
    pub(crate) stack: (usize, usize),
}

/// The goroutine that runs on this thread. Reads only what this thread wrote;
/// allocates nothing.
pub(crate) fn running() -> Option<Running> {
    with_local(|local| {
        let local = local?;
        // SAFETY: as in current_g; used only while the goroutine runs.
        let g: &'static G = unsafe { local.current.get().as_ref()? };
        Some(Running {
            id: g.id,
            name: g.name.as_deref(),
            site: g.site,
            stack: local.stack.get(),
        })
    })
}

impl Local {
    fn new(shared: Arc<Shared>, m: Arc<M>) -> Local {
        let seed = match &shared.simulation {
            Some(simulation) => simulation.local_seed(),
            None => (m.index as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15),
        };
        Local {
            shared,
            m,
            p: Cell::new(None),
            spinning: Cell::new(false),
            poll_all: Cell::new(false),
            progress: Cell::new(false),
            nexts: Cell::new(0),
            inbox: RefCell::default(),
            fibers: RefCell::default(),
            claims: Cell::new(0),
            ended: RefCell::default(),
            dead: RefCell::default(),
            woken: Cell::default(),
            rng: Cell::new(seed),
            current: Cell::new(std::ptr::null()),
            stack: Cell::new((0, 0)),
            blocking: Cell::new(false),
            as_thread: Cell::new(false),
            orphaned: Cell::new(false),
        }
    }

    pub(crate) fn p(&self) -> Option<&P> {
        self.p.get().map(|i| &self.shared.ps[i])
    }

    /// Takes a P: the caller has just taken it from the idle ones or was given
    /// it.
    pub(crate) fn acquire(&self, p: usize) {
        debug_assert!(self.p.get().is_none());
        self.p.set(Some(p));
        self.m.p.store(p, Ordering::Relaxed);
        self.m.set_status(Status::Running);
        if trace::enabled() {
            events::proc(Kind::ProcStart, p, self.m.index);
        }
    }

    /// Gives the P up; the caller passes it on.
    pub(crate) fn release(&self) -> usize {
        self.m.p.store(NO_P, Ordering::Relaxed);
        let p = self.p.take().expect("an M that gives up its P has one");
        if trace::enabled() {
            events::proc(Kind::ProcStop, p, self.m.index);
        }
        p
    }

    /// A number for the start of a round of stealing (xorshift).
    pub(crate) fn random(&self) -> usize {
        let mut x = self.rng.get();
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        self.rng.set(x);
        (x >> 33) as usize
    }

    /// A goroutine bound to this M that is ready.
    pub(crate) fn pop_bound(&self) -> Option<Arc<G>> {
        self.fetch_bound();
        self.inbox.borrow_mut().pop_front()
    }

    /// Has all bound goroutines that are ready in `inbox`.
    pub(crate) fn fetch_bound(&self) {
        if self.m.has_mail() {
            self.m.fetch(&mut self.inbox.borrow_mut());
        }
    }

    /// Queues a goroutine that is bound to this M and ready.
    pub(crate) fn push_bound(&self, g: Arc<G>) {
        let mut inbox = self.inbox.borrow_mut();
        inbox.push_back(g);
        self.m.ready.store(inbox.len(), Ordering::Relaxed);
    }

    pub(crate) fn has_bound(&self) -> bool {
        self.m.has_mail() || !self.inbox.borrow().is_empty()
    }

    /// Whether a goroutine runs on this M now.
    pub(crate) fn is_executing(&self) -> bool {
        !self.current.get().is_null()
    }

    /// Whether code that runs now is in `blocking`.
    pub(crate) fn set_blocking(&self, blocking: bool) {
        self.blocking.set(blocking);
    }

    pub(crate) fn is_blocking(&self) -> bool {
        self.blocking.get()
    }

    fn take_fiber(&self, g: &G) -> std::io::Result<Fiber> {
        match &g.stacks {
            Some(stacks) => stacks.take(),
            None => match self.fibers.borrow_mut().pop() {
                Some(fiber) => Ok(fiber),
                None => self.shared.stacks.take(),
            },
        }
    }

    fn put_fiber(&self, g: &G, fiber: Fiber) {
        let mut fibers = self.fibers.borrow_mut();
        if g.stacks.is_none() && fibers.len() < SPARE_FIBERS {
            return fibers.push(fiber);
        }
        drop(fibers);
        let stacks = g.stacks.as_ref().unwrap_or(&self.shared.stacks);
        stacks.put(fiber).watch(stacks, &self.shared);
    }

    /// Runs one goroutine after another, until there is none.
    fn run_while(&self, find: impl Fn() -> Option<Arc<G>>) {
        while let Some(g) = find() {
            self.execute(g);
        }
    }

    /// Runs a goroutine that came from a queue until it waits or ends.
    #[inline(always)]
    pub(crate) fn execute(&self, g: Arc<G>) {
        let p = self.p().expect("goroutines run on a P");
        p.advance();
        let told = g.state.start();
        g.note_running(&p.latencies);
        self.m.begin(&g, self.inbox.borrow().len());
        self.current.set(Arc::as_ptr(&g));
        if trace::enabled() {
            events::run(g.id, p.id, self.m.index);
        }
        // SAFETY: this M has just started the goroutine; a bound one comes from
        // this M's inbox only.
        let suspended = unsafe { g.take_fiber() };
        let fiber = match suspended {
            Some(fiber) => {
                // SAFETY: this M runs it.
                unsafe { g.tell(told) };
                self.m.count_bound(-1);
                Ok(fiber)
            }
            None => self.begin_step(&g, told),
        };
        match fiber {
            Ok(fiber) => {
                self.stack.set(fiber.bounds());
                self.switch_to(g, fiber);
            }
            Err(error) => self.abandon(g, Box::new(SpawnError::Stack(error))),
        }
        self.current.set(std::ptr::null());
        self.m.current.store(0, Ordering::Relaxed);
        if trace::enabled() {
            events::leave();
        }
    }

    /// Binds a free goroutine to this M, and has a stack for it.
    fn begin_step(&self, g: &G, told: Mark) -> std::io::Result<Fiber> {
        let fiber = self.take_fiber(g)?;
        g.set_home(self.m.index);
        // A wake before a step is used up by the step.
        if told.has(Mark::CANCELLED) {
            // SAFETY: this M has just started it.
            unsafe { g.doom(Box::new(crate::Cancelled)) };
        }
        Ok(fiber)
    }

    /// Ends a goroutine that this M runs, and of which no code is on a stack.
    /// What its end drops may wait, and blocks the thread then.
    fn abandon(&self, g: Arc<G>, why: Box<dyn std::any::Any + Send>) {
        let before = self.blocking.replace(true);
        // SAFETY: as the caller says.
        unsafe { g.abandon_body(why) };
        self.blocking.set(before);
        self.finished(g);
    }

    #[inline(always)]
    fn switch_to(&self, g: Arc<G>, mut fiber: Fiber) {
        loop {
            match fiber.resume(&g) {
                Out::Step => {
                    g.set_home(FREE);
                    self.put_fiber(&g, fiber);
                    // SAFETY: this M runs it.
                    let next = unsafe { g.take_next() };
                    return self.after_step(g, next);
                }
                Out::Park => {
                    // The fiber must be in place before the park is committed.
                    // SAFETY: this M runs the goroutine until then.
                    unsafe { g.put_fiber(fiber) };
                    self.m.count_bound(1);
                    if trace::enabled() {
                        trace_park(&g);
                    }
                    if g.state.commit_park() {
                        self.parked();
                        return;
                    }
                    self.m.count_bound(-1);
                    // SAFETY: it did not park, so this M still runs it.
                    fiber = unsafe { g.take_fiber() }.expect("put above");
                }
                Out::Yield => {
                    // SAFETY: this M runs it.
                    unsafe { g.put_fiber(fiber) };
                    self.m.count_bound(1);
                    if trace::enabled() {
                        events::plain(Kind::GoYield);
                    }
                    g.state.requeue();
                    g.note_runnable();
                    self.push_bound(g);
                    return;
                }
            }
        }
    }

    fn parked(&self) {
        if let Some(p) = self.p() {
            count(&p.parks);
        }
    }

    fn after_step(&self, g: Arc<G>, next: Next) {
        match next {
            Next::Done => {
                if trace::enabled() {
                    events::plain(Kind::GoEnd);
                }
                return self.finished(g);
            }
            Next::Yield => return self.requeue(g),
            Next::Sleep(until) if until <= self.shared.now() => return self.requeue(g),
            Next::Sleep(until) => {
                g.set_reason(WaitReason::Sleep);
                if trace::enabled() {
                    events::block(WaitReason::Sleep, 0);
                }
                g.set_timer(until);
            }
            Next::Wait(wait) => {
                g.set_reason(WaitReason::IoWait);
                if trace::enabled() {
                    events::block(WaitReason::IoWait, wait.flow());
                }
                match wait.arm(Parker::G(g.clone())) {
                    Arm::Armed => {}
                    Arm::Ready => return self.requeue(g),
                    Arm::Busy => {
                        let why = "another goroutine waits for this descriptor already";
                        // SAFETY: this M runs the goroutine, between steps.
                        unsafe { g.doom(Box::new(why)) };
                        return self.requeue(g);
                    }
                }
            }
        }
        if g.state.commit_park() {
            self.parked();
        } else {
            self.requeue(g);
        }
    }

    /// Puts a free goroutine that this M runs to the end of the queue.
    fn requeue(&self, g: Arc<G>) {
        if trace::enabled() {
            events::plain(Kind::GoYield);
        }
        g.state.requeue();
        g.note_runnable();
        match self.p() {
            Some(p) => p.queue.push(g, |half| self.shared.global.extend(half)),
            None => self.shared.global.extend([g]),
        }
    }
}

/// What a goroutine waits for that parks in the middle of a step; netpoll tells
/// of a descriptor by itself.
#[inline(never)]
fn trace_park(g: &G) {
    if let Some(reason) = g.last_reason().filter(|r| *r != WaitReason::IoWait) {
        events::block(reason, 0);
    }
}

/// The life of an M's thread.
pub(crate) fn thread_main(shared: Arc<Shared>, m: Arc<M>) {
    // Outlives what it is for.
    let _alternate = crate::coro::AltStack::install();
    let tid = rustix::thread::gettid().as_raw_nonzero().get();
    m.tid.store(tid, Ordering::Relaxed);
    trace::prepare();
    let local = Local::new(shared, m);
    LOCAL.set(&raw const local);
    if local.obey(local.m.wait_order()) {
        match &local.shared.simulation {
            None => local.run_while(|| local.find()),
            Some(simulation) => local.run_while(|| local.find_simulated(simulation)),
        }
    }
    local.unclaim_all();
    LOCAL.set(std::ptr::null());
    // Goroutines that are left never run again; bound ones leak their stacks.
    local.shared.give_up_after_stop();
}
