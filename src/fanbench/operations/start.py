"""Runs begun without waiting for them, as runs that one can go on with."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import anyio

from fanbench._util.concurrency import gather, settle
from fanbench._util.polling import Pace
from fanbench.errors import FanbenchError
from fanbench.operations.api import Api
from fanbench.operations.batch import unique_slugs
from fanbench.operations.events import Report, TaskFailed, ignore_events
from fanbench.operations.polls import RunPoll
from fanbench.operations.run import Launch, RunReport, resolve_models, schedule
from fanbench.wire.messages import Run

__all__ = ["start_runs"]


async def start_runs(
    client: Api, tasks: Sequence[str], models: Sequence[str], *, report: Report = ignore_events
) -> RunReport:
    """Schedules each of `tasks` on each of `models`, all tasks at once, and returns as soon as they are listed.

    The report's `runs` are the new ones, queued or further, and of models that were skipped the run in flight.

    Raises:
        UsageError: a name is none, or a model is unknown: nothing has been scheduled.
        FanbenchError: the only task does not exist or cannot be run; of several, the others go on.
    """
    slugs = unique_slugs(tasks)
    known = resolve_models(models, await client.list_models())
    limit = client.config.concurrency
    jobs = [partial(schedule, client, slug, known, watchful=True) for slug in slugs]
    outcomes = await settle(jobs, limit=limit)
    if len(slugs) == 1 and isinstance(outcomes[0], FanbenchError):
        raise outcomes[0]
    launches = tuple(outcome for outcome in outcomes if isinstance(outcome, Launch))
    failures = tuple(
        TaskFailed(slug, outcome)
        for slug, outcome in zip(slugs, outcomes, strict=True)
        if isinstance(outcome, FanbenchError)
    )
    found = await gather([partial(_listed, client, launch, report) for launch in launches], limit=limit)
    return RunReport(launches, failures, tuple(run for runs in found for run in runs))


async def _listed(client: Api, launch: Launch, report: Report) -> list[Run]:
    """The runs of a launch. The answer to the schedule call has no ids, and a list may be a little behind."""
    if launch.watch.empty:
        return []
    poll, pace = RunPoll(client, launch.slug, launch.watch.models, report), Pace()
    while True:
        if (runs := await poll.ask()) is not None:
            picked = launch.watch.pick(runs)
            if not launch.watch.missing(picked):
                return picked
        await anyio.sleep(pace.next())
