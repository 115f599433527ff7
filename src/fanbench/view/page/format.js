// Numbers as people read them.

export const NONE = "–";

/** @param {number | null | undefined} value */
export function known(value) {
  return value !== null && value !== undefined && !Number.isNaN(value);
}

/**
 * @param {number | null | undefined} value
 * @param {number} [digits]
 */
export function score(value, digits = 3) {
  return known(value) ? Number(value).toFixed(digits) : NONE;
}

/** @param {number} value */
export function signed(value) {
  if (Math.abs(value) < 0.0005) return "0.000";
  return `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(3)}`;
}

/** @param {number | null | undefined} p the probability that chance alone makes such a difference */
export function probability(p) {
  return known(p) && Number(p) < 0.001 ? "<0.001" : score(p);
}

/**
 * @param {number | null | undefined} low
 * @param {number | null | undefined} high
 */
export function interval(low, high) {
  return known(low) && known(high) ? `${score(low)} – ${score(high)}` : NONE;
}

/** @param {number | null | undefined} usd */
export function money(usd) {
  const value = Number(usd ?? NaN);
  if (!Number.isFinite(value)) return NONE;
  return value >= 0.01 ? `$${value.toFixed(value < 10 ? 4 : 2)}` : `$${Number(value.toPrecision(2))}`;
}

/** @param {number | null | undefined} seconds */
export function duration(seconds) {
  if (!known(seconds)) return NONE;
  const value = Number(seconds);
  if (value < 60) return `${value.toFixed(1)} s`;
  const minutes = Math.floor(value / 60);
  const rest = String(Math.floor(value % 60)).padStart(2, "0");
  return minutes < 60 ? `${minutes} min ${rest}` : `${Math.floor(minutes / 60)} h ${String(minutes % 60).padStart(2, "0")}`;
}

/** @param {number | null | undefined} value */
export function count(value) {
  return known(value) ? Number(value).toLocaleString("en") : NONE;
}

/** @param {number} bytes */
export function size(bytes) {
  const units = ["B", "KB", "MB", "GB"];
  let value = bytes, unit = 0;
  for (; value >= 1000 && unit < 3; unit += 1) value /= 1000;
  return `${unit ? value.toFixed(1) : value} ${units[unit]}`;
}

/**
 * @param {number} number
 * @param {string} what
 */
export function many(number, what) {
  return `${count(number)} ${what}${number === 1 ? "" : "s"}`;
}

/** @param {number | null | undefined} epoch in seconds */
export function time(epoch) {
  return known(epoch) ? `${new Date(Number(epoch) * 1000).toISOString().slice(0, 19).replace("T", " ")} UTC` : NONE;
}

/**
 * Return the width of a column of names in pixels.
 * @param {string[]} names
 * @param {number} most
 */
export function nameWidth(names, most) {
  const longest = names.reduce((length, name) => Math.max(length, name.length), 0);
  return Math.round(Math.min(most, Math.max(110, 24 + 8.3 * longest)));
}
