"""`status` and `list`: what the server says of tasks and their runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from fanbench.api.messages import Run, RunState, Task
from fanbench.api.names import slugify_task
from fanbench.verbs._api import Api
from fanbench.verbs._fan import both
from fanbench.verbs._tasks import existing_task, runs_of

__all__ = ["TaskStatus", "last_line", "list_tasks", "task_status"]


@dataclass(frozen=True, slots=True)
class TaskStatus:
    """A task and its runs, in the server's order."""

    slug: str
    task: Task
    runs: tuple[Run, ...]

    @property
    def errored(self) -> tuple[Run, ...]:
        return tuple(run for run in self.runs if run.state == RunState.ERRORED)


async def task_status(client: Api, task: str, models: Sequence[str] = ()) -> TaskStatus:
    """The task and its runs, those of `models` only where some are given.

    Raises:
        NotFound: there is no such task.
    """
    slug = slugify_task(task)
    details, runs = await both(partial(existing_task, client, slug), partial(runs_of, client, slug, models))
    return TaskStatus(slug, details, tuple(runs))


async def list_tasks(client: Api, *, regex: str | None = None, status: str | None = None) -> list[Task]:
    """All tasks of the user, filtered by the server."""
    return [task async for task in client.list_tasks(regex=regex, status=status)]


def last_line(message: str) -> str:
    """The line of an error message that says what went wrong: of a traceback, the last."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    return lines[-1] if lines else ""
