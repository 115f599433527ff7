"""All attempts of a sweep, in memory as in the journal, and the one way in which they change."""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence
from typing import NamedTuple

import anyio

from fanbench.operations.log_file import LogFile
from fanbench.sweeps.attempts import (
    Attempt,
    Phase,
    PlannedRun,
    TaskRecord,
    by_planned_run,
    newest,
    of_identity,
)
from fanbench.sweeps.decide import RunStatus, Step, attempt_status, next_step
from fanbench.sweeps.events import Emit, RunMissing, SweepEvent
from fanbench.sweeps.journal import Records
from fanbench.sweeps.plan import SweepPlan
from fanbench.wire.messages import RunState
from fanbench.wire.retry import RetryBudget

__all__ = ["Book", "Change", "Flight", "Stream"]


class Stream(enum.Enum):
    """What the live log of a run is doing."""

    NONE = enum.auto()
    #: All readers are busy.
    WAITING = enum.auto()
    OPEN = enum.auto()
    #: It has ended in good order: the run has ended, too, if a poll says so.
    ENDING = enum.auto()
    #: Nobody reads it any more.
    CLOSED = enum.auto()


class Flight:
    """One attempt on its way, from its intent to its files on disk.

    `since` is when this process began to wait for it, in the event loop's seconds. A list of runs that begins
    after `listed_by`, and does not have it, means that it is not there. `part` is its whole log, if it was
    read live without a break; `doubted`: a poll after the end of the stream said that the run goes on.
    """

    __slots__ = (
        "adopted",
        "attempt",
        "doubted",
        "ending_since",
        "gone",
        "landed",
        "listed_by",
        "log_wanted",
        "missed_until",
        "misses",
        "no_output",
        "paid",
        "part",
        "patience",
        "said",
        "scope",
        "seconds",
        "since",
        "state",
        "stream",
    )

    def __init__(self, attempt: Attempt, since: float, listed_by: float, *, adopted: bool = False) -> None:
        self.attempt = attempt
        self.since = since
        self.listed_by = listed_by
        #: Scheduled before this process began, or by somebody else.
        self.adopted = adopted
        self.state: RunState | None = None
        #: How long its run took, once it has ended and the server says so.
        self.seconds: float | None = None
        self.stream = Stream.NONE
        self.ending_since = 0.0
        self.doubted = False
        self.part: LogFile | None = None
        self.scope: anyio.CancelScope | None = None
        #: Set when it is gone; there is one only while somebody may wait for that.
        self.landed: anyio.Event | None = None
        #: It is waited for no longer: its run has ended, or it was given up, or it came to nothing.
        self.gone = False
        #: So many lines of its log were passed on.
        self.said = 0
        #: So often there was no live log of it.
        self.misses = 0
        #: Then it is not asked for again.
        self.missed_until = 0.0
        #: Its output is there, and its log is waited for.
        self.log_wanted = False
        self.no_output = False
        #: What it cost is known, as far as it ever will be.
        self.paid = False
        self.patience: RetryBudget | None = None

    @property
    def planned_run(self) -> PlannedRun:
        return self.attempt.planned_run

    @property
    def run_id(self) -> int:
        """Of a run that was found."""
        assert self.attempt.run_id is not None
        return self.attempt.run_id

    @property
    def over(self) -> bool:
        """Whether its run has ended, as a list has said."""
        return self.attempt.phase is Phase.ENDED

    @property
    def is_asked_for(self) -> bool:
        """Whether the call that schedules it is on its way."""
        return self.listed_by == math.inf

    @property
    def log_is_live(self) -> bool:
        return self.stream in (Stream.OPEN, Stream.ENDING)


class Change(NamedTuple):
    """Something that is to be written down and said, in this order."""

    attempt: Attempt | None = None
    event: SweepEvent | None = None


class Book:
    """The journal with an index. What is known in memory, written and said changes in one breath."""

    def __init__(self, plan: SweepPlan, records: Records, emit: Emit) -> None:
        self.plan = plan
        self.records = records
        self.emit = emit
        self.planned_runs: Sequence[PlannedRun] = plan.planned_runs
        self.tasks: dict[str, TaskRecord] = records.tasks()
        #: Planned runs that were given up: the number of the newest such attempt.
        self.missing: dict[PlannedRun, int] = {}
        #: How many planned runs have errored, and are not tried again.
        self.errored = 0
        self._retries = plan.rules.retry_errored
        self._identities = {task.slug: task.identity for task in plan.tasks}
        self._attempts = by_planned_run(records.attempts())

    # --- Questions ---

    def attempts(self, planned_run: PlannedRun) -> Sequence[Attempt]:
        """Of any content, oldest first."""
        return self._attempts.get(planned_run, ())

    def current(self, planned_run: PlannedRun) -> list[Attempt]:
        """Of the content that is swept now, oldest first."""
        return of_identity(self.attempts(planned_run), self._identities[planned_run.task])

    def newest(self, planned_run: PlannedRun) -> Attempt | None:
        """Of these, the last that is, or may be, a run on the server."""
        return newest(self.attempts(planned_run), self._identities[planned_run.task])

    def by_task(self) -> dict[str, list[Attempt]]:
        """All attempts at any runs of each task, planned now or not. For the start."""
        found: dict[str, list[Attempt]] = {task: [] for task in self._identities}
        for planned_run, made in self._attempts.items():
            found.setdefault(planned_run.task, []).extend(made)
        return found

    def step(self, planned_run: PlannedRun) -> Step:
        return next_step(
            self.attempts(planned_run), self._identities[planned_run.task], retry_errored=self._retries
        )

    def status(self, planned_run: PlannedRun) -> RunStatus:
        return attempt_status(self.newest(planned_run), given_up=planned_run in self.missing)

    def next_number(self, planned_run: PlannedRun) -> int:
        """What the next attempt is called. One that came to nothing leaves its number to the next."""
        made = self.attempts(planned_run)
        if not made:
            return 1
        return made[-1].number + (made[-1].phase is not Phase.VOID)

    # --- Changes ---

    def put(self, attempt: Attempt) -> Attempt:
        """Remember it; to be committed before anything is awaited."""
        made = self._attempts.setdefault(attempt.planned_run, [])
        for index in range(len(made) - 1, -1, -1):
            if made[index].number == attempt.number:
                made[index] = attempt
                return attempt
        made.append(attempt)
        return attempt

    def commit(self, changes: Sequence[Change]) -> None:
        """Write them in one transaction, and say them."""
        if attempts := [change.attempt for change in changes if change.attempt is not None]:
            self.records.save_attempts(attempts)
        for change in changes:
            if change.event is not None:
                self.emit(change.event)

    def save_task(self, record: TaskRecord, event: SweepEvent | None = None) -> None:
        self.tasks[record.task] = record
        self.records.save_task(record)
        if event is not None:
            self.emit(event)

    def give_up(self, planned_run: PlannedRun, attempt: int, stage: str, error: str) -> None:
        """The planned run is missing, this time: for the first reason of its newest attempt."""
        if attempt > self.missing.get(planned_run, 0):
            self.missing[planned_run] = attempt
            self.emit(RunMissing(planned_run, attempt, stage, error))
