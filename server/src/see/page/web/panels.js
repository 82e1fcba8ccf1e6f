// Everything below the drawing but the requests: tables and bars of one document.

/** Values that a little curve of a figure shows. */
const CURVE = 60;

const FIGURES = [
  { name: "requests a second", of: (f) => f.requests },
  { name: "frames in a second", of: (f) => f.rx },
  { name: "frames out a second", of: (f) => f.tx },
  { name: "connections", of: (f) => f.connections },
  { name: "goroutines", of: (f, s) => s.goroutines_total },
  { name: "frames dropped", of: (f) => f.dropped, alarm: (f) => f.dropRate > 0 },
];
const curves = FIGURES.map(() => []);

function showFigures(state, figure) {
  keep($("figures"), FIGURES, (item) => item.name, makeFigure, (line, item) => {
    const value = item.of(figure, state);
    const curve = curves[FIGURES.indexOf(item)];
    curve.push(value);
    if (curve.length > CURVE) curve.shift();
    say(line.querySelector("b"), short(value));
    line.classList.toggle("alarm", Boolean(item.alarm?.(figure)));
    put(line.querySelector("path"), "d", curvePath(curve));
  });
}

function makeFigure(item) {
  const curve = svg("svg", { viewBox: "0 0 100 20", preserveAspectRatio: "none", "aria-hidden": "true" }, svg("path"));
  return html("li", {}, html("b"), html("span", {}, item.name), curve);
}

function curvePath(values) {
  const most = Math.max(1, ...values);
  const step = 100 / (CURVE - 1);
  const from = 100 - (values.length - 1) * step;
  return values.map((v, i) => `${i ? "L" : "M"}${(from + i * step).toFixed(1)} ${(18.5 - (v / most) * 17).toFixed(1)}`).join("");
}

function meter(part, text) {
  const bar = html("i");
  bar.style.width = `${Math.min(100, part * 100).toFixed(0)}%`;
  const box = html("span", { class: "meter", "aria-hidden": "true" }, bar);
  return html("span", {}, box, text);
}

/** Goroutines that a P's queue holds. */
const QUEUE = 256;

const PROCS = [
  { name: "P", kind: "t", of: (p) => `P${p.p}${p.spare ? " (spare)" : ""}` },
  { name: "M", kind: "t", of: (p) => (p.m === null ? "idle" : `M${p.m}`) },
  { name: "runs", kind: "t", of: (p) => (p.g === null ? undefined : `G${p.g}`) },
  { name: "queue", title: "goroutines that wait to run here, runnext among them", of: (p) => meter(Math.sqrt(p.queue / QUEUE), String(p.queue)) },
  { name: "runs so far", kind: "n", of: (p) => short(p.tick) },
];

const THREADS = [
  { name: "M", kind: "t", of: (m) => `M${m.m}` },
  { name: "thread", kind: "n", of: (m) => m.tid },
  { name: "does", kind: "t", of: (m) => m.status },
  { name: "P", kind: "t", of: (m) => (m.p === null ? undefined : `P${m.p}`) },
  { name: "runs", kind: "t", of: (m) => (m.g === null ? undefined : `G${m.g}`) },
  { name: "bound", kind: "n", title: "goroutines that stay on this thread; of these, ready", of: (m) => `${m.bound} (${m.bound_ready} ready)` },
];

const GOROUTINES = [
  { name: "G", kind: "n", of: (g) => g.g },
  { name: "state", kind: "t", of: (g) => (g.waited_s ? `${g.state}, ${span(g.waited_s)}` : g.state) },
  { name: "for", kind: "t", of: (g) => (g.flow ? `fd ${fdOf(g.flow)}` : undefined) },
  { name: "name", kind: "t", of: (g) => g.name },
  { name: "started at", of: (g) => g.site },
  { name: "by", kind: "t", minor: true, of: (g) => (g.creator ? `G${g.creator}` : undefined) },
  { name: "bound to", kind: "t", minor: true, of: (g) => (g.bound_to === null ? undefined : `M${g.bound_to}`) },
  { name: "stack", kind: "n", minor: true, of: (g) => bytes(g.stack) },
];

/** The slot of a flow, its low 24 bits, is the number that people see. */
const fdOf = (flow) => flow % 0x1000000;

const FLOWS = [
  { name: "fd", kind: "n", of: (f) => f.fd },
  { name: "peer", kind: "t", of: (f) => f.peer },
  { name: "state", kind: "t", of: (f) => f.state },
  { name: "request", of: (f) => f.request ?? (f.goroutine ? `G${f.goroutine}` : undefined) },
  { name: "to read", kind: "n", title: "bytes in the receive buffer", of: (f) => bytes(f.recv_queue) },
  { name: "to send", kind: "n", title: "bytes not sent or not acknowledged", of: (f) => bytes(f.send_queue) },
  { name: "in flight", kind: "n", minor: true, title: "bytes sent and not acknowledged", of: (f) => bytes(f.in_flight) },
  { name: "peer's window", kind: "n", minor: true, of: (f) => bytes(f.peer_window) },
  { name: "rtt (estimated)", kind: "n", title: "smoothed, from segments and their ACKs", of: (f) => micros(f.estimated_rtt_us) },
  { name: "sent again", kind: "n", of: (f) => f.retransmits },
  { name: "gaps", kind: "n", minor: true, title: "segments that left a gap before them", of: (f) => f.out_of_order },
  { name: "in", kind: "n", minor: true, of: (f) => bytes(f.bytes_in) },
  { name: "out", kind: "n", minor: true, of: (f) => bytes(f.bytes_out) },
  { name: "silent for", kind: "n", minor: true, of: (f) => millis(f.idle_ms) },
  { name: "queue", kind: "n", minor: true, of: (f) => f.queue },
];

const ROUTES = [
  { name: "pattern", of: (r) => r.pattern || "(none matched)" },
  { name: "requests", kind: "n", of: (r) => short(r.count) },
  { name: "with 5xx", kind: "n", of: (r) => r.errors },
  { name: "median", kind: "n", of: (r) => micros(r.p50_us || null) },
  { name: "90 %", kind: "n", minor: true, of: (r) => micros(r.p90_us || null) },
  { name: "99 %", kind: "n", of: (r) => micros(r.p99_us || null) },
  { name: "longest", kind: "n", of: (r) => micros(r.max_us || null) },
];

function showTables(state) {
  table($("procs"), PROCS, state.procs, (p) => p.p, "no P");
  table($("threads"), THREADS, state.threads, (m) => m.m, "no thread");
  table($("goroutines"), GOROUTINES, state.goroutines, (g) => g.g, "none");
  const none = state.queues.length ? "no connection" : "the kernel's: see `ss -ti`";
  table($("flows"), FLOWS, state.flows, (f) => f.flow, none);
  table($("routes"), ROUTES, state.routes, (r) => r.pattern, "no request yet");
  const rest = state.flows_total - state.flows.length;
  say($("flows-hint"), rest > 0 ? `The busiest; ${rest} more are not listed.` : "");
  showReasons(state);
  say($("about"), `Process ${state.pid}, up ${span(state.uptime_s)}, over ${state.network === "kernel" ? "the kernel's sockets" : "a stack of its own"}; ${plural(state.goroutines_total, "goroutine")}.`);
}

function showReasons(state) {
  const rows = Object.entries(state.by_reason).sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1));
  const most = Math.max(1, ...rows.map(([, n]) => n));
  keep($("reasons"), rows, ([reason]) => reason, ([reason]) =>
    html("li", {}, html("span", {}, reason), html("span", { class: "bar", "aria-hidden": "true" }, html("i")), html("span", { class: "count" })),
  (line, [, n]) => {
    line.querySelector("i").style.width = `${((n / most) * 100).toFixed(0)}%`;
    say(line.lastElementChild, String(n));
  });
}

/** Parts of a ledger's row whose names say that the frame is gone. */
const LOST = /drop|lost|bad|full|invalid|refused|unaccounted|no_frame/;

function showLedger(state) {
  say($("ledger-hint"), state.ledger.length
    ? "Every frame has one fate; the parts of a row add up to its total."
    : "Over the kernel's sockets, frames are the kernel's to count: see `nstat` and `ethtool -S`.");
  keep($("ledger"), state.ledger, (row) => row.place, (row) =>
    html("li", {}, html("div", {}, html("span", { class: "place" }, `${row.place}: `), html("span", { class: "total" })), html("div", { class: "parts" })),
  (line, row) => {
    say(line.querySelector(".total"), `${row.total.toLocaleString("en")} frames`);
    const parts = row.parts.filter(([, n]) => n > 0);
    if (row.unaccounted) parts.push(["unaccounted", row.unaccounted]);
    keep(line.lastElementChild, parts, ([name]) => name, ([name]) =>
      html("span", { class: LOST.test(name) ? "lost" : "" }), (part, [name, n]) =>
      say(part, `${name.replaceAll("_", " ")} ${n.toLocaleString("en")}`));
  });
}

const STAGE_COLUMNS = [
  { name: "stage", kind: "t", of: (row) => `${row.number} ${row.name}` },
  { name: "what happens", kind: "wide", of: (row) => row.title },
  { name: "where", kind: "t", minor: true, of: (row) => LAYERS[row.number] },
  { name: "now", kind: "t", of: (row) => row.now },
];

/** The drawing in words. */
function showStages(state, figure) {
  const now = stationFigures(state, figure);
  const rows = WALK.map((number) => ({ ...stage(number), now: now[number] }));
  table($("stages"), STAGE_COLUMNS, rows, (row) => row.number, "");
}
