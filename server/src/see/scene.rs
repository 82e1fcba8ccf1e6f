//! What a server shows of itself: where a [`State`] comes from.
//!
//! Nothing here waits for a goroutine, so a state can be had while the scheduler
//! is stuck, from any thread. Locks are held for a few hundred connections at a
//! time, and lists are cut at what was wanted.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;
use wirepath_runtime::clock::{self, Nanos};
use wirepath_runtime::look::{FlowView, GoroutineView, ShardStats};
use wirepath_runtime::trace::{self, Event, Kind};
use wirepath_runtime::{Handle, look};

use super::journey::Journey;
use super::recent::recent;
use super::recording::Names;
use super::state::{self, Flow, Goroutine, LedgerRow, Proc, Queue, Ring, Route, State, Thread};
use crate::hooks::OpenConnection;
use crate::mux;
use crate::server::Server;

/// How many of each a state lists at most.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Flows.
    pub flows: usize,
    /// Goroutines.
    pub goroutines: usize,
    /// Requests.
    pub requests: usize,
}

type Ledger = Arc<dyn Fn() -> Vec<LedgerRow> + Send + Sync>;

/// What a state is made of.
#[derive(Clone)]
pub struct Scene {
    runtime: Handle,
    since: Nanos,
    server: Option<Server>,
    ledger: Option<Ledger>,
    told: Arc<Mutex<Option<Told>>>,
}

/// What is told from the trace, which takes some milliseconds: the same for all
/// who ask within [`FRESH`].
struct Told {
    at: Nanos,
    /// Of routes' handlers, by label: microseconds.
    times: HashMap<u16, Histogram<u64>>,
    requests: Vec<Journey>,
}

/// How long what was told from the trace is told again.
const FRESH: Duration = Duration::from_millis(250);

impl std::fmt::Debug for Scene {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scene").finish_non_exhaustive()
    }
}

impl Scene {
    /// The scene of a runtime.
    pub fn new(runtime: Handle) -> Scene {
        Scene {
            runtime,
            since: clock::now(),
            server: None,
            ledger: None,
            told: Arc::default(),
        }
    }

    /// With a server: its counters, routes, and requests in flight.
    #[must_use]
    pub fn server(self, server: Server) -> Scene {
        Scene {
            server: Some(server),
            ..self
        }
    }

    /// With a ledger of where every frame went.
    #[must_use]
    pub fn ledger(self, rows: impl Fn() -> Vec<LedgerRow> + Send + Sync + 'static) -> Scene {
        Scene {
            ledger: Some(Arc::new(rows)),
            ..self
        }
    }

    /// The runtime.
    pub fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// The state now.
    pub fn state(&self, wanted: &Wanted) -> State {
        let now = clock::now();
        let mut state = State {
            version: state::VERSION,
            pid: std::process::id(),
            at_ns: now.0,
            wall_ns: now.0.saturating_add(clock::wall_offset_ns()),
            uptime_s: self.uptime(now).as_secs_f64(),
            ledger: self.ledger.as_ref().map_or_else(Vec::new, |rows| rows()),
            ..State::default()
        };
        self.add_sched(&mut state);
        self.add_goroutines(&mut state, wanted.goroutines);
        self.add_network(&mut state, wanted.flows);
        self.add_requests(&mut state, wanted.requests);
        state
    }

    /// Since the server was made, or else the scene.
    fn uptime(&self, now: Nanos) -> Duration {
        let since = self.server.as_ref().map_or(self.since, Server::made_at);
        now.since(since)
    }

    fn add_sched(&self, state: &mut State) {
        let sched = self.runtime.look_at_sched();
        state.procs = sched.procs.iter().map(proc).collect();
        state.threads = sched.threads.iter().map(thread).collect();
        state.global_queue = sched.global_queue;
        state.sched = named(self.runtime.metrics());
    }

    fn add_goroutines(&self, state: &mut State, most: usize) {
        let goroutines = self.runtime.look_at_goroutines(most);
        state.goroutines_total = goroutines.total;
        let by_state = goroutines.by_state.into_iter();
        state.by_reason = by_state.map(|(k, n)| (k.to_owned(), n)).collect();
        state.goroutines = goroutines.list.iter().map(goroutine).collect();
    }

    fn add_network(&self, state: &mut State, most: usize) {
        let has_stack = self.runtime.has_stack();
        state.network = if has_stack { "stack" } else { "kernel" }.to_owned();
        state.queues = self.runtime.look_at_queues().iter().map(queue).collect();
        let (flows, total) = self.runtime.look_at_flows(most);
        let requests = self.in_flight();
        state.in_flight = requests.len();
        let shown = flows.iter().map(|flow| flow.fd.raw()).collect();
        let waiters = self.runtime.look_at_waiters(&shown);
        let show = |view: &FlowView| {
            let request = requests.get(&(view.info.local, view.info.peer));
            flow(view, waiters.get(&view.fd.raw()).copied(), request.cloned())
        };
        state.flows = flows.iter().map(show).collect();
        state.flows_total = total;
    }

    /// The requests that connections are in, by their addresses.
    fn in_flight(&self) -> HashMap<(SocketAddr, SocketAddr), String> {
        let connections = self
            .server
            .as_ref()
            .map_or_else(Vec::new, Server::connections);
        let request = |conn: OpenConnection| {
            let (local, remote) = (conn.info.local_addr(), conn.info.remote_addr());
            Some(((local, remote), conn.request?))
        };
        connections.into_iter().filter_map(request).collect()
    }

    fn add_requests(&self, state: &mut State, most: usize) {
        if let Some(server) = &self.server {
            state.http = named(server.stats());
        }
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let is_fresh = |told: &Told| clock::now().since(told.at) < FRESH;
        if !told.as_ref().is_some_and(is_fresh) {
            *told = None;
        }
        let told = told.get_or_insert_with(|| Told::now(&self.runtime));
        state.routes = routes(&told.times);
        let first = told.requests.len().saturating_sub(most);
        state.requests = told.requests[first..].to_vec();
    }
}

impl Told {
    fn now(runtime: &Handle) -> Told {
        let at = clock::now();
        let handled = trace::pick(usize::MAX, |e| e.kind == Kind::HttpHandler);
        let events = recent();
        let names = Names::of(&events, runtime);
        Told {
            at,
            times: times(&handled),
            requests: Journey::all(&events, &names),
        }
    }
}

fn named(list: Vec<(&'static str, u64)>) -> BTreeMap<String, u64> {
    let pairs = list.into_iter();
    pairs
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

fn proc(p: &look::Proc) -> Proc {
    Proc {
        p: p.p,
        spare: p.is_spare,
        m: p.m,
        g: p.g,
        queue: p.queue,
        tick: p.tick,
    }
}

fn thread(m: &look::Thread) -> Thread {
    Thread {
        m: m.m,
        tid: m.tid,
        p: m.p,
        g: m.g,
        status: m.status.to_owned(),
        bound_ready: m.bound_ready,
        bound: m.bound,
    }
}

fn goroutine(g: &GoroutineView) -> Goroutine {
    Goroutine {
        g: g.g,
        state: g.state.to_owned(),
        waited_s: g.waited_s,
        flow: g.flow,
        name: g.name.as_deref().map(str::to_owned),
        site: format!("{}:{}", g.site.file(), g.site.line()),
        creator: g.creator,
        bound_to: g.bound_to,
        stack: g.stack,
    }
}

fn queue(shard: &ShardStats) -> Queue {
    let (ring, counters) = (&shard.ring, &shard.counters);
    let at_queue = [
        ("rx_bad_len", ring.rx_bad_len),
        ("rx_impaired", ring.rx_impaired),
        ("tx_errors", ring.tx_errors),
        ("tx_down", ring.tx_down),
        ("tx_impaired", ring.tx_impaired),
        ("tx_no_frame", counters.tx_no_frame),
    ];
    let drops = at_queue.into_iter().chain(shard.drops.iter().copied());
    let drops = drops.filter(|(_, count)| *count > 0);
    let rings = shard.rings.iter().map(|ring| Ring {
        name: ring.name.to_owned(),
        len: ring.len as usize,
        used: ring.used as usize,
    });
    Queue {
        name: shard.queue.clone(),
        mtu: shard.mtu,
        rx_frames: ring.rx_frames,
        rx_bytes: ring.rx_bytes,
        tx_frames: ring.tx_frames,
        tx_bytes: ring.tx_bytes,
        kicks: ring.kicks,
        drops: drops.map(|(cause, n)| (cause.to_owned(), n)).collect(),
        rings: rings.collect(),
        pool_frames: shard.pool.0 as usize,
        pool_free: shard.pool.1 as usize,
        connections: shard.gauges.connections,
        half_open: shard.gauges.half_open,
        retransmits: counters.tcp_retransmits,
    }
}

fn flow(view: &FlowView, goroutine: Option<u64>, request: Option<String>) -> Flow {
    let info = &view.info;
    Flow {
        fd: trace::fd_number(view.fd.raw()),
        flow: view.fd.raw(),
        queue: view.queue,
        local: info.local.to_string(),
        peer: info.peer.to_string(),
        state: info.state.to_owned(),
        recv_queue: info.recv_queue,
        recv_buffer: info.recv_buffer,
        send_queue: info.send_queue,
        send_buffer: info.send_buffer,
        in_flight: view.in_flight,
        peer_window: view.peer_window,
        mss: view.mss,
        estimated_rtt_us: view.rtt.map(|rtt| rtt.smoothed_us.into()),
        estimated_rttvar_us: view.rtt.map(|rtt| rtt.deviation_us.into()),
        estimated_min_rtt_us: view.rtt.map(|rtt| rtt.least_us.into()),
        segments_in: view.segments_in,
        segments_out: view.segments_out,
        retransmits: view.retransmits,
        out_of_order: view.out_of_order,
        bytes_in: info.bytes_read + info.recv_queue as u64,
        bytes_out: info.bytes_written,
        idle_ms: view.idle.as_millis() as u64,
        age_ms: view.age.as_millis() as u64,
        goroutine,
        request,
    }
}

/// How long handlers took, in microseconds, by the label of their route.
fn times(handled: &[Event]) -> HashMap<u16, Histogram<u64>> {
    let mut times = HashMap::new();
    for e in handled {
        let times: &mut Histogram<u64> = times.entry(e.route().0).or_insert_with(|| {
            Histogram::new_with_bounds(1, MOST_US, 2).expect("these bounds are valid")
        });
        times.saturating_record((e.dur_ns / 1_000).max(1));
    }
    times
}

/// The patterns that answered something, the busiest first: counts since the
/// start, times of what the trace holds.
fn routes(times: &HashMap<u16, Histogram<u64>>) -> Vec<Route> {
    let patterns = mux::answered();
    let routes = patterns.iter().map(|pattern| {
        let (count, errors) = pattern.counts.get();
        let times = times.get(&pattern.label.0);
        let quantile = |q| times.map_or(0, |times| times.value_at_quantile(q));
        Route {
            pattern: pattern.source.to_string(),
            count,
            errors,
            p50_us: quantile(0.5),
            p90_us: quantile(0.9),
            p99_us: quantile(0.99),
            max_us: times.map_or(0, Histogram::max),
        }
    });
    let mut routes: Vec<Route> = routes.collect();
    routes.sort_by_key(|route| std::cmp::Reverse(route.count));
    routes
}

/// The longest time of a handler that is told apart: an hour.
const MOST_US: u64 = 3_600_000_000;
