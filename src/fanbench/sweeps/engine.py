"""Runs every task on every model. No task waits for another, and no run for another run of its task.

Read these modules in this order:

    engine          starts, resumes and ends a sweep
    task            one coroutine per task: push → create → schedule
    schedule        makes one schedule call for all models that are due
    task_watcher    makes one list call per poll for all runs of a task: finds and watches them
    run             one coroutine per run that has begun: live log → download → log

They change what these hold:

    context         what all coroutines share, and the budget
    cancel          cancels on the server what the sweep leaves
    task_runs       the runs of a task, in memory
    attempt_store   the attempts in memory, in the journal and in events

The process can be killed at any instant. It records the intent before a call that must not be made twice, and the
result after each step. It awaits nothing between a change, its record and its event. A new process with the same
journal therefore continues where this one ended.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

import anyio

from fanbench.errors import FanbenchError, leaf_errors
from fanbench.sweeps.artifacts import log_is_whole, output_is_whole
from fanbench.sweeps.attempt_store import Update
from fanbench.sweeps.attempts import Attempt, Phase, wants_log, wants_output
from fanbench.sweeps.context import SweepContext
from fanbench.sweeps.decide import REPORTED, Step
from fanbench.sweeps.events import DrainReason, RunKnown, SweepEnded, SweepStarted
from fanbench.sweeps.spec import CancelPolicy
from fanbench.sweeps.task import TaskPipeline

__all__ = ["Engine"]

# The attempts that are no result of their planned run.
_NO_RESULT = (Phase.VOID, Phase.CANCELLED)
# How many attempts are checked on disk in one go.
_CHECKED_AT_ONCE = 500


class Engine:
    """Carries out the plan of `context`, once."""

    def __init__(self, context: SweepContext) -> None:
        self._context = context
        self._is_resumed = False
        #: A drain from before the runs in flight were known, which `Draining` counts.
        self._early_drain: tuple[DrainReason, str] | None = None
        self._canceller = context.canceller

    @property
    def stopped(self) -> DrainReason | None:
        """The reason for which less than the plan is scheduled, if any."""
        return self._early_drain[0] if self._early_drain else self._context.drain_reason

    def drain(self, reason: DrainReason, detail: str = "") -> None:
        """Push and schedule nothing more, but finish the runs in flight. Only the first reason counts."""
        if self._is_resumed:
            self._context.drain(reason, detail)
        elif self._early_drain is None:
            self._early_drain = reason, detail

    def cancel(self, policy: CancelPolicy = "all") -> None:
        """Push and schedule nothing more, and cancel on the server what is in flight: all, or what is queued."""
        self.drain(DrainReason.INTERRUPTED)
        self._canceller.want(policy)

    @property
    def cancelling(self) -> bool:
        """Whether runs are being cancelled on the server."""
        return self._canceller.at_work

    async def run(self) -> None:
        """Carry out the plan as far as possible. The failure of a task or a run is an event, not an error.

        Raises:
            FanbenchError: The sweep as a whole failed: the credentials, the journal or the disk.
        """
        context = self._context
        with _first_error(), closing(context.history):
            began = anyio.current_time()
            context.store.save_reruns()
            await self._forget_lost_files()
            self._report_known()
            self._resume()
            with anyio.CancelScope() as scope:
                async with anyio.create_task_group() as beside:
                    beside.start_soon(self._cancel_and_stop, scope)
                    beside.start_soon(context.queue.watch, context.rules.poll_interval)
                    await context.gate.open()
                    needed = context.until != "push" or context.rules.enqueue == "always"
                    if needed and any(task.due for task in context.tasks.values()):
                        # Before anything is pushed, let alone scheduled.
                        await context.queue.look()
                    async with anyio.create_task_group() as group:
                        for task in context.plan.tasks:
                            group.start_soon(TaskPipeline(task, context).run)
                    beside.cancel_scope.cancel()
            if context.until != "collect":
                context.drain(DrainReason.STAGE)
            self._report_end(anyio.current_time() - began)

    async def _cancel_and_stop(self, scope: anyio.CancelScope) -> None:
        """Cancel on the server what is asked for; at the deadline, what the policy says, and then the `scope`."""
        context, seconds = self._context, self._context.rules.deadline
        with anyio.move_on_after(seconds):
            await self._canceller.run()
        context.drain(DrainReason.DEADLINE, f"{seconds:.12g} s are over")
        if context.rules.cancel != "never":
            await self._canceller.cancel_all(context.rules.cancel, ends=True)
        scope.cancel()

    # --- Start ---

    async def _forget_lost_files(self) -> None:
        """Forget recorded files that are no longer complete on disk, so that they are fetched again."""
        context, store = self._context, self._context.store
        recorded = [
            attempt
            for planned_run in store.planned_runs
            for attempt in store.attempts(planned_run)
            if attempt.output or attempt.log
        ]
        changed: list[Attempt] = []
        for start in range(0, len(recorded), _CHECKED_AT_ONCE):
            some = recorded[start : start + _CHECKED_AT_ONCE]
            changed += await context.offload(partial(_without_lost_files, context.root, some))
        store.commit(*(Update(store.put(attempt)) for attempt in changed))

    def _report_known(self) -> None:
        """Emit what the journal has, so that the events alone describe the whole state."""
        context, plan, store = self._context, self._context.plan, self._context.store
        done = sum(store.next_step(planned_run) is Step.DONE for planned_run in store.planned_runs)
        slugs = tuple(context.tasks)
        planned = len(store.planned_runs)
        endpoint = context.client.config.endpoint
        context.emit(
            SweepStarted(
                *(str(context.root), endpoint, slugs, plan.models, plan.repeats, planned, done),
                limit=context.limit(),
            )
        )
        for planned_run in store.planned_runs:
            real = [one for one in store.attempts(planned_run) if one.phase not in _NO_RESULT]
            # The newest attempt is the result. If it turns out void, the one before it is.
            for attempt in real[-2:] if real and real[-1].needs_lookup else real[-1:]:
                context.emit(
                    RunKnown(
                        attempt.planned_run,
                        attempt.number,
                        attempt.version,
                        attempt.run_id,
                        attempt.state,
                        attempt.error,
                        attempt.output.path if attempt.output else None,
                        attempt.log.path if attempt.log else None,
                        attempt.result,
                    )
                )

    def _resume(self) -> None:
        """Continue every planned run from its state in the journal."""
        context, store = self._context, self._context.store
        for slug, attempts in store.attempts_by_task().items():
            context.tasks[slug].load(attempts, store.journal.foreign_runs(slug))
        for planned_run in store.planned_runs:
            task, attempts = context.tasks[planned_run.task], store.attempts(planned_run)
            match store.next_step(planned_run):
                case Step.SCHEDULE:
                    task.add_due(planned_run)
                case Step.FIND | Step.WATCH:
                    task.resume(attempts[-1])
                case Step.COLLECT | Step.DONE:
                    store.errored += attempts[-1].errored
            for attempt in attempts if context.until == "collect" else ():
                if wants_output(attempt) or wants_log(attempt):
                    assert attempt.run_id is not None
                    known = attempt.output is not None or context.gate.is_counted(attempt.run_id)
                    task.resume_ended(attempt, cost_known=known)
                    context.collecting += 1
        self._is_resumed = True
        if self._early_drain is not None:
            context.drain(*self._early_drain)
        context.drain_if_too_many_errored()

    # --- End ---

    def _report_end(self, seconds: float) -> None:
        store = self._context.store
        store.end_reruns()
        counts = Counter(store.status(planned_run) for planned_run in store.planned_runs)
        self._context.emit(
            SweepEnded(
                planned=len(store.planned_runs),
                seconds=seconds,
                stopped=self._context.drain_reason,
                **{status.value: counts[status] for status in REPORTED},
            )
        )


def _without_lost_files(root: Path, attempts: Sequence[Attempt]) -> list[Attempt]:
    """Return copies of the attempts that have lost files, without these."""
    changed = []
    for attempt in attempts:
        output = attempt.output if attempt.output and output_is_whole(root, attempt.output) else None
        log = attempt.log if attempt.log and log_is_whole(root, attempt.log) else None
        if (output, log) != (attempt.output, attempt.log):
            changed.append(attempt.with_(output=output, log=log))
    return changed


@contextmanager
def _first_error() -> Iterator[None]:
    """Raise the first of the errors in a group by itself."""
    try:
        yield
    except BaseExceptionGroup as group:
        errors = leaf_errors(group)
        if not all(isinstance(error, FanbenchError) for error in errors):
            raise
        raise errors[0] from None
