"""Edge cases of logs, starts and responses, in virtual time."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

import anyio
import pytest

from fanbench.faults.fault import connection_lost
from fanbench.sweeps.events import DrainReason, RunScheduled
from fanbench.sweeps.spec import MaxFailures, Rules
from fanbench.testing import Fault, RunScript, Scenario, run_in_virtual_time
from fanbench.wire import protocol
from fanbench.wire.messages import LogEntry, ScheduleResult
from fanbench.wire.responses import invalid_answer
from tests.sweeps.life import MortalKaggle
from tests.sweeps.world import World

pytestmark = pytest.mark.usefixtures("no_jitter", "quick_disk")


def by_model(**courses: RunScript) -> Callable[[str, str, int], RunScript]:
    return lambda task, model, nth: courses.get(model, RunScript())


# --- Logs ---------------------------------------------------------------------------------------------------

LATE = ((0.0, "a\n"), (9.9, "late\n"))


@pytest.mark.parametrize("models", [1, 2])
@pytest.mark.parametrize("stop", [6.0, 8.0, 9.0])
def test_a_stream_that_ends_before_its_run_while_nobody_looks(
    tmp_path: Path, stop: float, models: int
) -> None:
    """A log whose stream ended before its run did is read again, even if the next list shows the run as ended."""
    course = by_model(m1=RunScript(running=10.0, log_stops=(stop,), log=LATE), m2=RunScript(running=20.0))
    world = World(tmp_path, Scenario(runs=course, latency=1.2), models=models)
    assert world.run()
    world.check_all_done()


def test_a_stream_that_ends_with_its_run_is_read_once(tmp_path: Path) -> None:
    """A log whose stream ended with its run is read with a single call."""
    world = World(tmp_path, Scenario(runs=RunScript(running=10.0, log=LATE)), models=3)
    assert world.run()
    world.check_all_done()
    assert world.calls["logs"] == 3


class Hanging(MortalKaggle):
    """Live logs stop sending text but never end."""

    async def logs(
        self, run_id: int, *, silence: float | None = None, merge: bool = False
    ) -> AsyncGenerator[LogEntry, None]:
        live = not self.runs[run_id].state(self.now()).terminal
        async with aclosing(super().logs(run_id, silence=silence, merge=merge)) as entries:
            async for entry in entries:
                yield entry
        if live:
            await anyio.sleep_forever()


def test_a_stream_that_hangs_after_the_end_of_its_run(tmp_path: Path) -> None:
    """A stream that hangs after the end of its run does not delay the sweep; the finished log is read instead."""
    world = World(tmp_path, models=2)
    world.kaggle = Hanging(world.kaggle.scenario)
    assert world.run(stop_after=1000.0)
    world.check_all_done()
    assert world.seconds < 90


class Breaking(MortalKaggle):
    """Finished logs break off after a large first part."""

    async def logs(
        self, run_id: int, *, silence: float | None = None, merge: bool = False
    ) -> AsyncGenerator[LogEntry, None]:
        async with aclosing(super().logs(run_id, silence=silence, merge=merge)) as entries:
            async for entry in entries:
                yield entry
                raise connection_lost()


def test_nothing_is_left_of_a_log_that_cannot_be_read(tmp_path: Path) -> None:
    """The part of a log that could be read is removed if the rest cannot be read."""
    world = World(tmp_path, Scenario(runs=RunScript(log=((0.0, "x" * 200_000), (1.0, "y")))))
    world.kaggle = Breaking(world.kaggle.scenario)
    assert world.run()
    assert [event.stage for event in world.missing()] == ["log"]
    assert not list(tmp_path.glob(".fanbench/logs/*"))


# --- Starts -------------------------------------------------------------------------------------------------


def test_failures_of_an_earlier_process_count(tmp_path: Path) -> None:
    """If earlier processes had too many failures, nothing is scheduled, but runs in flight are still collected."""
    world = World(
        tmp_path,
        Scenario(runs=by_model(m1=RunScript.errored(), m2=RunScript.errored())),
        models=2,
        rules=Rules(max_failures=MaxFailures(2)),
    )
    assert world.run()
    world.models = ("m1", "m2", "m3")
    assert world.run()
    assert world.ended.stopped == DrainReason.FAILURES
    assert world.counts == (0, 2, 0, 1)
    assert world.calls.total() == 0


def test_a_drain_before_the_start(tmp_path: Path) -> None:
    """An engine that is drained before it starts schedules nothing and reports that."""
    world = World(tmp_path)

    async def process() -> None:
        world.kaggle.begin()
        engine = world._engine(world.records, "collect", 0.0, lambda event, engine: None)
        engine.drain(DrainReason.INTERRUPTED, "Ctrl-C")
        assert engine.stopped == DrainReason.INTERRUPTED
        await engine.run()

    run_in_virtual_time(process, backend="trio")
    assert world.counts == (0, 0, 0, 1)
    assert world.ended.stopped == DrainReason.INTERRUPTED
    assert world.kaggle.calls.total() == 0


def test_foreign_runs_of_an_earlier_process_stay_foreign(tmp_path: Path) -> None:
    """A run that existed before our schedule call is not adopted as the result of an interrupted call."""
    world = World(tmp_path, Scenario(one_run_per_model=False), models=2)
    world.texts.clear()
    world.kaggle.add_task("t1")
    foreign_runs = {world.kaggle.add_run("t1", model, age=60.0).id for model in world.models}
    assert not world.run(kill_in=("schedule_runs", False))
    assert world.run()
    world.check_all_done()
    assert not foreign_runs & {one.run_id for one in world.attempts()}
    assert len(world.kaggle.our_runs()) == 2


def test_grace_counts_from_the_call_not_from_the_start(tmp_path: Path) -> None:
    """A schedule call of long ago whose run is not listed was lost, so the run is scheduled again at once."""
    world = World(tmp_path, Scenario(one_run_per_model=False))
    assert not world.run(kill_in=("schedule_runs", False))
    assert world.run(pause=60.0)
    assert world.times(RunScheduled)[0] < 2.0
    world.check_all_done()


# --- Answers ------------------------------------------------------------------------------------------------


def test_a_time_limit_while_lists_fail(tmp_path: Path) -> None:
    """A run's time limit ends even while lists fail."""
    faults = (Fault("list_runs", 500, times=math.inf, since=5.0),)
    world = World(tmp_path, Scenario(faults=faults, runs=RunScript(running=900.0)), rules=Rules(timeout=60.0))
    assert world.run()
    assert [event.stage for event in world.missing()] == ["timeout"]
    assert world.seconds < 60 + 35


class Curt(MortalKaggle):
    """The first schedule call skips the last model and has no result for it, which `Client` does not accept."""

    async def schedule_runs(
        self, task: str, models: Sequence[str] = (), **settings: Any
    ) -> list[ScheduleResult]:
        if self.times("schedule_runs"):
            return await super().schedule_runs(task, models, **settings)
        await super().schedule_runs(task, models[:-1], **settings)
        raise invalid_answer(protocol.SCHEDULE_RUNS, "a result is missing")


def test_a_schedule_answer_that_lacks_a_model(tmp_path: Path) -> None:
    """A model that is absent from the response is looked for in lists and scheduled again."""
    world = World(tmp_path, models=3)
    world.kaggle = Curt(world.kaggle.scenario)
    assert world.run(stop_after=1000.0)
    world.check_all_done()
    assert world.scheduled() == [("m1", "m2"), ("m3",)]
    assert world.seconds < 100
