// How the sweep went: runs under way, and each run from its scheduling to its end.

import { chart, label, line, scale, ticks } from "./chart.js";
import { h } from "./dom.js";
import { duration, time } from "./format.js";
import { CLASSES } from "./states.js";

/** @typedef {import("./store.js").Store} Store */

const WIDTH = 1000, LEFT = 50, RIGHT = 985;

/**
 * @param {Store} store
 * @param {import("./main.js").Page} page
 */
export function timeline(store, page) {
  const { columns, rows } = store.runs;
  const timed = Array.from({ length: rows }, (_, run) => run).filter((run) => !Number.isNaN(columns.started[run]) || !Number.isNaN(columns.scheduled[run]));
  if (!timed.length) return { element: h("section", null, h("h2", { id: "title" }, "Timeline"), h("p", null, "No run has a time.")) };
  const begin = (/** @type {number} */ run) => (Number.isNaN(columns.scheduled[run]) ? columns.started[run] : Math.min(columns.scheduled[run], columns.started[run] || Infinity));
  const end = (/** @type {number} */ run) => (Number.isNaN(columns.ended[run]) ? (Number.isNaN(columns.started[run]) ? begin(run) : columns.started[run]) : columns.ended[run]);
  let first = Infinity, last = -Infinity;
  for (const run of timed) {
    first = Math.min(first, begin(run));
    last = Math.max(last, end(run));
  }
  last = Math.max(last, first + 1);
  timed.sort((a, b) => begin(a) - begin(b) || a - b);
  return {
    element: h("section", { "aria-labelledby": "title" }, h("h2", { id: "title" }, "Timeline"),
      h("p", { class: "hint" }, `How the runs went, from ${time(first)}, for ${duration(last - first)}. Times are those of the run files.`),
      h("div", { class: "card" }, underWay(store, timed, first, last)),
      h("h3", null, "Runs by when they were scheduled, began and ended"), gantt(store, page, timed, { begin, end, first, last })),
  };
}

/**
 * The number of runs that were running at each time.
 * @param {Store} store
 * @param {number[]} timed
 * @param {number} first
 * @param {number} last
 */
function underWay(store, timed, first, last) {
  const { started, ended } = store.runs.columns;
  /** @type {[number, number][]} */
  const changes = [];
  for (const run of timed) {
    if (!Number.isNaN(started[run]) && !Number.isNaN(ended[run])) changes.push([started[run], 1], [ended[run], -1]);
  }
  changes.sort((a, b) => a[0] - b[0] || a[1] - b[1]);
  // One value for each pixel is enough.
  const most = new Uint32Array(RIGHT - LEFT + 1);
  const x = scale(first, last, LEFT, RIGHT);
  let running = 0, pixel = 0, peak = 1;
  for (const [at, change] of changes) {
    const to = Math.min(most.length - 1, Math.max(0, Math.round(x(at)) - LEFT));
    while (pixel < to) most[++pixel] = Math.max(most[pixel], running);
    running += change;
    most[to] = Math.max(most[to], running);
    peak = Math.max(peak, running);
  }
  const y = scale(0, peak, 170, 24);
  const points = Array.from(most, (value, at) => `L${LEFT + at},${y(value).toFixed(1)}`).join("");
  return chart("Runs under way", WIDTH, 200,
    label(LEFT, 14, "runs under way"),
    ticks(0, peak, 3).filter(Number.isInteger).flatMap((tick) => [line(LEFT, y(tick), RIGHT, y(tick), "grid-line"), label(LEFT - 8, y(tick) + 4, String(tick), "end")]),
    h("path", { d: `M${LEFT},${y(0)}${points}L${RIGHT},${y(0)}Z`, class: "area" }),
    ticks(0, last - first, 5).map((tick) => label(x(first + tick), 190, duration(tick), "middle")));
}

/**
 * @param {Store} store
 * @param {import("./main.js").Page} page
 * @param {number[]} timed
 * @param {{begin: (run: number) => number, end: (run: number) => number, first: number, last: number}} span
 */
function gantt(store, page, timed, { begin, end, first, last }) {
  const { columns } = store.runs;
  const height = Math.max(40, Math.min(900, timed.length * 6)), step = height / timed.length;
  const canvas = /** @type {HTMLCanvasElement} */ (h("canvas", { class: "gantt", role: "img", "aria-label": "Each run from its scheduling to its end. The table of runs has the same times." }));
  const tip = h("p", { class: "legend", role: "status" }, "Point at a line; a click opens the run.");
  const draw = () => {
    const width = canvas.clientWidth || WIDTH, dense = window.devicePixelRatio || 1;
    canvas.width = width * dense;
    canvas.height = height * dense;
    canvas.style.setProperty("height", `${height}px`);
    const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
    context.scale(dense, dense);
    const style = getComputedStyle(canvas), x = scale(first, last, 0, width);
    const colors = CLASSES.map((name) => style.getPropertyValue(`--${name}`)), pale = style.getPropertyValue("--edge");
    timed.forEach((run, at) => {
      const thick = Math.max(1, step - 1), begun = columns.started[run];
      context.fillStyle = pale;
      if (!Number.isNaN(begun)) context.fillRect(x(begin(run)), at * step, Math.max(1, x(begun) - x(begin(run))), thick);
      context.fillStyle = colors[columns.status[run]];
      const from = Number.isNaN(begun) ? begin(run) : begun;
      context.fillRect(x(from), at * step, Math.max(1.5, x(end(run)) - x(from)), thick);
    });
  };
  const at = (/** @type {MouseEvent} */ event) => timed[Math.floor(event.offsetY / step)];
  canvas.addEventListener("mousemove", (event) => {
    const run = at(event);
    if (run === undefined) return;
    tip.textContent = `${page.nameOf(run)}: ${store.data.states[columns.status[run]]}, ${duration(store.number("seconds", run))}, from +${duration(begin(run) - first)}`;
  });
  canvas.addEventListener("click", (event) => {
    const run = at(event);
    if (run !== undefined) page.openRun(run);
  });
  new ResizeObserver(draw).observe(canvas);
  return h("div", { class: "card" }, tip, canvas);
}
