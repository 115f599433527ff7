// One run: why it has its score.

import { fill, h } from "./dom.js";
import { count, duration, known, money, NONE, score, size, time } from "./format.js";
import { log } from "./log.js";
import { CLASSES, SIGNS } from "./states.js";

/** @typedef {import("./store.js").Store} Store */
/** @typedef {import("./document").Part} Part */
/** @typedef {import("./document").Details} Details */

const IMAGES = new Set(["image/png", "image/jpeg", "image/gif", "image/webp"]);

/**
 * @param {Store} store
 * @param {import("./main.js").Page} page
 * @param {string[]} words the names of the task and the model, and the number of the run among their runs
 */
export function run(store, page, words) {
  const task = store.data.tasks.findIndex((each) => each.name === words[0]), model = store.data.models.indexOf(words[1]);
  const runs = task >= 0 && model >= 0 ? store.runsOf(task, model) : [];
  const at = runs[Math.min(runs.length, Math.max(1, Number(words[2]) || 1)) - 1];
  if (at === undefined) return { element: h("section", null, h("h2", { id: "title" }, "Run"), h("p", null, "There is no such run.")) };
  const state = store.runs.columns.status[at];
  const near = (/** @type {number} */ step) => page.neighbor(task, model, step);
  const link = (/** @type {string} */ text, /** @type {number | null} */ to, /** @type {string} */ key) => to !== null && h("a", { href: page.runAddress(to), title: `Key ${key}` }, text);
  const body = h("div", { class: "run" }, h("p", { role: "status" }, "Reading…"));
  const element = h("section", { "aria-labelledby": "title" },
    h("p", { class: "path" }, h("a", { href: "#/matrix" }, "Matrix"), ` / ${words[0]} / ${words[1]}`),
    h("div", { class: "tools" }, h("h2", { id: "title" }, `${words[0]} · ${words[1]}`), h("span", { class: `badge ${CLASSES[state]}` }, `${SIGNS[state]} ${store.data.states[state]}`),
      runs.length > 1 && h("nav", { class: "choice", "aria-label": "Runs" }, runs.map((each) => h("a", { href: page.runAddress(each), "aria-current": each === at ? "true" : null },
        `${SIGNS[store.runs.columns.status[each]]} ${store.runs.columns.repeat[each]}${store.runs.columns.superseded[each] ? " again" : ""}`))),
      link("↑ model", near(-1), "k"), link("↓ model", near(1), "j")), body);
  Promise.all([store.source.details(at), store.source.sources()]).then(
    ([details, sources]) => fill(body, ...content(store, at, details, sources[task] ?? "")),
    (error) => fill(body, h("p", { class: "note" }, `The details cannot be read: ${error}`)),
  );
  return { element, neighbor: (/** @type {number} */ step) => { const to = near(step); if (to !== null) page.openRun(to); } };
}

/**
 * @param {Store} store
 * @param {number} at
 * @param {Details | null} details
 * @param {string} source
 */
function content(store, at, details, source) {
  const error = store.text("error", at);
  const main = details ? partsOf(details) : [error && errorCard(error), h("p", { class: "note" }, "This page has no details of runs.")];
  return [
    h("div", { class: "run-main" }, main),
    h("aside", { class: "run-side", "aria-label": "Facts" }, facts(store, at),
      details && details.files.length > 0 && h("div", { class: "card" }, h("h3", null, "Files"), h("p", { class: "path" }, details.path),
        h("ul", { class: "files" }, details.files.map((file) => h("li", null, file.name, " ", h("span", { class: "note" }, size(file.size)))))),
      source && h("details", { class: "card" }, h("summary", null, "The task's source"), h("pre", null, source))),
  ];
}

/** @param {Details} details */
function partsOf(details) {
  const several = details.parts.length > 1;
  // Failed items first: they are what one looks for.
  const bad = (/** @type {Part} */ part) => (part.error && part.state !== "scored" ? 0 : known(part.value) && part.value === 1 ? 2 : 1);
  const sorted = [...details.parts].sort((a, b) => bad(a) - bad(b));
  return [
    ...(several ? [h("div", { class: "card" }, h("h3", null, `${count(details.parts.length + details.more_parts)} items`), sorted.map(partRow),
      details.more_parts > 0 && h("p", { class: "note" }, `${count(details.more_parts)} more are in the run's files.`))] : sorted.map((part) => partBody(part))),
    details.log && h("div", { class: "card" }, h("h3", null, "Log"), log(details.log, details.log_cut)),
  ];
}

/**
 * One line for an item, which opens to what was said.
 * @param {Part} part
 */
function partRow(part) {
  const sign = part.state === "errored" ? "✗" : part.state === "scored" ? (part.value === 1 ? "✓" : part.value === 0 ? "✗" : "") : "?";
  const kind = part.state === "errored" ? "errored" : part.state === "scored" ? "" : "missing";
  const body = h("div");
  const row = h("details", { class: "part", ontoggle: () => { if (row.open && !body.firstChild) fill(body, partBody(part)); } },
    h("summary", null, h("span", { class: kind }, `${sign} ${part.item || "around the items"}`), " ",
      h("span", { class: "note" }, [part.state === "scored" ? score(part.value) : part.state, known(part.seconds) && duration(part.seconds), money(part.cost_usd)]
        .filter((text) => text && text !== NONE).join(" · "), part.error && part.state !== "scored" ? ` · ${lastLine(part.error)}` : "")), body);
  return row;
}

/** @param {Part} part */
export function partBody(part) {
  const assertions = [...(part.assertions ?? [])].sort((a, b) => Number(a.passed) - Number(b.passed));
  return h("div", null,
    part.error && errorCard(part.error),
    assertions.length > 0 && h("div", { class: "card" }, h("h3", null, `Assertions: ${assertions.filter((each) => each.passed).length} of ${assertions.length} held`),
      h("ul", { class: "assertions" }, assertions.map((each) => h("li", { class: each.passed ? "done" : "errored" },
        `${each.passed ? "✓" : "✗"} `, h("span", { class: "said" }, each.expectation || each.source),
        h("span", { class: "note" }, each.line === null ? "" : ` line ${each.line}`), !each.passed && each.expectation && each.source && h("pre", null, each.source))))),
    (part.conversations ?? []).map((talk) => h("details", { class: "card", open: true },
      h("summary", null, h("strong", null, talk.name.replace(/-[0-9a-f]{8}$/, "") || "Conversation"), " ", h("span", { class: "note" }, totals(talk.messages))),
      talk.messages.map(message))));
}

/** @param {import("./document").MessageEntry[]} messages */
function totals(messages) {
  const sum = (/** @type {"tokens_in" | "tokens_out" | "seconds" | "cost_usd"} */ name) => {
    const values = messages.map((each) => each[name]).filter(known);
    return values.length ? values.reduce((a, b) => Number(a) + Number(b), 0) : null;
  };
  const tokens = sum("tokens_in");
  return [tokens === null ? "" : `${count(tokens)} → ${count(sum("tokens_out"))} tokens`, duration(sum("seconds")), money(sum("cost_usd"))]
    .filter((text) => text && text !== NONE).join(" · ");
}

/** @param {import("./document").MessageEntry} said */
function message(said) {
  const name = ["model", "judge"].includes(said.role) ? `${said.role}${said.sender ? ` · ${said.sender}` : ""}` : said.role || "unknown";
  return h("div", { class: `message ${["model", "judge", "user", "system", "developer", "context"].includes(said.role) ? said.role : ""}` },
    h("p", { class: "note" }, name),
    said.reasoning && h("details", null, h("summary", null, "Reasoning"), h("p", { class: "said" }, said.reasoning)),
    said.text && h("p", { class: "said" }, said.text),
    (said.media ?? []).map((each) => (IMAGES.has(each.type) && each.data ? picture(each.type, each.data) : h("p", { class: "note" }, `[${each.type || "file"}${each.uri ? `: ${each.uri}` : ""}]`))),
    known(said.cut) && h("p", { class: "note" }, `${count(said.cut)} more characters are in the run file.`));
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

/** @param {string} text */
function errorCard(text) {
  const clean = text.trim();
  return h("div", { class: "card" }, h("h3", { class: "errored" }, `✗ ${lastLine(clean)}`), clean.includes("\n") && h("pre", null, clean));
}

/** @param {string} text */
function lastLine(text) {
  const named = text.trim().split("\n").reverse().find((line) => /^[A-Za-z_][\w.]*(Error|Exception|Exit|Interrupt|Timeout|Warning)\b/.test(line));
  return named ?? text.trim().split("\n").at(-1) ?? "";
}

/**
 * @param {Store} store
 * @param {number} at
 */
function facts(store, at) {
  const { columns } = store.runs;
  const waited = columns.started[at] - columns.scheduled[at];
  const rows = /** @type {[string, string][]} */ ([
    ["Result", store.text("text", at) || NONE], ["Time", duration(store.number("seconds", at))], ["Cost", money(store.number("cost", at))],
    ["Tokens", `${count(store.number("tokens_in", at))} in, ${count(store.number("tokens_out", at))} out`], ["Run", String(store.number("run_id", at) ?? NONE)],
    ["Attempt", String(columns.attempt[at])], ["Scheduled", time(store.number("scheduled", at))], ["Waited", duration(waited)], ["Started", time(store.number("started", at))],
  ]);
  return h("div", { class: "card" }, h("h3", null, "Facts"), h("dl", { class: "facts" }, rows.flatMap(([name, value]) => [h("dt", null, name), h("dd", null, value)])));
}

/**
 * The same item of two models beside each other.
 * @param {Store} store
 * @param {import("./main.js").Page} page
 * @param {string[]} words the names of the task and of two models, and the item
 */
export function sideBySide(store, page, words) {
  const [name, first, second, item] = words;
  const task = store.data.tasks.findIndex((each) => each.name === name);
  const columns = [first, second].map((model) => {
    const at = task < 0 ? undefined : store.runsOf(task, store.data.models.indexOf(model)).filter((run) => !store.runs.columns.superseded[run])[0];
    const body = h("div", null, h("p", { role: "status" }, at === undefined ? "There is no such run." : "Reading…"));
    if (at !== undefined) {
      store.source.details(at).then((details) => {
        const parts = (details?.parts ?? []).filter((part) => !item || part.item === item);
        fill(body, !details ? h("p", { class: "note" }, "This page has no details of runs.") : parts.length === 1 ? partBody(parts[0]) : parts.map(partRow));
      });
    }
    return h("div", { class: "side" }, h("h3", null, at === undefined ? model : h("a", { href: page.runAddress(at) }, model)), body);
  });
  return {
    element: h("section", { "aria-labelledby": "title" }, h("p", { class: "path" }, h("a", { href: `#/compare/${encodeURIComponent(first)}/${encodeURIComponent(second)}` }, "Compare"), ` / ${name}`),
      h("h2", { id: "title" }, item ? `${name} · ${item}` : name), h("div", { class: "sides" }, columns)),
  };
}
