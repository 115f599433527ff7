"""The events of a sweep tell what came of each run, in virtual time."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from fanbench.sweeps.attempts import Phase, PlannedRun
from fanbench.sweeps.engine import Engine
from fanbench.sweeps.events import (
    FetchFailed,
    LookFailed,
    RetryPlanned,
    RunMissing,
    RunSkipped,
    RunStateChanged,
    SweepEvent,
    TaskPreparationFailed,
)
from fanbench.sweeps.spec import Rules
from fanbench.sweeps.state import SweepState
from fanbench.testing import Fault, RunScript, Scenario
from fanbench.wire.messages import RunState
from tests.sweeps.world import World, drain_when

pytestmark = pytest.mark.usefixtures("no_jitter", "quick_disk")


def check_state(world: World) -> SweepState:
    """Check that the events alone tell the final status of each run, and return the state made of them."""
    state = SweepState()
    for emitted in world.said:
        state.absorb(emitted.event)
    ended = world.ended
    expected = {
        "completed": ended.completed,
        "errored": ended.errored,
        "missing": ended.missing,
        "unscheduled": ended.unscheduled,
    }
    assert {key.value: count for key, count in state.counts.items() if count} == {
        key: count for key, count in expected.items() if count
    }
    return state


def test_a_run_that_the_server_does_not_have_is_unscheduled_again(tmp_path: Path) -> None:
    """A run that turns out not to exist is reported as skipped, with a reason."""
    world = World(tmp_path, Scenario(list_lag=math.inf))
    assert world.run(meanwhile=drain_when(lambda event: isinstance(event, RunSkipped)))
    assert world.counts == (0, 0, 0, 1)
    assert [event.reason for event in world.of(RunSkipped)] == ["the server does not have it"]
    check_state(world)


def test_a_drain_before_a_second_try(tmp_path: Path) -> None:
    """If the retry is never scheduled, the errored attempt is the result."""
    world = World(tmp_path, Scenario(runs=RunScript(end=RunState.ERRORED)), rules=Rules(retry_errored=3))
    assert world.run(meanwhile=drain_when(lambda event: isinstance(event, RetryPlanned)))
    assert world.counts == (0, 1, 0, 0)
    check_state(world)


def test_a_retry_that_was_never_scheduled(tmp_path: Path) -> None:
    """The errored attempt is the result, even if it is known from the journal alone."""
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
    """A run is missing for the reason of its newest attempt, and each attempt has its event."""

    def course(task: str, model: str, nth: int) -> RunScript:
        first = RunScript(end=RunState.ERRORED, output_delay=math.inf)
        return first if nth == 1 else RunScript(running=math.inf)

    world = World(tmp_path, Scenario(runs=course), rules=Rules(retry_errored=1, timeout=100.0))
    assert world.run()
    assert [(event.attempt, event.stage) for event in world.missing()] == [(1, "download"), (2, "timeout")]
    assert world.counts == (0, 0, 1, 0)
    check_state(world)


def test_an_errored_run_without_an_output_is_errored(tmp_path: Path) -> None:
    """The counts of the engine and of its events agree that it errored."""
    world = World(tmp_path, Scenario(runs=RunScript(end=RunState.ERRORED, output_delay=math.inf)))
    assert world.run()
    assert [event.stage for event in world.missing()] == ["download"]
    assert world.counts == (0, 1, 0, 0)
    check_state(world)


@pytest.mark.parametrize("seed", range(20))
def test_the_events_after_a_kill_are_complete(tmp_path: Path, seed: int) -> None:
    """Wherever the process before was killed, the events tell the status of all runs."""

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


def test_errors_are_one_line() -> None:
    """Lines about a failure have the line that names the exception, not the last of its traceback."""
    trace = (
        'Failed: Traceback\n  File "Cell In[1]", line 1\n    f()\nValueError: 1 mistake\n  See elsewhere.\n'
    )
    run = PlannedRun("t", "m")
    events = (
        RunStateChanged(run, 1, 7, RunState.ERRORED, trace),
        RunMissing(run, 1, "schedule", trace),
        TaskPreparationFailed("t", trace),
    )
    assert [event.text for event in events] == [
        "t m: errored: ValueError: 1 mistake",
        "t m: missing: schedule: ValueError: 1 mistake",
        "t: failed, so its runs are missing: ValueError: 1 mistake",
    ]


def test_a_sentence_within_a_line_has_no_period() -> None:
    """What an error says is followed by when the next try is, as one line."""
    run = PlannedRun("sums", "m", 1)
    looked = LookFailed("sums", "The server has no answer.", 2.0)
    fetched = FetchFailed(run, 1, "log", "The server has no answer.", 2.0)
    assert looked.text == "sums: The server has no answer; looking again in 2 s"
    assert fetched.text == "sums m: log: The server has no answer; next try in 2 s"
