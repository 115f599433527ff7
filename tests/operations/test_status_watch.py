"""`status --watch` in virtual time: which changes it reports, and how often the server is called."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence

import pytest

from fanbench import ConnectionFailed
from fanbench.operations.events import CreationPolled, PollFailed, RunChanged
from fanbench.operations.status import StatusSeen, TaskStatus, watch_tasks
from fanbench.wire.messages import CreationState, Run
from tests.operations.conftest import Reported
from tests.operations.fake import Course, FakeClient, task
from tests.operations.virtual_time import anyio_backend as anyio_backend

pytestmark = pytest.mark.anyio


@pytest.fixture
def client() -> FakeClient:
    return FakeClient(tasks={slug: task(slug, version=3) for slug in "abc"})


async def test_a_watch_ends_with_the_last_run(client: FakeClient, reported: Reported) -> None:
    """A watch includes runs that start meanwhile, and reports each change and each poll once."""
    client.begin("a", "m", Course(queued=3, running=4))
    client.begin("a", "late", Course(list_lag=5, queued=0, running=20))
    client.begin("a", "old", Course(), ago=100)
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
    assert len(reported.of(StatusSeen)) == len(client.times("list_runs"))


async def test_a_watch_asks_for_the_task_only_while_it_is_created(
    client: FakeClient, reported: Reported
) -> None:
    """The task is polled only during its creation; the runs take one list call per poll, at growing pauses."""
    client.change(creation=6.0)
    await client.create_task("new", "{}")
    client.begin("new", "m", Course(running=100))
    (status,) = await watch_tasks(client, ["new"], emit=reported)
    assert isinstance(status, TaskStatus)
    assert status.task.creation_state == CreationState.COMPLETED
    assert [event.task.creation_state.label for event in reported if isinstance(event, CreationPolled)] == [
        "RUNNING",
        "COMPLETED",
    ]
    assert max(client.times("get_task")) < 12
    assert len(client.times("list_runs")) < 20


async def test_a_watch_outlives_a_server_that_is_away(reported: Reported) -> None:
    """A watch survives a server that is away for a while, and reports it."""
    client = _Away(tasks={"a": task("a")})
    client.begin("a", "m", Course(running=9))
    (status,) = await watch_tasks(client, ["a"], emit=reported)
    assert isinstance(status, TaskStatus)
    assert status.over
    assert len(reported.of(PollFailed)) == 1


class _Away(FakeClient):
    """Does not answer the second list of runs."""

    async def list_runs(self, task: str, *, models: Sequence[str] = ()) -> AsyncGenerator[Run, None]:
        if len(self.times("list_runs")) == 1:
            self.errors["list_runs"] = [ConnectionFailed("Away.", endpoint="x")]
        async for run in super().list_runs(task, models=models):
            yield run


async def test_a_watch_of_several_tasks(client: FakeClient) -> None:
    """Tasks are watched at the same time, and a missing one does not affect the others."""
    for slug, seconds in (("a", 5), ("b", 10)):
        client.begin(slug, "m", Course(running=seconds))
    outcomes = await watch_tasks(client, ["b", "nope", "a"])
    assert [isinstance(outcome, TaskStatus) for outcome in outcomes] == [True, False, True]
    assert client.now() < 18
