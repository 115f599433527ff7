"""`--max-cost` through the engine, with expensive and cheap models, in virtual time."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from fanbench.sweeps.budget import Budget
from fanbench.sweeps.events import Draining, DrainReason, LogSaved, OutputSaved, TaskPreparationFailed
from fanbench.sweeps.spec import Rules
from fanbench.testing import Fault, RunScript, Scenario
from fanbench.testing.state import EPOCH
from fanbench.wire.messages import CreationState
from tests.sweeps.world import World, names

pytestmark = pytest.mark.usefixtures("no_jitter", "quick_disk")

PRICES = (0.001, 0.002, 0.003, 0.005, 0.008, 0.013, 0.02, 0.03)
CHEAP_FIRST, DEAR_FIRST = PRICES, PRICES[::-1]
MIXED = tuple(random.Random(0).sample(PRICES, len(PRICES)))


class Shop(World):
    """Models cost `prices`, times the factor of the task, and runs take longer the more they cost.

    The cap is a `share` of what all runs cost.
    """

    def __init__(
        self,
        folder: Path,
        prices: Sequence[float],
        *,
        tasks: Sequence[float] = (1.0,),
        share: float,
        repeats: int = 1,
        durable: bool = False,
    ) -> None:
        self.prices = {
            (task, model): price * times
            for task, times in zip(names("t", len(tasks)), tasks, strict=True)
            for model, price in zip(names("m", len(prices)), prices, strict=True)
        }
        super().__init__(
            folder,
            Scenario(runs=self._course),
            tasks=len(tasks),
            models=len(prices),
            repeats=repeats,
            durable=durable,
        )
        self.pay(share)

    def pay(self, share: float) -> None:
        """Set the cap to a share of what all planned runs cost."""
        self.cap = math.fsum(self.prices.values()) * self.repeats * share
        self.rules = Rules(max_cost=self.cap)

    def _course(self, task: str, model: str, nth: int) -> RunScript:
        cost = self.prices[task, model]
        return RunScript(cost=cost, running=2 + 100 * cost)

    @property
    def spent(self) -> float:
        return math.fsum(self.prices[run.task, run.model] for run in self.kaggle.our_runs())

    @property
    def cheapest_left(self) -> float:
        """The lowest cost of a planned run that was not scheduled."""
        begun = Counter((run.task, run.model) for run in self.kaggle.our_runs())
        return min(price for pair, price in self.prices.items() if begun[pair] < self.repeats)

    def excess(self) -> float:
        """Return the worst excess over the cap, leaving out runs on models whose price was unknown at the time."""
        known_since = {
            (event.planned_run.task, event.planned_run.model): at
            for at, event in reversed(self.said_of(OutputSaved))
        }
        begun = [
            (round(one.intended_at - EPOCH, 3), (one.planned_run.task, one.planned_run.model))
            for one in self.attempts()
            if one.run_id is not None
        ]
        known = [
            [self.prices[pair] for at, pair in begun if at <= now and known_since.get(pair, math.inf) <= now]
            for now, _ in begun
        ]
        return max(map(math.fsum, known)) - self.cap


@pytest.mark.parametrize("prices", [CHEAP_FIRST, DEAR_FIRST, MIXED])
@pytest.mark.parametrize("repeats", [1, 3])
def test_only_runs_of_unknown_price_exceed_the_cap(
    tmp_path: Path, prices: tuple[float, ...], repeats: int
) -> None:
    """Runs of known price never add up to more than the cap."""
    shop = Shop(tmp_path, prices, share=0.5, repeats=repeats)
    assert shop.run()
    shop.check()
    assert shop.excess() <= 1e-9


@pytest.mark.parametrize(("prices", "share"), [(CHEAP_FIRST, 0.55), (DEAR_FIRST, 0.75), (MIXED, 0.95)])
@pytest.mark.parametrize("tasks", [[1.0], [1.0, 20.0, 0.1, 3.0, 0.3]])
def test_known_prices_use_up_the_cap_and_no_more(
    tmp_path: Path, prices: tuple[float, ...], share: float, tasks: list[float]
) -> None:
    """A resumed sweep stays within the cap, and leaves less of it than any run of any task would cost."""
    shop = Shop(tmp_path, prices, tasks=tasks, share=100.0, durable=True)
    assert shop.run()
    shop.repeats = 2
    shop.pay(share)
    assert shop.run()
    shop.check()
    assert shop.ended.stopped == DrainReason.BUDGET
    assert 0 <= shop.cap - shop.spent < shop.cheapest_left


# --- Unknown prices -------------------------------------------------------------------------------------------


def log_normal(seed: int, number: int) -> list[float]:
    """Return prices as they are in practice: most are small, and a few make up half of the sum."""
    dice = random.Random(seed)
    return [0.01 * math.exp(dice.gauss(0, 1)) for _ in range(number)]


def used(shop: Shop) -> float:
    """Run the sweep and return the share of the cap that it spent."""
    assert shop.run()
    shop.check()
    return shop.spent / shop.cap


def test_a_cap_of_half_the_cost(tmp_path: Path) -> None:
    """Models, repeats and tasks of unknown price use up the cap, and exceed it by little.

    See `test_budget_spending` for how much, over many prices.
    """
    assert 0.7 < used(Shop(tmp_path / "models", log_normal(0, 60), share=0.5)) < 1.25
    assert 0.85 < used(Shop(tmp_path / "repeats", log_normal(0, 30), share=0.5, repeats=3)) < 1.15
    assert 0.95 < used(Shop(tmp_path / "tasks", [0.01], tasks=log_normal(0, 60), share=0.5)) < 1.2


def test_many_tasks_share_a_small_cap(tmp_path: Path) -> None:
    """A small cap is used up, and hardly exceeded, even if the first models of all tasks are the cheap ones."""
    shop = Shop(tmp_path, sorted(log_normal(1, 30)), tasks=log_normal(101, 20), share=0.05)
    assert 0.95 < used(shop) < 1.25


# --- Turns --------------------------------------------------------------------------------------------------


@pytest.fixture
def questions(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The tasks that asked the budget, in order."""
    asked: list[str] = []
    allow = Budget.allow

    async def counted(budget: Budget, task: str, *about: Any) -> list[str]:
        asked.append(task)
        return await allow(budget, task, *about)

    monkeypatch.setattr(Budget, "allow", counted)
    return asked


@pytest.mark.parametrize("tasks", [10, 20])
def test_decisions_are_linear_in_the_runs(tmp_path: Path, questions: list[str], tasks: int) -> None:
    """The number of calls to the budget is linear in the runs, however many tasks wait."""
    shop = Shop(tmp_path, log_normal(1, 20), tasks=log_normal(2, tasks), share=0.3)
    assert shop.run()
    assert shop.ended.stopped == DrainReason.BUDGET
    assert len(questions) <= 3 * len(shop.kaggle.our_runs()) + 5 * tasks


def test_the_sweep_ends_once_nothing_fits(tmp_path: Path) -> None:
    """The sweep ends after two readings of the quota once nothing is in flight and nothing fits."""
    shop = Shop(tmp_path, log_normal(1, 10), tasks=log_normal(2, 10), share=0.5)
    assert shop.run()
    ((at, event),) = shop.said_of(Draining)
    assert event.reason == DrainReason.BUDGET
    assert event.in_flight == 0
    assert 0 <= at - max(shop.times(LogSaved)) <= 0.25
    assert at == shop.seconds


def known(folder: Path, costs: Sequence[float], cap: float) -> World:
    """Return a world in which the cost of each task is known, all tasks are changed, and the cap is raised."""
    by_task = dict(zip(names("t", len(costs)), costs, strict=True))
    scenario = Scenario(runs=lambda task, model, nth: RunScript(cost=by_task[task]))
    world = World(folder, scenario, tasks=len(costs), rules=Rules(max_cost=1000.0), durable=True)
    assert world.run()
    for task in world.tasks:
        world.edit(task)
    world.rules = Rules(max_cost=math.fsum(costs) + cap)
    return world


def begun_soon(world: World) -> list[str]:
    """Return the tasks of which a run was scheduled in the first 100 s after the change."""
    assert world.run()
    assert world.seconds > 500
    runs = [run for run in world.kaggle.our_runs() if run.version == 2]
    return [run.task for run in runs if run.scheduled < runs[0].scheduled + 100]


def test_freed_money_is_used_at_once(tmp_path: Path) -> None:
    """Money that a cheap run frees is used at once, however long other runs take."""
    world = known(tmp_path, [10.0] + [1.0] * 20, cap=20.5)

    def course(task: str, model: str, nth: int) -> RunScript:
        return RunScript(cost=0.0, running=5.0) if task == "t1" else RunScript(cost=1.0, running=500.0)

    world.serve(runs=course, creation=lambda task: 0.0 if task == "t1" else 3.0)
    assert len(begun_soon(world)) == 21


def test_a_long_run_does_not_block_runs_that_fit(tmp_path: Path) -> None:
    """Before only a long run is in flight, each waiting task has had a turn."""
    world = known(tmp_path, [1.0] * 8 + [0.05] * 2, cap=2.02)
    late = {"t1": 0.0, "t2": 0.0, "t9": 10.0, "t10": 10.0}

    def course(task: str, model: str, nth: int) -> RunScript:
        return RunScript(cost=0.9, running=20.0) if task == "t2" else RunScript(cost=0.05, running=500.0)

    world.serve(runs=course, creation=lambda task: late.get(task, 3.0))
    assert sorted(begun_soon(world)) == ["t1", "t10", "t2", "t9"]


def test_occasional_failed_readings_do_not_end_the_sweep(tmp_path: Path) -> None:
    """If run files have no costs, occasional failed readings of the quota do not end the sweep."""
    faults = tuple(Fault("proxy_quotas", 500, first=first) for first in range(2, 20, 2))
    scenario = Scenario(faults=faults, runs=RunScript(cost=None))
    world = World(tmp_path, scenario, tasks=2, repeats=4, rules=Rules(max_cost=3.5))
    assert world.run()
    assert world.counts == (8, 0, 0, 0)


def two_tasks(folder: Path, **facts: Any) -> World:
    """Return a world of a task that can afford one run, and a second task that is ready much later."""

    def course(task: str, model: str, nth: int) -> RunScript:
        return RunScript(cost=1.0 if task == "t1" else 0.1)

    creation = {"t1": 0.0, "t2": 50.0}
    scenario = Scenario(runs=course, creation=creation.__getitem__)
    world = World(folder, scenario, tasks=2, models=4, rules=Rules(max_cost=1.75))
    world.kaggle.add_task("t1")
    del world.texts["t1"]
    world.serve(**facts)
    return world


def test_a_task_that_comes_late_has_its_turn(tmp_path: Path) -> None:
    """A task that is ready late gets its runs, even if nothing is in flight and no run of the other task fits."""
    world = two_tasks(tmp_path)
    assert world.run()
    assert [run.task for run in world.kaggle.our_runs()] == ["t1", "t2", "t2", "t2", "t2"]
    assert world.ended.stopped == DrainReason.BUDGET


def test_a_task_that_never_comes_is_not_waited_for(tmp_path: Path) -> None:
    """Once the late task has failed, the sweep ends."""
    world = two_tasks(tmp_path, creation_end=CreationState.ERRORED)
    assert world.run(stop_after=1000.0)
    assert [run.task for run in world.kaggle.our_runs()] == ["t1"]
    assert world.ended.stopped == DrainReason.BUDGET
    assert world.times(Draining)[0] - world.times(TaskPreparationFailed)[0] <= 0.25


def test_a_blocked_task_has_its_turn(tmp_path: Path) -> None:
    """A task blocked by another run gets its turn when that run ends, or is abandoned after the timeout."""
    for timeout, runs in (None, 5), (100.0, 2):
        world = two_tasks(tmp_path / str(runs), one_run_of_any_version=True)
        world.kaggle.add_task("t2")
        for model in world.models[1:]:
            world.kaggle.add_run("t2", model, RunScript(running=500.0))
        world.rules = Rules(max_cost=1.75, timeout=timeout)
        assert world.run(stop_after=2000.0)
        assert len(world.kaggle.our_runs()) == runs
        assert world.ended.stopped == DrainReason.BUDGET


@pytest.mark.parametrize("tasks", [1, 2])
def test_a_stage_that_collects_nothing(tmp_path: Path, tasks: int) -> None:
    """A stage without downloads ends after one run, whose cost it cannot know, and the next stage continues."""
    scenario = Scenario(runs=RunScript(cost=1.0))
    world = World(tmp_path, scenario, tasks=tasks, models=4, rules=Rules(max_cost=3.5))
    assert world.run(until="schedule", stop_after=1000.0)
    assert len(world.kaggle.our_runs()) == 1
    assert world.run()
    world.check()
    assert len(world.kaggle.our_runs()) == 3
