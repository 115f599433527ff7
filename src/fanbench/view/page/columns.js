// Reads what fanbench/view/columns.py writes: numbers stay in one buffer, outside of the heap of JavaScript.

const TYPES = { u1: Uint8Array, u2: Uint16Array, u4: Uint32Array, f4: Float32Array, f8: Float64Array };

/**
 * A table of numbers; `columns[name][row]`. Texts are numbered.
 * @typedef {{rows: number, columns: Record<string, Uint8Array | Uint16Array | Uint32Array | Float32Array | Float64Array>,
 *   texts: string[]}} Columns
 */

/**
 * @param {ArrayBuffer} buffer
 * @returns {Columns}
 */
export function unpack(buffer) {
  const size = new DataView(buffer).getUint32(0, true);
  /** @type {{rows: number, columns: Record<string, [keyof typeof TYPES, number]>, texts: string[]}} */
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, size)));
  const start = Math.ceil((4 + size) / 8) * 8;
  /** @type {Columns["columns"]} */
  const columns = {};
  for (const [name, [kind, offset]] of Object.entries(header.columns)) {
    columns[name] = new TYPES[kind](buffer, start + offset, header.rows);
  }
  return { rows: header.rows, columns, texts: header.texts };
}
