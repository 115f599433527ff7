// The data of a file: elements of it, each gzip and base64, which are unpacked when they are needed.

/** How many runs have their details in one element. */
const CHUNK = 30;

/** Return the data of this file; null if it has none. */
export function openEmbedded() {
  if (!document.getElementById("data")) return null;
  /** @type {Map<number, Promise<import("./document").Details[] | null>>} */
  const chunks = new Map();
  return {
    async snapshot() {
      const [data, runs] = await Promise.all([json("data"), bytes("runs")]);
      return { data, runs: /** @type {ArrayBuffer} */ (runs) };
    },
    /** @param {number} run */
    async details(run) {
      const chunk = Math.floor(run / CHUNK);
      if (!chunks.has(chunk)) chunks.set(chunk, json(`details-${chunk}`));
      return (await chunks.get(chunk))?.[run % CHUNK] ?? null;
    },
    /** @returns {Promise<string[]>} */
    async sources() {
      return (await json("sources")) ?? [];
    },
    /**
     * @param {number} first
     * @param {number} second
     */
    async comparison(first, second) {
      /** @type {import("./document").ComparisonEntry[]} */
      const found = (await json(`comparisons-${first}`)) ?? [];
      return found.find((each) => each.second === second) ?? null;
    },
  };
}

/**
 * Return the bytes of an element; null without such an element.
 * @param {string} id
 */
async function bytes(id) {
  const element = document.getElementById(id);
  if (!element) return null;
  const packed = atob(element.textContent ?? "");
  const content = Uint8Array.from(packed, (sign) => sign.charCodeAt(0));
  const stream = new Blob([content]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).arrayBuffer();
}

/** @param {string} id */
async function json(id) {
  const content = await bytes(id);
  return content && JSON.parse(new TextDecoder().decode(content));
}
