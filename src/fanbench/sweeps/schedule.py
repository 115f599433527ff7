"""Schedules the runs of one task: one call for all due models at one effort, written down before it is made."""

from __future__ import annotations

from collections.abc import Sequence

import anyio

from fanbench.errors import FanbenchError
from fanbench.operations.queue import CannotEnqueue
from fanbench.operations.unanswered import CallUnanswered
from fanbench.sweeps.attempt_store import Update
from fanbench.sweeps.attempts import Phase
from fanbench.sweeps.context import SweepContext
from fanbench.sweeps.decide import VoidCause
from fanbench.sweeps.task_runs import ActiveRun, TaskRuns
from fanbench.sweeps.task_watcher import TaskWatcher
from fanbench.wire.candidates import requests_for
from fanbench.wire.messages import ScheduleResult
from fanbench.wire.retry import CallOutcome, RetryBudget, call_outcome

__all__ = ["RunScheduler"]

# How old, in seconds, our knowledge of the newest version may be when we schedule.
_FRESH = 30.0
# The most models in one call that puts runs into the queue.
_MOST_ENQUEUED = 100


class RunScheduler:
    """Makes one schedule call at a time, with each model in it at most once."""

    def __init__(
        self, task: TaskRuns, watcher: TaskWatcher, context: SweepContext, *, benchmark: str = ""
    ) -> None:
        self._task = task
        #: The benchmark for which the server's queue is to make the runs; empty if there is none.
        self._benchmark = benchmark
        self._watcher = watcher
        self._context = context
        self._budget = RetryBudget(refused=0.0)
        self._not_before = 0.0
        #: The last error once no retry is left.
        self._exhausted: FanbenchError | None = None
        #: The models of a call that was refused. Any of them may be the reason, so each is scheduled by itself.
        self._suspects: set[str] = set()

    async def run(self, version: int) -> None:
        """Schedule until nothing is due or can become due, or the sweep drains."""
        task, context = self._task, self._context
        while context.drain_reason is None and (task.due or context.may_become_due(task)):
            models = self._ready_models()
            if models and self._exhausted is not None:
                self.give_up_all("schedule", str(self._exhausted))
            elif models and (runs := await self._intend(models, version)):
                await self._schedule(runs, version)
            else:
                await task.wakeup.wait(self._pause())
        self._context.gate.wake_if_idle()

    def give_up_all(self, stage: str, error: str) -> None:
        """Report all due runs as missing."""
        for model in list(self._task.due):
            self._task.give_up_due(model, stage, error)
        self._context.gate.wake_if_idle()

    # --- Which models are next ---

    def _ready_models(self) -> list[str]:
        """Return the models for the next call, which has one effort or agents."""
        now = anyio.current_time()
        if now < self._not_before or self._task in self._context.gate.waiting:
            return []
        models = [model for model in self._task.due if not self._is_blocked(model, now)]
        suspects = [model for model in models if model in self._suspects]
        requests = requests_for(suspects[:1] or models, self._context.plan.choice.agents)
        most = None if self._context.queue.in_use is False else _MOST_ENQUEUED
        return [each.label for each in requests[0][:most]] if requests else []

    def _is_blocked(self, model: str, now: float) -> bool:
        """Return whether the model must wait for a run that is, or may be, in flight on it."""
        skip = self._watcher.skips.get(model)
        if skip is not None and (skip.retry_at is None or now < skip.retry_at):
            return True
        if self._context.one_at_a_time and model in self._task.by_model:
            return True
        # An earlier call may or may not have scheduled a run.
        active = self._task.by_model.get(model, {}).values()
        return any(run.attempt.phase is Phase.INTENDED for run in active)

    def _pause(self) -> float | None:
        """Return the seconds until the next pause is over; `None` if no pause is under way."""
        now = anyio.current_time()
        times = [skip.retry_at for skip in self._watcher.skips.values() if skip.retry_at is not None]
        later = [time for time in (*times, self._not_before) if time > now]
        return min(later) - now if later else None

    async def _intend(self, models: Sequence[str], version: int) -> list[ActiveRun]:
        allowed = await self._context.gate.allow(self._task, models)
        if not allowed or self._context.drain_reason is not None:
            return []
        # Models may have become blocked or been given up during the quota call.
        now, due = anyio.current_time(), self._task.due
        models = [model for model in allowed if model in due and not self._is_blocked(model, now)]
        return self._task.intend(self._task.take_due(models), version)

    # --- The call ---

    async def _schedule(self, runs: Sequence[ActiveRun], version: int) -> None:
        models = [run.planned_run.model for run in runs]
        (request,) = requests_for(models, self._context.plan.choice.agents)
        await self._watcher.look_for_newest(_FRESH)
        # Kaggle's own command line never names a version, so we do only where it makes a difference.
        named = version if self._watcher.superseded else 0
        try:
            results = await self._context.queue.schedule_runs(
                self._task.slug,
                [each.model for each in request if each.model],
                version=named,
                judge=self._context.plan.judge,
                effort=request[0].effort,
                agents=[each.agent for each in request if each.agent],
                benchmark=self._benchmark,
            )
        except FanbenchError as error:
            self._record_failure(runs, error)
        else:
            self._budget.reset()
            self._suspects.difference_update(models)
            self._record_results(runs, results, version)
        # A void run needs no budget any more. With `--step schedule`, no end of a run wakes the waiting tasks.
        if self._context.until == "schedule" or any(run.attempt.phase is Phase.VOID for run in runs):
            self._context.gate.wake_waiting()
        self._watcher.hurry()

    def _record_results(
        self, runs: Sequence[ActiveRun], results: Sequence[ScheduleResult], version: int
    ) -> None:
        updates: list[Update] = []
        for run, result in zip(runs, results, strict=True):
            if result.run_scheduled:
                self._task.mark_named(run, result.run_id)
            # A list may have shown the run, and even its end, before this answer arrived.
            if run.attempt.phase is not Phase.INTENDED:
                continue
            model = run.planned_run.model
            if result.run_scheduled:
                self._watcher.skips.pop(model, None)
                updates.append(self._task.mark_scheduled(run))
                continue
            reason = result.run_skipped_reason or "no reason given"
            updates.append(self._task.void(run, VoidCause.SKIPPED, reason))
            if model in self._task.by_model:
                self._context.one_at_a_time = True
            else:
                self._watcher.record_skip(model, reason, version)
        self._context.store.commit(*updates)

    def _record_failure(self, runs: Sequence[ActiveRun], error: FanbenchError) -> None:
        pause = self._budget.record(error)
        unanswered = [run for run in runs if run.attempt.phase is Phase.INTENDED]
        outcome = call_outcome(error)
        if outcome is CallOutcome.UNKNOWN:
            # If the call has scheduled the runs, they are listed soon.
            seconds = self._context.confirm_within
            for run in unanswered:
                run.listed_by = anyio.current_time() + seconds
            self._context.emit(
                CallUnanswered(self._task.slug, "schedule", len(unanswered), seconds, str(error))
            )
        else:
            cause = VoidCause.REFUSED if outcome is CallOutcome.REFUSED else VoidCause.NOT_DONE
            self._context.store.commit(*(self._task.void(run, cause) for run in unanswered))
        if outcome is CallOutcome.REFUSED:
            self._budget.reset()
            models = [run.planned_run.model for run in unanswered]
            if isinstance(error, CannotEnqueue):
                self.give_up_all("schedule", f"{error} {error.hint}")
            elif len(models) == 1:
                self._suspects.discard(models[0])
                suggestion = self._context.plan.choice.suggestion(models[0])
                self._task.give_up_due(models[0], "schedule", f"{error}{suggestion}")
            else:
                self._suspects.update(models)
            return
        self._not_before = anyio.current_time() + (pause or 0.0)
        self._exhausted = error if pause is None else None
