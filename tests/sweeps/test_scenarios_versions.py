"""Somebody else pushes the same task while it is swept: the sweep says so, and keeps to its own version."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from fanbench.operations.events import VersionSuperseded
from fanbench.sweeps.context import SweepContext
from fanbench.sweeps.engine import Engine
from fanbench.sweeps.events import RunFound, RunUnlisted, SweepEnded, SweepEvent, TaskPushed, TaskReady
from fanbench.testing import RunScript, Scenario, run_in_virtual_time
from fanbench.wire.messages import CreationState
from fanbench.wire.metadata import Metadata
from tests.sweeps.records import MemoryRecords
from tests.sweeps.test_engine_basics import inline
from tests.sweeps.world import World

pytestmark = pytest.mark.usefixtures("no_jitter", "quick_disk")

Meanwhile = Callable[[SweepEvent, Engine], None]


def rival_push(world: World, after: type[SweepEvent], state: CreationState | None = None) -> Meanwhile:
    """Let somebody else push version 2 at the first event of a kind. With `state`, its creation ends so."""

    def meanwhile(event: SweepEvent, engine: Engine) -> None:
        task = world.kaggle.tasks.get("t1")
        if isinstance(event, after) and task is not None and len(task.versions) == 1:
            world.kaggle.add_task("t1", "of somebody else", age=0.0)
            if state is not None:
                task.versions[-1] = replace(task.newest, ready_at=world.kaggle.now(), end=state)

    return meanwhile


def check_own_version(world: World, runs: int) -> None:
    """Check that there is each run once, of version 1, with its files."""
    assert world.counts == (runs, 0, 0, 0)
    assert [run.version for run in world.kaggle.our_runs()] == [1] * runs
    world.check_journal()
    world.check_disk()


@pytest.mark.parametrize("newest_only", [False, True])
@pytest.mark.parametrize("state", [None, CreationState.COMPLETED, CreationState.ERRORED])
def test_a_push_during_the_creation(tmp_path: Path, newest_only: bool, state: CreationState | None) -> None:
    """The next poll of the creation shows the newer version; whatever becomes of that, ours is created and run."""
    world = World(tmp_path, Scenario(creation=9.0, lists_newest_version=newest_only), models=2)
    assert world.run(meanwhile=rival_push(world, TaskPushed, state))
    assert world.of(VersionSuperseded) == [VersionSuperseded("t1", 1, 2)]
    assert world.times(VersionSuperseded)[0] - world.times(TaskPushed)[0] < 1.5
    assert world.times(TaskReady)[0] >= 9.0
    check_own_version(world, 2)


def test_a_push_while_runs_are_listed_by_their_version(tmp_path: Path) -> None:
    """If lists have only the runs of the newest version, ours vanish from them, and are found by their version."""
    world = World(tmp_path, Scenario(runs=RunScript(running=400.0), lists_newest_version=True), models=2)
    assert world.run(meanwhile=rival_push(world, RunFound))
    assert len(world.of(VersionSuperseded)) == 1
    assert world.times(VersionSuperseded)[0] - world.times(RunFound)[0] < 61.0
    assert world.of(RunUnlisted) == []
    assert world.seconds < 470.0
    check_own_version(world, 2)


def test_a_push_between_two_rounds(tmp_path: Path) -> None:
    """Before more runs are scheduled, the newest version is looked at, and ours is named in the call."""
    world = World(tmp_path, Scenario(runs=RunScript(running=100.0)), models=2, repeats=2)
    assert world.run(meanwhile=rival_push(world, RunFound))
    assert len(world.of(VersionSuperseded)) == 1
    check_own_version(world, 4)


def test_a_server_that_runs_only_the_newest_version(tmp_path: Path) -> None:
    """If the server runs another version than the one that was named, the runs are missing and not doubled."""
    world = World(tmp_path, Scenario(creation=9.0, schedules_newest_version=True), models=2)
    assert world.run(meanwhile=rival_push(world, TaskPushed, CreationState.COMPLETED))
    assert world.counts == (0, 0, 2, 0)
    assert world.scheduled() == [("m1", "m2")]
    assert {one.error for one in world.missing()} == {
        "Version 2 was pushed meanwhile, and the server may have run that one instead."
    }


@pytest.mark.parametrize("newest_only", [False, True])
def test_two_sweeps_that_push_at_once(tmp_path: Path, newest_only: bool) -> None:
    """Of two sweeps at the same time, the one that pushed first says so, and both get each run once."""
    world = World(tmp_path, Scenario(creation=5.0, lists_newest_version=newest_only), models=3, repeats=2)
    said: dict[str, list[SweepEvent]] = {"here": [], "there": []}
    records = {name: MemoryRecords() for name in said}

    async def sweep(name: str) -> None:
        world.texts["t1"], world.folder = f"pushed {name}", tmp_path / name
        world.pages["t1"] = Metadata(description=f"pushed {name}", tags=("reasoning",))
        context = SweepContext(
            world.kaggle,
            world.plan(),
            records[name],
            said[name].append,
            offload=inline,
            clock=world.kaggle.wall,
        )
        await Engine(context).run()

    async def both() -> None:
        world.kaggle.begin()
        async with anyio.create_task_group() as group:
            for name in said:
                group.start_soon(sweep, name)

    run_in_virtual_time(both, backend="trio")
    superseded = [
        event for events in said.values() for event in events if isinstance(event, VersionSuperseded)
    ]
    assert superseded == [VersionSuperseded("t1", 1, 2)]
    for name, events in said.items():
        assert isinstance(events[-1], SweepEnded)
        assert events[-1].completed == 6, name
        attempts = records[name].attempts()
        assert len({one.run_id for one in attempts if one.output}) == 6
        assert {one.version for one in attempts} in ({1}, {2})
    assert len(world.kaggle.runs) == 12
    # Each has written on the page of its own version.
    versions = world.kaggle.tasks["t1"].versions
    assert [each.metadata.description for each in versions] == [each.text for each in versions]


def test_an_ordinary_sweep_asks_no_more_than_before(tmp_path: Path) -> None:
    """Where nobody else pushes, the version is looked at once before each later round, and nothing is said."""
    world = World(tmp_path, Scenario(runs=RunScript(running=100.0)), repeats=3)
    assert world.run()
    assert world.calls["get_task"] <= 2 + 2
    assert world.of(VersionSuperseded) == []
    world.check_all_done()
