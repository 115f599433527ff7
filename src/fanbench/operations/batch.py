"""One operation on several tasks: they run at the same time, and report in the order of the tasks."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TypeVar

from fanbench._util.concurrency import InOrder, settle
from fanbench.errors import FanbenchError
from fanbench.operations.events import Emit, Event, TaskFailed, TransientEvent
from fanbench.wire.slugs import slugify_task

__all__ = ["each_task", "unique_slugs"]

T = TypeVar("T")


def unique_slugs(tasks: Sequence[str]) -> list[str]:
    """Return the slugs of `tasks` without duplicates.

    Raises:
        UsageError: A name is not valid.
    """
    return list(dict.fromkeys(slugify_task(task) for task in tasks))


async def each_task(
    tasks: Sequence[str], job: Callable[[str, Emit], Awaitable[T]], *, limit: int, emit: Emit
) -> list[T | FanbenchError]:
    """Run `job(slug, report)` for each task, `limit` at a time; return one outcome per task in the order given.

    An error stands for a task that failed; it is reported as `TaskFailed` and does not affect the others. The
    events of a task are held back until the tasks before it have ended, except `TransientEvent`, which passes at once.

    Raises:
        UsageError: A name is not valid.
    """
    slugs = unique_slugs(tasks)
    in_order = InOrder(emit)

    def report_in_order(index: int, event: Event) -> None:
        if isinstance(event, TransientEvent):
            emit(event)
        else:
            in_order.add(index, event)

    def done(index: int, outcome: T | FanbenchError) -> None:
        if isinstance(outcome, FanbenchError):
            in_order.add(index, TaskFailed(slugs[index], outcome))
        in_order.end(index)

    jobs = [partial(job, slug, partial(report_in_order, index)) for index, slug in enumerate(slugs)]
    return await settle(jobs, limit=limit, done=done)
