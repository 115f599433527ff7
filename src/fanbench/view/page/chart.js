// Axes and marks of the charts, as SVG.

import { h } from "./dom.js";

/**
 * Return a function from values to pixels.
 * @param {number} low
 * @param {number} high
 * @param {number} start
 * @param {number} end
 */
export function scale(low, high, start, end) {
  const width = high - low || 1;
  return (/** @type {number} */ value) => start + ((value - low) / width) * (end - start);
}

/**
 * Return about `number` round values between two.
 * @param {number} low
 * @param {number} high
 * @param {number} number
 */
export function ticks(low, high, number) {
  const raw = (high - low) / number || 1;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((each) => each >= raw) ?? raw;
  const found = [];
  for (let value = Math.ceil(low / step) * step; value <= high + step / 1e6; value += step) found.push(Number(value.toPrecision(12)));
  return found;
}

/**
 * Return a chart that scales with its place.
 * @param {string} label
 * @param {number} width
 * @param {number} height
 * @param {...(import("./dom.js").Child | import("./dom.js").Child[])} children
 */
export function chart(label, width, height, ...children) {
  return h("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label, class: width < 600 ? "chart small" : "chart" }, ...children);
}

/**
 * @param {number} x1
 * @param {number} y1
 * @param {number} x2
 * @param {number} y2
 * @param {string} kind
 */
export function line(x1, y1, x2, y2, kind) {
  return h("line", { x1, y1, x2, y2, class: kind });
}

/**
 * @param {number} x
 * @param {number} y
 * @param {string} text
 * @param {string} [anchor]
 * @param {string} [kind]
 */
export function label(x, y, text, anchor = "start", kind = "label") {
  return h("text", { x, y, "text-anchor": anchor, class: kind }, text);
}

/**
 * Return a small picture of a score from 0 to 1 with its interval, and the bounds if errors were wrong or right.
 * @param {{score: number | null, low: number | null, high: number | null, bound_low: number | null,
 *   bound_high: number | null}} row
 */
export function intervalBar(row) {
  const width = 160, at = scale(0, 1, 6, width - 6);
  const range = (/** @type {number | null} */ low, /** @type {number | null} */ high, /** @type {string} */ kind) =>
    low !== null && high !== null && line(at(low), 9, at(high), 9, kind);
  return h("svg", { viewBox: `0 0 ${width} 18`, class: "bar", "aria-hidden": "true" },
    line(at(0), 9, at(1), 9, "axis"),
    range(row.bound_low, row.bound_high, "bounds"),
    range(row.low, row.high, "interval"),
    row.score !== null && h("circle", { cx: at(row.score), cy: 9, r: 4, class: "dot" }));
}
