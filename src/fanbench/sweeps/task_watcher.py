"""Watches the runs of one task: takes from each list the states of runs, and why models were skipped."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import anyio

from fanbench._util.polling import Throttle
from fanbench.errors import FanbenchError
from fanbench.operations.events import VersionSuperseded
from fanbench.operations.lookup import as_scheduled, model_of, runs_of, task_if_any
from fanbench.operations.watch import RunWatcher
from fanbench.sweeps.attempt_store import Update
from fanbench.sweeps.attempts import Phase, PlannedRun, TaskPhase
from fanbench.sweeps.context import SweepContext
from fanbench.sweeps.decide import Step, VoidCause
from fanbench.sweeps.events import (
    REPORTED_EACH,
    LookFailed,
    RetryPlanned,
    RunsPolled,
    RunStateChanged,
    RunUnlisted,
)
from fanbench.sweeps.task_runs import LISTED_AGAIN_WITHIN, ActiveRun, TaskRuns
from fanbench.wire.messages import Run, RunState, Task
from fanbench.wire.retry import TRANSIENT_LIMIT, RetryBudget, retry_patiently

__all__ = ["TaskWatcher", "UnexplainedSkip"]

# Seconds before each further try to schedule a model that was skipped for no visible reason.
_SKIP_PAUSES = (5.0, 10.0, 20.0, 40.0, 60.0)


@dataclass(slots=True)
class UnexplainedSkip:
    """The server skipped a model on which none of our runs is in flight. The next list may show someone else's."""

    reason: str
    version: int
    asked_at: float
    times: int = 1
    #: When to schedule the model again; `None` until a list shows that nothing is in the way.
    retry_at: float | None = None
    #: Whether the last list showed someone else's run in the way.
    blocked: bool = False
    #: When a list first showed one.
    blocked_since: float = math.inf


class TaskWatcher(RunWatcher):
    """Records everything that a list shows, in one transaction, before any coroutine acts on it.

    `start_pipeline` starts the `RunPipeline` of a run that has begun.
    """

    # The end of a run may allow the next one to be scheduled, so polls react sooner than in a plain wait.
    coalesce = 1.0
    # What lists lack is decided here.
    gone_after = math.inf

    def __init__(
        self, task: TaskRuns, context: SweepContext, start_pipeline: Callable[[ActiveRun], None]
    ) -> None:
        super().__init__(context.client, task.slug, poll_interval=context.rules.poll_interval)
        #: By model.
        self.skips: dict[str, UnexplainedSkip] = {}
        self._task = task
        task.hurry = self.hurry
        self._context = context
        self._start_pipeline = start_pipeline
        self._store = context.store
        self._timeout = context.rules.timeout
        self._budget = RetryBudget()
        self._closed = False
        #: When the last list was asked for, on the event loop's clock.
        self._listed_at = -math.inf
        #: The newest version that was seen on the server, and when the server last showed the task.
        self._newest = 0
        self._looked_at = -math.inf
        self._failures = Throttle(REPORTED_EACH)
        #: How many attempts at a planned run the server accepted but never listed.
        self._never_listed: dict[PlannedRun, int] = {}

    async def run(self) -> None:
        """Poll while runs are in flight, until `close` and the end of the last run."""
        while True:
            if self.pending():
                await self.watch()
            elif self._closed:
                return
            else:
                await self.wait_for_hurry()

    def close(self) -> None:
        """Let `run` return once the runs in flight have ended: nothing more will be scheduled."""
        self._closed = True
        self.hurry()

    async def find_foreign_runs(self) -> None:
        """List once, so that runs already there are known to be foreign."""
        await retry_patiently(self.refresh, self.report_failure)

    def report_failure(self, error: FanbenchError, pause: float) -> None:
        """Say that the server does not show the task or its runs, unless that was said just before."""
        if self._failures.is_due():
            self._context.emit(LookFailed(self._task.slug, str(error), pause))

    # --- Which version is the newest ---

    @property
    def superseded(self) -> bool:
        """Whether somebody else has pushed a version after the one that this sweep runs."""
        return 0 < self._own_version < self._newest

    @property
    def _own_version(self) -> int:
        """The version whose runs are scheduled; 0 before it has been pushed."""
        record = self._store.tasks.get(self._task.slug)
        pushed = record is not None and record.phase in (TaskPhase.PUSHED, TaskPhase.READY)
        return record.version if record and pushed and record.identity == self._task.identity else 0

    def note_newest(self, version: int) -> None:
        """Record that the server has this version, and say so if it is newer than ours."""
        if version > max(self._newest, self._own_version):
            self._newest = version
            if self.superseded:
                self._context.emit(VersionSuperseded(self._task.slug, self._own_version, version))

    def see_task(self, task: Task) -> None:
        """Record that the server has just shown the task."""
        self._looked_at = anyio.current_time()
        self.note_newest(task.slug.version_number)

    async def look_for_newest(self, fresh: float = 0.0) -> None:
        """Ask for the newest version, unless it was seen in the last `fresh` seconds. A failure is not an error."""
        if self.superseded or anyio.current_time() - self._looked_at < fresh:
            return
        with suppress(FanbenchError):
            if (task := await task_if_any(self._client, self._task.slug)) is not None:
                self.see_task(task)

    async def refresh(self) -> None:
        # If attempts are void because of a list, the newest version must be known.
        now = anyio.current_time()
        if any(run.is_overdue(now) for run in self._task.active.values()):
            await self.look_for_newest()
        await super().refresh()

    async def list_runs(self) -> list[Run]:
        runs = await super().list_runs()
        if not self._task.by_run.keys() <= {run.id for run in runs}:
            # The list may have the runs of the newest version only.
            await self.look_for_newest()
        if self.superseded:
            there = {run.id for run in runs}
            versions = {run.attempt.version for run in self._task.active.values()} | {self._own_version}
            for version in sorted(versions):
                listed = await runs_of(self._client, self._task.slug, self.models(), version)
                runs += [run for run in listed if run.id not in there]
                there.update(run.id for run in listed)
        return runs

    # --- What the polls depend on ---

    def models(self) -> Sequence[str]:
        wanted = {*self._task.by_model, *self._task.due, *self.skips}
        return sorted(wanted) if self._context.plan.choice.listable else ()

    def pending(self) -> int:
        if self._closed:
            return len(self._task.active) if self._context.may_become_due(self._task) else 0
        return len(self._task.active) + sum(skip.retry_at is None for skip in self.skips.values())

    def next_list_by(self) -> float:
        """Return when the first run, or the first blocked model, reaches a limit.

        That is the time limit of runs, the end of the search for what an unanswered schedule call has done, or when a
        run that is no longer listed counts as cancelled.
        """
        active = self._task.active.values()
        sought = [run.listed_by for run in active if run.attempt.phase is Phase.INTENDED and run.listed_by]
        unlisted = [run.unlisted_since for run in active if run.unlisted_since is not None]
        gone = [since + self._context.gone_after for since in unlisted]
        confirmed = min(
            (
                *(time for time in sought if time > self._listed_at),
                *(time for time in gone if time >= self._listed_at),
            ),
            default=math.inf,
        )
        if self._timeout is None:
            return confirmed
        oldest = next(iter(active), None)
        waiting_since = [skip.blocked_since for skip in self.skips.values() if skip.blocked]
        return min(confirmed, min([*waiting_since, oldest.since if oldest else math.inf]) + self._timeout)

    def after_failed_poll(self, error: FanbenchError) -> float | None:
        """Retry a failed list patiently. If it fails for too long, report what depends on it as missing."""
        pause = self._budget.record(error)
        self._give_up_late()
        if pause is not None:
            self.report_failure(error, pause)
            return pause
        self._budget.reset()
        reason = f"The runs cannot be listed: {error}"
        for run in [run for run in self._task.active.values() if not run.being_scheduled]:
            unknown = run.attempt.phase is Phase.INTENDED
            self._give_up(
                run, "watch", f"It is unknown whether it was scheduled. {reason}" if unknown else reason
            )
        for model in [model for model, skip in self.skips.items() if skip.retry_at is None]:
            self._give_up_model(model, "schedule", reason)
        self._task.wakeup.set()
        return 0.0

    # --- What a list shows ---

    def absorb(self, runs: Sequence[Run], asked_at: float) -> None:
        task = self._task
        # A run whose id or model is missing may be any of ours: such a list shows what is there, not what is not.
        named = [run for run in runs if run.id and model_of(run)]
        whole = len(named) == len(runs)
        runs = as_scheduled(named, self._context.plan.models)
        self._budget.reset()
        self._listed_at = asked_at
        self.note_newest(max((run.task_slug.version_number for run in runs), default=0))
        unknown: dict[str, list[Run]] = {}
        for listed in runs:
            if listed.id not in task.our_runs and listed.id not in task.foreign_runs:
                unknown.setdefault(model_of(listed), []).append(listed)
        updates = self._explain_skips(runs, asked_at)
        if unknown:
            # `_explain_skips` may have adopted some of them.
            still_unknown = {
                model: [one for one in some if one.id not in task.our_runs] for model, some in unknown.items()
            }
            updates += task.assign(still_unknown)
        ended: list[ActiveRun] = []
        cancelled = self._cancelled({run.id: run for run in runs}, asked_at) if whole else []
        for listed in runs:
            run = task.by_run.get(listed.id)
            if run is not None and run not in cancelled:
                updates += self._record_state(run, listed, asked_at)
                if run.ended:
                    ended.append(run)
        updates += self._void_unlisted(asked_at, whole=whole)
        self._store.commit(*updates)
        self._record_cancelled([run for run in cancelled if run.watched])
        for run in ended:
            self._plan_retry(run)
        self._give_up_late()
        task.wakeup.set()
        self._context.emit(RunsPolled(task.slug, len(task.active), self._context.calls()))

    def _record_state(self, run: ActiveRun, listed: Run, asked_at: float) -> list[Update]:
        """Record the state in which a list shows a run."""
        run.listed_by, run.unlisted_since = anyio.current_time() + LISTED_AGAIN_WITHIN, None
        begun = listed.state.terminal or listed.state == RunState.RUNNING
        if begun and not run.has_pipeline and self._context.until == "collect":
            run.has_pipeline = True
            self._start_pipeline(run)
        if not listed.state.terminal:
            run.last_seen_active = asked_at
            if listed.state == run.state:
                return []
            run.state = listed.state
            run.notify()
            return [Update(None, _state_changed(run, listed))]
        run.state, error = listed.state, listed.error_message
        if listed.start_time is not None and listed.end_time is not None:
            run.seconds = (listed.end_time - listed.start_time).total_seconds()
        ended = run.attempt.with_(phase=Phase.ENDED, state=listed.state, error=error, result=listed.value)
        run.attempt = self._store.put(ended)
        self._task.stop_watching(run)
        if self._context.until == "collect":
            self._context.collecting += 1
        return [Update(run.attempt, _state_changed(run, listed))]

    def _cancelled(self, listed: Mapping[int, Run], asked_at: float) -> list[ActiveRun]:
        """Return the runs that were cancelled: lists do not show them any more.

        One list is not enough, as it may be behind. Those that the server was asked to cancel are gone with the second
        list, others only after a while. A server that still lists a run that it was asked to cancel gives the reason in
        its error.
        """
        found = []
        for run in self._task.active.values():
            asked = run.cancel_asked_at is not None and run.cancel_asked_at <= asked_at
            if run.cancel_under_way or not (asked or run.attempt.phase is Phase.FOUND):
                continue
            there = listed.get(run.known_id)
            if there is not None:
                run.unlisted_since = None
                gone = asked and there.state == RunState.ERRORED and "cancel" in there.error_message.lower()
            elif run.unlisted_since is None:
                gone, run.unlisted_since = False, asked_at
                if not asked:
                    self._report_unlisted(run)
            else:
                gone = asked or asked_at - run.unlisted_since >= self._context.gone_after
            if gone:
                found.append(run)
        return found

    def _report_unlisted(self, run: ActiveRun) -> None:
        seconds = self._context.gone_after
        self._context.emit(RunUnlisted(run.planned_run, run.attempt.number, run.run_id, seconds))
        self._pace.reset()

    def _record_cancelled(self, runs: Sequence[ActiveRun]) -> None:
        """Record runs that were cancelled.

        Those that were cancelled before this process began are due again, and so are those for which another's run was
        taken that is gone.
        """
        self._context.canceller.record(runs)
        for run in runs:
            never_seen = run.state is None
            wanted = run.cancel_asked_at is not None or never_seen or run.taken_over
            if wanted and self._context.drain_reason is None and not run.being_cancelled:
                self._task.add_due(run.planned_run, first=True)

    def _plan_retry(self, run: ActiveRun) -> None:
        if not run.attempt.errored:
            return
        if self._store.next_step(run.planned_run) is not Step.SCHEDULE:
            self._store.errored += 1
            self._context.drain_if_too_many_errored()
        elif self._context.drain_reason is None:
            self._task.add_due(run.planned_run, first=True)
            self._context.emit(RetryPlanned(run.planned_run, run.attempt.number))

    # --- What a list does not show ---

    def _void_unlisted(self, asked_at: float, *, whole: bool) -> list[Update]:
        """Void or give up the attempts whose runs should have been listed by now (see `VoidCause`).

        A list that is not `whole` does not show that a run does not exist.
        """
        updates = []
        for run in [run for run in self._task.active.values() if run.is_overdue(asked_at)]:
            if not whole:
                if run.is_overdue(asked_at - TRANSIENT_LIMIT):
                    reason = "It is unknown whether it was scheduled: the server's list lacks ids or models."
                    self._give_up(run, "find", reason)
                continue
            if run.attempt.phase is Phase.FOUND:
                continue  # `_cancelled` decides.
            if run.attempt.phase is Phase.SCHEDULED and self.superseded:
                reason = f"Version {self._newest} was pushed meanwhile, and the server may have run that one instead."
                self._give_up(run, "find", reason)
                continue
            if run.attempt.phase is Phase.SCHEDULED:
                times = self._never_listed[run.planned_run] = self._never_listed.get(run.planned_run, 0) + 1
                if times > 1:
                    self._give_up(run, "find", "It was scheduled, and does not turn up on the server.")
                    continue
            updates.append(self._task.void(run, VoidCause.NEVER_LISTED, "the server does not have it"))
            self._context.gate.wake_waiting()
        return updates

    def _give_up_late(self) -> None:
        """Give up what has reached the time limit. The journal keeps it for the next sweep."""
        if (timeout := self._timeout) is None:
            return
        now = anyio.current_time()
        for run in list(self._task.active.values()):
            if run.since + timeout > now:
                break
            if run.being_scheduled:
                continue
            reason = f"It has not ended within {timeout:.12g} s."
            give_up = partial(self._give_up, run, "timeout", reason)
            if not self._context.canceller.take_late(run, give_up):
                give_up()
        for model, skip in list(self.skips.items()):
            if skip.blocked and skip.blocked_since + timeout <= now:
                reason = f"Another run has been in its way for {timeout:.12g} s: {skip.reason}"
                self._give_up_model(model, "timeout", reason)

    def _give_up(self, run: ActiveRun, stage: str, error: str) -> None:
        if run.attempt.run_id is not None:
            self.stream_closed(run.attempt.run_id)
        self._task.stop_watching(run)
        self._task.abandon(run.attempt)
        self._store.give_up(run.planned_run, run.attempt.number, stage, error)
        self._context.gate.wake_waiting()

    def _give_up_model(self, model: str, stage: str, error: str) -> None:
        del self.skips[model]
        self._task.give_up_due(model, stage, error)

    # --- Skipped models ---

    def record_skip(self, model: str, reason: str, version: int) -> None:
        """Record that the server skipped a model on which none of our runs is in flight."""
        skip = UnexplainedSkip(reason, version, anyio.current_time())
        if (before := self.skips.get(model)) is not None:
            skip.times, skip.blocked_since = before.times + 1, before.blocked_since
        self.skips[model] = skip

    def _explain_skips(self, runs: Sequence[Run], asked_at: float) -> list[Update]:
        """Search a list for the runs that made the server skip models: those in flight that we do not watch.

        Someone else's run of the same version is adopted. Any other must end first.
        """
        task = self._task
        unexplained = {
            model: skip
            for model, skip in self.skips.items()
            if skip.retry_at is None and skip.asked_at <= asked_at
        }
        if not unexplained:
            return []
        in_the_way: dict[str, list[Run]] = {model: [] for model in unexplained}
        for run in runs:
            # A run of ours that was given up does not block its model.
            ours = run.id in task.our_runs and run.id not in task.earlier_runs
            if not run.state.terminal and not ours and model_of(run) in in_the_way:
                in_the_way[model_of(run)].append(run)
        updates: list[Update] = []
        now = anyio.current_time()
        for model, skip in unexplained.items():
            others = in_the_way[model]
            adoptable = [
                run
                for run in others
                if run.task_slug.version_number in (0, skip.version) and run.id not in task.our_runs
            ]
            if model not in task.due:
                del self.skips[model]
            elif adoptable:
                del self.skips[model]
                (planned_run,) = task.take_due([model])
                run = min(adoptable, key=lambda one: one.id)
                self._context.one_at_a_time = True
                updates.append(task.adopt(planned_run, run, skip.version))
            elif others:
                skip.blocked, skip.blocked_since = True, min(now, skip.blocked_since)
            elif skip.blocked:
                skip.retry_at, skip.blocked, skip.times = now, False, 0
            elif skip.times > len(_SKIP_PAUSES):
                self._give_up_model(model, "schedule", skip.reason)
            else:
                skip.retry_at = now + _SKIP_PAUSES[skip.times - 1]
        return updates


def _state_changed(run: ActiveRun, listed: Run) -> RunStateChanged:
    return RunStateChanged(
        run.planned_run,
        run.attempt.number,
        listed.id,
        listed.state,
        listed.error_message if listed.state.terminal else "",
        listed.start_time,
        listed.end_time,
        listed.value if listed.state.terminal else None,
    )
