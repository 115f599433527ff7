"""`--max-cost`: how much a sweep has spent, and how many runs more it may schedule.

What was spent is told by the quota of the Model Proxy: its reading less the one when the sweep began, kept in
the journal. What runs in flight will cost is reserved: each as much as the finished runs of its task on its model
did on average, as their run files say; as those of the task's dearest model, where there are none on its own: of
such runs only a few go at a time. A cost that nobody knows is never taken for 0: one run of the task goes ahead as
a scout, and if its cost stays unknown as well, the quota alone decides.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import anyio
import msgspec

from fanbench.errors import FanbenchError, JournalError, Unauthorized
from fanbench.operations.api import Api
from fanbench.sweeps.events import BudgetRead, Emit
from fanbench.sweeps.journal import FRESH, Records
from fanbench.wire.messages import ModelProxyQuotas, QuotaBalance, RefillPeriod

__all__ = ["Budget", "Costs", "PendingCosts", "TaskCosts", "granted", "run_cost", "scouts"]

# Seconds for which a reading is good, and after which one is not waited for any longer.
GOOD_FOR = 1.0
PATIENCE = 30.0

# Where the journal has it.
_LEDGER = "budget"
_COSTS = "budget.costs of "
_RUN = "budget.run "

_NANO = 1_000_000_000

# So many times as dear as the dearest that is known may be what is not known.
_SPREAD = 5.0


# --- The rule -----------------------------------------------------------------------------------------------


def granted(
    cap: float,
    spent: float | None,
    reserved: float,
    costs: Sequence[float | None],
    *,
    in_flight: int = 0,
    silent: bool = False,
) -> list[int]:
    """Which runs of a task may be scheduled now: indices into `costs`, of each run that is wanted.

    In US dollars: at most `cap` may be spent, `spent` has been, and `reserved` is for runs in flight. `None` is
    unknown. `in_flight` runs of unknown cost are under way; `silent`: runs of the task have finished, and none
    says what it cost. The first in `costs` go first, and one that is too dear is passed over.

    | spent   | cost    | runs                       | granted                                             |
    |---------|---------|----------------------------|-----------------------------------------------------|
    | unknown | any     | any                        | none                                                |
    | known   | known   | any                        | if it stays within the cap, with those before it    |
    | known   | unknown | finished, none says a cost | if spent and reserved are below the cap             |
    | known   | unknown | none finished, in flight   | none: the scout's cost comes first                  |
    | known   | unknown | none finished nor in flight| the first, if spent and reserved are below the cap  |
    """
    if spent is None:
        return []
    # In whole nanodollars, as run files have it: sums of fractions are not exact.
    left = _nano(cap) - _nano(spent) - _nano(reserved)
    chosen = []
    for index, dollars in enumerate(costs):
        cost = 0 if dollars is None else math.ceil(dollars * _NANO)
        fits = cost <= left if dollars is not None else left > 0 and (silent or not in_flight)
        if fits:
            chosen.append(index)
            left -= cost
            in_flight += dollars is None
    return chosen


def scouts(ended: int, under_way: int, left: float, doubted: float, dearest: float) -> float:
    """How many more runs may be begun of which nothing is known but what runs on others cost: at most `dearest`.

    `left` of the cap is neither spent nor reserved; `doubted` of what is reserved is for such runs, of any task.
    As many at a time as others have `ended`, if `left` pays for them even where those under way cost twice as much;
    _SPREAD times as many, if it does where all of them cost _SPREAD times as much; one in any case.
    """
    if not dearest:
        return ended - under_way
    few = (left - doubted) / dearest
    many = (left - (_SPREAD - 1) * doubted) / (_SPREAD * dearest)
    return max(1 - under_way, min(ended - under_way, few), min(_SPREAD * ended - under_way, many))


def _nano(dollars: float) -> int:
    return round(dollars * _NANO)


# --- What is known ------------------------------------------------------------------------------------------


class Costs(msgspec.Struct):
    """Finished runs, of a task on a model or of all: `total` in US dollars is what the `known` ones cost."""

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


class TaskCosts(msgspec.Struct):
    """The finished runs of a task, by model. `dearest` is the highest mean; `revision` changes whenever they do."""

    models: dict[str, Costs] = msgspec.field(default_factory=dict)
    dearest: float | None = None
    revision: int = msgspec.field(default=0, name="told")

    def of(self, model: str) -> Costs:
        return self.models.setdefault(model, Costs())

    def weigh(self) -> None:
        """After a change."""
        means = (costs.mean for costs in self.models.values())
        self.dearest = max((mean for mean in means if mean is not None), default=None)
        self.revision += 1

    def estimate(self, model: str) -> float | None:
        """What a run costs. A model that nothing is known of is held to be as dear as the dearest."""
        return self.models[model].mean if self.knows(model) else self.dearest

    def knows(self, model: str) -> bool:
        """Whether a run on it has said what it cost."""
        return model in self.models and self.models[model].known > 0

    @property
    def silent(self) -> bool:
        return bool(self.models) and self.dearest is None


class PendingCosts:
    """Runs of one task whose cost is still to be told, by model.

    What they will cost is asked for at each scheduling of any task, and worked out anew only after a change.
    """

    def __init__(self) -> None:
        self.total = 0
        self._runs: Counter[str] = Counter()
        self._reserved = 0.0
        self._unseen = 0
        self._as_of: int | None = None

    def add(self, model: str, runs: int = 1) -> None:
        self._runs[model] += runs
        self.total += runs
        self._as_of = None

    def reserved(self, costs: TaskCosts) -> tuple[float, int]:
        """US dollars, as `costs` has it, which knows of a cost; and how many runs are on models it knows none of."""
        if self._as_of != costs.revision:
            self._reserved = math.fsum(
                runs * (costs.estimate(model) or 0.0) for model, runs in self._runs.items()
            )
            self._unseen = sum(runs for model, runs in self._runs.items() if not costs.knows(model))
            self._as_of = costs.revision
        return self._reserved, self._unseen


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
        self._costs: dict[str, TaskCosts] = {}
        self._asking = anyio.Lock()
        self._asked: float | None = None
        self._answers = False
        self._said: BudgetRead | None = None

    def know(self, tasks: Iterable[str]) -> None:
        """What the journal has of them: also a task that asks for nothing now tells how dear runs may be."""
        for task in tasks:
            self._costs_of(task)

    async def read(self) -> None:
        """A new reading. From the first the sweep's spending is counted; a resumed one goes on counting.

        Raises:
            Unauthorized: the server does not know us. Any other failure makes the reading unknown.
        """
        await self._ask(anew=True)

    async def allow(
        self, task: str, models: Sequence[str], in_flight: Callable[[], Mapping[str, PendingCosts]]
    ) -> list[str]:
        """On which of `models` a run of `task` may be scheduled now, in this order.

        `in_flight` tells the runs that were scheduled and not yet told as `finished`, by task; one without such
        runs is not in it. It is asked once the quota has answered: meanwhile runs may have ended, and others been
        scheduled. Those that are allowed here must be in it before the caller awaits anything.

        Raises:
            Unauthorized: the server does not know us.
        """
        if not models:
            return []
        await self._ask()
        # From here on to the answer nobody else comes in between.
        return self._decide(task, models, in_flight())

    def finished(self, task: str, model: str, cost: float | None, run_id: int | None = None) -> None:
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
        for one in (costs.of(model), self._ledger.costs):
            one.unknown -= before.unknown
            one.add(cost)
        costs.weigh()
        self._ledger.since += cost or 0.0
        self._save(f"{_COSTS}{task}", costs)
        self._save(_LEDGER, self._ledger)

    def is_counted(self, run_id: int) -> bool:
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

    def _decide(self, task: str, models: Sequence[str], in_flight: Mapping[str, PendingCosts]) -> list[str]:
        costs, spent = self._costs_of(task), self._spent
        reserved, unknown, doubted = self._reserved(in_flight)
        # What is unknown is taken for as dear as the dearest task that is known. Before there is one, and where
        # that would be too much, a single run goes, alone.
        guess = self._dearest
        doubted += unknown * (guess or 0.0)
        held = reserved + unknown * (guess or 0.0)
        left = self.cap - (spent or 0.0) - held
        asked = models
        if costs.dearest is not None:
            asked = self._few(task, models, in_flight, left, doubted)
            chosen = granted(self.cap, spent, held, list(map(costs.estimate, asked)))
        elif costs.silent or guess is None or not in_flight:
            nobody_knows = [None] * len(models)
            chosen = granted(self.cap, spent, held, nobody_knows, in_flight=unknown, silent=costs.silent)
        else:
            asked = models[: self._may_scout(task, in_flight, left, doubted)]
            chosen = granted(self.cap, spent, held, [guess] * len(asked))
        under_way = sum(unpaid.total for unpaid in in_flight.values())
        self._say(BudgetRead(self.cap, spent, None if 0 < unknown == under_way else reserved, unknown))
        answer = [asked[index] for index in chosen]
        refused = Counter(models) - Counter(answer)
        self.why = self._reason(task, refused, spent, reserved, task in in_flight) if refused else ""
        return answer

    def _few(
        self,
        task: str,
        models: Sequence[str],
        in_flight: Mapping[str, PendingCosts],
        left: float,
        doubted: float,
    ) -> Sequence[str]:
        """Of those on which no run of the task has said what it cost, only some."""
        costs = self._costs_of(task)
        seen = [costs.estimate(model) or 0.0 for model in models if costs.knows(model)]
        under_way = in_flight[task].reserved(costs)[1] if task in in_flight else 0
        left -= math.fsum(seen)
        few = scouts(len(costs.models), under_way, left, doubted, costs.dearest or 0.0)
        asked = []
        for model in models:
            few -= not costs.knows(model)
            if costs.knows(model) or few >= 0:
                asked.append(model)
        return asked

    def _may_scout(
        self, task: str, in_flight: Mapping[str, PendingCosts], left: float, doubted: float
    ) -> bool:
        """Whether the first run of the task may go: of such tasks, too, only some at a time."""
        under_way = sum(not self._costs_of(one).models for one in in_flight)
        ended = sum(bool(costs.models) for costs in self._costs.values())
        return task not in in_flight and scouts(ended, under_way, left, doubted, self._dearest or 0.0) >= 1

    @property
    def _dearest(self) -> float | None:
        """What a run costs of the task and on the model whose runs cost most, as far as any is known."""
        known = (costs.dearest for costs in self._costs.values())
        return max((dearest for dearest in known if dearest is not None), default=None)

    def _reserved(self, in_flight: Mapping[str, PendingCosts]) -> tuple[float, int, float]:
        """US dollars for the runs in flight whose task has a known cost, and how many others there are.

        And how many of those dollars are for models that have none on it.
        """
        reserved, unknown, doubted = 0.0, 0, 0.0
        for task, unpaid in in_flight.items():
            costs = self._costs_of(task)
            if costs.dearest is None:
                unknown += unpaid.total
            else:
                dollars, unseen = unpaid.reserved(costs)
                reserved += dollars
                doubted += unseen * costs.dearest
        return reserved, unknown, doubted

    def _reason(
        self, task: str, refused: Iterable[str], spent: float | None, reserved: float, in_flight: bool
    ) -> str:
        if spent is None:
            return (
                "it is unknown what was spent: the quota call does not answer, and "
                f"{self._ledger.costs.unknown} finished runs do not say what they cost"
            )
        text = f"spent ${spent:.4f} and reserved ${reserved:.4f} of ${self.cap:g}"
        costs = self._costs_of(task)
        if costs.dearest is not None:
            model = min(refused, key=lambda one: costs.estimate(one) or 0.0)
            cost = costs.estimate(model) or 0.0
            if not costs.knows(model) and spent + reserved + cost <= self.cap:
                return f"{text}; models whose cost on {task} is unknown go a few at a time"
            return f"{text}; a run of {task} on {model} costs about ${cost:.4f}"
        if in_flight or spent + reserved < self.cap:
            return f"{text}; what a run of {task} costs is unknown until its first one has ended"
        return f"{text}; what a run of {task} costs is unknown"

    def _say(self, event: BudgetRead) -> None:
        if event != self._said:
            self._said = event
            self._emit(event)

    # --- The journal ---

    def _costs_of(self, task: str) -> TaskCosts:
        if task not in self._costs:
            self._costs[task] = _loaded(self._records.value(f"{_COSTS}{task}"), TaskCosts)
        return self._costs[task]

    def _told(self, run_id: int | None) -> Costs:
        return Costs() if run_id is None else _loaded(self._records.value(f"{_RUN}{run_id}"), Costs)

    def _save(self, name: str, value: Costs | TaskCosts | Ledger) -> None:
        self._records.save_value(name, msgspec.json.encode(value).decode())


L = TypeVar("L", Costs, TaskCosts, Ledger)


def _loaded(text: str | None, kind: type[L]) -> L:
    try:
        return kind() if text is None else msgspec.json.decode(text, type=kind)
    except msgspec.DecodeError as error:
        raise JournalError(f"What the journal has of the budget is damaged: {error}.", hint=FRESH) from None


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
    costs = [row.cost_usd for row in found.runs]
    if found.problems or not costs or None in costs:
        return None
    return math.fsum(cost for cost in costs if cost is not None)
