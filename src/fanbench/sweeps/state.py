"""The state of a sweep, rebuilt from its events: for the live screen, and for readers of `--format jsonl`.

state = SweepState()
for line in stream:
    state.absorb(*read_event(line))
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Union

import msgspec

from fanbench.operations.queue import NotEnqueued, QueueRead
from fanbench.sweeps.attempts import PlannedRun, expand_runs
from fanbench.sweeps.decide import RunStatus, run_status
from fanbench.sweeps.events import (
    ALL_EVENTS,
    BudgetRead,
    CreationChanged,
    Draining,
    LimitChanged,
    LogSaved,
    OutputSaved,
    RetryPlanned,
    RunCancelled,
    RunEvent,
    RunFound,
    RunKnown,
    RunLogLine,
    RunMissing,
    RunScheduled,
    RunSkipped,
    RunsPolled,
    RunStateChanged,
    SweepEnded,
    SweepEvent,
    SweepStarted,
    TaskPreparationFailed,
    TaskPushed,
    TaskReady,
)
from fanbench.wire.messages import CreationState, RunState

__all__ = ["Cell", "LimitStep", "SweepState", "TaskState", "read_event"]

# How many of the newest are kept of what may come without end.
_LINES = 100
_LIMITS = 1000
_CALLS = 32


class Cell(msgspec.Struct):
    """One attempt at a planned run; `attempt` is 0 before the first.

    `scheduled` is when this process scheduled it. `output` and `log` are paths relative to the sweep's folder, None
    until the files are complete. `reason` tells why it is not scheduled yet, why it errored, or why it is missing
    at `missing`, the stage that failed. `result` is what the server reports for the run.
    """

    attempt: int = 0
    version: int | None = None
    run_id: int | None = None
    taken: bool = False
    run_state: RunState | None = None
    output: str | None = None
    log: str | None = None
    missing: str | None = None
    reason: str = ""
    scheduled: datetime | None = None
    cancelled: bool = False
    result: float | bool | None = None

    @property
    def status(self) -> RunStatus:
        if self.cancelled:
            return RunStatus.CANCELLED
        return run_status(
            self.run_state,
            scheduled=self.taken,
            collected=self.output is not None and self.log is not None,
            given_up=self.missing is not None,
            live=True,
        )

    def absorb(self, event: RunEvent, at: datetime | None) -> None:
        match event:
            case RunScheduled():
                self.taken, self.missing, self.reason, self.scheduled = True, None, "", at
            case RunSkipped():
                self.taken, self.scheduled, self.reason = False, None, event.reason
            case RunFound():
                self.taken, self.missing = True, None
                self.run_id, self.version = event.run_id, event.version
            case RunStateChanged():
                self.taken = True
                self.run_id, self.run_state, self.reason = event.run_id, event.state, event.error
                self.result = event.result
            case LogSaved():
                self.log = event.path
            case OutputSaved():
                self.output = event.path
            case RunCancelled():
                self.cancelled, self.run_id = True, event.run_id
            case RunMissing():
                self.missing, self.reason = event.stage, event.error
            case RunKnown():
                self.taken, self.missing = True, None
                self.version, self.run_id = event.version, event.run_id
                self.run_state, self.reason = event.state, event.error
                self.output, self.log, self.result = event.output, event.log, event.result
            case _:
                pass


class TaskState(msgspec.Struct):
    """A task with its newest `version` on the server, and that version's creation. `failed` is why it cannot run.

    `total` is the sum of the `results` that the server has reported for its runs, where a pass is 1 and a failure 0.
    """

    version: int | None = None
    creation: CreationState | None = None
    ready: bool = False
    failed: str | None = None
    total: float = 0.0
    results: int = 0

    @property
    def mean(self) -> float | None:
        """The mean of the results so far."""
        return self.total / self.results if self.results else None


class LimitStep(msgspec.Struct, frozen=True):
    """From `at`, up to `limit` calls could be in flight, after a `pause` of seconds in which none began."""

    at: datetime | None
    limit: int
    reason: str
    pause: float


@dataclass
class SweepState:
    """Everything that is known of a sweep. Each event takes the same short time, however large the sweep is.

    `cells` has the newest attempt of each run of which anything is known (`cell` covers the others, too), and
    `earlier` the attempts before it. `counts` are of cells by status, in all and by task. `calls` is the number of
    API calls so far. Only the newest log lines and steps of the limit are kept.
    """

    started: SweepStarted | None = None
    began: datetime | None = None
    tasks: dict[str, TaskState] = field(default_factory=dict)
    cells: dict[PlannedRun, Cell] = field(default_factory=dict)
    earlier: dict[PlannedRun, list[Cell]] = field(default_factory=dict)
    counts: Counter[RunStatus] = field(default_factory=Counter)
    counts_by_task: dict[str, Counter[RunStatus]] = field(default_factory=dict)
    limit: int | None = None
    limits: deque[LimitStep] = field(default_factory=lambda: deque(maxlen=_LIMITS))
    budget: BudgetRead | None = None
    queue: QueueRead | None = None
    draining: Draining | None = None
    ended: SweepEnded | None = None
    calls: int = 0
    lines: deque[RunLogLine] = field(default_factory=lambda: deque(maxlen=_LINES))
    _calls: deque[tuple[datetime, int]] = field(default_factory=lambda: deque(maxlen=_CALLS))
    _queue_reads: list[tuple[datetime, QueueRead]] = field(default_factory=list)
    _oldest: datetime | None = None
    _newest: datetime | None = None
    _runs: int = 0
    _seconds: float = 0.0
    _longest: float = 0.0

    def cell(self, planned_run: PlannedRun) -> Cell:
        """Return the newest attempt at a planned run."""
        return self.cells.get(planned_run) or Cell()

    @property
    def planned_runs(self) -> Iterator[PlannedRun]:
        """All planned runs, in the order of the plan."""
        if self.started is not None:
            yield from expand_runs(self.started.tasks, self.started.models, self.started.repeats)

    @property
    def planned(self) -> int:
        """The number of planned runs."""
        return self.started.planned if self.started else 0

    @property
    def over(self) -> int:
        """The number of planned runs that are completed, errored or missing."""
        return sum(number for status, number in self.counts.items() if status.over)

    @property
    def in_flight(self) -> int:
        return sum(number for status, number in self.counts.items() if status.in_flight)

    def calls_per_second(self, now: datetime) -> float | None:
        """Return the rate of calls in the last half minute or so; None if it is not known."""
        if len(self._calls) < 2:
            return None
        since, before = self._calls[0]
        seconds = (now - since).total_seconds()
        return (self.calls - before) / seconds if seconds > 0 else None

    def seconds_left(self, now: datetime) -> float | None:
        """Estimate the time left from how long the runs of this sweep have taken; None if that is not known.

        The youngest run in flight takes as long as the longest so far. Runs that are not scheduled yet follow in
        rounds of as many as are in flight, each as long as the mean. Where runs queue on the server, the rest ends
        at the rate of those that have ended. Where runs are in the server's queue, see `seconds_in_queue`.
        """
        if (in_queue := self.seconds_in_queue(now)) is not None:
            return in_queue
        if not self._runs or self._newest is None or self._oldest is None or self.planned == self.over:
            return None
        if self.counts[RunStatus.QUEUED]:
            return (self.planned - self.over) * (now - self._oldest).total_seconds() / self._runs
        left = max(0.0, self._longest - (now - self._newest).total_seconds())
        waiting = 0 if self.draining else self.counts[RunStatus.UNSCHEDULED]
        rounds = math.ceil(waiting / max(1, self.in_flight))
        return left + rounds * self._seconds / self._runs if left or rounds else None

    def seconds_in_queue(self, now: datetime) -> float | None:
        """Estimate the time left by the server's queue; None if it is not used, or its pace is not known.

        All runs of the caller that are there end at the rate at which the others have ended since the first reading,
        also those of other sweeps, and then those that are not scheduled yet.
        """
        if len(self._queue_reads) < 2 or self.planned == self.over:
            return None
        (since, first), (at, last) = self._queue_reads
        seconds, ended = (at - since).total_seconds(), last.ended - first.ended
        if seconds <= 0 or ended <= 0:
            return None
        waiting = 0 if self.draining else self.counts[RunStatus.UNSCHEDULED]
        left = (last.queued + last.active + waiting) * seconds / ended
        return max(0.0, left - (now - at).total_seconds())

    # --- Events ---

    def absorb(self, event: SweepEvent, at: datetime | None = None) -> None:
        """Take in an event that happened at the time `at`. `SweepStarted` begins a new state."""
        match event:
            case RunLogLine():
                self.lines.append(event)
            case RunEvent():
                self._absorb_run(event, at)
            case RunsPolled():
                self.calls = max(self.calls, event.calls)
                if at is not None and (not self._calls or (at - self._calls[-1][0]).total_seconds() >= 1):
                    self._calls.append((at, self.calls))
            case TaskPushed() | CreationChanged() | TaskReady() | TaskPreparationFailed():
                self._absorb_task(event)
            case LimitChanged():
                self.limit = event.limit
                self.limits.append(LimitStep(at, event.limit, event.reason, event.pause))
            case BudgetRead():
                self.budget = event
            case QueueRead():
                self.queue = event
                if at is not None:
                    self._queue_reads[1:] = [(at, event)]
            case NotEnqueued():
                self.queue = None
                self._queue_reads.clear()
            case Draining():
                self.draining = event
            case SweepStarted():
                vars(self).update(vars(SweepState(started=event, began=at, limit=event.limit)))
                each = event.planned // max(1, len(event.tasks))
                self.tasks = {task: TaskState() for task in event.tasks}
                self.counts = Counter({RunStatus.UNSCHEDULED: event.planned})
                self.counts_by_task = {task: Counter({RunStatus.UNSCHEDULED: each}) for task in event.tasks}
            case SweepEnded():
                self.ended = event
                # A retry that was planned but never scheduled is dropped: the errored attempt is the result.
                for planned_run, attempts in self.earlier.items():
                    while attempts and not (cell := self.cells[planned_run]).taken:
                        self._move(planned_run, cell.status, attempts[-1].status)
                        self.cells[planned_run] = attempts.pop()
            case _:
                pass

    def _absorb_task(self, event: TaskPushed | CreationChanged | TaskReady | TaskPreparationFailed) -> None:
        task = self.tasks.setdefault(event.task, TaskState())
        match event:
            case TaskPushed():
                task.version, task.ready, task.failed = event.version, False, None
            case CreationChanged():
                task.creation = event.state
            case TaskReady():
                task.version, task.ready = event.version, True
            case TaskPreparationFailed():
                task.failed = event.error

    def _absorb_run(self, event: RunEvent, at: datetime | None) -> None:
        number, newest = event.attempt, self.cells.get(event.planned_run)
        if isinstance(event, RetryPlanned) and newest is not None and number <= newest.attempt:
            number = newest.attempt + 1
        cell = newest
        if newest is None or number > newest.attempt:
            # A newer attempt takes the place of the one before it.
            if newest is not None:
                self.earlier.setdefault(event.planned_run, []).append(newest)
                self._move(event.planned_run, newest.status, RunStatus.UNSCHEDULED)
                self._count(event.planned_run, newest.result, -1)
            newest = cell = self.cells[event.planned_run] = Cell(attempt=number)
        elif number < newest.attempt:
            earlier = self.earlier.get(event.planned_run, ())
            cell = next((one for one in earlier if one.attempt == number), None)
        if cell is None:
            return
        before, result = cell.status, cell.result
        cell.absorb(event, at)
        if cell is newest and result is None:
            self._count(event.planned_run, cell.result)
        if isinstance(event, RunScheduled):
            self._oldest, self._newest = self._oldest or at, at
        ended = isinstance(event, RunStateChanged) and event.state.terminal and before.in_flight
        # Runs of an earlier process do not count, because it is not known when they began.
        if ended and at is not None and cell.scheduled is not None:
            seconds = (at - cell.scheduled).total_seconds()
            self._runs += 1
            self._seconds += seconds
            self._longest = max(self._longest, seconds)
        if cell is newest:
            self._move(event.planned_run, before, cell.status)

    def _count(self, planned_run: PlannedRun, result: float | bool | None, times: int = 1) -> None:
        if result is not None:
            task = self.tasks.setdefault(planned_run.task, TaskState())
            task.total, task.results = task.total + times * result, task.results + times

    def _move(self, planned_run: PlannedRun, before: RunStatus, after: RunStatus) -> None:
        if before != after:
            for counts in (self.counts, self.counts_by_task.setdefault(planned_run.task, Counter())):
                counts[before] -= 1
                counts[after] += 1


# --- Reading ------------------------------------------------------------------------------------------------


class _Stamp(msgspec.Struct):
    at: datetime


_EVENTS = msgspec.json.Decoder(Union[ALL_EVENTS])  # noqa: UP007
_STAMPS = msgspec.json.Decoder(_Stamp)


def read_event(line: bytes | str) -> tuple[SweepEvent, datetime]:
    """Return what `write_event` has written: the event, and its time.

    Raises:
        msgspec.DecodeError: The line is not an event.
    """
    try:
        event: SweepEvent = _EVENTS.decode(line)
        return event, _STAMPS.decode(line).at
    except (UnicodeDecodeError, RecursionError) as error:
        raise msgspec.DecodeError(str(error)) from None
