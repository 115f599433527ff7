// The data of a server that is running: read at first, and then followed as a stream of changes.

/** Milliseconds until the next try after the server did not answer; twice as many after each further one. */
const PAUSE = 500;
const LONGEST_PAUSE = 10_000;

/** Milliseconds in which another tab of this page answers. */
const ANSWER = 300;

/** The token comes in the address, where no server sees it, and is not left there. What follows it is a view. */
function takeToken() {
  const found = /^#token=([\w-]+)(?:&(\/.*))?$/.exec(location.hash);
  if (!found) return false;
  sessionStorage.setItem("token", found[1]);
  history.replaceState(null, "", `${location.pathname}#${found[2] ?? "/matrix"}`);
  return true;
}

/**
 * Return the token of the address or of this tab, or that of another tab: a link that is opened in a new one has none.
 * Only pages of this very server can ask and answer.
 */
async function findToken() {
  takeToken();
  const channel = new BroadcastChannel("token");
  if (!sessionStorage.getItem("token")) {
    const found = await new Promise((resolve) => {
      channel.onmessage = ({ data }) => { if (data) resolve(data); };
      channel.postMessage("");
      setTimeout(() => resolve(""), ANSWER);
    });
    if (found) sessionStorage.setItem("token", found);
  }
  channel.onmessage = ({ data }) => {
    const token = sessionStorage.getItem("token");
    if (!data && token) channel.postMessage(token);
  };
  return sessionStorage.getItem("token") ?? "";
}

/** Return once the page can be seen. */
async function seen() {
  while (document.hidden) await new Promise((resolve) => { document.addEventListener("visibilitychange", resolve, { once: true }); });
}

export async function openServer() {
  const headers = { Authorization: `Bearer ${await findToken()}` };
  // A new token that is pasted into this tab is that of a new server.
  addEventListener("hashchange", () => { if (takeToken()) location.reload(); });
  let generation = 0, version = 0;

  /**
   * @param {string} path
   * @param {AbortSignal | null} [signal]
   */
  async function get(path, signal = null) {
    const response = await fetch(path, { headers, cache: "no-store", signal });
    if (response.status === 401) {
      // The token of a server that has ended is no help to other tabs.
      sessionStorage.removeItem("token");
      throw new Error("Open the whole address that `fanbench view` printed last, with its token");
    }
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
      // Browsers allow six connections to a server: tabs that nobody sees leave them to others.
      let stream = new AbortController();
      document.addEventListener("visibilitychange", () => { if (document.hidden) stream.abort(); });
      for (let pause = PAUSE; ; pause = Math.min(LONGEST_PAUSE, 2 * pause)) {
        await seen();
        stream = new AbortController();
        try {
          for (;;) {
            const response = await get(`api/events?generation=${generation}&version=${version}`, stream.signal);
            pause = PAUSE;
            document.documentElement.classList.remove("waiting");
            if (!await absorb(response)) break;
            await again();
          }
        } catch { /* The server has ended, or sleeps: it is asked again. */ }
        if (stream.signal.aborted) continue;
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
