"""`status`, once or until all is over, and `list`: what the server says of tasks and their runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import anyio

from fanbench._util.concurrency import both, settle
from fanbench._util.polling import Pace
from fanbench.errors import FanbenchError
from fanbench.operations.api import Api
from fanbench.operations.batch import each_task, unique_slugs
from fanbench.operations.events import CreationPolled, Event, Report, RunChanged, ignore_events
from fanbench.operations.lookup import existing_task, runs_of
from fanbench.operations.polls import RunPoll
from fanbench.wire import protocol
from fanbench.wire.messages import Run, RunState, Task
from fanbench.wire.retry import may_retry
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

#: Somebody looks at a watch: it asks more often than a wait does. In seconds.
WATCH_INTERVAL = 10.0


@dataclass(frozen=True, slots=True)
class TaskStatus:
    """A task and its runs, in the server's order."""

    slug: str
    task: Task
    runs: tuple[Run, ...]

    @property
    def errored(self) -> tuple[Run, ...]:
        return tuple(run for run in self.runs if run.state == RunState.ERRORED)

    @property
    def over(self) -> bool:
        """Nothing changes any more by itself."""
        return not self.task.creation_state.pending and all(run.state.terminal for run in self.runs)


class StatusSeen(Event, frozen=True):
    """What a look at a watched task has shown, changed or not."""

    status: TaskStatus


async def task_status(client: Api, task: str, models: Sequence[str] = ()) -> TaskStatus:
    """The task and its runs, those of `models` only where some are given.

    Raises:
        NotFound: there is no such task.
    """
    slug = slugify_task(task)
    details, runs = await both(partial(existing_task, client, slug), partial(runs_of, client, slug, models))
    return TaskStatus(slug, details, tuple(runs))


async def task_statuses(
    client: Api, tasks: Sequence[str], models: Sequence[str] = ()
) -> list[TaskStatus | FanbenchError]:
    """`task_status` of several tasks at once: what became of each, in the order in which they are named.

    Raises:
        UsageError: a name is none.
    """

    async def one(slug: str, say: Report) -> TaskStatus:
        return await task_status(client, slug, models)

    return await each_task(tasks, one, limit=client.config.concurrency, report=ignore_events)


async def watch_tasks(
    client: Api,
    tasks: Sequence[str],
    models: Sequence[str] = (),
    *,
    poll_interval: float = WATCH_INTERVAL,
    report: Report = ignore_events,
) -> list[TaskStatus | FanbenchError]:
    """The tasks once their creations and all runs have ended, also runs that begin meanwhile.

    Reports `StatusSeen` at each look, before it `CreationPolled` and `RunChanged` for what is new; what is
    seen first is new, unless it has ended already. One list call a task a poll; `poll_interval` is in seconds.

    Raises:
        UsageError: a name is none.
    """
    slugs = unique_slugs(tasks)
    jobs = [partial(_watch, client, slug, models, Pace(poll_interval), report) for slug in slugs]
    # No limit: a watch mostly sleeps, and the client bounds the calls.
    return await settle(jobs, limit=len(jobs))


async def _watch(client: Api, slug: str, models: Sequence[str], pace: Pace, report: Report) -> TaskStatus:
    status = await task_status(client, slug, models)
    poll = RunPoll(client, slug, models, report)
    _say_news(None, status, report)
    while not status.over:
        await anyio.sleep(pace.next())
        if (fresh := await _look(client, status, poll)) is not None:
            if _say_news(status, fresh, report):
                pace.reset()
            status = fresh
    return status


async def _look(client: Api, status: TaskStatus, poll: RunPoll) -> TaskStatus | None:
    """What is there now; `None` where the server did not answer."""
    task = status.task
    if task.creation_state.pending:
        try:
            task = await existing_task(client, status.slug)
        except FanbenchError as error:
            # The next call counts the failures.
            if not may_retry(error, protocol.GET_TASK):
                raise
    runs = await poll.ask()
    return None if runs is None else TaskStatus(status.slug, task, tuple(runs))


def _say_news(before: TaskStatus | None, now: TaskStatus, report: Report) -> bool:
    """Reports what has changed; whether anything has."""
    news = [*_news_of_creation(before, now), *_news_of_runs(before, now)]
    for event in [*news, StatusSeen(now)]:
        report(event)
    return bool(news)


def _news_of_creation(before: TaskStatus | None, now: TaskStatus) -> list[Event]:
    state = now.task.creation_state
    if (before.task.creation_state == state) if before else not state.pending:
        return []
    return [CreationPolled(now.slug, now.task, changed=True)]


def _news_of_runs(before: TaskStatus | None, now: TaskStatus) -> list[Event]:
    known = {run.id: run.state for run in before.runs} if before else {}
    return [
        RunChanged(now.slug, run, known.get(run.id))
        for run in now.runs
        if known.get(run.id) != run.state and (before or not run.state.terminal)
    ]


async def list_tasks(client: Api, *, regex: str | None = None, status: str | None = None) -> list[Task]:
    """All tasks of the user, filtered by the server."""
    return [task async for task in client.list_tasks(regex=regex, status=status)]
