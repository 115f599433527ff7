"""Runs that are started without waiting for their ends, in virtual time."""

from __future__ import annotations

import pytest

from fanbench import NotFound, RunState
from fanbench.operations.run import run_tasks
from fanbench.testing import RunScript, SimulatedKaggle
from fanbench.wire.messages import CreationState
from tests.operations.conftest import INSTANT_RUN, simulated
from tests.operations.virtual_time import anyio_backend as anyio_backend

pytestmark = pytest.mark.anyio


def world(**scripts: RunScript | None) -> SimulatedKaggle:
    return simulated("t", "u", models=list(scripts), runs=scripts)


async def test_new_runs_are_returned_without_waiting_for_their_ends() -> None:
    """The report has the new runs, not those of earlier calls, without waiting for their ends."""
    client = world(a=RunScript(queued=5, running=50), b=RunScript(running=50))
    client.add_run("t", "a", INSTANT_RUN, age=9)
    report = await run_tasks(client, ["T"], ["a", "b"], until="listed")
    assert {(run.id, run.state) for run in report.runs} == {(1002, RunState.QUEUED), (1003, RunState.RUNNING)}
    assert client.now() == 0


async def test_a_list_that_lags_is_repeated() -> None:
    """The call returns once the last run is listed."""
    client = world(a=RunScript(running=50, list_lag=3), b=RunScript(running=50))
    report = await run_tasks(client, ["t"], ["a", "b"], until="listed")
    assert sorted(run.id for run in report.runs) == [1001, 1002]
    assert 3 <= client.now() < 6


async def test_a_skipped_models_run_in_flight_is_returned() -> None:
    """For a skipped model the report has its run in flight, if there is one."""
    client = world(a=None, b=None)
    going = client.add_run("t", "a", RunScript(running=50)).id
    client.add_run("t", "b", INSTANT_RUN, age=9)
    report = await run_tasks(client, ["t"], ["a", "b"], until="listed")
    assert [run.id for run in report.runs] == [going]
    assert [row.scheduled for row in report.launches[0].rows] == [False, False]


async def test_a_failed_task_does_not_affect_the_others() -> None:
    """Of several tasks, one that fails is among the failures; a single task raises."""
    client = world(a=RunScript(running=1))
    client.change(creation_end=CreationState.ERRORED)
    client.add_task("u")
    report = await run_tasks(client, ["u", "t"], ["a"], until="listed")
    assert [launch.slug for launch in report.launches] == ["t"]
    assert [failure.slug for failure in report.failures] == ["u"]
    with pytest.raises(NotFound):
        await run_tasks(client, ["missing"], ["a"], until="listed")


async def test_an_unknown_model_schedules_nothing() -> None:
    """One unknown model of several is enough to schedule nothing."""
    client = world(a=INSTANT_RUN)
    with pytest.raises(NotFound):
        await run_tasks(client, ["t"], ["a", "x"], until="listed")
    assert client.runs == {}
