"""`RunWatcher`, the one loop that polls runs: in virtual time, exact to the second and to the call."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

import anyio
import pytest

from fanbench import NotFound
from fanbench._util import polling
from fanbench.errors import FanbenchError
from fanbench.operations.watch import RunWatcher
from fanbench.testing import Fault, RunScript
from fanbench.wire.messages import Run, RunState
from tests.operations.conftest import simulated
from tests.operations.virtual_time import anyio_backend as anyio_backend

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def no_jitter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(polling, "_JITTER", 0.0)


@asynccontextmanager
async def serving(watcher: RunWatcher) -> AsyncGenerator[None, None]:
    async with anyio.create_task_group() as group:
        group.start_soon(watcher.serve)
        yield
        group.cancel_scope.cancel()


async def test_many_waiters_share_each_list() -> None:
    """A hundred coroutines that each wait for a run share one list per poll, and resume when their run changes."""
    client = simulated()
    ids = [
        client.add_run("t", f"m{number}", RunScript(queued=3 + number % 2, running=0)).id
        for number in range(100)
    ]
    watcher, resumed = RunWatcher(client, "t"), dict[int, tuple[float, RunState]]()

    async def wait(run_id: int) -> None:
        while (state := await watcher.wait_for_change(run_id)) == RunState.QUEUED:
            pass
        resumed[run_id] = client.now(), state

    async with serving(watcher), anyio.create_task_group() as group:
        for run_id in ids:
            group.start_soon(wait, run_id)
    assert client.times("list_runs") == [1, 2, 3.5, 4.5]
    assert {time for time, _ in resumed.values()} == {3.5, 4.5}
    assert resumed.keys() == set(ids)


async def test_a_watcher_without_waiters_does_not_poll() -> None:
    """A watcher polls only while a coroutine waits for it."""
    client = simulated()
    run_id = client.add_run("t", "m", RunScript(queued=5, running=50)).id
    watcher = RunWatcher(client, "t")
    async with serving(watcher):
        await watcher.wait_for_list()
        assert watcher.states == {run_id: RunState.QUEUED}
        await anyio.sleep(100)
        assert client.times("list_runs") == [1]


class Recorder(RunWatcher):
    """Waits for all runs, and records the states in each list before any waiter resumes."""

    seen: tuple[RunState, ...] | None = None
    due_at = float("inf")

    def pending(self) -> int:
        return 1 if self.seen is None else sum(not state.terminal for state in self.seen)

    def next_list_by(self) -> float:
        return self.due_at

    def absorb(self, runs: Sequence[Run], asked_at: float) -> None:
        self.seen = tuple(run.state for run in runs)


async def test_a_list_is_absorbed_before_a_waiter_resumes() -> None:
    """When a coroutine resumes, the watcher has absorbed the states of all runs in the same list."""
    client = simulated()
    first = client.add_run("t", "m1", RunScript(queued=2, running=0)).id
    client.add_run("t", "m2", RunScript(queued=2, running=0))
    watcher = Recorder(client, "t")
    seen: list[object] = []

    async def wait() -> None:
        while not (await watcher.wait_for_change(first)).terminal:
            pass
        seen.append(watcher.seen)

    async with anyio.create_task_group() as group:
        group.start_soon(wait)
        await watcher.watch()
    assert seen == [(RunState.COMPLETED, RunState.COMPLETED)]


async def test_a_hurried_watcher_polls_at_once() -> None:
    """`hurry` causes a poll at once, after which the pauses start again at one second."""
    client = simulated()
    client.add_run("t", "m", RunScript(queued=1000, running=0))
    watcher = Recorder(client, "t")
    with anyio.move_on_after(105):
        async with anyio.create_task_group() as group:
            group.start_soon(watcher.watch)
            await anyio.sleep(100)
            watcher.hurry()
    assert client.times("list_runs")[-4:] == [100, 101, 102.5, 104.75]


async def test_a_stream_that_opens_during_a_pause_makes_it_longer() -> None:
    """Once the last pending run has a stream, the next poll is an interval after the one before."""
    client = simulated()
    run_id = client.add_run("t", "m", RunScript(running=1000)).id
    watcher = Recorder(client, "t", poll_interval=30)
    with anyio.move_on_after(75):
        async with anyio.create_task_group() as group:
            group.start_soon(watcher.watch)
            await anyio.sleep(0.5)
            watcher.stream_opened(run_id)
            while True:
                await anyio.sleep(10)
                watcher.stream_heard(run_id)
    assert client.times("list_runs") == [0, 30, 60]


async def test_streams_that_end_one_after_another_share_a_poll() -> None:
    """A poll follows the end of a stream within `coalesce` seconds, and the end of the last one at once."""
    client = simulated()
    ids = [client.add_run("t", f"m{number}", RunScript(running=1000)).id for number in range(3)]
    watcher = Recorder(client, "t", poll_interval=60)
    with anyio.move_on_after(22):
        async with anyio.create_task_group() as group:
            for run_id in ids:
                watcher.stream_opened(run_id)
            group.start_soon(watcher.watch)
            await anyio.sleep(10)
            watcher.stream_ended(ids[0])
            await anyio.sleep(1)
            watcher.stream_ended(ids[1])
            await anyio.sleep(10)
            watcher.stream_ended(ids[2])
    assert client.times("list_runs")[:2] == [0, 15]
    assert 21 in client.times("list_runs")


async def test_a_list_is_made_by_the_time_it_is_due() -> None:
    """A list is made at the time `due` returns, even if the pauses between polls have become longer."""
    client = simulated()
    client.add_run("t", "m", RunScript(queued=1000, running=0))
    watcher = Recorder(client, "t")
    watcher.due_at = 50.0
    with anyio.move_on_after(50.5):
        await watcher.watch()
    assert client.times("list_runs")[-1] == 50


class Patient(Recorder):
    """Repeats failed lists after five seconds."""

    def after_failed_poll(self, error: FanbenchError) -> float | None:
        assert isinstance(error, NotFound)
        return 5.0


async def test_a_subclass_decides_how_failed_polls_are_repeated() -> None:
    """The pause that `failed` returns replaces the usual one, once for each failure."""
    client = simulated()
    client.add_run("t", "m", RunScript(queued=12, running=0))
    client.change(faults=(Fault("list_runs", 404, times=2),))
    await Patient(client, "t").watch()
    assert client.times("list_runs") == [0, 5, 10, 11, 12.5]
