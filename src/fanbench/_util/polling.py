"""How long to wait between polls, and between reports of them."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field

import anyio

from fanbench.errors import UsageError

__all__ = ["POLL_INTERVAL", "CreationPace", "Deadline", "Pace", "Throttle"]

POLL_INTERVAL = 60.0
_START = 1.0
_GROWTH = 1.5
_JITTER = 0.1
# The pauses between polls of a creation are this share of its age.
_SHARE = 0.35


@dataclass
class Pace:
    """Seconds between polls: 1, then 1.5 times as many after each poll, up to `limit`.

    Jitter only shortens the pauses: clients started together drift apart, and none waits longer than the user
    allowed.
    """

    limit: float = POLL_INTERVAL
    spread: Callable[[], float] = random.random
    _seconds: float = field(default=_START, init=False)

    def __post_init__(self) -> None:
        if not self.limit > 0:
            raise UsageError(f"The poll interval must be more than 0 seconds, not {self.limit:g}.")
        self.reset()

    def next(self) -> float:
        """Return the seconds to wait now."""
        seconds = self._seconds
        self._seconds = min(self.limit, seconds * _GROWTH)
        return seconds * (1 - _JITTER * self.spread())

    def reset(self) -> None:
        """Start over with short pauses, because a change is often followed by the next one."""
        self._seconds = min(_START, self.limit)


@dataclass
class CreationPace(Pace):
    """Seconds between polls of a creation, whose end no stream announces: 0.35 of its age, at least 1.

    Each poll costs a call, and each pause delays the moment at which the end is noticed: by up to a second for
    a short creation, by 0.35 of its age for a longer one, and never by more than `limit`. Kaggle's own command
    line polls after 0, 5, 12, 22, 37, 59, 92… seconds: later, with fewer calls. Calls until the end is noticed:

        creation of     2 s    5 s   12 s   60 s  600 s
        fanbench          2      5      8     13     23
        kaggle            2      2      3      7     16

    Jitter causes up to a tenth more calls.
    """

    _elapsed: float = field(default=0.0, init=False)

    def next(self) -> float:
        seconds = min(self.limit, max(_START, _SHARE * self._elapsed)) * (1 - _JITTER * self.spread())
        self._elapsed += seconds
        return seconds


class Deadline:
    """A timeout of `seconds` that several steps share, or no timeout if that is None."""

    def __init__(self, seconds: float | None) -> None:
        self.seconds = seconds
        self._end = None if seconds is None else anyio.current_time() + seconds

    @property
    def left(self) -> float | None:
        return None if self._end is None else max(0.0, self._end - anyio.current_time())


class Throttle:
    """Lets something happen at once, and then at most every so many `seconds`."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._last = -math.inf

    def is_due(self) -> bool:
        """Return whether it may happen now. If so, the caller must let it happen."""
        now = anyio.current_time()
        if now - self._last < self._seconds:
            return False
        self._last = now
        return True
