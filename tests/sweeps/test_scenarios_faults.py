"""The engine on servers that throttle, fail, or lose responses, in virtual time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest
from msgspec import structs

from fanbench import ConnectionFailed, Unauthorized
from fanbench.operations.unanswered import CallUnanswered
from fanbench.sweeps.engine import Engine
from fanbench.sweeps.events import (
    FetchFailed,
    LogSaved,
    LookFailed,
    OutputSaved,
    RunFound,
    RunLogLine,
    RunScheduled,
    SweepEvent,
    TaskPushed,
)
from fanbench.testing import ApiCall, Fault, RunScript, Scenario
from fanbench.wire import protocol
from fanbench.wire.messages import Run
from fanbench.wire.responses import invalid_answer
from tests.sweeps.life import MortalKaggle
from tests.sweeps.world import World

pytestmark = pytest.mark.usefixtures("no_jitter", "quick_disk")

LOG = tuple((float(second), f"line {second}\n") for second in range(20))


# --- Pushing ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [None, 500, 503])
@pytest.mark.parametrize("after", [False, True])
def test_a_push_whose_answer_is_lost(tmp_path: Path, status: int | None, after: bool) -> None:
    """If the response to a push is lost, there is one version in the end, whether or not the push took effect."""
    world = World(tmp_path, Scenario(faults=(Fault("create_task", status, took_effect=after),)), models=2)
    assert world.run()
    world.check_all_done()
    assert len(world.kaggle.tasks["t1"].versions) == 1
    assert [event.adopted for event in world.of(TaskPushed)] == [after]


@pytest.mark.parametrize("after", [False, True])
def test_a_new_version_whose_answer_is_lost(tmp_path: Path, after: bool) -> None:
    """A version that existed before is not taken for the one that was pushed."""
    world = World(tmp_path, Scenario(faults=(Fault("create_task", took_effect=after),)))
    world.kaggle.add_task("t1", "somebody's")
    assert world.run()
    world.check_all_done()
    assert [version.text for version in world.kaggle.tasks["t1"].versions] == [
        "somebody's",
        "notebook of t1",
    ]
    assert {one.version for one in world.attempts()} == {2}


@pytest.mark.parametrize("versions", [0, 1])
def test_a_push_whose_answer_is_lost_and_that_shows_late(tmp_path: Path, versions: int) -> None:
    """A version that the server shows only after seconds is waited for before the push is repeated."""
    world = World(tmp_path, Scenario(push_lag=6.0, faults=(Fault("create_task", took_effect=True),)))
    for _ in range(versions):
        world.kaggle.add_task("t1", "somebody's")
    assert world.run()
    world.check_all_done()
    assert world.calls["create_task"] == 1


@pytest.mark.parametrize("creation", [0.5, 20.0])
def test_a_push_that_shows_late(tmp_path: Path, creation: float) -> None:
    """An earlier version that is ready is not taken for the one that was just pushed."""
    world = World(tmp_path, Scenario(push_lag=6.0, creation=creation))
    world.kaggle.add_task("t1", "somebody's")
    assert world.run()
    world.check_all_done()
    assert world.calls["schedule_runs"] == 1
    assert {one.version for one in world.attempts()} == {2}


def test_a_push_that_is_refused(tmp_path: Path) -> None:
    """A refused push is reported, and the other tasks continue."""
    world = World(tmp_path, Scenario(faults=(Fault("create_task", 400),)), tasks=2)
    assert world.run()
    assert world.counts == (1, 0, 1, 0)
    assert [event.stage for event in world.missing()] == ["push"]


def test_a_push_that_is_throttled(tmp_path: Path) -> None:
    """A push that is answered with 429 is repeated."""
    world = World(tmp_path, Scenario(faults=(Fault("create_task", 429, retry_after=3.0, times=3),)))
    assert world.run()
    world.check_all_done()


# --- Scheduling ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [None, 500, 503, 504, 200])
@pytest.mark.parametrize("one_in_flight", [False, True])
def test_runs_whose_schedule_answer_is_lost_are_adopted(
    tmp_path: Path, status: int | None, one_in_flight: bool
) -> None:
    """If the response to a schedule call is lost, its runs are found in lists and none is scheduled twice."""
    faults = (Fault("schedule_runs", status, took_effect=True),)
    world = World(tmp_path, Scenario(faults=faults, one_run_per_model=one_in_flight), models=5)
    assert world.run()
    world.check_all_done()
    assert world.calls["schedule_runs"] == 1
    assert world.seconds < 15


@pytest.mark.parametrize("status", [None, 502])
@pytest.mark.parametrize("one_in_flight", [False, True])
def test_runs_that_were_never_scheduled_are_scheduled_again(
    tmp_path: Path, status: int | None, one_in_flight: bool
) -> None:
    """If a schedule call had no effect and no response, it is repeated after a period of grace."""
    world = World(
        tmp_path,
        Scenario(faults=(Fault("schedule_runs", status),), one_run_per_model=one_in_flight),
        models=3,
    )
    assert world.run()
    world.check_all_done()
    first, second = world.kaggle.times("schedule_runs")
    assert 60 <= second - first <= 64
    assert [one.number for one in world.attempts()] == [1, 1, 1]


def test_runs_that_lists_have_late_are_adopted_all_the_same(tmp_path: Path) -> None:
    """After a lost response, lists that lag by less than the grace do not lead to a second run."""
    scenario = Scenario(
        list_lag=50.0, one_run_per_model=False, faults=(Fault("schedule_runs", took_effect=True),)
    )
    world = World(tmp_path, scenario, models=3, repeats=2)
    assert world.run()
    world.check_all_done()


class IncompleteLists(MortalKaggle):
    """For 200 seconds, lists of runs are null, or lack the models or the ids of runs."""

    lacks = "models"

    async def page_of_runs(
        self, task: str, models: Sequence[str], start: int, size: int | None = None, *, version: int = 0
    ) -> tuple[list[Run], int | None]:
        runs, following = await super().page_of_runs(task, (), start, size, version=version)
        if self.now() > 200:
            return runs, following
        match self.lacks:
            case "models":
                runs = [structs.replace(run, model_version_slug="") for run in runs]
            case "ids":
                runs = [structs.replace(run, id=0) for run in runs]
            case _:
                raise invalid_answer(protocol.LIST_RUNS, "the list of runs is null")
        return runs, following


@pytest.mark.parametrize("lacks", ["models", "ids", "everything"])
@pytest.mark.parametrize("status", [None, 503])
def test_an_incomplete_list_shows_nothing(tmp_path: Path, status: int | None, lacks: str) -> None:
    """As long as lists are incomplete, no run whose schedule answer was lost is taken for not scheduled."""
    faults = (Fault("schedule_runs", status, took_effect=True),)
    world = World(tmp_path, Scenario(faults=faults, one_run_per_model=False), models=2)
    world.kaggle = IncompleteLists(world.kaggle.scenario)
    world.kaggle.lacks = lacks
    assert world.run(stop_after=1000.0)
    world.check_all_done()
    assert world.calls["schedule_runs"] == 1
    assert "unknown whether the server has scheduled 2 runs" in world.of(CallUnanswered)[0].text


def test_runs_that_nobody_can_know_of_are_missing(tmp_path: Path) -> None:
    """If lists stay incomplete, a run whose schedule answer was lost is missing; it is never scheduled twice."""
    faults = (Fault("schedule_runs", took_effect=True), Fault("list_runs", 200, first=2, times=math.inf))
    world = World(tmp_path, Scenario(faults=faults, one_run_per_model=False), models=2)
    assert world.run(stop_after=2000.0)
    assert world.counts == (0, 0, 2, 0)
    assert all("unknown whether it was scheduled" in event.error for event in world.missing())
    assert world.calls["schedule_runs"] == 1
    world.kaggle.change(faults=())
    assert world.run()
    world.check_all_done()
    assert world.calls["schedule_runs"] == 0


@pytest.mark.parametrize(("status", "retry_after"), [(429, None), (429, 7.0)])
def test_a_schedule_call_that_was_not_done(tmp_path: Path, status: int, retry_after: float | None) -> None:
    """After 429 the call had no effect, so it is repeated without looking for runs."""
    world = World(
        tmp_path, Scenario(faults=(Fault("schedule_runs", status, retry_after, times=3),)), models=2
    )
    assert world.run()
    world.check_all_done()
    assert world.calls["schedule_runs"] == 4
    assert len(world.of(RunScheduled)) == 2


def test_one_model_that_the_server_does_not_know(tmp_path: Path) -> None:
    """An unknown model is missing with the reason, and does not affect the others of its call."""
    world = World(tmp_path, Scenario(unknown_models=frozenset({"m3"})), tasks=2, models=5)
    assert world.run()
    assert world.counts == (8, 0, 2, 0)
    assert {(event.planned_run.model, event.stage) for event in world.missing()} == {("m3", "schedule")}
    assert world.calls["schedule_runs"] <= 2 * 6
    world.check()


def test_runs_that_never_turn_up(tmp_path: Path) -> None:
    """Runs that the server accepted but never lists are missing after a bounded time."""
    world = World(tmp_path, Scenario(list_lag=math.inf, one_run_per_model=False))
    assert world.run()
    assert world.counts == (0, 0, 1, 0)
    assert world.seconds < 600
    assert len(world.kaggle.our_runs()) == 2


def test_a_skip_without_a_run_in_flight(tmp_path: Path) -> None:
    """A model that is skipped for a run that no list shows is retried, and finally missing."""
    world = World(tmp_path, Scenario(list_lag=math.inf, creation=0))
    world.kaggle.add_task("t1")
    del world.texts["t1"]
    world.kaggle.add_run("t1", "m1", RunScript(running=math.inf))
    assert world.run()
    assert world.counts == (0, 0, 1, 0)
    assert [event.stage for event in world.missing()] == ["schedule"]
    times = world.kaggle.times("schedule_runs")
    assert [round(later - sooner) for sooner, later in pairwise(times)] == [5, 10, 20, 40, 60]


def test_a_skip_that_passes(tmp_path: Path) -> None:
    """A model that is skipped for a while is scheduled as soon as it no longer is."""
    world = World(tmp_path, Scenario(list_lag=1000.0, creation=0))
    world.kaggle.add_task("t1")
    del world.texts["t1"]
    world.kaggle.add_run("t1", "m1", RunScript(running=12.0))
    world.serve(list_lag=1.0)
    assert world.run()
    assert world.counts == (1, 0, 0, 0)


# --- Asking -------------------------------------------------------------------------------------------------

ANY: tuple[ApiCall, ...] = (
    "create_task",
    "get_task",
    "schedule_runs",
    "list_runs",
    "logs",
    "download_output",
)


@pytest.mark.parametrize(("status", "retry_after"), [(None, None), (502, None), (429, 2.0)])
def test_a_server_that_is_away_for_a_minute(
    tmp_path: Path, status: int | None, retry_after: float | None
) -> None:
    """If all calls fail from second 5 to second 65, all runs are complete in the end, each of them once."""
    faults = tuple(Fault(kind, status, retry_after, times=math.inf, since=5.0, until=65.0) for kind in ANY)
    world = World(tmp_path, Scenario(faults=faults, runs=RunScript(running=8.0)), tasks=2, models=4)
    assert world.run()
    world.check_all_done()
    assert world.counts == (8, 0, 0, 0)
    assert 65 < world.seconds < 140


@pytest.mark.parametrize("kind", ["get_task", "list_runs"])
@pytest.mark.parametrize("status", [None, 500, 429, 200])
def test_every_third_look_fails(tmp_path: Path, kind: ApiCall, status: int | None) -> None:
    """Failed lists are repeated."""
    faults = tuple(Fault(kind, status, first=number) for number in range(2, 60, 3))
    world = World(tmp_path, Scenario(faults=faults, creation=20.0), tasks=2, models=3)
    assert world.run()
    world.check_all_done()


@pytest.mark.parametrize("kind", ANY)
def test_credentials_that_end(tmp_path: Path, kind: ApiCall) -> None:
    """After a 401 to any call, no new call is made."""
    world = World(tmp_path, Scenario(faults=(Fault(kind, 401, times=math.inf),)), tasks=2, models=3)
    if kind == "get_task":
        world.serve(creation=5.0)
    with pytest.raises(Unauthorized):
        world.run()
    assert world.seconds < 20
    world.check()
    world.serve(faults=())
    assert world.run()
    world.check_all_done()


# --- Logs ---------------------------------------------------------------------------------------------------


def test_a_log_that_is_cut(tmp_path: Path) -> None:
    """If streams break, each line is reported once, and the file equals the finished log, byte for byte."""
    course = RunScript(running=30.0, log=LOG, log_cuts=(3.5, 9.5), log_piece=7)
    world = World(tmp_path, Scenario(runs=course), models=2)
    assert world.run()
    world.check_all_done()
    said = [event.line for event in world.of(RunLogLine) if event.planned_run.model == "m1"]
    assert said == [text.strip() for _, text in LOG]


def test_a_log_that_ends_early(tmp_path: Path) -> None:
    """A stream that ends cleanly during the run is reopened, and lines continue to arrive live."""
    world = World(tmp_path, Scenario(runs=RunScript(running=30.0, log=LOG, log_stops=(4.5, 12.5))), models=2)
    assert world.run()
    world.check_all_done()
    assert all(event.lines == 20 for event in world.of(LogSaved))
    told = [second for second, event in world.said_of(RunLogLine) if event.line == "line 19"]
    began = world.kaggle.runs[1001].begins
    assert [round(second - began) for second in told] == [19, 19]


@pytest.mark.parametrize("unseen", [0.0, 2.0])
@pytest.mark.parametrize("stop", [15.5, 18.5, 19.5])
def test_a_log_that_ends_just_before_its_run(tmp_path: Path, stop: float, unseen: float) -> None:
    """The last lines are not lost, however soon after the end of the stream the run ends."""
    course = RunScript(running=19.8, log=LOG, log_stops=(stop,), end_lag=unseen)
    world = World(tmp_path, Scenario(runs=course), models=2)
    assert world.run()
    world.check_all_done()
    assert len(world.of(RunLogLine)) == 2 * len(LOG)


def test_a_log_that_begins_late(tmp_path: Path) -> None:
    """A running run that has no log yet is not a failure."""
    world = World(
        tmp_path, Scenario(runs=RunScript(running=30.0, log=LOG, log_delay=5.0, queued=3.0)), models=2
    )
    assert world.run()
    world.check_all_done()


def test_a_log_that_is_gone_for_a_moment(tmp_path: Path) -> None:
    """A log may be unavailable for a while between the live stream and the finished log."""
    course = RunScript(running=5.0, log_delay=math.inf, kept_log_delay=20.0)
    world = World(tmp_path, Scenario(runs=course))
    assert world.run()
    world.check_all_done()
    assert 25 < world.seconds < 50


def test_a_log_that_never_is(tmp_path: Path) -> None:
    """A log that never appears is reported as missing; the output is kept, and the next sweep requests only the log."""
    world = World(tmp_path, Scenario(runs=RunScript(log_delay=math.inf, kept_log_delay=300.0)))
    assert world.run()
    assert world.counts == (0, 0, 1, 0)
    assert [event.stage for event in world.missing()] == ["log"]
    assert len(world.of(OutputSaved)) == 1
    assert world.run(pause=300.0)
    assert world.calls == {"logs": 1}
    world.check_all_done()


def test_a_log_service_that_fails(tmp_path: Path) -> None:
    """While no log can be read, the ends of runs are still seen, and the logs are read later."""
    faults = (Fault("logs", 500, times=math.inf, until=60.0),)
    world = World(tmp_path, Scenario(faults=faults, runs=RunScript(running=20.0)), models=3)
    assert world.run()
    world.check_all_done()
    assert all(second < 60 for second in world.times(OutputSaved))


def test_an_empty_log(tmp_path: Path) -> None:
    """A run that wrote nothing has an empty log, which is complete."""
    world = World(tmp_path, Scenario(runs=RunScript(log=())))
    assert world.run()
    world.check_all_done()
    assert [(event.lines, event.size) for event in world.of(LogSaved)] == [(0, 0)]


# --- Outputs ------------------------------------------------------------------------------------------------


def test_downloads_that_break_off(tmp_path: Path) -> None:
    """Downloads that break off are repeated."""
    world = World(tmp_path, Scenario(runs=RunScript(broken_downloads=4, bad_zips=2)), models=3)
    assert world.run()
    world.check_all_done()


def test_an_output_that_comes_late(tmp_path: Path) -> None:
    """A 404 for the output soon after the end of the run is not final."""
    world = World(tmp_path, Scenario(runs=RunScript(output_delay=20.0)), models=2)
    assert world.run()
    world.check_all_done()
    assert world.seconds < 50


@pytest.mark.parametrize(
    "course", [RunScript(output_delay=500.0), RunScript(bad_zips=50), RunScript(broken_downloads=500)]
)
def test_an_output_that_never_comes(tmp_path: Path, course: RunScript) -> None:
    """An output that never appears is missing after a bounded time, and the next sweep requests it again."""

    def course_of(task: str, model: str, nth: int) -> RunScript:
        return course if model == "m1" else RunScript()

    world = World(tmp_path, Scenario(runs=course_of), models=3)
    assert world.run()
    assert world.counts == (2, 0, 1, 0)
    assert [(event.planned_run.model, event.stage) for event in world.missing()] == [("m1", "download")]
    assert world.seconds < 400
    world.check()
    world.kaggle.runs[1001].downloads = 10_000
    assert world.run(pause=500.0)
    assert world.calls["download_output"] == 1
    assert world.calls["schedule_runs"] == 0
    world.check_all_done()


def test_a_task_that_vanishes(tmp_path: Path) -> None:
    """The runs of a deleted task are missing after a bounded time, and the other task's are complete."""
    world = World(tmp_path, Scenario(runs=RunScript(running=20.0)), tasks=2, models=2)

    def vanish(event: SweepEvent, engine: Engine) -> None:
        if isinstance(event, RunFound) and event.planned_run.task == "t2":
            world.kaggle.tasks.pop("t2", None)

    assert world.run(meanwhile=vanish)
    assert world.counts == (2, 0, 2, 0)
    assert {(event.planned_run.task, event.stage) for event in world.missing()} == {("t2", "watch")}
    assert world.seconds < 120


def test_a_log_that_is_silent_is_said(tmp_path: Path) -> None:
    """While the log of an ended run cannot be read, that is said once a minute, until the run is given up."""
    silent = ConnectionFailed("No text came.", endpoint="http://simulated")
    world = World(tmp_path, Scenario(runs=RunScript(log_error=silent)))
    assert world.run()
    said = world.of(FetchFailed)
    assert {(one.stage, one.error) for one in said} == {("log", "No text came.")}
    assert 4 <= len(said) <= 6
    assert world.counts == (0, 0, 1, 0)
    assert world.missing()[0].stage == "log"


@pytest.mark.parametrize("call", ["list_runs", "get_task"])
def test_a_server_that_shows_nothing_is_said(tmp_path: Path, call: ApiCall) -> None:
    """While the runs or the creation of a task cannot be seen, that is said once a minute, until they are given up."""
    world = World(tmp_path, Scenario(faults=(Fault(call, 200, times=10**6),)))
    assert world.run()
    assert {one.task for one in world.of(LookFailed)} == {"t1"}
    assert world.seconds > 250
    quiet = [later - earlier for earlier, later in pairwise([0.0, *world.times(LookFailed), world.seconds])]
    assert max(quiet) < 95
    assert world.counts == (0, 0, 1, 0)
