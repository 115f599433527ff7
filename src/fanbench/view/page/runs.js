// All runs, one row each.

import { fill, h } from "./dom.js";
import { count, duration, money, time } from "./format.js";
import { Grid } from "./grid.js";
import { CLASSES, SIGNS } from "./states.js";

/** @typedef {import("./store.js").Store} Store */

const COLUMNS = ["State", "Result", "Time", "Cost", "Tokens", "Started", "Run", "Error"];
const WIDTHS = [130, 170, 100, 110, 100, 190, 90, 520];

/**
 * @param {Store} store
 * @param {import("./main.js").Page} page
 * @param {string[]} words the state to show, if any
 */
export function runs(store, page, words) {
  const chosen = page.remember("runs", { state: -1, filter: "" });
  if (words.length) chosen.state = CLASSES.indexOf(words[0]);
  const total = h("p", { class: "legend", role: "status" });
  /** @type {Uint32Array} */
  let found = new Uint32Array(0);

  const name = (/** @type {number} */ run) => {
    const { columns } = store.runs;
    const repeat = store.data.repeats > 1 ? ` #${columns.repeat[run]}` : "";
    const again = columns.superseded[run] ? ` (attempt ${columns.attempt[run]}, made again)` : "";
    return `${store.data.tasks[columns.task[run]].name} · ${store.data.models[columns.model[run]]}${repeat}${again}`;
  };
  const select = () => {
    const { rows, columns } = store.runs, word = chosen.filter.toLowerCase();
    const matches = (/** @type {number} */ run) => !word || name(run).toLowerCase().includes(word) || store.text("error", run).toLowerCase().includes(word);
    const kept = new Uint32Array(rows);
    let number = 0;
    for (let run = 0; run < rows; run += 1) {
      if ((chosen.state < 0 || columns.status[run] === chosen.state) && matches(run)) kept[number++] = run;
    }
    found = kept.subarray(0, number);
    fill(total, `${count(number)} of ${count(rows)} runs`);
  };
  const cell = (/** @type {number} */ row, /** @type {number} */ column) => {
    const run = found[row], state = store.runs.columns.status[run];
    const tokens = (store.number("tokens_in", run) ?? 0) + (store.number("tokens_out", run) ?? 0);
    const text = [
      () => `${SIGNS[state]} ${store.data.states[state]}`, () => store.text("text", run), () => duration(store.number("seconds", run)),
      () => money(store.number("cost", run)), () => count(store.number("tokens_in", run) === null ? null : tokens),
      () => time(store.number("started", run)), () => String(store.number("run_id", run) ?? ""), () => store.text("error", run),
    ][column]();
    return { class: column ? "plain" : `plain ${CLASSES[state]}`, text, title: column === 7 ? text : undefined };
  };
  const content = () => {
    select();
    return {
      caption: "Runs", rows: found.length, columns: COLUMNS.length, label: page.width() < 600 ? 150 : 320, width: (/** @type {number} */ column) => WIDTHS[column],
      corner: "Task · model", rowName: (/** @type {number} */ row) => name(found[row]), columnName: (/** @type {number} */ column) => COLUMNS[column],
      cell, open: (/** @type {number} */ row) => page.openRun(found[row]),
    };
  };
  const grid = new Grid(content());
  const redraw = () => grid.show(content());
  const filter = h("input", {
    type: "search", placeholder: "Filter runs ( / )", "aria-label": "Filter runs", value: chosen.filter, autocomplete: "off", spellcheck: "false",
    oninput: () => { chosen.filter = filter.value; redraw(); },
  });
  const state = h("select", { "aria-label": "State", onchange: () => { chosen.state = state.selectedIndex - 1; redraw(); } },
    h("option", { selected: chosen.state < 0 }, "all states"),
    store.data.states.map((label, at) => h("option", { selected: at === chosen.state }, `${SIGNS[at]} ${label}`)));
  return {
    element: h("section", { "aria-label": "Runs", class: "fills" }, h("div", { class: "tools" }, filter, state, total), grid.element),
    grid, search: filter, update: redraw, close: () => grid.close(),
  };
}
