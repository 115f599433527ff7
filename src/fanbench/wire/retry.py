"""When a call is tried again, and how long is waited before: one pure function, one loop."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from itertools import count
from typing import TypeVar

import anyio

from fanbench._util.debug_log import debug
from fanbench.errors import ConnectionFailed, FanbenchError, RateLimited, ServerFault
from fanbench.wire.protocol import Call

__all__ = ["NeverSent", "Retry", "RetryPolicy", "retrying"]

T = TypeVar("T")


class NeverSent(ConnectionFailed):
    """The connection was never made: the server has seen nothing of the call."""


@dataclass(frozen=True, slots=True)
class Retry:
    """A call that failed for the `attempt`-th time and is tried again in `wait` seconds."""

    call: str
    attempt: int
    wait: float
    error: FanbenchError


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how long: bounded by `attempts` and by `total` seconds, whichever comes first.

    The wait before attempt n + 1 lies anywhere between 0 and `base` * 2^(n-1) seconds, at most `cap`: jitter
    over the whole range spreads many callers best. Where the server names a wait, that is kept, with a jitter
    of up to `base` on top. `connect_attempts` is fewer: a server that refuses is mostly not there.
    """

    attempts: int = 8
    connect_attempts: int = 4
    total: float = 120.0
    base: float = 0.5
    cap: float = 20.0
    random: Callable[[], float] = random.random
    on_retry: Callable[[Retry], None] | None = None

    def wait(self, error: FanbenchError, call: Call, attempt: int) -> float | None:
        """Seconds to wait after `attempt` (from 1) failed with `error`; None to give up."""
        most = min(self.attempts, self.connect_attempts) if isinstance(error, NeverSent) else self.attempts
        if attempt >= most or not may_retry(error, call):
            return None
        named = error.retry_after if isinstance(error, RateLimited | ServerFault) else None
        return self.backoff(attempt) if named is None else named + self.random() * self.base

    def backoff(self, failures: int) -> float:
        # The exponent is bounded because a float is.
        return self.random() * min(self.cap, self.base * 2.0 ** min(failures - 1, 64))


def may_retry(error: FanbenchError, call: Call) -> bool:
    """Whether the same call may be sent again after `error`.

    | error                        | idempotent | not idempotent (schedule, create, delete) |
    |------------------------------|------------|-------------------------------------------|
    | never sent                   | yes        | yes                                       |
    | 429, 503: not done           | yes        | yes                                       |
    | broken off, timed out        | yes        | no: it may have been done                 |
    | other 5xx                    | yes        | no: it may have been done                 |
    | 501, 505: it never will      | no         | no                                        |
    | anything else                | no         | no                                        |
    """
    match error:
        case NeverSent() | RateLimited() | ServerFault(status=503):
            return True
        case ServerFault(status=501 | 505):
            return False
        case ServerFault() | ConnectionFailed():
            return call.idempotent
        case _:
            return False


async def retrying(policy: RetryPolicy, call: Call, attempt: Callable[[int], Awaitable[T]]) -> T:
    """The result of `attempt(1)`, `attempt(2)`, …; when it is over, the last error as it was.

    A wait that would go beyond `policy.total` is not begun.
    """
    started = anyio.current_time()
    for number in count(1):
        try:
            return await attempt(number)
        except FanbenchError as error:
            wait = policy.wait(error, call, number)
            if wait is None or anyio.current_time() - started + wait > policy.total:
                raise
            _announce(policy, Retry(call.method, number, wait, error))
        await anyio.sleep(wait)
    raise AssertionError("count() has no end")


def _announce(policy: RetryPolicy, retry: Retry) -> None:
    debug(
        "retry", method=retry.call, attempt=retry.attempt, wait=round(retry.wait, 3), error=str(retry.error)
    )
    if policy.on_retry is not None:
        policy.on_retry(retry)
