"""`--max-cost`: how much a sweep has spent, and how many more runs it may schedule.

The quota of the Model Proxy tells what was spent: its reading, less the reading when the sweep began, which the
journal keeps. For runs in flight, money is reserved: for each, the mean cost of the finished runs of its task on its
model, according to their run files. Where there are none, it is the mean on the task's most expensive model, and only
a few such runs go at a time. An unknown cost is never taken for 0: one run of the task goes first as a scout, and if
its cost remains unknown, too, the quota alone decides.
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
from fanbench.sweeps.events import BudgetRead, EmitSweepEvent
from fanbench.sweeps.journal import FRESH, Journal
from fanbench.wire.messages import QuotaBalance, RefillPeriod

__all__ = ["Budget", "Costs", "PendingCosts", "TaskCosts", "granted", "run_cost", "scouts"]

# Seconds for which a reading of the quota is good, and for which one is waited for.
GOOD_FOR = 1.0
PATIENCE = 30.0

# The names of the values in the journal.
_LEDGER = "budget"
_COSTS = "budget.costs of "
_RUN = "budget.run "

_NANO = 1_000_000_000

# How many times the highest known cost an unknown cost may be.
_SPREAD = 5.0


# --- The rules ----------------------------------------------------------------------------------------------


def granted(
    cap: float,
    spent: float | None,
    reserved: float,
    costs: Sequence[float | None],
    *,
    in_flight: int = 0,
    silent: bool = False,
) -> list[int]:
    """Return which runs of a task may be scheduled now, as indices into `costs`, which has one cost per wanted run.

    All amounts are US dollars: `cap` may be spent at most, `spent` has been spent, and `reserved` is for runs in
    flight. None is unknown. `in_flight` is the number of runs of unknown cost that are under way, and `silent` means
    that runs of the task have finished without reporting their cost. The first in `costs` go first; a run that is too
    expensive is passed over.

    | spent   | cost    | runs of the task           | granted                                             |
    |---------|---------|----------------------------|-----------------------------------------------------|
    | unknown | any     | any                        | none                                                |
    | known   | known   | any                        | if it stays within the cap, with those before it    |
    | known   | unknown | finished without a cost    | if spent and reserved are below the cap             |
    | known   | unknown | none finished, in flight   | none: the scout's cost comes first                  |
    | known   | unknown | none finished or in flight | the first, if spent and reserved are below the cap  |
    """
    if spent is None:
        return []
    # In whole nanodollars, as in run files, because sums of fractions are not exact.
    left = round(cap * _NANO) - round(spent * _NANO) - round(reserved * _NANO)
    chosen = []
    for index, dollars in enumerate(costs):
        cost = 0 if dollars is None else math.ceil(dollars * _NANO)
        fits = cost <= left if dollars is not None else left > 0 and (silent or not in_flight)
        if fits:
            chosen.append(index)
            left -= cost
            in_flight += dollars is None
    return chosen


def scouts(ended: int, under_way: int, left: float, doubted: float, highest: float) -> float:
    """Return how many more runs may begin whose cost is known only from runs on other models or tasks.

    Such runs cost `highest` at most there. `left` of the cap is neither spent nor reserved, and `doubted` of what is
    reserved is for such runs, of any task. There may be as many at a time as others have `ended`, if `left` pays for
    them even if those under way cost twice as much; `_SPREAD` times as many, if it pays for all of them at `_SPREAD`
    times the cost; and one in any case.
    """
    if not highest:
        return ended - under_way
    few = (left - doubted) / highest
    many = (left - (_SPREAD - 1) * doubted) / (_SPREAD * highest)
    return max(1 - under_way, min(ended - under_way, few), min(_SPREAD * ended - under_way, many))


# --- What is known ------------------------------------------------------------------------------------------


class Costs(msgspec.Struct):
    """Finished runs, of a task on a model or of all: the `known` ones cost `total` US dollars."""

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
    """The finished runs of a task, by model. `highest` is the highest mean; `revision` grows with each change."""

    models: dict[str, Costs] = msgspec.field(default_factory=dict)
    highest: float | None = msgspec.field(default=None, name="dearest")
    revision: int = msgspec.field(default=0, name="told")

    def of(self, model: str) -> Costs:
        return self.models.setdefault(model, Costs())

    def update(self) -> None:
        """Work out `highest` again after a change."""
        means = (costs.mean for costs in self.models.values())
        self.highest = max((mean for mean in means if mean is not None), default=None)
        self.revision += 1

    def estimate(self, model: str) -> float | None:
        """Return what a run costs. An unknown model is assumed to cost as much as the most expensive one."""
        return self.models[model].mean if self.knows(model) else self.highest

    def knows(self, model: str) -> bool:
        """Return True if a run on the model has reported its cost."""
        return model in self.models and self.models[model].known > 0

    @property
    def silent(self) -> bool:
        """Whether runs have finished, none of which has reported its cost."""
        return bool(self.models) and self.highest is None


class PendingCosts:
    """The runs of one task whose cost is not known yet, by model.

    Their estimate is needed at each scheduling of any task, so it is worked out again only after a change.
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
        """Return the estimate in US dollars by `costs`, and the number of runs on models without a known cost."""
        if self._as_of != costs.revision:
            self._reserved = math.fsum(
                runs * (costs.estimate(model) or 0.0) for model, runs in self._runs.items()
            )
            self._unseen = sum(runs for model, runs in self._runs.items() if not costs.knows(model))
            self._as_of = costs.revision
        return self._reserved, self._unseen


class Ledger(msgspec.Struct):
    """What continues over several invocations: by the quota and by the run files.

    By the quota, `spent` is US dollars since the sweep began, and `reading` the last reading, of the balance
    `period`. `since` is what finished runs are known to have cost after it: they are no longer in flight, but not
    yet in the reading.
    """

    costs: Costs = msgspec.field(default_factory=Costs)
    spent: float = 0.0
    since: float = 0.0
    reading: float | None = None
    period: str = ""

    def read(self, balance: QuotaBalance) -> None:
        """Take in a new reading. A reading that falls was reset by a refill; another balance cannot be compared."""
        period, reading = balance.refill_period.value, balance.quota_used
        if self.reading is None:
            # This first reading does not tell what runs have cost that finished before.
            self.spent = max(self.spent, self.costs.total)
        elif period == self.period:
            self.spent += reading if reading < self.reading else reading - self.reading
        self.reading, self.period, self.since = reading, period, 0.0


# --- The budget ---------------------------------------------------------------------------------------------

L = TypeVar("L", Costs, TaskCosts, Ledger)


class Budget:
    """Decides before each scheduling. `why` is the reason why the last answer was less than what was wanted, or "".

    The quota is asked at most once a second, however many tasks ask here.
    """

    def __init__(
        self,
        client: Api,
        journal: Journal,
        cap: float,
        emit: EmitSweepEvent,
        *,
        clock: Callable[[], float] = anyio.current_time,
    ) -> None:
        self.cap = cap
        self.why = ""
        self._client = client
        self._journal = journal
        self._emit = emit
        self._clock = clock
        self._ledger = self._load(_LEDGER, Ledger)
        self._costs: dict[str, TaskCosts] = {}
        self._asking = anyio.Lock()
        self._asked: float | None = None
        self._answers = False
        self._emitted: BudgetRead | None = None

    def know(self, tasks: Iterable[str]) -> None:
        """Load what the journal has of `tasks`: even a task that needs no run now tells how expensive runs may be."""
        for task in tasks:
            self._costs_of(task)

    async def read(self, *, good_for: float = 0.0) -> None:
        """Read the quota, unless its last reading is less than `good_for` seconds old.

        Spending is counted from the first reading; a resumed sweep continues counting.

        Raises:
            Unauthorized: The credentials are invalid. After any other failure the reading is unknown.
        """
        async with self._asking:
            if self._asked is not None and self._clock() - self._asked < good_for:
                return
            balance: QuotaBalance | None = None
            with anyio.move_on_after(PATIENCE):
                try:
                    quotas = await self._client.proxy_quotas()
                except Unauthorized:
                    raise
                except FanbenchError:
                    pass
                else:
                    known = [one for one in quotas.quota_balances if 0 <= one.quota_used < math.inf]
                    # The balance of the month counts, because it is refilled less often than that of the day.
                    preferred = {RefillPeriod.MONTHLY: 0, RefillPeriod.DAILY: 1}
                    balance = min(known, key=lambda one: preferred.get(one.refill_period, 2), default=None)
            self._asked = self._clock()
            self._answers = balance is not None
            if balance is not None:
                self._ledger.read(balance)
                self._save(_LEDGER, self._ledger)

    async def allow(self, task: str, models: Sequence[str], pending: Mapping[str, PendingCosts]) -> list[str]:
        """Return on which of `models` a run of `task` may be scheduled now, in this order.

        `pending` has, by task, the runs that were scheduled and not yet reported as `finished`. It is used after the
        quota has answered, because meanwhile runs may have ended or begun. Runs that are allowed here must be in it
        before the caller awaits anything.

        Raises:
            Unauthorized: The credentials are invalid.
        """
        if not models:
            return []
        await self.read(good_for=GOOD_FOR)
        # Nothing is awaited from here to the answer, so no other task gets the same money.
        return self._decide(task, models, {slug: one for slug, one in pending.items() if one.total})

    def finished(self, task: str, model: str, cost: float | None, run_id: int | None = None) -> None:
        """Report the cost of a run according to its run files; None is unknown.

        The run `run_id` counts once, however often it is reported, and in however many processes. An unknown cost may
        be reported later. A run without an id counts each time.
        """
        cost = cost if cost is not None and 0 <= cost < math.inf else None
        before, run = self._counted(run_id), Costs()
        if before.known or (before.unknown and cost is None):
            return
        run.add(cost)
        if run_id is not None:
            # Saved first: if the process is killed in between, the run counts too little, not twice, and the quota
            # still includes it.
            self._save(f"{_RUN}{run_id}", run)
        costs = self._costs_of(task)
        for one in (costs.of(model), self._ledger.costs):
            one.unknown -= before.unknown
            one.add(cost)
        costs.update()
        self._ledger.since += cost or 0.0
        self._save(f"{_COSTS}{task}", costs)
        self._save(_LEDGER, self._ledger)

    def is_counted(self, run_id: int) -> bool:
        """Return True if the run was reported as finished, with a cost or without."""
        return self._counted(run_id) != Costs()

    @property
    def used_up(self) -> bool:
        """Whether all of the cap has been spent, as far as is known."""
        spent = self._spent
        return spent is not None and spent >= self.cap

    @property
    def _spent(self) -> float | None:
        """US dollars by the quota or by the run files, whichever is more, because the quota may lag behind."""
        costs = self._ledger.costs
        if not self._answers and costs.unknown:
            return None
        return max(self._ledger.spent + self._ledger.since, costs.total)

    # --- The answer ---

    def _decide(self, task: str, models: Sequence[str], in_flight: Mapping[str, PendingCosts]) -> list[str]:
        costs, spent = self._costs_of(task), self._spent
        reserved, unknown, doubted = self._reserved(in_flight)
        # A run of unknown cost is assumed to cost as much as the most expensive known task. Before there is one, and
        # where that would be too much, a single run goes alone.
        guess = max((one.highest for one in self._costs.values() if one.highest is not None), default=None)
        doubted += unknown * (guess or 0.0)
        held = reserved + unknown * (guess or 0.0)
        left = self.cap - (spent or 0.0) - held
        asked = models
        if costs.highest is not None:
            asked = self._few(costs, models, in_flight.get(task), left, doubted)
            chosen = granted(self.cap, spent, held, list(map(costs.estimate, asked)))
        elif costs.silent or guess is None or not in_flight:
            unpriced = [None] * len(models)
            chosen = granted(self.cap, spent, held, unpriced, in_flight=unknown, silent=costs.silent)
        else:
            # Of tasks without a known cost, too, only a few go at a time, each with one run.
            under_way = sum(not self._costs_of(one).models for one in in_flight)
            ended = sum(bool(one.models) for one in self._costs.values())
            goes = task not in in_flight and scouts(ended, under_way, left, doubted, guess) >= 1
            asked = models[:goes]
            chosen = granted(self.cap, spent, held, [guess] * len(asked))
        pending = sum(one.total for one in in_flight.values())
        event = BudgetRead(self.cap, spent, None if 0 < unknown == pending else reserved, unknown)
        if event != self._emitted:
            self._emitted = event
            self._emit(event)
        answer = [asked[index] for index in chosen]
        refused = Counter(models) - Counter(answer)
        self.why = self._reason(task, refused, spent, reserved, task in in_flight) if refused else ""
        return answer

    def _few(
        self,
        costs: TaskCosts,
        models: Sequence[str],
        pending: PendingCosts | None,
        left: float,
        doubted: float,
    ) -> list[str]:
        """Leave out some of the models without a known cost on the task, so that only a few go at a time."""
        under_way = pending.reserved(costs)[1] if pending is not None else 0
        left -= math.fsum(costs.estimate(model) or 0.0 for model in models if costs.knows(model))
        few = scouts(len(costs.models), under_way, left, doubted, costs.highest or 0.0)
        asked = []
        for model in models:
            few -= not costs.knows(model)
            if costs.knows(model) or few >= 0:
                asked.append(model)
        return asked

    def _reserved(self, in_flight: Mapping[str, PendingCosts]) -> tuple[float, int, float]:
        """Return US dollars for the runs in flight of tasks with a known cost, and the number of the other runs.

        And the part of those dollars that is for models without a known cost on the task.
        """
        reserved, unknown, doubted = 0.0, 0, 0.0
        for task, pending in in_flight.items():
            costs = self._costs_of(task)
            if costs.highest is None:
                unknown += pending.total
            else:
                dollars, unseen = pending.reserved(costs)
                reserved += dollars
                doubted += unseen * costs.highest
        return reserved, unknown, doubted

    def _reason(
        self, task: str, refused: Iterable[str], spent: float | None, reserved: float, in_flight: bool
    ) -> str:
        if spent is None:
            return (
                "it is unknown what was spent: the quota call does not answer, and "
                f"{self._ledger.costs.unknown} finished runs do not report their cost"
            )
        text = f"spent ${spent:.4f} and reserved ${reserved:.4f} of ${self.cap:.12g}"
        costs = self._costs_of(task)
        if costs.highest is not None:
            model = min(refused, key=lambda one: costs.estimate(one) or 0.0)
            cost = costs.estimate(model) or 0.0
            if not costs.knows(model) and spent + reserved + cost <= self.cap:
                return f"{text}; models whose cost on {task} is unknown go a few at a time"
            return f"{text}; a run of {task} on {model} costs about ${cost:.4f}"
        if in_flight or spent + reserved < self.cap:
            return f"{text}; what a run of {task} costs is unknown until its first one has ended"
        return f"{text}; what a run of {task} costs is unknown"

    # --- The journal ---

    def _costs_of(self, task: str) -> TaskCosts:
        if task not in self._costs:
            self._costs[task] = self._load(f"{_COSTS}{task}", TaskCosts)
        return self._costs[task]

    def _counted(self, run_id: int | None) -> Costs:
        return Costs() if run_id is None else self._load(f"{_RUN}{run_id}", Costs)

    def _load(self, name: str, kind: type[L]) -> L:
        text = self._journal.value(name)
        try:
            return kind() if text is None else msgspec.json.decode(text, type=kind)
        except msgspec.DecodeError as error:
            raise JournalError(f"The budget in the journal is damaged: {error}.", hint=FRESH) from None

    def _save(self, name: str, value: Costs | TaskCosts | Ledger) -> None:
        self._journal.save_value(name, msgspec.json.encode(value).decode())


# --- Run files ----------------------------------------------------------------------------------------------


def run_cost(folder: Path) -> float | None:
    """Return what the run in `folder` cost in US dollars; None if its run files do not tell all of it.

    This reads files, so call it in a thread.
    """
    from fanbench.results import read_results

    found = read_results([folder])
    costs = [run.total_cost_usd for run in found.runs]
    if found.problems or not costs or None in costs:
        return None
    return math.fsum(cost for cost in costs if cost is not None)
