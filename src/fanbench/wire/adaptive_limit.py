"""How hard a server is pressed: a limit that gives way to it, and a gate at which all callers wait.

The limit is additive increase, multiplicative decrease, as TCP has it: a server that is overloaded says so to
many callers at once, and what they all hear is one piece of news. The gate is for `Retry-After`: the server
means whoever calls, not only the one that happened to ask.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import anyio

from fanbench.errors import ApiError, ConnectionFailed, FanbenchError, RateLimited, ServerFault
from fanbench.wire.protocol import Call

if TYPE_CHECKING:
    from anyio import CapacityLimiter

__all__ = ["Aimd", "Listener", "Pressure", "congestion", "is_good"]

#: Is told the limit, the one before, why it changed, and the seconds for which no call begins.
Listener = Callable[[int, int, str, float], None]

# What an unbounded limiter begins with: no machine has so many calls under way.
UNBOUNDED = 1 << 16
# A pause that many callers are told of is one pause, though each hears a few milliseconds more.
SAME_PAUSE = 0.5
_OVERLOADED = frozenset({408, 429, 503, 504})


@dataclass(slots=True)
class Aimd:
    """How many calls may be under way: between 1 and `ceiling`, where it begins.

    Knows no clock: each call takes a number when it is sent, and comes back with it. Calls that were under way
    when the limit was lowered belong to that episode: their answers neither lower it again nor raise it.
    """

    ceiling: int
    limit: int = field(init=False)
    sent: int = field(init=False, default=0)
    _episode: int = field(init=False, default=0)
    _good: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self.limit = self.ceiling

    def send(self) -> int:
        """The number of a call that is sent now."""
        self.sent += 1
        return self.sent

    def good(self, number: int) -> bool:
        """It was answered well. True if the limit rises: by 1 for as many good answers as it is high."""
        if number <= self._episode or self.limit >= self.ceiling:
            return False
        self._good += 1
        if self._good < self.limit:
            return False
        self.limit, self._good = self.limit + 1, 0
        return True

    def congested(self, number: int) -> bool:
        """The server had too much. True if the limit falls: to its half, once in an episode."""
        if number <= self._episode:
            return False
        self._episode, self._good = self.sent, 0
        previous, self.limit = self.limit, max(1, self.limit // 2)
        return self.limit < previous


def congestion(error: FanbenchError) -> str | None:
    """Why `error` says that the server has too much, in a word; `None` if it does not.

    | error                     | too much | a good answer         |
    |---------------------------|----------|-----------------------|
    | 429, 503, 408, 504        | yes      | no                    |
    | timed out                 | yes      | no                    |
    | refused, broken off       | no       | no                    |
    | other 5xx, a strange page | no       | no                    |
    | other 4xx                 | no       | yes: it was looked at |
    """
    if isinstance(error, ApiError) and error.status in _OVERLOADED:
        return f"HTTP {error.status}"
    return "timed out" if isinstance(error, ConnectionFailed) and _timed_out(error) else None


def is_good(error: FanbenchError) -> bool:
    """Whether a call that ended in `error` was answered as well as one that did not; see `congestion`."""
    return isinstance(error, ApiError) and 400 <= error.status < 500 and error.status not in _OVERLOADED


def _timed_out(error: ConnectionFailed) -> bool:
    import httpx

    return isinstance(error.__cause__, httpx.TimeoutException)


def _named_pause(error: FanbenchError) -> float:
    """The seconds in which the server wants nothing from anybody."""
    if isinstance(error, RateLimited) or (isinstance(error, ServerFault) and error.status == 503):
        return error.retry_after or 0.0
    return 0.0


class Pressure:
    """Holds `calls` to what the server bears; `downloads`, which press it as much, follow in proportion."""

    def __init__(self, calls: CapacityLimiter, downloads: CapacityLimiter) -> None:
        self._aimd = Aimd(_capacity(calls))
        self._calls = calls
        self._downloads = downloads
        self._most_downloads = _capacity(downloads)
        self._closed_until = float("-inf")
        self._listeners: list[Listener] = []

    @property
    def limit(self) -> int:
        """How many calls may be under way now."""
        return self._aimd.limit

    @property
    def begun(self) -> int:
        """How many calls were sent until now: of all kinds, each attempt counted."""
        return self._aimd.sent

    @contextmanager
    def listen(self, listener: Listener) -> Iterator[None]:
        """Inside the block, `listener` is called at each change."""
        self._listeners.append(listener)
        try:
            yield
        finally:
            self._listeners.remove(listener)

    @asynccontextmanager
    async def slot(self, limiter: CapacityLimiter, call: Call, patience: float) -> AsyncIterator[None]:
        """A slot of `limiter` while the gate is open. Who waits at the gate holds none.

        It belongs to no task: one task may read several streams, another may close them.

        Raises:
            RateLimited: the gate stays closed for more than `patience` seconds.
        """
        borrower = object()
        while True:
            await self._gate(call, patience)
            await limiter.acquire_on_behalf_of(borrower)
            if self._pause() <= 0:
                break
            limiter.release_on_behalf_of(borrower)
        try:
            yield
        finally:
            limiter.release_on_behalf_of(borrower)

    async def _gate(self, call: Call, patience: float) -> None:
        while (left := self._pause()) > 0:
            if left > patience:
                message = f"The server wants no calls for another {left:.0f} s"
                raise RateLimited(message, call=call.method, retry_after=left)
            await anyio.sleep(left)

    def _pause(self) -> float:
        return self._closed_until - anyio.current_time()

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Around one call that is sent, until its answer is understood. One that is cancelled tells nothing."""
        number = self._aimd.send()
        try:
            yield
        except FanbenchError as error:
            self._failed(number, error)
            raise
        self._answered(number)

    def _answered(self, number: int) -> None:
        previous = self.limit
        if self._aimd.good(number):
            self._changed(previous, f"{previous} good answers")

    def _failed(self, number: int, error: FanbenchError) -> None:
        reason = congestion(error)
        if reason is None:
            if is_good(error):
                self._answered(number)
            return
        previous, closed = self.limit, self._close(_named_pause(error))
        if self._aimd.congested(number) or closed:
            self._changed(previous, reason)

    def _close(self, seconds: float) -> bool:
        """Close the gate; the longest of several pauses counts. True if it is worth telling."""
        news = seconds - max(0.0, self._pause())
        if news > 0:
            self._closed_until = anyio.current_time() + seconds
        return news > min(SAME_PAUSE, seconds / 2)

    def _changed(self, previous: int, reason: str) -> None:
        if self.limit != previous:
            share = -(-self._most_downloads * self.limit // self._aimd.ceiling)
            self._calls.total_tokens = self.limit
            self._downloads.total_tokens = share
        for listener in tuple(self._listeners):
            listener(self.limit, previous, reason, round(max(0.0, self._pause()), 3))


def _capacity(limiter: CapacityLimiter) -> int:
    return max(1, int(min(limiter.total_tokens, UNBOUNDED)))
