// The document, the table of runs, and what is behind them, from this file or from the server that sent it.

import { unpack } from "./columns.js";
import { openEmbedded } from "./embedded.js";
import { openServer } from "./server.js";

/** @typedef {import("./document").Document} Document */
/** @typedef {import("./document").Details} Details */
/** @typedef {import("./document").ComparisonEntry} ComparisonEntry */
/** @typedef {import("./document").Patch} Patch */
/** @typedef {import("./columns.js").Columns} Columns */

/**
 * Where the data comes from. `follow` is there if it changes: it calls its first argument with each change, and its
 * second one when all has to be read again.
 * @typedef {{
 *   snapshot: () => Promise<{data: Document, runs: ArrayBuffer}>,
 *   details: (run: number) => Promise<Details | null>,
 *   sources: () => Promise<string[]>,
 *   comparison: (first: number, second: number) => Promise<ComparisonEntry | null>,
 *   log?: (run: number, start: number) => Promise<import("./document").LogPart>,
 *   download?: (run: number, name: string) => Promise<Blob>,
 *   follow?: (change: (patch: Patch) => void, again: () => Promise<void>) => void,
 * }} Source
 */

export class Store {
  /**
   * @param {Source} source
   * @param {Document} data
   * @param {Columns} runs
   */
  constructor(source, data, runs) {
    this.source = source;
    this.data = data;
    this.runs = runs;
    /** @type {Map<number, import("./document").CellEntry>} */
    this.cells = new Map();
    this.first = new Uint32Array(0);
    this.show(data, runs);
  }

  static async open() {
    const source = openEmbedded() ?? await openServer();
    const { data, runs } = await source.snapshot();
    return new Store(source, data, unpack(runs));
  }

  /**
   * @param {Document} data
   * @param {Columns} runs
   */
  show(data, runs) {
    this.data = data;
    this.runs = runs;
    this.cells = new Map(data.cells.map((cell) => [cell.task * data.models.length + cell.model, cell]));
    this.first = this.#index();
  }

  /**
   * Call `changed` after each change, for as long as the page is open.
   * @param {() => void} changed
   */
  follow(changed) {
    this.source.follow?.((patch) => {
      this.#apply(patch);
      changed();
    }, async () => {
      const { data, runs } = await this.source.snapshot();
      this.show(data, unpack(runs));
      changed();
    });
  }

  /** @param {Patch} patch */
  #apply(patch) {
    Object.assign(this.data, patch.document);
    for (const cell of patch.cells) this.cells.set(cell.task * this.data.models.length + cell.model, cell);
    this.runs.texts.push(...patch.texts);
    for (const [name, [rows, values]] of Object.entries(patch.columns)) {
      const column = this.runs.columns[name];
      rows.forEach((row, at) => { column[row] = values[at] ?? NaN; });
    }
  }

  /** Runs are sorted by task and model, so those of a cell follow each other: its first run is here. */
  #index() {
    const { rows, columns } = this.runs;
    const models = this.data.models.length;
    const first = new Uint32Array(this.data.tasks.length * models + 1).fill(rows);
    for (let run = rows - 1; run >= 0; run -= 1) first[columns.task[run] * models + columns.model[run]] = run;
    for (let at = first.length - 2; at >= 0; at -= 1) first[at] = Math.min(first[at], first[at + 1]);
    return first;
  }

  /**
   * @param {number} task
   * @param {number} model
   */
  cell(task, model) {
    return this.cells.get(task * this.data.models.length + model);
  }

  /**
   * Return the runs of a task on a model, by their positions.
   * @param {number} task
   * @param {number} model
   */
  runsOf(task, model) {
    const at = task * this.data.models.length + model;
    return Array.from({ length: this.first[at + 1] - this.first[at] }, (_, number) => this.first[at] + number);
  }

  /**
   * @param {string} name
   * @param {number} run
   */
  text(name, run) {
    return this.runs.texts[this.runs.columns[name][run]];
  }

  /**
   * Return the number of a run in a column; null if it is not known.
   * @param {string} name
   * @param {number} run
   */
  number(name, run) {
    const value = this.runs.columns[name][run];
    return Number.isNaN(value) ? null : value;
  }
}
