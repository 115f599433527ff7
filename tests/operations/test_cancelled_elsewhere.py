"""Runs that somebody cancels while others wait for them, or read their logs, in virtual time."""

from __future__ import annotations

from contextlib import aclosing

import anyio
import pytest

from fanbench import Client
from fanbench.operations.watch import GONE_AFTER, RunSelection, wait_for_runs
from fanbench.testing import RunScript, Scenario, SimulatedKaggle, SimulatedTransport
from fanbench.wire.messages import RunState
from tests.operations.conftest import simulated
from tests.operations.virtual_time import anyio_backend as anyio_backend

pytestmark = pytest.mark.anyio


async def cancel_after(client: SimulatedKaggle, seconds: float, *run_ids: int) -> None:
    await anyio.sleep(seconds)
    answer = await client.cancel_runs(run_ids=run_ids, include_active=True)
    assert answer.queued_cancelled_count + answer.active_terminated_count == len(run_ids)


async def test_a_wait_ends_for_a_cancelled_run_and_goes_on_for_the_others() -> None:
    """The cancelled run counts as errored, with the reason, soon after lists do not have it any more."""
    client = simulated("t", runs=RunScript(running=100.0))
    await client.schedule_runs("t", ["a", "b"])
    async with anyio.create_task_group() as group:
        group.start_soon(cancel_after, client, 50.0, 1001)
        selection = RunSelection("t", ids=frozenset(client.runs))
        runs = {run.id: run for run in await wait_for_runs(client, selection, poll_interval=5.0)}
    assert runs[1001].state == RunState.ERRORED
    assert "not listed any more: it was cancelled" in runs[1001].error_message
    assert runs[1002].state == RunState.COMPLETED
    assert anyio.current_time() < 105.0


async def test_all_are_cancelled() -> None:
    """The wait ends within seconds if nothing is left, also for a run that was queued."""
    client = simulated("t", runs={"a": RunScript(queued=1e4), "b": RunScript(running=1e4)})
    await client.schedule_runs("t", ["a", "b"])
    async with anyio.create_task_group() as group:
        group.start_soon(cancel_after, client, 50.0, 1001, 1002)
        await wait_for_runs(client, RunSelection("t", ids=frozenset(client.runs)), poll_interval=5.0)
    assert anyio.current_time() < 50.0 + GONE_AFTER + 10.0


async def test_a_push_is_not_mistaken_for_a_cancel() -> None:
    """A run that lists leave out because it is not of the newest version is found in those of its own."""
    client = simulated("t", runs=RunScript(running=100.0), lists_newest_version=True)
    await client.schedule_runs("t", ["a"])
    async with anyio.create_task_group() as group:

        async def push() -> None:
            await anyio.sleep(10.0)
            await client.create_task("t", "another")

        group.start_soon(push)
        (run,) = await wait_for_runs(client, RunSelection("t", ids=frozenset(client.runs)), poll_interval=5.0)
    assert run.state == RunState.COMPLETED
    assert anyio.current_time() < 110.0


async def test_the_log_of_a_cancelled_run_ends() -> None:
    """The lines of a run that is cancelled come to an end, with all that it has written."""
    log = tuple((float(second), f"{second}\n") for second in range(0, 1000, 10))
    kaggle = SimulatedKaggle(Scenario(runs=RunScript(running=1000.0, log=log), creation=0.0))
    kaggle.add_task("t")
    async with Client(kaggle.config, http=SimulatedTransport(kaggle)) as client:
        await client.schedule_runs("t", ["a"])
        (run,) = [each async for each in client.list_runs("t")]
        lines = []
        async with anyio.create_task_group() as group, aclosing(client.lines(run)) as texts:
            group.start_soon(cancel_after, kaggle, 55.0, run.id)
            async for text in texts:
                lines.append(text)
    assert lines[:6] == ["0", "10", "20", "30", "40", "50"]
    assert anyio.current_time() < 150.0
