// Score for the money.

import { chart, label, line, scale, ticks } from "./chart.js";
import { fill, h, table } from "./dom.js";
import { count, interval, many, money, score } from "./format.js";

/** @typedef {import("./store.js").Store} Store */
/** @typedef {import("./document").BoardRow & {cost_usd: number, score: number}} Priced */

const HEIGHT = 470, LEFT = 40, TOP = 20, BOTTOM = 420;

/**
 * @param {Store} store
 * @param {import("./main.js").Page} page
 */
export function cost(store, page) {
  const body = h("div");
  const draw = () => fill(body, content(store, page.room() - 26));
  draw();
  return {
    element: h("section", { "aria-labelledby": "title" }, h("h2", { id: "title" }, "Score for the money"),
      h("p", { class: "hint" }, "Each model's score, and the mean cost of a run on a logarithmic scale. Lines are 95% intervals. The stepped line joins ",
        "the models with all attempts scored of which no other one costs less and scores at least as much."), body),
    update: draw,
  };
}

/**
 * @param {Store} store
 * @param {number} width
 */
function content(store, width) {
  const { board, models } = store.data;
  const priced = /** @type {Priced[]} */ (board.rows.filter((row) => row.cost_usd !== null && row.cost_usd > 0 && row.score !== null));
  const free = board.rows.filter((row) => row.cost_usd === 0).map((row) => models[row.model]);
  const unknown = board.rows.filter((row) => row.cost_usd === null).map((row) => models[row.model]);
  return [
    priced.length ? h("div", { class: "card" }, plot(store, priced, width), h("p", { class: "legend" }, "◆ on the front   ○ the others   ◌ not ranked"))
      : h("p", null, "There is no model of which all runs report what they cost."),
    named("Free of charge, and not on the logarithmic scale", free), named("Not all runs report their cost", unknown),
    priced.length > 0 && h("details", { class: "card" }, h("summary", null, "As a table"), table("Cost and score", ["Model", "Cost a run#", "Score#", "95% interval", "Front"],
      [...priced].sort((a, b) => a.cost_usd - b.cost_usd), (row) => [models[row.model], money(row.cost_usd), score(row.score), interval(row.low, row.high), row.efficient ? "◆" : ""])),
  ];
}

/**
 * @param {string} what
 * @param {string[]} names
 */
function named(what, names) {
  if (!names.length) return null;
  return names.length <= 8 ? h("p", { class: "note" }, `${what}: ${names.join(", ")}.`)
    : h("details", { class: "note" }, h("summary", null, `${what}: ${many(names.length, "model")}.`), h("p", null, `${names.join(", ")}.`));
}

/**
 * @param {Store} store
 * @param {Priced[]} rows
 * @param {number} width
 */
function plot(store, rows, width) {
  const right = width - 10, logs = rows.map((row) => Math.log10(row.cost_usd));
  const least = logs.reduce((a, b) => Math.min(a, b)) - 0.15, most = logs.reduce((a, b) => Math.max(a, b)) + 0.25;
  const x = scale(least, most, LEFT, right), y = scale(0, 1, BOTTOM, TOP);
  const front = rows.filter((row) => row.efficient).sort((a, b) => a.cost_usd - b.cost_usd);
  const path = front.map((row, at) => {
    const px = x(Math.log10(row.cost_usd)), py = y(row.score);
    return at ? `H${px} V${py}` : `M${px},${py}`;
  }).join(" ");
  // Models on the front are named first, as long as there is room.
  const order = [...rows.keys()].sort((a, b) => Number(rows[b].efficient) - Number(rows[a].efficient));
  const places = labels(order.map((at) => ({ x: x(logs[at]), y: y(rows[at].score), text: store.data.models[rows[at].model] })), right);
  const unnamed = places.filter((place) => !place).length;
  return [chart("Score by cost of a run", width, HEIGHT,
    ticks(0, 1, 5).flatMap((tick) => [line(LEFT, y(tick), right, y(tick), "grid-line"), label(LEFT - 8, y(tick) + 4, tick.toFixed(1), "end")]),
    steps(least, most, width).flatMap((usd) => [line(x(Math.log10(usd)), TOP, x(Math.log10(usd)), BOTTOM, "grid-line"), label(x(Math.log10(usd)), BOTTOM + 18, money(usd), "middle")]),
    label((LEFT + right) / 2, BOTTOM + 42, "cost of a run", "middle"), label(LEFT, 12, "score"),
    front.length > 0 && h("path", { d: `${path} H${right}`, class: "front" }),
    rows.map((row, at) => row.low !== null && row.high !== null && line(x(logs[at]), y(row.low), x(logs[at]), y(row.high), "interval")),
    order.flatMap((at, number) => {
      const row = rows[at], px = x(logs[at]), py = y(row.score), place = places[number], name = store.data.models[row.model];
      return [
        h("g", null, h("title", null, `${name}: ${score(row.score)} for ${money(row.cost_usd)}`),
          row.efficient ? h("path", { d: `M${px},${py - 7} L${px + 7},${py} L${px},${py + 7} L${px - 7},${py} Z`, class: "first" })
            : h("circle", { cx: px, cy: py, r: 5, class: row.rank_low === null ? "ring unranked" : "ring" })),
        place && label(place.x, place.y, name, place.anchor, "label name"),
      ];
    })), unnamed > 0 && h("p", { class: "note" }, `There is no room for ${count(unnamed)} of the names; the table has them.`)];
}

/**
 * Return round costs: each power of ten, and three times it if there is room.
 * @param {number} least
 * @param {number} most
 * @param {number} width
 */
function steps(least, most, width) {
  const powers = Array.from({ length: Math.floor(most) - Math.floor(least) + 1 }, (_, at) => Math.floor(least) + at);
  const factors = width / (most - least) > 300 ? [1, 3] : [1];
  return powers.flatMap((power) => factors.map((factor) => factor * 10 ** power)).filter((usd) => Math.log10(usd) >= least && Math.log10(usd) <= most);
}

/**
 * Place names beside their points where they meet no other; null where there is no room.
 * @param {{x: number, y: number, text: string}[]} points
 * @param {number} right
 */
function labels(points, right) {
  /** @type {[number, number, number, number][]} */
  const taken = points.map(({ x, y }) => [x - 7, y - 7, x + 7, y + 7]);
  return points.map(({ x, y, text }) => {
    const width = text.length * 6.8;
    for (const [dx, dy, anchor] of /** @type {[number, number, string][]} */ ([[10, 4, "start"], [-10, 4, "end"], [10, 16, "start"], [10, -8, "start"], [-10, 16, "end"], [-10, -8, "end"]])) {
      const left = anchor === "start" ? x + dx : x + dx - width;
      const box = /** @type {[number, number, number, number]} */ ([left, y + dy - 10, left + width, y + dy + 3]);
      if (left < LEFT || left + width > right) continue;
      if (taken.some((other) => box[0] < other[2] && other[0] < box[2] && box[1] < other[3] && other[1] < box[3])) continue;
      taken.push(box);
      return { x: x + dx, y: y + dy, anchor };
    }
    return null;
  });
}
