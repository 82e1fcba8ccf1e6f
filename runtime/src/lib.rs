//! Goroutines: an M:N scheduler modelled on Go's.
//!
//! [`go`] starts a goroutine, [`steps`] one that runs in steps; a [`Runtime`]
//! runs them on as many threads as it has P's.
//!
//! # Why `go` is a safe function
//!
//! Stackful coroutines that move between threads are unsound in Rust: the
//! compiler proves `Send` for what a closure captures, not for what lives on
//! its stack while it waits. An `Rc` clone, a `MutexGuard`, a reference to a
//! thread-local may be there, so `may::go!` has to be `unsafe`, and its callers
//! cannot really check what they vouch for. Here a goroutine that has begun to
//! run never changes threads until there is nothing of it on a stack. A
//! goroutine of [`go`] is **free** until its first run, and **bound** to the
//! thread that runs it from then on. A goroutine of [`steps`] is free again
//! between any two steps, when all that exists of it is a `state: Send` and a
//! `step: Send`. Free goroutines are stolen and balanced as in Go; a bound one
//! waits for its thread, which is given a P for it.
//!
//! So a server gives each connection a goroutine of steps, one request a step:
//! connections migrate between requests, and a handler may use whatever it
//! likes.
//!
//! # What no runtime can mend
//!
//! Goroutines share their thread's thread-locals with others that run while
//! they wait. A `std` lock guard held across a wait blocks the thread of
//! whoever else wants the lock, perhaps for ever; another runtime's context, a
//! scoped default subscriber of `tracing`, and a borrowed `thread_local!` stay
//! in force for others. Leave them before anything that waits. Spans of
//! `tracing` are taken care of: a goroutine that waits leaves those that it is
//! in, and is in them again when it goes on.
//!
//! # Map
//!
//! `g`, `m`, `p`: the three actors. `sched`: how they find each other. `coro`:
//! switching stacks, and the stacks. `park`: waiting. `netpoll`: waiting for
//! the network. `timer`: waiting for a time. `simulation`: virtual time.
//!
//! What goroutines work together with: [`chan`], [`mod@select`], [`sync`],
//! [`context`], [`time`], [`group`], [`scope()`], [`local`]. Of these `latch`
//! (the lock of their short sections), `chan/list` (waiting in one's own
//! frame), `sync/guards` (the data under a lock) and `scope` (borrowing) have
//! `unsafe`, each with its argument; `select`, with the word in `claim`, does
//! without.

#![deny(unsafe_code)]

pub mod chan;
mod claim;
mod coarse;
pub mod context;
#[allow(unsafe_code, reason = "the only place that switches stacks")]
mod coro;
mod dump;
mod events;
mod future;
#[allow(unsafe_code, reason = "cells that only the running M touches")]
mod g;
pub mod group;
#[allow(unsafe_code, reason = "the value of a short lock")]
mod latch;
pub mod local;
mod long_runs;
pub mod look;
#[allow(unsafe_code, reason = "the thread-local of an M")]
mod m;
mod metrics;
mod model;
#[cfg(doctest)]
mod must_not_compile;
pub mod net;
mod netpoll;
mod netpoll_epoll;
mod netpoll_stack;
mod p;
mod park;
mod runtime;
#[allow(unsafe_code, reason = "the run queue's pointers")]
mod sched;
mod schedtrace;
#[allow(unsafe_code, reason = "goroutines that borrow")]
mod scope;
mod see;
pub mod select;
pub mod simulation;
mod spans;
mod spawn;
pub mod sync;
mod sync_shim;
pub mod time;
mod timer;
mod waiters;
#[allow(unsafe_code, reason = "the word's pointers")]
mod word;

pub use future::block_on;
pub use local::current_name;
pub use long_runs::LongRun;
pub use metrics::{Latencies, Metric, Value as MetricValue};
pub use netpoll::Wait;
pub use runtime::{
    BuildError, Builder, Handle, MAX_PROCS_VAR, ProcsError, Runtime, ShutdownReport, metrics,
};
pub use sched::blocking;
pub use sched::watchers::Watching;
pub use scope::{Scope, ScopedHandle, scope};
pub use see::{LEAKS_VAR, SCHEDDETAIL_VAR, SCHEDTRACE_VAR};
pub use simulation::simulate;
pub use spawn::{
    Cancelled, Goroutine, JoinHandle, Next, SpawnError, current_id, go, go_named, goroutine,
    num_procs, stack_high_water, steps, yield_now,
};
pub use sync::WaitGroup;
pub use time::{after, now, sleep};
pub use wirepath_driver::{Nanos, clock, trace};
pub use wirepath_stack::Stack;
