"""`--max-cost` and runs whose cost is late, unknown or counted before, in virtual time."""

from __future__ import annotations

import math
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from fanbench.sweeps.events import (
    DrainReason,
    RunScheduled,
)
from fanbench.sweeps.spec import Rules
from fanbench.testing import Fault, RunScript, Scenario
from tests.sweeps.world import World

pytestmark = pytest.mark.usefixtures("no_jitter", "quick_disk")


def test_a_run_whose_output_never_comes_has_an_unknown_cost(tmp_path: Path) -> None:
    """If the quota is unknown as well, a run of unknown cost stops the scheduling."""
    scenario = Scenario(has_quotas=False, runs=RunScript(cost=1.0, output_delay=math.inf))
    world = World(tmp_path, scenario, models=5, rules=Rules(max_cost=1.5))
    assert world.run()
    assert world.counts == (0, 0, 1, 4)
    assert world.ended.stopped == DrainReason.BUDGET


def test_an_unknown_cost_may_become_known_later(tmp_path: Path) -> None:
    """The next process fetches the output, and continues with the cost of the run."""
    scenario = Scenario(has_quotas=False, runs=RunScript(cost=1.0, output_delay=math.inf))
    world = World(tmp_path, scenario, models=5, rules=Rules(max_cost=3.5))
    assert world.run()
    world.serve(runs=RunScript(cost=1.0))
    for run in world.kaggle.our_runs():
        run.script = RunScript(cost=1.0)
    assert world.run()
    assert world.counts == (3, 0, 0, 2)


@pytest.mark.parametrize("kills", [0, 1, 2])
def test_a_run_that_is_fetched_again_costs_nothing(tmp_path: Path, kills: int) -> None:
    """A run is counted once, even if its output is lost and the process that fetches it again is killed."""
    world = World(
        tmp_path, Scenario(has_quotas=False, runs=RunScript(cost=1.0)), repeats=2, rules=Rules(max_cost=3.5)
    )
    assert world.run()
    shutil.rmtree(tmp_path / "t1")
    for _ in range(kills):
        assert not world.run(kill_in=("download_output", False))
    world.repeats = 5
    assert world.run()
    assert world.counts == (3, 0, 0, 2)


def test_a_run_that_is_counted_already_reserves_nothing(tmp_path: Path) -> None:
    """While the output of a counted run is fetched again, other runs may use all the money left."""
    world = World(
        tmp_path, Scenario(has_quotas=False, runs=RunScript(cost=1.0)), repeats=2, rules=Rules(max_cost=3.5)
    )
    assert world.run()
    shutil.rmtree(tmp_path / "t1")
    for run in world.kaggle.our_runs():
        run.script = replace(run.script, output_delay=50.0)
    world.repeats = 3
    assert world.run()
    assert world.counts == (3, 0, 0, 0)
    assert world.times(RunScheduled)[0] < 5 < 40 < world.seconds


@pytest.mark.parametrize("creation", [4.0, 4.03, 4.3, 6.4, 6.7, 7.0])
def test_a_run_that_ends_during_a_quota_call(tmp_path: Path, creation: float) -> None:
    """Money reserved for a run that ends during the quota call is free again when the call returns."""

    def course(task: str, model: str, nth: int) -> RunScript:
        return RunScript(cost=1.0 if task == "t1" else 0.1, log=((0.0, "a\n"),))

    scenario = Scenario(latency=0.4, creation=lambda slug: 1.0 if slug == "t1" else creation, runs=course)
    world = World(tmp_path, scenario, tasks=2, models=3, rules=Rules(max_cost=3.5))
    assert world.run()
    world.check_all_done()
    assert world.counts == (6, 0, 0, 0)


@pytest.mark.parametrize("first", range(1, 8))
def test_a_quota_call_that_fails_once(tmp_path: Path, first: int) -> None:
    """Once nothing is in flight, the quota is asked again before the budget ends the sweep."""
    faults = (Fault("proxy_quotas", 500, first=first),)
    world = World(
        tmp_path, Scenario(faults=faults, runs=RunScript(cost=None)), repeats=5, rules=Rules(max_cost=3.5)
    )
    assert world.run()
    assert world.counts == (5, 0, 0, 0)
