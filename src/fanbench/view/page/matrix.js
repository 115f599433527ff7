// Models by tasks: one cell for each pair, with its score, state, cost, time or tokens.

import { fill, h } from "./dom.js";
import { count, duration, interval, known, many, money, nameWidth } from "./format.js";
import { Grid, START } from "./grid.js";
import { CLASSES, DONE, ERRORED, MISSING, SIGNS, worst } from "./states.js";

/** @typedef {import("./store.js").Store} Store */
/** @typedef {import("./document").CellEntry} CellEntry */

/** What cells can show: its name, its text, and the number by which rows are sorted. */
const KINDS = /** @type {[string, (cell: CellEntry) => string, (cell: CellEntry) => number | null][]} */ ([
  ["Score", shortText, (cell) => cell.score ?? cell.value],
  ["State", () => "", (cell) => cell.scored / cell.planned],
  ["Cost", (cell) => money(cell.cost_usd), (cell) => cell.cost_usd],
  ["Time", (cell) => duration(cell.seconds), (cell) => cell.seconds],
  ["Tokens", (cell) => count(cell.tokens), (cell) => cell.tokens],
]);
const STATE = 1;
const ORDERS = ["as planned", "by name", "by score", "by a column"];
const [PLANNED, BY_NAME, BY_SCORE, BY_COLUMN] = ORDERS.keys();

/** What is chosen at first: what cells show, the order, the position of the column for it, its direction. */
const CHOSEN = { kind: 0, order: PLANNED, by: 0, down: true, swapped: false, filter: "" };

/**
 * @param {Store} store
 * @param {import("./main.js").Page} page
 */
export function matrix(store, page) {
  const chosen = page.remember("matrix", { ...CHOSEN });
  const content = () => contentOf(store, page, chosen, () => draw());
  const grid = new Grid(content(), page.remember("matrix grid", { ...START }));
  const nothing = h("p", { role: "status" });
  const order = h("select", { "aria-label": "Order", onchange: () => { chosen.order = order.selectedIndex; draw(); } });
  const filter = h("input", {
    type: "search", placeholder: "Filter ( / )", "aria-label": "Filter models or tasks", value: chosen.filter, autocomplete: "off", spellcheck: "false",
    oninput: () => { chosen.filter = filter.value; draw(); },
  });
  const kinds = h("div", { class: "choice", role: "group", "aria-label": "What the cells show" });
  const legend = h("p", { class: "legend" });
  const draw = () => {
    const shown = content();
    grid.show(shown);
    fill(nothing, !shown.rows && (store.data.tasks.length ? "Nothing has a name like that." : "There are no results here yet."));
    // A column is chosen by its header only. A list that is open stays so.
    if (order.selectedIndex !== chosen.order) {
      fill(order, ORDERS.slice(0, chosen.order === BY_COLUMN ? 4 : 3).map((name, at) => h("option", { selected: at === chosen.order }, name)));
    }
    fill(kinds, KINDS.map(([name], at) => h("button", {
      type: "button", "aria-pressed": String(at === chosen.kind), onclick: () => { chosen.kind = at; draw(); },
    }, name)));
    fill(legend, store.data.counts.map((number, state) => number > 0 && h("span", { class: CLASSES[state] }, `${SIGNS[state]} ${store.data.states[state]}`)));
  };
  draw();
  const swap = () => {
    Object.assign(chosen, { swapped: !chosen.swapped, order: chosen.order === BY_COLUMN ? PLANNED : chosen.order });
    draw();
  };
  return {
    element: h("section", { "aria-label": "Matrix", class: "fills" },
      h("div", { class: "tools" }, filter, kinds, order, h("button", { type: "button", onclick: swap }, "Swap axes"), legend),
      nothing, grid.element, grid.status),
    grid, search: filter, update: draw, close: () => grid.close(),
  };
}

/**
 * @param {Store} store
 * @param {import("./main.js").Page} page
 * @param {typeof CHOSEN} chosen
 * @param {() => void} draw
 * @returns {import("./grid.js").Content}
 */
function contentOf(store, page, chosen, draw) {
  const { down, across, rows, columns, place } = axes(store, chosen);
  const at = (/** @type {number} */ row, /** @type {number} */ column) => place(rows[row], columns[column]);
  const narrow = page.width() < 600;
  return {
    caption: chosen.swapped ? "Tasks by models" : "Models by tasks",
    corner: chosen.swapped ? "Task" : "Model",
    rows: rows.length, columns: columns.length, label: nameWidth(down, narrow ? 130 : 280), width: () => (narrow ? 118 : 140),
    rowName: (row) => down[rows[row]], columnName: (column) => across[columns[column]],
    cell: (row, column) => cellOf(store, ...at(row, column), chosen.kind),
    describe: (row, column) => describe(store, ...at(row, column)),
    open: (row, column) => {
      const last = store.runsOf(...at(row, column)).at(-1);
      if (last !== undefined) page.openRun(last);
    },
    order: (column) => {
      if (column < 0) return chosen.order === BY_NAME ? "ascending" : null;
      if (chosen.order !== BY_COLUMN || columns[column] !== chosen.by) return null;
      return chosen.down ? "descending" : "ascending";
    },
    sort: (column) => {
      if (column < 0) chosen.order = chosen.order === BY_NAME ? PLANNED : BY_NAME;
      else {
        const again = chosen.order === BY_COLUMN && chosen.by === columns[column];
        Object.assign(chosen, { order: BY_COLUMN, by: columns[column], down: !again || !chosen.down });
      }
      draw();
    },
  };
}

/**
 * Return the names on both axes, and the positions of those that are shown, in their order. `place` returns the
 * positions of the task and the model of a row and a column.
 * @param {Store} store
 * @param {typeof CHOSEN} chosen
 */
function axes(store, chosen) {
  const tasks = store.data.tasks.map((task) => task.name), { models } = store.data;
  const [down, across] = chosen.swapped ? [tasks, models] : [models, tasks];
  const place = (/** @type {number} */ row, /** @type {number} */ column) => /** @type {[number, number]} */ (chosen.swapped ? [row, column] : [column, row]);
  const rows = kept(down, across, chosen.filter), columns = kept(across, down, chosen.filter);
  if (chosen.order === BY_NAME) {
    for (const [found, names] of /** @type {[number[], string[]][]} */ ([[rows, down], [columns, across]])) {
      found.sort((a, b) => names[a].localeCompare(names[b], "en", { numeric: true }));
    }
  } else if (chosen.order === BY_SCORE) {
    const ranks = new Map(store.data.board.rows.map((row, at) => [row.model, at]));
    (chosen.swapped ? columns : rows).sort((a, b) => Number(ranks.get(a)) - Number(ranks.get(b)));
  } else if (chosen.order === BY_COLUMN) {
    const value = (/** @type {CellEntry | undefined} */ cell) => cell && KINDS[chosen.kind][2](cell);
    const values = new Map(rows.map((row) => [row, value(store.cell(...place(row, chosen.by)))]));
    rows.sort((a, b) => byNumber(values.get(a), values.get(b), chosen.down));
  }
  return { down, across, rows, columns, place };
}

/**
 * Return the positions of the names that a filter leaves, or of all if it is about the other axis.
 * @param {string[]} names
 * @param {string[]} others
 * @param {string} filter
 */
function kept(names, others, filter) {
  const matches = (/** @type {string} */ name) => name.toLowerCase().includes(filter.toLowerCase());
  const found = [...names.keys()].filter((at) => matches(names[at]));
  return found.length || !others.some(matches) ? found : [...names.keys()];
}

/**
 * Compare two numbers; what is not known comes last.
 * @param {number | null | undefined} a
 * @param {number | null | undefined} b
 * @param {boolean} down whether the largest comes first
 */
export function byNumber(a, b, down) {
  if (!known(a) || !known(b)) return Number(known(b)) - Number(known(a));
  return (Number(a) - Number(b)) * (down ? -1 : 1);
}

/**
 * @param {Store} store
 * @param {number} task
 * @param {number} model
 */
function statesOf(store, task, model) {
  const { status, superseded } = store.runs.columns;
  return store.runsOf(task, model).filter((run) => !superseded[run]).map((run) => status[run]);
}

/**
 * @param {Store} store
 * @param {number} task
 * @param {number} model
 * @param {number} kind
 */
function cellOf(store, task, model, kind) {
  const states = statesOf(store, task, model);
  if (!states.length) return { class: "nothing", text: "" };
  const cell = store.cell(task, model), state = outcome(cell, worst(states));
  const scored = cell && known(cell.score) ? ` score-${Math.round(Number(cell.score) * 10)}` : "";
  const text = cell && (kind !== 0 || known(cell.value)) ? KINDS[kind][1](cell) : "";
  // A color alone tells nothing: a cell that is not simply done has the signs of its runs.
  const signs = kind === STATE || !text || state !== DONE ? shortSigns(states, kind === STATE || !text) || SIGNS[state] : "";
  return {
    class: state === DONE ? `done${scored}` : CLASSES[state],
    text: cellText(text, cell && cell.scored < cell.planned ? `${cell.scored}/${cell.planned}` : "", signs),
  };
}

/**
 * Return what is in a cell. Where there is no room for all, the coverage is cut first, and the signs never are.
 * @param {string} text which may end with the coverage
 * @param {string} coverage
 * @param {string} signs
 */
function cellText(text, coverage, signs) {
  const covered = coverage && text.endsWith(` ${coverage}`);
  const value = covered ? text.slice(0, -coverage.length - 1) : text;
  return h("span", { class: "cell-text" }, value && h("span", { class: "value" }, value), covered ? [" ", h("span", { class: "coverage" }, coverage)] : null,
    value && signs && " ", signs && h("span", null, signs));
}

/**
 * Return the state of a cell: items may lack a score although all runs completed.
 * @param {CellEntry | undefined} cell
 * @param {number} state the state of its runs
 */
function outcome(cell, state) {
  if (!cell || state !== DONE || cell.scored >= cell.planned) return state;
  return cell.errored ? ERRORED : MISSING;
}

/**
 * Return the signs of all runs if they are few, else one for each state with its number.
 * @param {number[]} states
 * @param {boolean} all whether those of complete runs are among them
 */
function shortSigns(states, all) {
  const shown = all ? states : states.filter((state) => state !== DONE);
  if (shown.length <= 5) return shown.map((state) => SIGNS[state]).join("");
  return SIGNS.map((sign, state) => [sign, shown.filter((each) => each === state).length]).filter(([, number]) => number).flat().join("");
}

/**
 * The text of a cell without its interval, which is in its description.
 * @param {CellEntry} cell
 */
function shortText(cell) {
  return known(cell.low) ? cell.text.replace(/ \[[^\]]*\]| ± \S+/, "") : cell.text;
}

/**
 * All that is known of a cell.
 * @param {Store} store
 * @param {number} task
 * @param {number} model
 */
function describe(store, task, model) {
  const cell = store.cell(task, model), states = statesOf(store, task, model);
  const name = `${store.data.tasks[task].name} · ${store.data.models[model]}: `;
  if (!cell) return `${name}${states.length ? states.map((state) => store.data.states[state]).join(", ") : "not planned"}`;
  const { confidence } = store.data;
  return name + [
    shortText(cell),
    known(cell.low) && `${cell.stated ? "stated" : `${Math.round(confidence * 100)}%`} interval ${interval(cell.low, cell.high)}`,
    `${count(cell.scored)} of ${many(cell.planned, "attempt")} scored`,
    cell.errored > 0 && `${count(cell.errored)} errored`, cell.no_value > 0 && `${count(cell.no_value)} without a value`,
    cell.scored < cell.planned && known(cell.bound_low) && `${interval(cell.bound_low, cell.bound_high)} if those failed or passed`,
    known(cell.cost_usd) && money(cell.cost_usd), known(cell.seconds) && duration(cell.seconds), known(cell.tokens) && many(Number(cell.tokens), "token"),
  ].filter(Boolean).join(" · ");
}
