"""Several tasks at once: they all work at the same time, and speak in the order in which they were named."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TypeVar

from fanbench._util.concurrency import settle
from fanbench.errors import FanbenchError
from fanbench.operations.events import Event, Progress, Report, TaskFailed
from fanbench.wire.slugs import slugify_task

__all__ = ["each_task", "unique_slugs"]

T = TypeVar("T")
Job = Callable[[str, Report], Awaitable[T]]


def unique_slugs(tasks: Sequence[str]) -> list[str]:
    """The slugs of `tasks`; one that is named twice counts once.

    Raises:
        UsageError: a name is none.
    """
    return list(dict.fromkeys(slugify_task(task) for task in tasks))


async def each_task(
    tasks: Sequence[str], job: Job[T], *, limit: int, report: Report
) -> list[T | FanbenchError]:
    """The outcome of `job(slug, report)` for each task, `limit` of them at a time, in their order.

    What a job says is held back until those before it are through. One that fails ends none of the others.

    Raises:
        UsageError: a name is none.
    """
    slugs = unique_slugs(tasks)
    turns = _Turns(report)

    def done(index: int, outcome: T | FanbenchError) -> None:
        if isinstance(outcome, FanbenchError):
            turns.say(index, TaskFailed(slugs[index], outcome))
        turns.end(index)

    jobs = [partial(job, slug, partial(turns.say, index)) for index, slug in enumerate(slugs)]
    return await settle(jobs, limit=limit, done=done)


class _Turns:
    """Lets the events of the first job pass, and keeps those of the others until it is their turn.

    Progress passes at once: later it is no news.
    """

    def __init__(self, report: Report) -> None:
        self._report = report
        self._now = 0
        self._kept: dict[int, list[Event]] = {}
        self._over: set[int] = set()

    def say(self, index: int, event: Event) -> None:
        if index == self._now or isinstance(event, Progress):
            self._report(event)
        else:
            self._kept.setdefault(index, []).append(event)

    def end(self, index: int) -> None:
        self._over.add(index)
        while self._now in self._over:
            self._now += 1
            for event in self._kept.pop(self._now, ()):
                self._report(event)
