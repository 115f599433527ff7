"""Options about runs that fail, take long, or cost money, in virtual time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from fanbench.sweeps.attempts import Phase
from fanbench.sweeps.engine import Engine
from fanbench.sweeps.events import (
    BudgetRead,
    Draining,
    DrainReason,
    RetryPlanned,
    RunFound,
    RunScheduled,
    SweepEvent,
    TaskPushed,
)
from fanbench.sweeps.spec import MaxFailures, Rules
from fanbench.testing import RunScript, Scenario
from fanbench.wire.messages import RunState
from tests.sweeps.world import World

pytestmark = pytest.mark.usefixtures("no_jitter", "quick_disk")

ERRORED = RunScript.errored()


def failing(*models: str, times: float = 1e9) -> Callable[[str, str, int], RunScript]:
    """Runs of `models` fail that many times; all others succeed."""
    return lambda task, model, nth: ERRORED if model in models and nth <= times else RunScript()


# --- Runs that errored --------------------------------------------------------------------------------------


def test_a_run_that_errored_is_data(tmp_path: Path) -> None:
    """An errored run keeps its log and output, does not affect other runs, and is not scheduled again."""
    world = World(tmp_path, Scenario(runs=failing("m1")), tasks=2, models=2)
    assert world.run()
    world.check()
    assert world.counts == (2, 2, 0, 0)
    assert not world.missing()
    for run in world.kaggle.our_runs("t1", "m1"):
        world.check_output(run)
        world.check_log(run)
    assert {one.error for one in world.attempts() if one.errored} == {"ValueError: no"}
    assert world.run()
    assert world.calls.total() == 0
    assert world.counts == (2, 2, 0, 0)


def test_errored_runs_are_tried_again(tmp_path: Path) -> None:
    """Each failure leads to another attempt, up to the limit; all attempts are kept and numbered."""

    def course(task: str, model: str, nth: int) -> RunScript:
        return ERRORED if nth <= {"m1": 0, "m2": 1, "m3": 9}[model] else RunScript()

    world = World(tmp_path, Scenario(runs=course), models=3, rules=Rules(retry_errored=2))
    assert world.run()
    world.check_all_done()
    assert world.counts == (2, 1, 0, 0)
    attempts = {model: [one.number for one in world.records.of("t1", model)] for model in world.models}
    assert attempts == {"m1": [1], "m2": [1, 2], "m3": [1, 2, 3]}
    assert sorted(event.planned_run.model for event in world.of(RetryPlanned)) == ["m2", "m3", "m3"]
    assert world.run()
    assert world.calls.total() == 0


def test_errored_repeats_are_tried_again(tmp_path: Path) -> None:
    """Retries of one repeat do not interfere with the other repeats."""
    scenario = Scenario(runs=failing("m1", times=2))
    world = World(tmp_path, scenario, models=2, repeats=2, rules=Rules(retry_errored=2))
    assert world.run()
    world.check_all_done()
    assert world.counts == (4, 0, 0, 0)
    assert len(world.kaggle.our_runs("t1", "m1")) == 4


def test_more_tries_are_allowed_later(tmp_path: Path) -> None:
    """Repeating the sweep with a higher `--retry-errored` retries the runs that errored."""
    world = World(tmp_path, Scenario(runs=failing("m1", times=1)), models=2)
    assert world.run()
    assert world.counts == (1, 1, 0, 0)
    world.rules = Rules(retry_errored=1)
    assert world.run()
    assert world.counts == (2, 0, 0, 0)
    assert world.calls["schedule_runs"] == 1
    world.check_all_done()


# --- Too many of them ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("most", "percent"), [(2, False), (20, True)])
def test_too_many_failures_stop_scheduling(tmp_path: Path, most: float, percent: bool) -> None:
    """After too many failures nothing is scheduled, and runs in flight are followed to their end."""
    rules = Rules(max_failures=MaxFailures(most, percent))
    scenario = Scenario(runs=failing("m1", "m2"), creation=lambda slug: 2.0 if slug == "t1" else 60.0)
    world = World(tmp_path, scenario, tasks=2, models=5, rules=rules)
    assert world.run()
    world.check()
    assert world.counts == (3, 2, 0, 5)
    assert world.ended.stopped == DrainReason.FAILURES
    assert [event.reason for event in world.of(Draining)] == [DrainReason.FAILURES]
    assert not world.kaggle.our_runs("t2")


def test_failures_that_are_few(tmp_path: Path) -> None:
    """One failure fewer than the limit stops nothing, and attempts that will be retried are not counted."""
    rules = Rules(max_failures=MaxFailures(2), retry_errored=1)
    course = failing("m1", "m2", times=1)
    world = World(tmp_path, Scenario(runs=course), tasks=2, models=3, rules=rules)
    assert world.run()
    assert world.counts == (6, 0, 0, 0)
    assert world.ended.stopped is None


# --- Time ---------------------------------------------------------------------------------------------------


def test_a_run_that_takes_too_long(tmp_path: Path) -> None:
    """A run that exceeds the time limit is missing and no longer waited for; the next sweep continues with it."""

    def course(task: str, model: str, nth: int) -> RunScript:
        return RunScript(running=500.0 if model == "m1" else 5.0)

    world = World(tmp_path, Scenario(runs=course), models=3, rules=Rules(timeout=30.0))
    assert world.run()
    assert world.counts == (2, 0, 1, 0)
    assert [(event.planned_run.model, event.stage) for event in world.missing()] == [("m1", "timeout")]
    assert 32 <= world.seconds <= 36
    (found,) = world.attempts(Phase.FOUND)
    assert found.run_id == 1001
    world.check()
    world.rules = Rules()
    assert world.run(pause=300.0)
    assert world.calls["schedule_runs"] == 0
    world.check_all_done()


def test_a_time_limit_for_repeats(tmp_path: Path) -> None:
    """Each run has its own time limit: a second repeat is not late because the first came before it."""
    world = World(
        tmp_path, Scenario(runs=RunScript(running=20.0), creation=0), repeats=3, rules=Rules(timeout=25.0)
    )
    assert world.run()
    world.check_all_done()
    assert world.counts == (3, 0, 0, 0)


def test_a_deadline(tmp_path: Path) -> None:
    """At the deadline everything stops at once, and the next sweep resumes."""
    scenario = Scenario(runs=RunScript(running=20.0), creation=0)
    world = World(tmp_path, scenario, models=2, repeats=3, rules=Rules(deadline=30.0))
    assert world.run()
    world.check()
    assert world.seconds == 30
    assert world.ended.stopped == DrainReason.DEADLINE
    assert (world.counts, world.ended.running) == ((2, 0, 0, 2), 2)
    world.rules = Rules()
    assert world.run()
    world.check_all_done()


# --- A polite end -------------------------------------------------------------------------------------------


def drain_at(kind: type[SweepEvent], number: int = 1) -> Callable[[SweepEvent, Engine], None]:
    """Drains at the event of this kind with this number."""
    seen: list[SweepEvent] = []

    def meanwhile(event: SweepEvent, engine: Engine) -> None:
        if isinstance(event, kind):
            seen.append(event)
            if len(seen) == number:
                engine.drain(DrainReason.INTERRUPTED, "Ctrl-C")
                engine.drain(DrainReason.FAILURES)

    return meanwhile


def test_a_drain_follows_what_is_in_flight(tmp_path: Path) -> None:
    """After Ctrl-C nothing is scheduled, runs in flight are completed, and the next sweep resumes."""
    world = World(tmp_path, Scenario(runs=RunScript(running=20.0)), models=2, repeats=2)
    assert world.run(meanwhile=drain_at(RunFound, 2))
    world.check()
    assert world.counts == (2, 0, 0, 2)
    assert world.ended.stopped == DrainReason.INTERRUPTED
    assert [(event.reason, event.detail) for event in world.of(Draining)] == [
        (DrainReason.INTERRUPTED, "Ctrl-C")
    ]
    assert world.run()
    world.check_all_done()


def test_a_drain_while_tasks_are_created(tmp_path: Path) -> None:
    """A drain does not wait for the creation of tasks that have no runs yet."""
    world = World(tmp_path, Scenario(creation=300.0), tasks=2)
    assert world.run(meanwhile=drain_at(TaskPushed, 2))
    assert world.counts == (0, 0, 0, 2)
    assert world.seconds < 10
    assert world.run()
    assert world.calls["create_task"] == 0
    world.check_all_done()


def test_a_drain_while_the_schedule_call_is_on_its_way(tmp_path: Path) -> None:
    """Runs that a pending schedule call starts are in flight, so a drain follows them."""
    world = World(tmp_path, Scenario(latency=2.0), models=2)
    assert world.run(meanwhile=drain_at(RunScheduled))
    assert world.counts == (2, 0, 0, 0)
    world.check_all_done()


# --- Money --------------------------------------------------------------------------------------------------


def test_a_budget_that_is_spent(tmp_path: Path) -> None:
    """No more is scheduled than the budget allows, runs in flight are kept, and the sweep reports why it stopped."""
    scenario = Scenario(runs=RunScript(cost=1.0, running=10.0), creation=0)
    world = World(tmp_path, scenario, repeats=10, rules=Rules(max_cost=3.5))
    assert world.run()
    world.check()
    assert world.ended.stopped == DrainReason.BUDGET
    assert world.counts == (3, 0, 0, 7)
    assert sum(run.script.cost or 0.0 for run in world.kaggle.our_runs()) <= 3.5
    assert world.of(BudgetRead)
    assert world.run()
    assert world.calls["schedule_runs"] == 0
    assert world.ended.stopped == DrainReason.BUDGET
    world.rules = Rules(max_cost=100.0)
    assert world.run()
    world.check_all_done()


def test_a_budget_that_is_enough(tmp_path: Path) -> None:
    """A budget above the total cost changes nothing."""
    world = World(tmp_path, Scenario(), tasks=2, models=4, rules=Rules(max_cost=10.0))
    assert world.run()
    world.check_all_done()
    assert world.counts == (8, 0, 0, 0)
    assert {one.state for one in world.attempts()} == {RunState.COMPLETED}


@pytest.mark.parametrize("cost", [None, 0.5])
def test_a_scout_tells_what_a_run_costs(tmp_path: Path, cost: float | None) -> None:
    """One run of a task goes first; the others follow once its cost is known or known to be unknown."""
    scenario = Scenario(runs=RunScript(cost=cost, running=10.0), creation=0)
    world = World(tmp_path, scenario, models=4, rules=Rules(max_cost=10.0))
    assert world.run()
    world.check_all_done()
    assert [len(models) for models in world.scheduled()] == [1, 3]
    (scout, *others) = sorted(world.kaggle.our_runs(), key=lambda run: run.id)
    assert all(other.scheduled >= scout.ends for other in others)


def test_a_budget_without_a_quota(tmp_path: Path) -> None:
    """If the server does not report the spending, the costs in run files are used."""
    scenario = Scenario(has_quotas=False, creation=0, runs=RunScript(cost=1.0))
    world = World(tmp_path, scenario, repeats=6, rules=Rules(max_cost=3.5))
    assert world.run()
    assert world.counts == (3, 0, 0, 3)
    assert world.ended.stopped == DrainReason.BUDGET


@pytest.mark.parametrize("point", range(5, 120, 6))
def test_a_budget_over_several_processes(tmp_path: Path, point: int) -> None:
    """The budget applies to the whole sweep, however often it is killed."""
    scenario = Scenario(runs=RunScript(cost=1.0, running=10.0), creation=0)
    world = World(tmp_path, scenario, models=2, repeats=5, rules=Rules(max_cost=4.5))
    world.run(kill_after=point)
    world.run(kill_after=point, pause=3.0)
    assert world.run()
    world.check()
    assert world.counts == (4, 0, 0, 6)
    assert len(world.kaggle.our_runs()) == 4


# --- Stopped ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", [0.0, 0.05, 1.0, 2.2, 2.4, 3.0, 4.3, 4.45, 5.0, 6.0, 20.0])
def test_stopped_at_once(tmp_path: Path, at: float) -> None:
    """A second Ctrl-C leaves no partial file and loses nothing, and the next sweep resumes."""
    world = World(tmp_path, Scenario(runs=RunScript(running=2.0)), tasks=2, models=2, repeats=2)
    finished = world.run(stop_after=at)
    assert finished == (at == 20.0)
    world.check()
    assert world.run()
    world.check_all_done()
