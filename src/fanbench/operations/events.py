"""What the verbs say while they work: frozen events, passed to a callback; the command line renders them.

A `Report` is called in the event loop and must not block it for long.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fanbench.wire.messages import Run, RunState, Task

__all__ = [
    "CreationPolled",
    "Downloading",
    "EarlierPending",
    "Event",
    "LogBegan",
    "LogEnded",
    "LogLine",
    "LogRead",
    "LogText",
    "PollFailed",
    "Polled",
    "Progress",
    "Report",
    "RunChanged",
    "RunEnding",
    "silent",
]


@dataclass(frozen=True, slots=True)
class Event:
    """The base of all events."""


@dataclass(frozen=True, slots=True)
class Progress(Event):
    """How far something is: worth a look now, and nothing later. Comes at once, in no order."""


@dataclass(frozen=True, slots=True)
class EarlierPending(Event):
    """A push waits until the creation of the task's earlier version has ended."""

    slug: str


@dataclass(frozen=True, slots=True)
class CreationPolled(Event):
    """The creation of a task was asked about; `changed` says whether its state is a new one."""

    slug: str
    task: Task
    changed: bool


@dataclass(frozen=True, slots=True)
class Polled(Event):
    """The runs of a task were asked about: `pending` of those waited for are still under way.

    `next_poll` is in seconds from now.
    """

    slug: str
    pending: int
    next_poll: float


@dataclass(frozen=True, slots=True)
class PollFailed(Event):
    """The server did not answer a poll; it will be asked again."""

    slug: str
    error: Exception


@dataclass(frozen=True, slots=True)
class RunChanged(Event):
    """A run that is waited for was seen for the first time (`previous` is `None`), or in another state."""

    slug: str
    run: Run
    previous: RunState | None


@dataclass(frozen=True, slots=True)
class RunEnding(Progress):
    """A run's log has ended, so the run has; how, the next poll will tell."""

    slug: str
    run: Run


@dataclass(frozen=True, slots=True)
class Downloading(Progress):
    """`received` bytes of a run's output have come, of `total` where that is known.

    Both are `None` before it begins. `outcome` says how it ended.
    """

    slug: str
    run: Run
    received: int | None = None
    total: int | None = None
    outcome: str | None = None


@dataclass(frozen=True, slots=True)
class LogRead(Progress):
    """So many lines of a run's log have been read so far; `ended` if these are all."""

    run: Run
    lines: int
    ended: bool = False


@dataclass(frozen=True, slots=True)
class LogBegan(Event):
    """The log of a run is shown from here on."""

    run: Run


@dataclass(frozen=True, slots=True)
class LogText(Event):
    """The next piece of the log of the run that is shown: any part of its text."""

    run: Run
    text: str


@dataclass(frozen=True, slots=True)
class LogLine(Event):
    """One whole line, without its end, of a log that is shown among others."""

    run: Run
    line: str


@dataclass(frozen=True, slots=True)
class LogEnded(Event):
    """The log of a run is over, or there is none (`error` says why)."""

    run: Run
    lines: int
    error: Exception | None = None


Report = Callable[[Event], None]


def silent(event: Event) -> None:
    """Says nothing."""
