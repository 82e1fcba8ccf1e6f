// The server's state as it comes: one document after another, with the one
// before, so that totals become rates.

const STAGES = JSON.parse($("texts").textContent).stages;
const WALK = JSON.parse($("texts").textContent).walk;
const stage = (number) => STAGES[number - 1];

/** How long without a document until the page says that it waits, in intervals. */
const LATE_AFTER = 6;

class Live {
  constructor(show) {
    this.show = show;
    this.interval = Number(memory.get("interval")) || 500;
    this.paused = false;
    this.last = null;
    this.watch = null;
    document.addEventListener("visibilitychange", () => this.begin());
    addEventListener("pagehide", () => this.end());
  }

  /** Listens, unless paused or nobody looks. */
  begin() {
    this.end();
    if (this.paused || document.hidden) {
      this.status("paused", this.paused ? "paused" : "paused while nobody looks");
      return;
    }
    this.status("wait", "connecting");
    this.source = new EventSource(`events?interval=${this.interval}`);
    this.source.addEventListener("state", (event) => this.take(JSON.parse(event.data)));
    this.source.addEventListener("trouble", (event) => this.status("lost", event.data));
    this.source.onerror = () => this.lost();
  }

  end() {
    clearTimeout(this.watch);
    this.source?.close();
    this.source = null;
  }

  /** A stream that broke comes back by itself, unless the server refused it. */
  lost() {
    if (this.source?.readyState === EventSource.CLOSED) {
      this.status("lost", "refused by the server; trying again in 5 s");
      clearTimeout(this.watch);
      this.watch = setTimeout(() => this.begin(), 5000);
    } else {
      this.status("lost", "connection lost, trying again");
    }
  }

  take(state) {
    // Those still in hand have no whole to show yet.
    state.requests = state.requests.filter((journey) => journey.hops.length > 0 && journey.stages[13] !== null);
    const before = this.last?.pid === state.pid ? this.last : null;
    if (before && state.at_ns <= before.at_ns) return;
    this.last = state;
    this.status("live", "live");
    clearTimeout(this.watch);
    const patience = Math.max(this.interval * LATE_AFTER, 3000);
    this.watch = setTimeout(() => this.status("lost", "the server has not sent for a while"), patience);
    this.show(state, before);
  }

  /** Something else that the server tells, beside the stream. */
  async ask(path) {
    const answer = await fetch(path, { cache: "no-store" });
    if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
    return answer.json();
  }

  pause(paused) {
    this.paused = paused;
    this.begin();
  }

  every(interval) {
    this.interval = interval;
    memory.set("interval", interval);
    this.begin();
  }

  status(is, text) {
    $("status").dataset.is = is;
    say($("status-text"), text);
  }
}

/** The rates between two documents, and what there is: the figures of the drawing. */
function figures(state, before) {
  const seconds = before ? (state.at_ns - before.at_ns) / 1e9 : 0;
  const rate = (of) => (seconds > 0 ? Math.max(0, of(state) - of(before)) / seconds : 0);
  const queues = (field) => (s) => sum(s.queues, (queue) => queue[field]);
  const http = (name) => (s) => s.http[name] ?? 0;
  const dropped = (s) => sum(s.queues, (q) => sum(Object.values(q.drops), Number));
  const rx = rate(queues("rx_frames"));
  const tx = rate(queues("tx_frames"));
  const kicks = rate(queues("kicks"));
  return {
    rx, tx, kicks,
    rxBytes: rate(queues("rx_bytes")),
    txBytes: rate(queues("tx_bytes")),
    requests: rate(http("requests")),
    bytesIn: rate(http("bytes_in")),
    bytesOut: rate(http("bytes_out")),
    errors: rate(http("responses_5xx")),
    runs: rate((s) => sum(s.procs, (p) => p.tick)),
    parks: rate((s) => s.sched.parks ?? 0),
    retransmits: queues("retransmits")(state),
    retransmitRate: rate(queues("retransmits")),
    connections: state.queues.length ? queues("connections")(state) : http("connections_open")(state),
    halfOpen: queues("half_open")(state),
    dropped: dropped(state),
    dropRate: rate(dropped),
    poolFrames: queues("pool_frames")(state),
    poolFree: queues("pool_free")(state),
    queued: state.global_queue + sum(state.procs, (p) => p.queue),
    running: state.procs.filter((p) => p.g !== null).length,
    parked: sum(Object.entries(state.by_reason), ([reason, n]) => (isWait(reason) ? n : 0)),
    unread: state.flows.filter((flow) => flow.recv_queue > 0).length,
    sendQueue: sum(state.flows, (flow) => flow.send_queue),
    inFlight: sum(state.flows, (flow) => flow.in_flight),
    ring: (name) => rings(state, name),
    seconds,
    newRequests: before ? Math.max(0, http("requests")(state) - http("requests")(before)) : 0,
  };
}

const isWait = (reason) => reason !== "running" && reason !== "runnable";

/** The rings of a name, of all queues together; null where no device shows them. */
function rings(state, name) {
  const all = state.queues.flatMap((queue) => queue.rings.filter((ring) => ring.name === name));
  return all.length ? { len: sum(all, (r) => r.len), used: sum(all, (r) => r.used) } : null;
}
