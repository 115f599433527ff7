"""Scripted answers in memory, for tests of timing in virtual time.

A virtual clock cannot be used with real sockets: it would jump while bytes are in transit.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from itertools import pairwise
from typing import Any

import anyio
import httpx

from fanbench.testing import run_in_virtual_time

__all__ = ["Scripted", "in_virtual_time"]

Step = tuple[float, httpx.Response | Exception]


class Scripted(httpx.AsyncBaseTransport):
    """Each request takes the next step: after a delay, it is answered or fails.

    `times` has the seconds from the first request to each request.
    """

    def __init__(self, *steps: Step | httpx.Response | Exception) -> None:
        self._steps = [step if isinstance(step, tuple) else (0.0, step) for step in steps]
        self._started: float | None = None
        self.times: list[float] = []
        self.requests: list[httpx.Request] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        now = anyio.current_time()
        self._started = now if self._started is None else self._started
        self.times.append(round(now - self._started, 6))
        self.requests.append(request)
        delay, outcome = self._steps[min(len(self.times), len(self._steps)) - 1]
        await anyio.sleep(delay)
        if isinstance(outcome, Exception):
            raise outcome
        return _again(outcome)


def _again(response: httpx.Response) -> httpx.Response:
    """Return a copy, because a response can be read only once."""
    return httpx.Response(response.status_code, headers=response.headers, content=response.content)


def in_virtual_time(main: Callable[[], Awaitable[Any]]) -> Any:
    """Return the result of `main`, run on a clock that jumps ahead whenever all tasks wait."""
    return run_in_virtual_time(main, backend="trio")


def sequence(times: Sequence[float]) -> list[float]:
    """Return the differences between consecutive `times`."""
    return [round(later - earlier, 6) for earlier, later in pairwise(times)]
