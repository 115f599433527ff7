// A grid of any size, of which only the visible rows and columns are elements. Arrows move, Enter opens.

import { fill, h, place } from "./dom.js";

const ROW = 34;
const MARGIN = 3;

/**
 * What a grid shows. `label` is the width of the column of names, `width` that of the others.
 * @typedef {{
 *   caption: string, rows: number, columns: number, label: number, width: (column: number) => number, corner: string,
 *   rowName: (row: number) => import("./dom.js").Child, columnName: (column: number) => import("./dom.js").Child,
 *   cell: (row: number, column: number) => {class: string, text: import("./dom.js").Child, title?: string | undefined},
 *   open: (row: number, column: number) => void,
 * }} Content
 */

export class Grid {
  /** @param {Content} content */
  constructor(content) {
    this.content = content;
    /** The left edges of the columns, and the right one of the last. @type {number[]} */
    this.lefts = [];
    this.row = 0;
    this.column = 0;
    this.head = h("div", { class: "grid-head", role: "row", "aria-rowindex": 1 });
    this.body = h("div", { class: "grid-body", role: "rowgroup" });
    this.element = h("div", {
      class: "grid", role: "grid", tabindex: 0, onscroll: () => this.#later(),
      onkeydown: (/** @type {KeyboardEvent} */ event) => this.#key(event),
      onclick: (/** @type {MouseEvent} */ event) => this.#click(event),
    }, h("div", { class: "grid-rowgroup", role: "rowgroup" }, this.head), this.body);
    this.whole = false;
    this.pending = false;
    // The size of the window is known only once the grid is part of the page.
    this.observer = new ResizeObserver(() => this.draw());
    this.observer.observe(this.element);
    this.show(content);
  }

  /** @param {Content} content */
  show(content) {
    this.content = content;
    this.lefts = [content.label];
    for (let column = 0; column < content.columns; column += 1) {
      this.lefts.push(this.lefts[column] + content.width(column));
    }
    this.row = Math.max(0, Math.min(this.row, content.rows - 1));
    this.column = Math.max(0, Math.min(this.column, content.columns - 1));
    this.element.setAttribute("aria-label", content.caption);
    this.element.setAttribute("aria-rowcount", String(content.rows + 1));
    this.element.setAttribute("aria-colcount", String(content.columns + 1));
    const width = this.lefts[content.columns];
    place(this.head, { width });
    place(this.body, { width, height: content.rows * ROW });
    this.draw();
  }

  #later() {
    if (this.pending) return;
    this.pending = true;
    requestAnimationFrame(() => {
      this.pending = false;
      this.draw();
    });
  }

  /** Return the first and the last visible row, and the same of the columns. */
  #window() {
    const { rows, columns, label } = this.content;
    if (this.whole) return [0, rows, 0, columns];
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
    const { content, lefts } = this;
    const [first, last, left, right] = this.#window();
    const columns = Array.from({ length: right - left }, (_, at) => left + at);
    fill(this.head,
      place(h("div", { class: "grid-name", role: "columnheader", "aria-colindex": 1 }, content.corner), { width: content.label }),
      columns.map((column) => place(
        h("div", { class: "grid-cell", role: "columnheader", "aria-colindex": column + 2 }, content.columnName(column)),
        { left: lefts[column], width: content.width(column) })));
    const rows = [];
    for (let row = first; row < last; row += 1) {
      rows.push(place(h("div", { class: "grid-row", role: "row", "aria-rowindex": row + 2 },
        place(h("div", { class: "grid-name", role: "rowheader", "aria-colindex": 1 }, content.rowName(row)), { width: content.label }),
        columns.map((column) => this.#cell(row, column))), { top: row * ROW }));
    }
    fill(this.body, rows);
    if (content.rows && content.columns) this.element.setAttribute("aria-activedescendant", `cell-${this.row}-${this.column}`);
    else this.element.removeAttribute("aria-activedescendant");
  }

  /**
   * @param {number} row
   * @param {number} column
   */
  #cell(row, column) {
    const { content } = this;
    const cell = content.cell(row, column);
    const chosen = row === this.row && column === this.column ? " chosen" : "";
    return place(h("div", {
      class: `grid-cell ${cell.class}${chosen}`, role: "gridcell", id: `cell-${row}-${column}`,
      "aria-colindex": column + 2, title: cell.title,
    }, cell.text), { left: this.lefts[column], width: content.width(column) });
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    const page = Math.max(1, Math.floor(this.element.clientHeight / ROW) - 2);
    const { rows, columns } = this.content;
    const moves = /** @type {Record<string, [number, number]>} */ ({
      ArrowDown: [1, 0], ArrowUp: [-1, 0], ArrowRight: [0, 1], ArrowLeft: [0, -1],
      PageDown: [page, 0], PageUp: [-page, 0], Home: [0, -columns], End: [0, columns],
    });
    if (event.ctrlKey || event.metaKey || event.altKey || !rows || !columns) return;
    if (event.key === "Enter") this.content.open(this.row, this.column);
    else if (moves[event.key]) this.choose(this.row + moves[event.key][0], this.column + moves[event.key][1]);
    else return;
    event.preventDefault();
  }

  /** @param {MouseEvent} event */
  #click(event) {
    const cell = event.target instanceof Element ? event.target.closest("[role=gridcell]") : null;
    if (!cell) return;
    const [, row, column] = cell.id.split("-").map(Number);
    this.choose(row, column);
    this.content.open(row, column);
  }

  /**
   * Move to a cell, and scroll to it.
   * @param {number} row
   * @param {number} column
   */
  choose(row, column) {
    const { element, content, lefts } = this;
    this.row = Math.max(0, Math.min(content.rows - 1, row));
    this.column = Math.max(0, Math.min(content.columns - 1, column));
    const top = this.row * ROW, left = lefts[this.column], width = content.width(this.column);
    if (top < element.scrollTop) element.scrollTop = top;
    else if (top + 2 * ROW > element.scrollTop + element.clientHeight) element.scrollTop = top + 2 * ROW - element.clientHeight;
    if (left - content.label < element.scrollLeft) element.scrollLeft = left - content.label;
    else if (left + width > element.scrollLeft + element.clientWidth) element.scrollLeft = left + width - element.clientWidth;
    this.draw();
  }

  /**
   * Make elements of all rows and columns, to be printed, or of the visible ones again.
   * @param {boolean} whole
   */
  print(whole) {
    this.whole = whole && this.content.rows * this.content.columns <= 20_000;
    this.draw();
  }

  close() {
    this.observer.disconnect();
  }
}
