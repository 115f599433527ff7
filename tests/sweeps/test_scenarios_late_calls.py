"""Calls that reach the server after the process that made them was killed, in virtual time."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from fanbench.sweeps.events import (
    TaskPushed,
)
from fanbench.testing import Fault, RunScript, Scenario
from tests.sweeps.world import World

pytestmark = pytest.mark.usefixtures("no_jitter", "quick_disk")


@pytest.mark.parametrize("versions", [0, 1])
@pytest.mark.parametrize("pause", [0.0, 3.0, 8.0])
def test_a_push_that_arrives_after_the_kill(tmp_path: Path, pause: float, versions: int) -> None:
    """The next process waits until a push that was on the wire at the kill must have arrived."""
    world = World(tmp_path, Scenario(late_arrival=9.0))
    for _ in range(versions):
        world.kaggle.add_task("t1", "somebody's")
    assert not world.run(kill_in=("create_task", False))
    assert len(world.kaggle.tasks) == versions
    assert world.run(pause=pause)
    world.check_all_done()
    assert world.calls["create_task"] == 0
    assert len(world.kaggle.tasks["t1"].versions) == versions + 1


def test_a_push_that_never_arrived_is_not_waited_for_twice(tmp_path: Path) -> None:
    """The wait counts from the time of the push, not from the start of the next process."""
    world = World(tmp_path)
    assert not world.run(kill_in=("create_task", False))
    assert world.run(pause=60.0)
    assert world.times(TaskPushed)[0] < 1.0
    world.check_all_done()


def test_the_wait_for_a_push_counts_from_its_last_attempt(tmp_path: Path) -> None:
    """A push that was refused for a minute, and was on the wire at the kill, is waited for in full."""
    faults = (Fault("create_task", 503, times=math.inf, until=60.0),)
    world = World(tmp_path, Scenario(faults=faults, late_arrival=6.0, latency=1.0))
    (refused,) = (when for when in _push_times(world) if when > 60.0)
    world = World(tmp_path, Scenario(faults=faults, late_arrival=6.0, latency=1.0))
    assert not world.run(stop_after=refused + 0.3)
    assert world.run()
    world.check_all_done()
    assert world.calls["create_task"] == 0


def _push_times(world: World) -> list[float]:
    """Return the times at which pushes are attempted, undisturbed."""
    assert world.run(until="push")
    return world.kaggle.times("create_task")


@pytest.mark.parametrize("arrives_after", [0.2, 5.0])
def test_runs_that_are_scheduled_after_the_kill(tmp_path: Path, arrives_after: float) -> None:
    """Runs of a schedule call that arrives after the kill are not scheduled twice."""
    scenario = Scenario(one_run_per_model=False, late_arrival=arrives_after, runs=RunScript(running=40.0))
    world = World(tmp_path, scenario, models=3)
    assert not world.run(kill_in=("schedule_runs", False))
    assert not world.kaggle.runs
    assert world.run()
    assert world.calls["schedule_runs"] == 0
    world.check_all_done()
