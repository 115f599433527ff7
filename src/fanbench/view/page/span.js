// When each run was under way, on an axis that leaves out the breaks between invocations.

/** Statuses of runs that have not ended: running, queued, scheduled. */
const OPEN = [4, 5, 6];
/** A break is left out if it lasts for this many seconds, and for this share of the time at work. */
const LONG = 300, SHARE = 0.2;
/** What is left of it, as a share of the time at work. */
const LEFT = 0.02;
/** Breaks are looked for in so many parts of the whole time. */
const PARTS = 8192;
/** What is under way is counted so many times in each part that is asked for. */
const FINE = 16;
const STEPS = [0.1, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14_400, 21_600, 43_200, 86_400];

export class Span {
  /** @param {import("./store.js").Store} store */
  constructor(store) {
    const { rows, columns } = store.runs, { data } = store, { scheduled, started, ended, status } = columns;
    const invocations = data.timeline?.invocations ?? [];
    const last = invocations.reduce((latest, one) => Math.max(latest, one.last), -Infinity);
    const now = data.status === "running" ? (data.live ? Date.now() : Date.parse(data.written)) / 1000 : last;
    /** When each run was scheduled, or began; NaN if it is not known. */
    this.begins = new Float64Array(rows);
    /** When it ended, or until when it is known to be under way. */
    this.ends = new Float64Array(rows);
    /** When it began to run. */
    this.starts = new Float64Array(rows);
    for (let run = 0; run < rows; run += 1) {
      const begin = Number.isNaN(scheduled[run]) ? started[run] : Math.min(scheduled[run], Number.isNaN(started[run]) ? Infinity : started[run]);
      const end = Number.isNaN(ended[run]) ? (OPEN.includes(status[run]) ? now : started[run]) : ended[run];
      this.begins[run] = begin;
      this.ends[run] = Number.isNaN(end) ? begin : Math.max(begin, end);
      this.starts[run] = Math.min(started[run], this.ends[run]);
    }
    const begins = [this.begins, Float64Array.from(invocations, (one) => one.began)];
    const ends = [this.ends, Float64Array.from(invocations, (one) => one.last)];
    this.first = Infinity;
    for (const values of begins) for (const value of values) if (value < this.first) this.first = value;
    this.known = Number.isFinite(this.first);
    this.last = this.first + 1;
    for (const values of ends) for (const value of values) if (value > this.last) this.last = value;
    this.breaks = this.known ? breaksOf(begins, ends, this.first, this.last) : [];
    this.length = this.at(this.last);
    /** The first attempts of the planned runs, by when they were scheduled. */
    this.order = orderOf(this.begins, this.first, columns);
  }

  /**
   * Return the place on the axis of a time, in seconds of work.
   * @param {number} epoch
   */
  at(epoch) {
    let place = epoch - this.first;
    for (const gap of this.breaks) {
      if (epoch <= gap.from) break;
      place -= Math.min(epoch - gap.from, gap.to - gap.from) * (1 - gap.width / (gap.to - gap.from));
    }
    return place;
  }

  /**
   * Return the time at a place on the axis.
   * @param {number} place
   */
  when(place) {
    let epoch = this.first + place;
    for (const gap of this.breaks) {
      if (place <= gap.at) break;
      epoch += Math.min(place - gap.at, gap.width) * ((gap.to - gap.from) / gap.width - 1);
    }
    return epoch;
  }

  /**
   * Return how many runs were under way, or were running, at most in each of several parts of the axis.
   * Nothing is sorted, so that this takes a few milliseconds for 100,000 runs.
   * @param {number} parts
   * @param {boolean} running
   */
  levels(parts, running) {
    const fine = parts * FINE, change = new Int32Array(fine + 1), most = new Uint32Array(parts);
    const part = (/** @type {number} */ epoch) => Math.min(fine - 1, Math.floor((this.at(epoch) / this.length) * fine));
    tally(change, running ? this.starts : this.begins, this.ends, part);
    let number = 0;
    for (let at = 0; at < fine; at += 1) {
      number += change[at];
      most[Math.floor(at / FINE)] = Math.max(most[Math.floor(at / FINE)], number);
    }
    return most;
  }

  /**
   * Return about `number` round places on a part of the axis.
   * @param {number} low
   * @param {number} high
   * @param {number} number
   */
  ticks(low, high, number) {
    const raw = (high - low) / number, step = STEPS.find((each) => each >= raw) ?? Math.ceil(raw / 86_400) * 86_400;
    const first = Math.ceil(low / step);
    return Array.from({ length: Math.max(0, Math.floor(high / step) - first + 1) }, (_, at) => (first + at) * step);
  }
}

/**
 * Return the first attempt of each planned run with a time. The attempts follow each other in the table of runs.
 * @param {Float64Array} begins
 * @param {number} first
 * @param {import("./columns.js").Columns["columns"]} columns
 */
function orderOf(begins, first, { task, model, repeat }) {
  const rows = begins.length, keys = new Float64Array(rows);
  let found = 0;
  for (let run = 0; run < rows; run += 1) {
    const same = run > 0 && task[run] === task[run - 1] && model[run] === model[run - 1] && repeat[run] === repeat[run - 1];
    // Numbers sort faster than objects: the millisecond, then the run.
    if (!same && !Number.isNaN(begins[run])) keys[found++] = Math.round((begins[run] - first) * 1000) * rows + run;
  }
  return Uint32Array.from(keys.subarray(0, found).sort(), (key) => key % rows);
}

/**
 * Count in how many parts of the time more begin than end: each counts from the part in which it begins to the one
 * before that in which it ends, and at least in one.
 * @param {Int32Array} change
 * @param {ArrayLike<number>} begins
 * @param {ArrayLike<number>} ends
 * @param {(epoch: number) => number} part
 */
function tally(change, begins, ends, part) {
  for (let at = 0; at < begins.length; at += 1) {
    if (Number.isNaN(begins[at])) continue;
    const from = part(begins[at]);
    change[from] += 1;
    change[Math.max(from + 1, part(ends[at]))] -= 1;
  }
}

/**
 * Return the long times in which nothing was under way, each with its place on the axis and its width there.
 * @param {ArrayLike<number>[]} begins
 * @param {ArrayLike<number>[]} ends
 * @param {number} first
 * @param {number} last
 */
function breaksOf(begins, ends, first, last) {
  const change = new Int32Array(PARTS + 1), size = (last - first) / PARTS;
  for (const [at, values] of begins.entries()) tally(change, values, ends[at], (epoch) => Math.min(PARTS - 1, Math.floor((epoch - first) / size)));
  /** @type {{from: number, to: number, at: number, width: number}[]} */
  const found = [];
  let number = 0, since = 0, work = last - first;
  for (let part = 0; part < PARTS; part += 1) {
    number += change[part];
    if (!number) continue;
    // What ended may have ended within the first part.
    const from = first + (since + 1) * size, to = first + part * size;
    if (to - from >= LONG) {
      found.push({ from, to, at: 0, width: 0 });
      work -= to - from;
    }
    since = part + 1;
  }
  const breaks = found.filter((gap) => gap.to - gap.from >= work * SHARE);
  let left = 0;
  for (const gap of breaks) {
    gap.width = work * LEFT + 1;
    gap.at = gap.from - first - left;
    left += gap.to - gap.from - gap.width;
  }
  return breaks;
}
