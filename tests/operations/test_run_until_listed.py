"""Runs that are started without waiting for their ends, in virtual time."""

from __future__ import annotations

import pytest

from fanbench import NotFound, RunState, UsageError
from fanbench.operations.run import run_tasks
from fanbench.wire.messages import CreationState
from tests.operations.fake import Course, FakeClient, model, task
from tests.operations.virtual_time import anyio_backend as anyio_backend

pytestmark = pytest.mark.anyio


def world(**courses: Course | None) -> FakeClient:
    return FakeClient(
        tasks={"t": task("t"), "u": task("u")}, models=[model(name) for name in courses], courses=courses
    )


async def test_the_runs_are_there_as_they_began() -> None:
    """The report has the new runs, not those of earlier calls, without waiting for their ends."""
    client = world(a=Course(queued=5, running=50), b=Course(running=50))
    client.begin("t", "a", Course(), ago=9)
    report = await run_tasks(client, ["T"], ["a", "b"], until="listed")
    assert {(run.id, run.state) for run in report.runs} == {(101, RunState.QUEUED), (102, RunState.RUNNING)}
    assert client.now() == 0


async def test_a_list_that_is_behind_is_asked_again() -> None:
    """The call returns once the last run is listed."""
    client = world(a=Course(running=50, list_lag=3), b=Course(running=50))
    report = await run_tasks(client, ["t"], ["a", "b"], until="listed")
    assert sorted(run.id for run in report.runs) == [100, 101]
    assert 3 <= client.now() < 6


async def test_of_a_model_that_is_skipped_the_run_in_flight_counts() -> None:
    """For a skipped model the report has the run in flight, or none if there is none."""
    client = world(a=None, b=None)
    going = client.begin("t", "a", Course(running=50))
    client.begin("t", "b", Course(), ago=9)
    report = await run_tasks(client, ["t"], ["a", "b"], until="listed")
    assert [run.id for run in report.runs] == [going]
    assert [row.scheduled for row in report.launches[0].rows] == [False, False]


async def test_a_failed_task_does_not_affect_the_others() -> None:
    """Of several tasks, one that fails is among the failures; a single task raises."""
    client = world(a=Course(running=1))
    client.have("u", task("u", CreationState.ERRORED))
    report = await run_tasks(client, ["u", "t"], ["a"], until="listed")
    assert [launch.slug for launch in report.launches] == ["t"]
    assert [failure.slug for failure in report.failures] == ["u"]
    with pytest.raises(NotFound):
        await run_tasks(client, ["missing"], ["a"], until="listed")


async def test_an_unknown_model_schedules_nothing() -> None:
    """One unknown model of several is enough to schedule nothing."""
    client = world(a=Course())
    with pytest.raises(UsageError):
        await run_tasks(client, ["t"], ["a", "x"], until="listed")
    assert client.runs == {}
