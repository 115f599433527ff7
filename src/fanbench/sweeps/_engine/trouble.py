"""What goes wrong, by class: whether it is tried again, when, and until when.

The client has tried each call several times before anything arrives here: this is about servers that are away
for minutes, and about answers that may become others in time, such as an output that is not there yet.
"""

from __future__ import annotations

import enum
import errno
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio

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

__all__ = [
    "GRACE",
    "NO_LOG",
    "PATIENCE",
    "REFUSED",
    "Delivery",
    "Patience",
    "Trouble",
    "delivery",
    "pause_after",
    "persist",
    "trouble",
]

T = TypeVar("T")

#: Seconds for which a server that does not answer is asked again.
PATIENCE = 300.0
#: Seconds for which a refused download is tried again, and a finished log that is not there.
REFUSED = 60.0
NO_LOG = 30.0
#: Seconds in which a call that was cut off may still have its effect on the server.
GRACE = 10.0
# How often what came damaged, or could not be written, is tried.
_TRIES = 3
_LONGEST_PAUSE = 30.0
# A disk that fails for one of these reasons fails for all runs.
_NO_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)
_NEVER = (501, 505)


class Trouble(enum.StrEnum):
    """What a failure means for the one thing that failed."""

    #: It ends the sweep: nothing else would go better.
    FATAL = "fatal"
    #: The server, or the way to it, is in trouble: the same call will do later.
    PASSING = "passing"
    #: The server said no. That may be too early a question; not for long.
    REFUSED = "refused"
    #: It came damaged, or could not be written.
    BROKEN = "broken"


def trouble(error: FanbenchError) -> Trouble:
    """
    | error                                                | class   |
    |------------------------------------------------------|---------|
    | 401; the journal; a disk that is full, or fails      | fatal   |
    | no answer, cut off, 429, 5xx, an answer of nonsense  | passing |
    | 501, 505: it never will; 400, 403, 404, 409          | refused |
    | a damaged download, a folder that cannot be written  | broken  |
    | anything else                                        | refused |
    """
    match error:
        case Unauthorized() | SweepError():
            return Trouble.FATAL
        case OutputError():
            return Trouble.FATAL if _is_disk_gone(error) else Trouble.BROKEN
        case ServerFault() if error.status in _NEVER:
            return Trouble.REFUSED
        case ConnectionFailed() | ServerFault() | RateLimited() | BadAnswer():
            return Trouble.PASSING
        case _:
            return Trouble.REFUSED


def _is_disk_gone(error: OutputError) -> bool:
    reason = error.__cause__ or error.__context__
    return isinstance(reason, OSError) and reason.errno in _NO_DISK


def pause_after(
    error: FanbenchError, failures: int, elapsed: float, *, refused: float = REFUSED
) -> float | None:
    """Seconds until the same is tried again, `None` to give up.

    It has failed `failures` times, for the first time `elapsed` seconds ago. A refusal is borne for `refused`
    seconds. The last try comes at the end of the patience, not before.
    """
    pause = min(_LONGEST_PAUSE, 2.0 ** min(failures - 1, 16))
    match trouble(error):
        case Trouble.FATAL:
            return None
        case Trouble.BROKEN:
            return pause if failures < _TRIES else None
        case Trouble.PASSING:
            limit = PATIENCE
        case Trouble.REFUSED:
            limit = refused
    if elapsed >= limit:
        return None
    named = error.retry_after if isinstance(error, RateLimited | ServerFault) else None
    return min(max(pause, named or 0.0), limit - elapsed)


class Patience:
    """How long one thing has failed already, without a success in between; for each class of failure apart."""

    def __init__(self, refused: float = REFUSED) -> None:
        self._refused = refused
        self._since: dict[Trouble, float] = {}
        self._failures: Counter[Trouble] = Counter()

    def reset(self) -> None:
        """It went well."""
        self._since.clear()
        self._failures.clear()

    def pause(self, error: FanbenchError) -> float | None:
        """Seconds to wait after `error`, `None` to give up.

        Raises:
            FanbenchError: `error` itself, where it ends everything.
        """
        kind, now = trouble(error), anyio.current_time()
        if kind is Trouble.FATAL:
            raise error
        self._failures[kind] += 1
        elapsed = now - self._since.setdefault(kind, now)
        return pause_after(error, self._failures[kind], elapsed, refused=self._refused)


async def persist(job: Callable[[], Awaitable[T]], *, refused: float = REFUSED) -> T:
    """The result of `job`, tried again and again.

    Raises:
        FanbenchError: its last error, when patience is at its end.
    """
    patience = Patience(refused)
    while True:
        try:
            return await job()
        except FanbenchError as error:
            pause = patience.pause(error)
            if pause is None:
                raise
        await anyio.sleep(pause)


class Delivery(enum.StrEnum):
    """Whether a call that must not be made twice was done, although it failed."""

    #: Surely not, and it may be later.
    NOT_DONE = "not done"
    #: Nobody knows: look at what the server has.
    UNSURE = "unsure"
    #: The server does not want it.
    REFUSED = "refused"


def delivery(error: FanbenchError) -> Delivery:
    """
    | error                                     | delivery |
    |-------------------------------------------|----------|
    | never sent, 429, 503                      | not done |
    | cut off, other 5xx, an answer of nonsense | unsure   |
    | anything else                             | refused  |
    """
    from fanbench.wire.retry import NeverSent

    match error:
        case NeverSent() | RateLimited() | ServerFault(status=503):
            return Delivery.NOT_DONE
        case ServerFault() if error.status in _NEVER:
            return Delivery.REFUSED
        case ConnectionFailed() | ServerFault() | BadAnswer():
            return Delivery.UNSURE
        case ApiError() | _:
            return Delivery.REFUSED
