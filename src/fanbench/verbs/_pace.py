"""How long to wait before one asks again."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from fanbench._errors import UsageError

__all__ = ["POLL_INTERVAL", "Pace"]

POLL_INTERVAL = 60.0
_START = 1.0
_GROWTH = 1.5
_JITTER = 0.1


def _spread() -> float:
    return random.random()  # noqa: S311 - not for secrets


@dataclass
class Pace:
    """Seconds between polls: 1, then half as much again each time, up to `limit`.

    The jitter only shortens: many clients started together drift apart, and none waits longer than the
    user allowed.
    """

    limit: float = POLL_INTERVAL
    spread: Callable[[], float] = _spread
    _seconds: float = field(default=_START, init=False)

    def __post_init__(self) -> None:
        if not self.limit > 0:
            raise UsageError(f"The poll interval must be more than 0 seconds, not {self.limit:g}.")
        self.reset()

    def next(self) -> float:
        """The seconds to wait now."""
        seconds = self._seconds
        self._seconds = min(self.limit, seconds * _GROWTH)
        return seconds * (1 - _JITTER * self.spread())

    def reset(self) -> None:
        """Something happened: what follows is likely to happen soon."""
        self._seconds = min(_START, self.limit)
