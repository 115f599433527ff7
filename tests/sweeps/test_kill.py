"""An engine that is killed at every point where it waits loses nothing and repeats nothing."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from fanbench.sweeps.spec import Rules
from fanbench.testing import ApiCall, Fault, RunScript, Scenario
from fanbench.testing.scenario import ScriptOf
from tests.sweeps.world import World

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("quick_disk")]

# --- Each point, one after another --------------------------------------------------------------------------


def long_log(task: str, model: str, nth: int) -> RunScript:
    log = ((0.0, "a\n"), (1.0, "b"), (2.5, "c\n"))
    return RunScript(queued=1.0, running=3.0, log=log) if model == "m1" else RunScript.errored()


@pytest.mark.parametrize("first", [1, *(pytest.param(first, marks=pytest.mark.long) for first in (2, 3))])
@pytest.mark.parametrize(
    "scenario",
    [Scenario(runs=long_log), Scenario(runs=long_log, one_run_per_model=False, list_lag=4.0)],
    ids=["one in flight", "several in flight"],
)
def test_killed_at_each_point(tmp_path: Path, scenario: Scenario, first: int) -> None:
    """Wherever a process is killed, the next one reaches the same end. Each test takes every third point."""
    for point in count(first, 3):
        folder = tmp_path / str(point)
        world = World(
            folder, scenario, models=2, repeats=2, rules=Rules(retry_errored=1, streams=3, downloads=2)
        )
        if world.run(kill_after=point):
            break
        world.check()
        assert world.run(pause=point // 3 % 3 * 7.0)
        world.check_all_done()
        shutil.rmtree(folder)
    assert point > 100


@pytest.mark.parametrize("point", range(5, 240, 12))
def test_killed_with_a_journal_on_the_disk(tmp_path: Path, point: int) -> None:
    """The next process reads what a killed one has written to the journal's file."""
    rules = Rules(retry_errored=1, streams=3, downloads=2)
    world = World(tmp_path, Scenario(runs=long_log), models=2, repeats=2, rules=rules, durable=True)
    world.run(kill_after=point)
    world.check()
    world.run(kill_after=point, pause=2.0)
    world.check()
    assert world.run()
    world.check_all_done()
    assert world.run()
    assert world.calls.total() == 0


# --- Many points, on many servers ---------------------------------------------------------------------------


def course_of(seed: int, faulty: bool) -> ScriptOf:
    """Runs that differ from each other, but are the same in every example."""

    def course(task: str, model: str, nth: int) -> RunScript:
        number = (seed + 7 * int(task[1:]) + 3 * int(model[1:]) + 5 * nth) % 11
        base = RunScript.errored() if number in (2, 3) else RunScript()
        made = replace(base, queued=float(number % 3), running=1.0 + number)
        if not faulty:
            return made
        return replace(
            made,
            log_cuts=(1.5,) if number % 2 else (),
            log_stops=(2.5,) if number % 3 else (),
            log_piece=number % 4,
            end_lag=float(number % 5),
            log_delay=number / 4,
            output_delay=number / 2,
            bad_zips=int(number == 7),
            broken_downloads=number % 2,
        )

    return course


CALLS: tuple[ApiCall, ...] = (
    "create_task",
    "get_task",
    "schedule_runs",
    "list_runs",
    "logs",
    "download_output",
)
FIRST, TIMES, CALL = st.sampled_from([1, 1, 1, 2, 3, 7]), st.integers(1, 2), st.sampled_from(CALLS)
NO_WAIT, WAIT = st.none(), st.sampled_from([None, 3.0])
FAULTS = (
    st.builds(Fault, CALL, st.sampled_from([None, 500]), NO_WAIT, FIRST, TIMES, st.booleans())
    | st.builds(Fault, CALL, st.just(503), NO_WAIT, FIRST, TIMES)
    | st.builds(Fault, CALL, st.just(429), WAIT, FIRST, TIMES)
)
SCENARIOS = st.builds(
    Scenario,
    latency=st.sampled_from([0.1, 0.5]),
    creation=st.sampled_from([0.0, 3.0]),
    runs=st.builds(course_of, st.integers(0, 10), st.booleans()),
    one_run_per_model=st.booleans(),
    list_lag=st.sampled_from([0.0, 0.0, 4.0]),
    list_order=st.sampled_from(["newest", "oldest", "mixed"]),
    ignores_model_filter=st.booleans(),
    push_lag=st.sampled_from([0.0, 0.0, 3.0]),
    late_arrival=st.sampled_from([None, 0.2, 4.0]),
    page_size=st.sampled_from([None, 2]),
    faults=st.lists(FAULTS, max_size=3).map(tuple),
)


class Kills(RuleBasedStateMachine):
    """Kills processes of one sweep, while the server continues and the user changes the folder."""

    @initialize(
        scenario=SCENARIOS,
        tasks=st.integers(1, 2),
        models=st.integers(1, 3),
        repeats=st.integers(1, 2),
        retry_errored=st.integers(0, 1),
        foreign_runs=st.booleans(),
        by_slug=st.booleans(),
    )
    def begin(
        self,
        scenario: Scenario,
        tasks: int,
        models: int,
        repeats: int,
        retry_errored: int,
        foreign_runs: bool,
        by_slug: bool,
    ) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="fanbench-kill-"))
        self.edits = 0
        rules = Rules(retry_errored=retry_errored, streams=3, downloads=2)
        self.world = World(self.folder, scenario, tasks=tasks, models=models, repeats=repeats, rules=rules)
        if foreign_runs or by_slug:
            self.world.kaggle.add_task("t1", "somebody's")
        if by_slug:
            del self.world.texts["t1"]
        if foreign_runs:
            self.world.kaggle.add_run("t1", "m1", RunScript(running=20.0), age=5.0)
            self.world.kaggle.add_run("t1", "m1", age=50.0)
            self.world.kaggle.add_future_run(15.0, "t1", "m9")

    @rule(point=st.integers(1, 250), pause=st.sampled_from([0.0, 2.0, 30.0]))
    def kill(self, point: int, pause: float) -> None:
        self.world.run(kill_after=point, pause=pause)

    @rule(point=st.integers(1, 25))
    def kill_soon(self, point: int) -> None:
        self.world.run(kill_after=point)

    @rule()
    def finish(self) -> None:
        assert self.world.run()

    @rule(seconds=st.floats(0.0, 30.0))
    def stop(self, seconds: float) -> None:
        """Stops the process with a double Ctrl-C: cancelled tasks may clean up."""
        self.world.run(stop_after=seconds)

    @precondition(lambda self: self.edits < 2 and "t1" in self.world.texts)
    @rule()
    def edit(self) -> None:
        """The user changes a task, so that all of its runs are due again."""
        self.edits += 1
        self.world.edit("t1")

    @precondition(lambda self: self.saved())
    @rule(number=st.integers(0, 20))
    def lose_an_output(self, number: int) -> None:
        """The user deletes a run's folder."""
        saved = self.saved()
        shutil.rmtree(saved[number % len(saved)])

    def saved(self) -> list[Path]:
        return sorted(path for path in self.folder.glob("*/*/*/*") if path.name.isdecimal())

    @invariant()
    def nothing_is_twice(self) -> None:
        self.world.check_server()
        self.world.check_disk()

    def teardown(self) -> None:
        """A last process without kills completes the sweep, and nothing is left to do."""
        world = getattr(self, "world", None)
        if world is None:
            return
        try:
            world.serve(faults=())
            assert world.run()
            world.check_all_done()
            assert world.run()
            assert world.calls.total() == 0
        finally:
            shutil.rmtree(self.folder)


def kills(examples: int) -> settings:
    return settings(
        max_examples=examples,
        stateful_step_count=8,
        deadline=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    )


class ManyKills(Kills):
    """The same, more often."""


TestKills = Kills.TestCase
TestKills.settings = kills(30)
TestManyKills = pytest.mark.long(ManyKills.TestCase)
TestManyKills.settings = kills(100)
