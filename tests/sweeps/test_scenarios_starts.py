"""What a process finds and reports when it starts, in virtual time."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import pytest

from fanbench.sweeps import engine
from fanbench.sweeps.attempts import Phase, TaskPhase
from fanbench.sweeps.engine import Engine
from fanbench.sweeps.events import (
    Draining,
    DrainReason,
    LogSaved,
    OutputSaved,
    RunFound,
    RunScheduled,
    RunsPolled,
    RunStateChanged,
    SweepEvent,
    SweepStarted,
    TaskPushed,
    TaskReady,
)
from fanbench.sweeps.spec import MaxFailures, Rules
from fanbench.testing import RunScript, Scenario
from fanbench.wire.messages import RunState
from tests.sweeps.world import World

pytestmark = pytest.mark.usefixtures("no_jitter", "quick_disk")


def test_only_what_is_on_disk_is_done(tmp_path: Path) -> None:
    """A run that has ended is not reported as done if its output is missing."""
    world = World(tmp_path, Scenario(runs=RunScript(output_delay=math.inf)), models=2)
    assert world.run()
    for run in world.kaggle.our_runs(model="m1"):
        run.script = RunScript()
    for done in (0, 1):
        assert world.run()
        assert [(event.planned, event.done) for event in world.of(SweepStarted)] == [(2, done)]


def test_all_of_many_are_looked_for_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All runs are looked for on the disk, however many there are."""
    monkeypatch.setattr(engine, "_CHECKED_AT_ONCE", 2)
    world = World(tmp_path, models=5)
    assert world.run()
    shutil.rmtree(tmp_path / "t1")
    assert world.run()
    world.check_all_done()
    assert len(world.of(OutputSaved)) == 5


def test_a_stage_before_the_last_fetches_nothing(tmp_path: Path) -> None:
    """Only the collect stage fetches files, even if some were lost."""
    world = World(tmp_path)
    assert world.run()
    shutil.rmtree(tmp_path / "t1")
    assert world.run(until="schedule")
    assert world.calls.total() == 0


def test_what_an_errored_run_left_is_fetched_later(tmp_path: Path) -> None:
    """The files of an errored run are fetched even if the process that retried it was killed before."""

    def course(task: str, model: str, nth: int) -> RunScript:
        first = RunScript(end=RunState.ERRORED, output_delay=30.0)
        return first if nth == 1 else RunScript(running=60.0)

    world = World(tmp_path, Scenario(runs=course), rules=Rules(retry_errored=1))
    assert not world.run(stop_after=20.0)
    assert len(world.kaggle.our_runs()) == 2
    assert world.run()
    world.check_all_done()
    assert len(world.of(OutputSaved)) == 2


def test_a_schedule_call_of_a_clock_that_was_set_back(tmp_path: Path) -> None:
    """A schedule call whose recorded time is in the future is waited for like one made just now."""
    world = World(tmp_path, Scenario(one_run_per_model=False))
    assert not world.run(kill_in=("schedule_runs", False))
    world.records.save_attempts([one.with_(intended_at=one.intended_at + 3600.0) for one in world.attempts()])
    assert world.run()
    world.check_all_done()
    assert world.times(RunScheduled)[0] < 65


def test_a_run_that_was_scheduled_before_the_kill_and_is_listed_late(tmp_path: Path) -> None:
    """A run that the server confirmed is looked for longer than one whose schedule call had no response."""
    world = World(tmp_path, Scenario(one_run_per_model=False, list_lag=60.0, runs=RunScript(running=100.0)))
    assert not world.run(stop_after=10.0)
    assert world.run()
    world.check_all_done()
    assert len(world.kaggle.our_runs()) == 1


def test_a_run_of_an_earlier_content_that_nobody_had_seen(tmp_path: Path) -> None:
    """A run of earlier content blocks the new one until it has ended."""
    world = World(tmp_path, Scenario(one_run_of_any_version=True, runs=RunScript(running=400.0)))
    assert not world.run(kill_in=("schedule_runs", True))
    world.edit("t1")
    assert world.run()
    assert world.counts == (1, 0, 0, 0)
    assert world.calls["schedule_runs"] == 2


def test_what_is_said_is_written_down(tmp_path: Path) -> None:
    """Whenever the process is killed, nothing was reported that the journal does not contain."""
    ended, point = False, 0
    while not ended:
        point += 1
        world = World(tmp_path / str(point))
        ended = world.run(kill_after=point)
        phases = {one.phase for one in world.records.tasks().values()}
        assert not world.of(TaskPushed) or phases <= {TaskPhase.PUSHED, TaskPhase.READY}
        assert not world.of(TaskReady) or phases == {TaskPhase.READY}
        for one in world.attempts():
            assert not world.of(RunScheduled) or one.phase is not Phase.INTENDED
            assert not world.of(RunFound) or one.run_id is not None
            assert (
                not any(event.state.terminal for event in world.of(RunStateChanged))
                or one.phase is Phase.ENDED
            )
            assert not world.of(OutputSaved) or one.output is not None
            assert not world.of(LogSaved) or one.log is not None
    assert point > 20


def test_as_many_logs_are_followed_as_is_said(tmp_path: Path) -> None:
    """No more logs are followed at once than the limit allows."""
    world = World(
        tmp_path, Scenario(runs=RunScript(running=30.0, output_delay=50.0)), models=9, rules=Rules(streams=3)
    )
    assert world.run()
    world.check_all_done()
    assert world.kaggle.most_at_once["streams"] == 3


def test_the_time_that_a_sweep_took(tmp_path: Path) -> None:
    """The duration of a sweep is measured from its own start."""
    world = World(tmp_path, Scenario(latency=0, creation=0, runs=RunScript(running=0.01, log=((0, "a\n"),))))
    assert world.run(backend="asyncio")
    assert 0 < world.ended.seconds <= world.seconds + 0.001


def test_one_failure_less_than_too_many(tmp_path: Path) -> None:
    """One failure fewer than `--max-failures` does not stop the sweep."""

    def course(task: str, model: str, nth: int) -> RunScript:
        return RunScript.errored() if nth == 1 else RunScript()

    world = World(tmp_path, Scenario(runs=course), repeats=3, rules=Rules(max_failures=MaxFailures(2)))
    assert world.run()
    assert world.counts == (2, 1, 0, 0)


def test_a_drain_says_how_much_is_followed_to_its_end(tmp_path: Path) -> None:
    """A drain reports the number of runs in flight."""
    world = World(tmp_path, models=3)

    def drain(event: SweepEvent, engine: Engine) -> None:
        if isinstance(event, RunsPolled) and event.pending:
            engine.drain(DrainReason.INTERRUPTED)

    assert world.run(meanwhile=drain)
    assert [event.in_flight for event in world.of(Draining)] == [3]
