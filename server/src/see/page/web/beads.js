// Beads on the rail: requests that were, told again slowly enough to be seen.
// Where a request's own times are known, the bead is as slow between two stages
// as the request was, by the square root, so that a long wait does not hide the
// rest.

/** Beads at a time, for the eye's sake and the processor's. */
const MOST_BEADS = 24;
/** How long a bead takes for the whole rail, milliseconds. */
const RUN_MS = 2600;
/** How long the bead of a request that the visitor sent takes. */
const MINE_MS = 9000;

class Beads {
  constructor(layer, rail, plan) {
    this.layer = layer;
    this.rail = rail;
    this.length = rail.getTotalLength();
    this.places = this.findPlaces(plan);
    this.running = [];
    this.count = 0;
  }

  clear() {
    for (const bead of this.running) bead.dot.remove();
    this.running = [];
  }

  /** How far along the rail each station's knob is. */
  findPlaces(plan) {
    const best = {};
    for (let d = 0; d <= this.length; d += 2) {
      const point = this.rail.getPointAtLength(d);
      for (const number of WALK) {
        const [x, y] = plan.stations[number].knob;
        const off = Math.hypot(point.x - x, point.y - y);
        if (!(best[number]?.off <= off)) best[number] = { off, d };
      }
    }
    return Object.fromEntries(Object.entries(best).map(([number, { d }]) => [number, d]));
  }

  /** Sends a bead over the whole rail; a journey gives it its times. */
  run(journey, mine = false) {
    if (still.matches || document.hidden || (this.running.length >= MOST_BEADS && !mine)) return;
    const stops = journey ? this.stopsOf(journey) : [[0, 0], [1, this.length]];
    const kind = journey ? `s${Math.floor(journey.status / 100)}` : "";
    this.start(stops, mine ? MINE_MS : RUN_MS, mine ? "mine" : kind, mine ? 8 : 5);
  }

  /** Moves the tour's bead from one station to another. */
  hop(from, to) {
    if (still.matches) return;
    const steps = [[0, this.places[from]], [1, this.places[to]]];
    this.start(steps, 700, "mine", 7);
  }

  stopsOf(journey) {
    const known = WALK.map((number) => [journey.stages[number - 1], number])
      // The handler's time is that of its end; on the rail it lies before the write.
      .filter(([at, number]) => at !== null && number !== 14);
    const points = [[null, 0], ...known.map(([at, number]) => [at, this.places[number]]), [null, this.length]];
    const gap = (i) => {
      const [a, b] = [points[i - 1][0], points[i][0]];
      return a === null || b === null ? 0 : Math.max(0, b - a);
    };
    const whole = Math.max(1, journey.end - journey.start);
    const weights = points.map((point, i) => {
      if (i === 0) return 0;
      const way = Math.abs(point[1] - points[i - 1][1]) / this.length;
      return 0.35 * way + Math.sqrt(gap(i) / whole);
    });
    const all = sum(weights, Number);
    let passed = 0;
    return points.map(([, d], i) => {
      passed += weights[i];
      return [passed / all, d];
    });
  }

  start(stops, ms, kind, r) {
    const dot = svg("circle", { r, class: `bead ${kind}` });
    this.layer.append(dot);
    this.count += 1;
    this.running.push({ dot, stops, ms, from: performance.now() });
    if (this.running.length === 1) requestAnimationFrame((now) => this.step(now));
  }

  step(now) {
    this.running = this.running.filter((bead) => this.move(bead, now));
    if (this.running.length) requestAnimationFrame((next) => this.step(next));
  }

  move(bead, now) {
    const t = (now - bead.from) / bead.ms;
    if (t >= 1 || !bead.dot.isConnected) {
      bead.dot.remove();
      return false;
    }
    const i = Math.max(1, bead.stops.findIndex(([at]) => at >= t));
    const [[t0, d0], [t1, d1]] = [bead.stops[i - 1], bead.stops[i]];
    const d = t1 > t0 ? d0 + (d1 - d0) * Math.max(0, (t - t0) / (t1 - t0)) : d1;
    const { x, y } = this.rail.getPointAtLength(d);
    bead.dot.setAttribute("transform", `translate(${x.toFixed(1)} ${y.toFixed(1)})`);
    return true;
  }
}
