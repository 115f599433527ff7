// When each run was under way, on an axis that leaves out the breaks between invocations.

/** Statuses of runs that have not ended: running, queued, scheduled. */
const OPEN = [4, 5, 6];
/** A break is left out if it lasts for this many seconds, and for this share of the time at work. */
const LONG = 300, SHARE = 0.2;
/** What is left of it, as a share of the time at work. */
const LEFT = 0.02;
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
    this.started = started;
    for (let run = 0; run < rows; run += 1) {
      const begin = Number.isNaN(scheduled[run]) ? started[run] : Math.min(scheduled[run], Number.isNaN(started[run]) ? Infinity : started[run]);
      const end = Number.isNaN(ended[run]) ? (OPEN.includes(status[run]) ? now : started[run]) : ended[run];
      this.begins[run] = begin;
      this.ends[run] = Number.isNaN(end) ? begin : Math.max(begin, end);
    }
    const begins = [...invocations.map((one) => one.began)], ends = [...invocations.map((one) => one.last)];
    const from = sorted(this.begins, begins), to = sorted(this.ends, ends);
    this.known = from.length > 0;
    this.first = from[0] ?? 0;
    this.last = Math.max(to[to.length - 1] ?? 0, this.first + 1);
    this.breaks = breaksOf(from, to);
    this.length = this.at(this.last);
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
   * @param {number} parts
   * @param {boolean} running
   */
  levels(parts, running) {
    const { begins, ends, started } = this;
    const from = sorted(running ? started.map((begin, run) => Math.min(begin, ends[run])) : begins);
    const to = sorted(running ? ends.map((end, run) => (Number.isNaN(started[run]) ? NaN : end)) : ends);
    const most = new Uint32Array(parts);
    let begun = 0, over = 0;
    for (let part = 0; part < parts; part += 1) {
      const until = part === parts - 1 ? Infinity : this.when(((part + 1) / parts) * this.length);
      most[part] = begun - over;
      while (begun < from.length && from[begun] < until) {
        while (to[over] < from[begun]) over += 1;
        begun += 1;
        most[part] = Math.max(most[part], begun - over);
      }
      while (to[over] < until) over += 1;
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
 * Return the known numbers in order.
 * @param {ArrayLike<number>} values
 * @param {number[]} [more]
 */
function sorted(values, more = []) {
  const all = new Float64Array(values.length + more.length);
  all.set(values);
  all.set(more, values.length);
  all.sort();
  // NaN comes last.
  let known = all.length;
  while (known && Number.isNaN(all[known - 1])) known -= 1;
  return all.subarray(0, known);
}

/**
 * Return the long times in which nothing was under way, each with its place on the axis and its width there.
 * @param {Float64Array} from the sorted begins of all that was under way
 * @param {Float64Array} to their sorted ends
 */
function breaksOf(from, to) {
  /** @type {{from: number, to: number, at: number, width: number}[]} */
  const found = [];
  let idle = 0;
  for (let at = 1; at < from.length; at += 1) {
    if (from[at] - to[at - 1] >= LONG) {
      found.push({ from: to[at - 1], to: from[at], at: 0, width: 0 });
      idle += from[at] - to[at - 1];
    }
  }
  const work = to[to.length - 1] - from[0] - idle;
  const breaks = found.filter((gap) => gap.to - gap.from >= work * SHARE);
  let left = 0;
  for (const gap of breaks) {
    gap.width = work * LEFT + 1;
    gap.at = gap.from - from[0] - left;
    left += gap.to - gap.from - gap.width;
  }
  return breaks;
}
