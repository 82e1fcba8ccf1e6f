//! What a server is doing now, as one document.
//!
//! Numbers that grow are totals since the start; whoever shows a rate keeps the
//! document before. What is estimated from segments, since the TCP
//! implementation keeps it to itself, is called `estimated_…`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The version of the document; a reader refuses others.
pub const VERSION: u32 = 1;

/// A server, now.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct State {
    /// [`VERSION`].
    pub version: u32,
    /// The process.
    pub pid: u32,
    /// The clock of the process, nanoseconds (`CLOCK_MONOTONIC`).
    pub at_ns: u64,
    /// The wall clock, nanoseconds since the Unix epoch.
    pub wall_ns: u64,
    /// Since the server was made, seconds.
    pub uptime_s: f64,
    /// `stack`, or `kernel` for the kernel's sockets.
    pub network: String,
    /// The queues of the device, none over the kernel's sockets.
    pub queues: Vec<Queue>,
    /// Where every frame went, from the card upwards and back.
    pub ledger: Vec<LedgerRow>,
    /// Connections, the busiest first, as many as were asked for.
    pub flows: Vec<Flow>,
    /// Connections there are.
    pub flows_total: usize,
    /// Requests in hand.
    pub in_flight: usize,
    /// The P's.
    pub procs: Vec<Proc>,
    /// The M's whose threads live.
    pub threads: Vec<Thread>,
    /// Goroutines in the global queue.
    pub global_queue: usize,
    /// Goroutines, as many as were asked for, by number.
    pub goroutines: Vec<Goroutine>,
    /// Goroutines there are.
    pub goroutines_total: usize,
    /// How many goroutines do what: `running`, `runnable`, or the reason of a
    /// wait.
    pub by_reason: BTreeMap<String, usize>,
    /// The scheduler's counters ([`wirepath_runtime::Handle::metrics`]).
    pub sched: BTreeMap<String, u64>,
    /// The HTTP server's counters ([`crate::Server::stats`]).
    pub http: BTreeMap<String, u64>,
    /// Requests by route, the busiest first.
    pub routes: Vec<Route>,
    /// The last requests, the newest last, as many as the trace holds and were
    /// asked for.
    pub requests: Vec<super::journey::Journey>,
}

/// A queue of a device.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Queue {
    /// As `tap wp0 queue 0`.
    pub name: String,
    /// Bytes of the largest IP packet.
    pub mtu: usize,
    /// Frames handed up.
    pub rx_frames: u64,
    /// Bytes handed up.
    pub rx_bytes: u64,
    /// Frames that the device took.
    pub tx_frames: u64,
    /// Bytes that the device took.
    pub tx_bytes: u64,
    /// Times that the device was told of frames.
    pub kicks: u64,
    /// Frames dropped at the queue or before TCP, by cause, without the zeros.
    pub drops: BTreeMap<String, u64>,
    /// The rings, where the device shows them.
    pub rings: Vec<Ring>,
    /// Frames of the pool, and of these the free ones.
    pub pool_frames: usize,
    /// Free frames.
    pub pool_free: usize,
    /// Connections of the queue's shard.
    pub connections: u64,
    /// Handshakes under way.
    pub half_open: u64,
    /// Segments sent once more.
    pub retransmits: u64,
}

/// A ring.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ring {
    /// `rx`, `tx`, `fill` or `completion`.
    pub name: String,
    /// Entries.
    pub len: usize,
    /// Entries in use.
    pub used: usize,
}

/// A row of the ledger: what came to a place, and where it went.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LedgerRow {
    /// As `stack.rx`.
    pub place: String,
    /// Frames that came.
    pub total: u64,
    /// Where they went.
    pub parts: Vec<(String, u64)>,
    /// Frames that are nowhere: 0, or a bug, or a few while frames come in.
    pub unaccounted: i64,
}

/// A connection, with the fields of `ss -ti` as far as they can be observed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Flow {
    /// Its descriptor's number, as traces and dumps have it.
    pub fd: u32,
    /// The whole identity, as in a trace.
    pub flow: u64,
    /// The queue.
    pub queue: usize,
    /// Our address.
    pub local: String,
    /// The peer's.
    pub peer: String,
    /// The state's name in RFC 9293.
    pub state: String,
    /// Bytes that wait to be read, and the buffer.
    pub recv_queue: usize,
    /// Bytes of the receive buffer.
    pub recv_buffer: usize,
    /// Bytes that are not acknowledged or not sent.
    pub send_queue: usize,
    /// Bytes of the send buffer.
    pub send_buffer: usize,
    /// Bytes sent and not acknowledged.
    pub in_flight: usize,
    /// The window that the peer announced last, bytes.
    pub peer_window: usize,
    /// The largest segment that the peer takes, bytes.
    pub mss: usize,
    /// Smoothed round-trip time, from segments and their ACKs, µs; None before
    /// the first.
    pub estimated_rtt_us: Option<u64>,
    /// Its mean deviation, µs.
    pub estimated_rttvar_us: Option<u64>,
    /// The least seen, µs.
    pub estimated_min_rtt_us: Option<u64>,
    /// Segments received.
    pub segments_in: u64,
    /// Segments sent.
    pub segments_out: u64,
    /// Segments with data sent once more.
    pub retransmits: u64,
    /// Segments received that left a gap.
    pub out_of_order: u64,
    /// Bytes received.
    pub bytes_in: u64,
    /// Bytes that the user wrote.
    pub bytes_out: u64,
    /// Milliseconds since the peer was heard.
    pub idle_ms: u64,
    /// Milliseconds since it came to be.
    pub age_ms: u64,
    /// The goroutine that waits for it, or ran it last.
    pub goroutine: Option<u64>,
    /// The request that it is in: `GET /`.
    pub request: Option<String>,
}

/// A P.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Proc {
    /// Its number.
    pub p: usize,
    /// A spare one, that stands in for one that is stuck.
    pub spare: bool,
    /// The M that holds it; None for an idle one.
    pub m: Option<usize>,
    /// The goroutine that runs on it.
    pub g: Option<u64>,
    /// Goroutines in its queue, with `runnext`.
    pub queue: usize,
    /// Its ticks: goroutines that it ran.
    pub tick: u32,
}

/// An M.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Thread {
    /// Its number.
    pub m: usize,
    /// Its thread, as the kernel names it.
    pub tid: i32,
    /// Its P.
    pub p: Option<usize>,
    /// The goroutine that it runs.
    pub g: Option<u64>,
    /// `running`, `blocking`, `spinning`, `idle`, ….
    pub status: String,
    /// Bound goroutines that are ready, and those that wait.
    pub bound_ready: usize,
    /// Bound goroutines.
    pub bound: usize,
}

/// A goroutine.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Goroutine {
    /// Its number.
    pub g: u64,
    /// `running`, `runnable`, or the reason of its wait, in Go's words.
    pub state: String,
    /// Whole seconds that it has waited.
    pub waited_s: u32,
    /// The flow that it waits for, or that waits for nothing; 0: none.
    pub flow: u64,
    /// Its name.
    pub name: Option<String>,
    /// Where it was started.
    pub site: String,
    /// Who started it; 0: a plain thread.
    pub creator: u64,
    /// The M that it is bound to.
    pub bound_to: Option<usize>,
    /// Bytes of stack that it has used.
    pub stack: usize,
}

/// Requests of one route.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Route {
    /// The mux's pattern; empty for requests that none matched.
    pub pattern: String,
    /// Requests answered.
    pub count: u64,
    /// Of these, with 5xx.
    pub errors: u64,
    /// How long handlers took: from head parsed to last byte written, µs.
    pub p50_us: u64,
    /// 90 %.
    pub p90_us: u64,
    /// 99 %.
    pub p99_us: u64,
    /// The longest.
    pub max_us: u64,
}
