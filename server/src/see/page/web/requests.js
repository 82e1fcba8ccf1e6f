// The last requests, each as the parts that its time went to.

const HOPS = {
  rx_ring: ["in the RX ring", "in"],
  stack: ["through the stack", "stack"],
  receiving: ["rest of the head awaited", "in"],
  lost_inbound: ["a segment was lost on the way in", "lost"],
  pipelined: ["behind an earlier request", "wait"],
  readiness: ["until the goroutine was runnable", "stack"],
  run_queue: ["in a run queue", "queue"],
  parse: ["read and parsed", "handler"],
  handler: ["handler", "handler"],
  handler_wait: ["handler waits", "wait"],
  body_wait: ["waits for the body", "wait"],
  blocking: ["in a blocking call", "wait"],
  window_wait: ["waits for the peer's window", "wait"],
  egress: ["until it was cut into segments", "out"],
  retransmission: ["lost on the way out, sent again", "lost"],
  tx_ring: ["in the TX ring", "out"],
};
const KEY = [["in", "receiving"], ["stack", "stack"], ["queue", "run queue"], ["handler", "handler"], ["wait", "waiting"], ["out", "sending"], ["lost", "lost and repeated"]];

const hopOf = (hop) => HOPS[hop.kind] ?? [hop.kind.replaceAll("_", " "), "wait"];
const keyOfJourney = (journey) => `${journey.flow}:${journey.offset}`;

class Requests {
  constructor() {
    this.seen = new Set();
    this.mine = null;
    $("hop-key").append(...KEY.map(([kind, name]) => html("li", {}, html("i", { class: `hop-${kind}` }), name)));
  }

  /** Those of the document that were not in one before. */
  fresh(state) {
    const keys = state.requests.map(keyOfJourney);
    const fresh = state.requests.filter((journey, i) => !this.seen.has(keys[i]));
    this.seen = new Set(keys);
    return fresh;
  }

  show(state) {
    // While one is open, the list stands still, so that it can be read.
    const isRead = $("requests").querySelector("details[open]") !== null;
    const hint = state.requests.length
      ? "Each bar is one request from its first byte to its last; open one to see its parts." + (isRead ? " The list stands still while one is open." : "")
      : "None in the trace yet. If requests are answered and none shows here, the flight recorder is off.";
    say($("requests-hint"), hint);
    if (isRead) return;
    const list = [...state.requests].reverse();
    keep($("requests"), list, keyOfJourney, (journey) => this.make(journey), (line, journey) => {
      line.classList.toggle("mine", this.mine === keyOfJourney(journey));
    });
  }

  make(journey) {
    const whole = Math.max(1, journey.end - journey.start);
    const bar = html("span", { class: "hops", role: "img", "aria-label": `parts: ${this.inWords(journey, whole)}` });
    for (const hop of journey.hops) {
      const part = html("i", { class: `hop-${hopOf(hop)[1]}` });
      part.style.flexGrow = Math.max(0, hop.to_ns - hop.from_ns) / whole;
      bar.append(part);
    }
    const status = journey.status || "–";
    const summary = html("summary", {},
      html("span", { class: `code s${Math.floor(journey.status / 100)}` }, String(status)),
      html("span", { class: "what", title: journey.request }, journey.request || "(not in the trace)"),
      bar,
      html("span", { class: "took" }, time(whole)));
    const details = html("details", {}, summary);
    details.addEventListener("toggle", () => {
      if (details.open && details.children.length === 1) details.append(this.parts(journey, whole));
    });
    return html("li", {}, details);
  }

  inWords(journey, whole) {
    const big = journey.hops.filter((hop) => hop.to_ns - hop.from_ns >= whole / 50);
    return big.map((hop) => `${hopOf(hop)[0]} ${time(hop.to_ns - hop.from_ns)}`).join(", ");
  }

  parts(journey, whole) {
    const about = [
      journey.route && `route ${journey.route}`, `fd ${journey.fd}`, journey.goroutine && `goroutine ${journey.goroutine}`,
      journey.nth && `request ${journey.nth} of its connection`, journey.peer && `from ${journey.peer}`,
      `${bytes(journey.bytes_in)} in, ${bytes(journey.bytes_out)} out`,
    ].filter(Boolean).join(", ");
    const columns = [
      { name: "part", kind: "t", of: (hop) => hopOf(hop)[0] },
      { name: "at", kind: "n", of: (hop) => `+${time(hop.from_ns - journey.start)}` },
      { name: "for", kind: "n", of: (hop) => time(hop.to_ns - hop.from_ns) },
      { name: "share", kind: "n", of: (hop) => `${(((hop.to_ns - hop.from_ns) / whole) * 100).toFixed(0)} %` },
      { name: "", kind: "track-cell", minor: true, of: (hop) => track(hop, journey.start, whole) },
      { name: "note", of: (hop) => hop.note ?? "" },
    ];
    const grid = html("table");
    const rows = journey.hops.map((hop, i) => ({ ...hop, i }));
    table(grid, columns, rows, (hop) => hop.i, "no part is known");
    const again = html("button", { type: "button" }, "Show it on the drawing");
    again.addEventListener("click", () => follow(journey, false));
    const scroll = html("div", { class: "scroll", role: "region", tabindex: "0", "aria-label": "Parts of the request" }, grid);
    return html("div", { class: "hop-list" }, html("p", { class: "meta" }, about), scroll, again);
  }
}

function track(hop, start, whole) {
  const bar = html("i", { class: `hop-${hopOf(hop)[1]}` });
  bar.style.left = `${((hop.from_ns - start) / whole) * 100}%`;
  bar.style.width = `${((hop.to_ns - hop.from_ns) / whole) * 100}%`;
  return html("div", { class: "track", "aria-hidden": "true" }, bar);
}
