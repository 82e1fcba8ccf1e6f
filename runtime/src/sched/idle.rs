//! How M's go to sleep without missing a wake, and how they are woken.
//!
//! # The delicate order
//!
//! A submitter makes work visible (a queue, an inbox, a timer), then looks
//! whether somebody must be woken. An M that goes to sleep first makes itself
//! visible as asleep (its P among the idle ones, its status, no longer
//! spinning), then looks for work once more. A full fence lies between the two
//! steps on both sides, so at least one of the two sees the other. The other
//! way round, a goroutine could be queued just after the look and just before
//! the sleep, and nobody would run it.
//!
//! A submitter wakes nobody while an M spins: the spinner either finds the
//! work, and wakes another if there is more, or stops spinning and then looks
//! once more.
//!
//! One idle M, the poller, sleeps in epoll on the network, the timers and an
//! eventfd; the others sleep on their notes. Whoever gives the poller an order
//! writes the eventfd.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::sync::{Arc, MutexGuard, PoisonError};

use rustix::event::{EventfdFlags, Timespec, epoll, eventfd};
use wirepath_driver::{Nanos, clock};

use super::Shared;
use crate::m::{self, Local, M, Order, Status};

/// Who and what is idle.
pub(super) struct Idle {
    /// P's that nobody holds.
    ps: Vec<usize>,
    /// P's beyond the configured number, for compensation.
    spares: Vec<usize>,
    /// M's asleep on their notes.
    ms: Vec<Arc<M>>,
    /// The M in epoll, or on its way there.
    poller: Option<Arc<M>>,
    /// M's without a P that have bound goroutines to run.
    wanting: VecDeque<Arc<M>>,
}

impl Idle {
    pub(super) fn new(procs: usize) -> Idle {
        Idle {
            ps: (0..procs).rev().collect(),
            spares: (procs..2 * procs).collect(),
            ms: Vec::new(),
            poller: None,
            wanting: VecDeque::new(),
        }
    }
}

/// What the poller sleeps on.
pub(super) struct Sleeper {
    epoll: OwnedFd,
    event: OwnedFd,
    /// The poller sleeps until then; 0 when nobody sleeps here.
    until: AtomicU64,
}

/// Token of the eventfd in the epoll set; the network's fds have another.
const EVENT: u64 = 0;
const NETWORK: u64 = 1;

impl Sleeper {
    pub(super) fn new(fds: &[OwnedFd]) -> io::Result<Sleeper> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let add = |fd: &OwnedFd, token| {
            let data = epoll::EventData::new_u64(token);
            epoll::add(&epoll, fd, data, epoll::EventFlags::IN)
        };
        add(&event, EVENT)?;
        for fd in fds {
            add(fd, NETWORK)?;
        }
        Ok(Sleeper {
            epoll,
            event,
            until: AtomicU64::new(0),
        })
    }

    fn wake(&self) {
        // Fails only when the counter is full, and then it is readable.
        let _ = rustix::io::write(&self.event, &1u64.to_ne_bytes());
    }

    /// Wakes the poller if it would sleep past `when`, a timer just added.
    pub(super) fn wake_before(&self, when: Nanos) {
        if when.0 < self.until.load(Ordering::SeqCst) {
            self.wake();
        }
    }

    fn wait(&self, until: Nanos) {
        let left = until.since(clock::now());
        let timeout = (until != Nanos::MAX).then(|| Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: left.subsec_nanos().into(),
        });
        let mut events = [std::mem::MaybeUninit::<epoll::Event>::uninit(); 8];
        // An interrupted sleep is a wake without cause, which is allowed.
        let Ok((ready, _)) = epoll::wait(&self.epoll, &mut events, timeout.as_ref()) else {
            return;
        };
        if ready.iter().any(|e| e.data.u64() == EVENT) {
            let mut counter = [0; 8];
            let _ = rustix::io::read(&self.event, &mut counter);
        }
    }
}

impl Shared {
    fn idle(&self) -> MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_p(&self, idle: &mut Idle) -> Option<usize> {
        let p = idle.ps.pop()?;
        self.idle_ps.store(idle.ps.len(), Ordering::SeqCst);
        Some(p)
    }

    fn put_p(&self, idle: &mut Idle, p: usize) {
        if p >= self.procs() {
            idle.spares.push(p);
            return;
        }
        idle.ps.push(p);
        self.idle_ps.store(idle.ps.len(), Ordering::SeqCst);
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
            idle.poller = None;
            self.sleeper.wake();
        }
        self.sysmon.ring();
    }

    /// Gives `p` to an idle M, or to a new one.
    ///
    /// # Errors
    /// When no thread could be started.
    fn start_m(&self, idle: &mut Idle, p: usize, spinning: bool) -> io::Result<()> {
        let m = match idle.ms.last().or(idle.poller.as_ref()) {
            Some(m) => m.clone(),
            None => self.spawn_m()?,
        };
        self.order_run(idle, &m, p, spinning);
        Ok(())
    }

    fn spawn_m(&self) -> io::Result<Arc<M>> {
        let mut ms = self.ms.write().unwrap_or_else(PoisonError::into_inner);
        let m = Arc::new(M::new(ms.len()));
        let shared = self.me.upgrade().expect("a running M keeps it alive");
        let own = m.clone();
        let thread = std::thread::Builder::new()
            .name(format!("wirepath-m{}", m.index))
            .spawn(move || {
                m::thread_main(shared.clone(), own);
                shared.note_exit();
            })?;
        self.threads().push(thread);
        ms.push(m.clone());
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
        fence(Ordering::SeqCst);
        if self.idle_ps.load(Ordering::SeqCst) == 0 {
            return;
        }
        let alone = self
            .spinning
            .compare_exchange(0, 1, Ordering::SeqCst, Ordering::SeqCst);
        if alone.is_err() {
            return;
        }
        let mut idle = self.idle();
        if let Some(p) = self.take_p(&mut idle) {
            if self.start_m(&mut idle, p, true).is_ok() {
                return;
            }
            // No thread to be had: those that run will come to it.
            self.put_p(&mut idle, p);
        }
        self.spinning.fetch_sub(1, Ordering::SeqCst);
    }

    /// Gives a P beyond the configured number to an M that steals from a stuck
    /// one. False: all are in use.
    pub(super) fn compensate(&self) -> bool {
        let mut idle = self.idle();
        let Some(p) = idle.spares.pop() else {
            return false;
        };
        self.spinning.fetch_add(1, Ordering::SeqCst);
        let started = self.start_m(&mut idle, p, true).is_ok();
        if !started {
            self.spinning.fetch_sub(1, Ordering::SeqCst);
            self.put_p(&mut idle, p);
        }
        started
    }

    /// A bound goroutine of `m` is ready: gives it a P if one is idle, or notes
    /// that it wants one.
    pub(super) fn want_p(&self, m: &Arc<M>) {
        let mut idle = self.idle();
        if m.status() != Status::Idle {
            return;
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
        match idle.wanting.front().cloned() {
            Some(m) => self.order_run(idle, &m, p, false),
            None => self.put_p(idle, p),
        }
    }

    pub(super) fn spares_left(&self) -> usize {
        self.idle().spares.len()
    }

    pub(super) fn is_wanted(&self) -> bool {
        self.wanting.load(Ordering::Relaxed) > 0
    }

    /// Free goroutines wait somewhere.
    pub(super) fn any_work(&self) -> bool {
        !self.global.is_empty() || self.ps.iter().any(|p| !p.queue.is_empty())
    }

    pub(super) fn exiting(&self) -> bool {
        self.exiting.load(Ordering::Relaxed)
    }

    /// All P's are idle.
    pub(super) fn all_idle(&self) -> bool {
        self.idle_ps.load(Ordering::SeqCst) == self.procs()
    }

    /// Orders every M to end once its goroutine comes back.
    pub(crate) fn exit(&self) {
        let idle = self.idle();
        self.exiting.store(true, Ordering::SeqCst);
        for m in idle.ms.iter().chain(&idle.poller).chain(&idle.wanting) {
            m.order(Order::Exit);
        }
        self.sleeper.wake();
        self.sysmon.ring();
    }

    /// When the first timer of all P's is due.
    pub(super) fn next_timer(&self) -> Nanos {
        let next = self.ps.iter().map(|p| p.timers.next()).min();
        next.unwrap_or(Nanos::MAX)
    }

    fn next_event(&self) -> Nanos {
        let shards = 0..self.netpoll.shards();
        let events = shards.filter_map(|s| self.netpoll.next_event(s));
        events.min().unwrap_or(Nanos::MAX)
    }

    /// True: a shard has frames already.
    fn arm_all(&self) -> bool {
        // All are armed, so that each one's fd tells of its own next frame.
        (0..self.netpoll.shards()).fold(false, |any, s| self.netpoll.arm(s) | any)
    }

    /// Called after a poll by anyone but the poller: it armed the queues before
    /// it slept, and polling disarms them.
    pub(super) fn rearm_queues(&self) {
        if self.arm_all() {
            self.sleeper.wake();
        }
    }
}

impl Local {
    /// Becomes a spinner, if there are not enough.
    pub(super) fn start_spinning(&self) -> bool {
        if self.spinning.get() {
            return true;
        }
        let shared = &self.shared;
        let busy = shared.procs() - shared.idle_ps.load(Ordering::Relaxed).min(shared.procs());
        if 2 * shared.spinning.load(Ordering::Relaxed) >= busy.max(1) {
            return false;
        }
        shared.spinning.fetch_add(1, Ordering::SeqCst);
        self.spinning.set(true);
        true
    }

    /// A spinner found work: another takes over if there is more.
    pub(super) fn stop_spinning(&self) {
        self.spinning.set(false);
        self.shared.spinning.fetch_sub(1, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        if self.shared.any_work() {
            self.shared.wake_p();
        }
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

    /// Gives the P up, if it still has one, and sleeps until it is given one.
    /// False: exit.
    pub(super) fn rest(&self) -> bool {
        self.flush();
        let shared = &*self.shared;
        let polls = {
            let mut idle = shared.idle();
            if shared.exiting() {
                return false;
            }
            if self.p().is_some() {
                let p = self.release();
                shared.pass_on(&mut idle, p);
            }
            self.m.set_status(Status::Idle);
            let polls = idle.poller.is_none();
            if polls {
                idle.poller = Some(self.m.clone());
            } else {
                idle.ms.push(self.m.clone());
            }
            polls
        };
        if self.spinning.take() {
            shared.spinning.fetch_sub(1, Ordering::SeqCst);
        }
        fence(Ordering::SeqCst);
        if self.has_bound() {
            shared.want_p(&self.m);
        }
        if shared.any_work() {
            shared.wake_p();
        }
        if shared.all_idle() {
            shared.check_deadlock();
        }
        let order = if polls {
            self.sleep_as_poller()
        } else {
            shared.rearm_queues();
            self.m.wait_order()
        };
        self.obey(order)
    }

    /// Takes the P that it is ordered to. False: exit.
    pub(crate) fn obey(&self, order: Order) -> bool {
        match order {
            Order::Exit => false,
            Order::Run { p, spinning } => {
                self.acquire(p);
                self.spinning.set(spinning);
                true
            }
        }
    }

    fn sleep_as_poller(&self) -> Order {
        let shared = &*self.shared;
        loop {
            let until = shared.next_timer().min(shared.next_event());
            shared.sleeper.until.store(until.0, Ordering::SeqCst);
            let late = shared.next_timer() < until || until <= clock::now();
            if let Some(order) = self.m.take_order() {
                shared.sleeper.until.store(0, Ordering::SeqCst);
                return order;
            }
            if !late && !shared.arm_all() {
                shared.sleeper.wait(until);
            }
            shared.sleeper.until.store(0, Ordering::SeqCst);
            if let Some(order) = self.stop_polling() {
                return order;
            }
        }
    }

    /// After the sleep: an order, or a P to look with, or a sleep on the note.
    fn stop_polling(&self) -> Option<Order> {
        let shared = &*self.shared;
        let mut idle = shared.idle();
        if let Some(order) = self.m.take_order() {
            return Some(order);
        }
        self.poll_all.set(true);
        // Awake already: an order needs no write to the eventfd, which would end
        // the next sleep at once.
        idle.poller = None;
        if let Some(p) = shared.take_p(&mut idle) {
            shared.spinning.fetch_add(1, Ordering::SeqCst);
            shared.order_run(&mut idle, &self.m, p, true);
            return None;
        }
        // Every P is held, and polls by itself.
        idle.ms.push(self.m.clone());
        drop(idle);
        Some(self.m.wait_order())
    }

    fn enter_blocking(&self) {
        self.flush();
        let shared = &*self.shared;
        shared.in_blocking.fetch_add(1, Ordering::SeqCst);
        self.m.set_status(Status::Blocking);
        self.set_blocking(true);
        let p = self.release();
        let mut idle = shared.idle();
        let needed = idle.wanting.is_empty() && (idle.poller.is_none() || shared.any_work());
        if needed && p < shared.procs() {
            shared.spinning.fetch_add(1, Ordering::SeqCst);
            if shared.start_m(&mut idle, p, true).is_ok() {
                return;
            }
            shared.spinning.fetch_sub(1, Ordering::SeqCst);
        }
        shared.pass_on(&mut idle, p);
    }

    fn leave_blocking(&self) {
        let shared = &*self.shared;
        self.m.set_status(Status::Idle);
        shared.want_p(&self.m);
        let order = self.m.wait_order();
        self.set_blocking(false);
        shared.in_blocking.fetch_sub(1, Ordering::SeqCst);
        if !self.obey(order) {
            // The runtime is gone; this goroutine's frames stay where they are.
            loop {
                std::thread::park();
            }
        }
    }
}

/// Runs `f`, which may block the thread, without keeping other goroutines
/// waiting: the P goes to another M meanwhile.
///
/// Inside of `f` the caller counts as a plain thread. Goroutines that are
/// bound to this thread wait until it returns.
pub fn blocking<T>(f: impl FnOnce() -> T) -> T {
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
    let entered = m::current_g().is_some()
        && m::with_local(|local| {
            let local = local.filter(|l| l.p().is_some());
            local.map(Local::enter_blocking).is_some()
        });
    let _leave = entered.then(|| Leave);
    f()
}
