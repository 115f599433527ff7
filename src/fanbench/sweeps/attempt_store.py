"""All attempts of a sweep, changed in memory, in the journal and in events together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

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
from fanbench.sweeps.events import EmitSweepEvent, RunMissing, SweepEvent
from fanbench.sweeps.journal import Journal
from fanbench.sweeps.plan import SweepPlan
from fanbench.sweeps.reruns import Reruns

__all__ = ["AttemptStore", "Update"]


# The names of values in the journal.
_NAMED = "named "
_CANCELLING = "cancelling "


def _named(attempt: Attempt) -> str:
    planned = attempt.planned_run
    return f"{_NAMED}{planned.task} {planned.model} {planned.repeat} {attempt.number}"


class Update(NamedTuple):
    """A changed attempt to write, an event to emit, or both."""

    attempt: Attempt | None = None
    event: SweepEvent | None = None


class AttemptStore:
    """The journal's attempts and tasks, indexed in memory.

    Change an attempt with `put`, then call `commit` before you await anything: so memory, journal and events
    never disagree.
    """

    def __init__(self, plan: SweepPlan, journal: Journal, emit: EmitSweepEvent) -> None:
        self.journal = journal
        self.planned_runs: Sequence[PlannedRun] = plan.planned_runs
        self.tasks: dict[str, TaskRecord] = journal.tasks()
        #: The number of the newest attempt that was given up, by planned run.
        self.given_up: dict[PlannedRun, int] = {}
        #: The number of planned runs that have errored and are not retried.
        self.errored = 0
        self._emit = emit
        self._retry_errored = plan.rules.retry_errored
        self._identities = {task.slug: task.identity for task in plan.tasks}
        self._attempts = by_planned_run(journal.attempts())
        self._reruns = Reruns.read(journal).with_request(plan, self._attempts)

    # --- Changing ---

    def save_reruns(self) -> None:
        """Record what is to be made again, before anything is."""
        if self._reruns.after:
            self._reruns.save(self.journal)

    def end_reruns(self) -> None:
        """Record that the sweep has come to an end: the same may be asked for once more."""
        self._reruns = self._reruns.with_end()
        self.save_reruns()

    def put(self, attempt: Attempt) -> Attempt:
        """Add or replace an attempt in memory. The caller must commit it before it awaits."""
        attempts = self._attempts.setdefault(attempt.planned_run, [])
        for index in range(len(attempts) - 1, -1, -1):
            if attempts[index].number == attempt.number:
                attempts[index] = attempt
                return attempt
        attempts.append(attempt)
        return attempt

    def commit(self, *updates: Update) -> None:
        """Write the attempts in one transaction, then emit the events."""
        if attempts := [update.attempt for update in updates if update.attempt is not None]:
            self.journal.save_attempts(attempts)
        for update in updates:
            if update.event is not None:
                self._emit(update.event)

    def save_task(self, record: TaskRecord, event: SweepEvent | None = None) -> None:
        self.tasks[record.task] = record
        self.journal.save_task(record)
        if event is not None:
            self._emit(event)

    def give_up(self, planned_run: PlannedRun, number: int, stage: str, error: str) -> None:
        """Report a planned run as missing from this sweep. Only the first reason for each attempt is reported."""
        if number > self.given_up.get(planned_run, 0):
            self.given_up[planned_run] = number
            self._emit(RunMissing(planned_run, number, stage, error))

    def save_named(self, attempt: Attempt, run_id: int) -> None:
        """Record which run the server has named in its answer to the schedule call; 0 if it has named none.

        That run is certainly this sweep's. An attempt with the number of a void one has nothing to do with its run.
        """
        if run_id != self.named_run(attempt):
            self.journal.save_value(_named(attempt), str(run_id))

    def save_cancelling(self, run_ids: Iterable[int]) -> None:
        """Record that the server is about to be asked to cancel these runs: its answer may be lost."""
        for run_id in run_ids:
            self.journal.save_value(f"{_CANCELLING}{run_id}", "")

    # --- Asking ---

    def may_be_cancelled(self, run_id: int) -> bool:
        """Return whether the server was asked to cancel the run."""
        return self.journal.value(f"{_CANCELLING}{run_id}") is not None

    def named_run(self, attempt: Attempt) -> int:
        """Return the run that the server has named for the attempt, or 0."""
        value = self.journal.value(_named(attempt)) or ""
        return int(value) if value.isdecimal() else 0

    def attempts(self, planned_run: PlannedRun) -> list[Attempt]:
        """Return the attempts at the task's present content, oldest first."""
        return of_identity(self._attempts.get(planned_run, ()), self._identities[planned_run.task])

    def attempts_by_task(self) -> dict[str, list[Attempt]]:
        """Return all attempts of each planned task, including models and contents that are no longer planned."""
        by_task: dict[str, list[Attempt]] = {task: [] for task in self._identities}
        for planned_run, attempts in self._attempts.items():
            if planned_run.task in by_task:
                by_task[planned_run.task] += attempts
        return by_task

    def next_number(self, planned_run: PlannedRun) -> int:
        """Return the number of the next attempt. It reuses the number of a void one."""
        attempts = self._attempts.get(planned_run)
        return attempts[-1].number + (attempts[-1].phase is not Phase.VOID) if attempts else 1

    def next_step(self, planned_run: PlannedRun) -> Step:
        identity = self._identities[planned_run.task]
        attempts = self._attempts.get(planned_run, ())
        return next_step(
            attempts,
            identity,
            retry_errored=self._retry_errored,
            rerun_after=self._reruns.after.get(planned_run, 0),
        )

    def status(self, planned_run: PlannedRun) -> RunStatus:
        attempts = self._attempts.get(planned_run, ())
        last = newest(attempts, self._identities[planned_run.task])
        return attempt_status(last, given_up=planned_run in self.given_up)
