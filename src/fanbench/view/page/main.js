// Starts the page: its header, its views and their addresses, and its keys.

import { before } from "./before.js";
import { compare } from "./compare.js";
import { cost } from "./cost.js";
import { fill, h, visible } from "./dom.js";
import { count, duration, many } from "./format.js";
import { leaderboard } from "./leaderboard.js";
import { matrix } from "./matrix.js";
import { run, sideBySide } from "./run.js";
import { runs } from "./runs.js";
import { CLASSES, SIGNS } from "./states.js";
import { Store } from "./store.js";
import { timeline } from "./timeline.js";

/**
 * A view that is shown. `update` draws it again after the data changed.
 * @typedef {{element: HTMLElement, grid?: import("./grid.js").Grid, search?: HTMLInputElement, update?: () => void,
 *   close?: () => void, neighbor?: (step: number) => void}} View
 */

/** @type {Record<string, (store: Store, page: Page, words: string[]) => View>} */
const VIEWS = { matrix, leaderboard, runs, compare, before, cost, timeline, run, side: sideBySide };
const TABS = [["matrix", "Matrix"], ["leaderboard", "Leaderboard"], ["runs", "Runs"], ["compare", "Compare"], ["before", "Before"], ["cost", "Cost"], ["timeline", "Timeline"]];
const KEYS = [["1 … 7", "the views"], ["/", "filter"], ["arrows, Enter", "move in the matrix and the runs; open a run, or sort by a column from its header"], ["j, k", "the next and the previous model, in a run"],
  ["t", "light or dark"], ["?", "this list"], ["Esc", "back from a run; out of a filter"]];

export class Page {
  /** @param {Store} store */
  constructor(store) {
    this.store = store;
    /** @type {Map<string, object>} */
    this.memory = new Map();
    this.main = h("main", { id: "main", tabindex: -1 });
    this.header = h("header");
    this.tabs = h("nav", { class: "tabs", "aria-label": "Views" });
    this.help = h("dialog", { "aria-label": "Keys" }, h("h2", null, "Keys"), h("dl", { class: "facts" }, KEYS.flatMap(([key, what]) => [h("dt", null, key), h("dd", null, what)])),
      h("button", { type: "button", onclick: () => this.help.close() }, "Close"));
    document.body.append(h("div", { class: "top" }, this.header, this.tabs), this.main, this.help);
    /** @type {View | null} */
    this.view = null;
    this.pending = false;
    /** Where Escape leads from a run: the address of the view that was shown last. */
    this.origin = "#/matrix";
    /** The address of what is shown. */
    this.address = "";
    // Where the page itself leads, it is already.
    addEventListener("hashchange", () => { if (location.hash !== this.address) this.show(); });
    addEventListener("resize", () => this.#changed());
    addEventListener("keydown", (event) => this.#key(event));
    const dark = matchMedia("(prefers-color-scheme: dark)");
    const follow = () => this.#theme(storedTheme() ?? (dark.matches ? "dark" : "light"));
    dark.addEventListener("change", follow);
    follow();
    // Paper is white.
    addEventListener("beforeprint", () => {
      document.documentElement.classList.remove("dark");
      this.view?.update?.();
      if (this.view?.grid) this.main.append(this.view.grid.printed());
    });
    addEventListener("afterprint", () => {
      this.main.querySelector(".printed")?.remove();
      follow();
    });
    this.drawHeader();
    this.show();
    store.follow(() => this.#changed());
  }

  /** Draw what changed, at most once for each frame that is shown. */
  #changed() {
    if (this.pending) return;
    this.pending = true;
    requestAnimationFrame(() => {
      this.pending = false;
      this.drawHeader();
      this.view?.update?.();
    });
  }

  /**
   * Return what a view remembers, such as its filter, as long as the page is open. `first` is what it begins with.
   * @template {object} T
   * @param {string} view
   * @param {T} first
   */
  remember(view, first) {
    if (!this.memory.has(view)) this.memory.set(view, first);
    return /** @type {T} */ (this.memory.get(view));
  }

  width() {
    return document.documentElement.clientWidth;
  }

  /** The width of what is in a view, without its margins. */
  room() {
    return Math.max(280, Math.min(1500, this.main.clientWidth) - (this.width() < 700 ? 26 : 42));
  }

  drawHeader() {
    const { data } = this.store;
    const total = data.counts.reduce((a, b) => a + b, 0);
    const bar = h("div", { class: "progress", role: "img", "aria-label": data.counts.map((number, state) => number && `${number} ${data.states[state]}`).filter(Boolean).join(", ") },
      data.counts.map((number, state) => number > 0 && share(h("span", { class: `fill ${CLASSES[state]}` }), number / total)));
    fill(this.header,
      h("div", { class: "title" }, h("h1", null, data.title), h("span", { class: `badge ${data.status}` }, data.status),
        h("span", { class: "note" }, `${many(data.tasks.length, "task")} × ${many(data.models.length, "model")}${data.repeats > 1 ? ` × ${data.repeats}` : ""}`,
          data.seconds === null ? "" : ` · ${duration(data.seconds)}`),
        h("span", { class: "buttons" },
          h("button", { type: "button", title: "Light or dark (t)", "aria-label": "Light or dark", onclick: () => this.#switchTheme() }, "◐"),
          h("button", { type: "button", title: "Keys (?)", "aria-label": "Keys", onclick: () => this.help.showModal() }, "?"))),
      bar,
      h("p", { class: "legend" }, data.counts.map((number, state) => number > 0 && h("a", { href: `#/runs/${CLASSES[state]}`, class: CLASSES[state] }, `${SIGNS[state]} ${count(number)} ${data.states[state]}`))),
      data.problems.length > 0 && h("details", { class: "note" }, h("summary", null, `${many(data.problems.length, "file")} could not be read`), data.problems.map((what) => h("p", null, what))));
  }

  /** Show the view of the address. */
  show() {
    this.address = location.hash;
    const words = location.hash.replace(/^#\//, "").split("/").map(decode);
    const name = Object.hasOwn(VIEWS, words[0]) ? words[0] : "matrix";
    this.view?.close?.();
    this.view = VIEWS[name](this.store, this, name === words[0] ? words.slice(1).filter((word, at) => word || at) : []);
    fill(this.main, this.view.element);
    const tab = name === "run" ? "matrix" : name === "side" ? "compare" : name;
    fill(this.tabs, TABS.map(([key, label]) => h("a", { href: `#/${key}`, "aria-current": key === tab ? "page" : null }, label)));
    const names = name === "run" || name === "side" ? words.slice(1, 3) : [TABS.find(([key]) => key === tab)?.[1]];
    document.title = visible([this.store.data.title, ...names].join(" · "));
    (this.view.grid?.element ?? this.main).focus({ preventScroll: true });
    this.main.scrollTop = 0;
    this.tabs.querySelector("[aria-current=page]")?.scrollIntoView({ block: "nearest", inline: "nearest" });
    if (!isDetail(this.address)) this.origin = this.address || "#/matrix";
  }

  /** @param {string} address */
  #lead(address) {
    location.hash = address;
    if (location.hash !== this.address) this.show();
  }

  /** @param {...string} words */
  go(...words) {
    this.#lead(`#/${words.map(encodeURIComponent).join("/")}`);
  }

  /**
   * Say in the address what is shown already.
   * @param {...string} words
   */
  rename(...words) {
    history.replaceState(null, "", `#/${words.map(encodeURIComponent).join("/")}`);
    this.address = location.hash;
    this.origin = this.address;
  }

  /** @param {number} at the position of the run */
  runAddress(at) {
    const { columns } = this.store.runs;
    const task = columns.task[at], model = columns.model[at];
    const words = ["run", this.store.data.tasks[task].name, this.store.data.models[model], String(this.store.runsOf(task, model).indexOf(at) + 1)];
    return `#/${words.map(encodeURIComponent).join("/")}`;
  }

  /** @param {number} at */
  openRun(at) {
    this.#lead(this.runAddress(at));
  }

  /**
   * Show a run in place of this one, so that the browser's back does not lead through all of them.
   * @param {number} at
   */
  replaceRun(at) {
    history.replaceState(null, "", this.runAddress(at));
    this.show();
  }

  /**
   * Save a file of a run. The address of the file needs the token, so the page reads it itself.
   * @param {number} at
   * @param {string} name
   */
  async save(at, name) {
    const content = await this.store.source.download?.(at, name);
    if (!content) return;
    const address = URL.createObjectURL(content);
    const link = document.createElement("a");
    link.href = address;
    link.download = name.split("/").at(-1) ?? "file";
    link.click();
    URL.revokeObjectURL(address);
  }

  /** @param {number} at */
  nameOf(at) {
    const { columns } = this.store.runs;
    const { tasks, models, repeats } = this.store.data;
    return `${tasks[columns.task[at]].name} · ${models[columns.model[at]]}${repeats > 1 ? ` #${columns.repeat[at]}` : ""}`;
  }

  /**
   * Return the last run of the task on the next model that has one; null if there is none.
   * @param {number} task
   * @param {number} model
   * @param {number} step
   */
  neighbor(task, model, step) {
    for (let at = model + step; at >= 0 && at < this.store.data.models.length; at += step) {
      const found = this.store.runsOf(task, at);
      if (found.length) return found[found.length - 1];
    }
    return null;
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    const target = event.target instanceof Element ? event.target : document.body;
    const typing = target.closest("input, select, textarea");
    if (event.key === "Escape" && typing) return (this.view?.grid?.element ?? this.main).focus();
    if (event.key === "Enter" && typing === this.view?.search) return this.view?.grid?.element.focus();
    if (typing || event.ctrlKey || event.metaKey || event.altKey || this.help.open) return undefined;
    const number = "1234567".indexOf(event.key);
    if (number >= 0) this.go(TABS[number][0]);
    else if (event.key === "/" && this.view?.search) this.view.search.focus();
    else if (event.key === "?") this.help.showModal();
    else if (event.key === "t") this.#switchTheme();
    else if (event.key === "Escape" && isDetail(this.address)) this.#lead(this.origin);
    else if ((event.key === "j" || event.key === "k") && this.view?.neighbor) this.view.neighbor(event.key === "j" ? 1 : -1);
    else return undefined;
    return event.preventDefault();
  }

  #switchTheme() {
    const name = document.documentElement.classList.contains("dark") ? "light" : "dark";
    this.#theme(name);
    try {
      localStorage.setItem("theme", name);
    } catch { /* A file may have no storage. */ }
  }

  /** @param {string} name */
  #theme(name) {
    document.documentElement.classList.toggle("dark", name === "dark");
    // Canvases have the colors that they were drawn with.
    if (this.view) this.#changed();
  }
}

/** @param {string} address whether it is that of a run, or of two beside each other */
function isDetail(address) {
  return /^#\/(run|side)\//.test(address);
}

/** The theme that was chosen; null if none was. */
function storedTheme() {
  try {
    return localStorage.getItem("theme");
  } catch {
    return null;
  }
}

/** @param {string} word */
function decode(word) {
  try {
    return decodeURIComponent(word);
  } catch {
    return word;
  }
}

/**
 * @param {HTMLElement} element
 * @param {number} part
 */
function share(element, part) {
  element.style.setProperty("flex-grow", String(part));
  return element;
}

Store.open().then((store) => new Page(store), (error) => {
  document.body.append(h("p", null, `The page cannot be shown: ${error instanceof Error ? error.message : error}.`));
});
