"""Runs that are made again on request (`--rerun`), in virtual time."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import pytest

from fanbench.errors import JournalError
from fanbench.sweeps.attempts import Phase, PlannedRun, expand_runs
from fanbench.sweeps.events import RunScheduled
from fanbench.sweeps.preview import preview
from fanbench.sweeps.reruns import Reruns
from fanbench.sweeps.results import known_runs
from fanbench.sweeps.spec import Rules
from fanbench.testing import RunScript, Scenario
from tests.sweeps.world import World, drain_when

pytestmark = pytest.mark.usefixtures("no_jitter", "quick_disk")

CONTINUED = (
    "Not begun anew with --rerun, because they have not ended, or an interrupted --rerun has made them "
    "already: t1 on m1."
)
T1M1, T1M2, T2M1, T2M2 = expand_runs(("t1", "t2"), ("m1", "m2"), 1)


def finished(folder: Path, *, scenario: Scenario | None = None, rules: Rules | None = None) -> World:
    """A sweep of two tasks on two models that has come to its end."""
    world = World(folder, scenario, tasks=2, models=2, rules=rules)
    assert world.run()
    return world


def made(world: World) -> Counter[PlannedRun]:
    """The number of runs on the server, by planned run."""
    return Counter(PlannedRun(run.task, run.model) for run in world.kaggle.our_runs())


def superseded(world: World) -> dict[PlannedRun, list[bool]]:
    """Of each attempt, whether a later one counts instead."""
    known = known_runs(world.folder, (), {}, {}, world.records.attempts())
    found: dict[PlannedRun, list[bool]] = {}
    for each in known:
        found.setdefault(PlannedRun(each.task, each.model, each.repeat), []).append(each.superseded)
    return found


def test_only_what_is_asked_for_is_made_again(tmp_path: Path) -> None:
    """A completed and an errored run are made again; their first attempts stay on the disk, superseded."""
    scenario = Scenario(runs=lambda task, model, nth: RunScript.errored() if model == "m2" else RunScript())
    world = finished(tmp_path, scenario=scenario)
    world.rerun = (T1M1, T1M2)
    assert preview(world.plan(), world.records).counts.again == 2
    assert world.run()
    world.check()
    assert made(world) == {T1M1: 2, T1M2: 2, T2M1: 1, T2M2: 1}
    assert superseded(world) == {T1M1: [True, False], T1M2: [True, False], T2M1: [False], T2M2: [False]}
    for run in world.kaggle.our_runs():
        world.check_output(run)
        world.check_log(run)
    assert world.calls["create_task"] == 0


def test_each_request_makes_a_run_again_once(tmp_path: Path) -> None:
    """Without the request nothing more is run; the same request after the end is a new one."""
    world = finished(tmp_path)
    world.rerun = (T1M1,)
    assert world.run()
    world.rerun = ()
    assert world.run()
    assert world.calls.total() == 0
    world.rerun = (T1M1,)
    assert world.run()
    assert made(world)[T1M1] == 3
    assert [one.number for one in world.records.of("t1", "m1")] == [1, 2, 3]


@pytest.mark.parametrize("repeated", [True, False], ids=["with the request", "without it"])
def test_a_killed_rerun_is_continued(tmp_path: Path, repeated: bool) -> None:
    """Wherever the process is killed, the next one makes what is left, with the request and without it."""
    point, ended = 0, False
    while not ended:
        point += 1
        world = finished(tmp_path / f"{point}")
        world.rerun = (T1M1, T1M2, T2M1)
        began = world.run(kill_after=point)
        reruns = Reruns.read(world.records)
        ended = began or (reruns.ended and bool(reruns.after))
        if not repeated and reruns.after:
            world.rerun = ()
        if not ended:
            assert world.run()
        world.check()
        assert made(world) == {T1M1: 2, T1M2: 2, T2M1: 2, T2M2: 1}, f"killed at {point}"
    assert point > 20


def test_an_interrupted_rerun_is_continued(tmp_path: Path) -> None:
    """After Ctrl-C, the same request makes only what it has not made yet, and the plan says so."""
    world = World(tmp_path, repeats=2)
    assert world.run()
    world.rerun = tuple(world.plan().planned_runs)
    assert world.run(meanwhile=drain_when(lambda event: isinstance(event, RunScheduled)))
    assert made(world) == {T1M1: 3}
    shown = preview(world.plan(), world.records)
    assert (shown.counts.schedule, shown.counts.again, shown.counts.done) == (1, 1, 1)
    assert shown.warnings == (CONTINUED,)
    assert world.run()
    assert made(world) == {T1M1: 4}
    world.check()


def test_retries_are_counted_from_the_request_on(tmp_path: Path) -> None:
    """Errors of attempts before the request use up none of the retries."""

    def course(task: str, model: str, nth: int) -> RunScript:
        return RunScript.errored() if (task, model) == ("t1", "m1") and nth <= 3 else RunScript()

    world = finished(tmp_path, scenario=Scenario(runs=course), rules=Rules(retry_errored=1))
    assert world.counts == (3, 1, 0, 0)
    world.rerun = (T1M1,)
    assert world.run()
    assert world.counts == (4, 0, 0, 0)
    assert made(world)[T1M1] == 4


def test_what_could_not_be_fetched_may_be_made_again(tmp_path: Path) -> None:
    """A run without an output can be made again and again; what the same request has made whole is left alone."""

    def course(task: str, model: str, nth: int) -> RunScript:
        lost = model == "m1" and nth <= 2
        return RunScript(output_delay=math.inf) if lost else RunScript()

    world = World(tmp_path, Scenario(runs=course), models=2)
    assert world.run()
    assert world.counts == (1, 0, 1, 0)
    world.rerun = (T1M1, T1M2)
    for times, counts in (((2, 2), (1, 0, 1, 0)), ((3, 2), (2, 0, 0, 0)), ((4, 3), (2, 0, 0, 0))):
        assert world.run()
        assert (made(world)[T1M1], made(world)[T1M2]) == times
        assert world.counts == counts


def test_a_run_that_has_not_ended_is_continued(tmp_path: Path) -> None:
    """A run in flight is not scheduled a second time, and the plan says so."""
    world = World(tmp_path, Scenario(runs=lambda task, model, nth: RunScript(running=500.0)))
    assert not world.run(stop_after=60.0)
    assert world.attempts(Phase.FOUND)
    world.rerun = (T1M1,)
    assert preview(world.plan(), world.records).warnings == (CONTINUED,)
    assert world.run()
    assert made(world) == {T1M1: 1}


def test_an_unreadable_request_is_an_error(tmp_path: Path) -> None:
    """A request in the journal that is damaged is not ignored."""
    world = finished(tmp_path)
    world.records.save_value("reruns", "{}")
    with pytest.raises(JournalError, match="The reruns in the journal cannot be read"):
        preview(world.plan(), world.records)
