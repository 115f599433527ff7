"""Looking for what a call has done that got no answer, because it must not be made twice."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import partial
from typing import Literal

import anyio

from fanbench._util.text import duration, error_line, many
from fanbench.config import Config
from fanbench.operations.api import Api
from fanbench.operations.events import Event
from fanbench.operations.lookup import as_scheduled, model_of, runs_of, task_if_any
from fanbench.wire.messages import Run, Task
from fanbench.wire.retry import CONFIRMED_WITHIN, LATE_EFFECT, retry_patiently

__all__ = ["CallUnanswered", "confirmed_within", "runs_after", "version_after"]

_CHECK_EVERY = 2.0


class CallUnanswered(Event, frozen=True):
    """A push of a task, or the call that schedules `runs` of it, got no answer.

    What it may have done is looked for, for up to `seconds`. `runs` is 0 for a push.
    """

    task: str
    call: Literal["push", "schedule"]
    runs: int
    seconds: float
    error: str

    @property
    def text(self) -> str:
        doubt = (
            "it was pushed" if self.call == "push" else f"the server has scheduled {many(self.runs, 'run')}"
        )
        what = "for the version " if self.call == "push" else ""
        return (
            f"{self.task}: it is unknown whether {doubt}; looking {what}for up to {duration(self.seconds)} "
            f"({error_line(self.error)})"
        )


def confirmed_within(config: Config) -> float:
    """Seconds for which the effect of a call is looked for. The lists of a local server are never behind."""
    return CONFIRMED_WITHIN if config.local_data is None else LATE_EFFECT


async def version_after(client: Api, slug: str, before: int, seconds: float) -> Task | None:
    """Return a version of the task newer than `before` if it appears within `seconds`. Look at least once."""
    end = anyio.current_time() + seconds
    while True:
        began = anyio.current_time()
        task = await retry_patiently(partial(task_if_any, client, slug))
        if task is not None and task.slug.version_number > before:
            return task
        if began >= end:
            return None
        await anyio.sleep(min(_CHECK_EVERY, max(0.0, end - anyio.current_time())))


async def runs_after(
    client: Api, slug: str, models: Sequence[str], before: Collection[int], seconds: float
) -> list[Run]:
    """Return the runs on `models` that are not among `before`, once there is one of each, or after `seconds`."""
    end = anyio.current_time() + seconds
    while True:
        began = anyio.current_time()
        listed = as_scheduled(await retry_patiently(partial(runs_of, client, slug)), models)
        new = [run for run in listed if run.id not in before and model_of(run) in models]
        if began >= end or {model_of(run) for run in new} == set(models):
            return new
        await anyio.sleep(min(_CHECK_EVERY, max(0.0, end - anyio.current_time())))
