"""Sweeps in one call, and their plans: `plan_sweep` and `sweep`."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TypedDict, Unpack

import anyio.to_thread

from fanbench.client import Client
from fanbench.operations.api import Api
from fanbench.sweeps.events import Emit, SweepEvent
from fanbench.sweeps.folder import set_aside
from fanbench.sweeps.plan import SweepPlan, make_plan
from fanbench.sweeps.report import SweepReport, write_summary
from fanbench.sweeps.resume import resumed
from fanbench.sweeps.spec import DEFAULT_OUTPUT, SweepSpec, classify, merge
from fanbench.sweeps.state import SweepState
from fanbench.sweeps.sweep import Sweep
from fanbench.sweeps.sweep_file import read_sweep_file

__all__ = ["SweepOptions", "plan_sweep", "sweep"]

AnyPath = str | os.PathLike[str]


class SweepOptions(TypedDict, total=False):
    """What may be said of a sweep besides tasks and models; each is what the flag of its name is.

    Times are in seconds, `max_cost` in US dollars; `max_failures` is a number or a share (`"10%"`).
    """

    all_models: bool
    datasets: Sequence[str]
    repeats: int
    output: AnyPath
    include_source: bool
    streams: int
    downloads: int
    max_cost: float
    timeout: float
    deadline: float
    poll_interval: float
    retry_errored: int
    max_failures: int | str


async def plan_sweep(
    client: Api,
    tasks: AnyPath | Sequence[AnyPath] = (),
    models: str | Sequence[str] = (),
    **options: Unpack[SweepOptions],
) -> SweepPlan:
    """What a sweep comes to: its tasks read, checked and converted, its models by their names.

    `tasks` are files, patterns (`"tasks/*.py"`), slugs of tasks that exist, and at most one sweep file
    (`"sweep.toml"`), over which all else that is given counts. Without any, it is the sweep that `output`
    (default: `results`) holds. `models` are names or patterns. Nothing is touched, here or on the server.

    Raises:
        UsageError: no task or no model, an unknown model, a number out of its range, an error in the sweep file.
        TaskFileError: a file cannot be read, or has an error that a push would refuse.
        NotFound: a task that is named by its slug is not on the server.
    """
    spec = await anyio.to_thread.run_sync(partial(_spec, _list(tasks), _list(models), options))
    return await make_plan(client, spec)


def _spec(tasks: Sequence[AnyPath], models: Sequence[AnyPath], options: SweepOptions) -> SweepSpec:
    words = classify([Path(task) if isinstance(task, os.PathLike) else task for task in tasks])
    base = read_sweep_file(words.sweep_file) if words.sweep_file else None
    if not tasks:
        base = resumed(Path(options.get("output", DEFAULT_OUTPUT)))
    given = dict(options)
    if "max_failures" in given:
        given["max_failures"] = str(given["max_failures"])
    return merge(base, tasks=words.tasks, models=models, **given)


def _list(names: AnyPath | Sequence[AnyPath]) -> list[AnyPath]:
    """A text is one name, and not the sequence of its letters."""
    return [names] if isinstance(names, str | os.PathLike) else list(names)


async def sweep(
    tasks: AnyPath | Sequence[AnyPath] = (),
    models: str | Sequence[str] = (),
    *,
    client: Client | None = None,
    on_event: Emit | None = None,
    fresh: bool = False,
    **options: Unpack[SweepOptions],
) -> SweepReport:
    """Runs every task on every model and fetches the results to `output`; the report of it.

    Takes what `plan_sweep` takes. It can be cancelled or killed at any instant: the same call goes on, with
    nothing pushed, scheduled or downloaded twice. `fresh` starts anew, and keeps what is there aside. Runs
    that errored or are missing are in the report, and no error here: see `report.ok`. `on_event` gets each
    event in the event loop, and must not block it. Without `client`, one is made for this call, with the
    endpoint and credentials that the command line would take. Writes `summary.json` and `summary.csv`, too.

    Raises:
        SweepError: the folder holds another sweep, or another process sweeps into it; a damaged journal.
        FanbenchError: what ended the sweep as a whole, such as `Unauthorized`; see `plan_sweep` as well.
    """
    async with _opened(client) as open_client:
        plan = await plan_sweep(open_client, tasks, models, **options)
        if fresh:
            await anyio.to_thread.run_sync(set_aside, plan.output)
        state = SweepState()
        async with Sweep(open_client, plan) as running:
            async for event in running:
                _tell(event, state, on_event)
            report = (await running.report()).after(state)
    await anyio.to_thread.run_sync(write_summary, report)
    return report


def _tell(event: SweepEvent, state: SweepState, on_event: Emit | None) -> None:
    state.absorb(event)
    if on_event is not None:
        on_event(event)


@asynccontextmanager
async def _opened(client: Client | None) -> AsyncGenerator[Client, None]:
    if client is not None:
        yield client
        return
    async with Client() as new:
        yield new
