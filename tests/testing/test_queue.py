"""The queue of a simulated Kaggle, in virtual time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fanbench.errors import BadRequest, NotFound
from fanbench.testing import RunScript, Scenario, SimulatedKaggle, run_in_virtual_time
from fanbench.wire.messages import QueueSettings, RunState, SkipPolicy
from fanbench.wire.queue import Enqueue

ALL = Enqueue(skip=SkipPolicy.ALL)
limits = st.none() | st.integers(1, 4)


def play(scenario: Scenario, story: Callable[[SimulatedKaggle], Awaitable[None]]) -> SimulatedKaggle:
    kaggle = SimulatedKaggle(scenario, models=["a", "b", "c"])
    kaggle.add_task("t")
    run_in_virtual_time(lambda: story(kaggle))
    return kaggle


def most_at_once(kaggle: SimulatedKaggle, model: str = "") -> int:
    runs = [run for run in kaggle.our_runs(model=model) if run.ends > run.begins]
    return max((sum(each.begins <= run.begins < each.ends for each in runs) for run in runs), default=0)


@settings(max_examples=30)
@given(
    limit=limits,
    per_model=limits,
    calls=st.lists(st.lists(st.sampled_from("abc"), min_size=1, unique=True), min_size=1, max_size=5),
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=5),
    cancels=st.booleans(),
)
def test_the_limits_of_the_queue(
    limit: int | None, per_model: int | None, calls: list[list[str]], lengths: list[int], cancels: bool
) -> None:
    """No more runs are at work than the limits say, all come to their turn, and cancelled ones make room."""

    async def story(kaggle: SimulatedKaggle) -> None:
        for models in calls:
            results = await kaggle.schedule_runs("t", models, enqueue=ALL)
            assert all(result.run_scheduled for result in results)
            await anyio.sleep(1.5)
        if cancels:
            await kaggle.cancel_runs(run_ids=[1001, 1003], include_active=True)
        await anyio.sleep(300.0)
        await kaggle.queue_status()

    scenario = Scenario(
        latency=0.5,  # times that have no rounding errors
        queue=QueueSettings(
            enabled=True, max_concurrency=limit, max_concurrency_per_candidate_model=per_model
        ),
        runs=lambda task, model, nth: RunScript(running=float(lengths[nth % len(lengths)])),
    )
    kaggle = play(scenario, story)
    assert limit is None or most_at_once(kaggle) <= limit
    for model in "abc":
        assert per_model is None or most_at_once(kaggle, model) <= per_model
    assert all(run.state(kaggle.now()).terminal for run in kaggle.runs.values())


def test_the_queue_and_its_status() -> None:
    """The status counts what is queued and running, and later how it ended, per model and per benchmark."""

    async def story(kaggle: SimulatedKaggle) -> None:
        kaggle.add_task("u")
        kaggle.benchmarks["me", "board"] = []
        await kaggle.add_tasks("me/board", ["u"])
        await kaggle.schedule_runs("t", ["a", "b"], enqueue=ALL)
        await kaggle.schedule_runs("u", ["b"], enqueue=Enqueue(benchmark="me/board"))
        with pytest.raises(BadRequest):
            await kaggle.schedule_runs("t", ["b"], enqueue=Enqueue(benchmark="me/board"))
        status = await kaggle.queue_status()
        assert {each.state: each.count for each in status.state_counts} == {
            RunState.QUEUED: 2,
            RunState.RUNNING: 1,
        }
        assert status.recent_state_counts == []
        rows = [
            (each.benchmark_model_version_id, each.queued_count, each.running_count)
            for each in status.model_version_stats
        ]
        assert rows == [(1, 0, 1), (2, 2, 0)]
        assert [(each.benchmark_name, each.queued_count) for each in status.benchmark_stats] == [
            ("", 1),
            ("board", 1),
        ]
        await anyio.sleep(60.0)
        status = await kaggle.queue_status()
        assert [(each.state, each.count) for each in status.recent_state_counts] == [(RunState.COMPLETED, 3)]
        await anyio.sleep(86_400.0)
        assert (await kaggle.queue_status()).model_version_stats == []

    play(Scenario(queue=QueueSettings(enabled=True, max_concurrency=1), runs=RunScript(running=9.0)), story)


def test_a_queue_that_is_switched_off_and_on() -> None:
    """Nothing leaves a queue that is switched off; once it is on again, all runs come to their turn."""

    async def story(kaggle: SimulatedKaggle) -> None:
        await kaggle.schedule_runs("t", ["a", "b"], enqueue=ALL)
        await kaggle.schedule_runs("t", ["c"])
        await anyio.sleep(1000.0)
        states = Counter([run.state async for run in kaggle.list_runs("t")])
        assert states == {RunState.QUEUED: 2, RunState.COMPLETED: 1}
        kaggle.change(queue=QueueSettings(enabled=True, max_concurrency=1))
        await anyio.sleep(10.0)
        await kaggle.queue_status()

    kaggle = play(Scenario(queue=QueueSettings(), runs=RunScript(running=3.0, cost=1.0)), story)
    assert all(run.state(kaggle.now()) is RunState.COMPLETED for run in kaggle.runs.values())
    assert most_at_once(kaggle) == 1


def test_an_account_without_the_queue() -> None:
    """Such an account is answered 404 to what it wants to enqueue, and nothing is scheduled."""

    async def story(kaggle: SimulatedKaggle) -> None:
        with pytest.raises(NotFound):
            await kaggle.schedule_runs("t", ["a"], enqueue=ALL)
        with pytest.raises(NotFound):
            await kaggle.queue_status()

    assert not play(Scenario(queue=None, has_queue_status=False), story).runs
