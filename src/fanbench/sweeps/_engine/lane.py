"""One task: push → creation → schedule, while its runs are watched."""

from __future__ import annotations

from functools import partial

import anyio

from fanbench._util.concurrency import both
from fanbench._util.polling import Deadline
from fanbench.errors import FanbenchError
from fanbench.operations.events import CreationPolled, Event
from fanbench.operations.lookup import task_if_any
from fanbench.operations.watch import created_by
from fanbench.sweeps._engine.scheduling import Scheduler
from fanbench.sweeps._engine.shared import Shared
from fanbench.sweeps._engine.watching import Watcher
from fanbench.sweeps.attempts import TaskPhase, TaskRecord
from fanbench.sweeps.decide import PushStep, push_step
from fanbench.sweeps.events import CreationChanged, SweepEvent, TaskFailed, TaskPushed, TaskReady
from fanbench.sweeps.plan import PlannedTask
from fanbench.wire.messages import CreationState, Task
from fanbench.wire.retry import (
    LATE_EFFECT,
    CallOutcome,
    FailureKind,
    RetryBudget,
    call_outcome,
    failure_kind,
    retry_patiently,
)

__all__ = ["Lane", "TaskUnusable"]

# For so many seconds a list of the runs that are there counts as that before the schedule call.
_FRESH = 30.0
# Seconds between two looks whether a push that was cut off has arrived.
_LOOK = 2.0


class TaskUnusable(FanbenchError):
    """The server refused this content, or its creation failed: the next sweep pushes it again."""


class Lane:
    """Nothing in it waits for another task."""

    def __init__(self, task: PlannedTask, shared: Shared) -> None:
        self._task = task
        self._slug = task.slug
        self._shared = shared
        self._book = shared.book
        self._board = shared.boards[task.slug]
        self._watcher = Watcher(self._board, shared)
        self._scheduler = Scheduler(self._board, shared, self._watcher)
        self._seen = task.seen
        self._said: CreationState | None = None

    async def run(self) -> None:
        """To the end of all that can be done. A task with nothing to do makes no call."""
        if self._board.idle:
            return
        async with anyio.create_task_group() as group:
            if self._shared.until != "push":
                group.start_soon(self._watcher.run)
            try:
                await self._push_and_schedule()
            finally:
                self._watcher.close()

    async def _push_and_schedule(self) -> None:
        if not await self._is_work_due():
            return
        try:
            version = await self._ready_version()
        except FanbenchError as error:
            if failure_kind(error) is FailureKind.FATAL:
                raise
            await self._fail(error)
            return
        if version is not None and self._shared.until != "push":
            await self._scheduler.run(version)

    async def _is_work_due(self) -> bool:
        """Waits while runs are in flight, each of which may have to be scheduled again."""
        while not self._board.due and self._shared.may_become_due(self._board):
            await self._board.bell.wait()
        return bool(self._board.due) and self._shared.stopped is None

    async def _fail(self, error: FanbenchError) -> None:
        """None of its runs can be scheduled; nor those, later, whose attempts in flight come to nothing."""
        record = self._book.tasks.get(self._slug)
        if record is not None and isinstance(error, TaskUnusable):
            self._save(TaskPhase.FAILED, record.version, error=str(error))
        self._shared.emit(TaskFailed(self._slug, str(error)))
        while True:
            self._scheduler.give_up_due("push", str(error))
            if not self._shared.may_become_due(self._board):
                return
            await self._board.bell.wait()

    # --- Push ---

    async def _ready_version(self) -> int | None:
        """The version that can be run; `None` if nothing more is to be scheduled.

        Raises:
            FanbenchError: there will be none.
        """
        task = await self._pushed()
        return None if task is None else await self._created(task)

    async def _pushed(self) -> Task | None:
        record = self._book.tasks.get(self._slug)
        await self._look_again(record)
        step = push_step(record, self._task.identity, self._seen)
        if step.needs_push and self._task.notebook is not None:
            return await self._push(self._task.notebook)
        if self._seen is None:
            raise FanbenchError(f"Task '{self._slug}' is not on the server.")
        if step is not PushStep.UNCHANGED:
            self._record(self._seen, adopted=step is PushStep.ADOPTED)
        return self._seen

    async def _look_again(self, record: TaskRecord | None) -> None:
        """A version that we pushed, or may have pushed, may show late.

        One of this content would be pushed twice, one of another content be taken for this. What the planner
        has seen may be older than the push: a process that was killed may have left its call on the wire.
        """
        if record is None or record.phase is TaskPhase.FAILED:
            return
        before = record.version - (record.phase is not TaskPhase.PUSHING)
        if self._seen is not None and self._seen.slug.version_number > before:
            return
        patience = LATE_EFFECT - max(0.0, self._shared.wall() - record.pushed_at)
        with self._shared.unless_drained():
            self._seen = await self._arrived(before, patience) or self._seen

    def _record(self, task: Task, *, adopted: bool) -> None:
        version = task.slug.version_number
        self._save(TaskPhase.PUSHED, version, TaskPushed(self._slug, version, adopted) if adopted else None)

    def _save(
        self, phase: TaskPhase, version: int, event: SweepEvent | None = None, *, error: str = ""
    ) -> None:
        """When it was pushed last stays what it was, unless that is now."""
        before = self._book.tasks.get(self._slug)
        pushed_at = before.pushed_at if before is not None else 0.0
        if phase is TaskPhase.PUSHING:
            pushed_at = self._shared.wall()
        record = TaskRecord(self._slug, self._task.identity, phase, version, error, pushed_at)
        self._book.save_task(record, event)

    async def _push(self, notebook: str) -> Task | None:
        before = await self._version_before()
        if before is None:
            return None
        made = await self._create(notebook, before)
        if made is None:
            return None
        task, adopted = made
        version = task.slug.version_number or before + 1
        self._save(TaskPhase.PUSHED, version, TaskPushed(self._slug, version, adopted))
        return task

    async def _version_before(self) -> int | None:
        """The newest that the server has, 0 for none, no longer being created; `None` if nothing is pushed."""
        seen = self._seen
        if seen is not None and seen.creation_state.pending:
            with self._shared.unless_drained():
                seen = await self._settled(seen, 0)
        if self._shared.stopped is not None:
            return None
        return seen.slug.version_number if seen is not None else 0

    async def _create(self, notebook: str, before: int) -> tuple[Task, bool] | None:
        """The version that the server has made, and whether it was found rather than answered."""
        patience = RetryBudget(refused=0.0)
        while True:
            self._save(TaskPhase.PUSHING, before)
            try:
                made = await self._shared.client.create_task(
                    self._slug, notebook, datasets=self._task.datasets
                )
            except FanbenchError as error:
                pause = patience.pause(error)
                doubtful = call_outcome(error) is CallOutcome.UNKNOWN
                if doubtful and (found := await self._arrived(before)) is not None:
                    return found, True
                if pause is None:
                    raise TaskUnusable(f"Task '{self._slug}' could not be pushed: {error}") from error
            else:
                if made.error:
                    raise TaskUnusable(f"Task '{self._slug}' could not be pushed: {made.error}")
                return made, False
            with self._shared.unless_drained():
                await anyio.sleep(pause)
            if self._shared.stopped is not None:
                return None

    async def _arrived(self, before: int, patience: float = LATE_EFFECT) -> Task | None:
        """The version that a call has made whose answer got lost, if it turns up in time. One look at least."""
        end = anyio.current_time() + patience
        while True:
            began = anyio.current_time()
            task = await retry_patiently(partial(task_if_any, self._shared.client, self._slug))
            if task is not None and task.slug.version_number > before:
                return task
            if began >= end:
                return None
            await anyio.sleep(min(_LOOK, max(0.0, end - anyio.current_time())))

    # --- Creation ---

    async def _created(self, task: Task) -> int | None:
        """The version of `task`, once it can be run. Meanwhile the runs are listed that are there already."""
        version = self._book.tasks[self._slug].version
        with self._shared.unless_drained():
            task = await self._settled_and_looked(task, version)
        if self._shared.stopped is not None:
            return None
        if task.creation_state != CreationState.COMPLETED:
            reason = task.failure
            raise TaskUnusable(
                f"Task '{self._slug}' creation failed (status: {task.creation_state.label})"
                + (f": {reason}" if reason else ".")
            )
        self._save(TaskPhase.READY, version, TaskReady(self._slug, version))
        return version

    async def _settled_and_looked(self, task: Task, version: int) -> Task:
        settled = partial(self._settled, task, version)
        if self._shared.until == "push":
            return await settled()
        began = anyio.current_time()
        task, _ = await both(settled, self._watcher.look)
        if anyio.current_time() - began > _FRESH:
            await self._watcher.look()
        return task

    async def _settled(self, task: Task, version: int) -> Task:
        """The task, no longer being created. What was just seen is not asked for again."""
        if task.creation_state.pending or task.creation_state == CreationState.UNSPECIFIED:
            ask = partial(
                created_by,
                self._shared.client,
                self._slug,
                Deadline(None),
                seen=task,
                version=version,
                poll_interval=self._shared.rules.poll_interval,
                report=self._report,
            )
            task = await retry_patiently(ask)
        self._say(task.creation_state)
        return task

    def _report(self, event: Event) -> None:
        if isinstance(event, CreationPolled):
            self._say(event.task.creation_state)

    def _say(self, state: CreationState) -> None:
        if state != self._said:
            self._said = state
            self._shared.emit(CreationChanged(self._slug, state))
