// The states of runs: each has a sign and a color, as in the terminal. Their order is that of document.py.

export const SIGNS = ["✓", "✗", "?", "◆", "●", "○", "○", "·", "⊘"];
export const CLASSES = ["done", "errored", "missing", "collecting", "running", "queued", "scheduled", "planned", "cancelled"];
export const DONE = 0;
export const ERRORED = 1;
export const MISSING = 2;
export const PLANNED = 7;
export const CANCELLED = 8;

/**
 * The state that stands for several: what is worst, or most active, comes first.
 * @param {number[]} states
 */
export function worst(states) {
  return [ERRORED, MISSING, 4, 3, 5, 6, PLANNED, CANCELLED, DONE].find((state) => states.includes(state)) ?? PLANNED;
}
