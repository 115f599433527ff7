"""`status --watch` in virtual time: which changes it reports, and how often the server is called."""

from __future__ import annotations

import pytest

from fanbench.operations.events import CreationPolled, PollFailed, RunChanged
from fanbench.operations.status import StatusSeen, TaskStatus, watch_tasks
from fanbench.testing import Fault, RunScript, SimulatedKaggle
from fanbench.wire.messages import CreationState
from tests.operations.conftest import Reported, simulated
from tests.operations.virtual_time import anyio_backend as anyio_backend

pytestmark = pytest.mark.anyio


@pytest.fixture
def client() -> SimulatedKaggle:
    return simulated(*"abc", versions=3)


async def test_a_watch_ends_with_the_last_run(client: SimulatedKaggle, reported: Reported) -> None:
    """A watch includes runs that start meanwhile, and reports each change and each poll once."""
    client.add_run("a", "m", RunScript(queued=3, running=4))
    client.add_run("a", "late", RunScript(list_lag=5, queued=0, running=20))
    client.add_run("a", "old", age=100)
    (status,) = await watch_tasks(client, ["a"], emit=reported)
    assert isinstance(status, TaskStatus)
    assert status.over
    assert 20 <= client.now() <= 32
    changes = [
        (event.run.model_version_slug, event.run.state.label)
        for event in reported
        if isinstance(event, RunChanged)
    ]
    assert changes == [
        ("m", "QUEUED"),
        ("m", "RUNNING"),
        ("late", "RUNNING"),
        ("m", "COMPLETED"),
        ("late", "COMPLETED"),
    ]
    assert len(reported.of(StatusSeen)) == client.calls["list_runs"]


async def test_a_watch_polls_the_task_only_during_its_creation(
    client: SimulatedKaggle, reported: Reported
) -> None:
    """The task is polled only during its creation; the runs take one list call per poll, at growing pauses."""
    client.change(creation=6.0)
    await client.create_task("new", "{}")
    client.add_run("new", "m", RunScript(running=100))
    (status,) = await watch_tasks(client, ["new"], emit=reported)
    assert isinstance(status, TaskStatus)
    assert status.task.creation_state == CreationState.COMPLETED
    assert [event.task.creation_state.label for event in reported if isinstance(event, CreationPolled)] == [
        "RUNNING",
        "COMPLETED",
    ]
    assert max(client.times("get_task")) < 12
    assert client.calls["list_runs"] < 20


async def test_a_watch_survives_a_failed_poll(reported: Reported) -> None:
    """A watch survives a failed poll, and reports it."""
    client = simulated("a", faults=(Fault("list_runs", first=2),))
    client.add_run("a", "m", RunScript(running=9))
    (status,) = await watch_tasks(client, ["a"], emit=reported)
    assert isinstance(status, TaskStatus)
    assert status.over
    assert len(reported.of(PollFailed)) == 1


async def test_a_watch_of_several_tasks(client: SimulatedKaggle) -> None:
    """Tasks are watched at the same time, and a missing one does not affect the others."""
    for slug, seconds in (("a", 5), ("b", 10)):
        client.add_run(slug, "m", RunScript(running=seconds))
    outcomes = await watch_tasks(client, ["b", "nope", "a"])
    assert [isinstance(outcome, TaskStatus) for outcome in outcomes] == [True, False, True]
    assert client.now() < 18


async def test_a_watch_of_models_includes_runs_that_come_later(client: SimulatedKaggle) -> None:
    """A pattern, and a name without its `-default`, select among the runs of every poll."""
    client.add_run("a", "o/m@default", RunScript(queued=3, running=4))
    client.add_run("a", "other", RunScript(running=500))
    client.add_run("a", "m-late", RunScript(list_lag=5, running=20))
    (status,) = await watch_tasks(client, ["a"], ["m", "m-*"])
    assert isinstance(status, TaskStatus)
    assert [run.model_version_slug for run in status.runs] == ["m-late", "o/m@default"]
    assert client.now() < 60
