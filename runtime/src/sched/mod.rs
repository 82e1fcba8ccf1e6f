//! The scheduler: what all M's and P's of a runtime share.
//!
//! The rules are those of Go's `proc.go`, with the two departures that
//! DESIGN.md gives: goroutines in the middle of user code are bound to their M
//! (see [`crate::g`]), and a P polls the network also while it is busy.
//!
//! * [`find`]: where an M looks for its next goroutine, in which order.
//! * [`idle`]: how it goes to sleep without missing a wake, and is woken;
//!   [`census`]: what decides whether to; [`sleeper`]: on what.
//! * [`admit`]: whether one more goroutine may be started.
//! * [`run_queue`]: a P's queue. [`state`]: a goroutine's word.
//! * [`sysmon`], [`watch`]: the watcher, and what it sees.
//! * [`view`]: what others may see of all this.
//! * [`simulated`]: all of that in virtual time.
//!
//! # Lock order
//! `idle`, then `ms`, then `threads`; `idle`, then an M's note or sysmon's bell.
//! No other two locks are held together, and none while a goroutine runs.

mod admit;
mod census;
mod end;
mod find;
mod idle;
#[cfg(all(test, loom))]
mod idle_model;
mod own_thread;
mod recycle;
pub(crate) mod registry;
pub(crate) mod run_queue;
pub(crate) mod simulated;
mod sleeper;
pub(crate) mod state;
mod sysmon;
#[cfg(all(test, not(loom)))]
mod tests;
pub(crate) mod view;
mod vigil;
mod watch;
pub(crate) mod watchers;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock, Weak};

use wirepath_driver::{Nanos, clock, trace};

use crate::coarse::Coarse;
use crate::coro::Stacks;
use crate::events;
use crate::g::{Birth, Body, Ended, FREE, G};
use crate::long_runs::LongRuns;
use crate::m::{self, Local, M, Status};
use crate::netpoll::Netpoll;
use crate::p::P;
use crate::park::Parker;
use crate::see::See;
use crate::timer::TimerTarget;

use census::Census;
use idle::Idle;
pub use idle::blocking;
pub(crate) use idle::without_p;
use registry::Registry;
use simulated::Simulation;
use sleeper::Sleeper;
use watchers::Watchers;

/// The global queue.
#[derive(Default)]
pub(crate) struct Global {
    queue: Mutex<VecDeque<Arc<G>>>,
    len: AtomicUsize,
}

impl Global {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Arc<G>>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn extend(&self, gs: impl IntoIterator<Item = Arc<G>>) {
        let mut queue = self.lock();
        queue.extend(gs);
        self.len.store(queue.len(), Ordering::SeqCst);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len.load(Ordering::SeqCst) == 0
    }

    pub(crate) fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    /// Takes the first and up to `more` after it, which go to `each`.
    fn take(&self, more: usize, each: impl FnMut(Arc<G>)) -> Option<Arc<G>> {
        if self.is_empty() {
            return None;
        }
        let mut queue = self.lock();
        let first = queue.pop_front()?;
        let more = more.min(queue.len());
        let rest: Vec<Arc<G>> = queue.drain(..more).collect();
        self.len.store(queue.len(), Ordering::SeqCst);
        drop(queue);
        rest.into_iter().for_each(each);
        Some(first)
    }

    /// Takes the goroutine at `index`, if there are so many.
    fn take_at(&self, index: usize) -> Option<Arc<G>> {
        let mut queue = self.lock();
        let g = queue.remove(index);
        self.len.store(queue.len(), Ordering::SeqCst);
        g
    }
}

/// How many of everything.
#[derive(Clone, Copy)]
pub(crate) struct Sizes {
    /// P's at first.
    pub(crate) procs: usize,
    /// P's at most.
    pub(crate) most_procs: usize,
    /// Threads at most.
    pub(crate) threads: usize,
    /// Bytes of a stack.
    pub(crate) stack: usize,
    /// Goroutines at most, if that is limited.
    pub(crate) goroutines: Option<usize>,
}

#[cfg(all(test, not(loom)))]
impl Sizes {
    pub(crate) fn of(procs: usize) -> Sizes {
        Sizes {
            procs,
            most_procs: 8,
            threads: 100,
            stack: 1 << 16,
            goroutines: None,
        }
    }
}

/// What the M's of a runtime share.
pub(crate) struct Shared {
    /// The network, and whoever waits for it.
    pub(crate) netpoll: Netpoll,
    /// This, for threads that it starts.
    me: Weak<Shared>,
    /// P's that count; those beyond are for compensation. Changed under `idle`.
    procs: AtomicUsize,
    /// P's that were ever used; changed under `idle`.
    ps_used: AtomicUsize,
    most_threads: usize,
    /// How many goroutines may live, if that is limited.
    limit: Option<admit::Limit>,
    pub(crate) ps: Box<[P]>,
    pub(crate) global: Global,
    /// Stacks of the size that goroutines have unless they ask for another.
    pub(crate) stacks: Arc<Stacks>,
    /// Stacks of other sizes, by size.
    sized_stacks: Mutex<BTreeMap<usize, Arc<Stacks>>>,
    ms: RwLock<Vec<Arc<M>>>,
    threads: Mutex<Vec<std::thread::JoinHandle<()>>>,
    pub(crate) registry: Registry,
    dead: recycle::Dead,
    next_id: AtomicU64,
    idle: Mutex<Idle>,
    census: Census,
    /// There is a poller; changed under `idle`.
    polled: AtomicBool,
    /// M's that want a P for a bound goroutine; changed under `idle`.
    wanting: AtomicUsize,
    /// M's in `blocking`.
    pub(crate) in_blocking: AtomicUsize,
    /// Threads of callers of `run` that wait.
    pub(crate) in_run: AtomicUsize,
    sleeper: Sleeper,
    /// When each shard was last polled.
    last_polls: Box<[AtomicU64]>,
    pub(crate) cancelled: AtomicBool,
    exiting: AtomicBool,
    /// Goroutines that are left will never run: see [`Shared::give_up`].
    given_up: AtomicBool,
    exited: Mutex<usize>,
    exit_signal: Condvar,
    sysmon: sysmon::Bell,
    /// The time, to a second or so.
    pub(crate) coarse: Coarse,
    /// What sysmon found to hold others up.
    pub(crate) long_runs: LongRuns,
    /// What is printed for people, and when.
    pub(crate) see: See,
    watchers: Watchers,
    /// Of a runtime in virtual time.
    pub(crate) simulation: Option<Simulation>,
}

/// The runtime that was made last, for plain threads that use what belongs to
/// a runtime (a stream moved out of its goroutine).
static LAST: Mutex<Weak<Shared>> = Mutex::new(Weak::new());

/// Calls `f` with the runtime of the calling goroutine.
pub(crate) fn with_runtime<T>(f: impl FnOnce(Option<&Arc<Shared>>) -> T) -> T {
    m::with_local(|local| f(local.map(|l| &l.shared)))
}

/// The runtime of the calling goroutine.
pub(crate) fn current_runtime() -> Option<Arc<Shared>> {
    with_runtime(|shared| shared.map(Arc::clone))
}

/// The runtime of the calling goroutine, or for a plain thread the last made.
pub(crate) fn runtime_or_last() -> Option<Arc<Shared>> {
    current_runtime().or_else(|| {
        LAST.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .upgrade()
    })
}

/// Puts a goroutine that was just made runnable into a queue, and wakes an M
/// if one could run it sooner.
pub(crate) fn ready(g: Arc<G>) {
    m::with_local(|local| {
        // A count of the runtime is taken only where nothing else holds one.
        if let Some(local) = local.filter(|l| Arc::ptr_eq(&l.shared, &g.shared)) {
            if local.shared.enqueue(Some(local), g, true) {
                local.shared.wake_p();
            }
            return;
        }
        let shared = g.shared.clone();
        if shared.enqueue(None, g, true) {
            shared.wake_p();
        }
    });
}

/// Wakes many at once, and then at most one more M to help.
pub(crate) fn unpark_batch(parkers: &mut Vec<Parker>) {
    m::with_local(|local| {
        let mut help = false;
        for parker in parkers.drain(..) {
            let Parker::G(g) = parker else {
                parker.unpark();
                continue;
            };
            if !g.state.wake(state::Mark::TOKEN) {
                continue;
            }
            g.trace_unblock();
            let own = local.filter(|l| Arc::ptr_eq(&l.shared, &g.shared));
            if let Some(own) = own {
                help |= own.shared.enqueue(Some(own), g, false);
                continue;
            }
            // Of another runtime, or from a thread of none.
            let shared = g.shared.clone();
            if shared.enqueue(None, g, false) {
                shared.wake_p();
            }
        }
        if let Some(local) = local
            && help
        {
            local.shared.wake_p();
        }
    });
}

impl Shared {
    pub(crate) fn new(
        sizes: Sizes,
        netpoll: Netpoll,
        simulation: Option<Simulation>,
    ) -> io::Result<Arc<Shared>> {
        let sleeper = Sleeper::new(&netpoll)?;
        let start = simulation.as_ref().map_or_else(clock::now, Simulation::now);
        let last_polls = (0..netpoll.shards())
            .map(|_| AtomicU64::new(start.0))
            .collect();
        let shared = Arc::new_cyclic(|me| Shared {
            netpoll,
            me: me.clone(),
            procs: AtomicUsize::new(sizes.procs),
            ps_used: AtomicUsize::new(0),
            most_threads: sizes.threads,
            ps: (0..2 * sizes.most_procs).map(P::new).collect(),
            global: Global::default(),
            limit: sizes.goroutines.map(admit::Limit::new),
            stacks: Stacks::new(sizes.stack),
            sized_stacks: Mutex::default(),
            ms: RwLock::default(),
            threads: Mutex::default(),
            registry: Registry::default(),
            dead: recycle::Dead::default(),
            next_id: AtomicU64::new(1),
            idle: Mutex::new(Idle::new(sizes)),
            census: Census::new(sizes.procs),
            polled: AtomicBool::new(false),
            wanting: AtomicUsize::new(0),
            in_blocking: AtomicUsize::new(0),
            in_run: AtomicUsize::new(0),
            sleeper,
            last_polls,
            cancelled: AtomicBool::new(false),
            exiting: AtomicBool::new(false),
            given_up: AtomicBool::new(false),
            exited: Mutex::new(0),
            exit_signal: Condvar::new(),
            sysmon: sysmon::Bell::default(),
            coarse: Coarse::default(),
            long_runs: LongRuns::default(),
            see: See::default(),
            watchers: Watchers::default(),
            simulation,
        });
        *LAST.lock().unwrap_or_else(PoisonError::into_inner) = Arc::downgrade(&shared);
        Ok(shared)
    }

    /// Registers and queues a new goroutine.
    pub(crate) fn start(self: &Arc<Self>, birth: Birth, body: Box<dyn Body>) -> Arc<G> {
        let g = self.register(birth, body);
        if trace::enabled() {
            events::create(&g);
        }
        ready(g.clone());
        g
    }

    /// Registers a new goroutine, which is runnable: the caller queues it.
    fn register(self: &Arc<Self>, birth: Birth, body: Box<dyn Body>) -> Arc<G> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        if self.given_up.load(Ordering::Relaxed) {
            return self.refuse(id, birth, body);
        }
        let g = match self.reuse_g() {
            Some(mut g) => {
                let fresh = Arc::get_mut(&mut g).expect("kept by nobody else");
                fresh.renew(id, birth, body);
                g
            }
            None => Arc::new(G::new(id, birth, self.clone(), body)),
        };
        self.registry
            .insert(self.current_p().unwrap_or(id as usize), &g);
        if self.cancelled.load(Ordering::SeqCst) {
            let _ = g.state.wake(state::Mark::CANCELLED);
            // Perhaps nobody is there to run it.
            self.give_up_after_stop();
        }
        g
    }

    /// As [`Shared::start`], of a runtime that has no threads any more: its
    /// handle tells so.
    #[cold]
    fn refuse(self: &Arc<Self>, id: u64, birth: Birth, mut body: Box<dyn Body>) -> Arc<G> {
        let g = G::new(id, birth, self.clone(), Box::new(Ended));
        g.state.finish();
        body.abandon(Box::new(crate::Cancelled), &g.end);
        Arc::new(g)
    }

    /// How many goroutines were ever started.
    pub(crate) fn created(&self) -> u64 {
        self.next_id.load(Ordering::Relaxed) - 1
    }

    /// The goroutines that have not ended.
    pub(crate) fn live(&self) -> Vec<Arc<G>> {
        self.registry.live()
    }

    /// The P of the calling thread, if it is one of this runtime's.
    fn current_p(&self) -> Option<usize> {
        m::with_local(|local| {
            let local = local.filter(|l| std::ptr::eq(&*l.shared, self));
            local.and_then(Local::p).map(|p| p.id)
        })
    }

    /// This, for what must not keep it alive.
    pub(crate) fn weak(&self) -> Weak<Shared> {
        self.me.clone()
    }

    /// The stacks of at least `size` bytes: a power of two, so that there are
    /// few sizes. None: those of the usual size.
    pub(crate) fn stacks_of(&self, size: usize) -> Option<Arc<Stacks>> {
        let size = size.next_power_of_two();
        if size == self.stacks.stack_size() {
            return None;
        }
        let mut sized = self
            .sized_stacks
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        Some(
            sized
                .entry(size)
                .or_insert_with(|| Stacks::new(size))
                .clone(),
        )
    }

    pub(crate) fn m(&self, index: usize) -> Arc<M> {
        self.ms.read().unwrap_or_else(PoisonError::into_inner)[index].clone()
    }

    /// How many P's run goroutines, those that compensate not counted.
    pub(crate) fn procs(&self) -> usize {
        self.procs.load(Ordering::Relaxed)
    }

    /// The P's that were ever used: work can be nowhere else.
    pub(crate) fn used_ps(&self) -> &[P] {
        &self.ps[..self.ps_used.load(Ordering::Acquire)]
    }

    /// Goroutines suspended in the middle of a step.
    pub(crate) fn bound(&self) -> usize {
        let ms = self.ms.read().unwrap_or_else(PoisonError::into_inner);
        ms.iter().map(|m| m.bound.load(Ordering::Relaxed)).sum()
    }

    /// M's that there are.
    pub(crate) fn m_count(&self) -> usize {
        let ms = self.ms.read().unwrap_or_else(PoisonError::into_inner);
        ms.iter().filter(|m| m.status() != Status::Gone).count()
    }

    /// Queues a runnable goroutine. True: another M could help.
    fn enqueue(&self, local: Option<&Local>, g: Arc<G>, next: bool) -> bool {
        let home = g.home();
        g.note_runnable();
        if home == FREE {
            match local.and_then(Local::p) {
                Some(p) if next => p.queue.push_next(g, |half| self.global.extend(half)),
                Some(p) => p.queue.push(g, |half| self.global.extend(half)),
                None => self.global.extend([g]),
            }
            // An M that is looking for work takes one by itself, and wakes
            // another if that leaves more (`leave_watch`).
            return local.is_none_or(|l| l.is_executing() || l.p().is_none());
        }
        match local {
            Some(local) if local.m.index == home => local.push_bound(g),
            _ => {
                let m = self.m(home);
                m.post(g);
                if m.status() == Status::Idle {
                    self.want_p(&m);
                }
            }
        }
        false
    }

    /// The caller gave shard `shard` something to send: its P flushes it soon.
    /// On a thread without a P of this runtime it is flushed at once.
    pub(crate) fn mark_dirty(&self, shard: usize) {
        let marked = m::with_local(|local| {
            let local = local.filter(|l| std::ptr::eq(&*l.shared, self));
            let p = local.and_then(Local::p);
            p.map(|p| p.mark_dirty(shard)).is_some()
        });
        if !marked {
            self.netpoll.flush(shard, self.now());
            self.events_moved();
        }
    }

    /// Adds a timer to the heap of the current P, or of the first.
    pub(crate) fn add_timer(&self, when: Nanos, seq: u64, target: Arc<dyn TimerTarget>) {
        self.ps[self.current_p().unwrap_or(0)]
            .timers
            .add(when, seq, target);
        self.sleeper.wake_before(when);
    }
}
