"""The events of a sweep, each with a text and a JSON form.

The events are enough to rebuild the whole state: `fanbench.sweeps.state.SweepState` does that, for the live screen
and for readers of `--format jsonl`. In JSON each event is one object, with its name under `event`; `write_event`
adds `at`, the time in UTC. Names and fields are documented in docs/sweep.md and remain stable.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from datetime import datetime
from typing import ClassVar, TypeAlias

import msgspec

from fanbench._util.text import duration, error_line, iso_time, many, one_line, result_text
from fanbench.operations.events import Event, VersionSuperseded, describe_state
from fanbench.operations.queue import NotAttributed, NotEnqueued, QueueRead
from fanbench.operations.unanswered import CallUnanswered
from fanbench.sweeps.attempts import PlannedRun
from fanbench.wire.messages import CreationState, RunState
from fanbench.wire.retry import LONGEST_NAMED_WAIT

__all__ = [
    "ALL_EVENTS",
    "REPORTED_EACH",
    "BudgetRead",
    "CancelEnded",
    "CreationChanged",
    "DrainReason",
    "Draining",
    "EmitSweepEvent",
    "FetchFailed",
    "LimitChanged",
    "LogSaved",
    "LookFailed",
    "OutputSaved",
    "PageEdited",
    "RetryPlanned",
    "RunCancelled",
    "RunFound",
    "RunKnown",
    "RunLogLine",
    "RunMissing",
    "RunScheduled",
    "RunSkipped",
    "RunStateChanged",
    "RunUnlisted",
    "RunsPolled",
    "SweepEnded",
    "SweepEvent",
    "SweepStarted",
    "TaskPreparationFailed",
    "TaskPushed",
    "TaskReady",
    "write_event",
]

#: Seconds between two reports of failures in a row.
REPORTED_EACH = 60.0


class _OwnEvent(Event, frozen=True):
    """The base of the events that only a sweep has."""

    @property
    def text(self) -> str:
        """One line for people."""
        return super().text or ""


#: An event of a sweep. Its `text` is one line for people.
SweepEvent: TypeAlias = (
    _OwnEvent | CallUnanswered | NotAttributed | NotEnqueued | QueueRead | VersionSuperseded
)


class SweepStarted(_OwnEvent, frozen=True):
    """The engine begins. Of the `planned` runs, `done` were complete before, with output and log.

    Up to `limit` calls may be in flight now; None if that is not known.
    """

    output: str
    endpoint: str
    tasks: tuple[str, ...]
    models: tuple[str, ...]
    repeats: int
    planned: int
    done: int
    limit: int | None = None

    @property
    def text(self) -> str:
        already = f", {self.done} of them done already" if self.done else ""
        return (
            f"Sweep of {many(len(self.tasks), 'task')} on {many(len(self.models), 'model')}: "
            f"{many(self.planned, 'run')}{already}; results in {self.output}"
        )


# --- Tasks --------------------------------------------------------------------------------------------------


class TaskPushed(_OwnEvent, frozen=True):
    """The server has a version of the task, whose creation may still be in progress.

    `adopted` is True if an earlier, interrupted push created it.
    """

    task: str
    version: int
    adopted: bool = False

    @property
    def text(self) -> str:
        return f"{self.task}: {'found again' if self.adopted else 'pushed'} as version {self.version}"


class CreationChanged(_OwnEvent, frozen=True):
    task: str
    state: CreationState

    @property
    def text(self) -> str:
        return f"{self.task}: creation {describe_state(self.state).lower()}"


class TaskReady(_OwnEvent, frozen=True):
    """The version can be run."""

    template: ClassVar[str | None] = "{task}: version {version} is ready"

    task: str
    version: int


class PageEdited(_OwnEvent, frozen=True):
    """The page of a task was changed to what its file says, or was not because of the `error`.

    `changed` are the names of its values, and `unknown_tags` those that the server has left out.
    """

    task: str
    changed: tuple[str, ...] = ()
    unknown_tags: tuple[str, ...] = ()
    error: str = ""

    @property
    def text(self) -> str:
        if self.error:
            return f"{self.task}: its page was not changed: {error_line(self.error)}"
        said = []
        if self.changed:
            said.append(f"its page has changed: {', '.join(self.changed)}")
        if self.unknown_tags:
            said.append(f"unknown tags: {', '.join(map(one_line, self.unknown_tags))}")
        return f"{self.task}: {'; '.join(said)}"


class LookFailed(_OwnEvent, frozen=True):
    """The server did not show the task or its runs. The next look is in `pause` seconds.

    Of failures in a row, the first is reported, and then one each minute.
    """

    task: str
    error: str
    pause: float

    @property
    def text(self) -> str:
        return f"{self.task}: {error_line(self.error).removesuffix('.')}; looking again in {duration(self.pause)}"


class TaskPreparationFailed(_OwnEvent, frozen=True, tag="task_failed"):
    """The task cannot be run, because its push or its creation failed. Its runs will be missing."""

    task: str
    error: str

    @property
    def text(self) -> str:
        return f"{self.task}: failed, so its runs are missing: {error_line(self.error)}"


# --- Runs ---------------------------------------------------------------------------------------------------


class RunEvent(_OwnEvent, frozen=True):
    """An event of one planned run; `attempt` counts from 1."""

    planned_run: PlannedRun = msgspec.field(name="unit")
    attempt: int

    @property
    def label(self) -> str:
        repeat = f" #{self.planned_run.repeat}" if self.planned_run.repeat > 1 else ""
        attempt = f" (attempt {self.attempt})" if self.attempt > 1 else ""
        return f"{self.planned_run.task} {self.planned_run.model}{repeat}{attempt}"

    @property
    def text(self) -> str:
        return f"{self.label}: {super().text}"


class RunKnown(RunEvent, frozen=True):
    """What the journal has of a planned run when the engine begins: one event for each run that it has.

    There are two events where the newest attempt may turn out to have no run: then the one before it is the result.
    `state` is the final state, None before the end. `output` and `log` are paths relative to the sweep's folder, None
    where they have yet to be fetched. `result` is that of `RunStateChanged`.
    """

    quiet: ClassVar[bool] = True

    version: int
    run_id: int | None = None
    state: RunState | None = None
    error: str = ""
    output: str | None = None
    log: str | None = None
    result: float | bool | None = None

    @property
    def text(self) -> str:
        return f"{self.label}: {self.state.label.lower() if self.state else 'scheduled'} before"


class RunScheduled(RunEvent, frozen=True):
    """The server has accepted the run."""

    template: ClassVar[str | None] = "scheduled"


class RunSkipped(RunEvent, frozen=True):
    """The server does not accept the run now, or turned out not to have it; it is tried again when that may change."""

    template: ClassVar[str | None] = "not yet: {reason}"

    reason: str


class RunFound(RunEvent, frozen=True):
    """The run was found on the server. `adopted` is True if it was scheduled before this process began."""

    run_id: int
    version: int
    adopted: bool = False

    @property
    def text(self) -> str:
        return f"{self.label}: run {self.run_id}{' (there already)' if self.adopted else ''}"


class RunStateChanged(RunEvent, frozen=True, tag="run_changed"):
    """The state of the run on the server; `error` is the server's message for an errored run.

    `started` and `finished` are by the server's clock, None where it names no time. `result` is the score, or whether
    the model passed, as the server reports it at the end; None if it does not.
    """

    run_id: int
    state: RunState
    error: str = ""
    started: datetime | None = None
    finished: datetime | None = None
    result: float | bool | None = None

    @property
    def text(self) -> str:
        reason = f": {error_line(self.error)}" if self.error.strip() else ""
        result = f": {result_text(self.result)}" if self.result is not None else ""
        return f"{self.label}: {describe_state(self.state).lower()}{result}{reason}"


class RunUnlisted(RunEvent, frozen=True):
    """The run is no longer listed. If no list shows it for `seconds`, it counts as cancelled.

    They are 0 for a server whose lists are never behind: the next one decides.
    """

    run_id: int
    seconds: float

    @property
    def text(self) -> str:
        limit = f"within {duration(self.seconds)}" if self.seconds else "with the next list"
        return (
            f"{self.label}: Run {self.run_id} is no longer listed. If it does not come back {limit}, it counts as "
            "cancelled by someone else."
        )


class RunCancelled(RunEvent, frozen=True):
    """The run was cancelled on the server, by the sweep (`--cancel`) or by someone else.

    The next invocation makes it again.
    """

    template: ClassVar[str | None] = "cancelled"

    run_id: int


class RetryPlanned(RunEvent, frozen=True):
    """The run errored, and another attempt follows (`--retry-errored`)."""

    template: ClassVar[str | None] = "errored, and is scheduled again"


class RunLogLine(RunEvent, frozen=True, tag="log_line"):
    """One whole line of the run's log, without its line end, as it is written."""

    quiet: ClassVar[bool] = True

    run_id: int
    line: str

    @property
    def text(self) -> str:
        # A carriage return would begin a line that does not say whose it is.
        start = f"{self.planned_run.task} {self.planned_run.model} | "
        return "\n".join(f"{start}{part}" for part in self.line.split("\r"))


class LogSaved(RunEvent, frozen=True):
    """The complete log is in `path`, relative to the sweep's folder; `size` is in bytes."""

    template: ClassVar[str | None] = "log of {lines} lines"

    run_id: int
    path: str
    lines: int
    size: int


class OutputSaved(RunEvent, frozen=True):
    """The output is in the folder `path`, relative to the sweep's folder; `size` is in bytes."""

    template: ClassVar[str | None] = "downloaded {files} files, {size} bytes"

    run_id: int
    path: str
    files: int
    size: int
    digest: str


class FetchFailed(RunEvent, frozen=True):
    """The output or the log of an ended run cannot be fetched now. The next try is in `pause` seconds.

    Of failures in a row, the first is reported, and then one each minute.
    """

    stage: str
    error: str
    pause: float

    @property
    def text(self) -> str:
        reason = error_line(self.error).removesuffix(".")
        return f"{self.label}: {self.stage}: {reason}; next try in {duration(self.pause)}"


class RunMissing(RunEvent, frozen=True):
    """This invocation has given the run up; the same command tries again. `stage` is the stage that failed."""

    stage: str
    error: str

    @property
    def text(self) -> str:
        return f"{self.label}: missing: {self.stage}: {error_line(self.error)}"


# --- The engine ---------------------------------------------------------------------------------------------


class RunsPolled(_OwnEvent, frozen=True, tag="polled"):
    """The runs of a task were polled; `calls` is the number of API calls that the sweep has made so far."""

    quiet: ClassVar[bool] = True
    template: ClassVar[str | None] = "{task}: {pending} runs under way"

    task: str
    pending: int
    calls: int = 0


class LimitChanged(_OwnEvent, frozen=True):
    """The limit of calls in flight has changed. No call begins for `pause` seconds.

    The pause is shorter than what the server asks for if that is more than `LONGEST_NAMED_WAIT`; `reason` says so.
    """

    limit: int
    previous: int
    reason: str
    pause: float = 0.0

    @property
    def text(self) -> str:
        pause = f"; all calls pause for {self.pause:.1f} s" if self.pause else ""
        if self.pause >= LONGEST_NAMED_WAIT:
            pause = (
                f"; all calls pause for {duration(self.pause)}, and then one shows whether the server answers again; "
                "what it refuses then is given up, and the same command tries again"
            )
        return f"limit of calls {self.previous} → {self.limit} ({self.reason}){pause}"


class BudgetRead(_OwnEvent, frozen=True):
    """The budget in US dollars: `spent` since the sweep began, and `reserved` for runs in flight; None if unknown.

    `reserved` leaves out the `unknown` runs in flight, whose cost cannot be estimated.
    """

    cap: float
    spent: float | None
    reserved: float | None
    unknown: int = 0

    @property
    def text(self) -> str:
        def dollars(value: float | None) -> str:
            return "unknown" if value is None else f"${value:.4f}"

        more = f", {self.unknown} runs of unknown cost" if self.unknown else ""
        return (
            f"budget ${self.cap:.12g}: spent {dollars(self.spent)}, reserved {dollars(self.reserved)}{more}"
        )


class DrainReason(enum.StrEnum):
    """The reason why nothing more is scheduled."""

    INTERRUPTED = "interrupted"
    FAILURES = "failures"
    BUDGET = "budget"
    DEADLINE = "deadline"
    STAGE = "stage"


class Draining(_OwnEvent, frozen=True):
    """Nothing more is pushed or scheduled; the sweep finishes the runs that are `in_flight`."""

    reason: DrainReason
    in_flight: int
    detail: str = ""

    @property
    def text(self) -> str:
        detail = f" ({self.detail})" if self.detail else ""
        return f"nothing more is scheduled: {self.reason.value}{detail}; {self.in_flight} runs in flight"


class CancelEnded(_OwnEvent, frozen=True):
    """The sweep has `cancelled` runs that it leaves on the server, but not `left` ones, because of the `error`.

    `followed` tells whether the sweep goes on until these have ended.
    """

    cancelled: int
    left: int
    error: str = ""
    followed: bool = False

    @property
    def text(self) -> str:
        done = f"{many(self.cancelled, 'run')} cancelled"
        if not self.left:
            return done
        left = f"{done}; {many(self.left, 'run')} left on the server: {error_line(self.error)}"
        if not self.followed:
            return left
        goes_on = (
            "It goes on, and is followed to its end; Ctrl-C twice leaves it."
            if self.left == 1
            else "They go on, and are followed to their ends; Ctrl-C twice leaves them."
        )
        return f"{left.rstrip('.')}. {goes_on}"


class SweepEnded(_OwnEvent, frozen=True):
    """The engine has ended. Each of the `planned` runs is in one of the six counts; `seconds` is wall time.

    `running` ones are, or may be, on the server; the next sweep continues with them.
    """

    planned: int
    completed: int
    errored: int
    missing: int
    unscheduled: int
    seconds: float
    stopped: DrainReason | None = None
    running: int = 0
    cancelled: int = 0

    @property
    def text(self) -> str:
        parts = [f"{self.completed} of {self.planned} runs completed"]
        parts += [f"{self.errored} errored"] if self.errored else []
        parts += [f"{self.missing} missing"] if self.missing else []
        parts += [f"{self.running} still running"] if self.running else []
        parts += [f"{self.cancelled} cancelled"] if self.cancelled else []
        parts += [f"{self.unscheduled} not scheduled"] if self.unscheduled else []
        return f"{', '.join(parts)} in {self.seconds:.1f} s"


#: Receives the events of a sweep: `fanbench.operations.events.Emit`, narrowed to them.
EmitSweepEvent = Callable[[SweepEvent], None]

ALL_EVENTS: tuple[type[SweepEvent], ...] = (
    CallUnanswered,
    NotAttributed,
    NotEnqueued,
    QueueRead,
    VersionSuperseded,
    *(kind for kind in _OwnEvent.__subclasses__() if kind is not RunEvent),
    *RunEvent.__subclasses__(),
)


def write_event(event: SweepEvent, at: datetime) -> bytes:
    """Return the event as one JSON object, without a line end."""
    fields = event.record()
    return msgspec.json.encode({"event": fields.pop("event"), "at": iso_time(at), **fields})
