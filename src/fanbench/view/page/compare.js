// Two models on the items that both have.

import { chart, label, line, scale, ticks } from "./chart.js";
import { fill, h, table } from "./dom.js";
import { count, known, many, NONE, probability, score, signed } from "./format.js";

/** While runs are going on, the comparison is drawn again after this time, in milliseconds. */
const PAUSE = 2000;

/** @typedef {import("./store.js").Store} Store */
/** @typedef {import("./document").ComparisonEntry} ComparisonEntry */

/**
 * @param {Store} store
 * @param {import("./main.js").Page} page
 * @param {string[]} words the names of two models
 */
export function compare(store, page, words) {
  const { models } = store.data;
  if (models.length < 2) {
    return { element: h("section", { "aria-labelledby": "title" }, h("h2", { id: "title" }, "Compare"), h("p", null, "There is only one model.")) };
  }
  const best = store.data.board.rows.map((row) => row.model);
  const named = words.map((word) => models.indexOf(word));
  const sides = [named[0] >= 0 ? named[0] : best[0], named[1] >= 0 ? named[1] : best[1]];
  const go = () => page.go("compare", models[sides[0]], models[sides[1]]);
  const pick = (/** @type {number} */ side) => {
    const select = h("select", { "aria-label": side ? "Second model" : "First model", onchange: () => { sides[side] = select.selectedIndex; go(); } },
      models.map((model, at) => h("option", { selected: at === sides[side] }, model)));
    return select;
  };
  const body = h("div");
  const draw = () => pairOf(store, sides[0], sides[1], page.room() - 26).then(
    (shown) => fill(body, shown),
    (error) => fill(body, h("p", { class: "note" }, `The comparison cannot be read: ${error}`)),
  );
  draw();
  let due = 0;
  return {
    element: h("section", { "aria-labelledby": "title" }, h("h2", { id: "title" }, "Compare"),
      h("div", { class: "tools" }, pick(0),
        h("button", { type: "button", title: "Swap the models", "aria-label": "Swap the models", onclick: () => { sides.reverse(); go(); } }, "⇄"), pick(1)),
      body),
    update: () => { due ||= setTimeout(() => { due = 0; draw(); }, PAUSE); },
    close: () => clearTimeout(due),
  };
}

/**
 * @param {Store} store
 * @param {number} first
 * @param {number} second
 * @param {number} width
 */
async function pairOf(store, first, second, width) {
  const { models } = store.data;
  if (first === second) return [h("p", null, "Choose two models.")];
  // Each pair may be there once, and says what its second side has more than its first.
  const straight = await store.source.comparison(first, second);
  const found = straight ?? await store.source.comparison(second, first);
  const notes = (found?.remarks ?? []).map((remark) => h("p", { class: "note" }, remark));
  if (!found || found.difference === null) return [h("p", null, "These models have no item in common that has a score on both sides."), ...notes];
  const shown = turned(found, straight ? 1 : -1);
  const [low, high] = ends(shown);
  const sure = low > 0 || high < 0;
  const ahead = shown.difference > 0 ? models[second] : models[first];
  return [
    h("p", { class: "conclusion" }, h("strong", null, sure ? `${ahead} is ahead: ` : "The difference may be chance: "),
      `${models[second]} has ${signed(shown.difference)} (95% interval ${signed(low)} to ${signed(high)}, p ${probability(shown.p)}) on the `,
      `${many(shown.items, "item")} that both have. Each task counts the same.`),
    shown.like && h("p", { class: "note" }, `For tasks like these, the difference is ${signed(shown.like.difference)} (95% interval ${signed(shown.like.low)} to ${signed(shown.like.high)}, p ${probability(shown.like.p)}).`),
    ...notes,
    h("div", { class: "card" }, h("p", { class: "legend" }, h("span", { class: "first" }, `● ${models[first]}`), h("span", { class: "second" }, `■ ${models[second]}`)),
      dumbbells(store, first, second, width)),
    ...differences(store, first, second, shown.pairs),
    ...flipped(store, first, second, shown.flips),
  ];
}

/**
 * @param {Store} store
 * @param {number} first
 * @param {number} second
 * @param {import("./document").PairEntry[] | null} pairs
 */
function differences(store, first, second, pairs) {
  const { models, tasks } = store.data;
  if (!pairs) {
    return [h("p", { class: "note" }, "With this many models and tasks, the page has only the differences over all tasks: ",
      h("code", null, "fanbench compare DIR A B"), " shows those of each task.")];
  }
  return [h("h3", null, "Tasks"), table("Differences of tasks",
    ["Task", models[first], models[second], "Difference#", "95% interval", "p, adjusted#", "Better#", "Worse#", "Items#", "Smallest to be seen#", "Both runs"],
    pairs, (pair) => [
      tasks[pair.task].name, store.cell(pair.task, first)?.text ?? NONE, store.cell(pair.task, second)?.text ?? NONE,
      arrow(pair.difference), `${signed(pair.low)} to ${signed(pair.high)}`, probability(pair.adjusted), count(pair.better), count(pair.worse),
      `${count(pair.items)}${pair.lacking ? ` of ${count(pair.items + pair.lacking)}` : ""}`, pair.smallest > 1 ? "none" : score(pair.smallest),
      h("a", { href: side(store, pair.task, first, second) }, "side by side"),
    ])];
}

/**
 * @param {Store} store
 * @param {number} first
 * @param {number} second
 * @param {import("./document").FlipEntry[]} flips
 */
function flipped(store, first, second, flips) {
  const { models, tasks } = store.data;
  return flips.length ? [h("h3", null, `Items that changed: ${count(flips.length)}`),
    table("Items that changed", ["Task", "Item", `${models[first]}#`, `${models[second]}#`, "Both runs"], flips, (flip) => [
      tasks[flip.task].name, flip.item || "the run", score(flip.before), score(flip.after),
      h("a", { href: side(store, flip.task, first, second, flip.item) }, "side by side")])] : [];
}

/**
 * The address of two runs beside each other.
 * @param {Store} store
 * @param {number} task
 * @param {number} first
 * @param {number} second
 * @param {string} [item]
 */
function side(store, task, first, second, item = "") {
  return `#/${["side", store.data.tasks[task].name, store.data.models[first], store.data.models[second], item].map(encodeURIComponent).join("/")}`;
}

/** @param {number} difference */
export function arrow(difference) {
  const text = signed(difference);
  return `${text === "0.000" ? "=" : difference > 0 ? "▲" : "▼"} ${text}`;
}

/**
 * @param {ComparisonEntry} found
 * @param {number} sign -1 to exchange the sides
 */
function turned(found, sign) {
  const ends = (/** @type {number} */ low, /** @type {number} */ high) => (sign > 0 ? [low, high] : [-high, -low]);
  const [low, high] = ends(found.low ?? 0, found.high ?? 0);
  const like = found.like_these, [from, to] = ends(like?.low ?? 0, like?.high ?? 0);
  return {
    difference: sign * Number(found.difference), low, high, p: found.p, items: found.items,
    like: like && { ...like, difference: sign * like.difference, low: from, high: to },
    pairs: found.pairs?.map((pair) => {
      const [from, to] = ends(pair.low, pair.high);
      const [better, worse] = sign > 0 ? [pair.better, pair.worse] : [pair.worse, pair.better];
      return { ...pair, difference: sign * pair.difference, low: from, high: to, better, worse };
    }) ?? null,
    flips: found.flips.map((flip) => (sign > 0 ? flip : { ...flip, before: flip.after, after: flip.before })),
  };
}

/** @param {{low: number, high: number}} found */
function ends(found) {
  return [found.low, found.high];
}

/**
 * One line for each task, with the scores of both models.
 * @param {Store} store
 * @param {number} first
 * @param {number} second
 * @param {number} width
 */
function dumbbells(store, first, second, width) {
  const { tasks, models } = store.data;
  const rows = [...tasks.keys()].filter((task) => known(store.cell(task, first)?.score) || known(store.cell(task, second)?.score));
  const left = Math.min(260, Math.round(width * 0.4)), letters = Math.floor((left - 16) / 6.8), step = 26, bottom = 30 + rows.length * step;
  const x = scale(0, 1, left, width - 12);
  return chart(`Scores of ${models[first]} and ${models[second]} on ${many(rows.length, "task")}`, width, bottom,
    ticks(0, 1, 5).flatMap((tick) => [line(x(tick), 20, x(tick), bottom, "grid-line"), label(x(tick), 12, String(tick), "middle")]),
    rows.flatMap((task, at) => {
      const y = 34 + at * step, a = store.cell(task, first)?.score, b = store.cell(task, second)?.score, name = tasks[task].name;
      return [
        label(left - 12, y + 4, name.length > letters ? `${name.slice(0, letters - 1)}…` : name, "end"),
        known(a) && known(b) && line(x(Number(a)), y, x(Number(b)), y, "link"),
        // The circle stays visible inside of the square where both are the same.
        known(b) && h("rect", { x: x(Number(b)) - 6, y: y - 6, width: 12, height: 12, class: "second" }),
        known(a) && h("circle", { cx: x(Number(a)), cy: y, r: 5, class: "first ringed" }),
      ];
    }));
}
