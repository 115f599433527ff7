// What was said: conversations, with what tools were asked and answered.

import { h } from "./dom.js";
import { count, duration, known, money, NONE } from "./format.js";
import { colored } from "./log.js";

/** @typedef {import("./document").MessageEntry} MessageEntry */
/** @typedef {import("./document").Conversation} Conversation */
/** @typedef {import("./dom.js").Child} Child */

const IMAGES = new Set(["image/png", "image/jpeg", "image/gif", "image/webp"]);
const ROLES = new Set(["model", "judge", "user", "system", "developer", "context"]);

/** The tokens of JSON, which is known to be valid. */
const TOKEN = /"(?:[^"\\]+|\\.)*"|[{}[\],:]|[^\s{}[\],:"]+/g;
const STEP = /** @type {Record<string, number>} */ ({ "{": 1, "[": 1, "}": -1, "]": -1 });
/** JSON that is nested more deeply is shown as it is: its indentation would fill the page. */
const DEEPEST = 100;

/** @param {Conversation} talk */
export function conversation(talk) {
  return h("details", { class: "card", open: true }, h("summary", null, conversationName(talk)), talk.messages.map(message));
}

/** @param {Conversation} talk */
function conversationName(talk) {
  return h("span", null, h("strong", null, talk.name.replace(/-[0-9a-f]{8}$/, "") || "Conversation"), " ", h("span", { class: "note" }, totals(talk.messages)));
}

/** @param {MessageEntry[]} messages */
function totals(messages) {
  const sum = (/** @type {"tokens_in" | "tokens_out" | "seconds" | "cost_usd"} */ name) => {
    const values = messages.map((each) => each[name]).filter(known);
    return values.length ? values.reduce((a, b) => Number(a) + Number(b), 0) : null;
  };
  const tokens = sum("tokens_in");
  return [tokens === null ? "" : `${count(tokens)} → ${count(sum("tokens_out"))} tokens`, duration(sum("seconds")), money(sum("cost_usd"))]
    .filter((text) => text && text !== NONE).join(" · ");
}

/** @param {MessageEntry} said */
export function message(said) {
  const tool = said.role === "context" ? "tool" : said.role || "unknown";
  const name = said.sender && said.role !== "user" && said.sender.toLowerCase() !== tool ? `${tool} · ${said.sender}` : tool;
  return h("div", { class: `message ${ROLES.has(said.role) ? said.role : ""}` },
    h("p", { class: "note" }, name),
    said.reasoning && h("details", null, h("summary", null, "Reasoning"), h("p", { class: "said" }, said.reasoning)),
    said.text && content(said.text),
    (said.media ?? []).map((each) => (IMAGES.has(each.type) && each.data ? picture(each.type, each.data) : h("p", { class: "note" }, `[${each.type || "file"}${each.uri ? `: ${each.uri}` : ""}]`))),
    known(said.cut) && h("p", { class: "note" }, `${count(said.cut)} more characters are in the run file.`));
}

/**
 * Return the text of a message. What is JSON, once or twice, is laid out; the text as it was is one click away.
 * @param {string} text
 */
function content(text) {
  const tokens = decoded(text)?.match(TOKEN);
  if (!tokens || deepest(tokens) > DEEPEST) return h("p", { class: "said" }, text);
  return h("div", null, entries(tokens),
    h("details", { class: "note" }, h("summary", null, "As it was sent"), h("pre", null, text)));
}

/**
 * Return the JSON of the object or the list that a text is, be it encoded twice; null if it is none.
 * @param {string} text
 * @returns {string | null}
 */
function decoded(text) {
  if (!/^\s*["{[]/.test(text)) return null;
  try {
    const value = JSON.parse(text);
    return typeof value === "string" ? decoded(value) : text;
  } catch {
    return null;
  }
}

/** @param {string[]} tokens */
function deepest(tokens) {
  let depth = 0, most = 0;
  for (const token of tokens) {
    depth += STEP[token] ?? 0;
    most = Math.max(most, depth);
  }
  return most;
}

/** @param {string[]} tokens those of an object or a list */
function entries(tokens) {
  if (tokens[0] === "[" || tokens.length === 2) return h("pre", null, laidOut(tokens));
  const members = membersOf(tokens);
  const name = members.find(([key]) => key === "name")?.[1], given = members.find(([key]) => key === "arguments")?.[1];
  // The SDK keeps a call of a tool together with its outcome.
  const call = name?.[0].startsWith('"') && given ? { name, given } : null;
  const shown = call ? members.filter(([, value]) => value !== call.name && value !== call.given) : members;
  return h("div", null, call && h("pre", { class: "call" }, `${JSON.parse(call.name[0])}(${call.given[0].startsWith('"') ? JSON.parse(call.given[0]) : call.given.join("")})`),
    h("dl", { class: "facts" }, shown.flatMap(([key, value]) => [h("dt", null, key), h("dd", null, field(value))])));
}

/**
 * Return the keys of an object and the tokens of their values.
 * @param {string[]} tokens
 */
function membersOf(tokens) {
  const members = /** @type {[string, string[]][]} */ ([]);
  let depth = 0, start = 1;
  tokens.forEach((token, at) => {
    depth += STEP[token] ?? 0;
    if (depth > 1 || (token !== "," && depth > 0)) return;
    members.push([JSON.parse(tokens[start]), tokens.slice(start + 2, at)]);
    start = at + 1;
  });
  return members;
}

/**
 * Texts keep their lines and their colors, everything else is JSON.
 * @param {string[]} tokens
 */
function field(tokens) {
  if (!tokens[0].startsWith('"')) return h(tokens.length > 2 ? "pre" : "code", null, laidOut(tokens));
  const text = JSON.parse(tokens[0]);
  return text.includes("\n") || text.includes("\u001b") ? h("pre", null, colored(text, "")[0]) : text;
}

/**
 * Return JSON with a line for each value. Its own tokens are kept: numbers and keys would not survive being read.
 * @param {string[]} tokens
 */
function laidOut(tokens) {
  let depth = 0;
  return tokens.map((token, at) => {
    const step = STEP[token] ?? 0, empty = step < 0 && STEP[tokens[at - 1]] === 1;
    depth += step;
    const line = `\n${"  ".repeat(depth)}`;
    if (step < 0) return empty ? token : line + token;
    if (token === ",") return token + line;
    if (token === ":") return ": ";
    return step > 0 && STEP[tokens[at + 1]] !== -1 ? token + line : token;
  }).join("");
}

/**
 * A picture is drawn from its own bytes: nothing is requested.
 * @param {string} type
 * @param {string} data
 */
function picture(type, data) {
  const image = h("img", { alt: `An image of the conversation (${type})`, class: "picture" });
  if (/^[A-Za-z0-9+/=]+$/.test(data)) image.src = `data:${type};base64,${data}`;
  return image;
}

/**
 * Return the conversations of two sides message by message beside each other; what both have is there once.
 * @param {Conversation[]} first
 * @param {Conversation[]} second
 */
export function besides(first, second) {
  const number = Math.max(first.length, second.length);
  return Array.from({ length: number }, (_, at) => {
    const talks = [first[at], second[at]];
    const messages = Math.max(...talks.map((talk) => talk?.messages.length ?? 0));
    return h("div", { class: "card sides" }, talks.map((talk) => h("p", null, talk && conversationName(talk))),
      Array.from({ length: messages }).flatMap((_, step) => {
        const [a, b] = talks.map((talk) => talk?.messages[step]);
        if (a && b && a.role === b.role && a.text && a.text === b.text && a.role !== "model") return [h("div", { class: "both" }, message(a))];
        return [a, b].map((said) => h("div", null, said && message(said)));
      }));
  });
}
