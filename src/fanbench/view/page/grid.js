// A grid of any size, of which only the visible rows and columns are elements. Arrows move, Enter opens or sorts.

import { broken, fill, h, place, table } from "./dom.js";

/** @typedef {import("./dom.js").Child} Child */

const ROW = 34;
const MARGIN = 3;
/** How many columns fit on a sheet of paper, and how many cells are printed at most. */
const PRINTED_COLUMNS = 6;
const PRINTED_CELLS = 50_000;

/**
 * What a grid shows. `label` is the width of the column of names, `width` that of the others. `describe` says all of a
 * cell. `right` is whether
 * a column has numbers. `order` is the direction in which rows are sorted by a column; -1 is the column of names.
 * @typedef {{
 *   caption: string, rows: number, columns: number, label: number, width: (column: number) => number, corner: string,
 *   rowName: (row: number) => string, columnName: (column: number) => string, right?: (column: number) => boolean,
 *   cell: (row: number, column: number) => {class: string, text: Child | Child[]},
 *   describe: (row: number, column: number) => string,
 *   open: (row: number, column: number) => void,
 *   order: (column: number) => "ascending" | "descending" | null, sort: (column: number) => void,
 * }} Content
 */

/** Where a grid was left: its chosen cell (the row -1 is the header) and how far it was scrolled. */
export const START = { row: 0, column: 0, top: 0, left: 0 };

export class Grid {
  /**
   * @param {Content} content
   * @param {typeof START} at where it was left, which it keeps up to date
   */
  constructor(content, at) {
    this.content = content;
    this.at = at;
    /** The left edges of the columns, and the right one of the last. @type {number[]} */
    this.lefts = [];
    this.head = h("div", { class: "grid-head", role: "row", "aria-rowindex": 1 });
    this.body = h("div", { class: "grid-body", role: "rowgroup" });
    this.status = h("p", { class: "legend described", role: "status" });
    this.element = h("div", {
      class: "grid", role: "grid", tabindex: 0, onscroll: () => this.#later(),
      onkeydown: (/** @type {KeyboardEvent} */ event) => this.#key(event),
      onclick: (/** @type {MouseEvent} */ event) => this.#click(event),
      onmouseover: (/** @type {MouseEvent} */ event) => this.#describe(cellAt(event)),
      onfocus: () => this.#describe(this.at),
    }, h("div", { class: "grid-rowgroup", role: "rowgroup" }, this.head), this.body);
    this.pending = false;
    // The size of the window is known only once the grid is part of the page: it is scrolled to where it was then.
    let begun = false;
    this.observer = new ResizeObserver(() => {
      this.draw();
      if (!begun) this.element.scrollTo(at.left, at.top);
      begun = true;
    });
    this.observer.observe(this.element);
    this.show(content);
  }

  /** @param {Content} content */
  show(content) {
    this.content = content;
    this.lefts = [content.label];
    for (let column = 0; column < content.columns; column += 1) this.lefts.push(this.lefts[column] + content.width(column));
    this.#limit();
    this.element.setAttribute("aria-label", content.caption);
    this.element.setAttribute("aria-rowcount", String(content.rows + 1));
    this.element.setAttribute("aria-colcount", String(content.columns + 1));
    const width = this.lefts[content.columns];
    place(this.head, { width });
    place(this.body, { width, height: content.rows * ROW });
    this.draw();
  }

  /** Keep the chosen cell inside the grid. */
  #limit() {
    const { rows, columns } = this.content;
    this.at.row = Math.max(-1, Math.min(this.at.row, Math.max(0, rows - 1)));
    this.at.column = Math.max(this.at.row < 0 ? -1 : 0, Math.min(this.at.column, columns - 1));
  }

  #later() {
    if (this.pending) return;
    this.pending = true;
    requestAnimationFrame(() => {
      this.pending = false;
      this.at.top = this.element.scrollTop;
      this.at.left = this.element.scrollLeft;
      this.draw();
    });
  }

  /** Return the first and the last visible row, and the same of the columns. */
  #window() {
    const { rows, columns, label } = this.content;
    const { scrollTop, scrollLeft, clientHeight, clientWidth } = this.element;
    const first = Math.max(0, Math.floor(scrollTop / ROW) - MARGIN);
    const last = Math.min(rows, Math.ceil((scrollTop + clientHeight) / ROW) + MARGIN);
    let left = 0;
    while (left < columns && this.lefts[left + 1] < scrollLeft + label) left += 1;
    let right = left;
    while (right < columns && this.lefts[right] < scrollLeft + clientWidth) right += 1;
    return [first, last, left, right];
  }

  draw() {
    const { content } = this;
    const [first, last, left, right] = this.#window();
    const columns = Array.from({ length: right - left }, (_, at) => left + at);
    fill(this.head, this.#heading(-1), columns.map((column) => this.#heading(column)));
    const rows = [];
    for (let row = first; row < last; row += 1) {
      rows.push(place(h("div", { class: "grid-row", role: "row", "aria-rowindex": row + 2 },
        place(h("div", { class: "grid-name", role: "rowheader", "aria-colindex": 1, title: content.rowName(row) }, h("span", null, broken(content.rowName(row)))), { width: content.label }),
        columns.map((column) => this.#cell(row, column))), { top: row * ROW }));
    }
    fill(this.body, rows);
    const chosen = document.getElementById(cellId(this.at.row, this.at.column));
    if (chosen) this.element.setAttribute("aria-activedescendant", chosen.id);
    else this.element.removeAttribute("aria-activedescendant");
  }

  /** @param {number} column */
  #heading(column) {
    const { content } = this, corner = column < 0;
    const text = corner ? content.corner : content.columnName(column), order = content.order(column);
    return place(h("div", {
      class: `${corner ? "grid-name" : "grid-cell"}${content.right?.(column) ? " number" : ""}${this.#chosen(-1, column)}`, role: "columnheader", id: cellId(-1, column),
      "aria-colindex": column + 2, "aria-sort": order ?? "none", title: `${text}: sort by it`,
    }, h("span", null, broken(text)), order && h("span", { "aria-hidden": "true" }, order === "ascending" ? " ▲" : " ▼")),
    corner ? { width: content.label } : { left: this.lefts[column], width: content.width(column) });
  }

  /**
   * @param {number} row
   * @param {number} column
   */
  #cell(row, column) {
    const cell = this.content.cell(row, column);
    return place(h("div", {
      class: `grid-cell ${cell.class}${this.#chosen(row, column)}`, role: "gridcell", id: cellId(row, column), "aria-colindex": column + 2,
    }, ...[cell.text].flat()), { left: this.lefts[column], width: this.content.width(column) });
  }

  /**
   * @param {number} row
   * @param {number} column
   */
  #chosen(row, column) {
    return row === this.at.row && column === this.at.column ? " chosen" : "";
  }

  /** @param {{row: number, column: number} | null} at */
  #describe(at) {
    if (!at || !this.content.rows || !this.content.columns) return;
    fill(this.status, at.row < 0 ? "Enter or a click sorts by this column." : this.content.describe(at.row, at.column));
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    const page = Math.max(1, Math.floor(this.element.clientHeight / ROW) - 2);
    const { columns } = this.content, { row, column } = this.at;
    const moves = /** @type {Record<string, [number, number]>} */ ({
      ArrowDown: [1, 0], ArrowUp: [-1, 0], ArrowRight: [0, 1], ArrowLeft: [0, -1],
      PageDown: [page, 0], PageUp: [-page, 0], Home: [0, -columns], End: [0, columns],
    });
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Enter") this.#open(row, column);
    else if (moves[event.key]) this.choose(row + moves[event.key][0], column + moves[event.key][1]);
    else return;
    event.preventDefault();
  }

  /** @param {MouseEvent} event */
  #click(event) {
    const at = cellAt(event);
    if (!at) return;
    this.choose(at.row, at.column);
    this.#open(at.row, at.column);
  }

  /**
   * @param {number} row
   * @param {number} column
   */
  #open(row, column) {
    if (row < 0) this.content.sort(column);
    else if (row < this.content.rows && column < this.content.columns) this.content.open(row, column);
  }

  /**
   * Move to a cell, and scroll to it.
   * @param {number} row
   * @param {number} column
   */
  choose(row, column) {
    const { element, content, at, lefts } = this;
    Object.assign(at, { row, column });
    this.#limit();
    const head = this.head.offsetHeight, top = at.row * ROW;
    if (top < element.scrollTop) element.scrollTop = Math.max(0, top);
    else if (top + ROW + head > element.scrollTop + element.clientHeight) element.scrollTop = top + ROW + head - element.clientHeight;
    if (at.column >= 0) {
      const left = lefts[at.column], right = lefts[at.column + 1];
      if (left - content.label < element.scrollLeft) element.scrollLeft = left - content.label;
      else if (right > element.scrollLeft + element.clientWidth) element.scrollLeft = right - element.clientWidth;
    }
    this.draw();
    this.#describe(at);
  }

  /** Return all of it as tables that fit on paper. */
  printed() {
    const { content } = this, { columns } = content;
    const rows = Array.from({ length: Math.min(content.rows, Math.floor(PRINTED_CELLS / Math.max(1, columns))) }, (_, row) => row);
    const starts = Array.from({ length: Math.ceil(columns / PRINTED_COLUMNS) }, (_, at) => at * PRINTED_COLUMNS);
    return h("div", { class: "printed" }, starts.map((start) => {
      const shown = Array.from({ length: Math.min(PRINTED_COLUMNS, columns - start) }, (_, at) => start + at);
      return table(content.caption, [content.corner, ...shown.map(content.columnName)], rows,
        (row) => [content.rowName(row), ...shown.map((column) => content.cell(row, column).text)], Infinity);
    }), rows.length < content.rows && h("p", null, "The rows after these are not printed."));
  }

  close() {
    this.observer.disconnect();
  }
}

/**
 * @param {number} row
 * @param {number} column
 */
function cellId(row, column) {
  return `cell_${row}_${column}`;
}

/**
 * Return the row and the column of the cell that an event is about.
 * @param {Event} event
 */
function cellAt(event) {
  const cell = event.target instanceof Element ? event.target.closest("[id^=cell_]") : null;
  if (!cell) return null;
  const [, row, column] = cell.id.split("_").map(Number);
  return { row, column };
}
