// What changed since an earlier sweep.

import { arrow } from "./compare.js";
import { fill, h, table } from "./dom.js";
import { count, many, NONE, probability, score, signed } from "./format.js";

/** @typedef {import("./store.js").Store} Store */
/** @typedef {import("./document").Before} Before */

/**
 * A task on a model: its difference, if both sweeps have a score of one of its items, and its errors.
 * @typedef {{task: number, model: number, kind: string, pair: import("./document").PairEntry | null, errors: import("./document").ErrorEntry | null}} Change
 */

const BETTER = "better", WORSE = "worse", CHANCE = "may be chance", ERRORS = "other errors";
const CLASS = /** @type {Record<string, string>} */ ({ [BETTER]: "done", [WORSE]: "errored" });

/**
 * @param {Store} store
 * @param {import("./main.js").Page} page
 */
export function before(store, page) {
  const found = store.data.before;
  if (!found) {
    return {
      element: h("section", { "aria-labelledby": "title" }, h("h2", { id: "title" }, "Before and after"),
        h("p", null, "There is no other sweep to compare with. ", h("code", null, "fanbench report DIR --against EARLIER"), " adds one.")),
    };
  }
  const chosen = page.remember("before", { kind: "" });
  const all = changes(store, found), body = h("div");
  const kinds = [...new Set(["", BETTER, WORSE, CHANCE, ERRORS])].map((kind) => [kind, all.filter((each) => matches(each, kind))]);
  const draw = () => fill(body,
    h("div", { class: "choice tools", role: "group", "aria-label": "Which are shown" }, kinds.map(([kind, those]) => h("button", {
      type: "button", "aria-pressed": String(kind === chosen.kind), onclick: () => { chosen.kind = String(kind); draw(); },
    }, `${kind || "all"} ${count(those.length)}`))),
    changeTable(store, page, all.filter((each) => matches(each, chosen.kind))));
  draw();
  return {
    element: h("section", { "aria-labelledby": "title" }, h("h2", { id: "title" }, `Since ${found.title}`), conclusion(found),
      only("before", found.only_before), only("now", found.only_now),
      body, flips(store, page, found)),
  };
}

/**
 * @param {string} when
 * @param {string[]} tasks
 */
function only(when, tasks) {
  return tasks.length > 0 && h("p", { class: "note" }, `Only ${when}: ${tasks.join(", ")}.`);
}

/** @param {Before} found */
function conclusion(found) {
  const { comparison } = found;
  return [
    h("p", { class: "conclusion" }, h("strong", null, found.conclusion)),
    comparison.difference !== null && h("p", null, `The mean difference is ${signed(comparison.difference)} (95% interval `,
      `${signed(Number(comparison.low))} to ${signed(Number(comparison.high))}, p ${probability(comparison.p)}) on ${many(comparison.items, "item")}. `,
      `Each task has at least ${(found.coverage * 100).toFixed(0)}% of its scores on both sides. `,
      `Errors: ${count(found.errors_before)} before, ${count(found.errors_now)} now.`),
  ];
}

/**
 * Return the tasks on models, the largest losses first.
 * @param {Store} store
 * @param {Before} found
 * @returns {Change[]}
 */
function changes(store, found) {
  const errors = new Map(found.errors.map((each) => [`${each.task} ${each.model}`, each]));
  const pairs = [...(found.comparison.pairs ?? [])].sort((a, b) => a.difference - b.difference).map((pair) => {
    const key = `${pair.task} ${pair.model}`, own = errors.get(key) ?? null;
    errors.delete(key);
    const sure = pair.adjusted < 1 - store.data.confidence;
    return { task: pair.task, model: pair.model, kind: sure ? (pair.difference < 0 ? WORSE : BETTER) : CHANCE, pair, errors: own };
  });
  return [...pairs, ...[...errors.values()].map((own) => ({ task: own.task, model: own.model, kind: "", pair: null, errors: own }))];
}

/**
 * @param {Change} change
 * @param {string} kind
 */
function matches(change, kind) {
  return !kind || change.kind === kind || (kind === ERRORS && change.errors !== null && change.errors.before !== change.errors.now);
}

/**
 * @param {Store} store
 * @param {import("./main.js").Page} page
 * @param {Change[]} shown
 */
function changeTable(store, page, shown) {
  if (!shown.length) return h("p", null, "There are none.");
  return table("Differences since then", ["Task · model", "Result", "Difference#", "95% interval", "p, adjusted#", "Better#", "Worse#", "Items#", "Errors#"],
    shown, ({ task, model, kind, pair, errors }) => [
      runLink(store, page, task, model), h("span", { class: CLASS[kind] ?? "note" }, kind || "no score in common"),
      pair ? arrow(pair.difference) : NONE, pair ? `${signed(pair.low)} to ${signed(pair.high)}` : NONE, probability(pair?.adjusted),
      count(pair?.better), count(pair?.worse), count(pair?.items), errors ? `${count(errors.before)} → ${count(errors.now)}` : "0",
    ]);
}

/**
 * @param {Store} store
 * @param {import("./main.js").Page} page
 * @param {Before} found
 */
function flips(store, page, { comparison }) {
  return comparison.flips.length > 0 && h("div", null, h("h3", null, `Items that changed: ${count(comparison.flips.length)}`),
    table("Items that changed", ["Task · model", "Item", "Before#", "Now#"], comparison.flips, (flip) => [
      runLink(store, page, flip.task, flip.model), flip.item || "the run", score(flip.before), score(flip.after)]));
}

/**
 * Return the name of a task on a model, which leads to its last run.
 * @param {Store} store
 * @param {import("./main.js").Page} page
 * @param {number} task
 * @param {number} model
 */
function runLink(store, page, task, model) {
  const name = `${store.data.tasks[task].name} · ${store.data.models[model] ?? ""}`, last = store.runsOf(task, model).at(-1);
  return last === undefined ? name : h("a", { href: page.runAddress(last) }, name);
}
