// The drawing: the path with its rings, flows, queues and goroutines, and beads
// that run along it, one for each request that the server told of.

/** From this width of its place on, pixels, the drawing is the wide one. */
const WIDE_FROM = 900;

class Drawing {
  constructor(place) {
    this.place = place;
    this.turn = { rx: 0, tx: 0 };
    new ResizeObserver(() => this.fit()).observe(place);
    this.fit();
  }

  fit() {
    const plan = this.place.clientWidth >= WIDE_FROM ? WIDE : NARROW;
    if (this.plan === plan) return;
    this.plan = plan;
    this.draw();
    if (this.shown) this.show(...this.shown);
    if (this.guided) this.guide(this.guided);
  }

  draw() {
    const { plan } = this;
    const [width, height] = plan.view;
    this.root = svg("svg", {
      viewBox: `0 0 ${width} ${height}`, class: plan.name, role: "group",
      "aria-label": "The fourteen stages; the table at the end of the page says the same in words",
    });
    for (const band of plan.bands) this.band(band);
    this.wire();
    this.rail = svg("path", { d: plan.rail, class: "rail" });
    this.rush = svg("path", { d: plan.rail, class: "rail-flow" });
    this.gauges = svg("g", { "aria-hidden": "true" });
    this.front = svg("g", { "aria-hidden": "true", class: "front" });
    const layer = svg("g", { "aria-hidden": "true" });
    this.root.append(this.rail, this.rush, this.gauges);
    this.stations = {};
    for (const number of WALK) this.station(number);
    this.halo = svg("circle", { r: 11, class: "halo", visibility: "hidden" });
    layer.append(this.halo);
    this.root.append(this.front, layer);
    this.place.replaceChildren(this.root);
    this.beads?.clear();
    this.beads = new Beads(layer, this.rail, plan);
    this.makeGauges();
  }

  band({ layer, box: [x, y, width, height], text: [tx, ty], middle, unnamed }) {
    this.root.append(svg("rect", { x, y, width, height, rx: 10, class: `band ${layer}` }));
    if (unnamed) return;
    const name = svg("text", { x: tx, y: ty, class: `band-name ${layer}`, "text-anchor": middle ? "middle" : "start" }, layer);
    if (!middle) name.append(svg("tspan", { dx: 8, class: "band-note" }, LAYER_NOTES[layer]));
    this.root.append(name);
  }

  wire() {
    const { box: [x, y, width, height], text: [tx, ty], turned } = this.plan.wire;
    const transform = turned ? `rotate(-90 ${tx} ${ty}) translate(0 4)` : undefined;
    this.root.append(
      svg("rect", { x, y, width, height, rx: 7, class: "wire" }),
      svg("text", { x: tx, y: ty, class: "wire-name", "text-anchor": "middle", transform }, "the wire"),
    );
  }

  station(number) {
    const { station, stations } = this.plan;
    const { at: [x, y], size = station.size, knob } = stations[number];
    const { name, title } = stage(number);
    const figure = svg("text", { x: x + 9, y: y + station.figure });
    const link = svg("a", { href: `#${name}`, class: `station ${LAYERS[number]}`, "data-stage": number },
      svg("title", {}, `${number} ${name}: ${title}`),
      svg("rect", { x, y, width: size[0], height: size[1] }),
      svg("circle", { cx: knob[0], cy: knob[1], r: 5, class: "knob" }),
      svg("text", { x: x + 9, y: y + station.name },
        svg("tspan", { class: "number" }, number), svg("tspan", { dx: 5, class: "name" }, name)),
      figure);
    this.stations[number] = { link, figure };
    this.root.append(link);
  }

  text(x, y, kind = "gauge-text", anchor = "start") {
    const element = svg("text", { x, y, class: kind, "text-anchor": anchor });
    this.gauges.append(element);
    return element;
  }

  /** Lines of text, filled later. */
  lines(x, y, line, count) {
    return Array.from({ length: count }, (_, i) => this.text(x, y + i * line));
  }

  makeGauges() {
    const { rings, pool, device, flows, procs, routes } = this.plan;
    this.ringGauges = Object.fromEntries(Object.entries(rings).map(([name, at]) => [name, this.makeRing(name, at)]));
    this.makePool(pool);
    this.device = this.lines(device.text[0], device.text[1], device.line, device.lines);
    this.flowTitle = this.text(...flows.title, "gauge-name", flows.middle ? "middle" : "start");
    this.cells = svg("g");
    this.procRows = svg("g");
    this.lot = svg("g");
    this.gauges.append(this.cells, this.procRows, this.lot);
    this.flowLines = flows.lines ? this.lines(...flows.lines, 17, 2) : [];
    this.procLines = this.lines(...procs.lines, 17, procs.short ? 1 : 2);
    const per = routes.oneLine ? 1 : 2;
    this.routeLines = this.lines(...routes.at, routes.line, routes.rows * per);
    this.front.append(...this.routeLines);
  }

  /** A ring as a ring: its slots turn with every frame, and fill as it fills. */
  makeRing(name, [cx, cy, r]) {
    const count = 24;
    const slots = Array.from({ length: count }, (_, i) => {
      const a = (i / count) * 2 * Math.PI - Math.PI / 2;
      const b = a + (2 * Math.PI / count) * 0.72;
      const inner = r * 0.7;
      const at = (radius, angle) => `${(cx + radius * Math.cos(angle)).toFixed(1)} ${(cy + radius * Math.sin(angle)).toFixed(1)}`;
      return svg("path", { class: "gauge", d: `M${at(r, a)}A${r} ${r} 0 0 1 ${at(r, b)}L${at(inner, b)}A${inner} ${inner} 0 0 0 ${at(inner, a)}Z` });
    });
    const group = svg("g", { class: "below" }, ...slots);
    this.gauges.append(group);
    this.text(cx, cy + 4, "gauge-name below", "middle").textContent = name.toUpperCase();
    const text = this.text(cx, cy + r + 14, "gauge-text", "middle");
    return { slots, group, text, at: [cx, cy] };
  }

  makePool({ box: [x, y, width, height], text, flat }) {
    const clip = { x, y, width, height, rx: 4 };
    this.gauges.append(svg("rect", { ...clip, class: "gauge below" }));
    this.poolLevel = svg("rect", { ...clip, class: "gauge free below" });
    this.gauges.append(this.poolLevel);
    this.poolText = this.text(...text, "gauge-name", "middle");
    this.poolFill = (part) => {
      if (flat) put(this.poolLevel, "width", (width * part).toFixed(1));
      else {
        put(this.poolLevel, "y", (y + height * (1 - part)).toFixed(1));
        put(this.poolLevel, "height", (height * part).toFixed(1));
      }
    };
  }

  show(state, figure) {
    this.shown = [state, figure];
    for (const [number, text] of Object.entries(stationFigures(state, figure))) say(this.stations[number].figure, text);
    this.root.classList.toggle("kernel", state.queues.length === 0);
    this.rush.classList.toggle("on", figure.rx + figure.tx + figure.requests > 0);
    this.showRing("rx", state, figure, figure.rx);
    this.showRing("tx", state, figure, figure.tx);
    const known = figure.poolFrames > 0;
    this.poolFill(known ? figure.poolFree / figure.poolFrames : 0);
    const free = this.plan === WIDE ? "pool" : `${short(figure.poolFree)} free`;
    say(this.poolText, known ? free : "");
    this.showDevice(state, figure);
    this.showFlows(state, figure);
    this.showProcs(state, figure);
    this.showRoutes(state);
  }

  /** How full the ring is, where a device shows it, or how much passes; the turn goes with every frame. */
  showRing(name, state, figure, rate) {
    const { slots, group, text, at } = this.ringGauges[name];
    const ring = figure.ring(name);
    const used = ring ? Math.ceil((ring.used / Math.max(1, ring.len)) * slots.length) : 0;
    const passing = Math.min(slots.length, Math.ceil(Math.log2(1 + rate * figure.seconds)));
    slots.forEach((slot, i) => slot.classList.toggle("used", i < Math.max(used, ring ? 0 : passing)));
    const total = sum(state.queues, (queue) => queue[`${name}_frames`]);
    put(group, "transform", `rotate(${((total % 24) * 15).toFixed(0)} ${at[0]} ${at[1]})`);
    const label = ring ? (this.plan === WIDE ? `${ring.used}/${ring.len}` : short(ring.used)) : short(total);
    say(text, state.queues.length ? label : "");
  }

  showDevice(state, figure) {
    const { chars, lines } = this.plan.device;
    const [queue] = state.queues;
    const said = queue
      ? [
          state.queues.length > 1 ? `${state.queues.length} queues` : this.plan === WIDE ? queue.name : queue.name.split(" ")[0],
          `in ${bytes(figure.rxBytes)}/s`,
          `out ${bytes(figure.txBytes)}/s`,
          `dropped ${short(figure.dropped)}`,
          `MTU ${queue.mtu}`,
          figure.poolFrames ? `${figure.poolFree} of ${figure.poolFrames} frames free` : "",
        ]
      : ["the kernel's own:", "its sockets are", "used (--kernel)"];
    this.device.forEach((line, i) => say(line, i < lines ? cut(said[i] ?? "", chars) : ""));
  }

  showFlows(state, figure) {
    const { box: [x, y, width, height], cell, step, chars } = this.plan.flows;
    const columns = Math.floor((width + step[0] - cell[0]) / step[0]);
    const most = columns * Math.floor((height + step[1] - cell[1]) / step[1]);
    const shown = state.flows.slice(0, most);
    const kernel = state.queues.length === 0;
    say(this.flowTitle, kernel ? plural(figure.connections, "connection") : plural(state.flows_total, "flow"));
    keep(this.cells, shown, (flow) => flow.flow, () => this.makeCell(cell), (group, flow) => {
      const i = shown.indexOf(flow);
      put(group, "transform", `translate(${(x + (i % columns) * step[0]).toFixed(1)} ${(y + Math.floor(i / columns) * step[1]).toFixed(1)})`);
      this.showCell(group, flow, cell);
    });
    const [first, second] = this.flowLines;
    if (!first) return;
    const rest = state.flows_total - shown.length;
    if (kernel) return [first, second].forEach((line) => say(line, ""));
    say(first, cut(`${figure.halfOpen} half-open, ${short(figure.retransmits)} segments sent again`, chars));
    say(second, cut(rest > 0 ? `and ${rest} more flows` : shown.length ? "left of a cell: to be read; right: to be sent" : "", chars));
  }

  makeCell([width, height]) {
    const bar = (x, kind) => svg("rect", { x, y: height - 2, width: (width - 6) / 2, height: 0, class: kind });
    return svg("g", {}, svg("title"), svg("rect", { width, height, rx: 3, class: "flow-cell" }), bar(2, "flow-in"), bar(width / 2 + 1, "flow-out"));
  }

  showCell(group, flow, [, height]) {
    const [title, box, incoming, outgoing] = group.children;
    const level = (bar, used, size) => {
      const part = used > 0 ? Math.max(0.12, Math.min(1, used / Math.max(1, size))) : 0;
      put(bar, "height", ((height - 4) * part).toFixed(1));
      put(bar, "y", (2 + (height - 4) * (1 - part)).toFixed(1));
    };
    level(incoming, flow.recv_queue, flow.recv_buffer);
    level(outgoing, flow.send_queue, flow.send_buffer);
    box.classList.toggle("busy", Boolean(flow.request) || flow.recv_queue + flow.send_queue > 0);
    box.classList.toggle("closing", flow.state !== "ESTABLISHED");
    say(title, `fd ${flow.fd} ${flow.peer} ${flow.state}`);
  }

  showProcs(state, figure) {
    const { at: [x, y], row, rows, slots, short: tight, width } = this.plan.procs;
    const shown = state.procs.slice(0, rows);
    const slotsFrom = tight ? x + 40 : x + 118;
    keep(this.procRows, shown, (p) => p.p, () => this.makeProc(slots, slotsFrom, x, width), (group, proc) => {
      put(group, "transform", `translate(0 ${y + shown.indexOf(proc) * row})`);
      const [name, lamp, who, more, ...cells] = group.children;
      say(name, `P${proc.p}`);
      lamp.classList.toggle("on", proc.m !== null);
      const on = [proc.m === null ? "idle" : `M${proc.m}`, proc.g === null ? "" : `G${proc.g}`].join(" ");
      say(who, tight ? "" : cut(on.trim(), 13));
      cells.forEach((cell, i) => cell.classList.toggle("full", i < proc.queue));
      say(more, proc.queue > slots ? `+${short(proc.queue - slots)}` : "");
    });
    this.showLot(state, figure);
  }

  makeProc(slots, from, x, width) {
    const step = 13;
    const cells = Array.from({ length: slots }, (_, i) =>
      svg("rect", { x: from + i * step, y: 2, width: 10, height: 13, rx: 2, class: "slot" }));
    return svg("g", {},
      svg("text", { x, y: 13, class: "gauge-name" }),
      svg("circle", { cx: x + 27, cy: 9, r: 4.5, class: "p-run" }),
      svg("text", { x: x + 38, y: 13, class: "gauge-text" }),
      svg("text", { x: x + width, y: 13, class: "gauge-text", "text-anchor": "end" }),
      ...cells);
  }

  /** Parked goroutines, a dot each, and why they wait. */
  showLot(state, figure) {
    const { lot: [x, y], perRow, lotRows, chars, short: tight } = this.plan.procs;
    const count = Math.min(perRow * lotRows, figure.parked);
    const dots = Array.from({ length: count }, (_, i) => i);
    keep(this.lot, dots, (i) => i, (i) => svg("circle", {
      cx: x + 5 + (i % perRow) * (tight ? 11 : 13.2), cy: y + Math.floor(i / perRow) * 13 + 6, r: 4, class: "slot full",
    }));
    const why = Object.entries(state.by_reason).filter(([reason]) => isWait(reason)).sort((a, b) => b[1] - a[1]);
    const [first, second] = this.procLines;
    say(first, tight ? `${short(figure.parked)} parked` : cut(`${figure.parked} parked, ${figure.queued} in queues (${state.global_queue} global)`, chars));
    if (second) say(second, cut(why.slice(0, 4).map(([reason, n]) => `${reason} ${n}`).join(", "), chars));
  }

  showRoutes(state) {
    const { rows, chars, oneLine } = this.plan.routes;
    const said = state.routes.slice(0, rows).flatMap((route) => {
      const pattern = route.pattern || "(no pattern)";
      const facts = `${short(route.count)}${route.p99_us ? `, p99 ${micros(route.p99_us)}` : ""}`;
      return oneLine ? [cut(`${short(route.count)}  ${pattern}`, chars)] : [cut(pattern, chars), facts];
    });
    this.routeLines.forEach((line, i) => {
      say(line, said[i] ?? "");
      put(line, "class", !oneLine && i % 2 === 0 ? "gauge-name" : "gauge-text");
    });
  }

  /** Puts the tour's mark on a stage; 0 takes it away. */
  guide(number) {
    const from = this.guided;
    this.guided = number;
    this.root.classList.toggle("guided", number > 0);
    for (const [n, { link }] of Object.entries(this.stations)) {
      link.classList.toggle("on", Number(n) === number);
      if (Number(n) === number) link.setAttribute("aria-current", "step");
      else link.removeAttribute("aria-current");
    }
    put(this.halo, "visibility", number ? "visible" : "hidden");
    if (!number) return;
    const [x, y] = this.plan.stations[number].knob;
    put(this.halo, "cx", x);
    put(this.halo, "cy", y);
    if (from && from !== number) this.beads.hop(from, number);
    // On a phone the tour's texts cover the lower half of the window.
    const { top } = this.stations[number].link.getBoundingClientRect();
    if (this.plan === NARROW) scrollBy({ top: top - innerHeight * 0.15, behavior: still.matches ? "auto" : "smooth" });
  }
}

const cut = (text, most) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);

/** What stands in each station. */
function stationFigures(state, f) {
  const kernel = state.queues.length === 0;
  const ring = (name, otherwise) => {
    const seen = f.ring(name);
    return seen ? `${seen.used} of ${seen.len}` : otherwise;
  };
  const below = (text) => (kernel ? "in the kernel" : text);
  return {
    1: below(ring("rx", "not shown here")),
    2: below(`${short(f.rx)} frames/s`),
    3: below(plural(f.connections, "flow")),
    4: below(`${bytes(f.rxBytes)}/s`),
    5: kernel ? "by epoll" : `${f.unread} unread`,
    6: `${short(f.parks)} parks/s`,
    7: `${short(f.runs)} runs/s`,
    8: `${bytes(f.bytesIn)}/s`,
    9: `${bytes(f.bytesOut)}/s`,
    10: below(f.retransmitRate > 0 ? `${short(f.retransmitRate)}/s again` : `${bytes(f.inFlight)} unacked`),
    11: below(`${short(f.tx)} frames/s`),
    12: below(`${short(f.kicks)} kicks/s`),
    13: below(f.poolFrames ? `${short(f.poolFree)} free` : "not shown here"),
    14: `${short(f.requests)} requests/s`,
  };
}
