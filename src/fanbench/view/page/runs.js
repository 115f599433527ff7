// All runs, one row each.

import { fill, h } from "./dom.js";
import { count, duration, known, money, nameWidth, time } from "./format.js";
import { Grid, START } from "./grid.js";
import { byNumber } from "./matrix.js";
import { CLASSES, SIGNS } from "./states.js";

/** @typedef {import("./store.js").Store} Store */

/**
 * The columns: the name, the width, the text, and the number by which runs are sorted, if not by the text.
 * @typedef {[string, number, (store: Store, run: number) => string, ((store: Store, run: number) => number | null)?]} Column
 */
const COLUMNS = /** @type {Column[]} */ ([
  ["State", 120, (store, run) => `${SIGNS[store.runs.columns.status[run]]} ${store.data.states[store.runs.columns.status[run]]}`],
  ["Result", 170, (store, run) => store.text("text", run)],
  ["Time#", 100, (store, run) => duration(store.number("seconds", run)), (store, run) => store.number("seconds", run)],
  ["Cost#", 110, (store, run) => money(store.number("cost", run)), (store, run) => store.number("cost", run)],
  ["Tokens#", 100, (store, run) => count(tokens(store, run)), tokens],
  ["Started", 225, (store, run) => time(store.number("started", run)), (store, run) => store.number("started", run)],
  ["Run#", 90, (store, run) => String(store.number("run_id", run) ?? ""), (store, run) => store.number("run_id", run)],
  ["Error", 460, (store, run) => store.text("error", run)],
]);
const STATE = 0, RESULT = 1, ERROR = 7;
const PLANNED = -2, BY_NAME = -1;

/**
 * @param {Store} store
 * @param {number} run
 */
function tokens(store, run) {
  const into = store.number("tokens_in", run), out = store.number("tokens_out", run);
  return known(into) || known(out) ? Number(into) + Number(out) : null;
}

/** What is chosen at first: a state, or -1 for all, the column that runs are sorted by, and its direction. */
const CHOSEN = { state: -1, filter: "", order: PLANNED, down: false };

/**
 * @param {Store} store
 * @param {import("./main.js").Page} page
 * @param {string[]} words the state to show, if any
 */
export function runs(store, page, words) {
  const chosen = page.remember("runs", { ...CHOSEN });
  if (words.length) chosen.state = CLASSES.indexOf(words[0]);
  const total = h("p", { class: "legend", role: "status" });
  const content = () => {
    const found = select(store, chosen);
    fill(total, `${count(found.length)} of ${count(store.runs.rows)} runs`);
    return contentOf(store, page, chosen, found, () => draw());
  };
  const grid = new Grid(content(), page.remember("runs grid", { ...START }));
  const draw = () => grid.show(content());
  const filter = h("input", {
    type: "search", placeholder: "Filter ( / )", "aria-label": "Filter runs by task, model or error", value: chosen.filter, autocomplete: "off", spellcheck: "false",
    oninput: () => { chosen.filter = filter.value; draw(); },
  });
  const state = h("select", { "aria-label": "State", onchange: () => {
    chosen.state = state.selectedIndex - 1;
    page.rename("runs", ...(chosen.state < 0 ? [] : [CLASSES[chosen.state]]));
    draw();
  } },
    h("option", { selected: chosen.state < 0 }, "all states"),
    store.data.states.map((label, at) => h("option", { selected: at === chosen.state }, `${SIGNS[at]} ${label}`)));
  return {
    element: h("section", { "aria-label": "Runs", class: "fills" }, h("div", { class: "tools" }, filter, state, total), grid.element, grid.status),
    grid, search: filter, update: draw, close: () => grid.close(),
  };
}

/**
 * @param {Store} store
 * @param {import("./main.js").Page} page
 * @param {typeof CHOSEN} chosen
 * @param {Uint32Array} found the runs in their order
 * @param {() => void} draw
 * @returns {import("./grid.js").Content}
 */
function contentOf(store, page, chosen, found, draw) {
  const { models, tasks, repeats } = store.data;
  const { status, superseded, attempt } = store.runs.columns;
  const name = (/** @type {number} */ run) => `${page.nameOf(run)}${superseded[run] ? ` (attempt ${attempt[run]}, made again)` : ""}`;
  const longest = `${longer(tasks.map((task) => task.name))} · ${longer(models)}${repeats > 1 ? " #1" : ""}`;
  const label = nameWidth([longest], page.width() < 600 ? 170 : 440);
  const others = COLUMNS.slice(0, ERROR).reduce((sum, [, width]) => sum + width, label);
  const isNumber = (/** @type {number} */ column) => Boolean(COLUMNS[column]?.[0].endsWith("#"));
  return {
    caption: "Runs", corner: "Task · model", rows: found.length, columns: COLUMNS.length, label,
    width: (column) => (column === ERROR ? Math.max(COLUMNS[ERROR][1], page.room() - others) : COLUMNS[column][1]),
    rowName: (row) => name(found[row]), columnName: (column) => COLUMNS[column][0].replace("#", ""), right: isNumber,
    cell: (row, column) => ({
      class: `plain${column === STATE ? ` ${CLASSES[status[found[row]]]}` : isNumber(column) ? " number" : ""}`, text: COLUMNS[column][2](store, found[row]),
    }),
    describe: (row) => [name(found[row]), ...[STATE, RESULT, ERROR].map((column) => COLUMNS[column][2](store, found[row]))].filter(Boolean).join(" · "),
    open: (row) => page.openRun(found[row]),
    order: (column) => (column !== chosen.order ? null : chosen.down ? "descending" : "ascending"),
    sort: (column) => {
      // One way, the other way, and as planned again.
      if (chosen.order === column && chosen.down) Object.assign(chosen, { order: PLANNED, down: false });
      else Object.assign(chosen, { order: column, down: chosen.order === column });
      draw();
    },
  };
}

/**
 * Return the runs that a filter leaves, in their order. Each of its words is in the task, the model or the error.
 * @param {Store} store
 * @param {typeof CHOSEN} chosen
 */
function select(store, chosen) {
  const { rows, columns, texts } = store.runs, { tasks, models } = store.data;
  // Texts are searched once each, not once for each run.
  const tests = chosen.filter.toLowerCase().split(/\s+/).filter(Boolean).map((word) =>
    [tasks.map((task) => task.name), models, texts].map((names) => names.map((each) => each.toLowerCase().includes(word))));
  const kept = new Uint32Array(rows);
  let number = 0;
  for (let run = 0; run < rows; run += 1) {
    if ((chosen.state < 0 || columns.status[run] === chosen.state)
      && tests.every(([task, model, text]) => task[columns.task[run]] || model[columns.model[run]] || text[columns.error[run]])) kept[number++] = run;
  }
  const found = kept.subarray(0, number), { order, down } = chosen;
  if (order === PLANNED) return found;
  if (order === BY_NAME) return down ? found.reverse() : found;
  const [, , text, value] = COLUMNS[order];
  if (value) {
    const values = Float64Array.from({ length: rows }, (_, run) => value(store, run) ?? NaN);
    return found.sort((a, b) => byNumber(values[a], values[b], down));
  }
  const names = Array.from({ length: rows }, (_, run) => text(store, run));
  // What has no text comes last.
  return found.sort((a, b) => Number(!names[a]) - Number(!names[b]) || (names[a] < names[b] ? -1 : Number(names[a] > names[b])) * (down ? -1 : 1));
}

/** @param {string[]} names */
function longer(names) {
  return names.reduce((longest, name) => (name.length > longest.length ? name : longest), "");
}
