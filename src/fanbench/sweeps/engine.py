"""The engine of a sweep: runs every task on every model, without a barrier between stages or tasks.

    engine          start, resume and end
    task            one task: push → create → schedule
    schedule        one schedule call for all models that are due
    task_watcher    one list call per poll for all runs of a task, which finds them and sees them begin and end
    run             one coroutine per run: watch → live log → download → log
    task_runs       the runs of a task, in memory
    attempt_store   memory, journal and events, changed together
    context         what all of these share, with the budget, asked before each schedule call

The process can be killed at any instant. The intent is written down before a call that must not be made twice,
and the result after every step. No coroutine waits between a change of state, its record and its event. So an
engine that starts with the same journal on the same server continues where this one ended.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import anyio

from fanbench.errors import FanbenchError, leaf_errors
from fanbench.sweeps.artifacts import log_is_whole, output_is_whole
from fanbench.sweeps.attempt_store import Update
from fanbench.sweeps.attempts import Attempt, Phase, wants_log, wants_output
from fanbench.sweeps.context import SweepContext
from fanbench.sweeps.decide import REPORTED, Stage, Step
from fanbench.sweeps.events import DrainReason, RunKnown, SweepEnded, SweepStarted
from fanbench.sweeps.task import TaskPipeline

__all__ = ["Engine", "Stage"]

# How many attempts are checked on disk in one go.
_CHECKED_AT_ONCE = 500


class Engine(SweepContext):
    """Carries out a plan, once; it is the context that its coroutines share."""

    async def run(self) -> None:
        """Carry out the plan as far as possible. The failure of a run or a task is an event.

        Raises:
            FanbenchError: The sweep as a whole failed: the credentials, the journal or the disk.
        """
        with _first_error():
            began = anyio.current_time()
            await self._forget_lost_files()
            self._report_known()
            self._resume()
            self.begin()
            with anyio.move_on_after(self.rules.deadline) as deadline:
                await self.gate.open()
                async with anyio.create_task_group() as group:
                    for task in self.plan.tasks:
                        group.start_soon(TaskPipeline(task, self).run)
            if deadline.cancelled_caught:
                self.drain(DrainReason.DEADLINE, f"{self.rules.deadline:g} s are over")
            if self.until != "collect":
                self.drain(DrainReason.STAGE)
            self._report_end(anyio.current_time() - began)

    # --- Start ---

    async def _forget_lost_files(self) -> None:
        """Files that are recorded but no longer complete on disk are fetched again."""
        store = self.store
        recorded = [
            attempt
            for planned_run in store.planned_runs
            for attempt in store.attempts(planned_run)
            if attempt.output or attempt.log
        ]
        changed: list[Attempt] = []
        for start in range(0, len(recorded), _CHECKED_AT_ONCE):
            some = recorded[start : start + _CHECKED_AT_ONCE]
            changed += await self.offload(partial(_without_lost_files, self.root, some))
        store.commit(*(Update(store.put(attempt)) for attempt in changed))

    def _report_known(self) -> None:
        """Emit what the journal has, so that the events alone tell the whole state."""
        plan, store = self.plan, self.store
        done = sum(store.next_step(planned_run) is Step.DONE for planned_run in store.planned_runs)
        slugs = tuple(self.tasks)
        planned = len(store.planned_runs)
        endpoint = self.client.config.endpoint
        self.emit(SweepStarted(str(self.root), endpoint, slugs, plan.models, plan.repeats, planned, done))
        for planned_run in store.planned_runs:
            real = [one for one in store.attempts(planned_run) if one.phase is not Phase.VOID]
            # The newest attempt is the result; if it may turn out void, that is the one before it.
            for attempt in real[-2:] if real and real[-1].needs_lookup else real[-1:]:
                self.emit(
                    RunKnown(
                        attempt.planned_run,
                        attempt.number,
                        attempt.version,
                        attempt.run_id,
                        attempt.state,
                        attempt.error,
                        attempt.output.path if attempt.output else None,
                        attempt.log.path if attempt.log else None,
                    )
                )

    def _resume(self) -> None:
        """Continue every planned run from its state in the journal."""
        store = self.store
        for slug, attempts in store.attempts_by_task().items():
            self.tasks[slug].load(attempts, store.journal.foreign_runs(slug))
        for planned_run in store.planned_runs:
            task, attempts = self.tasks[planned_run.task], store.attempts(planned_run)
            match store.next_step(planned_run):
                case Step.SCHEDULE:
                    task.add_due(planned_run)
                case Step.FIND | Step.WATCH:
                    task.resume(attempts[-1])
                case Step.COLLECT | Step.DONE:
                    store.errored += attempts[-1].errored
            for attempt in attempts if self.until == "collect" else ():
                if wants_output(attempt) or wants_log(attempt):
                    assert attempt.run_id is not None
                    known = attempt.output is not None or self.gate.is_counted(attempt.run_id)
                    task.resume_ended(attempt, cost_known=known)
                    self.collecting += 1
        self.count_errored(0)

    # --- End ---

    def _report_end(self, seconds: float) -> None:
        planned_runs = self.store.planned_runs
        counts = Counter(self.store.status(planned_run) for planned_run in planned_runs)
        by_status = {status.value: counts[status] for status in REPORTED}
        self.emit(SweepEnded(planned=len(planned_runs), seconds=seconds, stopped=self.stopped, **by_status))


def _without_lost_files(root: Path, attempts: Sequence[Attempt]) -> list[Attempt]:
    """The attempts that have lost files, without them. A new output replaces the whole folder with its log."""
    changed = []
    for attempt in attempts:
        if attempt.output is not None and not output_is_whole(root, attempt.output):
            changed.append(attempt.with_(output=None, log=None))
        elif attempt.log is not None and not log_is_whole(root, attempt.log):
            changed.append(attempt.with_(log=None))
    return changed


@contextmanager
def _first_error() -> Iterator[None]:
    """Of several errors that end everything at the same time, raise the first one by itself."""
    try:
        yield
    except BaseExceptionGroup as group:
        errors = leaf_errors(group)
        if not all(isinstance(error, FanbenchError) for error in errors):
            raise
        raise errors[0] from None
