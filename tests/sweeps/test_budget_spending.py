"""How much of a cap a sweep spends, measured on the `Budget` alone with a simulated schedule."""

from __future__ import annotations

import heapq
import math
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import mean

import pytest

from fanbench.sweeps.budget import Budget, PendingCosts
from fanbench.testing import SimulatedKaggle
from fanbench.wire.messages import ModelProxyQuotas, QuotaBalance, RefillPeriod
from tests.operations.conftest import INSTANT
from tests.sweeps.records import MemoryRecords

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    """The figures do not depend on the event loop."""
    return "asyncio"


PRICES = (0.001, 0.002, 0.003, 0.005, 0.008, 0.013, 0.02, 0.03)
CHEAP_FIRST, DEAR_FIRST = PRICES, PRICES[::-1]
MIXED = [tuple(random.Random(seed).sample(PRICES, len(PRICES))) for seed in range(4)]


class Schedule(SimulatedKaggle):
    """Every model on every task, one run at a time for each pair; a run takes longer the more it costs.

    Model `m` costs `prices[m]`, times the factor of the task. Whenever a run ends, its cost is in the quota and is
    reported to the budget, and every task asks for the models that have runs left and none in flight.
    """

    def __init__(
        self,
        prices: Sequence[float],
        *,
        tasks: Sequence[float] = (1.0,),
        records: MemoryRecords | None = None,
        first_run: int = 0,
    ) -> None:
        super().__init__(INSTANT)
        self.prices = {
            (f"t{task}", f"m{model}"): price * factor
            for task, factor in enumerate(tasks)
            for model, price in enumerate(prices)
        }
        self.records = records or MemoryRecords()
        self.spent = 0.0
        #: Above the cap at the worst, leaving out runs on models whose price was unknown when the last run began.
        self.excess = -math.inf
        self.left: Counter[tuple[str, str]] = Counter()
        self._now = 0.0
        self._next_run = first_run

    async def proxy_quotas(self) -> ModelProxyQuotas:
        balance = QuotaBalance(quota_used=self.spent, refill_period=RefillPeriod.MONTHLY)
        return ModelProxyQuotas(quota_balances=[balance])

    async def run(self, cap: float, repeats: int = 1) -> float:
        """Schedule until the budget allows no more. Return what all runs cost."""
        budget = Budget(self, self.records, cap, lambda event: None, clock=lambda: self._now)
        await budget.read()
        self.left = Counter(dict.fromkeys(self.prices, repeats))
        in_flight: dict[str, Counter[str]] = {task: Counter() for task, _ in self.prices}
        ends: list[tuple[float, int, str, str]] = []
        begun: list[tuple[str, str]] = []
        known: set[tuple[str, str]] = set()

        def pending() -> Mapping[str, PendingCosts]:
            found = {}
            for task, runs in in_flight.items():
                if runs:
                    found[task] = PendingCosts()
                    for model in runs:
                        found[task].add(model)
            return found

        while True:
            self._now += 1.0  # Each round asks the quota again.
            for task, runs in in_flight.items():
                wanted = [
                    model
                    for one, model in self.prices
                    if one == task and self.left[one, model] and not runs[model]
                ]
                for model in await budget.allow(task, wanted, pending()):
                    self.left[task, model] -= 1
                    runs[model] += 1
                    begun.append((task, model))
                    self._next_run += 1
                    seconds = 2.0 + 100.0 * self.prices[task, model]
                    heapq.heappush(ends, (self._now + seconds, self._next_run, task, model))
                    total = math.fsum(self.prices[pair] for pair in begun if pair in known)
                    self.excess = max(self.excess, total - cap)
            if not ends:
                return math.fsum(self.prices[pair] for pair in begun)
            ended_at, run_id, task, model = heapq.heappop(ends)
            self._now = max(self._now, ended_at)
            del in_flight[task][model]
            self.spent += self.prices[task, model]
            known.add((task, model))
            budget.finished(task, model, self.prices[task, model], run_id)


def total(schedule: Schedule, repeats: int = 1) -> float:
    return math.fsum(schedule.prices.values()) * repeats


async def share_used(schedule: Schedule, *, cap: float, repeats: int = 1) -> float:
    """Give the schedule a cap, as a share of what all runs cost, and return the share of the cap that it spends."""
    dollars = cap * total(schedule, repeats)
    return await schedule.run(dollars, repeats) / dollars


@pytest.mark.parametrize("prices", [CHEAP_FIRST, DEAR_FIRST, *MIXED])
@pytest.mark.parametrize("repeats", [1, 3])
async def test_only_runs_of_unknown_price_exceed_the_cap(prices: tuple[float, ...], repeats: int) -> None:
    """Runs on models whose price is known when they are scheduled never add up to more than the cap."""
    schedule = Schedule(prices)
    await share_used(schedule, cap=0.5, repeats=repeats)
    assert schedule.excess <= 1e-9


@pytest.mark.parametrize("prices", [CHEAP_FIRST, DEAR_FIRST, *MIXED])
@pytest.mark.parametrize("share", [0.55, 0.75, 0.95])
@pytest.mark.parametrize("tasks", [[1.0], [1.0, 20.0, 0.1, 3.0, 0.3]])
async def test_known_prices_use_up_the_cap_and_no_more(
    prices: tuple[float, ...], share: float, tasks: list[float]
) -> None:
    """A resumed sweep that knows all prices stays within the cap, and leaves less of it than any run would cost."""
    first = Schedule(prices, tasks=tasks)
    already = await first.run(1e9)
    later = Schedule(prices, tasks=tasks, records=first.records, first_run=len(first.prices))
    later.spent = first.spent
    cap = already + share * total(later)
    spent = already + await later.run(cap)
    cheapest_left = min(price for pair, price in later.prices.items() if later.left[pair])
    assert 0 <= cap - spent < cheapest_left


def log_normal(seed: int, number: int) -> list[float]:
    """Prices as they are in practice: most are small, and a few make up half of the sum."""
    dice = random.Random(seed)
    return [0.01 * math.exp(dice.gauss(0, 1)) for _ in range(number)]


async def test_many_models_exceed_half_the_cost_by_little() -> None:
    """With a cap of half the cost, the expensive models are known only afterwards, yet the mean excess is small."""
    shares = [await share_used(Schedule(log_normal(seed, 60)), cap=0.5) for seed in range(20)]
    assert max(shares) < 1.25
    assert mean(max(0.0, share - 1) for share in shares) < 0.025
    assert min(shares) > 0.7


async def test_known_models_leave_enough_for_unknown_ones() -> None:
    """With repeats, the models that are known early do not use up what the others need."""
    for seed in range(20):
        assert 0.85 < await share_used(Schedule(log_normal(seed, 30)), cap=0.5, repeats=3) < 1.15


async def test_many_tasks_of_unknown_price_exceed_the_cap_by_little() -> None:
    """The first run of a task is as unknown as the first on another model."""
    for seed in range(6):
        assert 0.95 < await share_used(Schedule([0.01], tasks=log_normal(seed, 60)), cap=0.5) < 1.2


@pytest.mark.parametrize("seed", range(6))
async def test_many_tasks_share_a_small_cap(seed: int) -> None:
    """A small cap is used up, and exceeded by less than one run costs, even if cheap models come first."""
    schedule = Schedule(sorted(log_normal(seed, 30)), tasks=log_normal(100 + seed, 20))
    cap = 0.05 * total(schedule)
    spent = await schedule.run(cap)
    assert spent > 0.95 * cap
    assert spent - cap < max(schedule.prices.values())
