"""`publish` and `delete`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from fanbench.errors import ApiError, FanbenchError
from fanbench.operations.api import Api
from fanbench.operations.batch import each_task
from fanbench.operations.events import Report, ignore_events
from fanbench.operations.lookup import existing_task
from fanbench.wire.messages import Task
from fanbench.wire.slugs import full_task_url, slugify_task

__all__ = ["Notebook", "Published", "delete_task", "delete_tasks", "publish_task", "publish_tasks"]

Notebook = Literal["published", "already published", "none", "left private"]

# How servers answer to a call that they do not have.
_NO_SUCH_CALL = (404, 405, 501)


@dataclass(frozen=True, slots=True)
class Published:
    """`notebook` says what became of the notebook behind the task."""

    slug: str
    task: Task
    was_public: bool
    notebook: Notebook

    @property
    def url(self) -> str:
        return full_task_url(self.task.url)


async def publish_task(client: Api, task: str, *, publish_notebook: bool = True) -> Published:
    """Makes a task public, and the notebook behind it; what is public already is left as it is.

    Raises:
        NotFound: there is no such task.
    """
    slug = slugify_task(task)
    before = await existing_task(client, slug)
    if before.is_public and not publish_notebook:
        return Published(slug, before, True, "left private")
    if before.is_public and before.is_backing_notebook_published:
        return Published(slug, before, True, "already published")
    after = await client.publish_task(slug, publish_notebook=publish_notebook)
    return Published(slug, after, before.is_public, _notebook(after, publish_notebook))


async def publish_tasks(
    client: Api, tasks: Sequence[str], *, publish_notebook: bool = True
) -> list[Published | FanbenchError]:
    """`publish_task` of several at once: what became of each, in the order in which they are named.

    Raises:
        UsageError: a name is none.
    """

    async def one(slug: str, say: Report) -> Published:
        return await publish_task(client, slug, publish_notebook=publish_notebook)

    return await each_task(tasks, one, limit=client.config.concurrency, report=ignore_events)


def _notebook(task: Task, wanted: bool) -> Notebook:
    if not wanted:
        return "left private"
    return "published" if task.is_backing_notebook_published else "none"


async def delete_task(client: Api, task: str) -> None:
    """Deletes a task with its runs and outputs, where the server has such a call.

    Raises:
        NotFound: there is no such task.
        FanbenchError: the server has no such call; Kaggle has none.
    """
    slug = slugify_task(task)
    await existing_task(client, slug)
    try:
        await client.delete_task(slug)
    except ApiError as error:
        if error.status not in _NO_SUCH_CALL:
            raise
        raise FanbenchError("Delete is not supported by the server yet.") from None


async def delete_tasks(client: Api, tasks: Sequence[str]) -> list[FanbenchError | None]:
    """`delete_task` of several at once: why each was not deleted, if it was not.

    Raises:
        UsageError: a name is none.
    """

    async def one(slug: str, say: Report) -> None:
        await delete_task(client, slug)

    return await each_task(tasks, one, limit=client.config.concurrency, report=ignore_events)
