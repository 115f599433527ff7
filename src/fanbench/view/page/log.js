// A log with its colors. Everything else that acts on a terminal is shown by name, or dropped.

import { h } from "./dom.js";
import { count } from "./format.js";

const OSC = /\u001b\][^\u0007\u001b]*(?:\u0007|\u001b\\)/g;
const ESCAPE = /\u001b\[([0-9;:]*)([A-Za-z])/g;
const COLORS = ["black", "red", "green", "yellow", "blue", "magenta", "cyan", "white"];

/** So many lines of a log are shown while it grows, the newest of them. */
const MOST = 20_000;

export class Log {
  /** @param {number} [cut] the number of bytes that are left out, where the text has a NUL */
  constructor(cut = 0) {
    this.cut = cut;
    this.style = "";
    this.number = 0;
    this.lines = h("div", { class: "log-lines" });
    this.element = h("div", { class: "log scroll", tabindex: 0, role: "region", "aria-label": "Log" }, this.lines);
  }

  /**
   * Add whole lines. What is read at its end stays there.
   * @param {string} text
   */
  add(text) {
    const { element, lines } = this;
    const follows = element.scrollTop + element.clientHeight >= element.scrollHeight - 4;
    const added = document.createDocumentFragment();
    for (const line of text.replace(OSC, "").replace(/\r\n/g, "\n").replace(/\n$/, "").split("\n")) added.append(this.#line(line));
    lines.append(added);
    while (lines.childElementCount > MOST) lines.firstChild?.remove();
    if (follows) element.scrollTop = element.scrollHeight;
  }

  /** @param {string} line */
  #line(line) {
    if (line === "\0") return h("div", { class: "note" }, `… ${count(this.cut)} bytes are left out …`);
    this.number += 1;
    const [spans, after] = colored(line, this.style);
    this.style = after;
    return h("div", { class: "log-line" }, h("span", { class: "log-number", "aria-hidden": "true" }, this.number), h("span", null, spans));
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
  const parts = [];
  let start = 0;
  for (const match of line.matchAll(ESCAPE)) {
    if (match.index > start) parts.push(h("span", { class: style || null }, line.slice(start, match.index)));
    start = match.index + match[0].length;
    if (match[2] === "m") style = styleAfter(style, match[1]);
  }
  if (start < line.length) parts.push(h("span", { class: style || null }, line.slice(start)));
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
