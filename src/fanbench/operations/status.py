"""`status`, `list` and `wait`: tasks and their runs, once or until nothing changes any more."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import anyio

from fanbench._util.concurrency import both, settle, unwrap_single_error
from fanbench._util.polling import Deadline
from fanbench.errors import FanbenchError, UsageError
from fanbench.operations.api import Api
from fanbench.operations.batch import each_task, unique_slugs
from fanbench.operations.benchmarks import tasks_of_benchmark, tasks_of_owner
from fanbench.operations.creation import wait_for_creation
from fanbench.operations.events import CreationPolled, Emit, Event, RunChanged, ignore_events
from fanbench.operations.lookup import existing_task, runs_of
from fanbench.operations.models import runs_on
from fanbench.operations.watch import RunWatcher
from fanbench.wire.messages import CreationState, Run, RunState, Task
from fanbench.wire.slugs import slugify_task

__all__ = [
    "WATCH_INTERVAL",
    "StatusSeen",
    "TaskStatus",
    "list_tasks",
    "task_status",
    "task_statuses",
    "watch_tasks",
]

#: The longest pause between polls of `watch_tasks`, in seconds. People look at it, so it is short.
WATCH_INTERVAL = 10.0


@dataclass(frozen=True, slots=True)
class TaskStatus:
    """A version of a task and its runs, in the server's order.

    `earlier` is the number of the version before if that has runs as well; otherwise, or if nobody asked, 0.
    """

    slug: str
    task: Task
    runs: tuple[Run, ...]
    earlier: int = 0

    @property
    def errored(self) -> tuple[Run, ...]:
        return tuple(run for run in self.runs if run.state == RunState.ERRORED)

    @property
    def over(self) -> bool:
        """Whether the creation and all runs have ended."""
        return self.task.creation_state.ended and all(run.state.terminal for run in self.runs)


class StatusSeen(Event, frozen=True):
    """A poll of a watched task has returned its status, changed or not."""

    status: TaskStatus


async def task_status(client: Api, task: str, models: Sequence[str] = (), *, version: int = 0) -> TaskStatus:
    """Return one version of a task, by default the newest, and its runs.

    Those are only the runs on `models` (names and patterns) if any are given.

    Raises:
        NotFound: The task, or this version of it, does not exist.
        UnknownModel: One of `models` matches none of the runs.
    """
    slug = slugify_task(task)
    # All runs are listed: only their models show what a pattern matches, and how the server spells a name.
    details, runs = await both(
        partial(existing_task, client, slug, version), partial(runs_of, client, slug, version=version)
    )
    return TaskStatus(slug, details, tuple(runs_on(slug, runs, models, details.slug.version_number)))


async def task_statuses(
    client: Api,
    tasks: Sequence[str],
    models: Sequence[str] = (),
    *,
    version: int = 0,
    look_back: bool = True,
) -> list[TaskStatus | FanbenchError]:
    """Return the `task_status` of each task in the order given; an error stands for a task that failed.

    For newest versions, it also says whether the version before has runs (`TaskStatus.earlier`), unless it is not to
    `look_back`.

    Raises:
        UsageError: A name is not valid.
    """

    async def status(slug: str, _: Emit) -> TaskStatus:
        found = await task_status(client, slug, models, version=version)
        if version or not look_back:
            return found
        return replace(found, earlier=await _earlier_version(client, found))

    return await each_task(tasks, status, limit=client.config.concurrency, emit=ignore_events)


async def _earlier_version(client: Api, found: TaskStatus) -> int:
    """Return the number of the version before, if it has runs that are not among those found; otherwise 0."""
    earlier, known = found.task.slug.version_number - 1, {run.id for run in found.runs}
    if earlier < 1:
        return 0
    try:
        runs = await runs_of(client, found.slug, version=earlier)
    except FanbenchError:
        return 0  # It is only a hint.
    return earlier if any(run.id not in known for run in runs) else 0


async def list_tasks(
    client: Api,
    *,
    regex: str | None = None,
    status: str | None = None,
    owner: str = "",
    benchmark: str = "",
    version: int = 0,
) -> list[Task]:
    """Return all tasks that match; the server filters them. `status` is a creation state, in any case.

    They are those of the user, of another `owner`, or of `benchmark`, of its published version by default.

    Raises:
        UsageError: There is no such state, or the name of the benchmark is not valid.
        NotFound: The benchmark does not exist.
        UnsupportedByServer: The server is older than lists of owners and benchmarks.
    """
    states = [state.label.lower() for state in CreationState if state is not CreationState.UNSPECIFIED]
    if status is not None and status.lower().replace("-", "_") not in states:
        raise UsageError(f"{status!r} is not a state of a task.", hint=f"Use one of {', '.join(states)}.")
    if benchmark:
        return await tasks_of_benchmark(client, benchmark, version=version, regex=regex, status=status)
    if owner:
        return await tasks_of_owner(client, owner, regex=regex, status=status)
    return [task async for task in client.list_tasks(regex=regex, status=status)]


async def watch_tasks(
    client: Api,
    tasks: Sequence[str],
    models: Sequence[str] = (),
    *,
    poll_interval: float = WATCH_INTERVAL,
    emit: Emit = ignore_events,
) -> list[TaskStatus | FanbenchError]:
    """Wait until the creations of the tasks and all their runs have ended, including runs that start meanwhile.

    Reports `StatusSeen` after each poll, and before it `CreationPolled` and `RunChanged` for what has changed;
    what the first poll finds is reported if it has not ended. Polls are at most `poll_interval` seconds apart.
    Returns one status per task in the order given; an error stands for a task that failed.

    Raises:
        UsageError: A name is not valid.
    """

    async def watch(slug: str) -> TaskStatus:
        status = await task_status(client, slug, models)
        return await _StatusWatcher(client, status, models, poll_interval, emit).run()

    jobs = [partial(watch, slug) for slug in unique_slugs(tasks)]
    # There is no limit: a watch mostly sleeps, and the client limits the calls.
    return await settle(jobs, limit=len(jobs))


class _StatusWatcher(RunWatcher):
    """Polls the creation and the runs of one task until all have ended."""

    # The status is what lists show.
    gone_after = math.inf

    def __init__(
        self, client: Api, status: TaskStatus, models: Sequence[str], poll_interval: float, emit: Emit
    ) -> None:
        super().__init__(client, status.slug, known=status.runs, poll_interval=poll_interval, emit=emit)
        self._asked = models
        self._status = status
        self._poll_interval = poll_interval

    async def run(self) -> TaskStatus:
        status = self._status
        if not status.task.creation_state.ended:
            self._emit(CreationPolled(self.slug, status.task, changed=True))
        for run in status.runs:
            if not run.state.terminal:
                self._emit(RunChanged(self.slug, run, None))
        self._emit(StatusSeen(status))
        with unwrap_single_error():
            async with anyio.create_task_group() as group:
                group.start_soon(self._watch_creation)
                await self.watch(just_listed=True)
        return self._status

    def pending(self) -> int:
        creations = int(not self._status.task.creation_state.ended)
        return creations + sum(not run.state.terminal for run in self._status.runs)

    def absorb(self, runs: Sequence[Run], asked_at: float) -> None:
        before = {run.id: run.state for run in self._status.runs}
        runs = runs_on(self.slug, runs, self._asked, self._status.task.slug.version_number)
        for run in runs:
            if before.get(run.id) != run.state:
                self._emit(RunChanged(self.slug, run, before.get(run.id)))
        self._status = replace(self._status, runs=tuple(runs))
        self._emit(StatusSeen(self._status))

    async def _watch_creation(self) -> None:
        def polled(event: Event) -> None:
            # Failed polls are left out: while the server is away, the polls of the runs report it.
            if isinstance(event, CreationPolled):
                self._absorb_creation(event.task)

        seen = self._status.task
        if not seen.creation_state.ended:
            interval = self._poll_interval
            self._absorb_creation(
                await wait_for_creation(
                    self._client, self.slug, Deadline(None), seen=seen, poll_interval=interval, emit=polled
                )
            )

    def _absorb_creation(self, task: Task) -> None:
        if task.creation_state != self._status.task.creation_state:
            self._status = replace(self._status, task=task)
            self._emit(CreationPolled(self.slug, task, changed=True))
            self.hurry()
