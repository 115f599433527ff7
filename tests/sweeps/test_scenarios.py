"""The engine on servers without faults, in virtual time and to the second."""

from __future__ import annotations

from pathlib import Path

import pytest

from fanbench.sweeps.attempts import Phase, TaskPhase
from fanbench.sweeps.events import (
    LogSaved,
    OutputSaved,
    RunFound,
    RunLogLine,
    RunSkipped,
    SweepStarted,
    TaskPreparationFailed,
    TaskPushed,
    TaskReady,
)
from fanbench.sweeps.spec import Rules
from fanbench.testing import RunScript, Scenario
from fanbench.wire.messages import CreationState
from tests.sweeps.world import World

pytestmark = pytest.mark.usefixtures("no_jitter", "quick_disk")

LATENCY, CREATION, LONGEST = 0.1, 2.0, 6.0


def spread(task: str, model: str, nth: int) -> RunScript:
    """Runs of 2 to 6 seconds, for the models `m1` to `m16`."""
    seconds = 2 + 4 * (int(model[1:]) - 1) / 15
    return RunScript(running=seconds, log=((0, "begin\n"), (1, "way\n"), (seconds, "end\n")))


# --- How long, and with how many calls ----------------------------------------------------------------------


def test_many_tasks_take_as_long_as_their_slowest_run(tmp_path: Path) -> None:
    """4 × 16 runs take the creation, the longest run and nine round trips, with at most 48 calls per task."""
    world = World(tmp_path, Scenario(latency=LATENCY, creation=CREATION, runs=spread), tasks=4, models=16)
    assert world.run()
    world.check_all_done()
    assert world.counts == (64, 0, 0, 0)
    assert world.seconds <= (CREATION + LONGEST + 9 * LATENCY) * 1.05
    assert world.calls.total() <= 4 * 48


def test_one_run_makes_few_calls(tmp_path: Path) -> None:
    """One run takes one push, one schedule call, one log, one download and one or two lists."""
    world = World(tmp_path)
    assert world.run()
    world.check_all_done()
    for kind in ("create_task", "schedule_runs", "logs", "download_output"):
        assert world.calls[kind] == 1
    assert world.calls["get_task"] <= 3
    assert world.calls["list_runs"] <= 4


def test_a_long_run_costs_few_calls(tmp_path: Path) -> None:
    """While its log is streamed, a run of an hour is rarely polled, and its end is seen within a second."""
    world = World(tmp_path, Scenario(creation=0, runs=RunScript(running=3600.0)), models=3)
    assert world.run()
    assert world.seconds <= 3602
    assert world.calls["list_runs"] <= 3600 / 60 + 5


def test_no_task_waits_for_another(tmp_path: Path) -> None:
    """A creation or a run that takes an hour does not delay other tasks."""

    def course(task: str, model: str, nth: int) -> RunScript:
        return RunScript(running=3600.0 if (task, model) == ("t2", "m1") else 2.0)

    scenario = Scenario(creation=lambda slug: 3600.0 if slug == "t1" else 1.0, runs=course)
    world = World(tmp_path, scenario, tasks=3, models=2)
    assert world.run()
    world.check_all_done()
    saved = {
        (event.planned_run.task, event.planned_run.model): second
        for second, event in world.said_of(OutputSaved)
    }
    assert all(saved[quick] < 10 for quick in [("t2", "m2"), ("t3", "m1"), ("t3", "m2")])
    assert saved["t2", "m1"] < 3610
    assert saved["t1", "m1"] > 3600


def test_streams_and_downloads_are_bounded(tmp_path: Path) -> None:
    """No more logs and outputs are read at once than the limits allow, and all of them are read."""
    rules = Rules(streams=4, downloads=2)
    world = World(tmp_path, Scenario(runs=RunScript(running=5.0)), models=20, rules=rules)
    assert world.run()
    world.check_all_done()
    assert 1 < world.kaggle.most_at_once["download_output"] <= 2
    # A finished log is read by whoever collects the output.
    assert 1 < world.kaggle.most_at_once["streams"] <= 4 + 2


def test_a_run_that_is_scored(tmp_path: Path) -> None:
    """The output of a run that is scored after its last log line is downloaded when the scoring has ended."""
    world = World(tmp_path, Scenario(runs=RunScript(scoring=40.0)), models=3)
    assert world.run()
    world.check_all_done()
    assert world.calls["list_runs"] <= 16
    assert all(second >= 44 for second in world.times(OutputSaved))


def test_a_sweep_of_nothing(tmp_path: Path) -> None:
    """Without models, nothing is done."""
    world = World(tmp_path, models=0, tasks=2)
    assert world.run()
    assert world.calls.total() == 0
    assert world.counts == (0, 0, 0, 0)


def test_it_runs_on_asyncio(tmp_path: Path) -> None:
    """The engine runs on asyncio as it does on trio."""
    scenario = Scenario(latency=0, creation=0, runs=RunScript(running=0.01, log=((0, "a\n"),)))
    world = World(tmp_path, scenario, tasks=2, models=2)
    assert world.run(backend="asyncio")
    world.check_all_done()
    assert world.counts == (4, 0, 0, 0)


# --- What it says -------------------------------------------------------------------------------------------


def test_events_of_one_run(tmp_path: Path) -> None:
    """The events of a run are emitted in order, each of them once, with every line of its log."""
    world = World(tmp_path, Scenario(creation=0))
    assert world.run()
    told = list(dict.fromkeys(type(said.event).__name__ for said in world.said))
    assert told[0] == "SweepStarted"
    assert told[-1] == "SweepEnded"
    order = ["TaskPushed", "TaskReady", "RunScheduled", "RunFound", "RunLogLine", "OutputSaved", "LogSaved"]
    assert [name for name in told if name in order] == order
    assert [event.line for event in world.of(RunLogLine)] == ["begin", "half", "way"]
    (started,) = world.of(SweepStarted)
    assert (started.planned, started.done, started.tasks, started.models) == (1, 0, ("t1",), ("m1",))
    (output,), (log,) = world.of(OutputSaved), world.of(LogSaved)
    assert output.path == "t1/1/m1/1001"
    assert (log.path, log.lines, log.size) == ("t1/1/m1/1001.log", 3, len("begin\nhalf\nway\n"))


def test_the_source_is_kept_where_it_is_wanted(tmp_path: Path) -> None:
    """`include_source` is passed on to the download call."""
    world = World(tmp_path, rules=Rules(include_source=True))
    assert world.run()
    world.check_all_done()
    assert (tmp_path / "t1/1/m1/1001/__notebook__.ipynb").exists()


# --- Tasks that are there already ---------------------------------------------------------------------------


def test_a_task_by_its_slug_is_not_pushed(tmp_path: Path) -> None:
    """A task that is named by its slug runs in the version that the server has."""
    world = World(tmp_path, tasks=["ada/old"])
    world.kaggle.add_task("ada/old", "one")
    world.kaggle.add_task("ada/old", "two")
    world.texts.clear()
    assert world.run()
    assert world.calls["create_task"] == 0
    assert (tmp_path / "ada/old/2/m1/1001.log").exists()


def test_a_task_by_its_slug_that_is_being_created(tmp_path: Path) -> None:
    """A creation that has already begun is waited for."""
    world = World(tmp_path, Scenario(creation=10.0))
    world.kaggle.add_task("t1", age=4.0)
    world.texts.clear()
    assert world.run()
    assert world.counts == (1, 0, 0, 0)
    assert world.calls["create_task"] == 0
    assert 6 <= world.times(TaskReady)[0] <= 10


def test_an_earlier_version_in_creation_is_waited_for(tmp_path: Path) -> None:
    """A push waits until the creation of an earlier version has ended."""
    world = World(tmp_path, Scenario(creation=10.0))
    world.kaggle.add_task("t1", "somebody's", age=4.0)
    assert world.run()
    world.check_all_done()
    assert world.kaggle.times("create_task")[0] >= 6
    assert [event.version for event in world.of(TaskPushed)] == [2]


def test_a_creation_that_fails(tmp_path: Path) -> None:
    """The runs of the failed task are missing, the other task is complete, and a sweep that is to retry
    pushes again, but no other does.
    """
    world = World(tmp_path, Scenario(creation=lambda slug: 2.0), tasks=2, models=2)
    world.kaggle.add_task("t2", "fine")
    del world.texts["t2"]
    world.serve(creation_end=CreationState.VALIDATION_FAILED)
    assert world.run()
    assert world.counts == (2, 0, 2, 0)
    assert {(event.planned_run.task, event.stage) for event in world.missing()} == {("t1", "push")}
    assert [event.task for event in world.of(TaskPreparationFailed)] == ["t1"]
    assert world.records.tasks()["t1"].phase == TaskPhase.FAILED
    world.serve(creation_end=CreationState.COMPLETED)
    assert world.run()
    assert world.counts == (2, 0, 2, 0)
    assert len(world.kaggle.tasks["t1"].versions) == 1
    world.rules = Rules(retry_errored=1)
    assert world.run()
    assert world.counts == (4, 0, 0, 0)
    assert len(world.kaggle.tasks["t1"].versions) == 2


# --- Repeats ------------------------------------------------------------------------------------------------


def test_repeats_one_after_another(tmp_path: Path) -> None:
    """If the server allows one run per model, each repeat starts soon after the previous one has ended."""
    world = World(tmp_path, Scenario(creation=0, runs=RunScript(running=10.0)), models=2, repeats=3)
    assert world.run()
    world.check_all_done()
    for model in world.models:
        first, second, third = world.kaggle.our_runs("t1", model)
        assert 0 <= second.scheduled - first.ends <= 2.5
        assert 0 <= third.scheduled - second.ends <= 2.5
    # One refusal is enough to know it.
    assert world.calls["schedule_runs"] <= 2 + 2 * 3
    assert len(world.of(RunSkipped)) <= 4


def test_repeats_at_the_same_time(tmp_path: Path) -> None:
    """If the server allows it, all repeats run at the same time, with one schedule call per repeat of all models."""
    scenario = Scenario(creation=0, one_run_per_model=False, runs=RunScript(running=10.0))
    world = World(tmp_path, scenario, models=2, repeats=3)
    assert world.run()
    world.check_all_done()
    assert world.kaggle.arguments("schedule_runs") == [("t1", ("m1", "m2"))] * 3
    assert world.seconds <= 13


def test_repeats_of_uneven_length(tmp_path: Path) -> None:
    """A model's next repeat does not wait for the runs of other models."""

    def course(task: str, model: str, nth: int) -> RunScript:
        return RunScript(running=60.0 if model == "m1" else 5.0)

    world = World(tmp_path, Scenario(creation=0, runs=course), models=2, repeats=2)
    assert world.run()
    world.check_all_done()
    first, second = world.kaggle.our_runs("t1", "m2")
    assert second.scheduled - first.ends <= 10
    assert world.seconds <= 126


# --- Lists that are odd -------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["newest", "oldest", "mixed"])
@pytest.mark.parametrize("page", [None, 7])
def test_lists_in_any_order(tmp_path: Path, order: str, page: int | None) -> None:
    """Each run is found once, whatever the order and pages of the lists, and repeats of a model are not confused."""
    scenario = Scenario(one_run_per_model=False, page_size=page, ignores_model_filter=True)
    world = World(tmp_path, scenario, tasks=2, models=10, repeats=2)
    world.serve(list_order=order)
    assert world.run()
    world.check_all_done()
    assert len({event.run_id for event in world.of(RunFound)}) == 40


def test_lists_that_lag_behind(tmp_path: Path) -> None:
    """A run that appears in lists only after seconds is waited for, and is neither rescheduled nor ended early."""
    scenario = Scenario(list_lag=20.0, runs=RunScript(running=30.0, end_lag=9.0))
    world = World(tmp_path, scenario, models=3)
    assert world.run()
    world.check_all_done()
    assert world.calls["schedule_runs"] == 1


def test_models_come_in_another_spelling(tmp_path: Path) -> None:
    """Runs are recognized if lists name their models with an owner and an `@`."""
    scenario = Scenario(spell_model=lambda model: f"google/{model.replace('-', '@', 1)}")
    world = World(tmp_path, scenario, models=["gemma-3", "gemma-4"])
    assert world.run()
    world.check_all_done()


def test_older_runs_are_none_of_ours(tmp_path: Path) -> None:
    """Runs of older versions and of other people are not adopted, whether they have ended or not."""
    world = World(tmp_path, Scenario(one_run_per_model=False), models=2)
    world.kaggle.add_task("t1", "somebody's")
    foreign_runs = [
        world.kaggle.add_run("t1", "m1", age=1000.0),
        world.kaggle.add_run("t1", "m2", RunScript(running=500.0), age=10.0),
    ]
    world.kaggle.add_run("t1", "other", RunScript(running=500.0), age=10.0)
    assert world.run()
    world.check_all_done()
    assert world.seconds < 20
    assert {run.id for run in foreign_runs} <= world.records.foreign_runs("t1")


# --- Stages -------------------------------------------------------------------------------------------------


def test_until_push(tmp_path: Path) -> None:
    """The push stage ends when all tasks are ready, and schedules nothing."""
    world = World(tmp_path, tasks=2, models=2)
    assert world.run(until="push")
    assert world.calls["schedule_runs"] == 0
    assert {record.phase for record in world.records.tasks().values()} == {TaskPhase.READY}
    assert world.counts == (0, 0, 0, 4)
    assert world.run()
    assert world.calls["create_task"] == 0
    world.check_all_done()


def test_until_schedule(tmp_path: Path) -> None:
    """The schedule stage ends when all runs are found on the server, long before they end."""
    world = World(tmp_path, Scenario(runs=RunScript(running=500.0)), tasks=2, models=2)
    assert world.run(until="schedule")
    assert world.seconds < 10
    assert world.calls["download_output"] == world.calls["logs"] == 0
    assert len(world.attempts(Phase.FOUND)) == 4
    assert world.run()
    assert world.calls["schedule_runs"] == 0
    world.check_all_done()
