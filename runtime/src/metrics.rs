//! What a runtime counts, under the names of Go's package `runtime/metrics`
//! and with its meanings.
//!
//! | name | kind | meaning |
//! | --- | --- | --- |
//! | `/sched/gomaxprocs:threads` | number | P's, without the spare ones |
//! | `/sched/goroutines:goroutines` | number | goroutines that have not ended |
//! | `/sched/goroutines-created:goroutines` | counter | goroutines started so far |
//! | `/sched/goroutines/running:goroutines` | number | those that run; with compensation up to twice the P's |
//! | `/sched/goroutines/runnable:goroutines` | number | those that could run |
//! | `/sched/goroutines/waiting:goroutines` | number | those that wait |
//! | `/sched/goroutines/not-in-go:goroutines` | number | those in `blocking` |
//! | `/sched/threads/total:threads` | number | M's and sysmon |
//! | `/sched/latencies:seconds` | histogram | from runnable to running |
//!
//! The states are read one after another from counters and need not add up, as
//! in Go. What only this runtime has stands below `/wirepath/`.
//!
//! The latencies are sampled as Go does: one in eight runs of each goroutine.

mod histogram;

use std::sync::atomic::{AtomicU64, Ordering};

pub(crate) use histogram::Histogram;
pub use histogram::Latencies;

use crate::p::P;
use crate::sched::Shared;

/// The value of a [`Metric`].
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Value {
    /// A number.
    Uint64(u64),
    /// A distribution, of seconds.
    Histogram(Latencies),
}

/// One thing that a runtime counts.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Metric {
    /// Its name and unit in one, as Go writes them:
    /// `/sched/goroutines:goroutines`.
    pub name: &'static str,
    /// The unit alone.
    pub unit: &'static str,
    /// Whether it only ever grows.
    pub cumulative: bool,
    /// What it is now.
    pub value: Value,
}

fn metric(name: &'static str, cumulative: bool, value: Value) -> Metric {
    let unit = name.rsplit_once(':').map_or("", |(_, unit)| unit);
    Metric {
        name,
        unit,
        cumulative,
        value,
    }
}

fn sum(shared: &Shared, f: fn(&P) -> &AtomicU64) -> u64 {
    shared
        .used_ps()
        .iter()
        .map(|p| f(p).load(Ordering::Relaxed))
        .sum()
}

/// All metrics, in the order of their names.
pub(crate) fn read(shared: &Shared) -> Vec<Metric> {
    let view = shared.view();
    let counts = shared.counts(&view);
    let latencies = Latencies::merge(shared.used_ps().iter().map(|p| &p.latencies));
    let now = |name, n| metric(name, false, Value::Uint64(n));
    let ever = |name, n| metric(name, true, Value::Uint64(n));
    vec![
        now("/sched/gomaxprocs:threads", shared.procs() as u64),
        ever("/sched/goroutines-created:goroutines", counts.created),
        now("/sched/goroutines/not-in-go:goroutines", counts.not_in_go),
        now("/sched/goroutines/runnable:goroutines", counts.runnable),
        now("/sched/goroutines/running:goroutines", counts.running),
        now("/sched/goroutines/waiting:goroutines", counts.waiting),
        now("/sched/goroutines:goroutines", counts.live),
        metric(
            "/sched/latencies:seconds",
            true,
            Value::Histogram(latencies),
        ),
        now(
            "/sched/threads/total:threads",
            view.threads().count() as u64 + 1,
        ),
        now(
            "/wirepath/sched/bound-waiting:goroutines",
            view.bound_waiting() as u64,
        ),
        ever(
            "/wirepath/sched/handoffs:events",
            sum(shared, |p| &p.handoffs),
        ),
        ever("/wirepath/sched/long-runs:events", shared.long_runs.total()),
        ever("/wirepath/sched/parks:events", sum(shared, |p| &p.parks)),
        ever("/wirepath/sched/polls:events", sum(shared, |p| &p.polls)),
        now(
            "/wirepath/sched/spares-used:threads",
            view.spares_used as u64,
        ),
        ever("/wirepath/sched/steals:events", sum(shared, |p| &p.steals)),
    ]
}

/// Short names and numbers, for tables and `/debug/wirepath`.
pub(crate) fn pairs(shared: &Shared) -> Vec<(&'static str, u64)> {
    let view = shared.view();
    let counts = shared.counts(&view);
    let latencies = Latencies::merge(shared.used_ps().iter().map(|p| &p.latencies));
    let micros = |part| (latencies.quantile(part).unwrap_or(0.0) * 1e6) as u64;
    vec![
        ("goroutines_created", counts.created),
        ("goroutines_ended", shared.ended()),
        ("goroutines_live", counts.live),
        ("goroutines_runnable", counts.runnable),
        ("goroutines_running", counts.running),
        ("goroutines_parked", counts.waiting),
        ("goroutines_bound", shared.bound() as u64),
        ("goroutines_bound_waiting", view.bound_waiting() as u64),
        ("procs", view.procs as u64),
        ("procs_idle", view.idle_ps as u64),
        ("procs_spare_used", view.spares_used as u64),
        ("threads", view.threads().count() as u64),
        ("threads_idle", view.idle_ms as u64),
        ("threads_blocking", view.blocking() as u64),
        ("global_queue", view.global as u64),
        ("steals", sum(shared, |p| &p.steals)),
        ("parks", sum(shared, |p| &p.parks)),
        ("polls", sum(shared, |p| &p.polls)),
        ("handoffs", sum(shared, |p| &p.handoffs)),
        ("long_runs", shared.long_runs.total()),
        ("long_runs_off_cpu", shared.long_runs.total_off_cpu()),
        ("sched_latency_p50_us", micros(0.5)),
        ("sched_latency_p99_us", micros(0.99)),
    ]
}
