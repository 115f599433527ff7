"""Repeating a sweep: finished work is not repeated, and lost files are fetched again, in virtual time."""

from __future__ import annotations

import math
import os
import shutil
from pathlib import Path

import pytest

from fanbench.sweeps import artifacts
from fanbench.sweeps.attempts import Phase
from fanbench.sweeps.events import LogSaved, OutputSaved, RunFound, RunKnown, SweepStarted, TaskPushed
from fanbench.testing import ApiCall, Fault, RunScript, Scenario
from tests.sweeps.world import World

pytestmark = pytest.mark.usefixtures("no_jitter", "quick_disk")

# Times of a file (as `os.utime` wants them) that was written when the disk's clock had gone on.
LATER = (0, 4 * 10**18)


# --- Done already -------------------------------------------------------------------------------------------


def test_a_sweep_that_is_done_makes_no_call(tmp_path: Path) -> None:
    """A finished sweep is reported from the journal and the disk without any call."""
    world = World(tmp_path, tasks=3, models=4, repeats=2)
    assert world.run()
    assert world.run()
    assert world.calls.total() == 0
    assert world.counts == (24, 0, 0, 0)
    assert world.of(SweepStarted)[0].done == 24
    known = world.of(RunKnown)
    assert len(known) == 24
    assert all(event.output and event.log and event.state for event in known)
    world.check_all_done()


def test_a_sweep_that_is_done_reads_no_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Outputs that were not modified are not read again, however large they are."""
    world = World(tmp_path, models=3, durable=True)
    assert world.run()

    def refused(folder: Path) -> None:
        raise AssertionError(f"{folder} was read")

    monkeypatch.setattr(artifacts, "contents_of", refused)
    assert world.run()
    assert world.counts == (3, 0, 0, 0)


def test_more_models_run_alone(tmp_path: Path) -> None:
    """Adding a model schedules only its runs, and pushes nothing."""
    world = World(tmp_path, tasks=2, models=2)
    assert world.run()
    world.models = (*world.models, "m3")
    assert world.run()
    assert world.calls["create_task"] == 0
    assert set(world.kaggle.arguments("schedule_runs")[2:]) == {
        ("t1", ("m3",)),
        ("t2", ("m3",)),
    }
    world.check_all_done()


def test_more_repeats_run_alone(tmp_path: Path) -> None:
    """Adding repeats does not run the earlier ones again."""
    world = World(tmp_path, models=2)
    assert world.run()
    world.repeats = 3
    assert world.run()
    assert len(world.kaggle.our_runs()) == 6
    world.check_all_done()


def test_a_task_that_was_edited_is_pushed_and_run_again(tmp_path: Path) -> None:
    """An edited task is pushed as a new version with runs of its own, and the earlier results are kept."""
    world = World(tmp_path, tasks=2, models=2)
    assert world.run()
    world.edit("t1")
    assert world.run()
    assert [(event.task, event.version) for event in world.of(TaskPushed)] == [("t1", 2)]
    assert world.counts == (4, 0, 0, 0)
    assert len(world.kaggle.our_runs("t1")) == 4
    assert len(world.kaggle.our_runs("t2")) == 2
    for run in world.kaggle.our_runs():
        world.check_output(run)
        world.check_log(run)


def test_a_task_by_its_slug_with_a_new_version_is_run_again(tmp_path: Path) -> None:
    """A task named by its slug runs again if the server has a new version."""
    world = World(tmp_path)
    world.texts.clear()
    world.kaggle.add_task("t1", "one")
    assert world.run()
    world.kaggle.add_task("t1", "two")
    assert world.run()
    assert {run.version for run in world.kaggle.our_runs()} == {1, 2}


# --- Gone from the disk -------------------------------------------------------------------------------------


def test_an_output_that_was_deleted_is_fetched_again(tmp_path: Path) -> None:
    """A deleted output is downloaded again with its log, without a new run."""
    world = World(tmp_path, models=3)
    assert world.run()
    shutil.rmtree(tmp_path / "t1/1/m2")
    assert world.run()
    assert world.calls == {"download_output": 1, "logs": 1}
    assert [event.planned_run.model for event in world.of(OutputSaved)] == ["m2"]
    assert world.counts == (3, 0, 0, 0)
    world.check_all_done()


def test_a_file_that_was_deleted_is_fetched_again(tmp_path: Path) -> None:
    """An output with a deleted file is downloaded again."""
    world = World(tmp_path)
    assert world.run()
    (tmp_path / "t1/1/m1/1001/kernel/out.txt").unlink()
    assert world.run()
    assert world.calls["download_output"] == 1
    assert world.calls["schedule_runs"] == 0
    world.check_all_done()


def test_a_file_that_was_edited_is_fetched_again(tmp_path: Path) -> None:
    """An output with a single edited byte is downloaded again, even if its size is unchanged."""
    world = World(tmp_path, models=3, durable=True)
    assert world.run()
    file = tmp_path / "t1/1/m2/1002/kernel/out.txt"
    before = file.read_bytes()
    with file.open("r+b") as content:
        content.write(bytes([before[0] ^ 1]))
    os.utime(file, ns=LATER)
    assert world.run()
    assert world.calls == {"download_output": 1}
    assert file.read_bytes() == before
    assert world.run()
    assert world.calls.total() == 0
    world.check_all_done()


def test_a_sweep_in_a_copied_folder_is_done(tmp_path: Path) -> None:
    """A copy of the folder is complete although its files have other modification times."""
    world = World(tmp_path / "here", models=3, durable=True)
    assert world.run()
    shutil.copytree(tmp_path / "here", tmp_path / "there", copy_function=shutil.copyfile)
    for file in (tmp_path / "there" / "t1").rglob("*"):
        os.utime(file, ns=LATER)
    world.folder = tmp_path / "there"
    assert world.run()
    assert world.calls.total() == 0
    assert world.counts == (3, 0, 0, 0)


def test_a_log_that_was_deleted_is_read_again(tmp_path: Path) -> None:
    """A deleted log is read again, and the output is left alone."""
    world = World(tmp_path, models=2)
    assert world.run()
    (tmp_path / "t1/1/m1/1001.log").unlink()
    assert world.run()
    assert world.calls == {"logs": 1}
    assert [event.planned_run.model for event in world.of(LogSaved)] == ["m1"]
    world.check_all_done()


# --- Killed -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("done", [False, True])
def test_killed_in_the_push(tmp_path: Path, done: bool) -> None:
    """After a kill during a push, there is one version in the end, whether or not the push took effect."""
    world = World(tmp_path, models=2)
    assert not world.run(kill_in=("create_task", done))
    assert len(world.kaggle.tasks) == done
    assert world.run(pause=60.0)
    assert [event.adopted for event in world.of(TaskPushed)] == [done]
    world.check_all_done()


@pytest.mark.parametrize("done", [False, True])
def test_killed_in_the_push_of_a_new_version(tmp_path: Path, done: bool) -> None:
    """After a kill during a push, a version that existed before is not taken for ours."""
    world = World(tmp_path, models=2)
    world.kaggle.add_task("t1", "somebody's")
    assert not world.run(kill_in=("create_task", done))
    assert world.run(pause=60.0)
    assert len(world.kaggle.tasks["t1"].versions) == 2
    assert {one.version for one in world.attempts()} == {2}
    world.check_all_done()


@pytest.mark.parametrize("kill", [("create_task", True), ("get_task", False), ("schedule_runs", False)])
def test_killed_after_a_push_that_shows_late(tmp_path: Path, kill: tuple[ApiCall, bool]) -> None:
    """A version that was pushed just before the kill and is not visible yet is not pushed again."""
    for versions in (0, 1):
        world = World(tmp_path / str(versions), Scenario(push_lag=5.0))
        for _ in range(versions):
            world.kaggle.add_task("t1", "somebody's")
        assert not world.run(kill_in=kill)
        assert world.run()
        world.check_all_done()
        assert len(world.kaggle.tasks["t1"].versions) == versions + 1


def test_a_task_that_was_deleted_is_pushed_again(tmp_path: Path) -> None:
    """A deleted task is pushed again once it is certain that the server no longer has it."""
    world = World(tmp_path, models=1)
    assert world.run()
    del world.kaggle.tasks["t1"]
    world.models = ("m1", "m2")
    assert world.run()
    assert world.counts == (2, 0, 0, 0)
    assert len(world.kaggle.tasks["t1"].versions) == 1


@pytest.mark.parametrize("pause", [0.0, 300.0])
@pytest.mark.parametrize("done", [False, True])
def test_killed_in_the_schedule_call(tmp_path: Path, done: bool, pause: float) -> None:
    """Runs that were scheduled just before the kill are adopted, and the others are scheduled."""
    world = World(tmp_path, Scenario(one_run_per_model=False, runs=RunScript(running=40.0)), models=3)
    assert not world.run(kill_in=("schedule_runs", done))
    assert len(world.kaggle.runs) == (3 if done else 0)
    assert world.run(pause=pause)
    assert world.calls["schedule_runs"] == (0 if done else 1)
    assert all(event.adopted == done for event in world.of(RunFound))
    world.check_all_done()


def test_killed_in_the_schedule_call_while_lists_lag(tmp_path: Path) -> None:
    """Runs that are not listed yet are waited for before they are scheduled again."""
    world = World(tmp_path, Scenario(one_run_per_model=False, list_lag=8.0), models=3)
    assert not world.run(kill_in=("schedule_runs", True))
    assert world.run()
    assert world.calls["schedule_runs"] == 0
    world.check_all_done()


def test_runs_of_others_are_not_adopted(tmp_path: Path) -> None:
    """Runs that existed before our schedule call are not adopted after a lost response."""
    scenario = Scenario(one_run_per_model=False, runs=RunScript(running=40.0))
    world = World(tmp_path, scenario, models=2)
    world.texts.clear()
    world.kaggle.add_task("t1")
    foreign_runs = {
        world.kaggle.add_run("t1", model, age=age).id for model in ("m1", "m2") for age in (90.0, 0.0)
    }
    world.serve(faults=(Fault("schedule_runs", took_effect=True),))
    assert world.run()
    world.check_all_done()
    assert not foreign_runs & {one.run_id for one in world.attempts()}
    assert foreign_runs <= world.records.foreign_runs("t1")


def test_a_run_in_flight_of_somebody_else_serves_as_ours(tmp_path: Path) -> None:
    """If the server allows no second run of a model, the active one is adopted."""
    world = World(tmp_path)
    world.texts.clear()
    world.kaggle.add_task("t1")
    stranger = world.kaggle.add_run("t1", "m1", RunScript(running=30.0), age=5.0)
    assert world.run()
    assert world.counts == (1, 0, 0, 0)
    assert [one.run_id for one in world.attempts() if one.run_id] == [stranger.id]
    assert world.seconds < 32
    world.check()


def test_a_stranger_that_comes_between(tmp_path: Path) -> None:
    """A run that someone else schedules while ours are active is not adopted."""
    world = World(tmp_path, Scenario(one_run_per_model=False, runs=RunScript(running=30.0)), models=2)
    world.kaggle.add_future_run(12.0, "t1", "m1", RunScript(running=500.0))
    world.kaggle.add_future_run(12.0, "t1", "m9", RunScript(running=500.0))
    assert world.run()
    world.check_all_done()
    assert world.seconds < 40


def test_a_run_that_ended_while_nobody_looked(tmp_path: Path) -> None:
    """If runs end between a kill and the restart, their finished logs and outputs are fetched."""
    world = World(tmp_path, Scenario(runs=RunScript(running=60.0)), models=3)
    assert world.run(until="schedule")
    assert len(world.attempts(Phase.FOUND)) == 3
    assert world.run(pause=1000.0)
    assert world.calls == {"list_runs": 1, "logs": 3, "download_output": 3}
    assert world.seconds <= 1.0
    world.check_all_done()


def test_a_log_that_was_begun_before_the_kill(tmp_path: Path) -> None:
    """The part of a log that a killed process had read does not appear twice in the file."""
    log = tuple((float(second), f"line {second}\n") for second in range(30))
    world = World(tmp_path, Scenario(runs=RunScript(running=30.0, log=log)))
    assert not world.run(kill_after=45)
    assert world.run(pause=3.0)
    world.check_all_done()
    assert world.calls["schedule_runs"] == 0


@pytest.mark.parametrize("versions_apart", [True, False])
def test_an_edit_while_runs_are_under_way(tmp_path: Path, versions_apart: bool) -> None:
    """The runs of new content start, however long those of the old content block them."""
    scenario = Scenario(runs=RunScript(running=400.0), one_run_of_any_version=not versions_apart)
    world = World(tmp_path, scenario, models=2)
    assert not world.run(stop_after=30.0)
    world.edit("t1")
    assert world.run()
    assert world.counts == (2, 0, 0, 0)
    assert {one.version for one in world.attempts() if one.output} == {2}
    assert len(world.kaggle.our_runs()) == 4
    world.check()


@pytest.mark.parametrize("done", [False, True])
def test_an_edit_after_a_kill_in_the_schedule_call(tmp_path: Path, done: bool) -> None:
    """Runs of old content that are found late are not used for the new content."""
    world = World(tmp_path, Scenario(one_run_per_model=False, runs=RunScript(running=40.0)), models=2)
    assert not world.run(kill_in=("schedule_runs", done))
    world.edit("t1")
    assert world.run()
    assert world.counts == (2, 0, 0, 0)
    assert {one.version for one in world.attempts() if one.output} == {2}
    world.check()


def test_missing_runs_are_asked_for_again(tmp_path: Path) -> None:
    """Repeating the sweep continues with the runs that were given up."""
    world = World(tmp_path, Scenario(runs=RunScript(output_delay=math.inf)), models=2)
    assert world.run()
    assert world.counts == (0, 0, 2, 0)
    for run in world.kaggle.our_runs():
        run.script = RunScript()
    assert world.run()
    assert world.calls["schedule_runs"] == world.calls["create_task"] == world.calls["list_runs"] == 0
    world.check_all_done()
