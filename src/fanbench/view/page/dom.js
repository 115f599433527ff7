// Elements are made of text nodes and of attributes from a list: nothing that a task or a model wrote is ever markup.

const SVG = "http://www.w3.org/2000/svg";
const SVG_NAMES = new Set(["svg", "g", "line", "rect", "circle", "path", "text", "title"]);
const ATTRIBUTES = new Set([
  "class", "id", "type", "value", "role", "tabindex", "title", "for", "colspan", "scope", "selected", "disabled", "open",
  "placeholder", "alt", "label", "x", "y", "x1", "x2", "y1", "y2", "cx", "cy", "r", "d", "width", "height", "viewBox",
  "transform", "text-anchor", "autocomplete", "spellcheck",
]);
// What moves the cursor, hides text or reverses its direction is shown by name. \n and \t stay.
const HIDDEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb]/g;

const FOCUSABLE = "a, button, select, input, summary, [tabindex]";

/** @typedef {Node | string | number | null | undefined | false} Child */
/** @typedef {SVGElementTagNameMap & Omit<HTMLElementTagNameMap, SvgName>} Elements */
/** @typedef {"svg" | "g" | "line" | "rect" | "circle" | "path" | "text" | "title"} SvgName */
/**
 * Attributes, and listeners by the names of their events.
 * @typedef {Record<string, string | number | boolean | null | undefined | ((event: never) => void)>} Attributes
 */

/**
 * Return text of which every character can be seen.
 * @param {string} text
 */
export function visible(text) {
  return text.replace(HIDDEN, (sign) => {
    const code = sign.charCodeAt(0);
    return code < 0x20 ? String.fromCharCode(0x2400 + code) : `⟨U+${code.toString(16).toUpperCase().padStart(4, "0")}⟩`;
  });
}

/**
 * Return a new element. A function is a listener of the event `on…`, `href` leads to a place on this page only.
 * @template {keyof Elements} Name
 * @param {Name} name
 * @param {Attributes | null} [attributes]
 * @param {...(Child | Child[])} children
 * @returns {Elements[Name]}
 */
export function h(name, attributes, ...children) {
  const element = SVG_NAMES.has(name) ? document.createElementNS(SVG, name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") element.addEventListener(key.slice(2), /** @type {EventListener} */ (value));
    else if (key === "href") {
      if (String(value).startsWith("#/")) element.setAttribute("href", String(value));
    } else if (ATTRIBUTES.has(key) || key.startsWith("aria-")) {
      element.setAttribute(key, value === true && !key.startsWith("aria-") ? "" : visible(String(value)));
    } else throw new Error(`The attribute ${key} is not in the list.`);
  }
  append(element, children);
  return /** @type {Elements[Name]} */ (element);
}

/**
 * @param {Node} element
 * @param {(Child | Child[])[]} children
 */
function append(element, children) {
  for (const child of children.flat()) {
    if (child === null || child === undefined || child === false) continue;
    element.appendChild(child instanceof Node ? child : document.createTextNode(visible(String(child))));
  }
}

/**
 * Return a name that is broken between its words where there is no room for it.
 * @param {string} text
 */
export function broken(text) {
  return text.split(/(?<=[_./:])(?=\w)/).flatMap((part, at) => (at ? [h("wbr"), part] : [part]));
}

/**
 * Replace what is in an element. What takes the place of the element that has the focus gets it.
 * @param {Element} element
 * @param {...(Child | Child[])} children
 */
export function fill(element, ...children) {
  const focused = [...element.querySelectorAll(FOCUSABLE)].indexOf(/** @type {Element} */ (document.activeElement));
  element.replaceChildren();
  append(element, children);
  const next = element.querySelectorAll(FOCUSABLE)[focused];
  if (next instanceof HTMLElement) next.focus({ preventScroll: true });
}

/**
 * Set the place and size of an element in pixels. A style attribute would be refused by the page's policy.
 * @param {HTMLElement} element
 * @param {Record<string, number>} sizes
 */
export function place(element, sizes) {
  for (const [name, pixels] of Object.entries(sizes)) element.style.setProperty(name, `${pixels}px`);
  return element;
}

/**
 * Return a table with a header, and one row for each entry, the first cell of which names it. Numbers are aligned to
 * the right where the column's name ends with `#`. After `limit` rows, a button shows as many more.
 * @template T
 * @param {string} caption
 * @param {string[]} header
 * @param {T[]} entries
 * @param {(entry: T) => (Child | Child[])[]} row
 * @param {number} [limit]
 */
export function table(caption, header, entries, row, limit = 150) {
  const kinds = header.map((name) => (name.endsWith("#") ? "number" : null));
  const body = h("tbody"), rest = h("button", { type: "button", class: "more", onclick: () => more() });
  const more = () => {
    const start = body.childElementCount, left = entries.length - start - limit;
    append(body, entries.slice(start, start + limit).map((entry) => h("tr", null, row(entry).map((cell, at) =>
      h(at ? "td" : "th", { class: kinds[at], scope: at ? null : "row" }, ...[cell].flat())))));
    rest.textContent = left > 0 ? `Show more (${left.toLocaleString("en")} are not shown)` : "";
    rest.hidden = left <= 0;
  };
  more();
  return h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": caption },
    h("table", null,
      h("thead", null, h("tr", null, header.map((name, at) => h("th", { scope: "col", class: kinds[at] }, name.replace(/#$/, ""))))),
      body), rest);
}
