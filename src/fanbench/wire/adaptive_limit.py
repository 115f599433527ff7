"""A concurrency limit that adapts to the server's load, and a common pause for `Retry-After`.

The limit grows additively and shrinks multiplicatively (AIMD), as in TCP: an overloaded server turns away many
calls at once, and together these are one signal. A `Retry-After` is meant for every caller, not only for the
one whose call happened to receive it, so all calls pause. But servers name any time, such as that of a clock that is
off: the pause has a bound, and then a single call shows whether the server answers again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import anyio

from fanbench._util.text import duration
from fanbench.errors import ApiError, FanbenchError, RateLimited, ServerFault
from fanbench.wire.protocol import Call
from fanbench.wire.retry import ServerLoad, named_wait, server_load

if TYPE_CHECKING:
    from anyio import CapacityLimiter

__all__ = ["AdaptiveLimit", "Aimd", "LimitListener"]

#: Called with the limit, the previous limit, the reason for the change, and the seconds in which no call begins.
LimitListener = Callable[[int, int, str, float], None]

# What an unbounded limiter starts with: no machine has this many calls in flight.
UNBOUNDED = 1 << 16
# The limit does not fall below this. Faults that hit a share of all calls would pull it down to 1, whatever the load,
# and there one call without an answer holds up all others.
FEWEST = 4
# Many callers are told of the same pause within a few milliseconds; it is announced once.
SAME_PAUSE = 0.5


@dataclass(slots=True)
class Aimd:
    """How many calls may be in flight: between `fewest` and `ceiling`, where it starts.

    It uses no clock: each call gets a number when it is sent and comes back with it. Calls that were in flight
    when the limit was lowered belong to the same episode: their answers neither lower it again nor raise it.
    """

    ceiling: int
    fewest: int = 1
    limit: int = field(init=False)
    sent: int = field(init=False, default=0)
    _episode: int = field(init=False, default=0)
    _successes: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self.limit = self.ceiling

    def record_call(self) -> int:
        """Return the number of a call that is sent now."""
        self.sent += 1
        return self.sent

    def record_success(self, number: int) -> bool:
        """Count a successful answer; return True if the limit rises: by 1 after `limit` successful answers."""
        if number <= self._episode or self.limit >= self.ceiling:
            return False
        self._successes += 1
        if self._successes < self.limit:
            return False
        self.limit, self._successes = self.limit + 1, 0
        return True

    def record_overload(self, number: int, *, shut: bool = False) -> bool:
        """Count a sign of overload; return True if the limit falls: to its half, once per episode.

        If the server is `shut` for a long time, the limit falls to 1.
        """
        if number <= self._episode and not shut:
            return False
        self._episode, self._successes = self.sent, 0
        previous, self.limit = self.limit, 1 if shut else max(min(self.fewest, self.ceiling), self.limit // 2)
        return self.limit < previous


class AdaptiveLimit:
    """Limits `calls` to what the server can take, and `downloads`, which load it as much, in proportion."""

    def __init__(self, calls: CapacityLimiter, downloads: CapacityLimiter) -> None:
        self._aimd = Aimd(_capacity(calls), FEWEST)
        self._calls = calls
        self._downloads = downloads
        self._most_downloads = _capacity(downloads)
        self._paused_until = float("-inf")
        #: What the server asked for, which may be later.
        self._asked_until = float("-inf")
        self._listeners: list[LimitListener] = []
        #: When each call that has no answer yet was sent, by its number, the oldest first.
        self._unanswered: dict[int, float] = {}

    @property
    def longest_wait(self) -> float:
        """The seconds since the oldest call was sent that has no answer yet; 0 if there is none."""
        oldest = next(iter(self._unanswered.values()), None)
        return 0.0 if oldest is None else anyio.current_time() - oldest

    @property
    def limit(self) -> int:
        """The number of calls that may be in flight now."""
        return self._aimd.limit

    @property
    def calls_sent(self) -> int:
        """The number of calls sent so far, of all kinds, counting each attempt."""
        return self._aimd.sent

    @contextmanager
    def listen(self, listener: LimitListener) -> Iterator[None]:
        """Call `listener` at each change for the duration of the block."""
        self._listeners.append(listener)
        try:
            yield
        finally:
            self._listeners.remove(listener)

    @asynccontextmanager
    async def slot(self, limiter: CapacityLimiter, call: Call, max_wait: float) -> AsyncIterator[None]:
        """Hold a slot of `limiter`, taken when no pause is in effect. A caller waiting out a pause holds none.

        The slot is not bound to the coroutine that takes it: one coroutine may read several streams, and another
        may close them.

        Raises:
            RateLimited: The pause lasts for more than `max_wait` seconds.
        """
        borrower = object()
        while True:
            while (left := self._pause_left()) > 0:
                if left > max_wait:
                    asked = max(left, self._asked_until - anyio.current_time())
                    message = f"The server asks to wait {duration(asked)}"
                    raise RateLimited(message, call=call.method, retry_after=left)
                await anyio.sleep(left)
            await limiter.acquire_on_behalf_of(borrower)
            if self._pause_left() <= 0:
                break
            limiter.release_on_behalf_of(borrower)
        try:
            yield
        finally:
            limiter.release_on_behalf_of(borrower)

    @contextmanager
    def observe(self, *, may_be_silent: bool = False) -> Iterator[None]:
        """Learn from one call, from sending it until its answer is understood, unless it is cancelled.

        One that `may_be_silent`, as the log of a run that has nothing to say, is not in `longest_wait`.
        """
        number = self._aimd.record_call()
        if not may_be_silent:
            self._unanswered[number] = anyio.current_time()
        try:
            yield
        except FanbenchError as error:
            match server_load(error):
                case ServerLoad.NORMAL:
                    self._record_success(number)
                case ServerLoad.OVERLOADED:
                    self._record_overload(number, error)
            raise
        finally:
            self._unanswered.pop(number, None)
        self._record_success(number)

    def _record_success(self, number: int) -> None:
        previous = self.limit
        if self._aimd.record_success(number):
            self._apply_and_announce(previous, f"{previous} good answers")

    def _record_overload(self, number: int, error: FanbenchError) -> None:
        asked, seconds = 0.0, 0.0
        if isinstance(error, RateLimited) or (isinstance(error, ServerFault) and error.status == 503):
            asked, seconds = error.retry_after or 0.0, named_wait(error) or 0.0
        longer = seconds - max(0.0, self._pause_left())
        if longer > 0:
            now = anyio.current_time()
            self._paused_until, self._asked_until = now + seconds, now + asked
        worth_announcing = longer > min(SAME_PAUSE, seconds / 2)
        previous, shut = self.limit, asked > seconds
        if self._aimd.record_overload(number, shut=shut) or worth_announcing:
            reason = f"HTTP {error.status}" if isinstance(error, ApiError) else "timed out"
            more = f", the server asks to wait {duration(asked)}" if shut else ""
            self._apply_and_announce(previous, f"{reason}{more}")

    def _pause_left(self) -> float:
        return self._paused_until - anyio.current_time()

    def _apply_and_announce(self, previous: int, reason: str) -> None:
        if self.limit != previous:
            share = -(-self._most_downloads * self.limit // self._aimd.ceiling)
            self._calls.total_tokens = self.limit
            self._downloads.total_tokens = share
        for listener in tuple(self._listeners):
            listener(self.limit, previous, reason, round(max(0.0, self._pause_left()), 3))


def _capacity(limiter: CapacityLimiter) -> int:
    return max(1, int(min(limiter.total_tokens, UNBOUNDED)))
