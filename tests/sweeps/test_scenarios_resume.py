"""The same sweep again: what is done is not done twice, what is gone is fetched again. In virtual time."""

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
    """All is known from the journal and the disk, and told as if it had just been done."""
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
    """However large they are: that nobody has written to them since is enough."""
    world = World(tmp_path, models=3, durable=True)
    assert world.run()

    def refused(folder: Path) -> None:
        raise AssertionError(f"{folder} was read")

    monkeypatch.setattr(artifacts, "contents_of", refused)
    assert world.run()
    assert world.counts == (3, 0, 0, 0)


def test_more_models_run_alone(tmp_path: Path) -> None:
    """A model that is added is scheduled, the others are not; nothing is pushed."""
    world = World(tmp_path, tasks=2, models=2)
    assert world.run()
    world.models = (*world.models, "m3")
    assert world.run()
    assert world.calls["create_task"] == 0
    assert {about for _, about in world.kaggle.calls_to("schedule_runs")[2:]} == {
        ("t1", ("m3",)),
        ("t2", ("m3",)),
    }
    world.check_all_done()


def test_more_repeats_run_alone(tmp_path: Path) -> None:
    """Those that were done are not done again."""
    world = World(tmp_path, models=2)
    assert world.run()
    world.repeats = 3
    assert world.run()
    assert len(world.kaggle.our_runs()) == 6
    world.check_all_done()


def test_a_task_that_was_edited_is_pushed_and_run_again(tmp_path: Path) -> None:
    """Another content is another version with runs of its own; the results of the first are kept."""
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
    """What is on the server under that name now has not been run."""
    world = World(tmp_path)
    world.texts.clear()
    world.kaggle.add_task("t1", "one")
    assert world.run()
    world.kaggle.add_task("t1", "two")
    assert world.run()
    assert {run.version for run in world.kaggle.our_runs()} == {1, 2}


# --- Gone from the disk -------------------------------------------------------------------------------------


def test_an_output_that_was_deleted_is_fetched_again(tmp_path: Path) -> None:
    """With its log, and without a new run."""
    world = World(tmp_path, models=3)
    assert world.run()
    shutil.rmtree(tmp_path / "t1/1/m2")
    assert world.run()
    assert world.calls == {"download_output": 1, "logs": 1}
    assert [event.planned_run.model for event in world.of(OutputSaved)] == ["m2"]
    assert world.counts == (3, 0, 0, 0)
    world.check_all_done()


def test_a_file_that_was_deleted_is_fetched_again(tmp_path: Path) -> None:
    """An output that lacks a file is not whole."""
    world = World(tmp_path)
    assert world.run()
    (tmp_path / "t1/1/m1/1001/kernel/out.txt").unlink()
    assert world.run()
    assert world.calls["download_output"] == 1
    assert world.calls["schedule_runs"] == 0
    world.check_all_done()


def test_a_file_that_was_edited_is_fetched_again(tmp_path: Path) -> None:
    """Also if it is as long as before: one byte of one output."""
    world = World(tmp_path, models=3, durable=True)
    assert world.run()
    file = tmp_path / "t1/1/m2/1002/kernel/out.txt"
    before = file.read_bytes()
    with file.open("r+b") as content:
        content.write(bytes([before[0] ^ 1]))
    os.utime(file, ns=LATER)
    assert world.run()
    assert world.calls == {"download_output": 1, "logs": 1}
    assert file.read_bytes() == before
    assert world.run()
    assert world.calls.total() == 0
    world.check_all_done()


def test_a_sweep_in_a_copied_folder_is_done(tmp_path: Path) -> None:
    """The times of the files are others, and they are the same: nothing is asked for."""
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
    """The output is left alone."""
    world = World(tmp_path, models=2)
    assert world.run()
    (tmp_path / "t1/1/m1/1001/run.log").unlink()
    assert world.run()
    assert world.calls == {"logs": 1}
    assert [event.planned_run.model for event in world.of(LogSaved)] == ["m1"]
    world.check_all_done()


# --- Killed -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("done", [False, True])
def test_killed_in_the_push(tmp_path: Path, done: bool) -> None:
    """Whether the push reached the server is seen from there; there is one version in the end."""
    world = World(tmp_path, models=2)
    assert not world.run(kill_in=("create_task", done))
    assert len(world.kaggle.tasks) == done
    assert world.run(pause=60.0)
    assert [event.adopted for event in world.of(TaskPushed)] == [done]
    world.check_all_done()


@pytest.mark.parametrize("done", [False, True])
def test_killed_in_the_push_of_a_new_version(tmp_path: Path, done: bool) -> None:
    """Somebody's version that was there before is not taken for ours."""
    world = World(tmp_path, models=2)
    world.kaggle.add_task("t1", "somebody's")
    assert not world.run(kill_in=("create_task", done))
    assert world.run(pause=60.0)
    assert len(world.kaggle.tasks["t1"].versions) == 2
    assert {one.version for one in world.attempts()} == {2}
    world.check_all_done()


@pytest.mark.parametrize("kill", [("create_task", True), ("get_task", False), ("schedule_runs", False)])
def test_killed_after_a_push_that_shows_late(tmp_path: Path, kill: tuple[ApiCall, bool]) -> None:
    """What was pushed a moment before the kill, and is not to be seen yet, is not pushed again."""
    for versions in (0, 1):
        world = World(tmp_path / str(versions), Scenario(push_lag=5.0))
        for _ in range(versions):
            world.kaggle.add_task("t1", "somebody's")
        assert not world.run(kill_in=kill)
        assert world.run()
        world.check_all_done()
        assert len(world.kaggle.tasks["t1"].versions) == versions + 1


def test_a_task_that_was_deleted_is_pushed_again(tmp_path: Path) -> None:
    """Once it is sure that the server no longer has it."""
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
    """Runs that were scheduled in the instant before the kill are adopted; those that were not are scheduled."""
    world = World(tmp_path, Scenario(one_run_per_model=False, runs=RunScript(running=40.0)), models=3)
    assert not world.run(kill_in=("schedule_runs", done))
    assert len(world.kaggle.runs) == (3 if done else 0)
    assert world.run(pause=pause)
    assert world.calls["schedule_runs"] == (0 if done else 1)
    assert all(event.adopted == done for event in world.of(RunFound))
    world.check_all_done()


def test_killed_in_the_schedule_call_while_lists_lag(tmp_path: Path) -> None:
    """Runs that no list has yet are waited for before they are scheduled again."""
    world = World(tmp_path, Scenario(one_run_per_model=False, list_lag=8.0), models=3)
    assert not world.run(kill_in=("schedule_runs", True))
    assert world.run()
    assert world.calls["schedule_runs"] == 0
    world.check_all_done()


def test_runs_of_others_are_not_adopted(tmp_path: Path) -> None:
    """What was on the server before we scheduled is not taken for what a lost answer stood for."""
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
    """Where the server takes no second run of the model, the one that is in flight is adopted."""
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
    """A run that somebody schedules while ours are under way is none of ours."""
    world = World(tmp_path, Scenario(one_run_per_model=False, runs=RunScript(running=30.0)), models=2)
    world.kaggle.add_future_run(12.0, "t1", "m1", RunScript(running=500.0))
    world.kaggle.add_future_run(12.0, "t1", "m9", RunScript(running=500.0))
    assert world.run()
    world.check_all_done()
    assert world.seconds < 40


def test_a_run_that_ended_while_nobody_looked(tmp_path: Path) -> None:
    """Killed while runs were under way; started again when they are over: their finished logs and outputs come."""
    world = World(tmp_path, Scenario(runs=RunScript(running=60.0)), models=3)
    assert world.run(until="schedule")
    assert len(world.attempts(Phase.FOUND)) == 3
    assert world.run(pause=1000.0)
    assert world.calls == {"list_runs": 1, "logs": 3, "download_output": 3}
    assert world.seconds <= 1.0
    world.check_all_done()


def test_a_log_that_was_begun_before_the_kill(tmp_path: Path) -> None:
    """What a killed process had of a log does not get into the file twice."""
    log = tuple((float(second), f"line {second}\n") for second in range(30))
    world = World(tmp_path, Scenario(runs=RunScript(running=30.0, log=log)))
    assert not world.run(kill_after=45)
    assert world.run(pause=3.0)
    world.check_all_done()
    assert world.calls["schedule_runs"] == 0


@pytest.mark.parametrize("versions_apart", [True, False])
def test_an_edit_while_runs_are_under_way(tmp_path: Path, versions_apart: bool) -> None:
    """The runs of the new content come, however long those of the old one are in their way."""
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
    """Runs of the old content, found late, do not serve the new one."""
    world = World(tmp_path, Scenario(one_run_per_model=False, runs=RunScript(running=40.0)), models=2)
    assert not world.run(kill_in=("schedule_runs", done))
    world.edit("t1")
    assert world.run()
    assert world.counts == (2, 0, 0, 0)
    assert {one.version for one in world.attempts() if one.output} == {2}
    world.check()


def test_missing_runs_are_asked_for_again(tmp_path: Path) -> None:
    """What was given up is taken up by the same command, from where it was."""
    world = World(tmp_path, Scenario(runs=RunScript(output_delay=math.inf)), models=2)
    assert world.run()
    assert world.counts == (0, 0, 2, 0)
    for run in world.kaggle.our_runs():
        run.script = RunScript()
    assert world.run()
    assert world.calls["schedule_runs"] == world.calls["create_task"] == world.calls["list_runs"] == 0
    world.check_all_done()
