// The document, the table of runs, and the details of runs, which are unpacked when they are asked for.

import { unpack } from "./columns.js";

/** @typedef {import("./document").Document} Document */
/** @typedef {import("./document").Details} Details */
/** @typedef {import("./columns.js").Columns} Columns */

/** How many runs have their details in one element. */
const CHUNK = 30;

/**
 * Return the bytes that an element of the page has as gzip and base64; null without such an element.
 * @param {string} id
 */
async function embedded(id) {
  const element = document.getElementById(id);
  if (!element) return null;
  const packed = atob(element.textContent ?? "");
  const bytes = Uint8Array.from(packed, (sign) => sign.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).arrayBuffer();
}

/** @param {string} id */
async function embeddedJson(id) {
  const bytes = await embedded(id);
  return bytes && JSON.parse(new TextDecoder().decode(bytes));
}

export class Store {
  /**
   * @param {Document} data
   * @param {Columns} runs
   */
  constructor(data, runs) {
    this.data = data;
    this.runs = runs;
    /** @type {Map<number, import("./document").CellEntry>} */
    this.cells = new Map(data.cells.map((cell) => [cell.task * data.models.length + cell.model, cell]));
    /** @type {Map<number, Promise<Details[] | null>>} */
    this.chunks = new Map();
    this.first = this.#index();
  }

  static async open() {
    const [data, runs] = await Promise.all([embeddedJson("data"), embedded("runs")]);
    return new Store(data, unpack(/** @type {ArrayBuffer} */ (runs)));
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

  /**
   * Return what is behind a run; null if that is not part of the page.
   * @param {number} run
   * @returns {Promise<Details | null>}
   */
  async details(run) {
    const chunk = Math.floor(run / CHUNK);
    if (!this.chunks.has(chunk)) this.chunks.set(chunk, embeddedJson(`details-${chunk}`));
    return (await this.chunks.get(chunk))?.[run % CHUNK] ?? null;
  }

  /** @returns {Promise<string[]>} the source of each task; empty where it is not known */
  async sources() {
    return (await embeddedJson("sources")) ?? [];
  }
}
