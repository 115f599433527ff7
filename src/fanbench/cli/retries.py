"""Telling of calls that are tried again."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fanbench.wire.retry import Retry

__all__ = ["Retries"]

# Seconds in which trouble of one kind is told of once: a server that is gone fails every call there is.
_QUIET = 10.0


class Retries:
    """Tells of the first of each kind at once, and of how many there were when it tells of the next."""

    def __init__(self, note: Callable[[str], None], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._note = note
        self._clock = clock
        self._said: dict[type, float] = {}
        self._unsaid: dict[type, int] = {}

    def tell(self, retry: Retry) -> None:
        kind, now = type(retry.error), self._clock()
        if now - self._said.get(kind, -_QUIET) < _QUIET:
            self._unsaid[kind] = self._unsaid.get(kind, 0) + 1
            return
        self._said[kind] = now
        unsaid = self._unsaid.pop(kind, 0)
        more = f" ({unsaid} more like it since the last)" if unsaid else ""
        self._note(f"{retry.error}; trying again in {max(retry.wait, 0.1):.1f} s{more}")
