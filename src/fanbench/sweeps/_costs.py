"""What runs cost, as far as those that have finished tell: by task and model."""

from __future__ import annotations

import math
from collections import Counter

import msgspec

__all__ = ["Costs", "TaskCosts", "Unpaid"]


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
    """The finished runs of a task, by model. `dearest` is the highest mean; `told` changes whenever they do."""

    models: dict[str, Costs] = msgspec.field(default_factory=dict)
    dearest: float | None = None
    told: int = 0

    def of(self, model: str) -> Costs:
        return self.models.setdefault(model, Costs())

    def weigh(self) -> None:
        """After a change."""
        means = (costs.mean for costs in self.models.values())
        self.dearest = max((mean for mean in means if mean is not None), default=None)
        self.told += 1

    def estimate(self, model: str) -> float | None:
        """What a run costs. A model that nothing is known of is held to be as dear as the dearest."""
        return self.models[model].mean if self.knows(model) else self.dearest

    def knows(self, model: str) -> bool:
        """Whether a run on it has said what it cost."""
        return model in self.models and self.models[model].known > 0

    @property
    def silent(self) -> bool:
        return bool(self.models) and self.dearest is None


class Unpaid:
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
        if self._as_of != costs.told:
            self._reserved = math.fsum(
                runs * (costs.estimate(model) or 0.0) for model, runs in self._runs.items()
            )
            self._unseen = sum(runs for model, runs in self._runs.items() if not costs.knows(model))
            self._as_of = costs.told
        return self._reserved, self._unseen
