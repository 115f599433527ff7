"""Compare two models, or two sweeps, on the items that they have in common."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import chain
from statistics import fmean
from typing import Any, Literal, NamedTuple

from fanbench.results.display import ROUNDING, Display, Displayed, Table, change_text, p_text
from fanbench.results.frames import Frame, Framed
from fanbench.results.scales import Scale, scale_sentences
from fanbench.results.scores import Cell, Scores, TaskKey, task_names
from fanbench.results.statistics import (
    CONFIDENCE,
    Difference,
    Differences,
    Interval,
    holm,
    mean_difference,
    paired_difference,
)

__all__ = [
    "COLUMNS",
    "Common",
    "Comparison",
    "Flip",
    "LeftOut",
    "Pair",
    "Place",
    "Verdict",
    "compare_models",
    "compare_sweeps",
    "difference_text",
    "interval_of",
    "place_name",
]


#: The fields of the record of a task, and their types.
COLUMNS: Mapping[str, type] = {
    "task": str,
    "content": str,
    "model": str,
    "status": str,
    "items": int,
    "lacking": int,
    "better": int,
    "worse": int,
    "difference": float,
    "low": float,
    "high": float,
    "p": float,
    "p_adjusted": float,
    "smallest": float,
}

#: Nobody runs more to find out.
MANY_ITEMS = 1_000_000

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


def _verdict(interval: Interval, margin: float) -> Verdict:
    if interval.low > -margin:
        return Verdict.NOT_WORSE
    return Verdict.REGRESSION if interval.high < 0 else Verdict.CANNOT_TELL


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


class LeftOut(NamedTuple):
    """A task that is not compared, the model if it is not about all, and why."""

    key: TaskKey
    model: str
    status: Literal["other_content", "only_first", "only_second", "unbounded", "nothing_in_common"]


@dataclass(frozen=True, slots=True, repr=False)
class Comparison(Displayed, Framed):
    """Pairs of tasks, and what they say together: each task counts the same.

    Attributes:
        pairs: One for each task (and model, for two sweeps) that both sides have.
        difference: The estimate of the mean difference over these tasks, which the interval and the p-value are of: it
            has the two made-up items of `paired_difference`. None without a pair.
        of_tasks: What it is made of: the differences of the items of each task, over models.
        mean: The mean difference itself, from -1 to 1; None without a pair.
        like_these: The difference over tasks like these; None for fewer than two tasks.
        only_first: Tasks that only the first side has, with this content.
        only_second: Those that only the second side has.
        unbounded: Tasks with values that do not lie on their scales, which are not compared.
        apart: Tasks that both sides have, and models, without an item that has a score on both sides.
        scales: The scale of each task that both sides have.
        sides: What to call A and B.
    """

    pairs: tuple[Pair, ...]
    difference: Difference | None
    mean: float | None
    like_these: Difference | None
    of_tasks: tuple[Differences, ...] = ()
    only_first: tuple[TaskKey, ...] = ()
    only_second: tuple[TaskKey, ...] = ()
    unbounded: tuple[TaskKey, ...] = ()
    apart: tuple[Place, ...] = ()
    scales: Mapping[TaskKey, Scale] = field(default_factory=dict)
    sides: tuple[str, str] = ("before", "after")

    @property
    def items(self) -> int:
        return sum(pair.items for pair in self.pairs)

    @property
    def better(self) -> int:
        return sum(pair.better for pair in self.pairs)

    @property
    def worse(self) -> int:
        return sum(pair.worse for pair in self.pairs)

    def interval(self, confidence: float = CONFIDENCE) -> Interval | None:
        """Return the interval of the overall difference; None without a pair."""
        return None if self.difference is None else interval_of(self.difference, confidence)

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
        return _verdict(interval_of(self.difference, confidence), margin)

    def fallen(self, margin: float, confidence: float = CONFIDENCE) -> tuple[Pair, ...]:
        """The tasks on which B is lower beyond chance, and by more than `margin`."""
        return tuple(
            pair for pair in self.pairs if pair.adjusted < 1 - confidence and pair.difference < -margin
        )

    def items_to_tell(self, margin: float, confidence: float = CONFIDENCE) -> int | None:
        """The number of items like these, in all tasks together, that would tell if the difference stayed the same.

        None if more than a million would, or if none would say that B is not worse: it is, by the margin or more.
        """
        if self.mean is None or self.mean <= -margin:
            return None

        def tell(items: int) -> bool:
            found = paired_difference([task.times(items / self.items) for task in self.of_tasks])
            return _verdict(interval_of(found, confidence), margin) is not Verdict.CANNOT_TELL

        number = bisect_left(range(MANY_ITEMS + 1), True, lo=self.items, key=tell)
        return number if number <= MANY_ITEMS else None

    def names(self) -> dict[TaskKey, str]:
        """What to call the tasks of both sides."""
        apart = (key for key, _ in self.apart)
        pairs = (pair.key for pair in self.pairs)
        return task_names(chain(pairs, apart, self.only_first, self.only_second, self.unbounded))

    def changed(self) -> list[str]:
        """The tasks that both sides have, with other contents."""
        return sorted({key.task for key in self.only_first} & {key.task for key in self.only_second})

    def side_without_journal(self) -> int | None:
        """The side, 0 or 1, that has only versions of the `changed` tasks, if the other one has more; else None."""
        changed = self.changed()
        first, second = (
            {key.is_version for key in keys if key.task in changed}
            for keys in (self.only_first, self.only_second)
        )
        return None if not changed or first == second else int(second == {True})

    def left_out(self) -> Iterator[LeftOut]:
        """Yield what is not compared."""
        before, after = ({key.task for key in keys} for keys in (self.only_first, self.only_second))
        for key in self.only_first:
            yield LeftOut(key, "", "other_content" if key.task in after else "only_first")
        for key in self.only_second:
            yield LeftOut(key, "", "other_content" if key.task in before else "only_second")
        for key in self.unbounded:
            yield LeftOut(key, "", "unbounded")
        for key, model in self.apart:
            yield LeftOut(key, model, "nothing_in_common")

    def records(self) -> list[dict[str, Any]]:
        """Return records with the fields `COLUMNS`: those of the pairs first, and that of all together last."""
        records = [_record(pair) for pair in self.pairs] + [
            _left_out_record(each) for each in self.left_out()
        ]
        return records if self.difference is None else [*records, _overall(self, self.difference)]

    def frame(self) -> Frame:
        """Return a row for each record, and a column for each of its fields."""
        return Frame.of(COLUMNS, self.records())

    def table(self) -> Table:
        """Return a row for each task (and model, for two sweeps), and one for all of them."""
        return _table(self)

    def remarks(self, labels: tuple[str, str]) -> tuple[str, ...]:
        """Return sentences on what is not compared, and why; `labels` stand for the sides."""
        return tuple(_remarks(self, labels))

    def display(self, labels: tuple[str, str] = ("A", "B")) -> Display:
        """Return the table, what it says, and what is left out; in sentences, `labels` stand for the sides."""
        remarks = self.remarks(labels)
        return (
            Display((self.table(),), tuple(_legend(self, labels)), remarks)
            if self.pairs
            else Display(remarks=remarks)
        )


def compare_models(scores: Scores, first: str, second: str) -> Comparison:
    """Compare two models, A and B, on the tasks of one set of scores."""
    a, b = (
        {(key, ""): cell for (key, model), cell in sorted(scores.cells.items()) if model == side}
        for side in (first, second)
    )
    return replace(_compare(a, b), sides=(first, second))


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
    common = {place: Common.of(*cells) for place, cells in sides.items() if place[0] not in unbounded}
    found = {place: each.changes() for place, each in common.items() if each.before}
    pairs = [_pair(place, common[place], values) for place, values in found.items()]
    pairs = [
        replace(pair, adjusted=p) for pair, p in zip(pairs, holm([pair.p for pair in pairs]), strict=True)
    ]
    by_task = _over_models(found)
    of_tasks = [Differences.of(list(values.values())) for values in by_task]
    either = {place for place in (*first, *second) if place[0] in (tasks & others) - unbounded}
    return Comparison(
        tuple(pairs),
        paired_difference(of_tasks) if of_tasks else None,
        fmean(fmean(values.values()) for values in by_task) if by_task else None,
        mean_difference(of_tasks),
        tuple(of_tasks),
        only_first=tuple(sorted(tasks - others)),
        only_second=tuple(sorted(others - tasks)),
        unbounded=tuple(sorted(unbounded)),
        apart=tuple(sorted(either - found.keys())),
        scales={key: cell.scale for (key, _), (cell, _) in sides.items()},
    )


class Common(NamedTuple):
    """The mean scores of the items that have one on both sides, and how many items lack one on either side."""

    before: Mapping[str, float]
    after: Mapping[str, float]
    lacking: int

    @classmethod
    def of(cls, first: Cell, second: Cell) -> Common:
        """If the runs of one side have only a value, and those of the other have items, all runs are one item each.

        An F1 score may happen to be 1, and is then the mean of its parts.
        """
        a, b = first.scores(), second.scores()
        items = a.keys() & b.keys()
        if not items and (a.keys() == {""} or b.keys() == {""}) and a and b:
            return cls({"": fmean(a.values())}, {"": fmean(b.values())}, 0)
        lacking = len(first.items | second.items) - len(items)
        return cls({item: a[item] for item in items}, {item: b[item] for item in items}, lacking)

    def changes(self) -> dict[str, float]:
        """The difference of the scores of each item."""
        found = {item: self.after[item] - score for item, score in self.before.items()}
        return {item: 0.0 if abs(change) < ROUNDING else change for item, change in found.items()}


def _over_models(found: Mapping[Place, Mapping[str, float]]) -> list[dict[str, float]]:
    """The differences of the items of each task, over models: those of different models on an item go together."""
    tasks: dict[TaskKey, dict[str, list[float]]] = {}
    for (key, _), values in found.items():
        task = tasks.setdefault(key, {})
        for item, value in values.items():
            task.setdefault(item, []).append(value)
    return [{item: fmean(values) for item, values in task.items()} for task in tasks.values()]


def _pair(place: Place, common: Common, values: Mapping[str, float]) -> Pair:
    better = sum(value > 0 for value in values.values())
    worse = sum(value < 0 for value in values.values())
    found = paired_difference([Differences.of(list(values.values()))])
    flips = [
        Flip(place[0], place[1], item, common.before[item], common.after[item])
        for item, value in sorted(values.items(), key=lambda pair: (pair[1], pair[0]))
        if value
    ]
    return Pair(
        place[0],
        place[1],
        items=len(values),
        lacking=common.lacking,
        better=better,
        worse=worse,
        difference=fmean(values.values()),
        interval=interval_of(found),
        p=found.p,
        smallest=found.smallest_seen(),
        flips=tuple(flips),
    )


# --- What is shown --------------------------------------------------------------------------------------------


def difference_text(mean: float, difference: Difference) -> str:
    """`+0.025 (-0.010 to +0.060)`."""
    return f"{change_text(mean)} ({_range(interval_of(difference))})"


def _range(interval: Interval) -> str:
    return f"{change_text(interval.low)} to {change_text(interval.high)}"


def _smallest(difference: float) -> str:
    return f"{difference:.3f}" if difference <= 1 else "none"


def _table(found: Comparison) -> Table:
    names = found.names()
    several = any(pair.model for pair in found.pairs)
    header = ["task", *(["model"] if several else []), "items", "better", "worse", "difference"]
    header += ["95% interval", "p", "p adjusted", "would have seen"]
    rows = []
    for pair in found.pairs:
        items = f"{pair.items} of {pair.items + pair.lacking}" if pair.lacking else f"{pair.items}"
        cells = [names[pair.key], *([pair.model] if several else []), items]
        cells += [f"{pair.better}", f"{pair.worse}", change_text(pair.difference), _range(pair.interval)]
        rows.append((*cells, p_text(pair.p), p_text(pair.adjusted), _smallest(pair.smallest)))
    if len(found.pairs) > 1 and found.difference is not None and found.mean is not None:
        cells = [
            "all tasks",
            *([""] if several else []),
            f"{found.items}",
            f"{found.better}",
            f"{found.worse}",
        ]
        cells += [
            change_text(found.mean),
            _range(interval_of(found.difference)),
            p_text(found.difference.p),
            "",
        ]
        rows.append((*cells, _smallest(found.difference.smallest_seen())))
    return Table(tuple(header), tuple(rows))


def _legend(found: Comparison, labels: tuple[str, str]) -> Iterator[str]:
    (a, b), (first, second) = labels, found.sides
    yield f"{a} is {first}, {b} is {second}; a difference above 0 means that {b} scored higher."
    if found.like_these is not None:
        text = difference_text(found.like_these.mean, found.like_these)
        yield f"For tasks like these, the difference is {text}, p {p_text(found.like_these.p)}."


def _remarks(found: Comparison, labels: tuple[str, str]) -> Iterator[str]:
    """Say which tasks are not compared, and why, and which are on declared scales."""
    names = found.names()
    reasons = {
        "other_content": "the content differs",
        "only_first": f"only {labels[0]} has it",
        "only_second": f"only {labels[1]} has it",
        "nothing_in_common": "no item has a score on both sides",
    }
    tasks = defaultdict(list)
    for key, model, status in found.left_out():
        if status != "unbounded":
            tasks[status].append(place_name((key, model), names))
    for status, places in tasks.items():
        yield f"Not compared, because {reasons[status]}: {', '.join(places)}."
    if (side := found.side_without_journal()) is not None:
        yield f"{labels[side]} has no journal that tells the content of {', '.join(found.changed())}."
    compared = dict.fromkeys(pair.key for pair in found.pairs)
    yield from scale_sentences(compared, found.unbounded, found.scales, names, "Not compared")


def _record(pair: Pair) -> dict[str, Any]:
    return {
        "task": pair.key.task,
        "content": pair.key.content,
        "model": pair.model or None,
        "status": "compared",
        "items": pair.items,
        "lacking": pair.lacking,
        "better": pair.better,
        "worse": pair.worse,
        "difference": pair.difference,
        "low": pair.interval.low,
        "high": pair.interval.high,
        "p": pair.p,
        "p_adjusted": pair.adjusted,
        "smallest": pair.smallest,
    }


def _left_out_record(found: LeftOut) -> dict[str, Any]:
    named = {"task": found.key.task, "content": found.key.content, "model": found.model or None}
    return {**dict.fromkeys(COLUMNS), **named, "status": found.status, "items": 0}


def _overall(found: Comparison, difference: Difference) -> dict[str, Any]:
    """The record of all tasks together, in which each task counts the same."""
    interval = interval_of(difference)
    return dict.fromkeys(COLUMNS) | {
        "status": "overall",
        "items": found.items,
        "lacking": sum(pair.lacking for pair in found.pairs),
        "better": found.better,
        "worse": found.worse,
        "difference": found.mean,
        "low": interval.low,
        "high": interval.high,
        "p": difference.p,
        "smallest": difference.smallest_seen(),
    }
