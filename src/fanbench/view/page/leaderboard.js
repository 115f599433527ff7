// Models by score, with what is known of how sure their order is.

import { fill, h, table } from "./dom.js";
import { intervalBar } from "./chart.js";
import { count, duration, interval, many, money, NONE, score } from "./format.js";

/** @typedef {import("./store.js").Store} Store */
/** @typedef {import("./document").Board} Board */

/** More remarks than these are folded. */
const REMARKS = 4;

/**
 * @param {Store} store
 * @param {import("./main.js").Page} page
 */
export function leaderboard(store, page) {
  const chosen = page.remember("leaderboard", { likeThese: false });
  const body = h("div");
  const draw = () => {
    const { board, board_like_these: other } = store.data;
    const shown = (chosen.likeThese && other) || board;
    fill(body,
      other && h("div", { class: "tools" }, h("div", { class: "choice", role: "group", "aria-label": "What the intervals are for" },
        [false, true].map((like) => h("button", {
          type: "button", "aria-pressed": String(like === chosen.likeThese), onclick: () => { chosen.likeThese = like; draw(); },
        }, like ? "Tasks like these" : "Exactly these tasks")))),
      shown.rows.length ? boardTable(store, shown) : h("p", null, "No model has a score yet."),
      shown.legend.map(note), shown.remarks.slice(0, REMARKS).map(note),
      shown.remarks.length > REMARKS && h("details", { class: "note" }, h("summary", null, many(shown.remarks.length - REMARKS, "more remark")),
        shown.remarks.slice(REMARKS).map(note)));
  };
  draw();
  return {
    element: h("section", { "aria-labelledby": "title" }, h("h2", { id: "title" }, "Leaderboard"),
      h("p", { class: "hint" }, "The score is the mean over tasks of the mean over items and repeats. The thick line is its 95% interval; the thin one reaches ",
        "as far as the interval would if all attempts without a score had failed, or passed. Ranks are those that chance allows."), body),
    update: draw,
  };
}

/** @param {string} sentence */
function note(sentence) {
  return h("p", { class: "note" }, sentence);
}

/**
 * @param {Store} store
 * @param {Board} board
 */
function boardTable(store, board) {
  const costs = board.rows.some((row) => row.cost_usd !== null);
  const bounds = board.rows.some((row) => row.bound_low !== null);
  const header = ["Model", "Rank#", "Score#", "0 to 1", "95% interval", "Scored#", ...(bounds ? ["If errors fail – pass"] : []),
    ...(costs ? ["Cost a run#", "Front"] : []), "Time a run#"];
  return table("Models by score", header, board.rows, (row) => [
    store.data.models[row.model],
    row.rank_low === null ? NONE : row.rank_low === row.rank_high ? String(row.rank_low) : `${row.rank_low}–${row.rank_high}`,
    h("strong", null, score(row.score)), intervalBar(row), interval(row.low, row.high),
    `${count(row.scored)}/${count(row.planned)}`,
    ...(bounds ? [interval(row.bound_low, row.bound_high)] : []),
    ...(costs ? [money(row.cost_usd), row.efficient ? "●" : ""] : []),
    duration(row.seconds),
  ]);
}
