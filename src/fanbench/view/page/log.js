// A log with its colors. Everything else that acts on a terminal is shown by name, or dropped.

import { h } from "./dom.js";
import { count } from "./format.js";

const OSC = /\u001b\][^\u0007\u001b]*(?:\u0007|\u001b\\)/g;
const ESCAPE = /\u001b\[([0-9;:]*)([A-Za-z])/g;
const COLORS = ["black", "red", "green", "yellow", "blue", "magenta", "cyan", "white"];

/**
 * Return the lines of a log as elements. A log that was cut has a NUL where its middle is left out.
 * @param {string} text
 * @param {number} cut the number of bytes that are left out
 */
export function log(text, cut) {
  const lines = text.replace(OSC, "").replace(/\r\n/g, "\n").replace(/\n$/, "").split("\n");
  let style = "";
  let number = 0;
  return h("div", { class: "log scroll", tabindex: 0, role: "region", "aria-label": "Log" },
    h("div", { class: "log-lines" }, lines.map((line) => {
      if (line === "\0") return h("div", { class: "note" }, `… ${count(cut)} bytes are left out …`);
      number += 1;
      const [spans, after] = colored(line, style);
      style = after;
      return h("div", { class: "log-line" }, h("span", { class: "log-number", "aria-hidden": "true" }, number), h("span", null, spans));
    })));
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
