"""One task: push it, wait for its creation, then schedule its runs, and watch those in flight meanwhile."""

from __future__ import annotations

from functools import partial

import anyio

from fanbench._util.concurrency import both
from fanbench._util.polling import Deadline
from fanbench.errors import FanbenchError
from fanbench.operations.creation import wait_for_creation
from fanbench.operations.events import CreationPolled, Event, PollFailed, VersionSuperseded
from fanbench.operations.lookup import as_scheduled, runs_of
from fanbench.operations.metadata import edit_page
from fanbench.operations.unanswered import CallUnanswered, version_after
from fanbench.sweeps.adoption import match_runs, takeable
from fanbench.sweeps.attempts import TaskPhase, TaskRecord
from fanbench.sweeps.context import SweepContext
from fanbench.sweeps.decide import PushStep, push_step
from fanbench.sweeps.events import (
    CreationChanged,
    PageEdited,
    SweepEvent,
    TaskPreparationFailed,
    TaskPushed,
    TaskReady,
)
from fanbench.sweeps.plan import PlannedTask
from fanbench.sweeps.run import RunPipeline
from fanbench.sweeps.schedule import RunScheduler
from fanbench.sweeps.task_runs import ActiveRun
from fanbench.sweeps.task_watcher import TaskWatcher
from fanbench.wire.messages import CreationState, Task
from fanbench.wire.metadata import Metadata
from fanbench.wire.retry import (
    CallOutcome,
    FailureKind,
    RetryBudget,
    call_outcome,
    failure_kind,
    retry_patiently,
)

__all__ = ["TaskPipeline", "TaskUnusable"]

# How old, in seconds, the list of foreign runs may be when we schedule.
_FRESH = 30.0


class TaskUnusable(FanbenchError):
    """The server refused the push. The next sweep pushes again."""

    phase = TaskPhase.REFUSED


class CreationFailed(TaskUnusable):
    """The server failed to create the version. The next sweep pushes other content only, unless it is to retry."""

    phase = TaskPhase.FAILED


class TaskPipeline:
    """Carries one task through all its stages, with one coroutine for each of its runs."""

    def __init__(self, task: PlannedTask, context: SweepContext) -> None:
        self._planned = task
        self._slug = task.slug
        self._context = context
        self._store = context.store
        self._task = context.tasks[task.slug]
        self._group = anyio.create_task_group()
        self._watcher = TaskWatcher(self._task, context, self._start_pipeline)
        benchmark = context.plan.attributed_to(task)
        self._scheduler = RunScheduler(self._task, self._watcher, context, benchmark=benchmark)
        #: The task as last seen on the server.
        self._seen = task.seen
        self._reported_state: CreationState | None = None

    async def run(self) -> None:
        """Push, create and schedule. A task with nothing to do makes no call."""
        task = self._task
        if not (task.active or task.due or task.uncollected):
            return
        async with self._group:
            for run in task.uncollected:
                self._start_pipeline(run)
            if self._context.until != "push":
                self._group.start_soon(self._watcher.run)
            try:
                await self._push_and_schedule()
            finally:
                self._watcher.close()

    def _start_pipeline(self, run: ActiveRun) -> None:
        self._group.start_soon(RunPipeline(run, self._watcher, self._context).run)

    async def _push_and_schedule(self) -> None:
        task, context = self._task, self._context
        # A task is pushed only once a run is due, which may be after a run in flight has turned out void or errored.
        while not task.due and context.may_become_due(task):
            await task.wakeup.wait()
        if not task.due or context.drain_reason is not None:
            return
        try:
            pushed = await self._push()
            version = None if pushed is None else await self._wait_until_ready(pushed)
        except FanbenchError as error:
            if failure_kind(error) is FailureKind.FATAL:
                raise
            await self._give_up(error)
        else:
            if version is not None and context.until != "push":
                if context.rules.adopt and not context.plan.judge:
                    await self._take_over_runs(version)
                await self._scheduler.run(version)

    async def _take_over_runs(self, version: int) -> None:
        """Take runs of this version that others have scheduled, instead of scheduling what they make (`--adopt`)."""
        look = partial(runs_of, self._context.client, self._slug, version=version)
        with self._context.unless_drained():
            listed = as_scheduled(
                await retry_patiently(look, self._watcher.report_failure), self._context.plan.models
            )
            runs = match_runs(takeable(listed, version), self._task.never_made(), self._task.our_runs)
            self._store.commit(
                *(self._task.adopt(self._task.take(each), run, version) for each, run in runs.items())
            )
            self._watcher.hurry()

    async def _give_up(self, error: FanbenchError) -> None:
        """Report every run as missing that is due or becomes due."""
        record = self._store.tasks.get(self._slug)
        if record is not None and isinstance(error, TaskUnusable):
            self._save(error.phase, record.version, error=str(error))
        self._context.emit(TaskPreparationFailed(self._slug, str(error)))
        self._scheduler.give_up_all("push", str(error))
        while self._context.may_become_due(self._task):
            await self._task.wakeup.wait()
            self._scheduler.give_up_all("push", str(error))

    # --- Push ---

    async def _push(self) -> Task | None:
        """Return the task on the server with the planned content, pushed if needed; `None` if the sweep drained.

        Raises:
            TaskUnusable: The server refused the push.
            CreationFailed: The creation of this content failed before.
        """
        record = self._store.tasks.get(self._slug)
        await self._look_for_late_version(record)
        retry = self._context.rules.retry_failed
        # What the planner has compared may not be the newest version any more.
        same = self._planned.same_as_server if self._seen == self._planned.seen else None
        step = push_step(record, self._planned.identity, self._seen, same=same, retry_failed=retry)
        if step is PushStep.FAILED and record is not None:
            raise CreationFailed(record.error)
        if step.needs_push and self._planned.notebook is not None:
            return await self._create_version(self._planned.notebook)
        if self._seen is None:
            raise FanbenchError(f"Task '{self._slug}' is not on the server.")
        if step is not PushStep.UNCHANGED:
            version = self._seen.slug.version_number
            is_adopted = step is PushStep.ADOPTED
            event = TaskPushed(self._slug, version, adopted=True) if is_adopted else None
            self._save(TaskPhase.PUSHED, version, event)
        return self._seen

    async def _look_for_late_version(self, record: TaskRecord | None) -> None:
        """Look for the version of an earlier push that the planner did not see.

        The push of a process that was killed may reach the server late. Without this, the same content would be
        pushed twice, or other content be taken for it.
        """
        if record is None or record.phase.unusable:
            return
        # A record of an unfinished push has the version before it; any other has the version that the push created.
        is_unfinished = record.phase is TaskPhase.PUSHING
        before = record.version if is_unfinished else record.version - 1
        if self._seen is not None and self._seen.slug.version_number > before:
            return
        patience = self._context.confirm_within - max(0.0, self._context.clock() - record.pushed_at)
        with self._context.unless_drained():
            self._seen = await version_after(self._context.client, self._slug, before, patience) or self._seen

    async def _create_version(self, notebook: str) -> Task | None:
        """Create a version, recording the intent before each call. Return `None` if the sweep drained before."""
        context, seen = self._context, self._seen
        if seen is not None and seen.creation_state.pending:
            with context.unless_drained():
                seen = await self._wait_for_creation(seen, 0)
        before = seen.slug.version_number if seen is not None else 0
        budget = RetryBudget(refused=0.0)
        while context.drain_reason is None:
            self._save(TaskPhase.PUSHING, before)
            try:
                made = await context.client.create_task(self._slug, notebook, datasets=self._planned.datasets)
            except FanbenchError as error:
                pause = budget.record(error)
                if call_outcome(error) is CallOutcome.UNKNOWN:
                    seconds = context.confirm_within
                    context.emit(CallUnanswered(self._slug, "push", 0, seconds, str(error)))
                    arrived = await version_after(context.client, self._slug, before, seconds)
                    if arrived is not None:
                        return self._record_push(arrived, before, adopted=True)
                if pause is None:
                    raise TaskUnusable(f"Task '{self._slug}' could not be pushed: {error}") from error
            else:
                if made.error:
                    raise TaskUnusable(f"Task '{self._slug}' could not be pushed: {made.error}")
                return self._record_push(made, before, adopted=False)
            with context.unless_drained():
                await anyio.sleep(pause)
        return None

    def _record_push(self, task: Task, before: int, *, adopted: bool) -> Task:
        version = task.slug.version_number or before + 1
        self._save(TaskPhase.PUSHED, version, TaskPushed(self._slug, version, adopted))
        return task

    def _save(
        self, phase: TaskPhase, version: int, event: SweepEvent | None = None, *, error: str = ""
    ) -> None:
        before = self._store.tasks.get(self._slug)
        pushed_at = before.pushed_at if before is not None else 0.0
        if phase is TaskPhase.PUSHING:
            pushed_at = self._context.clock()
        record = TaskRecord(self._slug, self._planned.identity, phase, version, error, pushed_at)
        self._store.save_task(record, event)

    # --- Creation ---

    async def _wait_until_ready(self, task: Task) -> int | None:
        """Wait until the task can be run, and return its version; `None` if the sweep drained before.

        Raises:
            CreationFailed: Its creation failed.
        """
        version = self._store.tasks[self._slug].version
        context, creation = self._context, partial(self._wait_for_creation, task, version)
        with context.unless_drained():
            if context.until == "push":
                task = await creation()
            else:
                began = anyio.current_time()
                task, _ = await both(creation, self._watcher.find_foreign_runs)
                if anyio.current_time() - began > _FRESH:
                    await self._watcher.find_foreign_runs()
        if context.drain_reason is not None:
            return None
        if task.creation_state != CreationState.COMPLETED:
            reason = task.failure
            raise CreationFailed(
                f"Task '{self._slug}' creation failed (status: {task.creation_state.label})"
                + (f": {reason}" if reason else ".")
            )
        is_new = self._store.tasks[self._slug].phase is not TaskPhase.READY
        self._save(TaskPhase.READY, version, TaskReady(self._slug, version))
        if is_new and self._planned.page is not None:
            await self._edit_page(task, self._planned.page, version)
        return version

    async def _edit_page(self, task: Task, page: Metadata, version: int) -> None:
        """Make the page of a version that was just created say what its file says. The runs do not depend on it.

        Tags are those of the newest version.
        """
        try:
            wanted = page.without_tags if self._watcher.superseded else page
            edited = await edit_page(self._context.client, task, wanted, slug=self._slug, version=version)
        except FanbenchError as error:
            self._context.emit(PageEdited(self._slug, error=str(error)))
        else:
            if edited.changed or edited.unknown_tags:
                self._context.emit(PageEdited(self._slug, edited.changed, edited.unknown_tags))

    async def _wait_for_creation(self, task: Task, version: int) -> Task:
        """Return the task once its creation has succeeded or failed."""
        if not task.creation_state.ended:
            task = await retry_patiently(
                partial(
                    wait_for_creation,
                    self._context.client,
                    self._slug,
                    Deadline(None),
                    seen=task,
                    version=version,
                    poll_interval=self._context.rules.poll_interval,
                    emit=self._report_creation,
                ),
                self._watcher.report_failure,
            )
        self._report_creation(CreationPolled(self._slug, task, changed=True))
        return task

    def _report_creation(self, event: Event) -> None:
        if isinstance(event, PollFailed) and isinstance(event.error, FanbenchError):
            self._watcher.report_failure(event.error, event.seconds)
        if isinstance(event, VersionSuperseded):
            self._watcher.note_newest(event.newest)
        if isinstance(event, CreationPolled):
            self._watcher.see_task(event.task)
        if isinstance(event, CreationPolled) and event.task.creation_state != self._reported_state:
            self._reported_state = event.task.creation_state
            self._context.emit(CreationChanged(self._slug, self._reported_state))
