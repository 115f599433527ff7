"""How long to wait before one asks again."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

import anyio

from fanbench.errors import UsageError

__all__ = ["POLL_INTERVAL", "CreationPace", "Deadline", "Pace"]

POLL_INTERVAL = 60.0
_START = 1.0
_GROWTH = 1.5
_JITTER = 0.1
# The pauses between looks at a creation are this share of its age.
_SHARE = 0.35


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
        _refuse_no_limit(self.limit)
        self.reset()

    def next(self) -> float:
        """The seconds to wait now."""
        seconds = self._seconds
        self._seconds = min(self.limit, seconds * _GROWTH)
        return seconds * (1 - _JITTER * self.spread())

    def reset(self) -> None:
        """Something happened: what follows is likely to happen soon."""
        self._seconds = min(_START, self.limit)


@dataclass
class CreationPace:
    """Seconds between looks at a creation, whose end no stream tells: 0.35 of its age, and 1 at the least.

    Each look costs a call, each pause the time by which the end is seen late. The end of a short creation is
    seen within a second, that of a longer one within 0.35 of its age, and never more than `limit` late. The
    vendor looks after 0, 5, 12, 22, 37, 59, 92… seconds: later, and with fewer calls. Calls until the end is seen:

        creation of     2 s    5 s   12 s   60 s  600 s
        ours              2      5      8     13     23
        the vendor's      2      2      3      7     16

    The jitter only shortens, as with `Pace`; it makes up to a tenth more calls.
    """

    limit: float = POLL_INTERVAL
    spread: Callable[[], float] = _spread
    _elapsed: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        _refuse_no_limit(self.limit)

    def next(self) -> float:
        """The seconds to wait now."""
        seconds = max(_START, _SHARE * self._elapsed)
        seconds = min(self.limit, seconds) * (1 - _JITTER * self.spread())
        self._elapsed += seconds
        return seconds


class Deadline:
    """A timeout of `seconds` that several steps share; without end if that is `None`."""

    def __init__(self, seconds: float | None) -> None:
        self.seconds = seconds
        self._end = None if seconds is None else anyio.current_time() + seconds

    @property
    def left(self) -> float | None:
        return None if self._end is None else max(0.0, self._end - anyio.current_time())


def _refuse_no_limit(limit: float) -> None:
    if not limit > 0:
        raise UsageError(f"The poll interval must be more than 0 seconds, not {limit:g}.")
