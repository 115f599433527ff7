// Each planned run in a row, with all its attempts. Only the rows and the times that can be seen are drawn.

import { fill, h, place, visible } from "./dom.js";
import { count, duration, many } from "./format.js";
import { CLASSES } from "./states.js";

/** @typedef {import("./span.js").Span} Span */

const ROW = 16, AXIS = 24, MOST_ZOOM = 256;

export class Gantt {
  /**
   * @param {import("./store.js").Store} store
   * @param {import("./main.js").Page} page
   */
  constructor(store, page) {
    this.store = store;
    this.page = page;
    /** The first attempts of the planned runs in their order. @type {Uint32Array} */
    this.rows = new Uint32Array();
    this.row = -1;
    this.zoom = 1;
    /** @type {Span | null} */
    this.span = null;
    this.pending = false;
    this.canvas = h("canvas", { "aria-hidden": "true" });
    this.inner = h("div", null, this.canvas);
    this.tip = h("p", { class: "reading", role: "status" }, "Point at a run, or choose one with the arrows; a click or Enter opens it.");
    this.scroller = h("div", {
      class: "gantt", tabindex: 0, role: "group", "aria-label": "Each run from its scheduling to its end. Arrows choose a run, Enter opens it, + and − zoom. The table of runs has the same times.",
      onscroll: () => this.#later(), onkeydown: (/** @type {KeyboardEvent} */ event) => this.#key(event),
      onpointermove: (/** @type {PointerEvent} */ event) => this.#choose(this.#rowAt(event)),
      onclick: (/** @type {MouseEvent} */ event) => this.#open(this.#rowAt(event), event),
    }, this.inner);
    this.zooms = h("span", { class: "note" });
    this.element = h("div", { class: "card" },
      h("div", { class: "tools" }, h("button", { type: "button", "aria-label": "Zoom out", onclick: () => this.#zoom(0.5) }, "−"),
        h("button", { type: "button", "aria-label": "Zoom in", onclick: () => this.#zoom(2) }, "+"), this.zooms),
      this.scroller, this.tip,
      h("p", { class: "legend" }, "Pale: scheduled or queued. Thin: an attempt that was made again."));
    this.observer = new ResizeObserver(() => this.#resize());
    this.observer.observe(this.scroller);
  }

  /** @param {Span} span */
  show(span) {
    this.span = span;
    this.rows = span.order;
    this.#resize();
  }

  close() {
    this.observer.disconnect();
  }

  /** @param {number} row */
  #attempts(row) {
    const { rows, columns: { task, model, repeat } } = this.store.runs, first = this.rows[row];
    let last = first + 1;
    while (last < rows && task[last] === task[first] && model[last] === model[first] && repeat[last] === repeat[first]) last += 1;
    return Array.from({ length: last - first }, (_, at) => first + at);
  }

  #names() {
    return this.scroller.clientWidth < 700 ? 0 : 240;
  }

  #resize() {
    const { scroller, inner, rows, zoom } = this;
    place(scroller, { height: Math.min(560, rows.length * ROW + AXIS + 18) });
    const names = this.#names();
    place(inner, { width: names + (scroller.clientWidth - names) * zoom, height: rows.length * ROW + AXIS });
    fill(this.zooms, `${many(rows.length, "planned run")}${zoom > 1 ? `, ${count(zoom)} times as long` : ""}`);
    this.#draw();
  }

  /** @param {number} factor */
  #zoom(factor) {
    const { scroller } = this, names = this.#names(), shown = scroller.clientWidth - names;
    const middle = (scroller.scrollLeft + shown / 2) / (shown * this.zoom);
    this.zoom = Math.max(1, Math.min(MOST_ZOOM, this.zoom * factor));
    this.#resize();
    scroller.scrollLeft = middle * shown * this.zoom - shown / 2;
  }

  #later() {
    if (this.pending) return;
    this.pending = true;
    requestAnimationFrame(() => {
      this.pending = false;
      this.#draw();
    });
  }

  #draw() {
    const { canvas, scroller, span, rows, zoom } = this, context = canvas.getContext("2d");
    const width = scroller.clientWidth, height = scroller.clientHeight, dense = devicePixelRatio || 1, names = this.#names();
    if (!context || !span || !width) return;
    canvas.width = width * dense;
    canvas.height = height * dense;
    place(canvas, { width, height });
    context.scale(dense, dense);
    const style = getComputedStyle(scroller), color = (/** @type {string} */ name) => style.getPropertyValue(`--${name}`);
    const colors = CLASSES.map(color), pale = color("edge"), ink = color("ink"), shown = width - names;
    const pixel = span.length / (shown * zoom), left = scroller.scrollLeft * pixel;
    const x = (/** @type {number} */ epoch) => names + (span.at(epoch) - left) / pixel;
    context.font = "11px system-ui, sans-serif";
    context.textBaseline = "middle";
    context.save();
    context.beginPath();
    context.rect(names, 0, shown, height);
    context.clip();
    context.fillStyle = pale;
    const ticks = span.ticks(left, left + shown * pixel, Math.max(2, shown / 130));
    for (const tick of ticks) context.fillRect(names + (tick - left) / pixel, AXIS - 4, 1, height);
    const first = Math.max(0, Math.floor(scroller.scrollTop / ROW)), last = Math.min(rows.length, Math.ceil((scroller.scrollTop + height) / ROW));
    const { status, started, superseded } = this.store.runs.columns;
    for (let row = first; row < last; row += 1) {
      const top = AXIS + row * ROW - scroller.scrollTop;
      for (const run of this.#attempts(row)) {
        if (Number.isNaN(span.begins[run])) continue;
        const begin = x(span.begins[run]), end = x(span.ends[run]), work = Number.isNaN(started[run]) ? end : Math.max(begin, Math.min(end, x(started[run])));
        context.fillStyle = colors[status[run]];
        context.globalAlpha = 0.35;
        context.fillRect(begin, top + 4, work - begin, ROW - 8);
        context.globalAlpha = 1;
        const thin = superseded[run] ? 3 : 0;
        context.fillRect(work, top + 2 + thin, Math.max(2, end - work), ROW - 4 - 2 * thin);
      }
    }
    context.fillStyle = color("card");
    context.fillRect(names, 0, shown, AXIS - 4);
    context.fillStyle = ink;
    for (const tick of ticks) {
      const begin = names + (tick - left) / pixel;
      if (begin < width - 60) context.fillText(tick ? duration(tick) : "0", begin + 3, 10);
    }
    context.restore();
    for (let row = first; row < last; row += 1) {
      const top = AXIS + row * ROW - scroller.scrollTop;
      if (top < AXIS - ROW / 2) continue;
      if (names) {
        context.fillStyle = ink;
        context.fillText(fitting(context, this.#name(row), names - 10), 2, top + ROW / 2);
      }
      if (row === this.row) {
        context.strokeStyle = color("accent");
        context.strokeRect(0.5, top + 0.5, width - 1, ROW - 1);
      }
    }
  }

  /** @param {number} row */
  #name(row) {
    return visible(this.page.nameOf(this.rows[row]));
  }

  /** @param {MouseEvent} event */
  #rowAt(event) {
    const y = event.clientY - this.scroller.getBoundingClientRect().top;
    return y < AXIS ? -1 : Math.floor((y - AXIS + this.scroller.scrollTop) / ROW);
  }

  /** @param {number} row */
  #choose(row) {
    if (row === this.row || row < 0 || row >= this.rows.length || !this.span) return;
    this.row = row;
    const { span } = this, { columns } = this.store.runs;
    fill(this.tip, `${this.#name(row)}: `, this.#attempts(row).filter((run) => !Number.isNaN(span.begins[run])).map((run) => {
      const state = this.store.data.states[columns.status[run]], started = columns.started[run], begin = span.begins[run];
      const waited = Number.isNaN(started) ? "" : `waited ${duration(Math.max(0, started - begin))}, `;
      const took = Number.isNaN(started) ? "not started" : `ran ${duration(span.ends[run] - started)}`;
      return `${state}${columns.superseded[run] ? " and made again" : ""}, at +${duration(begin - span.first)}, ${waited}${took}`;
    }).join("; then "));
    this.#later();
  }

  /**
   * Open the attempt at the pointer, or else the last one.
   * @param {number} row
   * @param {MouseEvent} [event]
   */
  #open(row, event) {
    const { span, scroller, zoom } = this;
    if (row < 0 || row >= this.rows.length || !span) return;
    const attempts = this.#attempts(row), names = this.#names();
    const place = event ? ((event.clientX - scroller.getBoundingClientRect().left - names + scroller.scrollLeft) / ((scroller.clientWidth - names) * zoom)) * span.length : NaN;
    const epoch = span.when(place);
    this.page.openRun(attempts.find((run) => span.begins[run] <= epoch && epoch <= span.ends[run]) ?? attempts[attempts.length - 1]);
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const { scroller } = this, page = Math.max(1, Math.floor(scroller.clientHeight / ROW) - 2);
    const moves = /** @type {Record<string, number>} */ ({ ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity });
    if (moves[event.key]) {
      const row = Math.max(0, Math.min(this.rows.length - 1, this.row + moves[event.key])), top = row * ROW;
      if (top < scroller.scrollTop) scroller.scrollTop = top;
      else if (top + AXIS + 2 * ROW > scroller.scrollTop + scroller.clientHeight) scroller.scrollTop = top + AXIS + 2 * ROW - scroller.clientHeight;
      this.#choose(row);
    } else if (event.key === "Enter") this.#open(this.row);
    else if (event.key === "+" || event.key === "-") this.#zoom(event.key === "+" ? 2 : 0.5);
    else return;
    event.preventDefault();
  }
}

/**
 * Return as much of a text as there is room for.
 * @param {CanvasRenderingContext2D} context
 * @param {string} text
 * @param {number} width
 */
function fitting(context, text, width) {
  const wide = context.measureText(text).width;
  return wide <= width ? text : `${text.slice(0, Math.floor((text.length * width) / wide) - 1)}…`;
}
