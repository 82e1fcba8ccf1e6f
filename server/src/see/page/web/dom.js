// Elements, numbers and lists: what every other part of the page is made with.
// Text goes in as text only, never as markup: much of it comes from peers.

const SVG = "http://www.w3.org/2000/svg";
const $ = (id) => document.getElementById(id);
const still = matchMedia("(prefers-reduced-motion: reduce)");

/** An HTML element with attributes and children; a string is text. */
function html(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}

/** The same of SVG. */
function svg(name, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, name), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== null && value !== false) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== undefined && child !== null));
  return element;
}

/** Sets a text only where it changed: an unchanged page costs no layout. */
function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function put(element, name, value) {
  const text = String(value);
  if (element.getAttribute(name) !== text) element.setAttribute(name, text);
}

/**
 * Makes the children of `parent` those of `items`, by key: who has one already
 * keeps it, with its focus and its open details.
 */
function keep(parent, items, keyOf, make, update) {
  const old = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  let place = parent.firstElementChild;
  for (const item of items) {
    const key = String(keyOf(item));
    let child = old.get(key);
    old.delete(key);
    if (!child) {
      child = make(item);
      child.dataset.key = key;
    }
    if (child === place) place = place.nextElementSibling;
    else parent.insertBefore(child, place);
    update?.(child, item);
  }
  for (const child of old.values()) child.remove();
}

/** A table of rows: columns are {name, of(row), kind: "n" | "t" | "wide", minor}. */
function table(element, columns, rows, keyOf, nothing) {
  const shape = columns.map((column) => column.name).join("|");
  if (element.dataset.shape !== shape) {
    element.dataset.shape = shape;
    const heads = columns.map((column) =>
      html("th", { scope: "col", class: classes(column), title: column.title }, column.name));
    element.replaceChildren(html("thead", {}, html("tr", {}, ...heads)), html("tbody"));
  }
  const body = element.tBodies[0];
  if (rows.length === 0) {
    const empty = html("td", { colspan: columns.length, class: "none" }, nothing);
    if (body.textContent !== nothing) body.replaceChildren(html("tr", {}, empty));
    return;
  }
  if (body.firstElementChild?.dataset.key === undefined) body.replaceChildren();
  const make = () =>
    html("tr", {}, ...columns.map((column) => html("td", { class: classes(column) })));
  keep(body, rows, keyOf, make, (line, row) => {
    columns.forEach((column, i) => {
      const value = column.of(row);
      if (value instanceof Node) line.cells[i].replaceChildren(value);
      else say(line.cells[i], value === undefined || value === null ? "–" : String(value));
    });
  });
}

function classes(column) {
  return [column.kind ?? "", column.minor ? "minor" : ""].join(" ").trim();
}

/** A number as people read it: 1234 is 1.2k. */
function short(n) {
  const steps = [[1e9, "G"], [1e6, "M"], [1e3, "k"]];
  for (const [size, letter] of steps) {
    if (n >= size) return `${digits(n / size)}${letter}`;
  }
  return n >= 10 || Number.isInteger(n) ? String(Math.round(n)) : n.toFixed(1);
}

function digits(n) {
  return n >= 100 ? n.toFixed(0) : n.toFixed(1);
}

function bytes(n) {
  const steps = [[1 << 30, "GiB"], [1 << 20, "MiB"], [1 << 10, "KiB"]];
  for (const [size, unit] of steps) {
    if (n >= size) return `${digits(n / size)} ${unit}`;
  }
  return `${Math.round(n)} B`;
}

/** Nanoseconds as a time. */
function time(ns) {
  if (ns < 999.5) return `${Math.round(ns)} ns`;
  if (ns < 999.5e3) return `${digits(ns / 1e3)} µs`;
  if (ns < 999.5e6) return `${digits(ns / 1e6)} ms`;
  return `${digits(ns / 1e9)} s`;
}

const micros = (us) => (us === null || us === undefined ? undefined : time(us * 1e3));
const millis = (ms) => time(ms * 1e6);

function span(seconds) {
  const s = Math.floor(seconds);
  if (s < 120) return `${s} s`;
  if (s < 7200) return `${Math.floor(s / 60)} min`;
  return s < 172800 ? `${Math.floor(s / 3600)} h` : `${Math.floor(s / 86400)} days`;
}

const sum = (list, of) => list.reduce((all, item) => all + of(item), 0);
const plural = (n, one, many = `${one}s`) => `${n} ${n === 1 ? one : many}`;

/** What the browser remembers for this page; nothing where it may not. */
const memory = {
  get(name) {
    try {
      return localStorage.getItem(`wirepath.${name}`);
    } catch {
      return null;
    }
  },
  set(name, value) {
    try {
      localStorage.setItem(`wirepath.${name}`, value);
    } catch {
      // A private window: the choice holds as long as the page.
    }
  },
};
