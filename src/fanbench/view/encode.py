"""What the page reads, as JSON."""

from __future__ import annotations

import json

import msgspec

from fanbench._util.text import without_surrogates

__all__ = ["encode"]


def encode(value: object) -> bytes:
    """Return `value` as JSON in UTF-8, with U+FFFD for what UTF-8 cannot have: halves of surrogate pairs."""
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:
        text = json.dumps(msgspec.to_builtins(value), ensure_ascii=False)
        return msgspec.json.encode(json.loads(without_surrogates(text)))
