"""When runs are listed, and what the lists show, in virtual time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import pytest
from msgspec.structs import replace

from fanbench.sweeps.engine import Engine
from fanbench.sweeps.events import (
    DrainReason,
    OutputSaved,
    RetryPlanned,
    RunFound,
    RunLogLine,
    RunScheduled,
    RunsPolled,
    RunStateChanged,
    SweepEvent,
)
from fanbench.sweeps.spec import Rules
from fanbench.testing import Fault, RunScript, Scenario
from fanbench.wire.messages import Run, RunState
from tests.sweeps.life import MortalKaggle
from tests.sweeps.world import World

pytestmark = pytest.mark.usefixtures("no_jitter", "quick_disk")


def test_the_end_of_the_last_log_asks_for_a_list_at_once(tmp_path: Path) -> None:
    """When the last open log ends, runs are listed at once."""
    world = World(tmp_path, Scenario(creation=0, runs=RunScript(running=100.0)))
    assert world.run()
    assert world.seconds < 101


def test_each_outage_of_lists_has_its_own_patience(tmp_path: Path) -> None:
    """An outage that has ended does not shorten the retries of the next one."""
    faults = tuple(
        Fault("list_runs", 500, times=math.inf, since=since, until=since + 200.0) for since in (10.0, 400.0)
    )
    world = World(tmp_path, Scenario(runs=RunScript(running=900.0), faults=faults))
    assert world.run()
    world.check_all_done()


def test_runs_that_are_scheduled_while_lists_fail(tmp_path: Path) -> None:
    """Runs scheduled after others were given up have retries of their own."""
    faults = (Fault("list_runs", 500, times=math.inf, since=5.0, until=500.0),)
    world = World(tmp_path, Scenario(runs=RunScript(running=5.0), faults=faults), repeats=2)
    assert world.run()
    assert world.counts == (1, 0, 1, 0)
    assert [event.stage for event in world.missing()] == ["watch"]


class Forgetful(MortalKaggle):
    """From second 50 on, lists are empty."""

    async def page_of_runs(
        self, task: str, models: Sequence[str], start: int, size: int | None = None, *, version: int = 0
    ) -> tuple[list[Run], int | None]:
        page = await super().page_of_runs(task, models, start, size, version=version)
        return page if self.now() < 50.0 else ([], None)


def test_a_run_that_is_no_longer_listed(tmp_path: Path) -> None:
    """A run that lists lack for a minute is cancelled, and made again by the next process only."""
    world = World(tmp_path, Scenario(runs=RunScript(running=1e6)))
    world.kaggle = Forgetful(world.kaggle.scenario)
    assert world.run(stop_after=5000.0)
    assert world.ended.cancelled == 1
    assert world.calls["schedule_runs"] == 1
    assert world.seconds < 180


@pytest.mark.parametrize(
    "scenario", [Scenario(list_lag=math.inf), Scenario(runs=RunScript(running=math.inf))]
)
def test_runs_that_are_given_up_free_their_money(tmp_path: Path, scenario: Scenario) -> None:
    """Runs that are given up release their budget, so that others continue and the sweep ends."""
    world = World(tmp_path, scenario, tasks=2, models=3, rules=Rules(max_cost=1.0, timeout=200.0))
    assert world.run(stop_after=10_000.0)
    assert world.counts[0] == 0
    assert world.missing()


# --- Logs ---------------------------------------------------------------------------------------------------


class Timeless(MortalKaggle):
    """Runs have no start and end times."""

    async def page_of_runs(
        self, task: str, models: Sequence[str], start: int, size: int | None = None, *, version: int = 0
    ) -> tuple[list[Run], int | None]:
        runs, more = await super().page_of_runs(task, models, start, size, version=version)
        return [replace(run, start_time=None, end_time=None) for run in runs], more


@pytest.mark.parametrize("stop", [6.0, 8.0])
def test_a_stream_that_ended_while_its_run_was_seen_to_go_on(tmp_path: Path, stop: float) -> None:
    """A log whose stream ended during the run is incomplete, even if the run ends soon after."""
    course = RunScript(running=10.0, log_stops=(stop,), log=((0.0, "a\n"), (9.9, "late\n")))
    world = World(tmp_path, Scenario(runs=lambda task, model, nth: course))
    world.kaggle = Timeless(world.kaggle.scenario)
    assert world.run()
    world.check_all_done()


@pytest.mark.parametrize("late", [3.0, 10.0, 45.0])
def test_a_log_that_begins_late_is_live_all_the_same(tmp_path: Path, late: float) -> None:
    """A log that does not exist yet is requested again after later lists, with growing pauses."""
    world = World(tmp_path, Scenario(runs=RunScript(running=300.0, log_delay=late)))
    assert world.run()
    assert late < world.times(RunLogLine)[0] < 3 * late + 5


def test_a_log_that_never_begins_is_not_asked_for_all_the_time(tmp_path: Path) -> None:
    """A log that never begins is requested seven times in the first minutes and once at the end."""
    world = World(tmp_path, Scenario(runs=RunScript(running=1000.0, log_delay=math.inf)))
    assert world.run()
    world.check_all_done()
    assert world.calls["logs"] == 7 + 1


def test_the_end_of_a_run_whose_log_nobody_reads(tmp_path: Path) -> None:
    """The end of a run is seen while all readers are busy, and its log is then read once."""

    def course(task: str, model: str, nth: int) -> RunScript:
        return RunScript(running=1000.0 if model == "m1" else 30.0)

    world = World(tmp_path, Scenario(runs=course, list_order="oldest"), models=4, rules=Rules(streams=1))
    assert world.run()
    world.check_all_done()
    assert all(second < 55 for second in world.times(OutputSaved)[:3])
    assert world.calls["logs"] <= 5


def test_a_run_that_is_given_up_is_not_followed_any_more(tmp_path: Path) -> None:
    """The reader of a run that is given up becomes free for others."""

    def course(task: str, model: str, nth: int) -> RunScript:
        return RunScript(running=math.inf if task == "t1" else 30.0)

    scenario = Scenario(runs=course, creation=lambda slug: 1.0 if slug == "t1" else 100.0)
    world = World(tmp_path, scenario, tasks=2, rules=Rules(streams=1, timeout=50.0))
    assert world.run()
    assert world.counts == (1, 0, 1, 0)
    told = [when for when, event in world.said_of(RunLogLine) if event.planned_run.task == "t2"]
    assert told[0] < world.kaggle.our_runs("t2")[0].ends - 10


# --- What is said -------------------------------------------------------------------------------------------


def test_an_error_is_said_before_what_follows_from_it(tmp_path: Path) -> None:
    """An error is reported with its reason before the retry that follows from it."""
    world = World(
        tmp_path, Scenario(runs=RunScript(end=RunState.ERRORED, error="no")), rules=Rules(retry_errored=1)
    )
    assert world.run()
    told = [said.event for said in world.said if isinstance(said.event, RunStateChanged | RetryPlanned)]
    ends = [event for event in told if isinstance(event, RetryPlanned) or event.state.terminal]
    assert [type(event) for event in ends] == [RunStateChanged, RetryPlanned, RunStateChanged]
    assert {event.error for event in world.of(RunStateChanged) if event.state.terminal} == {"no"}


def test_no_second_try_is_planned_after_a_drain(tmp_path: Path) -> None:
    """After a drain, no retry is planned or reported."""
    world = World(tmp_path, Scenario(runs=RunScript(end=RunState.ERRORED)), rules=Rules(retry_errored=1))

    def drain(event: SweepEvent, engine: Engine) -> None:
        if isinstance(event, RunScheduled):
            engine.drain(DrainReason.INTERRUPTED)

    assert world.run(meanwhile=drain)
    assert world.of(RetryPlanned) == []
    assert world.counts == (0, 1, 0, 0)


def test_a_run_is_missing_once(tmp_path: Path) -> None:
    """A run is reported missing once, with the first reason, even if its log is missing, too."""
    course = RunScript(output_delay=math.inf, log_delay=math.inf, kept_log_delay=math.inf)
    world = World(tmp_path, Scenario(runs=course))
    assert world.run()
    assert [event.stage for event in world.missing()] == ["download"]


def test_each_list_is_told(tmp_path: Path) -> None:
    """Each list is reported with the number of runs in flight and the number of calls so far."""
    world = World(tmp_path, Scenario(creation=0), models=3)
    assert world.run()
    assert len(world.of(RunsPolled)) == world.calls["list_runs"]
    assert [event.pending for event in world.of(RunsPolled)][-1] == 0
    assert max(event.pending for event in world.of(RunsPolled)) == 3
    assert 0 < world.of(RunsPolled)[-1].calls <= world.calls.total()


# --- Runs in the way ----------------------------------------------------------------------------------------


def test_runs_in_the_way_one_after_another(tmp_path: Path) -> None:
    """The time limit covers all blocking runs together."""
    world = World(tmp_path, Scenario(one_run_of_any_version=True), rules=Rules(timeout=100.0))
    world.kaggle.add_task("t1", "somebody's")
    world.kaggle.add_run("t1", "m1", RunScript(running=60.0))

    def another(event: SweepEvent, engine: Engine) -> None:
        """Adds another run once the first is seen to have ended."""
        if isinstance(event, RunsPolled) and world.kaggle.now() > 60.0 and len(world.kaggle.runs) == 1:
            world.kaggle.add_run("t1", "m1", RunScript(running=math.inf), version=1)

    assert world.run(meanwhile=another, stop_after=1000.0)
    assert world.calls["schedule_runs"] == 2
    assert [event.stage for event in world.missing()] == ["timeout"]
    assert 100 < world.seconds < 110


class Versionless(MortalKaggle):
    """Lists do not contain the version of a run."""

    async def page_of_runs(
        self, task: str, models: Sequence[str], start: int, size: int | None = None, *, version: int = 0
    ) -> tuple[list[Run], int | None]:
        runs, more = await super().page_of_runs(task, models, start, size, version=version)
        return [replace(run, task_slug=replace(run.task_slug, version_number=0)) for run in runs], more


def test_a_run_of_no_known_version_serves_as_ours(tmp_path: Path) -> None:
    """A run of an unknown version is adopted if the server would not allow another one."""
    world = World(tmp_path)
    world.kaggle = Versionless(world.kaggle.scenario)
    world.kaggle.add_task("t1")
    del world.texts["t1"]
    world.kaggle.add_run("t1", "m1", RunScript(running=50.0))
    assert world.run()
    world.check_all_done()
    assert world.kaggle.our_runs() == []
    assert [event.adopted for event in world.of(RunFound)] == [True]


def test_the_end_of_a_run_in_the_way_is_seen_while_others_go_on(tmp_path: Path) -> None:
    """The end of a blocking run is seen in lists, whatever the logs of other runs contain."""
    world = World(tmp_path, Scenario(one_run_of_any_version=True, runs=RunScript(running=500.0)), models=2)
    world.kaggle.add_task("t1", "somebody's")
    world.kaggle.add_run("t1", "m1", RunScript(running=12.0))
    assert world.run()
    world.check_all_done()
    _, again = world.kaggle.times("schedule_runs")
    assert again < 25


def test_lists_that_fail_for_good_while_a_model_was_skipped(tmp_path: Path) -> None:
    """If lists keep failing while a run is blocked, it is given up and the sweep ends."""
    faults = (Fault("list_runs", 500, times=math.inf, since=2.0),)
    world = World(tmp_path, Scenario(one_run_of_any_version=True, faults=faults))
    world.kaggle.add_task("t1", "somebody's")
    world.kaggle.add_run("t1", "m1", RunScript(running=math.inf))
    assert world.run(stop_after=5000.0)
    assert world.counts == (0, 0, 1, 0)
    assert world.seconds < 320
