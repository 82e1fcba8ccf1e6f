// The guided tour: one stage after another, as a request meets them, beside
// what Linux and Go do there. A stage has its address: #fd.ready.

/** How long a stage stays while the tour plays: to read it, or to follow a request. */
const READ_MS = 9000;
const FOLLOW_MS = 3500;

class Guide {
  constructor(drawing) {
    this.drawing = drawing;
    this.number = 0;
    this.journey = null;
    const steps = WALK.map((number) => {
      const { name, title } = stage(number);
      return html("a", { href: `#${name}`, "aria-label": `${number} ${name}: ${title}`, title: name }, String(number));
    });
    $("guide-steps").append(...steps);
    $("tour").addEventListener("click", () => (this.number ? this.close() : this.open(WALK[0], true)));
    $("guide-prev").addEventListener("click", () => this.move(-1));
    $("guide-next").addEventListener("click", () => this.move(1));
    $("guide-play").addEventListener("click", () => this.play(!this.timer));
    $("guide-close").addEventListener("click", () => this.close());
    addEventListener("hashchange", () => this.fromAddress());
    addEventListener("keydown", (event) => this.key(event));
  }

  fromAddress() {
    const name = decodeURIComponent(location.hash.slice(1));
    const found = STAGES.find((candidate) => candidate.name === name);
    if (found && found.number !== this.number) this.open(found.number, false);
    else if (!found && this.number && name === "") this.close();
  }

  key(event) {
    const isTyped = event.target.closest?.("select, input, textarea, .scroll");
    if (!this.number || isTyped || event.altKey || event.ctrlKey || event.metaKey) return;
    const act = { ArrowLeft: () => this.move(-1), ArrowRight: () => this.move(1), Escape: () => this.close() }[event.key];
    if (act) {
      event.preventDefault();
      act();
    }
  }

  move(by) {
    const to = WALK[WALK.indexOf(this.number) + by];
    if (to) this.open(to, false);
    return Boolean(to);
  }

  open(number, withFocus) {
    const isNew = this.number === 0;
    this.number = number;
    const { name } = stage(number);
    if (location.hash !== `#${name}`) history.replaceState(null, "", `#${name}`);
    $("guide").hidden = false;
    document.body.classList.add("touring");
    $("tour").setAttribute("aria-expanded", "true");
    this.show();
    this.drawing.guide(number);
    if (withFocus) $("guide-title").focus({ preventScroll: true });
    if (isNew && this.drawing.plan === WIDE) $("drawing").scrollIntoView({ block: "start", behavior: still.matches ? "auto" : "smooth" });
  }

  close() {
    this.play(false);
    this.number = 0;
    this.journey = null;
    $("guide").hidden = true;
    document.body.classList.remove("touring");
    $("tour").setAttribute("aria-expanded", "false");
    $("tour").focus({ preventScroll: true });
    history.replaceState(null, "", location.pathname + location.search);
    this.drawing.guide(0);
  }

  show() {
    const at = WALK.indexOf(this.number);
    const { number, name, title } = stage(this.number);
    [...$("guide-steps").children].forEach((step, i) => {
      step.classList.toggle("seen", i < at);
      if (i === at) step.setAttribute("aria-current", "step");
      else step.removeAttribute("aria-current");
    });
    $("guide-prev").disabled = at === 0;
    $("guide-next").disabled = at === WALK.length - 1;
    say($("guide-title"), `${number} ${name}: ${title}`);
    say($("guide-live"), `Step ${at + 1} of ${WALK.length}, ${name}: ${title}. ${this.times()}`);
    say($("guide-time"), this.times());
    $("guide-texts").replaceChildren(...texts(stage(this.number)));
    $("guide").scrollTop = 0;
  }

  /** When the followed request was here. */
  times() {
    if (!this.journey) return "";
    const { stages, start, end, hops } = this.journey;
    const at = stages[this.number - 1];
    if (at === null) return "Your request: this device does not show when.";
    const since = time(Math.max(0, at - start));
    if (this.number === 14) {
      const inside = sum(hops.filter((hop) => ["handler", "handler_wait", "blocking", "body_wait"].includes(hop.kind)), (hop) => hop.to_ns - hop.from_ns);
      return `Your request: ${time(inside)} in the handler, done ${since} after its first byte was seen.`;
    }
    const earlier = WALK.slice(0, WALK.indexOf(this.number)).filter((n) => n !== 14).map((n) => stages[n - 1]).filter((t) => t !== null);
    const step = earlier.length ? at - Math.max(...earlier) : null;
    const after = step === null ? "" : `, ${time(Math.max(0, step))} after the stage before`;
    return `Your request: here ${since} after its first byte was seen${after}, of ${time(end - start)} in all.`;
  }

  play(on) {
    clearInterval(this.timer);
    this.timer = null;
    if (on) {
      if (this.number === WALK.at(-1)) this.open(WALK[0], false);
      const every = this.journey ? FOLLOW_MS : READ_MS;
      this.timer = setInterval(() => this.move(1) || this.play(false), every);
    }
    $("guide-play").setAttribute("aria-pressed", String(on));
    say($("guide-play"), on ? "Stop" : "Play");
  }

  /** Walks the stages with a request's own times. */
  follow(journey) {
    this.play(false);
    this.journey = journey;
    this.open(WALK.find((number) => journey.stages[number - 1] !== null) ?? WALK[0], true);
    if (!still.matches) this.play(true);
  }
}

function texts({ here, here_at, linux, linux_at, go, go_at, corrections }) {
  const part = (name, text, places) =>
    html("article", {}, html("h3", {}, name), html("p", {}, text), places.length ? html("p", { class: "at" }, places.join(" · ")) : undefined);
  const myths = corrections.map(({ said, right }) =>
    html("article", { class: "myth" },
      html("p", {}, html("b", {}, "Often said: "), html("s", {}, said)), html("p", {}, html("b", {}, "So it is: "), right)));
  return [part("Here, in Wirepath", here, [here_at]), part("In Linux", linux, linux_at), part("In Go", go, go_at), ...myths];
}
