// Models by tasks: one cell for each pair, with its score, state, cost, time or tokens.

import { fill, h } from "./dom.js";
import { count, duration, known, money } from "./format.js";
import { Grid } from "./grid.js";
import { CLASSES, DONE, SIGNS, worst } from "./states.js";

/** @typedef {import("./store.js").Store} Store */

const SHOWN = ["Score", "State", "Cost", "Time", "Tokens"];
const SORTS = ["as planned", "by name", "by score"];

/**
 * @param {Store} store
 * @param {import("./main.js").Page} page
 */
export function matrix(store, page) {
  const { tasks, models } = store.data;
  const chosen = page.remember("matrix", { shown: 0, sort: 0, swapped: false, filter: "" });
  const hint = h("p", { class: "legend" }, SIGNS.map((sign, state) => h("span", { class: CLASSES[state] }, `${sign} ${store.data.states[state]}`))
    .filter((_, state) => state !== 5));

  const places = new Map(store.data.board.rows.map((row, place) => [row.model, place]));
  const order = (/** @type {number[]} */ found, /** @type {(at: number) => string} */ name, /** @type {boolean} */ byModel) =>
    chosen.sort === 1 ? found.sort((a, b) => (name(a) < name(b) ? -1 : 1))
      : chosen.sort === 2 && byModel ? found.sort((a, b) => (places.get(a) ?? 0) - (places.get(b) ?? 0)) : found;

  const content = () => {
    const word = chosen.filter.toLowerCase();
    const rowModels = order(models.map((_, at) => at).filter((at) => models[at].toLowerCase().includes(word)), (at) => models[at], true);
    const columnTasks = order(tasks.map((_, at) => at), (at) => tasks[at].name, false);
    const [down, across] = chosen.swapped ? [columnTasks, rowModels] : [rowModels, columnTasks];
    const taskAt = (/** @type {number} */ row, /** @type {number} */ column) => (chosen.swapped ? down[row] : across[column]);
    const modelAt = (/** @type {number} */ row, /** @type {number} */ column) => (chosen.swapped ? across[column] : down[row]);
    const name = (/** @type {number} */ at, /** @type {boolean} */ isTask) => (isTask ? tasks[at].name : models[at]);
    const narrow = page.width() < 600;
    return {
      caption: chosen.swapped ? "Tasks by models" : "Models by tasks",
      rows: down.length, columns: across.length, label: narrow ? 120 : 190, width: () => (narrow ? 96 : 150),
      corner: chosen.swapped ? "Task" : "Model",
      rowName: (/** @type {number} */ row) => h("span", { title: name(down[row], chosen.swapped) }, name(down[row], chosen.swapped)),
      columnName: (/** @type {number} */ column) => h("span", { title: name(across[column], !chosen.swapped) }, name(across[column], !chosen.swapped)),
      cell: (/** @type {number} */ row, /** @type {number} */ column) => cellOf(store, taskAt(row, column), modelAt(row, column), chosen.shown),
      open: (/** @type {number} */ row, /** @type {number} */ column) => {
        const runs = store.runsOf(taskAt(row, column), modelAt(row, column));
        if (runs.length) page.openRun(runs[runs.length - 1]);
      },
    };
  };

  const grid = new Grid(content());
  const redraw = () => grid.show(content());
  const filter = h("input", {
    type: "search", placeholder: "Filter models ( / )", "aria-label": "Filter models", value: chosen.filter, autocomplete: "off",
    spellcheck: "false",
    oninput: () => { chosen.filter = filter.value; redraw(); },
  });
  const kinds = h("div", { class: "choice", role: "group", "aria-label": "What the cells show" });
  const drawKinds = () => fill(kinds, SHOWN.map((kind, at) => h("button", {
    type: "button", "aria-pressed": String(at === chosen.shown),
    onclick: () => { chosen.shown = at; drawKinds(); redraw(); },
  }, kind)));
  drawKinds();
  const sort = h("select", { "aria-label": "Order", onchange: () => { chosen.sort = sort.selectedIndex; redraw(); } },
    SORTS.map((name, at) => h("option", { selected: at === chosen.sort }, name)));
  const element = h("section", { "aria-label": "Matrix", class: "fills" },
    h("div", { class: "tools" }, filter, kinds,
      sort,
      h("button", { type: "button", onclick: () => { chosen.swapped = !chosen.swapped; redraw(); } }, "Swap axes"), hint),
    grid.element);
  return { element, grid, search: filter, update: redraw, close: () => grid.close() };
}

/**
 * @param {Store} store
 * @param {number} task
 * @param {number} model
 * @param {number} shown
 */
function cellOf(store, task, model, shown) {
  const runs = store.runsOf(task, model).filter((run) => !store.runs.columns.superseded[run]);
  if (!runs.length) return { class: "nothing", text: "" };
  const cell = store.cell(task, model);
  const states = runs.map((run) => store.runs.columns.status[run]);
  const state = worst(states);
  const signs = states.map((each) => SIGNS[each]).join("");
  const text = () => {
    if (shown === 1) return signs;
    if (shown === 2) return money(cell?.cost_usd);
    if (shown === 3) return duration(cell?.seconds);
    if (shown === 4) return count(cell?.tokens);
    return cell && known(cell.value) ? cell.text : state === DONE || !cell ? cell?.text ?? signs : `${signs}`;
  };
  const scored = cell && known(cell.score) ? ` score-${Math.round(Number(cell.score) * 10)}` : "";
  // A color alone tells nothing: a cell that is not simply done has its sign.
  const mark = shown === 0 && state !== DONE && cell && known(cell.value) ? ` ${SIGNS[state]}` : "";
  const kind = state === DONE ? `done${scored}` : CLASSES[state];
  return { class: kind, text: `${text()}${mark}`, title: `${store.data.tasks[task].name} · ${store.data.models[model]}: ${cell?.text ?? signs}` };
}
