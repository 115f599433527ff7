"""`--max-cost`: how much a sweep has spent, and how many runs more it may schedule.

What was spent is told by the quota of the Model Proxy: its reading less the one when the sweep began, kept in
the journal. What runs in flight will cost is reserved: each as much as the finished runs of its task did on
average, as their run files say. A cost that nobody knows is never taken for 0: one run of the task goes ahead
as a scout, and if its cost stays unknown as well, the quota alone decides.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import anyio
import msgspec

from fanbench._errors import FanbenchError, JournalError, Unauthorized
from fanbench.api.messages import ModelProxyQuotas, QuotaBalance, RefillPeriod
from fanbench.sweeps._journal_file import ANEW
from fanbench.sweeps.events import BudgetRead, Emit
from fanbench.sweeps.journal import Records
from fanbench.verbs._api import Api

__all__ = ["Budget", "granted", "run_cost"]

# Seconds for which a reading is good, and after which one is not waited for any longer.
GOOD_FOR = 1.0
PATIENCE = 30.0

# Where the journal has it.
_LEDGER = "budget"
_COSTS = "budget.costs of "
_RUN = "budget.run "

_NANO = 1_000_000_000


# --- The rule -----------------------------------------------------------------------------------------------


def granted(
    cap: float,
    spent: float | None,
    reserved: float,
    mean: float | None,
    wanted: int,
    *,
    in_flight: int = 0,
    silent: bool = False,
) -> int:
    """How many of `wanted` runs of a task may be scheduled now.

    In US dollars: at most `cap` may be spent, `spent` has been, `reserved` is for runs in flight, and a run
    of this task costs `mean`. `None` is unknown. `in_flight` runs of unknown cost are under way; `silent`: runs
    of the task have finished, and none says what it cost.

    | spent   | mean    | runs                       | granted                                             |
    |---------|---------|----------------------------|-----------------------------------------------------|
    | unknown | any     | any                        | 0                                                   |
    | known   | known   | any                        | as many as stay within the cap                      |
    | known   | unknown | finished, none says a cost | all, if spent and reserved are below the cap        |
    | known   | unknown | none finished, in flight   | 0: the scout's cost comes first                     |
    | known   | unknown | none finished nor in flight| 1, if spent and reserved are below the cap          |
    """
    if spent is None or wanted <= 0:
        return 0
    # In whole nanodollars, as run files have it: sums of fractions are not exact.
    left = _nano(cap) - _nano(spent) - _nano(reserved)
    if mean is not None:
        cost = math.ceil(mean * _NANO)
        return wanted if cost == 0 and left >= 0 else max(0, min(wanted, left // cost if cost else 0))
    if left <= 0:
        return 0
    if silent:
        return wanted
    return 0 if in_flight else 1


def _nano(dollars: float) -> int:
    return round(dollars * _NANO)


# --- What is known ------------------------------------------------------------------------------------------


class Costs(msgspec.Struct):
    """Finished runs, of a task or of all: `total` in US dollars is what the `known` ones cost."""

    known: int = 0
    total: float = 0.0
    unknown: int = 0

    def add(self, cost: float | None) -> None:
        if cost is None:
            self.unknown += 1
        else:
            self.known += 1
            self.total += cost

    @property
    def mean(self) -> float | None:
        return self.total / self.known if self.known else None

    @property
    def silent(self) -> bool:
        return self.unknown > 0 and self.known == 0


class Ledger(msgspec.Struct):
    """What goes on over several invocations: by the quota and by the run files.

    `spent` by the quota is US dollars since the sweep began; `reading` the last one, of the balance `period`.
    `since` is what finished runs are known to have cost after it: they are no longer in flight, and not yet in it.
    """

    costs: Costs = msgspec.field(default_factory=Costs)
    spent: float = 0.0
    since: float = 0.0
    reading: float | None = None
    period: str = ""

    def read(self, balance: QuotaBalance) -> None:
        """A new reading. One that falls begins at 0 again, by a refill; of another balance nothing is known."""
        period, reading = balance.refill_period.value, balance.quota_used
        if self.reading is None:
            # Only now: what finished runs have cost until here is not in it.
            self.spent = max(self.spent, self.costs.total)
        elif period == self.period:
            self.spent += reading if reading < self.reading else reading - self.reading
        self.reading, self.period, self.since = reading, period, 0.0


class Budget:
    """Decides before each scheduling. `why` says why the last answer was less than what was wanted, or is "".

    The quota is asked at most once a second, however many ask here.
    """

    def __init__(
        self,
        client: Api,
        records: Records,
        cap: float,
        emit: Emit,
        *,
        clock: Callable[[], float] = anyio.current_time,
    ) -> None:
        self.cap = cap
        self.why = ""
        self._client = client
        self._records = records
        self._emit = emit
        self._clock = clock
        self._ledger = _loaded(records.value(_LEDGER), Ledger)
        self._costs: dict[str, Costs] = {}
        self._asking = anyio.Lock()
        self._asked: float | None = None
        self._answers = False
        self._said: BudgetRead | None = None

    async def begin(self) -> None:
        """The first reading, from which on the sweep's spending is counted; a resumed one goes on counting.

        Raises:
            Unauthorized: the server does not know us. Any other failure makes the reading unknown.
        """
        await self._ask()

    async def allow(
        self, task: str, wanted: int, in_flight: Callable[[], Mapping[str, int]], *, anew: bool = False
    ) -> int:
        """How many of `wanted` runs of `task` may be scheduled now, 0 to `wanted`.

        `in_flight` tells the runs that were scheduled and not yet told as `finished`, by task. It is asked once
        the quota has answered: meanwhile runs may have ended, and others been scheduled. Those that are allowed
        here must be in it before the caller awaits anything. `anew`: a reading of before is not good enough.

        Raises:
            Unauthorized: the server does not know us.
        """
        if wanted <= 0:
            return 0
        await self._ask(anew=anew)
        # From here on to the answer nobody else comes in between.
        return self._decide(task, wanted, in_flight())

    def finished(self, task: str, cost: float | None, run_id: int | None = None) -> None:
        """A run's cost as its run files say; `None` is unknown.

        The run `run_id` counts once, however often it is told of, and in however many processes. If its cost
        was unknown, it may be told later. One without an id counts each time.
        """
        cost = cost if cost is not None and 0 <= cost < math.inf else None
        before, run = self._told(run_id), Costs()
        if before.known or (before.unknown and cost is None):
            return
        run.add(cost)
        if run_id is not None:
            # First: whoever is killed in between has counted it too little, not twice, and the quota knows of it.
            self._save(f"{_RUN}{run_id}", run)
        costs = self._costs_of(task)
        for one in (costs, self._ledger.costs):
            one.unknown -= before.unknown
            one.add(cost)
        self._ledger.since += cost or 0.0
        self._save(f"{_COSTS}{task}", costs)
        self._save(_LEDGER, self._ledger)

    def is_told(self, run_id: int) -> bool:
        """Whether the run is counted, with a cost or without."""
        return self._told(run_id) != Costs()

    # --- The quota ---

    async def _ask(self, *, anew: bool = False) -> None:
        async with self._asking:
            if not anew and self._asked is not None and self._clock() - self._asked < GOOD_FOR:
                return
            balance = await _balance(self._client)
            self._asked = self._clock()
            self._answers = balance is not None
            if balance is not None:
                self._ledger.read(balance)
                self._save(_LEDGER, self._ledger)

    @property
    def _spent(self) -> float | None:
        """In US dollars: by the quota or by the run files, whichever says more, as the quota may lag behind."""
        costs = self._ledger.costs
        if not self._answers and costs.unknown:
            return None
        return max(self._ledger.spent + self._ledger.since, costs.total)

    # --- The answer ---

    def _decide(self, task: str, wanted: int, in_flight: Mapping[str, int]) -> int:
        costs = self._costs_of(task)
        spent = self._spent
        reserved, unknown = self._reserved(in_flight)
        # What is unknown is taken for as dear as the dearest task that is known. Before there is one, and where
        # that would be too much, a single run goes, alone.
        guess = self._dearest
        held = reserved + unknown * (guess or 0.0)
        if costs.mean is not None or costs.silent:
            answer = granted(self.cap, spent, held, costs.mean, wanted, silent=costs.silent)
        elif guess is None or not in_flight:
            answer = granted(self.cap, spent, held, None, wanted, in_flight=unknown)
        else:
            answer = 0 if task in in_flight else granted(self.cap, spent, held, guess, 1)
        under_way = sum(in_flight.values())
        self._say(BudgetRead(self.cap, spent, None if 0 < unknown == under_way else reserved, unknown))
        self.why = "" if answer == wanted else self._reason(task, spent, reserved, in_flight.get(task, 0))
        return answer

    @property
    def _dearest(self) -> float | None:
        """What a run costs of the task whose runs cost most, as far as any is known."""
        return max((costs.mean for costs in self._costs.values() if costs.mean is not None), default=None)

    def _reserved(self, in_flight: Mapping[str, int]) -> tuple[float, int]:
        """US dollars for the runs in flight whose cost is known, and how many others there are."""
        reserved, unknown = 0.0, 0
        for task, runs in in_flight.items():
            mean = self._costs_of(task).mean
            if mean is None:
                unknown += runs
            else:
                reserved += runs * mean
        return reserved, unknown

    def _reason(self, task: str, spent: float | None, reserved: float, in_flight: int) -> str:
        if spent is None:
            return (
                "it is unknown what was spent: the quota call does not answer, and "
                f"{self._ledger.costs.unknown} finished runs do not say what they cost"
            )
        text = f"spent ${spent:.4f} and reserved ${reserved:.4f} of ${self.cap:g}"
        mean = self._costs_of(task).mean
        if mean is not None:
            return f"{text}; a run of {task} costs about ${mean:.4f}"
        if in_flight or spent + reserved < self.cap:
            return f"{text}; what a run of {task} costs is unknown until its first one has ended"
        return f"{text}; what a run of {task} costs is unknown"

    def _say(self, event: BudgetRead) -> None:
        if event != self._said:
            self._said = event
            self._emit(event)

    # --- The journal ---

    def _costs_of(self, task: str) -> Costs:
        if task not in self._costs:
            self._costs[task] = _loaded(self._records.value(f"{_COSTS}{task}"), Costs)
        return self._costs[task]

    def _told(self, run_id: int | None) -> Costs:
        return Costs() if run_id is None else _loaded(self._records.value(f"{_RUN}{run_id}"), Costs)

    def _save(self, name: str, value: Costs | Ledger) -> None:
        self._records.save_value(name, msgspec.json.encode(value).decode())


L = TypeVar("L", Costs, Ledger)


def _loaded(text: str | None, kind: type[L]) -> L:
    try:
        return kind() if text is None else msgspec.json.decode(text, type=kind)
    except msgspec.DecodeError as error:
        raise JournalError(f"What the journal has of the budget is damaged: {error}.", hint=ANEW) from None


async def _balance(client: Api) -> QuotaBalance | None:
    """The balance that counts, `None` if the server does not tell one, or not in time."""
    with anyio.move_on_after(PATIENCE):
        try:
            return _chosen(await client.proxy_quotas())
        except Unauthorized:
            raise
        except FanbenchError:
            return None
    return None


def _chosen(quotas: ModelProxyQuotas) -> QuotaBalance | None:
    """That of the month, which refills less often than that of the day."""
    known = [balance for balance in quotas.quota_balances if 0 <= balance.quota_used < math.inf]
    for period in (RefillPeriod.MONTHLY, RefillPeriod.DAILY):
        for balance in known:
            if balance.refill_period is period:
                return balance
    return known[0] if known else None


# --- Run files ----------------------------------------------------------------------------------------------


def run_cost(folder: Path) -> float | None:
    """What the run in `folder` cost in US dollars, as the run files below say; `None` if they do not say all.

    It reads files: to be called in a thread.
    """
    from fanbench.results import read_results

    found = read_results([folder])
    costs = [row.cost_usd for row in found.rows]
    if found.problems or not costs or None in costs:
        return None
    return math.fsum(cost for cost in costs if cost is not None)
