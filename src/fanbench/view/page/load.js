// Unpacks the page's code and styles, and adds them. The page's policy allows these very texts, and no others.

/** @param {string} id */
async function unpacked(id) {
  const bytes = Uint8Array.from(atob(document.getElementById(id)?.textContent ?? ""), (sign) => sign.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
}

Promise.all(["style", "code"].map(unpacked)).then(([style, code]) => {
  document.head.append(Object.assign(document.createElement("style"), { textContent: style }));
  document.body.append(Object.assign(document.createElement("script"), { type: "module", textContent: code }));
}, (error) => document.body.append(`The page cannot be shown: ${error}. It needs a browser of 2023 or later.`));
