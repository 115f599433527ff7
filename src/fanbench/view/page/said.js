// What was said: conversations, with what tools were asked and answered.

import { h } from "./dom.js";
import { count, duration, known, money, NONE } from "./format.js";
import { colored } from "./log.js";

/** @typedef {import("./document").MessageEntry} MessageEntry */
/** @typedef {import("./document").Conversation} Conversation */
/** @typedef {import("./dom.js").Child} Child */

const IMAGES = new Set(["image/png", "image/jpeg", "image/gif", "image/webp"]);
const ROLES = new Set(["model", "judge", "user", "system", "developer", "context"]);

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
  const value = decoded(text);
  if (value === null) return h("p", { class: "said" }, text);
  return h("div", null, entries(value),
    h("details", { class: "note" }, h("summary", null, "As it was sent"), h("pre", null, text)));
}

/**
 * Return the object or the list that a text is the JSON of, be it encoded twice; null if it is none.
 * @param {string} text
 * @returns {object | null}
 */
export function decoded(text) {
  if (!/^\s*["{[]/.test(text)) return null;
  try {
    const value = JSON.parse(text);
    if (typeof value === "string") return decoded(value);
    return typeof value === "object" ? value : null;
  } catch {
    return null;
  }
}

/** @param {object} value */
function entries(value) {
  if (Array.isArray(value)) return h("pre", null, JSON.stringify(value, null, 2));
  const { name, arguments: given, ...rest } = /** @type {Record<string, unknown>} */ (value);
  // The SDK keeps a call of a tool together with its outcome.
  const call = typeof name === "string" && given !== undefined;
  const shown = Object.entries(call ? rest : value).filter(([, each]) => each !== null && each !== "");
  return h("div", null, call && h("pre", { class: "call" }, `${name}(${typeof given === "string" ? given : JSON.stringify(given)})`),
    h("dl", { class: "facts" }, shown.flatMap(([key, each]) => [h("dt", null, key), h("dd", null, field(each))])));
}

/**
 * Texts keep their lines and their colors, everything else is JSON.
 * @param {unknown} value
 */
function field(value) {
  if (typeof value !== "string") return h("code", null, JSON.stringify(value, null, 1));
  return value.includes("\n") || value.includes("\u001b") ? h("pre", null, colored(value, "")[0]) : value;
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
