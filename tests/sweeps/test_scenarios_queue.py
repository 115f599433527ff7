"""Sweeps through the server's queue, and without it where there is none, in virtual time."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fanbench.operations.queue import CannotEnqueue, NotAttributed, NotEnqueued, QueueRead
from fanbench.sweeps.decide import Stage
from fanbench.sweeps.events import RunSkipped
from fanbench.sweeps.plan import PlannedBenchmark
from fanbench.sweeps.spec import Rules
from fanbench.testing import Fault, RunScript, Scenario
from fanbench.wire.messages import QueueSettings
from tests.sweeps.world import World

pytestmark = pytest.mark.usefixtures("no_jitter", "quick_disk")

AUTO = Rules(enqueue="auto")
SLOW = RunScript(running=40.0)


def most_at_once(world: World) -> int:
    """The most runs of one task and model that were in progress at the same time."""
    runs = world.kaggle.our_runs()
    return max(
        sum(
            (two.task, two.model) == (one.task, one.model) and two.begins <= one.begins < two.ends
            for two in runs
        )
        for one in runs
    )


def test_repeats_are_in_flight_together(tmp_path: Path) -> None:
    """By the queue, a task needs one call per repeat, nothing is skipped, and the repeats take no longer than one."""
    world = World(tmp_path, Scenario(runs=SLOW), tasks=2, models=4, repeats=3, rules=AUTO)
    assert world.run()
    world.check_all_done()
    assert world.calls["schedule_runs"] == 6
    assert world.of(RunSkipped) == []
    assert most_at_once(world) == 3
    assert world.seconds < 60.0
    world = World(tmp_path / "without", Scenario(runs=SLOW), tasks=2, models=4, repeats=3)
    assert world.run()
    world.check_all_done()
    assert most_at_once(world) == 1
    assert world.seconds > 120.0


def test_many_models_go_in_several_calls(tmp_path: Path) -> None:
    """A call takes at most a hundred models."""
    world = World(tmp_path, models=250, rules=AUTO)
    assert world.run()
    assert [len(models) for models in world.scheduled()] == [100, 100, 50]
    world.check_all_done()


@pytest.mark.parametrize(
    "changes",
    [
        {"queue": None},
        {"queue": QueueSettings()},
        {"queue": None, "has_queue_status": False},
        {"has_queue_status": False},
        {"queue": None, "faults": (Fault("queue_status", 501, times=99),)},
        {"queue": None, "faults": (Fault("queue_status", 500, times=99),)},
        {"faults": (Fault("queue_status", 404, message="Unknown call /v1/x", times=99),)},
    ],
)
def test_without_a_queue_all_is_as_before(tmp_path: Path, changes: dict[str, object]) -> None:
    """Where the account or the server has no queue, that is said once, and the sweep is one without it."""
    world = World(tmp_path, Scenario(runs=SLOW), tasks=3, models=3, repeats=2, rules=AUTO)
    world.serve(**changes)
    assert world.run()
    world.check_all_done()
    assert len(world.of(NotEnqueued)) == 1
    before = World(tmp_path / "before", Scenario(runs=SLOW), tasks=3, models=3, repeats=2)
    assert before.run()
    # Of several tasks at once, each may have tried the queue once.
    assert world.calls["schedule_runs"] - before.calls["schedule_runs"] in (0, 3)
    assert world.calls["queue_status"] == 1
    assert before.calls["queue_status"] == 0


def in_benchmark(world: World, *mapped: str) -> World:
    """The world with its tasks on the server, and a benchmark `me/bench` that has those that are mapped."""
    world.texts.clear()
    for task in world.tasks:
        world.kaggle.add_task(task)
    world.kaggle.benchmarks["me", "bench"] = [world.kaggle.tasks[task].version_slug(1) for task in mapped]
    world.benchmark = PlannedBenchmark("me/bench", world.tasks, is_own=True)
    return world


def test_runs_are_queued_for_the_benchmark(tmp_path: Path) -> None:
    """Those of tasks that the server does not have in the benchmark are queued without it, which is said of each."""
    world = in_benchmark(World(tmp_path, tasks=2, models=2, repeats=3, rules=AUTO), "t1")
    assert world.run()
    world.check_all_done()
    assert {(run.task, run.benchmark) for run in world.kaggle.our_runs()} == {("t1", "me/bench"), ("t2", "")}
    (event,) = world.of(NotAttributed)
    assert (event.task, event.benchmark) == ("t2", "me/bench")
    assert world.of(NotEnqueued) == []
    assert world.calls["schedule_runs"] == 7


@pytest.mark.parametrize("status", [400, 403, 404, 501])
def test_a_benchmark_that_cannot_be_edited(tmp_path: Path, status: int) -> None:
    """A refusal does not switch the queue off: the runs are put into it without the benchmark."""
    faults = (Fault("schedule_runs", status, times=1),)
    world = in_benchmark(World(tmp_path, Scenario(faults=faults), tasks=1, repeats=2, rules=AUTO), "t1")
    assert world.run()
    world.check_all_done()
    assert (len(world.of(NotAttributed)), world.of(NotEnqueued)) == (1, [])
    assert {run.benchmark for run in world.kaggle.our_runs()} == {""}


def test_a_benchmark_without_a_queue(tmp_path: Path) -> None:
    """Where the account has no queue, nothing is said of the benchmark."""
    world = in_benchmark(World(tmp_path, Scenario(queue=None), repeats=2, rules=AUTO), "t1")
    assert world.run()
    world.check_all_done()
    assert world.of(NotAttributed) == []
    assert len(world.of(NotEnqueued)) == 1


def test_an_account_must_have_the_queue(tmp_path: Path) -> None:
    """With `always`, nothing is scheduled without the queue, and the next invocation may do without it at once."""
    world = World(tmp_path, Scenario(queue=None), tasks=3, models=4, repeats=2, rules=Rules(enqueue="always"))
    assert world.run()
    assert world.calls["schedule_runs"] == 3
    assert world.counts == (0, 0, 24, 0)
    assert all("Use --enqueue auto" in event.error for event in world.missing())
    assert not world.kaggle.runs
    world.rules = AUTO
    assert world.run()
    assert world.seconds < 30.0
    world.check_all_done()


@pytest.mark.parametrize("until", ["push", "collect"])
@pytest.mark.parametrize("changes", [{"queue": QueueSettings()}, {"has_queue_status": False}])
def test_a_server_must_have_the_queue(tmp_path: Path, changes: dict[str, object], until: Stage) -> None:
    """With `always`, a sweep ends before anything is pushed if the server has no queue, or has switched it off."""
    world = World(tmp_path, tasks=2, rules=Rules(enqueue="always"))
    world.serve(**changes)
    with pytest.raises(CannotEnqueue, match="cannot be put into the server's queue"):
        world.run(until=until)
    assert set(world.calls) == {"queue_status"}
    world.serve(queue=QueueSettings(enabled=True), has_queue_status=True)
    assert world.run()
    assert world.seconds < 30.0
    world.check_all_done()


def test_a_model_that_does_not_exist(tmp_path: Path) -> None:
    """A 404 because of a model is not taken for a missing queue: the other models are put into it."""
    unknown = frozenset({"m2"})
    world = World(tmp_path, Scenario(unknown_models=unknown), tasks=2, models=3, repeats=2, rules=AUTO)
    assert world.run()
    assert world.of(NotEnqueued) == []
    assert {event.planned_run.model for event in world.missing()} == {"m2"}
    assert world.counts == (8, 0, 4, 0)


@pytest.mark.parametrize("took_effect", [True, False])
@pytest.mark.parametrize("answers_run_ids", [True, False])
def test_a_lost_answer(tmp_path: Path, took_effect: bool, answers_run_ids: bool) -> None:
    """What a call without an answer has put into the queue is found in lists, and is not put there twice."""
    faults = (Fault("schedule_runs", first=2, times=2, took_effect=took_effect),)
    scenario = Scenario(runs=SLOW, faults=faults, answers_run_ids=answers_run_ids)
    world = World(tmp_path, scenario, tasks=2, models=3, repeats=3, rules=AUTO)
    assert world.run()
    world.check_all_done()
    assert len(world.kaggle.our_runs()) == 18


@settings(max_examples=20, deadline=None)
@given(
    data=st.data(),
    limit=st.none() | st.integers(1, 3),
    kills=st.lists(st.integers(1, 60), max_size=3),
)
def test_a_sweep_that_is_killed_anywhere(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, limit: int | None, kills: list[int]
) -> None:
    """Whenever the process dies, and whichever answers are lost, each planned run is made once."""
    faults = data.draw(
        st.lists(
            st.builds(
                Fault,
                st.sampled_from(["schedule_runs", "list_runs", "queue_status"]),
                first=st.integers(1, 3),
                took_effect=st.booleans(),
            ),
            max_size=3,
        )
    )
    settings_ = QueueSettings(enabled=True, max_concurrency=limit, max_concurrency_per_candidate_model=limit)
    scenario = Scenario(
        runs=RunScript(running=7.0),
        queue=data.draw(st.sampled_from([settings_, None])),
        list_lag=data.draw(st.sampled_from([0.0, 5.0])),
        answers_run_ids=data.draw(st.booleans()),
        faults=tuple(faults),
    )
    world = World(tmp_path_factory.mktemp("sweep"), scenario, tasks=2, models=2, repeats=2, rules=AUTO)
    for number in kills:
        world.run(kill_after=number)
        world.check()
    assert world.run()
    world.check_all_done()
    runs = Counter((run.task, run.model) for run in world.kaggle.our_runs())
    assert set(runs.values()) == {2}


def test_the_queue_is_read_now_and_then(tmp_path: Path) -> None:
    """While runs are in the queue, it is read once per poll interval, for the time that is left."""
    queue = QueueSettings(enabled=True, max_concurrency=2)
    world = World(tmp_path, Scenario(runs=SLOW, queue=queue), models=8, rules=AUTO)
    assert world.run()
    world.check_all_done()
    reads = world.said_of(QueueRead)
    assert len(reads) == 1 + int(world.seconds // 60)
    assert [read.queued for _, read in reads][:2] == [0, 4]
    assert reads[-1][1].ended > reads[0][1].ended
