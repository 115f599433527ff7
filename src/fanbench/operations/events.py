"""Events: what operations and sweeps report while they work.

An operation passes each event to its `emit` callback. Events are frozen, and each prints itself: `text` is one
line for people, `record()` is one JSON object. The callback runs in the event loop and must return quickly.

Here are the base and the events that several operations share. Those of one operation stand beside it, those of
a sweep in `fanbench.sweeps.events`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import ClassVar

import msgspec

from fanbench._util.text import duration
from fanbench.errors import ApiError, FanbenchError, NotFound
from fanbench.operations.lookup import model_of
from fanbench.wire.messages import CreationState, Run, RunState, Task

__all__ = [
    "CreationPolled",
    "Downloading",
    "EarlierPending",
    "Emit",
    "Event",
    "LogBegan",
    "LogEnded",
    "LogLine",
    "LogRead",
    "LogSilent",
    "LogText",
    "PollFailed",
    "Polled",
    "RunChanged",
    "RunEnding",
    "TaskFailed",
    "TransientEvent",
    "VersionSuperseded",
    "describe_state",
    "ignore_events",
]


# The tag of `RunScheduled` is `run_scheduled`.
class Event(
    msgspec.Struct,
    frozen=True,
    tag_field="event",
    tag=lambda name: re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower(),
):
    """The base of all events."""

    #: True for frequent events, such as polls and log lines, which are printed only on request.
    quiet: ClassVar[bool] = False
    #: The `text` of the event as a format string with its fields.
    template: ClassVar[str | None] = None

    @property
    def text(self) -> str | None:
        """One line for people, or None if the event is not printed."""
        return self.template and self.template.format_map(msgspec.structs.asdict(self))

    def record(self) -> dict[str, object]:
        """The event as a JSON object: its name in snake_case under `event`, then its fields."""
        record: dict[str, object] = msgspec.to_builtins(self, enc_hook=str)
        return record


class TransientEvent(Event, frozen=True):
    """Transient news about how far something is: passed on at once, in no order, and of no use later."""


def describe_state(state: CreationState | RunState) -> str:
    """`RUNNING`; for a state that is not known, also that it is waited for."""
    if state.known:
        return state.label
    return f"{state.label} (a state that this version of fanbench does not know: waiting until it changes)"


# --- Tasks --------------------------------------------------------------------------------------------------


class TaskFailed(Event, frozen=True):
    """The operation failed for one of several tasks; the others continue."""

    template: ClassVar[str | None] = "{slug}: {error}"

    slug: str
    error: FanbenchError


class EarlierPending(Event, frozen=True):
    """A push waits until the task's earlier version has been created."""

    template: ClassVar[str | None] = "Task '{slug}' is already being created. Waiting for it to finish..."

    slug: str


class CreationPolled(Event, frozen=True):
    """A poll returned a task that is being created; `changed` is True if its state is a new one."""

    slug: str
    task: Task
    changed: bool

    @property
    def text(self) -> str:
        return f"{self.slug}: {describe_state(self.task.creation_state)}"


class VersionSuperseded(Event, frozen=True):
    """Somebody else has pushed the `newest` version of a task after ours, which is `version`."""

    task: str
    version: int
    newest: int

    @property
    def text(self) -> str:
        return (
            f"{self.task}: version {self.newest} was pushed meanwhile, so version {self.version} is no longer the "
            "newest; what follows is still about that one, as far as the server allows it"
        )


# --- Runs ---------------------------------------------------------------------------------------------------


class RunChanged(Event, frozen=True):
    """A run was seen in a new state, or for the first time (`previous` is None)."""

    slug: str
    run: Run
    previous: RunState | None

    @property
    def text(self) -> str:
        return f"{self.slug} {model_of(self.run)} (Run {self.run.id}): {describe_state(self.run.state)}"


class RunEnding(TransientEvent, frozen=True):
    """The log of a run has ended, and so has the run; the next poll returns its state."""

    slug: str
    run: Run


class Downloading(TransientEvent, frozen=True):
    """`received` bytes of a run's output have arrived, of `total` if that is known.

    Both are None before the download begins. `outcome` is set once it has ended.
    """

    slug: str
    run: Run
    received: int | None = None
    total: int | None = None
    outcome: str | None = None


# --- Polls --------------------------------------------------------------------------------------------------


class Polled(Event, frozen=True):
    """A poll listed the runs of a task: `pending` have not ended. The next poll is in `next_poll` seconds."""

    quiet: ClassVar[bool] = True
    template: ClassVar[str | None] = "{pending} run(s) still in progress, next look in {next_poll:.1f}s"

    slug: str
    pending: int
    next_poll: float


class PollFailed(Event, frozen=True):
    """The server did not answer a poll, which will be repeated: if it asks to wait, after that many `seconds`."""

    slug: str
    error: Exception
    seconds: float = 0.0

    @property
    def text(self) -> str:
        when = f" in {duration(self.seconds)}" if self.seconds else ""
        return f"The server did not answer, asking again{when}: {self.error}"


# --- Logs ---------------------------------------------------------------------------------------------------


class LogBegan(Event, frozen=True):
    """The log of `run` is shown from here on."""

    run: Run

    @property
    def text(self) -> str:
        return f"Logs for {model_of(self.run)} (Run {self.run.id}) [{self.run.state.label}]"


class LogText(Event, frozen=True):
    """The next piece of the log that is shown: `data` may hold several lines or part of one."""

    quiet: ClassVar[bool] = True

    run: Run
    data: str


class LogLine(Event, frozen=True):
    """One whole line, without its end, of a log that is shown among others."""

    quiet: ClassVar[bool] = True

    run: Run
    line: str

    @property
    def text(self) -> str:
        return f"{self.run.task_slug.task_slug} {model_of(self.run)} | {self.line}"


class LogRead(TransientEvent, frozen=True):
    """`lines` lines of a run's log have been read so far; `ended` is True if that is all of it."""

    run: Run
    lines: int
    ended: bool = False


class LogSilent(Event, frozen=True):
    """No text has come from the log of a run for a while. If the run has `ended`, its log is read once more."""

    run: Run
    ended: bool

    @property
    def text(self) -> str:
        name = f"{model_of(self.run)} (Run {self.run.id})"
        if self.ended:
            return f"The log of {name} is silent, and the run has ended: reading its log once more"
        return f"The log of {name} is silent; the run is still going on"


class LogEnded(Event, frozen=True):
    """The log of a run is complete, or `error` is the reason why it is not."""

    run: Run
    lines: int
    error: Exception | None = None

    @property
    def text(self) -> str:
        """`(12 lines)`, or why there are none, or why there are not more."""
        if self.error is None:
            return f"({self.lines} lines)"
        if isinstance(self.error, NotFound) or (isinstance(self.error, ApiError) and not self.lines):
            return f"(No logs available — server returned {self.error.status})"
        return f"(The log broke off — {self.error})"


Emit = Callable[[Event], None]


def ignore_events(event: Event) -> None:
    """The default `emit`: do nothing."""
