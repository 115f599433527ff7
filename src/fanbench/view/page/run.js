// One run: why it has its score.

import { broken, fill, h } from "./dom.js";
import { count, duration, known, many, money, NONE, score, size, time } from "./format.js";
import { log, Log } from "./log.js";
import { besides, conversation } from "./said.js";
import { CANCELLED, CLASSES, DONE, ERRORED, MISSING, PLANNED, SIGNS } from "./states.js";

/** @typedef {import("./store.js").Store} Store */
/** @typedef {import("./document").Part} Part */
/** @typedef {import("./document").Details} Details */

/** How much of its first prompt names an item beside its own name, in characters. */
const PROMPT = 90;

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
  const over = [DONE, ERRORED, MISSING, PLANNED, CANCELLED].includes(state);
  const live = reading(store, page, body, async () => {
    const [details, sources] = await Promise.all([store.source.details(at), store.source.sources()]);
    return content(store, page, at, over ? details : details && { ...details, log: "" }, sources[task] ?? "");
  });
  live.done.then(() => { if (!over && store.source.log) followLog(store, at, body, live); });
  const seen = () => JSON.stringify([page.runAddress(at), ...["status", "text", "run_id", "started"].map((name) => store.number(name, at))]);
  const before = seen();
  return {
    element,
    neighbor: (/** @type {number} */ step) => { const to = near(step); if (to !== null) page.replaceRun(to); },
    update: () => { if (live.failed || at >= store.runs.rows || seen() !== before) page.show(); },
    close: () => { live.open = false; },
  };
}

/**
 * Fill an element with what is read, or with what went wrong: it is then read again after the next change.
 * @param {Store} store
 * @param {import("./main.js").Page} page
 * @param {Element} body
 * @param {() => Promise<import("./dom.js").Child[]>} read
 */
function reading(store, page, body, read) {
  const { data } = store, live = { open: true, failed: false, done: Promise.resolve() };
  live.done = read().then((shown) => fill(body, ...shown)).catch((error) => {
    live.failed = true;
    fill(body, h("p", { class: "note" }, `The details cannot be shown: ${error instanceof Error ? error.message : error}`));
    // All was read again meanwhile: the run may have another position.
    if (live.open && store.data !== data) page.show();
  });
  return live;
}

/**
 * Show the log of a run as it grows, until the view is closed.
 * @param {Store} store
 * @param {number} at
 * @param {Element} body
 * @param {{open: boolean}} live
 */
async function followLog(store, at, body, live) {
  const shown = new Log();
  body.querySelector(".run-main")?.append(h("div", { class: "card" }, h("h3", null, "Log ", h("span", { class: "note" }, "while it runs")), shown.element));
  for (let start = 0; live.open;) {
    try {
      const part = await /** @type {NonNullable<Store["source"]["log"]>} */ (store.source.log)(at, start);
      start = part.next;
      if (part.text) shown.add(part.text);
    } catch { /* The server is asked again. */ }
    await new Promise((resolve) => { setTimeout(resolve, 1000); });
  }
}

/**
 * @param {Store} store
 * @param {import("./main.js").Page} page
 * @param {number} at
 * @param {Details | null} details
 * @param {string} source
 */
function content(store, page, at, details, source) {
  const error = store.text("error", at);
  const main = details ? partsOf(details) : [error && errorCard(error), h("p", { class: "note" }, "This page has no details of runs.")];
  return [
    h("div", { class: "run-main" }, main),
    h("aside", { class: "run-side", "aria-label": "Facts" }, facts(store, at),
      details && details.files.length > 0 && h("div", { class: "card" }, h("h3", null, "Files"), h("p", { class: "path" }, details.path),
        h("ul", { class: "files" }, details.files.map((file) => h("li", null, store.source.download ? h("button", { type: "button", class: "link", onclick: () => page.save(at, file.name) }, broken(file.name)) : broken(file.name), " ", h("span", { class: "note" }, size(file.size)))))),
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
    details.log && h("div", { class: "card" }, h("h3", null, "Log ", h("span", { class: "note" }, details.log_cut ? "" : many(details.log.trimEnd().split("\n").length, "line"))), log(details.log, details.log_cut)),
  ];
}

/**
 * One line for an item, which opens to what was said.
 * @param {Part} part
 */
function partRow(part) {
  const kind = part.state === "errored" ? "errored" : part.state === "scored" ? "" : "missing";
  const notes = [part.state === "scored" ? score(part.value) : part.state, known(part.seconds) && duration(part.seconds), money(part.cost_usd),
    part.error && part.state !== "scored" && lastLine(part.error)].filter((text) => text && text !== NONE);
  return folded(h("span", null, h("span", { class: kind }, `${partSign(part)} ${itemName(part)}`), " ", h("span", { class: "note" }, notes.join(" · "))),
    () => partBody(part));
}

/**
 * @param {Node} summary
 * @param {() => Node} content what is made once it is opened
 */
function folded(summary, content) {
  const body = h("div");
  const row = h("details", { class: "part", ontoggle: () => { if (row.open && !body.firstChild) fill(body, content()); } }, h("summary", null, summary), body);
  return row;
}

/** @param {Part} part */
function partSign(part) {
  if (part.state !== "scored") return part.state === "errored" ? SIGNS[ERRORED] : SIGNS[MISSING];
  return part.value === 1 ? "✓" : part.value === 0 ? "✗" : "";
}

/**
 * Return the name of an item with the beginning of what the model was asked: names may be digests.
 * @param {Part | undefined} part
 */
function itemName(part) {
  const prompt = part?.conversations?.[0]?.messages.find((said) => said.role === "user")?.text?.replace(/\s+/g, " ").trim() ?? "";
  return [part?.item || "around the items", prompt.length > PROMPT ? `${prompt.slice(0, PROMPT)}…` : prompt].filter(Boolean).join("  ");
}

/** @param {Part} part */
function partBody(part) {
  return h("div", null, verdict(part), (part.conversations ?? []).map(conversation));
}

/**
 * What went wrong, and what was expected.
 * @param {Part} part
 */
function verdict(part) {
  const assertions = [...(part.assertions ?? [])].sort((a, b) => Number(a.passed) - Number(b.passed));
  return h("div", null,
    part.error && errorCard(part.error),
    assertions.length > 0 && h("div", { class: "card" }, h("h3", null, `Assertions: ${assertions.filter((each) => each.passed).length} of ${assertions.length} held`),
      h("ul", { class: "assertions" }, assertions.map((each) => h("li", { class: each.passed ? "done" : "errored" },
        `${each.passed ? "✓" : "✗"} `, h("span", { class: "said" }, each.expectation || each.source),
        h("span", { class: "note" }, each.line === null ? "" : ` line ${each.line}`), !each.passed && each.expectation && each.source && h("pre", null, each.source))))));
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
    ["Tokens", known(store.number("tokens_in", at)) ? `${count(store.number("tokens_in", at))} in, ${count(store.number("tokens_out", at))} out` : NONE], ["Run", String(store.number("run_id", at) ?? NONE)],
    ["Attempt", String(columns.attempt[at])], ["Scheduled", time(store.number("scheduled", at))], ["Waited", duration(waited)], ["Started", time(store.number("started", at))],
  ]);
  return h("div", { class: "card" }, h("h3", null, "Facts"), h("dl", { class: "facts" }, rows.filter(([, value]) => value !== NONE).flatMap(([name, value]) => [h("dt", null, name), h("dd", null, value)])));
}

/**
 * The same items of two models beside each other.
 * @param {Store} store
 * @param {import("./main.js").Page} page
 * @param {string[]} words the names of the task and of two models, and the item
 */
export function sideBySide(store, page, words) {
  const [name, first, second, item] = words;
  const task = store.data.tasks.findIndex((each) => each.name === name);
  const runs = [first, second].map((model) => {
    const at = store.data.models.indexOf(model);
    return task < 0 || at < 0 ? undefined : store.runsOf(task, at).find((run) => !store.runs.columns.superseded[run]);
  });
  const body = h("div", null, h("p", { role: "status" }, "Reading…"));
  const live = reading(store, page, body, async () => {
    const found = await Promise.all(runs.map((at) => (at === undefined ? null : store.source.details(at))));
    return pairs(found.map((details) => details?.parts ?? []), item ?? "");
  });
  return {
    element: h("section", { "aria-labelledby": "title" },
      h("p", { class: "path" }, h("a", { href: `#/compare/${encodeURIComponent(first ?? "")}/${encodeURIComponent(second ?? "")}` }, "Compare"), ` / ${name}`),
      h("h2", { id: "title" }, item ? `${name} · ${item}` : name ?? ""),
      h("div", { class: "sides" }, [first, second].map((model, side) => {
        const at = runs[side];
        return h("h3", null, at === undefined ? `${model}: there is no such run` : h("a", { href: page.runAddress(at) }, model),
          at !== undefined && h("span", { class: "note" }, ` ${store.text("text", at)}`));
      })), body),
    update: () => { if (live.failed) page.show(); },
    close: () => { live.open = false; },
  };
}

/**
 * @param {Part[][]} sides the parts of either run
 * @param {string} item the only item to show; all without it
 */
function pairs(sides, item) {
  const names = new Set(sides.flat().map((part) => part.item ?? ""));
  const found = [...names].filter((name) => !item || name === item).map((name) => sides.map((parts) => parts.find((part) => (part.item ?? "") === name)));
  if (!found.length) return [h("p", { class: "note" }, "This page has no details of these runs.")];
  if (found.length === 1) return [pairBody(found[0])];
  return found.map((pair) => folded(h("span", null, pair.map((part) => part && [partSign(part), part.value === undefined ? "" : score(part.value)].filter(Boolean).join(" ") || NONE).join(" | "), ` ${itemName(pair[0] ?? pair[1])}`),
    () => pairBody(pair)));
}

/** @param {(Part | undefined)[]} pair */
function pairBody([first, second]) {
  return h("div", null, h("div", { class: "sides" }, [first, second].map((part) => h("div", null, part && verdict(part)))),
    besides(first?.conversations ?? [], second?.conversations ?? []));
}
