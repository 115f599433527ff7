"""Schedule calls that fail, are late, or overlap with others, in virtual time."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import anyio
import pytest

from fanbench.sweeps.attempts import Phase
from fanbench.sweeps.engine import Engine
from fanbench.sweeps.events import BudgetRead, DrainReason, RunMissing, SweepEvent
from fanbench.sweeps.spec import Rules
from fanbench.testing import Fault, RunScript, Scenario
from fanbench.wire.messages import RunState, ScheduleResult
from tests.sweeps.life import MortalKaggle
from tests.sweeps.world import World

pytestmark = pytest.mark.usefixtures("no_jitter", "quick_disk")


def test_schedule_calls_that_fail_come_in_pauses(tmp_path: Path) -> None:
    """Failed schedule calls are repeated with pauses while a server is down for a minute."""
    faults = (Fault("schedule_runs", 503, times=math.inf, until=60.0),)
    world = World(tmp_path, Scenario(faults=faults), models=3)
    assert world.run()
    world.check_all_done()
    assert world.calls["schedule_runs"] <= 8


def test_a_server_that_never_schedules(tmp_path: Path) -> None:
    """If scheduling fails for five minutes, the runs are missing with the server's reason."""
    faults = (Fault("schedule_runs", 503, message="It broke.", times=math.inf),)
    world = World(tmp_path, Scenario(faults=faults), models=2)
    assert world.run(stop_after=2000.0)
    assert world.counts == (0, 0, 2, 0)
    assert {event.stage for event in world.missing()} == {"schedule"}
    assert all(event.error.startswith("It broke.") for event in world.missing())
    assert 300 < world.seconds < 400


def test_each_outage_has_its_own_patience(tmp_path: Path) -> None:
    """An outage that has ended does not shorten the retries of the next one."""
    faults = tuple(
        Fault("schedule_runs", 503, times=math.inf, since=since, until=since + 200.0)
        for since in (0.0, 400.0)
    )
    world = World(tmp_path, Scenario(faults=faults, runs=RunScript(running=240.0)), repeats=2)
    assert world.run()
    world.check_all_done()


def test_models_go_together_again(tmp_path: Path) -> None:
    """Models that are scheduled one by one, to find a refused one, are scheduled together the next time."""
    world = World(
        tmp_path, Scenario(unknown_models=frozenset({"m3"}), one_run_per_model=False), models=3, repeats=2
    )
    assert world.run()
    assert world.counts == (4, 0, 2, 0)
    assert world.scheduled() == [("m1", "m2", "m3"), ("m1",), ("m2",), ("m3",), ("m1", "m2")]


def test_money_for_runs_that_were_not_scheduled_is_free_again(tmp_path: Path) -> None:
    """The budget reserved for a failed schedule call is released while other runs wait for it."""
    scenario = Scenario(faults=(Fault("schedule_runs", 503),), runs=RunScript(cost=0.1))
    world = World(tmp_path, scenario, tasks=2, models=3, rules=Rules(max_cost=5.0))
    assert world.run(stop_after=5000.0)
    world.check_all_done()


def test_nothing_is_scheduled_while_nobody_knows_of_the_one_before(tmp_path: Path) -> None:
    """A repeat is not scheduled until the run of the previous attempt is known, as the two could be confused."""
    world = World(tmp_path, Scenario(one_run_per_model=False, faults=(Fault("schedule_runs"),)), repeats=2)
    assert world.run()
    world.check_all_done()
    assert world.seconds < 90


def test_a_drain_while_the_quota_is_asked(tmp_path: Path) -> None:
    """A drain while the quota is read prevents the runs that were about to be scheduled."""
    world = World(tmp_path, Scenario(runs=RunScript(cost=0.1)), models=3, rules=Rules(max_cost=5.0))

    def drain(event: SweepEvent, engine: Engine) -> None:
        if isinstance(event, BudgetRead) and world.kaggle.runs:
            engine.drain(DrainReason.INTERRUPTED)

    assert world.run(meanwhile=drain)
    assert world.calls["schedule_runs"] == 1
    assert world.counts == (1, 0, 0, 2)


class Slow(MortalKaggle):
    """The responses to schedule calls take long to arrive."""

    async def schedule_runs(self, *arguments: Any, **settings: Any) -> list[ScheduleResult]:
        results = await super().schedule_runs(*arguments, **settings)
        await anyio.sleep(20.0)
        return results


def test_a_run_that_ends_before_its_schedule_call(tmp_path: Path) -> None:
    """The state that a list showed is kept when the response to the schedule call arrives."""

    def course(task: str, model: str, nth: int) -> RunScript:
        if model == "m2":  # at whose end a list is made
            return RunScript(running=28.0)
        return RunScript(end=RunState.ERRORED if nth == 1 else RunState.COMPLETED)

    world = World(tmp_path, Scenario(runs=course), models=2, rules=Rules(retry_errored=1))
    world.kaggle = Slow(world.kaggle.scenario)
    assert world.run()
    world.check_all_done()
    assert {one.phase for one in world.attempts()} == {Phase.ENDED}


# --- Models that the server does not list -------------------------------------------------------------------


@pytest.mark.parametrize("unlisted", [{}, {"m1": (), "m2": ()}], ids=["listed", "unlisted"])
def test_runs_are_found_under_other_names_of_their_models(
    tmp_path: Path, unlisted: dict[str, tuple[str, ...]]
) -> None:
    """The server may call the model `m1` of a run `owner/m1@default`: it is the planned run all the same."""
    scenario = Scenario(spell_model=lambda model: f"owner/{model}@default")
    world = World(tmp_path, scenario, tasks=2, models=2, repeats=2)
    world.unlisted = unlisted
    assert world.run()
    world.check_all_done()
    assert len(world.kaggle.runs) == 8


def test_an_unlisted_model_that_is_refused_is_missing_with_a_suggestion(tmp_path: Path) -> None:
    """The scheduler's refusal concerns only that model, and its reason names models that are close to it."""
    world = World(tmp_path, Scenario(unknown_models=frozenset({"m2"})), models=2)
    world.unlisted = {"m2": ("m1", "m3")}
    assert world.run()
    (missing,) = world.of(RunMissing)
    assert missing.planned_run.model == "m2"
    assert missing.error.endswith("(did you mean m1 or m3?)")
    assert [run.model for run in world.kaggle.our_runs()] == ["m1"]
