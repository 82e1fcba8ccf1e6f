//! How M's go to sleep without missing a wake, and how they are woken. The
//! order of steps that this hangs on is told in [`super::census`].
//!
//! # The poller
//!
//! One idle M, the poller, sleeps in epoll on the network, the timers and an
//! eventfd ([`super::sleeper`]); the others sleep on their notes. Whoever gives
//! the poller an order writes the eventfd. Goroutines that the sleep found ready
//! are queued once the poller has a P, or has seen that there is none to be had.
//!
//! While a P is idle and a goroutine runs there is a poller: an M that is about
//! to run a goroutine, and finds none, makes one of another M (Go's `wakep`
//! comes to the same). Otherwise the shards and timers of the idle P would be
//! looked after by nobody but sysmon. While every P is held there need be none.
//!
//! What a running P does behind the poller's back must not spoil its sleep: a
//! poll disarms a shard, so the shard is armed again if somebody sleeps on it;
//! and a flush may bring the shard's next event nearer, so whoever gives a P up
//! has the poller woken if it would sleep past that.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use wirepath_driver::trace::{self, Kind};
use wirepath_driver::{Nanos, clock};

use super::{Shared, Sizes};
use crate::events;
use crate::m::{self, Local, M, Order, Status};
use crate::p::P;

/// How long an M waits for an order before it sleeps: about what it takes to
/// wake a thread.
const LINGER: Duration = Duration::from_micros(20);

/// Who and what is idle.
pub(super) struct Idle {
    /// P's that nobody holds.
    ps: Vec<usize>,
    /// P's beyond the configured number, for compensation.
    spares: Vec<usize>,
    /// M's asleep on their notes.
    ms: Vec<Arc<M>>,
    /// M's that belong to one goroutine each.
    pub(super) own: Vec<Arc<M>>,
    /// Indices of M's that are gone, to be used again.
    pub(super) gone: Vec<usize>,
    /// The M in epoll, or on its way there.
    poller: Option<Arc<M>>,
    /// M's without a P that have bound goroutines to run. Empty while a P is
    /// idle.
    wanting: VecDeque<Arc<M>>,
}

impl Idle {
    pub(super) fn new(sizes: Sizes) -> Idle {
        Idle {
            ps: (0..sizes.procs).rev().collect(),
            spares: (sizes.procs..2 * sizes.most_procs).collect(),
            ms: Vec::new(),
            own: Vec::new(),
            gone: Vec::new(),
            poller: None,
            wanting: VecDeque::new(),
        }
    }
}

/// How many P's and M's are idle, and how many P's beyond the configured number
/// are in use.
#[derive(Clone, Copy)]
pub(super) struct IdleCounts {
    pub(super) ps: usize,
    pub(super) ms: usize,
    pub(super) spares_used: usize,
}

impl Shared {
    pub(super) fn idle(&self) -> MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_p(&self, idle: &mut Idle) -> Option<usize> {
        let p = idle.ps.pop()?;
        self.census.set_idle(idle.ps.len());
        self.note_used(p);
        Some(p)
    }

    /// Takes a P beyond those that count, if fewer are in use than of those.
    fn take_spare(&self, idle: &mut Idle) -> Option<usize> {
        let used = self.ps.len() - self.procs() - idle.spares.len();
        if used >= self.procs() {
            return None;
        }
        let first = (0..idle.spares.len()).min_by_key(|&i| idle.spares[i])?;
        let p = idle.spares.swap_remove(first);
        self.note_used(p);
        Some(p)
    }

    fn note_used(&self, p: usize) {
        self.ps_used.fetch_max(p + 1, Ordering::AcqRel);
    }

    /// Changes the number of P's; returns what it was. `procs` is at most what
    /// the runtime was made for.
    ///
    /// A P that no longer counts and is in use is given up by its M after the
    /// next goroutine, as a spare one that has nobody to stand in for.
    pub(crate) fn set_procs(&self, procs: usize) -> usize {
        let mut idle = self.idle();
        let old = self.procs.swap(procs, Ordering::Relaxed);
        for p in procs..old {
            self.ps[p].cover(p, self.ps[p].tick.load(Ordering::Relaxed));
        }
        let lists = std::mem::take(&mut idle.ps).into_iter();
        let lists = lists.chain(std::mem::take(&mut idle.spares));
        (idle.ps, idle.spares) = lists.partition(|&p| p < procs);
        self.census.set_idle(idle.ps.len());
        while let Some(m) = idle.wanting.front().cloned() {
            let Some(p) = self.take_p(&mut idle) else {
                break;
            };
            self.order_run(&mut idle, &m, p, false);
        }
        drop(idle);
        if self.any_work() {
            self.wake_p();
        }
        self.events_moved();
        old
    }

    fn put_p(&self, idle: &mut Idle, p: usize) {
        if p >= self.procs() {
            idle.spares.push(p);
            return;
        }
        idle.ps.push(p);
        self.census.set_idle(idle.ps.len());
    }

    pub(super) fn set_poller(&self, idle: &mut Idle, m: Option<Arc<M>>) {
        self.polled.store(m.is_some(), Ordering::SeqCst);
        idle.poller = m;
    }

    /// An M that was made the poller may be ordered to run before it gets there.
    fn leave_poller(&self, m: &Arc<M>) {
        if self.polled.load(Ordering::SeqCst) {
            let mut idle = self.idle();
            let poller = idle.poller.as_ref();
            if poller.is_some_and(|other| Arc::ptr_eq(other, m)) {
                self.set_poller(&mut idle, None);
            }
        }
    }

    /// Orders a sleeping M to take a P: from then on it counts as running.
    fn order_run(&self, idle: &mut Idle, m: &Arc<M>, p: usize, spinning: bool) {
        idle.ms.retain(|other| !Arc::ptr_eq(other, m));
        idle.wanting.retain(|other| !Arc::ptr_eq(other, m));
        self.wanting.store(idle.wanting.len(), Ordering::SeqCst);
        m.set_status(Status::Running);
        m.order(Order::Run { p, spinning });
        if idle
            .poller
            .as_ref()
            .is_some_and(|other| Arc::ptr_eq(other, m))
        {
            // It stays the poller until it has left epoll: another that came
            // there before would take the wake that is meant for this one.
            self.sleeper.wake();
        }
        self.sysmon.ring();
    }

    /// Gives `p` to an idle M, or to a new one.
    ///
    /// # Errors
    /// When no thread could be started, or the runtime ends.
    fn start_m(&self, idle: &mut Idle, p: usize, spinning: bool) -> io::Result<()> {
        let poller = idle.poller.as_ref();
        let poller = poller.filter(|m| m.status() == Status::Idle);
        let m = match idle.ms.last().or(poller) {
            Some(m) => m.clone(),
            None => self.spawn_m(idle, false)?,
        };
        self.order_run(idle, &m, p, spinning);
        Ok(())
    }

    /// Starts a thread. Called under the lock of the idle lists, as is the end,
    /// which counts the threads.
    pub(super) fn spawn_m(&self, idle: &mut Idle, own: bool) -> io::Result<Arc<M>> {
        if self.exiting() {
            return Err(io::Error::other("the runtime ends"));
        }
        self.reap_threads();
        let mut ms = self.ms.write().unwrap_or_else(PoisonError::into_inner);
        let index = idle.gone.last().copied().unwrap_or(ms.len());
        if index >= self.most_threads {
            return Err(io::Error::other(
                "the runtime has as many threads as it may",
            ));
        }
        let m = Arc::new(M::new(index, own));
        let shared = self.me.upgrade().expect("a running M keeps it alive");
        let own = m.clone();
        let thread = std::thread::Builder::new()
            .name(format!("wirepath-m{}", m.index))
            .spawn(move || {
                m::thread_main(shared.clone(), own);
                shared.note_exit();
            })?;
        self.threads().push(thread);
        if index == ms.len() {
            ms.push(m.clone());
        } else {
            idle.gone.pop();
            let ended = ms[index].ended.load(Ordering::Relaxed);
            m.ended.store(ended, Ordering::Relaxed);
            ms[index] = m.clone();
        }
        Ok(m)
    }

    /// Starts the first M.
    ///
    /// # Errors
    /// When no thread could be started.
    pub(crate) fn start_first(&self) -> io::Result<()> {
        let mut idle = self.idle();
        let p = self
            .take_p(&mut idle)
            .expect("all P's are idle at the start");
        self.start_m(&mut idle, p, false)
    }

    /// There is work that an idle P could do: wakes an M for it, unless one
    /// looks already.
    pub(crate) fn wake_p(&self) {
        if self.census.must_wake() {
            self.start_spinner();
        }
    }

    /// Gives an idle P to an M, which is counted as spinning already.
    fn start_spinner(&self) {
        let mut idle = self.idle();
        if let Some(p) = self.take_p(&mut idle) {
            if self.start_m(&mut idle, p, true).is_ok() {
                return;
            }
            // No thread to be had: those that run will come to it.
            self.put_p(&mut idle, p);
        }
        self.census.unspin();
    }

    /// Makes an M the poller if a P is idle and there is none.
    pub(super) fn ensure_poller(&self) {
        let mut idle = self.idle();
        if idle.poller.is_some() || idle.ps.is_empty() || self.exiting() {
            return;
        }
        let m = match idle.ms.pop() {
            Some(m) => m,
            None => match self.spawn_m(&mut idle, false) {
                Ok(m) => m,
                // Then sysmon looks after the shards and timers.
                Err(_) => return,
            },
        };
        m.order(Order::Poll);
        self.set_poller(&mut idle, Some(m));
    }

    /// Gives a P beyond the configured number to an M that steals from `stuck`,
    /// until that goes on from `tick`. False: all are in use.
    pub(super) fn compensate(&self, stuck: usize, tick: u32) -> bool {
        let mut idle = self.idle();
        let Some(p) = self.take_spare(&mut idle) else {
            return false;
        };
        self.ps[p].cover(stuck, tick);
        self.census.spin();
        let started = self.start_m(&mut idle, p, true).is_ok();
        if !started {
            self.census.unspin();
            self.put_p(&mut idle, p);
        }
        started
    }

    /// Whether `p` is a spare one whose stuck P has gone on.
    pub(super) fn is_over(&self, p: &P) -> bool {
        p.id >= self.procs() && {
            let (stuck, tick) = p.covers();
            self.ps[stuck].tick.load(Ordering::Relaxed) != tick
        }
    }

    /// A bound goroutine of `m` is ready: gives it a P if one is idle, or notes
    /// that it wants one.
    pub(super) fn want_p(&self, m: &Arc<M>) {
        let mut idle = self.idle();
        if m.status() != Status::Idle {
            return;
        }
        if self.exiting() {
            // Nobody runs any more who would pass a P on.
            return m.order(Order::Exit);
        }
        if let Some(p) = self.take_p(&mut idle) {
            self.order_run(&mut idle, m, p, false);
        } else if !idle.wanting.iter().any(|other| Arc::ptr_eq(other, m)) {
            idle.wanting.push_back(m.clone());
            self.wanting.store(idle.wanting.len(), Ordering::SeqCst);
        }
    }

    /// Passes on a P that its M gives up: to an M that wants one, or else to
    /// the idle ones.
    fn pass_on(&self, idle: &mut Idle, p: usize) {
        // Not stuck: a spare P that stands in for it sees so.
        self.ps[p].advance();
        match idle.wanting.front().cloned() {
            Some(m) if !self.is_over(&self.ps[p]) => self.order_run(idle, &m, p, false),
            _ => self.put_p(idle, p),
        }
    }

    /// How many are idle, read together.
    pub(super) fn count_idle(&self) -> IdleCounts {
        let idle = self.idle();
        let poller = idle.poller.as_ref();
        let sleeps = poller.is_some_and(|m| m.status() == Status::Idle);
        IdleCounts {
            ps: idle.ps.len(),
            ms: idle.ms.len() + usize::from(sleeps),
            spares_used: self.ps.len() - self.procs() - idle.spares.len(),
        }
    }

    pub(super) fn spares_left(&self) -> Vec<usize> {
        self.idle().spares.clone()
    }

    pub(super) fn is_wanted(&self) -> bool {
        self.wanting.load(Ordering::Relaxed) > 0
    }

    /// Free goroutines wait somewhere.
    pub(super) fn any_work(&self) -> bool {
        !self.global.is_empty() || self.used_ps().iter().any(|p| !p.queue.is_empty())
    }

    pub(super) fn exiting(&self) -> bool {
        self.exiting.load(Ordering::Relaxed)
    }

    /// All P's are idle.
    pub(super) fn all_idle(&self) -> bool {
        self.census.idle() == self.procs()
    }

    /// Orders every M to end once its goroutine comes back.
    pub(crate) fn exit(&self) {
        let idle = self.idle();
        self.exiting.store(true, Ordering::SeqCst);
        self.dead.close();
        for m in idle
            .ms
            .iter()
            .chain(&idle.poller)
            .chain(&idle.wanting)
            .chain(&idle.own)
        {
            m.order(Order::Exit);
        }
        self.sleeper.wake();
        self.sysmon.ring();
    }

    /// When the first timer of all P's is due.
    pub(super) fn next_timer(&self) -> Nanos {
        let next = self.used_ps().iter().map(|p| p.timers.next()).min();
        next.unwrap_or(Nanos::MAX)
    }

    /// The network's next event may have come nearer: wakes the poller if it
    /// would sleep past it.
    pub(super) fn events_moved(&self) {
        if self.sleeper.vigil.is_past_moved(|| self.next_event()) {
            self.sleeper.wake();
        }
    }

    /// A shard was polled, which disarms it: arms it again if somebody sleeps
    /// on it.
    pub(super) fn rearm(&self, shard: usize) {
        if self.sleeper.vigil.rearm(|| self.netpoll.arm(shard)) {
            self.sleeper.wake();
        }
    }

    /// When the network has something to do without a frame.
    pub(super) fn next_event(&self) -> Nanos {
        let shards = 0..self.netpoll.shards();
        let events = shards.filter_map(|s| self.netpoll.next_event(s));
        events.min().unwrap_or(Nanos::MAX)
    }

    /// Until when the poller may sleep: in virtual time until it is woken, since
    /// it sleeps only when the clock stands.
    fn next_due(&self) -> Nanos {
        if self.simulation.is_some() {
            return Nanos::MAX;
        }
        self.next_timer().min(self.next_event())
    }

    /// Wakes the poller without cause.
    pub(super) fn nudge(&self) {
        self.sleeper.wake();
    }

    /// True: a shard has frames already.
    pub(super) fn arm_all(&self) -> bool {
        // All are armed, so that each one's fd tells of its own next frame.
        self.has_begun()
            && (0..self.netpoll.shards()).fold(false, |any, s| self.netpoll.arm(s) | any)
    }
}

impl Local {
    /// Becomes a spinner, if there are not enough.
    pub(super) fn start_spinning(&self) -> bool {
        if self.spinning.get() {
            return true;
        }
        let shared = &self.shared;
        let busy = shared.procs() - shared.census.idle().min(shared.procs());
        if 2 * shared.census.spinning() >= busy.max(1) {
            return false;
        }
        shared.census.spin();
        self.spinning.set(true);
        true
    }

    /// A spinner found work: another takes over if there is more.
    pub(super) fn stop_spinning(&self) {
        self.spinning.set(false);
        let shared = &self.shared;
        if shared.census.recheck(true, || shared.any_work()) {
            shared.start_spinner();
        }
    }

    /// Before a goroutine runs, which may take long: sees to it that idle P's
    /// are made use of, and what is theirs is looked after.
    pub(super) fn leave_watch(&self, p: &P) {
        let shared = &self.shared;
        if shared.census.idle() == 0 {
            return;
        }
        if !p.queue.is_empty() {
            shared.wake_p();
        }
        if !shared.polled.load(Ordering::SeqCst) {
            shared.ensure_poller();
        }
    }

    /// Gives up a spare P whose stuck one has gone on, and what it has with it.
    pub(super) fn retire(&self, p: &P) {
        self.flush();
        let left = std::iter::from_fn(|| p.queue.pop().or_else(|| p.queue.pop_next()));
        self.shared.global.extend(left.collect::<Vec<_>>());
        p.timers.move_to(&self.shared.ps[0].timers);
        self.shared
            .sleeper
            .wake_before(self.shared.ps[0].timers.next());
        // `rest` gives it up and looks after what is in the global queue now.
    }

    /// Gives the P to an M that wants one. True: it is gone.
    pub(super) fn serve_wanting(&self) -> bool {
        self.flush();
        let mut idle = self.shared.idle();
        let Some(m) = idle.wanting.front().cloned() else {
            return false;
        };
        let p = self.release();
        crate::p::count(&self.shared.ps[p].handoffs);
        // The M that gets it runs something before it serves the next.
        self.shared.ps[p].advance();
        self.shared.order_run(&mut idle, &m, p, false);
        // Until `rest` this M counts as running: who fills its inbox leaves it
        // to the look that `rest` takes.
        true
    }

    /// Before it sleeps, an M with goroutines in the middle of their code waits
    /// a little for an order, while others run who may ready one and there is a
    /// P for it: goroutines that are bound to two threads and hand something
    /// back and forth would else pay for the waking of a thread each time.
    pub(super) fn linger(&self) {
        if self.m.bound.load(Ordering::Relaxed) == 0 {
            return;
        }
        let shared = &self.shared;
        let useful = || shared.census.idle() > 0 && !shared.all_idle();
        let until = clock::now() + LINGER;
        while useful() && !self.m.has_order() && clock::now() < until {
            std::hint::spin_loop();
        }
    }

    /// Gives the P up, if it still has one; `settle` puts the M where others
    /// find it. None: exit.
    pub(super) fn give_up<T>(&self, settle: impl FnOnce(&mut Idle) -> T) -> Option<T> {
        self.flush();
        self.sweep();
        let shared = &*self.shared;
        let settled = {
            let mut idle = shared.idle();
            if shared.exiting() {
                return None;
            }
            if self.p().is_some() {
                let p = self.release();
                shared.pass_on(&mut idle, p);
            }
            self.m.set_status(Status::Idle);
            settle(&mut idle)
        };
        let recheck = shared
            .census
            .recheck(self.spinning.take(), || shared.any_work());
        if recheck {
            shared.start_spinner();
        }
        Some(settled)
    }

    /// Gives the P up, if it still has one, and sleeps until it is given one.
    /// False: exit.
    pub(super) fn rest(&self) -> bool {
        let shared = &*self.shared;
        let settled = self.give_up(|idle| {
            let polls = idle.poller.is_none();
            if polls {
                shared.set_poller(idle, Some(self.m.clone()));
            } else {
                idle.ms.push(self.m.clone());
            }
            polls
        });
        let Some(polls) = settled else {
            return false;
        };
        if self.has_bound() {
            shared.want_p(&self.m);
        }
        if !polls {
            shared.events_moved();
        }
        self.linger();
        let order = if polls {
            Order::Poll
        } else {
            self.m.wait_order()
        };
        self.obey(order)
    }

    /// Takes the P that it is ordered to, when that comes. False: exit.
    pub(crate) fn obey(&self, mut order: Order) -> bool {
        loop {
            match order {
                Order::Exit => return false,
                Order::Run { p, spinning } => {
                    self.shared.leave_poller(&self.m);
                    self.acquire(p);
                    self.shared.coarse.set(self.shared.now());
                    self.spinning.set(spinning);
                    self.deliver();
                    return true;
                }
                Order::Poll => order = self.sleep_as_poller(),
            }
        }
    }

    fn sleep_as_poller(&self) -> Order {
        let shared = &*self.shared;
        let until = shared.sleeper.vigil.begin(|| shared.next_due());
        let until = until.filter(|until| *until > shared.now());
        if let Some(until) = until
            && !self.m.has_order()
            && !shared.arm_all()
        {
            let mut woken = self.woken.take();
            shared.sleeper.wait(&shared.netpoll, until, &mut woken);
            self.woken.set(woken);
        }
        shared.sleeper.vigil.end();
        self.stop_polling()
    }

    /// Readies whom the sleep as the poller found.
    fn deliver(&self) {
        let mut woken = self.woken.take();
        super::unpark_batch(&mut woken);
        self.woken.set(woken);
    }

    /// After the sleep: an order, or a P to look with, or a sleep on the note.
    fn stop_polling(&self) -> Order {
        let shared = &*self.shared;
        let mut idle = shared.idle();
        // Awake already: an order needs no write to the eventfd, which would end
        // the next sleep at once.
        shared.set_poller(&mut idle, None);
        self.poll_all.set(true);
        if let Some(order) = self.m.take_order() {
            return order;
        }
        if let Some(p) = shared.take_p(&mut idle) {
            shared.census.spin();
            shared.order_run(&mut idle, &self.m, p, true);
            drop(idle);
            return self.m.wait_order();
        }
        // Every P is held, and polls by itself.
        idle.ms.push(self.m.clone());
        drop(idle);
        self.deliver();
        if self.has_bound() {
            shared.want_p(&self.m);
        }
        self.m.wait_order()
    }

    fn enter_blocking(&self) {
        self.flush();
        let shared = &*self.shared;
        shared.in_blocking.fetch_add(1, Ordering::SeqCst);
        self.m.set_status(Status::Blocking);
        self.set_blocking(true);
        if trace::enabled() {
            events::plain(Kind::GoBlocking);
        }
        let p = self.release();
        shared.pass_on(&mut shared.idle(), p);
        if shared.census.recheck(false, || shared.any_work()) {
            shared.start_spinner();
        }
        shared.ensure_poller();
        shared.events_moved();
    }

    /// Its goroutine goes on, perhaps on another P.
    #[inline(never)]
    fn trace_back(&self) {
        let g = self.m.current.load(Ordering::Relaxed);
        events::resume(g, self.p().map(|p| p.id), self.m.index);
    }

    fn leave_blocking(&self) {
        let shared = &*self.shared;
        self.m.set_status(Status::Idle);
        shared.want_p(&self.m);
        let order = self.m.wait_order();
        self.set_blocking(false);
        shared.in_blocking.fetch_sub(1, Ordering::SeqCst);
        let obeyed = self.obey(order);
        if trace::enabled() {
            self.trace_back();
        }
        if !obeyed {
            // The runtime is gone: the goroutine runs on as a plain thread does,
            // whose waits end at once.
            self.set_blocking(true);
            self.orphaned.set(true);
        }
    }
}

/// Runs `f`, which may block the thread, without keeping other goroutines
/// waiting: the P goes to another M meanwhile.
///
/// Inside of `f` the caller counts as a plain thread; when the runtime was shut
/// down meanwhile it stays one, and what waits after that fails at once.
/// Goroutines that are bound to this thread wait until it returns. In virtual time `f` runs as any
/// other code of the goroutine: the clock stands meanwhile, and a wait parks.
pub fn blocking<T>(f: impl FnOnce() -> T) -> T {
    if m::current_g().is_some() {
        without_p(f)
    } else {
        f()
    }
}

/// Runs `f`, which may block the thread, without the P that the thread may
/// hold: also for a goroutine that counts as its thread because it unwinds.
pub(crate) fn without_p<T>(f: impl FnOnce() -> T) -> T {
    struct Leave;
    impl Drop for Leave {
        fn drop(&mut self) {
            m::with_local(|local| {
                local
                    .expect("a bound goroutine stays on its M")
                    .leave_blocking();
            });
        }
    }
    let entered = m::with_local(|local| {
        let gives_up = |l: &&Local| {
            l.is_executing() && !l.is_blocking() && l.p().is_some() && l.shared.simulation.is_none()
        };
        local.filter(gives_up).map(Local::enter_blocking).is_some()
    });
    let _leave = entered.then(|| Leave);
    f()
}
