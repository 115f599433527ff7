"""What a sweep may spend: the rules, and the budget that applies them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from fanbench import FanbenchError, Forbidden, JournalError, ServerFault, Unauthorized
from fanbench.sweeps.budget import Budget, PendingCosts, granted, run_cost, scouts
from fanbench.sweeps.events import BudgetRead, SweepEvent
from fanbench.testing import SimulatedKaggle
from fanbench.wire.messages import ModelProxyQuotas, QuotaBalance, RefillPeriod, TaskQuota
from tests.operations.conftest import INSTANT, simulated
from tests.results import build
from tests.sweeps.records import MemoryRecords

pytestmark = pytest.mark.anyio

# --- The rule -----------------------------------------------------------------------------------------------

#: The cost of each wanted run; None is unknown.
Prices = list[float | None]
#: cap, spent, reserved, costs, runs of the task in flight, silent → granted
TABLE: list[tuple[float, float | None, float, Prices, int, bool, list[int]]] = [
    # Unknown spending: nothing.
    (10, None, 0, [1.0] * 5, 0, False, []),
    (10, None, 0, [None] * 5, 0, True, []),
    # Known costs: as many as stay within the cap, to the last cent.
    (10, 0, 0, [1.0] * 5, 0, False, [0, 1, 2, 3, 4]),
    (10, 0, 0, [1.0] * 5, 3, False, [0, 1, 2, 3, 4]),
    (10, 6, 2, [1.0] * 5, 3, False, [0, 1]),
    (10, 6, 3.5, [1.0] * 5, 3, False, []),
    (10, 11, 0, [1.0] * 5, 0, False, []),
    (10, 0, 0, [11.0] * 5, 0, False, []),
    (0.3, 0, 0, [0.1] * 5, 0, False, [0, 1, 2]),
    (0.3, 0.1, 0.1, [0.1] * 5, 0, False, [0]),
    # Different costs: the first go first, and one that is too expensive does not block the others.
    (10, 0, 0, [6.0, 5.0, 3.0, 2.0, 1.0], 0, False, [0, 2, 4]),
    (10, 5, 0, [6.0, 5.0, 1.0], 0, False, [1]),
    (10, 5, 0.5, [6.0, 5.0, 1.0], 0, False, [2]),
    # Known to cost nothing.
    (10, 10, 0, [0.0, 1.0, 0.0], 0, False, [0, 2]),
    (10, 10.01, 0, [0.0] * 5, 0, False, []),
    (0, 0, 0, [0.0] * 2, 0, False, [0, 1]),
    # Unknown costs: a scout, and nothing until it has ended.
    (10, 9, 0, [None] * 5, 0, False, [0]),
    (10, 9, 0, [None] * 5, 1, False, []),
    (10, 9, 1, [None] * 5, 0, False, []),
    (0, 0, 0, [None] * 5, 0, False, []),
    # The scout did not report its cost: the quota alone decides.
    (10, 9, 0, [None] * 3, 1, True, [0, 1, 2]),
    (10, 9, 1, [None] * 3, 1, True, []),
    # Nothing is wanted.
    (10, 0, 0, [], 0, False, []),
    (10, 0, 0, [], 0, True, []),
]


@pytest.mark.parametrize(("cap", "spent", "reserved", "costs", "in_flight", "silent", "answer"), TABLE)
def test_the_rule_follows_its_table(
    cap: float,
    spent: float | None,
    reserved: float,
    costs: Prices,
    in_flight: int,
    silent: bool,
    answer: list[int],
) -> None:
    """Each row of the table of `granted` holds."""
    assert granted(cap, spent, reserved, costs, in_flight=in_flight, silent=silent) == answer


dollars = st.floats(0, 1000)
prices = st.lists(st.none() | dollars | st.floats(0, 0.01), max_size=20)
knowledge = st.fixed_dictionaries(
    {
        "spent": st.none() | dollars,
        "reserved": dollars,
        "costs": prices,
        "in_flight": st.integers(0, 3),
        "silent": st.booleans(),
    }
)


@given(dollars, knowledge)
def test_the_cap_is_never_exceeded(cap: float, known: Mapping[str, Any]) -> None:
    """What is granted fits to the nanodollar, and nothing else would fit beside it."""
    costs = known["costs"]
    answer = granted(cap, **known)
    assert answer == sorted(set(answer))
    assert set(answer) <= set(range(len(costs)))
    if known["spent"] is None:
        assert not answer
        return
    total = math.fsum([known["spent"], known["reserved"], *(costs[index] or 0.0 for index in answer)])
    slack = (4 + len(costs)) * 1e-9
    assert not answer or total <= cap + slack
    refused = [cost for index, cost in enumerate(costs) if index not in answer and cost is not None]
    assert all(total + cost > cap - slack for cost in refused)


@given(dollars, knowledge)
def test_one_scout_at_a_time(cap: float, known: Mapping[str, Any]) -> None:
    """At most one run of unknown cost is in flight, unless no cost will ever be known."""
    unknown = [index for index in granted(cap, **known) if known["costs"][index] is None]
    assert known["silent"] or len(unknown) <= (not known["in_flight"])


def chosen(cap: float, known: Mapping[str, Any]) -> list[bool]:
    """Return for each wanted run whether it is granted."""
    answer = granted(cap, **known)
    return [index in answer for index in range(len(known["costs"]))]


@given(dollars, dollars, knowledge)
def test_a_higher_cap_never_grants_less(one: float, other: float, known: Mapping[str, Any]) -> None:
    """The first run for which a higher cap makes a difference is granted."""
    assert chosen(min(one, other), known) <= chosen(max(one, other), known)


@given(dollars, dollars, dollars, knowledge)
def test_more_spent_never_grants_more(cap: float, one: float, other: float, known: Mapping[str, Any]) -> None:
    """More money spent or reserved never grants more runs."""
    for name in ("spent", "reserved"):
        less, more = ({**known, name: value} for value in sorted((one, other)))
        assert chosen(cap, more) <= chosen(cap, less)


#: ended, under way, left, doubted, highest → how many more
FEW: list[tuple[int, int, float, float, float, float]] = [
    # As many at a time as have ended, if what is left pays for them, even if those under way cost twice as much.
    (1, 0, 2.0, 0.0, 2.0, 1),
    (3, 0, 9.0, 0.0, 2.0, 3),
    (3, 2, 9.0, 4.0, 2.0, 1),
    (3, 0, 5.0, 0.0, 2.0, 2.5),
    (3, 0, 5.0, 2.0, 2.0, 1.5),
    (3, 2, 5.0, 4.0, 2.0, 0.5),
    (3, 2, 3.0, 4.0, 2.0, -0.5),
    # One in any case, even if money is short.
    (3, 0, 5.0, 14.0, 2.0, 1),
    # More if five times the cost can be paid, including those under way, but at most five times as many.
    (3, 0, 35.0, 0.0, 2.0, 3.5),
    (3, 0, 59.0, 6.0, 2.0, 3.5),
    (3, 3, 74.0, 6.0, 2.0, 5),
    (3, 3, 500.0, 6.0, 2.0, 12),
    (1, 0, 1e9, 0.0, 2.0, 5),
    # Free runs tell nothing about others.
    (3, 1, 1e9, 0.0, 0.0, 2),
]


@pytest.mark.parametrize(("ended", "under_way", "left", "doubted", "highest", "more"), FEW)
def test_few_runs_of_unknown_cost_are_scheduled(
    ended: int, under_way: int, left: float, doubted: float, highest: float, more: float
) -> None:
    """The more runs have ended and the more money is left, the more runs of unknown cost are scheduled."""
    assert scouts(ended, under_way, left, doubted, highest) == pytest.approx(more)


# --- With a server ------------------------------------------------------------------------------------------


class Server(SimulatedKaggle):
    """A server whose quota has `used` and `others`, or raises `failure`, after `slow` seconds."""

    def __init__(self, used: float = 0.0, period: RefillPeriod = RefillPeriod.MONTHLY) -> None:
        super().__init__(INSTANT)
        self.used = used
        self.period = period
        self.others: list[QuotaBalance] = []
        self.failure: FanbenchError | None = None
        self.slow = 0.0

    async def proxy_quotas(self) -> ModelProxyQuotas:
        await super().proxy_quotas()
        await anyio.sleep(self.slow)
        if self.failure is not None:
            raise self.failure
        balance = QuotaBalance(quota_used=self.used, refill_period=self.period)
        return ModelProxyQuotas(quota_balances=[*self.others, balance])

    @property
    def asked(self) -> int:
        return self.calls["proxy_quotas"]


def unpaid(runs: Mapping[str, int]) -> PendingCosts:
    """Return pending costs for these runs by model."""
    made = PendingCosts()
    for model, number in runs.items():
        made.add(model, number)
    return made


class Desk:
    """A budget whose clock advances by a second at each use, so that each reading is new.

    Runs without a model are on the model `m`.
    """

    def __init__(self, server: Server, cap: float = 10.0, records: MemoryRecords | None = None) -> None:
        self.events: list[SweepEvent] = []
        self.records = records or MemoryRecords()
        self._seconds = 0.0
        self.budget = Budget(server, self.records, cap, self.events.append, clock=self._later)

    def _later(self) -> float:
        self._seconds += 1.0
        return self._seconds

    def finished(self, task: str, cost: float | None, run_id: int | None = None, model: str = "m") -> None:
        self.budget.finished(task, model, cost, run_id)

    async def allow(self, task: str = "t", wanted: int = 100, **in_flight: int) -> int:
        """Return how many runs are allowed; `in_flight` is by task."""
        under_way = {slug: unpaid({"m": runs}) for slug, runs in in_flight.items()}
        return len(await self.budget.allow(task, ["m"] * wanted, under_way))

    async def allow_of(self, models: str, **in_flight: str) -> str:
        """Return which models of the task `t` are allowed, one letter each; `in_flight` is by task, likewise."""
        under_way = {task: unpaid(Counter(runs)) for task, runs in in_flight.items()}
        return "".join(await self.budget.allow("t", models, under_way))

    @property
    def last(self) -> BudgetRead:
        event = self.events[-1]
        assert isinstance(event, BudgetRead)
        return event


async def begun(server: Server, cap: float = 10.0, costs: Iterable[float | None] = ()) -> Desk:
    desk = Desk(server, cap)
    await desk.budget.read()
    for cost in costs:
        desk.finished("t", cost)
    return desk


async def test_a_scout_goes_first() -> None:
    """One run of unknown cost is scheduled first, and then as many runs as its cost allows."""
    server = Server(used=3.0)
    desk = await begun(server)
    assert await desk.allow() == 1
    assert "unknown until its first one has ended" in desk.budget.why
    assert await desk.allow(t=1) == 0
    assert desk.last == BudgetRead(10.0, spent=0.0, reserved=None, unknown=1)
    assert await desk.allow("other", t=1) == 0
    server.used = 5.0
    desk.finished("t", 2.0)
    assert await desk.allow(other=1) == 3
    assert desk.last == BudgetRead(10.0, spent=2.0, reserved=None, unknown=1)
    assert "a run of t on m costs about $2.0000" in desk.budget.why
    assert await desk.allow(wanted=1, t=2, other=1) == 1
    assert desk.last == BudgetRead(10.0, spent=2.0, reserved=4.0, unknown=1)
    assert desk.budget.why == ""


async def test_scouts_of_unknown_tasks_must_fit_the_highest_cost() -> None:
    """Runs of unknown tasks go if the highest known cost would fit, as many at a time as tasks have ended."""
    desk = await begun(Server(), cap=18.0, costs=[2.0])
    assert await desk.allow("a") == 1
    assert await desk.allow("a", a=1) == 0
    assert await desk.allow("b", a=1) == 0
    desk.finished("a", 1.0)
    assert await desk.allow("b", t=1) == 1
    assert await desk.allow("c", b=1) == 1
    assert await desk.allow("d", b=1, c=1) == 0
    assert await desk.allow("c", b=1, t=4) == 1
    assert await desk.allow("c", b=1, t=5) == 0
    assert await desk.allow(b=1, c=1) == 5
    assert desk.last == BudgetRead(18.0, spent=3.0, reserved=None, unknown=2)
    ample = await begun(Server(), cap=34.0, costs=[2.0])
    assert await ample.allow("c", a=1, b=1) == 1
    assert await ample.allow("d", a=1, b=1, c=1) == 0
    expensive = await begun(Server(), cap=8.0, costs=[7.5])
    assert await expensive.allow("a", t=1) == 0
    assert await expensive.allow("a") == 1


async def priced(cap: float, **costs: float) -> Desk:
    """Return a desk at which a run of `t` on each of these models has finished."""
    desk = await begun(Server(), cap=cap)
    for model, cost in costs.items():
        desk.finished("t", cost, model=model)
    return desk


async def test_expensive_and_cheap_models() -> None:
    """Each run costs what its model costs, and a run that does not fit does not block others."""
    desk = await priced(20.0, a=6.0, b=1.0)
    assert await desk.allow_of("ab") == "ab"
    assert await desk.allow_of("ab", t="a") == "ab"
    assert desk.last == BudgetRead(20.0, spent=7.0, reserved=6.0)
    assert await desk.allow_of("ab", t="aa") == "b"
    assert desk.budget.why.endswith("reserved $12.0000 of $20; a run of t on a costs about $6.0000")
    desk.finished("t", 2.0, model="a")
    assert await desk.allow_of("ab", t="a") == "ab"
    assert desk.last == BudgetRead(20.0, spent=9.0, reserved=4.0)


async def test_a_model_of_unknown_cost() -> None:
    """A model of unknown cost is assumed to cost as much as the most expensive model of the task."""
    desk = await priced(20.0, a=4.0, b=1.0)
    assert await desk.allow_of("cb", t="aa") == "cb"
    assert await desk.allow_of("cb", t="aaa") == "b"
    assert await desk.allow_of("b", t="aac") == "b"
    assert desk.last == BudgetRead(20.0, spent=5.0, reserved=12.0)
    assert await desk.allow_of("b", t="aaac") == ""
    desk.finished("t", None, model="c")
    assert await desk.allow_of("cb", t="aaa") == "b"
    desk.finished("other", 0.5, model="c")
    assert await desk.allow_of("cb", t="aaa") == "b"
    assert await desk.allow_of("b", t="aac") == "b"
    assert desk.last == BudgetRead(20.0, spent=5.5, reserved=12.0)


async def test_few_models_of_unknown_cost_at_a_time() -> None:
    """As many models of unknown cost run at a time as models have ended, and known models are not delayed."""
    desk = await priced(10.0, a=1.0)
    assert await desk.allow_of("bacde") == "ba"
    assert desk.budget.why.endswith("models whose cost on t is unknown go a few at a time")
    assert await desk.allow_of("cad", t="b") == "a"
    desk.finished("t", 0.5, model="b")
    assert await desk.allow_of("cdef") == "cd"
    assert await desk.allow_of("ccdab") == "ccab"
    assert await desk.allow_of("dbe", t="c") == "db"
    desk.finished("t", None, model="c")
    assert await desk.allow_of("cdef") == "cde"


async def test_fewer_models_where_little_is_left() -> None:
    """With little money left, unknown models in flight count twice, but one run that fits is scheduled."""
    desk = await priced(13.0, a=1.0, b=1.0, c=1.0)
    assert await desk.allow_of("efgh", t="d") == "ef"
    assert await desk.allow_of("efgh", t="daaaaaa") == "ef"
    assert await desk.allow_of("efgh", t="daaaaaaa") == "e"
    assert await desk.allow_of("efgh", t="daaaaaaaa") == ""
    desk.finished("u", 0.0, model="a")
    desk.finished("u", 1.0, model="b")
    assert await desk.allow_of("defg", u="cbbbb") == "def"
    assert await desk.allow_of("defg", u="cbbbbb") == "de"
    assert await desk.allow_of("defg", u="ccccc") == "d"


async def test_more_models_where_much_is_left() -> None:
    """More unknown models run if the money suffices for each at five times the cost, beside all other runs."""
    desk = await priced(16.0, a=1.0)
    assert await desk.allow_of("bcdefg") == "bcd"
    assert await desk.allow_of("bcdeaaaaa") == "bcaaaaa"
    assert await desk.allow_of("cdef", t="b") == "cd"
    assert await desk.allow_of("cdef", t="aaaab") == "c"
    desk.finished("u", 0.0, model="a")
    desk.finished("u", 1.0, model="b")
    assert await desk.allow_of("bcdefg", u="b") == "bc"
    assert await desk.allow_of("bcdefg", u="c") == "b"
    ample = await priced(1000.0, a=1.0)
    assert await ample.allow_of("bcdefgh") == "bcdef"
    assert await ample.allow_of("fgh", t="bcd") == "fg"


async def test_a_free_model_is_no_estimate_for_others() -> None:
    """A free model does not cause all others to be scheduled at once."""
    desk = await priced(10.0, a=0.0)
    assert await desk.allow_of("abcde") == "ab"


async def test_a_task_of_unknown_cost() -> None:
    """The scout of a task of unknown cost is assumed to cost as much as the most expensive model of any task."""
    desk = await priced(20.0, a=6.0, b=1.0)
    assert await desk.allow("other", t=1) == 1
    assert await desk.allow("other", t=2) == 0


async def test_a_resumed_sweep_knows_each_model() -> None:
    """A resumed sweep reads the cost of a run on each model from the journal."""
    before = await priced(20.0, a=6.0, b=1.0)
    desk = Desk(Server(), 20.0, before.records)
    await desk.budget.read()
    assert await desk.allow_of("acb", t="a") == "ab"
    assert await desk.allow_of("cb", t="bb") == "cb"


async def test_a_resumed_sweep_knows_tasks_that_ask_for_nothing() -> None:
    """The cost of tasks without further runs limits the tasks of unknown cost."""
    before = await priced(20.0, a=7.0)
    desk = Desk(Server(), 20.0, before.records)
    desk.budget.know(["t", "x"])
    await desk.budget.read()
    desk.finished("c", 0.1)
    assert await desk.allow("x", c=1) == 1
    assert await desk.allow("x", c=1, other=2) == 0


begun_or_ended = st.tuples(st.sampled_from("abc"), st.sampled_from([1, 1, -1]))
reported = st.tuples(st.sampled_from("abc"), st.none() | st.floats(0, 9))


@given(st.lists(begun_or_ended | reported))
def test_the_reserved_amount_is_always_current(steps: list[tuple[str, int | float | None]]) -> None:
    """After any sequence of changes, the reserved amount equals a fresh computation."""
    budget = Budget(Server(), MemoryRecords(), 10.0, lambda event: None)
    under_way, runs = PendingCosts(), Counter[str]()
    costs: dict[str, list[float]] = {}
    for model, step in steps:
        if isinstance(step, int):
            change = max(step, -runs[model])
            runs[model] += change
            under_way.add(model, change)
        else:
            budget.finished("t", model, step)
            costs.setdefault(model, []).extend([] if step is None else [step])
        means = {one: math.fsum(known) / len(known) for one, known in costs.items() if known}
        highest = max(means.values(), default=0.0)
        reserved, unknown, doubted = budget._reserved({"t": under_way})
        assert reserved == pytest.approx(math.fsum(runs[one] * means.get(one, highest) for one in runs))
        assert doubted == pytest.approx(math.fsum(runs[one] * highest for one in runs if one not in means))
        assert unknown == (0 if means else runs.total())


async def test_runs_in_flight_reserve_their_mean_cost() -> None:
    """Each run in flight reserves the mean of its task, which changes as runs end."""
    desk = await begun(Server(), costs=[1.0, 3.0])
    desk.finished("other", 0.5)
    assert await desk.allow(t=2, other=1) == 0
    assert desk.last == BudgetRead(10.0, spent=4.5, reserved=4.5)
    assert await desk.allow(t=1, other=1) == 1


async def test_runs_that_do_not_report_their_cost() -> None:
    """If runs report no cost, the quota decides, the number of such runs is shown, and a cost reported later counts."""
    server = Server()
    desk = await begun(server, costs=[None])
    assert await desk.allow(wanted=7) == 7
    assert await desk.allow(wanted=7, t=7) == 7
    assert desk.last == BudgetRead(10.0, spent=0.0, reserved=None, unknown=7)
    server.used = 9.0
    desk.finished("t", 0.5)
    assert await desk.allow() == 2
    desk.finished("other", None)
    assert await desk.allow("other", wanted=7) == 7
    server.used = 10.0
    assert await desk.allow("other", wanted=7) == 0
    assert desk.budget.why.endswith("what a run of other costs is unknown")


@pytest.mark.parametrize("cost", [math.nan, math.inf, -1.0])
async def test_an_invalid_cost_is_unknown(cost: float) -> None:
    """A negative or infinite cost is unknown, not 0."""
    desk = await begun(Server(), costs=[cost])
    assert await desk.allow(t=1) == 100
    assert desk.last.unknown == 1


async def test_the_quota_lags_behind_the_run_files() -> None:
    """If the run files add up to more than the quota, their total counts."""
    desk = await begun(Server(), costs=[4.0, 4.0])
    assert await desk.allow() == 0
    assert desk.last.spent == 8.0


async def test_runs_that_ended_since_the_reading_count() -> None:
    """A run that ended after the reading adds to what the quota reported."""
    server = Server()
    desk = await begun(server, costs=[1.0])
    server.used = 4.0
    assert await desk.allow(t=2) == 4
    desk.finished("t", 1.0)
    assert desk.budget._spent == 5.0
    server.used = 5.0
    assert await desk.allow(t=1) == 4
    assert desk.last == BudgetRead(10.0, spent=5.0, reserved=1.0)


async def test_a_resumed_sweep_continues_counting() -> None:
    """A resumed sweep reads means and spending from the journal, and includes what was spent in between."""
    server = Server(used=100.0)
    first = await begun(server)
    server.used = 104.0
    first.finished("t", 2.0)
    assert await first.allow() == 3
    server.used = 105.0
    again = Desk(server, records=first.records)
    await again.budget.read()
    assert await again.allow() == 2
    assert again.last.spent == 5.0


async def test_a_refill() -> None:
    """Spending before a refill stays spent, and the new reading is added to it."""
    server = Server(used=20.0)
    desk = await begun(server, costs=[1.0])
    for used, spent in ((24.0, 4.0), (1.0, 5.0), (3.0, 7.0), (0.0, 7.0), (2.0, 9.0)):
        server.used = used
        await desk.allow()
        assert desk.last.spent == spent


async def test_the_balance_of_the_month_counts() -> None:
    """The monthly balance counts, or else the daily one, and a different balance than before starts a new count."""
    server = Server(used=5.0)
    server.others = [QuotaBalance(quota_used=1.0, refill_period=RefillPeriod.DAILY)]
    desk = await begun(server, costs=[0.0])
    server.used, server.others = 7.0, [QuotaBalance(quota_used=30.0, refill_period=RefillPeriod.DAILY)]
    await desk.allow()
    assert desk.last.spent == 2.0
    server.period = RefillPeriod("YEARLY")
    await desk.allow()
    assert desk.last.spent == 2.0
    server.others = [QuotaBalance(quota_used=30.5, refill_period=RefillPeriod.DAILY)]
    await desk.allow()
    assert desk.last.spent == 2.5


# --- A server that does not answer --------------------------------------------------------------------------

FAILURES: list[FanbenchError] = [
    ServerFault("It broke.", call="GetModelProxyQuotas", status=500),
    Forbidden("Not yours.", call="GetModelProxyQuotas", status=403),
]


@pytest.mark.parametrize("failure", FAILURES)
async def test_without_a_reading_the_run_files_decide(failure: FanbenchError) -> None:
    """If the quota fails, the run files decide as long as all of them report their cost."""
    server = Server()
    server.failure = failure
    desk = await begun(server, costs=[2.0, 2.0])
    assert await desk.allow(t=1) == 2
    assert desk.last == BudgetRead(10.0, spent=4.0, reserved=2.0)


async def test_scheduling_stops_without_readings_and_costs() -> None:
    """Without a reading one scout is scheduled, and if its cost stays unknown, scheduling stops with a reason."""
    server = Server()
    server.failure = FAILURES[0]
    desk = await begun(server)
    assert await desk.allow() == 1
    desk.finished("t", None)
    assert await desk.allow() == 0
    assert desk.last == BudgetRead(10.0, spent=None, reserved=0.0)
    assert "the quota call does not answer" in desk.budget.why
    assert await desk.allow("other") == 0
    server.failure = None
    assert await desk.allow() == 100


async def test_a_failed_reading_keeps_the_last_one() -> None:
    """Spending that the quota reported before a failed reading still counts."""
    server = Server()
    desk = await begun(server, costs=[1.0])
    server.used = 5.0
    await desk.allow()
    server.failure = FAILURES[0]
    await desk.allow()
    assert desk.last.spent == 5.0


async def test_a_reading_that_comes_late_adds_to_what_was_known() -> None:
    """A first reading that comes late does not include the costs until then."""
    server = Server(used=50.0)
    server.failure = FAILURES[0]
    desk = await begun(server, costs=[3.0])
    server.failure = None
    await desk.allow()
    server.used = 51.0
    await desk.allow()
    assert desk.last.spent == 4.0


@pytest.mark.parametrize("used", [math.nan, -1.0, math.inf])
async def test_an_invalid_reading_counts_as_failed(used: float) -> None:
    """A reading with an invalid amount counts as a failed reading."""
    desk = await begun(Server(used=used), costs=[None])
    assert await desk.allow() == 0
    assert desk.last.spent is None


async def test_a_server_without_balances() -> None:
    """Without a money balance, the spending is unknown and nothing is allowed after a run of unknown cost."""
    client = simulated()
    client.run_quota, client.balances = TaskQuota(daily_quota_used=5.0), []
    events: list[SweepEvent] = []
    budget = Budget(client, MemoryRecords(), 10.0, events.append)
    await budget.read()
    budget.finished("t", "m", None)
    assert not await budget.allow("t", ["m"], {})


async def test_invalid_credentials_end_the_sweep() -> None:
    """Unauthorized is raised, and not treated as a quota call that fails."""
    server = Server()
    server.failure = Unauthorized("Who?", call="GetModelProxyQuotas", status=401)
    budget = Desk(server).budget
    with pytest.raises(Unauthorized):
        await budget.read()
    with pytest.raises(Unauthorized):
        await budget.allow("t", ["m"], {})


def test_damage_in_the_journal_is_an_error() -> None:
    """A damaged value in the journal is an error, and not treated as nothing spent."""
    records = MemoryRecords()
    records.save_value("budget", '{"spent": "much"}')
    with pytest.raises(JournalError, match="budget"):
        Desk(Server(), records=records)


# --- Events, and questions at once --------------------------------------------------------------------------


async def test_events_are_emitted_only_for_changes() -> None:
    """An event is emitted only if the spending has changed."""
    server = Server()
    desk = await begun(server, costs=[1.0])
    for _ in range(3):
        await desk.allow()
    assert len(desk.events) == 1
    server.used = 2.0
    await desk.allow()
    assert [event.text for event in desk.events] == [
        "budget $10: spent $1.0000, reserved $0.0000",
        "budget $10: spent $2.0000, reserved $0.0000",
    ]


async def test_no_call_is_made_if_no_run_is_wanted() -> None:
    """No call is made if no run is wanted."""
    server = Server()
    assert not await Desk(server).budget.allow("t", [], {})
    assert server.asked == 0


async def test_concurrent_tasks_share_the_money_left() -> None:
    """Tasks that ask during one quota call share the money, because runs in flight are counted after it."""
    desk = await begun(Server(), cap=11.0, costs=[1.0])
    pending, answers = PendingCosts(), list[int]()

    async def ask() -> None:
        allowed = await desk.budget.allow("t", "mmmm", {"t": pending})
        pending.add("m", len(allowed))
        answers.append(len(allowed))

    async with anyio.create_task_group() as group:
        for _ in range(5):
            group.start_soon(ask)
    assert answers == [4, 4, 2, 0, 0]


async def test_a_run_counts_once() -> None:
    """A run counts once across processes, but an unknown cost may be reported later."""
    desk = await begun(Server())
    for cost in (2.0, 2.0, None, 3.0):
        desk.finished("t", cost, 7)
    desk.finished("t", None, 8)
    desk.finished("t", None, 8)
    assert desk.budget.is_counted(7)
    assert desk.budget.is_counted(8)
    assert not desk.budget.is_counted(9)
    again = Desk(Server(), records=desk.records)
    again.finished("t", 2.0, 7)
    assert await again.allow() == 4
    assert again.last.spent == 2.0
    again.finished("t", 4.0, 8)
    assert await again.allow() == 1
    assert again.last.spent == 6.0
    assert not again.budget._ledger.costs.unknown


class TestInVirtualTime:
    @pytest.fixture
    def anyio_backend(self) -> tuple[str, dict[str, Any]]:
        return "trio", {"clock": MockClock(autojump_threshold=0)}

    async def test_the_quota_is_read_once_per_second(self) -> None:
        """There is at most one quota call per second, however many tasks need it."""
        server = Server()
        budget = Budget(server, MemoryRecords(), 10.0, lambda event: None)
        await budget.read()

        async def ask(second: float) -> None:
            await anyio.sleep(second)
            await budget.allow("t", ["m"], {})

        async with anyio.create_task_group() as group:
            for tenth in range(50):
                group.start_soon(ask, tenth / 10)
        assert server.times("proxy_quotas") == [0.0, 1.0, 2.0, 3.0, 4.0]

    async def test_concurrent_tasks_share_a_quota_call(self) -> None:
        """A slow quota call is shared by all tasks that wait for it, and later tasks make a new one."""
        server = Server()
        server.slow = 5.0
        budget = Budget(server, MemoryRecords(), 10.0, lambda event: None)
        times: list[float] = []

        async def ask(second: float) -> None:
            await anyio.sleep(second)
            await budget.allow("t", ["m"], {})
            times.append(round(server.now(), 3))

        async with anyio.create_task_group() as group:
            for second in (0.0, 1.0, 3.0, 5.5, 7.0):
                group.start_soon(ask, second)
        assert times == [5.0, 5.0, 5.0, 5.5, 12.0]
        assert server.asked == 2

    async def test_a_cancelled_quota_call_is_repeated_for_others(self) -> None:
        """If the task that makes the quota call is cancelled, the next one makes it instead."""
        server = Server()
        server.slow = 5.0
        budget = Budget(server, MemoryRecords(), 10.0, lambda event: None)

        async def ask(patience: float, second: float) -> None:
            await anyio.sleep(second)
            with anyio.move_on_after(patience):
                assert await budget.allow("t", ["m"], {}) == ["m"]

        async with anyio.create_task_group() as group:
            group.start_soon(ask, 2.0, 0.0)
            group.start_soon(partial(ask, math.inf), 1.0)
        assert server.now() == 7.0

    async def test_a_quota_call_that_hangs(self) -> None:
        """A quota call that hangs is abandoned, and its reading is unknown."""
        server = Server()
        server.slow = math.inf
        budget = Budget(server, MemoryRecords(), 10.0, lambda event: None)
        budget.finished("t", "m", None)
        assert not await budget.allow("t", ["m"], {})
        assert server.now() == 30.0


# --- Run files ----------------------------------------------------------------------------------------------


def cost_of(dollars: float) -> dict[str, Any]:
    return build.talk(
        inputTokens=10,
        outputTokens=5,
        inputTokensCostNanodollars=str(round(dollars * 1e9) - 1),
        outputTokensCostNanodollars="1",
    )


def run_folder(root: Path) -> Path:
    folder = root / "my-task" / "1" / "gemma-3" / "7"
    folder.mkdir(parents=True)
    return folder


def test_the_cost_of_a_run(tmp_path: Path) -> None:
    """The cost of a run is the total of its run file."""
    folder = run_folder(tmp_path)
    build.write(folder / "x.run.json", build.passed(conversations=[cost_of(0.25), cost_of(0.5)]))
    assert run_cost(folder) == 0.75


def test_a_partly_unknown_cost_is_unknown(tmp_path: Path) -> None:
    """If a part of the cost is unknown, the whole is, and not 0."""
    folder = run_folder(tmp_path)
    talks = [cost_of(0.25), build.talk(inputTokens=10)]
    build.write(folder / "x.run.json", build.passed(conversations=talks))
    assert run_cost(folder) is None


def test_the_cost_of_a_run_without_run_files(tmp_path: Path) -> None:
    """The cost is unknown if the run died, its file is damaged, or there is none."""
    folder = run_folder(tmp_path)
    assert run_cost(folder) is None
    build.write(folder / "x.run.json", "{")
    assert run_cost(folder) is None
    assert run_cost(tmp_path / "none") is None


def test_the_cost_of_a_run_of_which_a_part_is_damaged(tmp_path: Path) -> None:
    """The cost is unknown if one of the run files is damaged."""
    folder = run_folder(tmp_path)
    build.write(folder / "x.run.json", build.passed(conversations=[cost_of(0.25)]))
    build.write(folder / "y.run.json", "{")
    assert run_cost(folder) is None
