"""What an error means, and when the work that failed is tried again.

Every retry decides by this table:

| error                                       | `failure_kind` | `call_outcome` | `server_load` |
|---------------------------------------------|----------------|----------------|---------------|
| no connection was made                      | transient      | not done       | unknown [1]   |
| the connection broke                        | transient      | unknown        | unknown       |
| the call timed out                          | transient      | unknown        | overloaded    |
| HTTP 429                                    | transient      | not done       | overloaded    |
| HTTP 503, 504                               | transient      | unknown [3]    | overloaded    |
| HTTP 501, 505: will never work              | refused        | refused        | unknown       |
| other 5xx                                   | transient      | unknown        | unknown       |
| BadAnswer: not an answer of this API        | transient [2]  | unknown        | unknown       |
| HTTP 401                                    | fatal          | refused        | normal        |
| HTTP 408                                    | refused        | refused        | overloaded    |
| other 4xx                                   | refused        | refused        | normal        |
| SweepError, or the disk is full or failing  | fatal          | refused        | unknown       |
| other OutputError: damaged or not writable  | damaged        | refused        | unknown       |
| any other FanbenchError                     | refused        | refused        | unknown       |

[1] Overloaded if it timed out.
[2] Repeated by the client only if it cannot be read at all (`Unreadable`), and at most twice: an error page of a proxy
    may be gone a moment later, a log-in page is not.
[3] A 503 may come from a proxy whose server has done the work.

What is retried, and for how long:

| what fails                               | retried by                                       | until                 |
|------------------------------------------|--------------------------------------------------|-----------------------|
| one call                                 | `RetryPolicy` and `retrying`, here               | 8 attempts or 2 min   |
| a download that breaks off               | `wire/transfer.py`, with the call's policy       | 8 times in a row; 3   |
|                                          |                                                  | if slow or silent     |
| a log stream that breaks off             | `FOLLOW_RETRY` in `wire/log_stream.py`           | 5 times in a row      |
| a poll, after the retries of its call    | `FailedPolls` in `operations/watch.py`           | 5 times in a row      |
| the log of a run that has just started   | `STREAM_TRIES` in `operations/watch.py`          | about 1 min           |
| a step of a sweep, which must outlast a  | `RetryBudget` and `retry_patiently`, here        | 5 min; 1 min if the   |
| server that is down for a while          |                                                  | server refuses it;    |
|                                          |                                                  | 20 s if nobody        |
|                                          |                                                  | listens here          |
| the schedule call for a model that the   | `_SKIP_PAUSES` in `sweeps/task_watcher.py`       | 5 times, after        |
| server skipped without a known reason    |                                                  | 5 to 60 s             |

After HTTP 429 and 503, all calls of a client also pause and slow down together: see `wire/adaptive_limit.py`. A
`Retry-After` counts for at most `LONGEST_NAMED_WAIT`: then one call shows whether the server meant it.
"""

from __future__ import annotations

import enum
import errno
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from itertools import count
from typing import TypeVar

import anyio

from fanbench._util.debug_log import debug
from fanbench.errors import (
    ApiError,
    BadAnswer,
    ConnectionFailed,
    FanbenchError,
    OutputError,
    RateLimited,
    ServerFault,
    SweepError,
    Unauthorized,
)
from fanbench.wire.protocol import Call

__all__ = [
    "CONFIRMED_WITHIN",
    "LATE_EFFECT",
    "LONGEST_NAMED_WAIT",
    "NOBODY_LISTENS_LIMIT",
    "REFUSED_LIMIT",
    "TRANSIENT_LIMIT",
    "CallOutcome",
    "FailureKind",
    "NeverSent",
    "NobodyListens",
    "Retry",
    "RetryBudget",
    "RetryPolicy",
    "ServerLoad",
    "Unreadable",
    "call_outcome",
    "failure_kind",
    "may_retry",
    "named_wait",
    "pause_after",
    "retry_patiently",
    "retrying",
    "server_load",
]

T = TypeVar("T")

#: Seconds for which transient failures are retried patiently.
TRANSIENT_LIMIT = 300.0
#: Seconds for which a `Retry-After` is kept at most.
LONGEST_NAMED_WAIT = 300.0
#: Seconds for which a server on this machine may be down. Nothing but starting it again helps.
NOBODY_LISTENS_LIMIT = 20.0
#: Seconds for which refusals are retried patiently.
REFUSED_LIMIT = 60.0
#: Seconds within which a call whose connection broke may still take effect on a server whose lists are never behind.
LATE_EFFECT = 10.0
#: The same for a server whose lists may be behind.
CONFIRMED_WITHIN = 60.0

_DAMAGED_TRIES = 3
_UNREADABLE_TRIES = 3
_UNREADABLE_PAUSE = 1.0
_LONGEST_PAUSE = 30.0
_NEVER_WORKS = (501, 505)
_OVERLOADED = (408, 429, 503, 504)
# A disk that fails for one of these reasons fails for everything that is written to it.
_DISK_LOST = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)


class NeverSent(ConnectionFailed):
    """No connection was made: the server has seen nothing of the call."""


class NobodyListens(NeverSent):
    """This machine refused the connection, because no server listens at the endpoint."""


class Unreadable(BadAnswer):
    """The answer is not one of this API: a page of HTML, other JSON, or no JSON at all."""


# --- What an error means --------------------------------------------------------------------------------


class FailureKind(enum.StrEnum):
    """Whether the work that failed is worth another try."""

    #: Nothing else would succeed either: stop everything.
    FATAL = "fatal"
    #: The server or the network has a problem: the same call succeeds later.
    TRANSIENT = "transient"
    #: The server declined. The call may only have come too early, so it is retried for a short time.
    REFUSED = "refused"
    #: The data arrived damaged or could not be written: a few more tries.
    DAMAGED = "damaged"


class CallOutcome(enum.StrEnum):
    """Whether a failed call that must not be made twice has taken effect."""

    #: It has not, and the same call may succeed later.
    NOT_DONE = "not done"
    #: Only a look at the server's state can tell.
    UNKNOWN = "unknown"
    #: The server declined it.
    REFUSED = "refused"


class ServerLoad(enum.StrEnum):
    """What a failed call shows of the load on the server."""

    OVERLOADED = "overloaded"
    #: The server looked at the call and answered it.
    NORMAL = "normal"
    UNKNOWN = "unknown"


def failure_kind(error: FanbenchError) -> FailureKind:
    """Classify a failure; see the table at the top of this module."""
    match error:
        case Unauthorized() | SweepError():
            return FailureKind.FATAL
        case OutputError():
            reason = error.__cause__ or error.__context__
            lost = isinstance(reason, OSError) and reason.errno in _DISK_LOST
            return FailureKind.FATAL if lost else FailureKind.DAMAGED
        case ServerFault() if error.status in _NEVER_WORKS:
            return FailureKind.REFUSED
        case ConnectionFailed() | ServerFault() | RateLimited() | BadAnswer():
            return FailureKind.TRANSIENT
        case _:
            return FailureKind.REFUSED


def call_outcome(error: FanbenchError) -> CallOutcome:
    """Classify a call that must not be made twice; see the table at the top of this module."""
    match error:
        case NeverSent() | RateLimited():
            return CallOutcome.NOT_DONE
        case ServerFault() if error.status in _NEVER_WORKS:
            return CallOutcome.REFUSED
        case ConnectionFailed() | ServerFault() | BadAnswer():
            return CallOutcome.UNKNOWN
        case _:
            return CallOutcome.REFUSED


def server_load(error: FanbenchError) -> ServerLoad:
    """Classify the server's load; see the table at the top of this module."""
    match error:
        case ApiError() if error.status in _OVERLOADED:
            return ServerLoad.OVERLOADED
        case ApiError() if 400 <= error.status < 500:
            return ServerLoad.NORMAL
        case ConnectionFailed():
            import httpx

            if isinstance(error.__cause__, httpx.TimeoutException):
                return ServerLoad.OVERLOADED
    return ServerLoad.UNKNOWN


def named_wait(error: FanbenchError) -> float | None:
    """Return the seconds for which the server asks to wait, at most `LONGEST_NAMED_WAIT`; None if it names none."""
    named = error.retry_after if isinstance(error, ApiError) else None
    return None if named is None else min(named, LONGEST_NAMED_WAIT)


# --- Retries of one call --------------------------------------------------------------------------------


def may_retry(error: FanbenchError, call: Call) -> bool:
    """Return True if the same call may be sent again after `error`.

    A call that is not idempotent is repeated only if it certainly has not taken effect.
    """
    outcome = call_outcome(error)
    if outcome is CallOutcome.UNKNOWN:
        return call.idempotent and (isinstance(error, Unreadable) or not isinstance(error, BadAnswer))
    return outcome is CallOutcome.NOT_DONE


@dataclass(frozen=True, slots=True)
class Retry:
    """A call that failed for the `attempt`-th time and is sent again in `wait` seconds."""

    call: str
    attempt: int
    wait: float
    error: FanbenchError


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How a call is retried: bounded by `attempts` and by `total` seconds, whichever comes first.

    The wait before attempt n + 1 is random between 0 and `base` * 2^(n-1) seconds, at most `cap`: jitter over
    the whole range spreads many callers best. If the server names a wait, that wait is kept, plus a jitter of
    up to `base`. `connect_attempts` is lower because a server that refuses connections is usually down.
    """

    attempts: int = 8
    connect_attempts: int = 4
    total: float = 120.0
    base: float = 0.5
    cap: float = 20.0
    random: Callable[[], float] = random.random
    on_retry: Callable[[Retry], None] | None = None

    def delay_after(self, error: FanbenchError, call: Call, attempt: int) -> float | None:
        """Return the seconds to wait after `attempt` (from 1) failed with `error`, or None to give up."""
        most = self.attempts
        if isinstance(error, NeverSent | Unreadable):
            most = min(most, _UNREADABLE_TRIES if isinstance(error, Unreadable) else self.connect_attempts)
        if attempt >= most or not may_retry(error, call):
            return None
        named = _UNREADABLE_PAUSE if isinstance(error, Unreadable) else named_wait(error)
        return self.backoff(attempt) if named is None else named + self.random() * self.base

    def report(self, retry: Retry) -> None:
        """Log a retry, and pass it to `on_retry`."""
        error = str(retry.error)
        debug("retry", method=retry.call, attempt=retry.attempt, wait=round(retry.wait, 3), error=error)
        if self.on_retry is not None:
            self.on_retry(retry)

    def backoff(self, failures: int) -> float:
        # The exponent is bounded because a float is.
        return self.random() * min(self.cap, self.base * 2.0 ** min(failures - 1, 64))


async def retrying(policy: RetryPolicy, call: Call, attempt: Callable[[int], Awaitable[T]]) -> T:
    """Return the result of `attempt(1)`, `attempt(2)`, …; on giving up, raise the last error unchanged.

    A wait that would exceed `policy.total` is not begun.
    """
    started = anyio.current_time()
    for number in count(1):
        try:
            return await attempt(number)
        except FanbenchError as error:
            wait = policy.delay_after(error, call, number)
            if wait is None or anyio.current_time() - started + wait > policy.total:
                raise
            policy.report(Retry(call.method, number, wait, error))
        await anyio.sleep(wait)
    raise AssertionError("count() is endless")


# --- Patient retries ------------------------------------------------------------------------------------


def pause_after(
    error: FanbenchError, failures: int, elapsed: float, *, refused: float = REFUSED_LIMIT
) -> float | None:
    """Return the seconds until the next try, or None to give up.

    The work has failed `failures` times in this way, the first time `elapsed` seconds ago. Refusals are
    retried for `refused` seconds. The last try comes at the end of that time, not before it.
    """
    pause = min(_LONGEST_PAUSE, 2.0 ** min(failures - 1, 16))
    match failure_kind(error):
        case FailureKind.FATAL:
            return None
        case FailureKind.DAMAGED:
            return pause if failures < _DAMAGED_TRIES else None
        case FailureKind.TRANSIENT:
            limit = NOBODY_LISTENS_LIMIT if isinstance(error, NobodyListens) else TRANSIENT_LIMIT
        case FailureKind.REFUSED:
            limit = refused
    if elapsed >= limit:
        return None
    return min(max(pause, named_wait(error) or 0.0), limit - elapsed)


class RetryBudget:
    """The failures of one piece of work since its last success, counted separately for each kind."""

    def __init__(self, refused: float = REFUSED_LIMIT) -> None:
        self._refused = refused
        self._since: dict[FailureKind, float] = {}
        self._failures: Counter[FailureKind] = Counter()

    def reset(self) -> None:
        """Forget all failures after a success."""
        self._since.clear()
        self._failures.clear()

    def record(self, error: FanbenchError) -> float | None:
        """Count `error` and return the seconds until the next try, or None to give up.

        Raises:
            FanbenchError: `error` itself, if it is fatal.
        """
        kind, now = failure_kind(error), anyio.current_time()
        if kind is FailureKind.FATAL:
            raise error
        self._failures[kind] += 1
        elapsed = now - self._since.setdefault(kind, now)
        return pause_after(error, self._failures[kind], elapsed, refused=self._refused)


async def retry_patiently(
    job: Callable[[], Awaitable[T]], on_failure: Callable[[FanbenchError, float], None] | None = None
) -> T:
    """Return the result of `job`, retried until its `RetryBudget` is used up; then raise its last error.

    `on_failure` is called with each error and the seconds until the next try.
    """
    budget = RetryBudget()
    while True:
        try:
            return await job()
        except FanbenchError as error:
            pause = budget.record(error)
            if pause is None:
                raise
            if on_failure is not None:
                on_failure(error, pause)
        await anyio.sleep(pause)
