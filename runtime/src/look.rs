//! A runtime as others may look at it: P's, M's, goroutines, and the network
//! below, as plain values.
//!
//! For pages, sockets and tools that show a running process; as
//! [`crate::Handle::dump`], all of it can be had while the scheduler is stuck,
//! and its parts need not fit together exactly.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::panic::Location;
use std::sync::Arc;

use crate::dump::plain_state;
use crate::g::{FREE, G};
use crate::m::{NO_P, Status};
use crate::park::WaitReason;
use crate::runtime::Handle;
use crate::sched::Shared;

pub use wirepath_stack::{FlowView, RttEstimate, ShardStats};

/// A P.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Proc {
    /// Its number.
    pub p: usize,
    /// It stands in for one that is stuck.
    pub is_spare: bool,
    /// The M that holds it.
    pub m: Option<usize>,
    /// The goroutine that runs on it.
    pub g: Option<u64>,
    /// Goroutines in its queue, with `runnext`.
    pub queue: usize,
    /// Goroutines that it ran, as it counts them.
    pub tick: u32,
}

/// An M.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Thread {
    /// Its number.
    pub m: usize,
    /// Its thread, as the kernel names it.
    pub tid: i32,
    /// Its P.
    pub p: Option<usize>,
    /// The goroutine that it runs.
    pub g: Option<u64>,
    /// `running`, `blocking` or `idle`.
    pub status: &'static str,
    /// It belongs to one goroutine.
    pub is_own: bool,
    /// Bound goroutines that are ready.
    pub bound_ready: usize,
    /// Bound goroutines that wait.
    pub bound: usize,
}

/// The scheduler.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Sched {
    /// The P's, and then the spare ones.
    pub procs: Vec<Proc>,
    /// The M's whose threads live.
    pub threads: Vec<Thread>,
    /// Goroutines in the global queue.
    pub global_queue: usize,
}

/// A goroutine.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GoroutineView {
    /// Its number.
    pub g: u64,
    /// `running`, `runnable`, or why it waits, in Go's words.
    pub state: &'static str,
    /// Whole seconds that it has waited.
    pub waited_s: u32,
    /// The flow that it waits for, as a trace names it; 0 for none.
    pub flow: u64,
    /// Its name.
    pub name: Option<Arc<str>>,
    /// Where it was started.
    pub site: &'static Location<'static>,
    /// Who started it; 0 for a plain thread.
    pub creator: u64,
    /// The M that it is bound to.
    pub bound_to: Option<usize>,
    /// Bytes of stack that it has used.
    pub stack: usize,
}

/// The goroutines that live: some of them, and how many do what.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Goroutines {
    /// Some, by number.
    pub list: Vec<GoroutineView>,
    /// How many there are.
    pub total: usize,
    /// How many are in each state.
    pub by_state: BTreeMap<&'static str, usize>,
}

impl Handle {
    /// The scheduler now.
    pub fn look_at_sched(&self) -> Sched {
        let shared = self.shared();
        let view = shared.view();
        let running = |m: Option<usize>| {
            let m = view.ms.iter().find(|other| Some(other.index) == m);
            m.and_then(|m| m.current)
        };
        let procs = view.ps.iter().map(|p| Proc {
            p: p.id,
            is_spare: p.id >= view.procs,
            m: p.m,
            g: running(p.m),
            queue: p.runnable,
            tick: p.tick,
        });
        let threads = view.threads().map(|m| Thread {
            m: m.index,
            tid: m.tid,
            p: m.p.filter(|p| *p != NO_P),
            g: m.current,
            status: status(m.status),
            is_own: m.own,
            bound_ready: m.ready,
            bound: m.bound,
        });
        Sched {
            procs: procs.collect(),
            threads: threads.collect(),
            global_queue: view.global,
        }
    }

    /// The goroutines now, the first `most` of them by number.
    pub fn look_at_goroutines(&self, most: usize) -> Goroutines {
        let shared = self.shared();
        let (shown, total) = shared.first_live(most);
        let waits_for_io = |g: &&Arc<G>| g.reason() == Some(WaitReason::IoWait);
        let waits = shared.netpoll.waits_of(shown.iter().filter(waits_for_io));
        let flow = |g: &Arc<G>| {
            let wait = waits.get(&Arc::as_ptr(g).addr());
            wait.map_or(0, |(desc, _)| desc.flow())
        };
        Goroutines {
            list: shown.iter().map(|g| see(g, flow(g))).collect(),
            total,
            by_state: by_state(shared),
        }
    }

    /// Which goroutine waits for each of these flows, of those for which one does.
    pub fn look_at_waiters(&self, flows: &HashSet<u64>) -> HashMap<u64, u64> {
        let shared = self.shared();
        let waiting = shared.netpoll.waiters_for(flows);
        let mut found = HashMap::with_capacity(waiting.len());
        if !waiting.is_empty() {
            shared.each_live(|g| {
                let flow = waiting.get(&std::ptr::from_ref(g).addr());
                found.extend(flow.map(|flow| (*flow, g.id)));
            });
        }
        found
    }

    /// The connections of the stack that have moved the most bytes, at most so
    /// many, and how many there are; none without a stack.
    pub fn look_at_flows(&self, most: usize) -> (Vec<FlowView>, usize) {
        let shared = self.shared();
        let stack = shared.netpoll.stack();
        stack.map_or_else(|_| (Vec::new(), 0), |stack| stack.flows(most, shared.now()))
    }

    /// The queues of the stack and what they have done; none without a stack.
    pub fn look_at_queues(&self) -> Vec<ShardStats> {
        let stack = self.shared().netpoll.stack();
        stack.map_or_else(|_| Vec::new(), |stack| stack.stats().shards)
    }

    /// Whether goroutines reach the network through a stack of our own.
    pub fn has_stack(&self) -> bool {
        self.shared().netpoll.stack().is_ok()
    }
}

fn status(status: Status) -> &'static str {
    match status {
        Status::Running => "running",
        Status::Idle => "idle",
        Status::Blocking => "blocking",
        Status::Gone => "gone",
    }
}

fn see(g: &G, flow: u64) -> GoroutineView {
    let state = plain_state(g);
    let waits = !matches!(state, "running" | "runnable" | "dead");
    GoroutineView {
        g: g.id,
        state,
        waited_s: if waits { g.waited_secs() } else { 0 },
        flow,
        name: g.name.clone(),
        site: g.site,
        creator: g.creator,
        bound_to: Some(g.home()).filter(|home| *home != FREE),
        stack: g.stack_high_water(),
    }
}

/// Counts without keeping any.
fn by_state(shared: &Shared) -> BTreeMap<&'static str, usize> {
    let mut counts = BTreeMap::new();
    shared.each_live(|g| *counts.entry(plain_state(g)).or_default() += 1);
    counts
}
