"""`publish` and `delete`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from fanbench.errors import ApiError, FanbenchError
from fanbench.operations.api import Api
from fanbench.operations.batch import each_task
from fanbench.operations.events import Emit, ignore_events
from fanbench.operations.lookup import NO_SUCH_CALL, existing_task
from fanbench.wire.messages import Task
from fanbench.wire.slugs import full_task_url

__all__ = ["Notebook", "Published", "delete_tasks", "publish_tasks"]

Notebook = Literal["published", "already published", "none", "left private"]


@dataclass(frozen=True, slots=True)
class Published:
    """A public task. `notebook` is the state of the notebook behind it."""

    slug: str
    task: Task
    was_public: bool
    notebook: Notebook

    @property
    def url(self) -> str:
        return full_task_url(self.task.url)


async def publish_tasks(
    client: Api, tasks: Sequence[str], *, publish_notebook: bool = True
) -> list[Published | FanbenchError]:
    """Make tasks public, and with `publish_notebook` the notebooks behind them; public ones are left as they are.

    Returns one outcome per task in the order given; an error stands for a task that failed.

    Raises:
        UsageError: A name is not valid.
    """

    async def publish(slug: str, emit: Emit) -> Published:
        before = await existing_task(client, slug)
        if before.is_public and not publish_notebook:
            return Published(slug, before, True, "left private")
        if before.is_public and before.is_backing_notebook_published:
            return Published(slug, before, True, "already published")
        after = await client.publish_task(slug, publish_notebook=publish_notebook)
        notebook: Notebook = "left private"
        if publish_notebook:
            notebook = "published" if after.is_backing_notebook_published else "none"
        return Published(slug, after, before.is_public, notebook)

    return await each_task(tasks, publish, limit=client.config.concurrency, emit=ignore_events)


async def delete_tasks(client: Api, tasks: Sequence[str]) -> list[FanbenchError | None]:
    """Delete tasks with their runs and outputs. Only the local server can: Kaggle has no such call.

    Returns one outcome per task in the order given: None, or the error for which it was not deleted.

    Raises:
        UsageError: A name is not valid.
    """

    async def delete(slug: str, emit: Emit) -> None:
        await existing_task(client, slug)
        try:
            await client.delete_task(slug)
        except ApiError as error:
            if error.status not in NO_SUCH_CALL:
                raise
            raise FanbenchError("Delete is not supported by the server yet.") from None

    return await each_task(tasks, delete, limit=client.config.concurrency, emit=ignore_events)
