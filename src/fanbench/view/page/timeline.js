// How the sweep went: the runs under way, the limit of calls and what lowered it, and each run from its scheduling on.

import { chart, label, line, scale, ticks } from "./chart.js";
import { fill, h, table } from "./dom.js";
import { count, duration, many, money, NONE, time } from "./format.js";
import { Gantt } from "./gantt.js";
import { Span } from "./span.js";

/** @typedef {import("./store.js").Store} Store */
/** @typedef {import("./document").Timeline} Timeline */

const WIDTH = 1000, LEFT = 50, RIGHT = 985, PIXELS = RIGHT - LEFT;
const RUNS = 160, CALLS = 80, MONEY = 60, GAP = 26, STRIP = 14;
/** @type {Timeline} */
const NOTHING = { invocations: [], limits: [], budget: [], marks: [] };
/** @type {Record<string, [string, string]>} */
const MARKS = {
  draining: ["▐", "nothing more is scheduled"], skipped: ["|", "not taken by the server"], retry: ["↻", "errored, and scheduled again"],
  missing: ["?", "given up"], task_failed: ["✗", "a task that cannot run"],
};

/**
 * @param {Store} store
 * @param {import("./main.js").Page} page
 */
export function timeline(store, page) {
  const element = h("section", { "aria-labelledby": "title" });
  const title = h("h2", { id: "title" }, "Timeline");
  // A file does not change, so that it is looked through once.
  const kept = page.remember("timeline", { span: /** @type {Span | null} */ (null) });
  const spanNow = () => {
    if (store.data.live || !kept.span) kept.span = new Span(store);
    return kept.span;
  };
  const gantt = new Gantt(store, page);
  const panels = new Panels(store, spanNow());
  const update = () => {
    const span = spanNow();
    if (!span.known) return fill(element, title, h("p", null, "No run has a time."));
    panels.show(span);
    gantt.show(span);
    if (!gantt.element.isConnected) fill(element, title, panels.element, h("h3", null, "Each run"), gantt.element);
    return undefined;
  };
  update();
  return { element, update, close: () => gantt.close() };
}

class Panels {
  /**
   * @param {Store} store
   * @param {Span} span
   */
  constructor(store, span) {
    this.store = store;
    this.span = span;
    this.events = NOTHING;
    /** How many runs were running, and how many were under way, at each pixel. */
    this.running = new Uint32Array(PIXELS);
    this.all = new Uint32Array(PIXELS);
    this.cursor = line(LEFT, 20, LEFT, 20, "cursor");
    this.hint = h("p", { class: "hint" });
    this.drawing = h("div", { class: "panels", tabindex: 0, role: "group", "aria-label": "How the sweep went", onpointermove: (/** @type {PointerEvent} */ event) => this.#point(event) });
    this.slider = h("input", { type: "range", class: "slider", "aria-label": "Time", oninput: () => this.#read() });
    Object.assign(this.slider, { min: "0", max: String(PIXELS - 1), step: "1", value: "0" });
    this.reading = h("p", { class: "reading" });
    this.legend = h("p", { class: "legend" });
    this.rows = h("div");
    this.twin = h("details", { ontoggle: () => this.#table() }, h("summary", null, "As a table"), this.rows);
    this.element = h("div", null, this.hint, h("div", { class: "card" }, this.drawing, this.slider, this.reading, this.legend), this.twin);
  }

  /** @param {Span} span */
  show(span) {
    this.span = span;
    this.events = this.store.data.timeline ?? NOTHING;
    this.running = span.levels(PIXELS, true);
    this.all = span.levels(PIXELS, false);
    const { invocations } = this.events, calls = invocations.reduce((sum, one) => sum + one.calls, 0);
    fill(this.hint, `From ${time(span.first)}, for ${duration(span.length)}`,
      span.breaks.length > 0 && `, without ${many(span.breaks.length, "break")}`,
      invocations.length > 0 ? `: ${many(invocations.length, "invocation")}, ${many(calls, "call")}. ` : ". ",
      invocations.length ? "Runs have the times of their files or of the server." : "This sweep has no history, only its runs.");
    fill(this.drawing, this.#draw());
    fill(this.legend, ...this.#signs());
    this.#read();
    this.#table();
  }

  #draw() {
    const { span, running, all, events } = this;
    const x = scale(0, span.length, LEFT, RIGHT), at = (/** @type {number} */ epoch) => x(span.at(epoch));
    let top = 20;
    const peak = all.reduce((a, b) => Math.max(a, b), 1);
    const parts = [panel("runs under way", top, RUNS, peak, (y) => [
      h("path", { d: area(all, y), class: "area waiting" }), h("path", { d: area(running, y), class: "area" }),
    ])];
    top += RUNS;
    if (events.limits.length) {
      const most = events.limits.reduce((a, step) => Math.max(a, step.limit), 1), base = top + GAP;
      parts.push(panel("limit of calls at a time", base, CALLS, most, (y) => [
        h("path", { d: this.#steps(events.limits.map((step) => [step.at, step.limit]), at, y), class: "step" }),
        h("path", { d: events.limits.filter((step) => step.reason).map((step) => triangle(at(step.at), y(step.limit))).join(""), class: "fall" }),
      ]));
      top = base + CALLS;
    }
    if (events.budget.length) {
      const most = events.budget.reduce((a, one) => Math.max(a, (one.spent ?? 0) + (one.reserved ?? 0)), 0.0001), base = top + GAP;
      const spent = (/** @type {number} */ share) => this.#steps(events.budget.map((one) => [one.at, (one.spent ?? 0) + share * (one.reserved ?? 0)]), at, y);
      const y = scale(0, most, base + MONEY, base);
      parts.push(panel("US dollars spent, and with what runs under way may cost", base, MONEY, most, () => [
        h("path", { d: spent(1), class: "step pale" }), h("path", { d: spent(0), class: "step" })]));
      top = base + MONEY;
    }
    const band = (/** @type {number} */ from, /** @type {number} */ to) => `M${from.toFixed(1)},20H${Math.max(from + 1, to).toFixed(1)}V${top}H${from.toFixed(1)}Z`;
    const bands = [
      h("path", { d: events.limits.filter((step) => step.pause > 0).map((step) => band(at(step.at), at(step.at + step.pause))).join(""), class: "pause" }),
      h("path", { d: span.breaks.map((gap) => band(x(gap.at), x(gap.at + gap.width))).join(""), class: "break" }),
      ...events.invocations.slice(1).map((one) => line(at(one.began), 20, at(one.began), top, "resumed")),
    ];
    // Each kind of sign has a row. Of signs of a kind that would cover each other, one is drawn.
    const kinds = [...new Set(events.marks.map((mark) => mark.kind))];
    const signs = new Map(events.marks.map((mark) => [`${mark.kind} ${Math.round(at(mark.at) / 14)}`, mark]));
    const strip = [...signs.values()].map((mark) => label(at(mark.at), top + 12 + STRIP * kinds.indexOf(mark.kind), MARKS[mark.kind]?.[0] ?? "·", "middle", `label mark ${mark.kind}`));
    const foot = top + 16 + STRIP * kinds.length;
    this.cursor = line(LEFT, 20, LEFT, top, "cursor");
    return chart("Runs under way, the limit of calls, and what lowered it. The slider below reads it; the table has all numbers.", WIDTH, foot + 6,
      bands, parts.flat(), strip, span.ticks(0, span.length, 6).map((tick) => label(x(tick), foot, tick ? duration(tick) : "0", "middle")), this.cursor);
  }

  /**
   * A line of steps, which ends where an invocation does.
   * @param {[number, number][]} points
   * @param {(epoch: number) => number} at
   * @param {(value: number) => number} y
   */
  #steps(points, at, y) {
    const { invocations } = this.events;
    let path = "", ends = -Infinity;
    for (const [epoch, value] of points) {
      const px = at(epoch).toFixed(1), py = y(value).toFixed(1);
      if (epoch > ends) {
        if (path) path += `H${at(ends).toFixed(1)}`;
        ends = invocations.findLast((one) => one.began <= epoch)?.last ?? Infinity;
        path += `M${px},${py}`;
      } else path += `H${px}V${py}`;
    }
    return `${path}H${Number.isFinite(ends) ? at(ends).toFixed(1) : RIGHT}`;
  }

  #signs() {
    const { limits, marks } = this.events;
    const kinds = Object.entries(MARKS).filter(([kind]) => marks.some((mark) => mark.kind === kind));
    return [h("span", { class: "running" }, "■ running"), h("span", { class: "queued" }, "■ scheduled or queued"),
      limits.length > 0 && h("span", { class: "first" }, "━ limit of calls"), limits.some((step) => step.reason) && h("span", { class: "errored" }, "▼ 429, 503 or no answer"),
      limits.some((step) => step.pause) && h("span", { class: "errored" }, "▒ pause of all calls"),
      ...kinds.map(([, [sign, what]]) => h("span", null, `${sign} ${what}`))];
  }

  /** @param {PointerEvent} event */
  #point(event) {
    const box = this.drawing.firstElementChild?.getBoundingClientRect();
    if (!box) return;
    this.slider.value = String(Math.round(((event.clientX - box.left) / box.width) * WIDTH - LEFT));
    this.#read();
  }

  /** Say what was at the time of the slider. */
  #read() {
    const { span, running, all, events, cursor } = this;
    const pixel = Number(this.slider.value), from = span.when((pixel / PIXELS) * span.length), to = span.when(((pixel + 1) / PIXELS) * span.length);
    const limit = events.limits.findLast((step) => step.at <= to), budget = events.budget.findLast((one) => one.at <= to);
    const near = (/** @type {{at: number}} */ one) => one.at >= from - (to - from) && one.at < to + (to - from);
    const said = [`${time(from)}, +${duration(from - span.first)}`, `${count(running[pixel])} running, ${count(all[pixel] - running[pixel])} waiting`,
      limit && `limit of calls ${limit.limit}`, budget && `${money(budget.spent)} of ${money(budget.cap)} spent`,
      ...events.limits.filter((step) => step.reason && near(step)).map((step) => `▼ ${step.reason}${paused(step)}`),
      ...events.marks.filter(near).map(sentence)].filter(Boolean).join(" · ");
    fill(this.reading, said);
    this.slider.setAttribute("aria-valuetext", said);
    for (const name of ["x1", "x2"]) cursor.setAttribute(name, String(LEFT + pixel + 0.5));
  }

  #table() {
    if (!this.twin.open) return;
    const { span, events, running, all } = this;
    const after = (/** @type {number} */ epoch) => `+${duration(Math.max(0, epoch - span.first))}`;
    // As numbers, at so many times as people read.
    const pixels = Array.from({ length: 20 }, (_, at) => Math.floor((at * PIXELS) / 20));
    fill(this.rows,
      table("Runs under way", ["Time", "Running#", "Waiting#"], pixels, (pixel) => [after(span.when((pixel / PIXELS) * span.length)), count(running[pixel]), count(all[pixel] - running[pixel])]),
      events.invocations.length > 0 && table("What happened", ["Time", "What", "Why", "Number#"], happened(events), ([at, ...rest]) => [after(at), ...rest.map((text) => text || NONE)]));
  }
}

/**
 * All that happened, in order: when, what, why, and a number.
 * @param {Timeline} events
 * @returns {[number, string, string, string][]}
 */
function happened({ invocations, limits, budget, marks }) {
  /** @type {[number, string, string, string][]} */
  const rows = [];
  for (const one of invocations) {
    rows.push([one.began, "the sweep begins", `${count(one.done)} of ${many(one.planned, "run")} done before`, ""],
      [one.ended ?? one.last, one.ended === null ? "last sign of life" : "the sweep ends", `${many(one.calls, "call")}${one.stopped && `; ${one.stopped}`}`, ""]);
  }
  for (const step of limits) rows.push([step.at, "limit of calls", step.reason + paused(step), String(step.limit)]);
  for (const one of budget) rows.push([one.at, "budget", `${money(one.reserved)} reserved, of ${money(one.cap)}`, money(one.spent)]);
  for (const mark of marks) rows.push([mark.at, MARKS[mark.kind]?.[1] ?? mark.kind, [mark.what, mark.text].filter(Boolean).join(": "), mark.count > 1 ? count(mark.count) : ""]);
  return rows.sort((a, b) => a[0] - b[0]);
}

/** @param {import("./document").LimitEntry} step */
function paused(step) {
  return step.pause ? `, pause of ${duration(step.pause)}` : "";
}

/** @param {import("./document").MarkEntry} mark */
function sentence(mark) {
  const [sign, what] = MARKS[mark.kind] ?? ["·", mark.kind];
  return `${sign} ${mark.count > 1 ? `${count(mark.count)} times ` : ""}${what}: ${[mark.what, mark.text].filter(Boolean).join(": ")}`;
}

/**
 * One of several charts above each other, with its axis.
 * @param {string} title
 * @param {number} top
 * @param {number} height
 * @param {number} most
 * @param {(y: (value: number) => number) => Node[]} marks
 */
function panel(title, top, height, most, marks) {
  const y = scale(0, most, top + height, top);
  return [label(LEFT, top - 6, title),
    ...ticks(0, most, 3).filter((tick) => most < 1 || Number.isInteger(tick)).flatMap((tick) => [line(LEFT, y(tick), RIGHT, y(tick), "grid-line"), label(LEFT - 8, y(tick) + 4, String(tick), "end")]),
    ...marks(y)];
}

/**
 * @param {Uint32Array} levels
 * @param {(value: number) => number} y
 */
function area(levels, y) {
  let path = `M${LEFT},${y(0)}`;
  levels.forEach((level, at) => { if (level !== levels[at - 1]) path += `H${LEFT + at}V${y(level).toFixed(1)}`; });
  return `${path}H${RIGHT}V${y(0)}Z`;
}

/**
 * @param {number} x
 * @param {number} y
 */
function triangle(x, y) {
  return `M${x.toFixed(1)},${(y - 1).toFixed(1)}l-5,-8h10z`;
}
