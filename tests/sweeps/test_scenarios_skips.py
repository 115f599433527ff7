"""Models that the server skips, because another run is in the way, in virtual time."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path

import pytest

from fanbench.sweeps.events import (
    OutputSaved,
    RunSkipped,
)
from fanbench.sweeps.spec import Rules
from fanbench.testing import RunScript, Scenario
from tests.sweeps.world import World, drain_when

pytestmark = pytest.mark.usefixtures("no_jitter", "quick_disk")


def blocked(folder: Path, course: RunScript, rules: Rules | None = None) -> World:
    """Return a world in which somebody else's run of an earlier version blocks the model."""
    world = World(folder, Scenario(one_run_of_any_version=True), rules=rules)
    world.kaggle.add_task("t1", "somebody's")
    world.kaggle.add_run("t1", "m1", course)
    return world


@pytest.mark.parametrize("poll_interval", [1.0, 300.0])
def test_skips_have_their_own_pauses(tmp_path: Path, poll_interval: float) -> None:
    """The pauses after a skip do not depend on the poll interval."""
    world = World(tmp_path, Scenario(list_lag=math.inf, creation=0), rules=Rules(poll_interval=poll_interval))
    world.kaggle.add_task("t1")
    del world.texts["t1"]
    world.kaggle.add_run("t1", "m1", RunScript(running=math.inf))
    assert world.run()
    assert [event.stage for event in world.missing()] == ["schedule"]
    times = world.kaggle.times("schedule_runs")
    assert [round(later - sooner) for sooner, later in pairwise(times)] == [5, 10, 20, 40, 60]


def test_the_end_of_a_blocking_run_is_seen_in_lists(tmp_path: Path) -> None:
    """Only lists are called until a blocking run has ended; then the schedule call is repeated once."""
    world = blocked(tmp_path, RunScript(running=1000.0))
    assert world.run()
    assert world.counts == (1, 0, 0, 0)
    assert world.calls["schedule_runs"] == 2
    assert world.calls["list_runs"] < 40
    assert 1000 < world.seconds < 1000 + 60 + 10
    world.check_all_done()


def test_a_blocking_run_is_waited_for_until_the_timeout(tmp_path: Path) -> None:
    """After `--timeout`, the planned run is missing, with the reason."""
    world = blocked(tmp_path, RunScript(running=math.inf), Rules(timeout=100.0))
    assert world.run(stop_after=1000.0)
    assert world.counts == (0, 0, 1, 0)
    assert [event.stage for event in world.missing()] == ["timeout"]
    assert "in flight already" in world.missing()[0].error
    assert 100 < world.seconds < 110


def test_a_drain_while_a_run_is_blocked(tmp_path: Path) -> None:
    """A drain ends the wait for a blocking run."""
    world = blocked(tmp_path, RunScript(running=math.inf))
    assert world.run(meanwhile=drain_when(lambda event: isinstance(event, RunSkipped)), stop_after=1000.0)
    assert world.counts == (0, 0, 0, 1)
    assert world.seconds < 10


def test_models_that_are_not_blocked_continue(tmp_path: Path) -> None:
    """The end of runs on other models is seen as soon as without a blocking run."""
    world = blocked(tmp_path, RunScript(running=300.0))
    world.models = ("m1", "m2", "m3")
    assert world.run()
    world.check_all_done()
    assert world.times(OutputSaved)[1] < 15
    assert world.calls["schedule_runs"] == 2
