"""The engine of a sweep: runs every task on every model, without a barrier between stages or tasks.

    engine          start, resume and end
    task            one task: push → create → schedule
    schedule        one schedule call for all models that are due
    task_watcher    one list call per poll for all runs of a task
    run             one coroutine per run: find → watch → live log → download → log
    task_state      the runs of a task, in memory
    attempt_store   memory, journal and events, changed together
    budget_gate     the budget, asked before each schedule call
    context         what all of these share

The process can be killed at any instant. The intent is written down before a call that must not be made twice,
and the result after every step. No coroutine waits between a change of state, its record and its event. So an
engine that starts with the same records on the same server continues where this one ended.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread

from fanbench._util.concurrency import Offload
from fanbench.errors import FanbenchError
from fanbench.operations.api import Api
from fanbench.sweeps.artifacts import log_is_whole, output_is_whole
from fanbench.sweeps.attempt_store import AttemptStore
from fanbench.sweeps.attempts import Attempt, Phase, wants_log, wants_output
from fanbench.sweeps.budget_gate import BudgetGate
from fanbench.sweeps.context import Stage, SweepContext, WaitForRoom
from fanbench.sweeps.decide import REPORTED, RunStatus, Step
from fanbench.sweeps.events import DrainReason, Emit, RunKnown, SweepEnded, SweepStarted
from fanbench.sweeps.journal import Records
from fanbench.sweeps.plan import SweepPlan
from fanbench.sweeps.task import TaskPipeline

__all__ = ["Engine", "Stage"]

# How many attempts are checked on disk in one go.
_CHECKED_AT_ONCE = 500


async def _no_wait() -> None:
    return


class Engine:
    """Carries out a plan, once. `emit` is called in the event loop and must not block it.

    `until` ends the sweep after a stage: "push" when all tasks can be run, "schedule" when all runs are on the
    server. `offload` runs what waits for the disk, `calls` tells how many calls the client has made, `clock`
    gives seconds since 1970, and `room` is awaited before more of a log is read.
    """

    def __init__(
        self,
        client: Api,
        plan: SweepPlan,
        records: Records,
        emit: Emit,
        *,
        until: Stage = "collect",
        offload: Offload = anyio.to_thread.run_sync,
        calls: Callable[[], int] = lambda: 0,
        clock: Callable[[], float] = time.time,
        room: WaitForRoom = _no_wait,
    ) -> None:
        self._plan = plan
        self._emit = emit
        self._offload = offload
        self._records = records
        self._endpoint = client.config.endpoint
        self._make_context = partial(
            SweepContext,
            client,
            plan,
            emit=emit,
            until=until,
            offload=offload,
            calls=calls,
            wall=clock,
            room=room,
        )
        self._context: SweepContext | None = None
        self._drain: tuple[DrainReason, str] | None = None

    @property
    def stopped(self) -> DrainReason | None:
        """Why nothing more is scheduled, if so."""
        if self._context is not None and self._context.stopped is not None:
            return self._context.stopped
        return self._drain[0] if self._drain else None

    def drain(self, reason: DrainReason, detail: str = "") -> None:
        """Push and schedule nothing more, and follow what is in flight to its end. Only the first reason counts."""
        if self._drain is None:
            self._drain = (reason, detail)
        if self._context is not None:
            self._context.drain(reason, detail)

    async def run(self) -> None:
        """Carry out the plan as far as possible. The failure of a run or a task is an event.

        Raises:
            FanbenchError: The sweep as a whole failed: the credentials, the journal or the disk.
        """
        with _first_error():
            began = anyio.current_time()
            store = AttemptStore(self._plan, self._records, self._emit)
            await self._forget_lost_files(store)
            context = self._context = self._make_context(store)
            gate = BudgetGate(context)
            self._report_known(store)
            self._resume(context, gate)
            with anyio.move_on_after(self._plan.rules.deadline) as deadline:
                await gate.open()
                async with anyio.create_task_group() as group:
                    for task in self._plan.tasks:
                        group.start_soon(TaskPipeline(task, context, gate).run)
            if deadline.cancelled_caught:
                context.drain(DrainReason.DEADLINE, f"{self._plan.rules.deadline:g} s are over")
            if context.until != "collect":
                context.drain(DrainReason.STAGE)
            self._report_end(context, anyio.current_time() - began)

    # --- Start ---

    async def _forget_lost_files(self, store: AttemptStore) -> None:
        """Files that are recorded but no longer complete on disk are fetched again."""
        recorded = [
            attempt
            for planned_run in store.planned_runs
            for attempt in store.attempts(planned_run)
            if attempt.output or attempt.log
        ]
        changed: list[Attempt] = []
        for start in range(0, len(recorded), _CHECKED_AT_ONCE):
            some = recorded[start : start + _CHECKED_AT_ONCE]
            changed += await self._offload(partial(_without_lost_files, self._plan.output, some))
        if changed:
            store.records.save_attempts([store.put(attempt) for attempt in changed])

    def _report_known(self, store: AttemptStore) -> None:
        """Emit what the journal has, so that the events alone tell the whole state."""
        plan = self._plan
        done = sum(store.next_step(planned_run) is Step.DONE for planned_run in store.planned_runs)
        slugs = tuple(task.slug for task in plan.tasks)
        planned = len(store.planned_runs)
        self._emit(
            SweepStarted(str(plan.output), self._endpoint, slugs, plan.models, plan.repeats, planned, done)
        )
        for planned_run in store.planned_runs:
            real = [one for one in store.attempts(planned_run) if one.phase is not Phase.VOID]
            # The newest attempt is the result; if it may turn out void, that is the one before it.
            for attempt in real[-2:] if real and real[-1].needs_lookup else real[-1:]:
                self._emit(
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

    def _resume(self, context: SweepContext, gate: BudgetGate) -> None:
        """Continue every planned run from its state in the journal."""
        store = context.store
        for slug, attempts in store.attempts_by_task().items():
            context.tasks[slug].load(attempts, store.records.foreign_runs(slug))
        now, wall = anyio.current_time(), context.wall()
        for planned_run in store.planned_runs:
            task, attempts = context.tasks[planned_run.task], store.attempts(planned_run)
            match store.next_step(planned_run):
                case Step.SCHEDULE:
                    task.add_due(planned_run)
                case Step.FIND | Step.WATCH:
                    task.resume(attempts[-1], now, wall)
                case Step.COLLECT | Step.DONE:
                    store.errored += attempts[-1].errored
            for attempt in attempts if context.until == "collect" else ():
                if wants_output(attempt) or wants_log(attempt):
                    assert attempt.run_id is not None
                    known = attempt.output is not None or gate.is_counted(attempt.run_id)
                    task.resume_ended(attempt, now, cost_known=known)
                    context.collecting += 1
        context.count_errored(0)
        if self._drain is not None:
            context.drain(*self._drain)

    # --- End ---

    def _report_end(self, context: SweepContext, seconds: float) -> None:
        store = context.store
        counts = dict.fromkeys(REPORTED, 0)
        for planned_run in store.planned_runs:
            counts[store.status(planned_run)] += 1
        self._emit(
            SweepEnded(
                len(store.planned_runs),
                counts[RunStatus.COMPLETED],
                counts[RunStatus.ERRORED],
                counts[RunStatus.MISSING],
                counts[RunStatus.UNSCHEDULED],
                seconds,
                context.stopped,
                counts[RunStatus.RUNNING],
            )
        )


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
        errors = list(_leaves(group))
        if not all(isinstance(error, FanbenchError) for error in errors):
            raise
        raise errors[0] from None


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error
