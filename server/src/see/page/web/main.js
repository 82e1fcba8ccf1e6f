// Puts the parts together.

const drawing = new Drawing($("canvas"));
const requests = new Requests();
const guide = new Guide(drawing);
const live = new Live(show);
/** Beads that one document sends off at most. */
const MOST_AT_ONCE = 6;

function show(state, before) {
  const figure = figures(state, before);
  drawing.show(state, figure);
  showFigures(state, figure);
  showTables(state);
  showLedger(state);
  showStages(state, figure);
  const fresh = requests.fresh(state);
  requests.show(state);
  if (before) sendBeads(fresh, figure);
}

/** A bead for each new request, or, where no trace tells of them, for their number. */
function sendBeads(fresh, figure) {
  const many = Math.max(fresh.length, figure.newRequests);
  const count = Math.min(MOST_AT_ONCE, many);
  for (let i = 0; i < count; i += 1) {
    const journey = fresh[Math.floor((i * fresh.length) / count)];
    setTimeout(() => drawing.beads.run(journey), (i * live.interval) / count);
  }
  const more = many > count ? ` ${count} of the last ${short(many)} are shown.` : "";
  const slow = fresh.length ? ", lingering where the request did" : "";
  say($("legend"), still.matches
    ? "Beads are left out, as your system asks for little motion."
    : `A bead is a request that was just answered, told again slowly${slow}.${more}`);
}

/** How often, and how long after each other, the server is asked for the request that was sent. */
const LOOKS = 12;
const LOOK_MS = 150;

async function send() {
  const buttons = [$("send"), $("guide-send")];
  for (const button of buttons) button.disabled = true;
  const token = Math.random().toString(36).slice(2, 7);
  const target = `${new URL("hello", location.href).pathname}?${token}`;
  try {
    const from = performance.now();
    const answer = await fetch(`hello?${token}`, { cache: "no-store" });
    await answer.text();
    const waited = performance.now() - from;
    const journey = await find(token);
    sent(target, answer.status, waited, journey);
  } catch (error) {
    tell(`The request was not answered: ${error.message}.`);
  } finally {
    for (const button of buttons) button.disabled = false;
  }
}

async function find(token) {
  for (let look = 0; look < LOOKS; look += 1) {
    const found = await live.ask(`journey?hello=${token}`);
    if (found) return found;
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
  }
  return null;
}

function sent(target, status, waited, journey) {
  if (!journey) {
    tell(`GET ${target} was answered with ${status}; your browser waited ${millis(waited)}. The trace does not hold it, so its stages have no times.`);
    drawing.beads.run(null, true);
    return;
  }
  const took = time(journey.end - journey.start);
  tell(`GET ${target} was answered with ${status} by goroutine ${journey.goroutine} on fd ${journey.fd}: ${took} on the path; your browser waited ${millis(waited)}.`);
  requests.mine = keyOfJourney(journey);
  follow(journey, true);
}

/** Shows a request on the drawing: its bead, and with the tour its times. */
function follow(journey, withTour) {
  if (withTour || guide.number) guide.follow(journey);
  else {
    drawing.beads.run(journey, true);
    $("drawing").scrollIntoView({ block: "start", behavior: still.matches ? "auto" : "smooth" });
  }
}

function tell(text) {
  $("sent").hidden = false;
  say($("sent"), text);
}

function dress(theme) {
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
}

$("send").addEventListener("click", send);
$("guide-send").addEventListener("click", send);
$("pause").addEventListener("click", () => {
  const paused = !live.paused;
  $("pause").setAttribute("aria-pressed", String(paused));
  say($("pause"), paused ? "Go on" : "Pause");
  live.pause(paused);
});
$("interval").addEventListener("change", (event) => live.every(Number(event.target.value)));
$("theme").addEventListener("change", (event) => {
  memory.set("theme", event.target.value);
  dress(event.target.value);
});
$("theme").value = memory.get("theme") ?? "auto";
dress($("theme").value);
$("interval").value = String(live.interval);
guide.fromAddress();
live.begin();
