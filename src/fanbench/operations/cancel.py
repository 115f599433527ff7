"""Cancelling runs: asking the server, perhaps several times, until its lists do not show them any more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import anyio

from fanbench._util.concurrency import gather, settle
from fanbench._util.text import duration, many
from fanbench.errors import UsageError
from fanbench.operations.api import Api
from fanbench.operations.events import Emit, Event, ignore_events
from fanbench.operations.lookup import needs_call, runs_of
from fanbench.operations.status import TaskStatus
from fanbench.wire.messages import CancelRunsResponse, Run, RunState
from fanbench.wire.slugs import join_task

__all__ = [
    "CancelledRun",
    "EarlierRuns",
    "Outcome",
    "StillThere",
    "cancel_runs",
    "cancellable",
    "earlier_runs",
    "request_cancel",
]

#: The seconds before the server is asked again for what is still there, which it may not have reached.
PAUSES = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
# How many versions before the newest are looked at.
_LOOKED_BACK = 10
# The most runs in one call.
_AT_ONCE = 1000


class StillThere(Event, frozen=True):
    """Lists still show runs that were to be cancelled. The server is asked again in `pause` seconds."""

    runs: int
    pause: float

    @property
    def text(self) -> str:
        return f"{many(self.runs, 'run')} could not be reached yet; asking again in {duration(self.pause)}"


Outcome = Literal["cancelled", "ended", "started", "left"]


@dataclass(frozen=True, slots=True)
class CancelledRun:
    """What became of a run that was to be cancelled.

    It was `cancelled`, had `ended` before, had `started` although only queued runs were to be cancelled, or is `left`:
    the server has not stopped it. `run` is as it was last listed.
    """

    run: Run
    outcome: Outcome


def cancellable(
    statuses: Sequence[TaskStatus], run_ids: Sequence[int] = (), *, queued_only: bool = False
) -> list[Run]:
    """Return the runs of tasks that are in progress, or still queued; only those with `run_ids` if any are given.

    Raises:
        UsageError: A run is not one of these tasks.
    """
    runs = [run for status in statuses for run in status.runs]
    known = {run.id for run in runs}
    if unknown := [str(run_id) for run_id in run_ids if run_id not in known]:
        raise UsageError(
            f"There is no run {', '.join(unknown)} of {', '.join(status.slug for status in statuses)}.",
            hint="`fanbench tasks status TASK --format json` has the ids; --version N selects an earlier version.",
        )
    return [
        run
        for run in runs
        if not run.state.terminal
        and (not run_ids or run.id in run_ids)
        and (not queued_only or run.state == RunState.QUEUED)
    ]


@dataclass(frozen=True, slots=True)
class EarlierRuns:
    """The `number` of runs in progress of a `version` of a task before its newest."""

    slug: str
    version: int
    number: int


async def earlier_runs(client: Api, statuses: Sequence[TaskStatus]) -> list[EarlierRuns]:
    """Return which of the last versions before those of `statuses` have runs in progress as well."""

    async def look(status: TaskStatus, version: int) -> EarlierRuns | None:
        known = {run.id for run in status.runs}  # by a server that does not tell versions apart
        runs = await runs_of(client, status.slug, version=version)
        live = [run for run in runs if not run.state.terminal and run.id not in known]
        return EarlierRuns(status.slug, version, len(live)) if live else None

    jobs = []
    for status in statuses:
        newest = status.task.slug.version_number
        jobs += [partial(look, status, version) for version in range(newest - 1, 0, -1)[:_LOOKED_BACK]]
    found = await settle(jobs, limit=client.config.concurrency)
    # It is only a hint.
    return [each for each in found if isinstance(each, EarlierRuns)]


async def cancel_runs(
    client: Api, runs: Sequence[Run], *, queued_only: bool = False, emit: Emit = ignore_events
) -> list[CancelledRun]:
    """Cancel exactly these runs, and return what became of each, in their order.

    The server may leave running what it cannot reach, so it is asked again, up to a minute. Whether a run was
    cancelled is known from the lists, which do not have it any more.

    Raises:
        UnsupportedByServer: The server cannot cancel runs.
    """
    left, found = {run.id: run for run in runs}, dict[int, CancelledRun]()
    for pause in (*PAUSES, None):
        await request_cancel(client, [*left], include_active=not queued_only)
        listed = await _listed(client, [*left.values()])
        for run_id, run in [*left.items()]:
            now = listed.get(run_id)
            if now is None:
                found[run_id] = CancelledRun(run, "cancelled")
            elif now.state.terminal:
                found[run_id] = CancelledRun(now, "ended")
            elif queued_only and now.state != RunState.QUEUED:
                found[run_id] = CancelledRun(now, "started")
            else:
                left[run_id] = now
                continue
            del left[run_id]
        if not left or pause is None:
            break
        emit(StillThere(len(left), pause))
        await anyio.sleep(pause)
    return [found.get(run.id) or CancelledRun(left[run.id], "left") for run in runs]


async def request_cancel(client: Api, run_ids: Sequence[int], *, include_active: bool) -> CancelRunsResponse:
    """Ask the server once to cancel exactly these runs: in one call, unless there are very many.

    Raises:
        UnsupportedByServer: The server cannot cancel runs.
    """
    queued = active = 0
    for start in range(0, len(run_ids), _AT_ONCE):
        some = run_ids[start : start + _AT_ONCE]
        with needs_call("This server cannot cancel runs", names_nothing=True):  # unknown ids are left out
            answer = await client.cancel_runs(run_ids=some, include_active=include_active)
        queued += answer.queued_cancelled_count
        active += answer.active_terminated_count
    return CancelRunsResponse(queued_cancelled_count=queued, active_terminated_count=active)


async def _listed(client: Api, runs: Sequence[Run]) -> dict[int, Run]:
    """Return the runs that the server lists now, by id, of the tasks and versions of `runs`."""
    places = {(join_task(run.task_slug), run.task_slug.version_number) for run in runs}
    jobs = [partial(runs_of, client, slug, version=version) for slug, version in sorted(places)]
    lists = await gather(jobs, limit=client.config.concurrency)
    return {run.id: run for listed in lists for run in listed}
