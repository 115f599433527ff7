"""Tables as columns of numbers, in a form that a browser uses without parsing it.

The bytes are: the length of the header (4 bytes, little-endian), the header as JSON, zeros up to a multiple of 8, and
the columns one after the other, each padded to a multiple of 8. The header names each column with its type and its
offset behind the header. `page/columns.js` reads them.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable, Iterator, Mapping

import msgspec

from fanbench.view.encode import encode

__all__ = ["Columns", "changed_rows", "column", "pack", "unpack"]

#: Numbers by the names of their columns.
Columns = Mapping[str, "array[float]"]

# The names of the types in the header, by those of Python.
_KINDS = {"B": "u1", "H": "u2", "I": "u4", "f": "f4", "d": "f8"}
_CODES = {kind: code for code, kind in _KINDS.items()}
_ALIGN = 8


def column(kind: str, values: Iterable[float]) -> array[float]:
    """Return a column of the type `u1`, `u2`, `u4`, `f4` or `f8`."""
    return array(_CODES[kind], values)


def changed_rows(old: Columns, new: Columns) -> Iterator[tuple[str, list[int]]]:
    """Yield each column that changed, with the positions of its changes. Both sides have the same rows."""
    for name, numbers in new.items():
        before, after = (each.tobytes() for each in (old[name], numbers))
        if before == after:
            continue
        size = numbers.itemsize  # Bytes are compared, because NaN differs from itself.
        pairs = ((before[at : at + size], after[at : at + size]) for at in range(0, len(after), size))
        yield name, [row for row, (one, other) in enumerate(pairs) if one != other]


def pack(columns: Columns, texts: Iterable[str] = ()) -> bytes:
    """Return columns of the same length, and the texts that some of them count."""
    layout, body, rows = {}, bytearray(), 0
    for name, found in columns.items():
        numbers = found[:]
        rows = len(numbers)
        layout[name] = (_KINDS[numbers.typecode], len(body))
        if sys.byteorder == "big":
            numbers.byteswap()
        body += _padded(numbers.tobytes())
    header = encode({"rows": rows, "columns": layout, "texts": list(texts)})
    start = len(header).to_bytes(4, "little") + header
    return _padded(start) + bytes(body)


def unpack(data: bytes) -> tuple[dict[str, list[float]], list[str]]:
    """Return the columns and the texts that `pack` was given."""
    size = int.from_bytes(data[:4], "little")
    header = msgspec.json.decode(data[4 : 4 + size])
    body = memoryview(data)[len(_padded(data[: 4 + size])) :]
    columns: dict[str, list[float]] = {}
    for name, (kind, offset) in header["columns"].items():
        numbers = array(_CODES[kind])
        numbers.frombytes(body[offset : offset + header["rows"] * numbers.itemsize])
        if sys.byteorder == "big":
            numbers.byteswap()
        columns[name] = list(numbers)
    return columns, header["texts"]


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % _ALIGN)
