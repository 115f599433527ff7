// A log with its colors. Everything else that acts on a terminal is shown by name, or dropped.

import { fill, h } from "./dom.js";
import { count, many } from "./format.js";

const OSC = /\u001b\][^\u0007\u001b\n]*(?:\u0007|\u001b\\)/g;
const ESCAPE = /\u001b\[([0-9;:]*)([A-Za-z])/g;
const COLORS = ["black", "red", "green", "yellow", "blue", "magenta", "cyan", "white"];

/** So many lines of a log are shown, the newest of them. */
const MOST = 5_000;
/** So many colors of a line are shown; the rest of it has the last one. */
const MOST_SPANS = 200;

export class Log {
  /** @param {number} [cut] the number of bytes that are left out, where the text has a NUL in a line of its own */
  constructor(cut = 0) {
    this.cut = cut;
    this.style = "";
    this.number = 0;
    /** What is no longer shown: the number of lines, and whether the bytes that are left out are among them. */
    this.earlier = 0;
    this.overGap = false;
    this.note = h("p", { class: "note" });
    this.lines = h("div", { class: "log-lines" });
    this.element = h("div", { class: "log scroll", tabindex: 0, role: "region", "aria-label": "Log" }, this.note, this.lines);
  }

  /**
   * Add whole lines. What is read at its end stays there.
   * @param {string} text
   */
  add(text) {
    const { element, lines } = this;
    const follows = element.scrollTop + element.clientHeight >= element.scrollHeight - 4;
    const added = text.replace(OSC, "").replace(/\r\n/g, "\n").replace(/\n$/, "").split("\n");
    const skipped = Math.max(0, added.length - MOST);
    for (const line of added.slice(0, skipped)) this.#skip(line);
    const shown = document.createDocumentFragment();
    for (const line of added.slice(skipped)) shown.append(this.#line(line));
    lines.append(shown);
    while (lines.childElementCount > MOST) this.#drop();
    if (this.earlier) fill(this.note, `${many(this.earlier, "earlier line")}${this.overGap ? `, and ${count(this.cut)} bytes between them,` : ""} ${this.earlier === 1 ? "is" : "are"} not shown.`);
    if (follows) element.scrollTop = element.scrollHeight;
  }

  /** @param {string} line */
  #isGap(line) {
    return this.cut > 0 && line === "\0";
  }

  /** @param {string} line a line that is not shown */
  #skip(line) {
    if (this.#isGap(line)) {
      this.overGap = true;
      this.number = NaN;
    } else {
      this.number += 1;
      this.earlier += 1;
    }
  }

  /** Remove the first line that is shown. */
  #drop() {
    const first = this.lines.firstElementChild;
    if (first?.className === "log-line") this.earlier += 1;
    else this.overGap = true;
    first?.remove();
  }

  /** @param {string} line */
  #line(line) {
    if (this.#isGap(line)) {
      // How many lines were in it is not known.
      this.number = NaN;
      return h("div", { class: "note" }, `… ${count(this.cut)} bytes are left out …`);
    }
    this.number += 1;
    const [parts, after] = colored(line, this.style);
    this.style = after;
    return h("div", { class: "log-line" }, h("span", { class: "log-number", "aria-hidden": "true" }, this.number || ""), h("span", null, parts));
  }
}

/**
 * Return the lines of a log as an element.
 * @param {string} text
 * @param {number} cut the number of bytes that are left out
 */
export function log(text, cut) {
  const found = new Log(cut);
  found.add(text);
  return found.element;
}

/**
 * Return the parts of a line, each with its color, and the color at its end.
 * @param {string} line
 * @param {string} style
 * @returns {[Node[], string]}
 */
export function colored(line, style) {
  const parts = /** @type {Node[]} */ ([]);
  let start = 0, rest = "";
  const add = (/** @type {string} */ text) => {
    if (parts.length >= MOST_SPANS) rest += text;
    else if (text) parts.push(h("span", { class: style || null }, text));
  };
  for (const match of line.matchAll(ESCAPE)) {
    add(line.slice(start, match.index));
    start = match.index + match[0].length;
    if (match[2] === "m") style = styleAfter(style, match[1]);
  }
  add(line.slice(start));
  if (rest) parts.push(h("span", { class: style || null }, rest));
  return [parts, style];
}

/**
 * @param {string} style
 * @param {string} codes
 */
function styleAfter(style, codes) {
  let names = new Set(style.split(" ").filter(Boolean));
  const numbers = codes.split(/[;:]/).map(Number);
  for (let at = 0; at < numbers.length; at += 1) {
    const code = numbers[at];
    if (code === 0) names = new Set();
    else if (code === 1) names.add("bold");
    else if (code === 22) names.delete("bold");
    else if (code === 38 || code === 48) at += numbers[at + 1] === 5 ? 2 : 4;
    else if ((code >= 30 && code <= 37) || (code >= 90 && code <= 97) || code === 39) {
      names = new Set([...names].filter((name) => !name.startsWith("ink-")));
      if (code !== 39) names.add(`ink-${COLORS[code % 10]}`);
    }
  }
  return [...names].join(" ");
}
