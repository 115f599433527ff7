// The data of a server that is running: read at first, and then followed as a stream of changes.

/** Milliseconds until the next try after the server did not answer; twice as many after each further one. */
const PAUSE = 500;
const LONGEST_PAUSE = 10_000;

/** The token comes in the address, where no server sees it, and is not left there. */
function takeToken() {
  const found = /^#token=([\w-]+)$/.exec(location.hash);
  if (found) {
    sessionStorage.setItem("token", found[1]);
    history.replaceState(null, "", `${location.pathname}#/matrix`);
  }
  return sessionStorage.getItem("token") ?? "";
}

export function openServer() {
  const headers = { Authorization: `Bearer ${takeToken()}` };
  let generation = 0, version = 0;

  /** @param {string} path */
  async function get(path) {
    const response = await fetch(path, { headers, cache: "no-store" });
    if (response.status === 401) throw new Error("open the whole address that `fanbench view` printed, with its token");
    if (!response.ok) throw new Error(`${response.status} ${await response.text()}`);
    return response;
  }

  /** @param {string} path */
  const json = async (path) => (await get(path)).json();

  return {
    async snapshot() {
      const buffer = await (await get("api/snapshot")).arrayBuffer();
      const size = new DataView(buffer).getUint32(0, true);
      const head = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, size)));
      ({ generation, version } = head);
      return { data: head.document, runs: buffer.slice(Math.ceil((4 + size) / 8) * 8) };
    },
    /** @param {number} run */
    details: (run) => json(`api/details?generation=${generation}&run=${run}`),
    /**
     * @param {number} run
     * @param {number} start
     * @returns {Promise<import("./document").LogPart>}
     */
    log: (run, start) => json(`api/log?generation=${generation}&run=${run}&start=${start}`),
    /** @returns {Promise<string[]>} */
    sources: () => json(`api/sources?generation=${generation}`),
    /**
     * @param {number} first
     * @param {number} second
     */
    comparison: (first, second) => json(`api/comparison?generation=${generation}&first=${first}&second=${second}`),
    /**
     * @param {number} run
     * @param {string} name
     */
    download: async (run, name) => (await get(`api/file?generation=${generation}&run=${run}&name=${encodeURIComponent(name)}`)).blob(),
    /**
     * @param {(patch: import("./document").Patch) => void} change
     * @param {() => Promise<void>} again
     */
    async follow(change, again) {
      for (let pause = PAUSE; ; pause = Math.min(LONGEST_PAUSE, 2 * pause)) {
        try {
          for (;;) {
            const response = await get(`api/events?generation=${generation}&version=${version}`);
            pause = PAUSE;
            document.documentElement.classList.remove("waiting");
            if (!await absorb(response)) break;
            await again();
          }
        } catch { /* The server has ended, or sleeps: it is asked again. */ }
        document.documentElement.classList.add("waiting");
        await new Promise((resolve) => { setTimeout(resolve, pause); });
      }

      /**
       * Take in changes until the stream ends; return whether all must be read again.
       * @param {Response} response
       */
      async function absorb(response) {
        for await (const data of events(response)) {
          if (data.again) return true;
          version = data.version;
          change(data);
        }
        return false;
      }
    },
  };
}

/**
 * Yield the data of server-sent events.
 * @param {Response} response
 */
async function* events(response) {
  const reader = /** @type {ReadableStream<Uint8Array>} */ (response.body).pipeThrough(/** @type {TransformStream<Uint8Array, string>} */ (new TextDecoderStream())).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const parts = (rest + value).split("\n\n");
    rest = /** @type {string} */ (parts.pop());
    for (const part of parts) if (part.startsWith("data: ")) yield JSON.parse(part.slice(6));
  }
}
