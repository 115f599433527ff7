"""Compare two models, or two sweeps, on the items that they have in common."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from statistics import fmean

from fanbench.results.scales import Scale
from fanbench.results.scores import Cell, Scores, TaskKey
from fanbench.results.statistics import (
    CONFIDENCE,
    Difference,
    Differences,
    Interval,
    holm,
    items_for,
    mcnemar_mid_p,
    mean_difference,
    paired_difference,
)

__all__ = [
    "Comparison",
    "Flip",
    "Pair",
    "Place",
    "Verdict",
    "compare_models",
    "compare_sweeps",
    "interval_of",
    "place_name",
]


#: A task, and the model, if both sides are the same model; empty if the sides are two models.
Place = tuple[TaskKey, str]


def place_name(place: Place, names: Mapping[TaskKey, str]) -> str:
    """Return what to call a place, given the names of tasks."""
    key, model = place
    return f"{names[key]} on {model}" if model else names[key]


def interval_of(difference: Difference, confidence: float = CONFIDENCE) -> Interval:
    """Return the interval of a difference of scores, which is at most 1 in either direction."""
    found = difference.interval(confidence)
    return Interval(max(-1.0, found.low), min(1.0, found.high), found.method)


class Verdict(StrEnum):
    """What a comparison says of the second side."""

    NOT_WORSE = "not worse"
    REGRESSION = "regression"
    CANNOT_TELL = "cannot tell"


@dataclass(frozen=True, slots=True)
class Flip:
    """An item that changed, with its mean score on either side."""

    key: TaskKey
    model: str
    item: str
    before: float
    after: float


@dataclass(frozen=True, slots=True)
class Pair:
    """The two sides of one task: A and B, or before and after, on their common items.

    Attributes:
        key: The task.
        model: The model, if both sides are the same model; empty if the sides are two models.
        items: The number of items that have a score on both sides.
        lacking: How many of the task's items lack a score on either side.
        better: On how many items B scored higher.
        worse: On how many items B scored lower.
        difference: The mean score of B without that of A.
        interval: Its interval.
        p: The p-value of no difference.
        adjusted: The p-value adjusted for the number of tasks.
        smallest: The smallest true difference that would have been found.
        flips: The items that changed.
    """

    key: TaskKey
    model: str
    items: int
    lacking: int
    better: int
    worse: int
    difference: float
    interval: Interval
    p: float
    smallest: float
    flips: tuple[Flip, ...]
    adjusted: float = 1.0


@dataclass(frozen=True, slots=True)
class Comparison:
    """Pairs of tasks, and what they say together: each task counts the same.

    Attributes:
        pairs: One for each task (and model, for two sweeps) that both sides have.
        difference: The estimate of the mean difference over these tasks, which the interval and the p-value are of: it
            has the two made-up items of `paired_difference`. None without a pair.
        mean: The mean difference itself, from -1 to 1; None without a pair.
        like_these: The difference over tasks like these; None for fewer than two tasks.
        only_first: Tasks that only the first side has, with this content.
        only_second: Those that only the second side has.
        unbounded: Tasks with values that do not lie on their scales, which are not compared.
        apart: Tasks that both sides have, and models, without an item that has a score on both sides.
        scales: The scale of each task that both sides have.
    """

    pairs: tuple[Pair, ...]
    difference: Difference | None
    mean: float | None
    like_these: Difference | None
    only_first: tuple[TaskKey, ...] = ()
    only_second: tuple[TaskKey, ...] = ()
    unbounded: tuple[TaskKey, ...] = ()
    apart: tuple[Place, ...] = ()
    scales: Mapping[TaskKey, Scale] = field(default_factory=dict)

    @property
    def items(self) -> int:
        return sum(pair.items for pair in self.pairs)

    def verdict(self, margin: float, confidence: float = CONFIDENCE) -> Verdict:
        """Say whether B is worse than A by more than `margin`, overall or on any task.

        B is not worse if the interval of the overall difference lies above `-margin`, and no single task is lower
        beyond chance, after the adjustment for their number, and by more than the margin. It is a regression if a
        task is, or if the overall interval lies below 0. Otherwise the items cannot tell.
        """
        if self.difference is None:
            return Verdict.CANNOT_TELL
        if self.fallen(margin, confidence):
            return Verdict.REGRESSION
        interval = interval_of(self.difference, confidence)
        if interval.low > -margin:
            return Verdict.NOT_WORSE
        return Verdict.REGRESSION if interval.high < 0 else Verdict.CANNOT_TELL

    def fallen(self, margin: float, confidence: float = CONFIDENCE) -> tuple[Pair, ...]:
        """The tasks on which B is lower beyond chance, and by more than `margin`."""
        return tuple(
            pair for pair in self.pairs if pair.adjusted < 1 - confidence and pair.difference < -margin
        )

    def items_to_tell(self, margin: float) -> int | None:
        """The number of items, in all tasks together, with which a difference of 0 could be told from `margin`."""
        if self.difference is None:
            return None
        # The error falls with the square root of the number of items, if the tasks grow alike.
        return items_for(margin, self.difference.error * self.items**0.5)


def compare_models(scores: Scores, first: str, second: str) -> Comparison:
    """Compare two models, A and B, on the tasks of one set of scores."""
    a, b = (
        {(key, ""): cell for (key, model), cell in sorted(scores.cells.items()) if model == side}
        for side in (first, second)
    )
    return _compare(a, b)


def compare_sweeps(before: Scores, after: Scores, models: Iterable[str] | None = None) -> Comparison:
    """Compare what the same models scored on the same tasks before and after.

    All models that both sides have, or those of `models`. Only tasks with the same content are compared.
    """
    chosen = set(before.models) & set(after.models)
    chosen &= chosen if models is None else set(models)
    a, b = (
        {place: cell for place, cell in sorted(side.cells.items()) if place[1] in chosen}
        for side in (before, after)
    )
    return _compare(a, b)


def _compare(first: Mapping[Place, Cell], second: Mapping[Place, Cell]) -> Comparison:
    tasks, others = {key for key, _ in first}, {key for key, _ in second}
    sides = {place: (cell, second[place]) for place, cell in first.items() if place in second}
    unbounded = {key for (key, _), cells in sides.items() if not all(cell.bounded for cell in cells)}
    found = {
        place: _differences(*cells)
        for place, cells in sides.items()
        if place[0] not in unbounded and cells[0].totals.keys() & cells[1].totals.keys()
    }
    pairs = [_pair(place, sides[place], values) for place, values in found.items()]
    pairs = [
        replace(pair, adjusted=p) for pair, p in zip(pairs, holm([pair.p for pair in pairs]), strict=True)
    ]
    by_task = _over_models(found)
    either = {place for place in (*first, *second) if place[0] in (tasks & others) - unbounded}
    return Comparison(
        tuple(pairs),
        paired_difference([Differences.of(list(values.values())) for values in by_task]) if by_task else None,
        fmean(fmean(values.values()) for values in by_task) if by_task else None,
        mean_difference([fmean(values.values()) for values in by_task]),
        only_first=tuple(sorted(tasks - others)),
        only_second=tuple(sorted(others - tasks)),
        unbounded=tuple(sorted(unbounded)),
        apart=tuple(sorted(either - found.keys())),
        scales={key: cell.scale for (key, _), (cell, _) in sides.items()},
    )


def _differences(first: Cell, second: Cell) -> dict[str, float]:
    """The difference of the mean scores of each common item."""
    a, b = first.scores(), second.scores()
    return {item: b[item] - score for item, score in a.items() if item in b}


def _over_models(found: Mapping[Place, Mapping[str, float]]) -> list[dict[str, float]]:
    """The differences of the items of each task, over models: those of different models on an item go together."""
    tasks: dict[TaskKey, dict[str, list[float]]] = {}
    for (key, _), values in found.items():
        task = tasks.setdefault(key, {})
        for item, value in values.items():
            task.setdefault(item, []).append(value)
    return [{item: fmean(values) for item, values in task.items()} for task in tasks.values()]


def _pair(place: Place, cells: tuple[Cell, Cell], values: Mapping[str, float]) -> Pair:
    first, second = cells
    a, b = first.scores(), second.scores()
    better = sum(value > 0 for value in values.values())
    worse = sum(value < 0 for value in values.values())
    found = paired_difference([Differences.of(list(values.values()))])
    # With one attempt per item on either side, the test for pairs of passes and failures is the better one.
    single = first.boolean and second.boolean and first.scored == len(a) and second.scored == len(b)
    flips = [
        Flip(place[0], place[1], item, a[item], b[item])
        for item, value in sorted(values.items(), key=lambda pair: (pair[1], pair[0]))
        if value
    ]
    return Pair(
        place[0],
        place[1],
        items=len(values),
        lacking=len(first.items | second.items) - len(values),
        better=better,
        worse=worse,
        difference=fmean(values.values()),
        interval=interval_of(found),
        p=mcnemar_mid_p(better, worse) if single else found.p,
        smallest=found.smallest_seen(),
        flips=tuple(flips),
    )
