"""Tables as columns of numbers, in a form that a browser uses without parsing it.

The bytes are: the length of the header (4 bytes, little-endian), the header as JSON, zeros up to a multiple of 8, and
the columns one after the other, each padded to a multiple of 8. The header names each column with its type and its
offset behind the header. `page/columns.js` reads them.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable, Mapping

import msgspec

__all__ = ["Column", "pack", "unpack"]

#: A column: `u1`, `u2`, `u4`, `f4` or `f8`, and its numbers.
Column = tuple[str, Iterable[float]]

_CODES = {"u1": "B", "u2": "H", "u4": "I", "f4": "f", "f8": "d"}
_ALIGN = 8


def pack(columns: Mapping[str, Column], texts: Iterable[str] = ()) -> bytes:
    """Return columns of the same length, and the texts that some of them count."""
    layout, body, rows = {}, bytearray(), 0
    for name, (kind, values) in columns.items():
        numbers = array(_CODES[kind], values)
        rows = len(numbers)
        layout[name] = (kind, len(body))
        if sys.byteorder == "big":
            numbers.byteswap()
        body += _padded(numbers.tobytes())
    header = msgspec.json.encode({"rows": rows, "columns": layout, "texts": list(texts)})
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
