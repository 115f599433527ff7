"""Rank models over all tasks: score, interval, the ranks that chance allows, and what is lacking."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from operator import mul, sub
from statistics import fmean
from typing import Any, Literal

from fanbench.errors import UsageError
from fanbench.results.display import (
    MISSING,
    NO_MODEL,
    Display,
    Displayed,
    Table,
    interval_text,
    money_text,
    score_text,
)
from fanbench.results.frames import Frame, Framed
from fanbench.results.passes import PassRates, pass_rates
from fanbench.results.scales import Scale, scale_sentences
from fanbench.results.scores import Cell, Scores, TaskKey, sum_if_known, task_names
from fanbench.results.statistics import (
    CONFIDENCE,
    Differences,
    Interval,
    effective_attempts,
    holm,
    mean_difference,
    mean_interval,
    paired_difference,
    rank_ranges,
    score_bounds,
    stratified_interval,
)

__all__ = ["COLUMNS", "Estimand", "Ranked", "Ranking", "all_differences", "rank_models"]

#: What a score is meant for: exactly these tasks, or tasks like these, of which these are a sample.
Estimand = Literal["these", "like-these"]


#: The fields of a model's record, and their types.
COLUMNS: Mapping[str, type] = {
    "rank_low": int,
    "rank_high": int,
    "model": str,
    "score": float,
    "low": float,
    "high": float,
    "method": str,
    "bound_low": float,
    "bound_high": float,
    "items_planned": int,
    "items_scored": int,
    "cost_usd": float,
    "seconds": float,
    "efficient": bool,
    "estimand": str,
    "tasks": int,
    "lacking": list,
    "by_server": list,
    "k": int,
    "pass_at_k": float,
    "pass_hat_k": float,
}


@dataclass(frozen=True, slots=True)
class Ranked:
    """One model.

    Attributes:
        model: Its slug.
        score: The mean over tasks of its mean score, from 0 to 1; None if it has no score.
        interval: The interval of the score; None if the model lacks a task.
        ranks: The first and the last rank that chance allows; None if the model lacks a task.
        tasks: The number of tasks of which it has a score.
        scored: The number of attempts that have a score.
        planned: The number of attempts that there should be.
        bounds: The interval whatever the attempts without a score would have given; None if all have one.
        cost_usd: The mean cost of a run in US dollars, if all runs report it.
        seconds: The mean time of a run.
        efficient: No other ranked model costs less and scores at least as much.
        lacking: The tasks of which it has no score.
        by_server: The tasks whose score is what the server reports, because nothing of its runs is here. Their
            items are not known, so there is no interval, and the model is not ranked.
        cut: The tasks of which a run errored although all known items have scores: there may have been more.
        passes: Its pass@k and pass^k, if they were asked for and its attempts allow it.
    """

    model: str
    score: float | None
    interval: Interval | None
    ranks: tuple[int, int] | None
    tasks: int
    scored: int
    planned: int
    bounds: Interval | None = None
    cost_usd: float | None = None
    seconds: float | None = None
    efficient: bool = False
    lacking: tuple[TaskKey, ...] = ()
    by_server: tuple[TaskKey, ...] = ()
    cut: tuple[TaskKey, ...] = ()
    passes: PassRates | None = None

    @property
    def complete(self) -> bool:
        """Whether all attempts have a score, as far as is known."""
        return self.scored == self.planned and not self.cut


@dataclass(frozen=True, slots=True, repr=False)
class Ranking(Displayed, Framed):
    """All models, the ranked ones first, from the highest score to the lowest.

    `tasks` are those that count. `unbounded` are left out: some of their values do not lie on their scales, which are
    from 0 to 1 unless others are declared. `scales` has all scales. `k` is that of pass@k, if it was asked for.
    `chosen` are sentences on which tasks and models were chosen.
    """

    models: tuple[Ranked, ...]
    tasks: tuple[TaskKey, ...]
    unbounded: tuple[TaskKey, ...]
    estimand: Estimand
    scales: Mapping[TaskKey, Scale]
    k: int | None = None
    chosen: tuple[str, ...] = ()

    def names(self) -> dict[TaskKey, str]:
        """What to call the tasks."""
        return task_names((*self.tasks, *self.unbounded))

    def records(self) -> list[dict[str, Any]]:
        """Return a record with the fields `COLUMNS` for each model."""
        names = self.names()
        return [_record(row, self, names) for row in self.models]

    def frame(self) -> Frame:
        """Return a row for each model, and a column for each field of its record."""
        return Frame.of(COLUMNS, self.records())

    def table(self) -> Table:
        """Return a row for each model."""
        columns = _columns(self)
        return Table(
            tuple(columns), tuple(tuple(text(row) for text in columns.values()) for row in self.models)
        )

    def display(self) -> Display:
        """Return the table, what its columns mean in this ranking, and what it leaves out."""
        return Display((self.table(),), tuple(_legend(self)), tuple(_remarks(self)))


def rank_models(
    scores: Scores, estimand: Estimand = "these", confidence: float = CONFIDENCE, *, k: int | None = None
) -> Ranking:
    """Rank all models, and with `k` compute their pass@k and pass^k.

    A model that lacks a score on any task is not comparable, and is not ranked. Two models differ beyond chance by
    their common items (or, for tasks like these, by the tasks), after the adjustment of Holm for the number of pairs.

    Raises:
        UsageError: `k` is less than 1.
    """
    if k is not None and k < 1:
        raise UsageError(f"k is {k}.", hint="Write a number of attempts, at least 1.")
    tasks = scores.bounded()
    rows = [_row(model, scores.of(model, tasks), tasks, estimand, confidence) for model in scores.models]
    if k is not None:
        rows = [replace(row, passes=pass_rates(scores, row.model, k)) for row in rows]
    rows.sort(key=lambda row: (row.interval is None, -(row.score or 0.0), row.model))
    ranked = [row for row in rows if row.interval is not None]
    better = _better(scores, [row.model for row in ranked], tasks, estimand, confidence)
    ranges = rank_ranges(len(ranked), better)
    ranked = [
        replace(row, ranks=span, efficient=_is_efficient(row, ranked))
        for row, span in zip(ranked, ranges, strict=True)
    ]
    unbounded = tuple(key for key in scores.tasks if key not in tasks)
    return Ranking((*ranked, *rows[len(ranked) :]), tasks, unbounded, estimand, scores.scales(), k)


def _row(
    model: str, cells: Sequence[Cell], tasks: Sequence[TaskKey], estimand: Estimand, confidence: float
) -> Ranked:
    scored = [cell for cell in cells if cell.totals]
    said = [(cell.key, cell.scale.score(cell.server_mean)) for cell in cells if cell.server_mean is not None]
    means = [fmean(cell.scores().values()) for cell in scored]
    everywhere = bool(tasks) and len(scored) == len(tasks)
    planned = sum(cell.planned for cell in cells)
    attempts = sum(cell.scored for cell in cells)
    interval = None
    if everywhere and estimand == "these":
        interval = stratified_interval(means, [cell.effective() for cell in cells], confidence)
    elif everywhere:
        interval = mean_interval(means, attempts, confidence)
    cost, time = sum_if_known([cell.cost for cell in cells]), sum_if_known([cell.time for cell in cells])
    runs = sum(cell.repeats for cell in cells)
    return Ranked(
        model,
        score=fmean([*means, *(score for _, score in said)]) if means or said else None,
        interval=interval,
        ranks=None,
        tasks=len(scored) + len(said),
        scored=attempts,
        planned=planned,
        bounds=_bounds(cells, estimand, confidence).with_all_of(interval)
        if interval is not None and attempts < planned
        else None,
        cost_usd=cost / runs if cost is not None and runs else None,
        seconds=time / runs if time is not None and runs else None,
        lacking=tuple(key for key in tasks if key not in {cell.key for cell in scored} | dict(said).keys()),
        by_server=tuple(key for key, _ in said),
        cut=tuple(cell.key for cell in cells if cell.may_have_more),
    )


def _bounds(cells: Sequence[Cell], estimand: Estimand, confidence: float) -> Interval:
    """The interval of the score, whatever the attempts without a score would have given."""
    extremes = [cell.extremes() for cell in cells]
    lowest, highest = ([fmean(means) for means in side] for side in zip(*extremes, strict=True))
    if estimand == "like-these":
        return score_bounds(lowest, highest, sum(cell.planned for cell in cells), confidence)
    fewest, most = (
        [effective_attempts(means, cell.planned) for means, cell in zip(side, cells, strict=True)]
        for side in zip(*extremes, strict=True)
    )
    low = stratified_interval(lowest, fewest, confidence).low
    return Interval(low, stratified_interval(highest, most, confidence).high, "bounds")


def _is_efficient(row: Ranked, ranked: Sequence[Ranked]) -> bool:
    """Whether no model with all attempts scored has at least this score for less, or more for the same cost."""
    if row.cost_usd is None or row.score is None or not row.complete:
        return False
    return not any(
        other.cost_usd is not None
        and other.score is not None
        and other.complete
        and (other.cost_usd, -other.score) != (row.cost_usd, -row.score)
        and other.cost_usd <= row.cost_usd
        and other.score >= row.score
        for other in ranked
    )


# --- All pairs ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Column:
    """The mean scores of one model on all items of a task, always in the same order.

    Attributes:
        scores: The mean scores, with 0 for an item that has none.
        lacking: The places of these items.
        total: The sum of the scores.
        squares: The sum of their squares.
    """

    scores: list[float]
    lacking: frozenset[int]
    total: float
    squares: float

    @classmethod
    def of(cls, cell: Cell, items: Sequence[str]) -> _Column:
        known = cell.scores()
        scores = [known.get(item, 0.0) for item in items]
        lacking = frozenset(at for at, item in enumerate(items) if item not in known)
        return cls(scores, lacking, math.fsum(scores), math.fsum(map(mul, scores, scores)))

    def minus(self, other: _Column) -> Differences:
        """The differences on the common items. If these are all, one pass over them is enough."""
        if not (lacking := self.lacking | other.lacking):
            products = sum(map(mul, self.scores, other.scores))
            squares = max(0.0, self.squares + other.squares - 2 * products)
            return Differences(len(self.scores), self.total - other.total, squares)
        values = list(map(sub, self.scores, other.scores))
        for place in lacking:
            values[place] = 0.0
        return Differences(len(values) - len(lacking), math.fsum(values), sum(map(mul, values, values)))


def all_differences(
    scores: Scores, models: Sequence[str], tasks: Sequence[TaskKey]
) -> Iterator[list[Differences]]:
    """Yield how each pair of models differs on the tasks that both have items of: the first without the second."""
    items = {key: sorted(names) for key, names in scores.names().items()}
    columns = [
        {cell.key: _Column.of(cell, items[cell.key]) for cell in scores.of(model, tasks)} for model in models
    ]
    for first, second in combinations(columns, 2):
        found = [first[key].minus(second[key]) for key in tasks if key in first and key in second]
        yield [each for each in found if each.items]


def _better(
    scores: Scores, models: Sequence[str], tasks: Sequence[TaskKey], estimand: Estimand, confidence: float
) -> list[tuple[int, int]]:
    """The pairs of models, by their numbers, of which the first is better than the second beyond chance."""
    found = []
    for common in all_differences(scores, models, tasks):
        if estimand == "these":
            found.append(paired_difference(common) if common else None)
        else:
            found.append(mean_difference(common))
    adjusted = holm([difference.p if difference else 1.0 for difference in found])
    return [
        pair if difference.mean > 0 else pair[::-1]
        for pair, difference, p in zip(combinations(range(len(models)), 2), found, adjusted, strict=True)
        if difference is not None and p < 1 - confidence
    ]


# --- What is shown --------------------------------------------------------------------------------------------


def _columns(ranking: Ranking) -> dict[str, Callable[[Ranked], str]]:
    """The columns of the table by their headers; those that no model has are left out."""
    columns: dict[str, Callable[[Ranked], str]] = {
        "rank": lambda row: _ranks(row.ranks),
        "model": lambda row: row.model or NO_MODEL,
        "score": lambda row: score_text(row.score) + "*" * bool(row.by_server),
        "95% interval": lambda row: _interval(row.interval),
        "scored": lambda row: f"{row.scored}/{row.planned}",
    }
    if any(row.bounds for row in ranking.models):
        columns["if errors fail – pass"] = lambda row: _interval(row.bounds)
    if k := ranking.k:
        columns[f"pass@{k}"] = lambda row: score_text(row.passes.at_k if row.passes else None)
        columns[f"pass^{k}"] = lambda row: score_text(row.passes.hat_k if row.passes else None)
    costs = any(row.cost_usd is not None for row in ranking.models)
    if costs:
        columns["cost a run"] = lambda row: money_text(row.cost_usd)
    columns["seconds a run"] = lambda row: MISSING if row.seconds is None else f"{row.seconds:.1f}"
    if costs:
        columns["front"] = lambda row: "●" if row.efficient else ""
    return columns


def _ranks(ranks: tuple[int, int] | None) -> str:
    if ranks is None:
        return MISSING
    return str(ranks[0]) if ranks[0] == ranks[1] else f"{ranks[0]}–{ranks[1]}"


def _interval(interval: Interval | None) -> str:
    return interval_text(interval.low, interval.high) if interval else MISSING


def _legend(ranking: Ranking) -> Iterator[str]:
    """Say what the columns mean, as far as it depends on this ranking."""
    number = len(ranking.tasks)
    if ranking.estimand == "these":
        what = "exactly this task" if number == 1 else f"exactly these {number} tasks"
    else:
        what = f"tasks like these {number}"
    yield f"The score is the mean over tasks; interval and ranks are for {what}."
    yield from ranking.chosen
    if any(row.efficient for row in ranking.models):
        yield "●: no other ranked model costs less and scores at least as much."
    if any(row.by_server for row in ranking.models):
        yield "*: the server reports this for runs that are not downloaded. Their items are not known."


def _remarks(ranking: Ranking) -> Iterator[str]:
    """Say what the numbers leave out."""
    names, k = ranking.names(), ranking.k
    for row in ranking.models:
        model = row.model or NO_MODEL
        if row.lacking:
            what = ", ".join(names[key] for key in row.lacking)
            yield f"{model} is not ranked: it has no score on {what}."
        if row.by_server:
            what = ", ".join(names[key] for key in row.by_server)
            yield f"{model} is not ranked: its score on {what} is known only from the server."
        if row.cut:
            what = ", ".join(names[key] for key in row.cut)
            yield f"{model} may have had more items: all that are known have scores, but a run of {what} errored."
    yield from scale_sentences(ranking.tasks, ranking.unbounded, ranking.scales, names, "Left out")
    if k and any(row.passes is None for row in ranking.models):
        yield (
            f"pass@{k} and pass^{k} need {k} attempts with a score at every item of the tasks that pass or fail."
        )


def _record(row: Ranked, ranking: Ranking, names: Mapping[TaskKey, str]) -> dict[str, Any]:
    low, high = row.ranks or (None, None)
    interval, bounds = row.interval, row.bounds
    return {
        "rank_low": low,
        "rank_high": high,
        "model": row.model,
        "score": row.score,
        "low": interval.low if interval else None,
        "high": interval.high if interval else None,
        "method": interval.method if interval else None,
        "bound_low": bounds.low if bounds else None,
        "bound_high": bounds.high if bounds else None,
        "items_planned": row.planned,
        "items_scored": row.scored,
        "cost_usd": row.cost_usd,
        "seconds": row.seconds,
        "efficient": row.efficient,
        "estimand": ranking.estimand,
        "tasks": row.tasks,
        "lacking": [names[key] for key in row.lacking],
        "by_server": [names[key] for key in row.by_server],
        "k": ranking.k,
        "pass_at_k": row.passes.at_k if row.passes else None,
        "pass_hat_k": row.passes.hat_k if row.passes else None,
    }
