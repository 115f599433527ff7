"""Instants at which a sweep once did the wrong thing, or could have without a test that fails. In virtual time."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from fanbench.sweeps.attempts import Phase, TaskPhase, TaskRecord
from fanbench.sweeps.engine import Engine
from fanbench.sweeps.events import (
    DrainReason,
    OutputSaved,
    RetryPlanned,
    RunScheduled,
    RunSkipped,
    SweepEvent,
    TaskPushed,
)
from fanbench.sweeps.journal import Journal
from fanbench.sweeps.spec import Rules
from fanbench.sweeps.state import SweepState
from fanbench.testing import Fault, RunScript, Scenario
from fanbench.wire.messages import RunState
from tests.sweeps.world import World

pytestmark = pytest.mark.usefixtures("no_jitter", "quick_disk")


def drain_when(moment: Callable[[SweepEvent], bool]) -> Callable[[SweepEvent, Engine], None]:
    def meanwhile(event: SweepEvent, engine: Engine) -> None:
        if moment(event):
            engine.drain(DrainReason.INTERRUPTED)

    return meanwhile


# --- Money --------------------------------------------------------------------------------------------------


def test_a_run_whose_output_never_comes_has_an_unknown_cost(tmp_path: Path) -> None:
    """It is not forgotten: where nothing else tells what is spent, nothing more is scheduled."""
    scenario = Scenario(has_quotas=False, runs=RunScript(cost=1.0, output_delay=math.inf))
    world = World(tmp_path, scenario, models=5, rules=Rules(max_cost=1.5))
    assert world.run()
    assert world.counts == (0, 0, 1, 4)
    assert world.ended.stopped == DrainReason.BUDGET


def test_a_cost_that_was_unknown_is_told_later(tmp_path: Path) -> None:
    """The next process fetches the output, and goes on with what the run has cost."""
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
    """However often its output was lost, and the process killed that fetches it again."""
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
    """While its output is fetched again, others may be scheduled for what is left."""
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
def test_a_run_that_ends_while_the_quota_is_asked(tmp_path: Path, creation: float) -> None:
    """What it reserved is free by then: no budget is said to be spent that is not."""

    def course(task: str, model: str, nth: int) -> RunScript:
        return RunScript(cost=1.0 if task == "t1" else 0.1, log=((0.0, "a\n"),))

    scenario = Scenario(latency=0.4, creation=lambda slug: 1.0 if slug == "t1" else creation, runs=course)
    world = World(tmp_path, scenario, tasks=2, models=3, rules=Rules(max_cost=3.5))
    assert world.run()
    world.check_all_done()
    assert world.counts == (6, 0, 0, 0)


@pytest.mark.parametrize("first", range(1, 8))
def test_a_quota_call_that_fails_once(tmp_path: Path, first: int) -> None:
    """With nothing in flight any more it is asked once again before all ends for it."""
    faults = (Fault("proxy_quotas", 500, first=first),)
    world = World(
        tmp_path, Scenario(faults=faults, runs=RunScript(cost=None)), repeats=5, rules=Rules(max_cost=3.5)
    )
    assert world.run()
    assert world.counts == (5, 0, 0, 0)


# --- A push on its way --------------------------------------------------------------------------------------


@pytest.mark.parametrize("versions", [0, 1])
@pytest.mark.parametrize("pause", [0.0, 3.0, 8.0])
def test_a_push_that_arrives_after_the_kill(tmp_path: Path, pause: float, versions: int) -> None:
    """The call is still on the wire when its process is gone: the next one waits until it must be there."""
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
    """The grace is over since the push was tried, not since the next process began."""
    world = World(tmp_path)
    assert not world.run(kill_in=("create_task", False))
    assert world.run(pause=60.0)
    assert world.times(TaskPushed)[0] < 1.0
    world.check_all_done()


def test_the_grace_of_a_push_counts_from_its_last_try(tmp_path: Path) -> None:
    """A push that was refused for a minute, and then was on its way at the kill, has all of it."""
    faults = (Fault("create_task", 503, times=math.inf, until=60.0),)
    world = World(tmp_path, Scenario(faults=faults, late_arrival=6.0, latency=1.0))
    (refused,) = (when for when in _tries(world) if when > 60.0)
    world = World(tmp_path, Scenario(faults=faults, late_arrival=6.0, latency=1.0))
    assert not world.run(stop_after=refused + 0.3)
    assert world.run()
    world.check_all_done()
    assert world.calls["create_task"] == 0


def _tries(world: World) -> list[float]:
    """When pushes are tried, if nobody stops it."""
    assert world.run(until="push")
    return [when for when, _ in world.kaggle.calls_to("create_task")]


def test_the_journal_keeps_when_a_task_was_pushed(tmp_path: Path) -> None:
    """To the microsecond."""
    record = TaskRecord("t", "i", TaskPhase.PUSHING, 3, pushed_at=1_800_000_000.123456)
    with Journal.open(tmp_path) as journal:
        journal.save_task(record)
    with Journal.open(tmp_path) as journal:
        assert journal.tasks() == {"t": record}


@pytest.mark.parametrize("arrives_after", [0.2, 5.0])
def test_runs_that_are_scheduled_after_the_kill(tmp_path: Path, arrives_after: float) -> None:
    """As with a push: nothing is scheduled twice."""
    scenario = Scenario(one_run_per_model=False, late_arrival=arrives_after, runs=RunScript(running=40.0))
    world = World(tmp_path, scenario, models=3)
    assert not world.run(kill_in=("schedule_runs", False))
    assert not world.kaggle.runs
    assert world.run()
    assert world.calls["schedule_runs"] == 0
    world.check_all_done()


# --- Skips --------------------------------------------------------------------------------------------------


def blocked(folder: Path, course: RunScript, rules: Rules | None = None) -> World:
    """A model on which somebody's run of an earlier version goes on, that the server minds."""
    world = World(folder, Scenario(one_run_of_any_version=True), rules=rules)
    world.kaggle.add_task("t1", "somebody's")
    world.kaggle.add_run("t1", "m1", course)
    return world


@pytest.mark.parametrize("poll_interval", [1.0, 300.0])
def test_skips_have_their_own_pauses(tmp_path: Path, poll_interval: float) -> None:
    """Polls that are close together do not make the patience with a skip shorter."""
    world = World(tmp_path, Scenario(list_lag=math.inf, creation=0), rules=Rules(poll_interval=poll_interval))
    world.kaggle.add_task("t1")
    del world.texts["t1"]
    world.kaggle.add_run("t1", "m1", RunScript(running=math.inf))
    assert world.run()
    assert [event.stage for event in world.missing()] == ["schedule"]
    times = [when for when, _ in world.kaggle.calls_to("schedule_runs")]
    assert [round(later - sooner) for sooner, later in pairwise(times)] == [5, 10, 20, 40, 60]


def test_a_run_in_the_way_is_waited_for_with_lists(tmp_path: Path) -> None:
    """Its end shows there; the schedule call is made once before and once after it."""
    world = blocked(tmp_path, RunScript(running=1000.0))
    assert world.run()
    assert world.counts == (1, 0, 0, 0)
    assert world.calls["schedule_runs"] == 2
    assert world.calls["list_runs"] < 40
    assert 1000 < world.seconds < 1000 + 60 + 10
    world.check_all_done()


def test_a_run_in_the_way_is_waited_for_until_the_time_limit(tmp_path: Path) -> None:
    """`--timeout` is for it, too: then ours is missing, and why is said."""
    world = blocked(tmp_path, RunScript(running=math.inf), Rules(timeout=100.0))
    assert world.run(stop_after=1000.0)
    assert world.counts == (0, 0, 1, 0)
    assert [event.stage for event in world.missing()] == ["timeout"]
    assert "in flight already" in world.missing()[0].error
    assert 100 < world.seconds < 110


def test_a_drain_while_a_run_is_in_the_way(tmp_path: Path) -> None:
    """It is not waited for any longer."""
    world = blocked(tmp_path, RunScript(running=math.inf))
    assert world.run(meanwhile=drain_when(lambda event: isinstance(event, RunSkipped)), stop_after=1000.0)
    assert world.counts == (0, 0, 0, 1)
    assert world.seconds < 10


def test_runs_in_the_way_of_some_models(tmp_path: Path) -> None:
    """The others go on, and their end is seen as soon as without."""
    world = blocked(tmp_path, RunScript(running=300.0))
    world.models = ("m1", "m2", "m3")
    assert world.run()
    world.check_all_done()
    assert world.times(OutputSaved)[1] < 15
    assert world.calls["schedule_runs"] == 2


# --- What is said is so -------------------------------------------------------------------------------------


def check_state(world: World) -> SweepState:
    """Whoever has only the events knows what became of each run."""
    state = SweepState()
    for said in world.said:
        state.absorb(said.event)
    ended = world.ended
    said_counts = {
        "completed": ended.completed,
        "errored": ended.errored,
        "missing": ended.missing,
        "unscheduled": ended.unscheduled,
    }
    assert {key.value: count for key, count in state.counts.items() if count} == {
        key: count for key, count in said_counts.items() if count
    }
    return state


def test_a_run_that_the_server_does_not_have_is_planned_again(tmp_path: Path) -> None:
    """That is said, with a reason, whether it is scheduled again or not."""
    world = World(tmp_path, Scenario(list_lag=math.inf))
    assert world.run(meanwhile=drain_when(lambda event: isinstance(event, RunSkipped)))
    assert world.counts == (0, 0, 0, 1)
    assert [event.reason for event in world.of(RunSkipped)] == ["the server does not have it"]
    check_state(world)


def test_a_drain_before_a_second_try(tmp_path: Path) -> None:
    """The first one is the result: it errored."""
    world = World(tmp_path, Scenario(runs=RunScript(end=RunState.ERRORED)), rules=Rules(retry_errored=3))
    assert world.run(meanwhile=drain_when(lambda event: isinstance(event, RetryPlanned)))
    assert world.counts == (0, 1, 0, 0)
    check_state(world)


def test_a_second_try_that_came_to_nothing(tmp_path: Path) -> None:
    """Also of an earlier process, whose first one is known from the journal alone."""
    rules = Rules(retry_errored=1)
    world = World(tmp_path, Scenario(runs=RunScript(end=RunState.ERRORED)), rules=rules)
    faults = (Fault("schedule_runs", first=2, times=math.inf),)
    world.serve(faults=faults)
    seen: list[SweepEvent] = []

    def kill(event: SweepEvent, engine: Engine) -> None:
        if isinstance(event, RetryPlanned):
            seen.append(event)

    assert not world.run(meanwhile=kill, stop_after=8.0)
    assert seen
    assert [one.phase for one in world.attempts()] == [Phase.ENDED, Phase.INTENDED]
    assert world.run(meanwhile=drain_when(lambda event: isinstance(event, RunSkipped)), pause=60.0)
    assert world.counts == (0, 1, 0, 0)
    check_state(world)


def test_the_newest_reason_counts(tmp_path: Path) -> None:
    """A run is missing for what its newest attempt lacks, and both are said."""

    def course(task: str, model: str, nth: int) -> RunScript:
        first = RunScript(end=RunState.ERRORED, output_delay=math.inf)
        return first if nth == 1 else RunScript(running=math.inf)

    world = World(tmp_path, Scenario(runs=course), rules=Rules(retry_errored=1, timeout=100.0))
    assert world.run()
    assert [(event.attempt, event.stage) for event in world.missing()] == [(1, "download"), (2, "timeout")]
    assert world.counts == (0, 0, 1, 0)
    check_state(world)


def test_an_errored_run_without_an_output_is_errored(tmp_path: Path) -> None:
    """For the engine and for whoever hears its events."""
    world = World(tmp_path, Scenario(runs=RunScript(end=RunState.ERRORED, output_delay=math.inf)))
    assert world.run()
    assert [event.stage for event in world.missing()] == ["download"]
    assert world.counts == (0, 1, 0, 0)
    check_state(world)


@pytest.mark.parametrize("seed", range(20))
def test_what_is_said_after_a_kill(tmp_path: Path, seed: int) -> None:
    """Wherever the process before ended: runs that error, that are lost, and that are tried again."""

    def course(task: str, model: str, nth: int) -> RunScript:
        number = (seed + int(model[1:]) + 2 * nth) % 5
        end = RunState.ERRORED if number in (1, 3) else RunState.COMPLETED
        return RunScript(end=end, running=1.0 + number, output_delay=math.inf if number == 3 else 0.0)

    scenario = Scenario(
        runs=course, one_run_per_model=bool(seed % 2), list_lag=seed % 3 * 2.0, late_arrival=0.2
    )
    world = World(tmp_path, scenario, models=3, repeats=2, rules=Rules(retry_errored=seed % 2))
    world.run(kill_after=7 + 11 * seed)
    draining = drain_when(lambda event: seed % 4 == 3 and isinstance(event, RetryPlanned | RunSkipped))
    assert world.run(pause=seed % 3 * 9.0, meanwhile=draining)
    check_state(world)
