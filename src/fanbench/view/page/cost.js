// Score for the money.

import { chart, label, line, scale, ticks } from "./chart.js";
import { h, table } from "./dom.js";
import { interval, money, score } from "./format.js";

/** @typedef {import("./store.js").Store} Store */
/** @typedef {import("./document").BoardRow & {cost_usd: number, score: number}} Priced */

const WIDTH = 1000, HEIGHT = 470, LEFT = 50, RIGHT = 980, TOP = 20, BOTTOM = 420;

/** @param {Store} store */
export function cost(store) {
  const { board, models } = store.data;
  const priced = /** @type {Priced[]} */ (board.rows.filter((row) => row.cost_usd !== null && row.cost_usd > 0 && row.score !== null));
  const free = board.rows.filter((row) => row.cost_usd === 0).map((row) => models[row.model]);
  const unknown = board.rows.filter((row) => row.cost_usd === null).map((row) => models[row.model]);
  return {
    element: h("section", { "aria-labelledby": "title" }, h("h2", { id: "title" }, "Score for the money"),
      h("p", { class: "hint" }, "Each model's score, and the mean cost of a run on a logarithmic scale. Lines are 95 % intervals. The stepped line joins ",
        "the models with all attempts scored of which no other one costs less and scores at least as much."),
      priced.length ? h("div", { class: "card" }, plot(store, priced), h("p", { class: "legend" }, "◆ on the front   ○ the others   ◌ not ranked")) : h("p", null, "No run reports its cost."),
      free.length > 0 && h("p", { class: "note" }, `Free of charge, and not on the logarithmic scale: ${free.join(", ")}.`),
      unknown.length > 0 && h("p", { class: "note" }, `Not all runs report their cost: ${unknown.join(", ")}.`),
      priced.length > 0 && h("details", null, h("summary", null, "As a table"), table("Cost and score", ["Model", "Cost a run#", "Score#", "95 % interval", "Front"],
        [...priced].sort((a, b) => a.cost_usd - b.cost_usd).map((row) => [models[row.model], money(row.cost_usd), score(row.score), interval(row.low, row.high), row.efficient ? "◆" : ""])))),
  };
}

/**
 * @param {Store} store
 * @param {Priced[]} rows
 */
function plot(store, rows) {
  const logs = rows.map((row) => Math.log10(row.cost_usd));
  const least = logs.reduce((a, b) => Math.min(a, b)) - 0.15, most = logs.reduce((a, b) => Math.max(a, b)) + 0.25;
  const x = scale(least, most, LEFT, RIGHT), y = scale(0, 1, BOTTOM, TOP);
  const steps = [1, 3].flatMap((factor) => Array.from({ length: 16 }, (_, power) => factor * 10 ** (power - 12)))
    .filter((usd) => Math.log10(usd) >= least && Math.log10(usd) <= most).sort((a, b) => a - b);
  const front = rows.filter((row) => row.efficient).sort((a, b) => a.cost_usd - b.cost_usd);
  const path = front.map((row, at) => {
    const px = x(Math.log10(row.cost_usd)), py = y(row.score);
    return at ? `H${px} V${py}` : `M${px},${py}`;
  }).join(" ");
  const places = labels(rows.map((row, at) => ({ x: x(logs[at]), y: y(row.score), text: store.data.models[row.model] })));
  return chart("Score by cost of a run", WIDTH, HEIGHT,
    ticks(0, 1, 5).flatMap((tick) => [line(LEFT, y(tick), RIGHT, y(tick), "grid-line"), label(LEFT - 8, y(tick) + 4, tick.toFixed(1), "end")]),
    steps.flatMap((usd) => [line(x(Math.log10(usd)), TOP, x(Math.log10(usd)), BOTTOM, "grid-line"), label(x(Math.log10(usd)), BOTTOM + 18, `$${usd}`, "middle")]),
    label((LEFT + RIGHT) / 2, BOTTOM + 42, "cost of a run", "middle"),
    front.length > 0 && h("path", { d: `${path} H${RIGHT}`, class: "front" }),
    rows.flatMap((row, at) => {
      const px = x(logs[at]), py = y(row.score);
      return [
        row.low !== null && row.high !== null && line(px, y(row.low), px, y(row.high), "interval"),
        row.efficient ? h("path", { d: `M${px},${py - 7} L${px + 7},${py} L${px},${py + 7} L${px - 7},${py} Z`, class: "first" })
          : h("circle", { cx: px, cy: py, r: 5, class: row.rank_low === null ? "ring unranked" : "ring" }),
        places[at] && label(places[at].x, places[at].y, store.data.models[row.model], places[at].anchor),
      ];
    }));
}

/**
 * Place names beside their points where they meet no other; null where there is no room.
 * @param {{x: number, y: number, text: string}[]} points
 */
function labels(points) {
  /** @type {[number, number, number, number][]} */
  const taken = points.map(({ x, y }) => [x - 7, y - 7, x + 7, y + 7]);
  return points.map(({ x, y, text }) => {
    const width = text.length * 6.6;
    for (const [dx, dy, anchor] of /** @type {[number, number, string][]} */ ([[10, 4, "start"], [-10, 4, "end"], [10, 16, "start"], [10, -8, "start"], [-10, 16, "end"], [-10, -8, "end"]])) {
      const left = anchor === "start" ? x + dx : x + dx - width;
      const box = /** @type {[number, number, number, number]} */ ([left, y + dy - 10, left + width, y + dy + 3]);
      if (left < LEFT || left + width > WIDTH) continue;
      if (taken.some((other) => box[0] < other[2] && other[0] < box[2] && box[1] < other[3] && other[1] < box[3])) continue;
      taken.push(box);
      return { x: x + dx, y: y + dy, anchor };
    }
    return null;
  });
}
