"""Scores and rankings of many items are computed fast, and equal what the definitions give, item by item."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from statistics import fmean
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanbench.results.items import Item, ItemState
from fanbench.results.ranking import rank_models
from fanbench.results.scores import Cell, Scores, scores_of
from fanbench.results.statistics import (
    Difference,
    Differences,
    holm,
    mean_difference,
    paired_difference,
    rank_ranges,
)
from tests.results.items import item

SCORES = st.sampled_from([0.0, 1.0]) | st.floats(0, 1)


@st.composite
def attempts(draw: st.DrawFn) -> list[Item]:
    """Attempts of a few models at a few tasks: some errored, some runs left no items, some were made again."""
    found = []
    for model in "abc"[: draw(st.integers(1, 3))]:
        for task in "xyz"[: draw(st.integers(1, 3))]:
            for repeat in range(1, draw(st.integers(1, 3)) + 1):
                fields: dict[str, Any] = {"model": model, "task": task, "repeat": repeat}
                fields |= {"run_seconds": draw(st.none() | st.just(2.0)), "superseded": draw(st.booleans())}
                if draw(st.integers(0, 9)) == 0:
                    state = draw(st.sampled_from([ItemState.ERRORED, ItemState.NO_VALUE, ItemState.MISSING]))
                    found.append(item(None, state=state, **fields))
                    continue
                values = draw(st.lists(SCORES | st.none(), min_size=1, max_size=6))
                found += [item(value, item=str(at), **fields) for at, value in enumerate(values)]
    return draw(st.permutations(found))


@given(attempts())
def test_scores_are_those_of_each_attempt(items: list[Item]) -> None:
    """Each cell counts the attempts of its model at its task one by one, in whatever order they come."""
    scores = scores_of(items)
    counting = [each for each in items if not each.superseded]
    assert {(key.task, model) for key, model in scores.cells} == {
        (each.task, each.model) for each in counting
    }
    for (key, model), cell in scores.cells.items():
        mine = [each for each in counting if (each.task, each.model) == (key.task, model)]
        named = {each.item for each in counting if each.task == key.task and each.item} or {""}
        assert (set(cell.items), cell.repeats) == (named, len({each.repeat for each in mine}))
        values: dict[str, list[float]] = {}
        counts = dict.fromkeys(ItemState, 0)
        for each in mine:
            counts[each.state] += 1 if each.item else len(named)
            if each.value is not None:
                values.setdefault(each.item, []).append(each.value)
        assert cell.scores() == {name: sum(its) / len(its) for name, its in values.items()}
        assert (cell.scored, cell.errored, cell.no_value) == (
            *(sum(map(len, values.values())), counts[ItemState.ERRORED], counts[ItemState.NO_VALUE]),
        )
        runs = {each.repeat: each.run_seconds for each in mine}
        seconds = [each for each in runs.values() if each is not None]
        assert cell.time == (sum(seconds) if len(seconds) == len(runs) else None)


def common(first: Cell, second: Cell) -> Differences:
    a, b = first.scores(), second.scores()
    return Differences.of([a[name] - b[name] for name in a.keys() & b.keys()])


def difference(first: Sequence[Cell], second: Sequence[Cell], estimand: str) -> Difference | None:
    found = [common(a, b) for a, b in zip(first, second, strict=True)]
    found = [each for each in found if each.items]
    if estimand == "like-these":
        return mean_difference(found)
    return paired_difference(found) if found else None


def ranks(scores: Scores, models: Sequence[str], estimand: str, confidence: float) -> list[tuple[int, int]]:
    """The ranks by the definition: all pairs, item by item, adjusted for their number."""
    pairs = list(combinations(range(len(models)), 2))
    found = [difference(scores.of(models[a]), scores.of(models[b]), estimand) for a, b in pairs]
    adjusted = holm([each.p if each else 1.0 for each in found])
    better = [
        pair if each.mean > 0 else pair[::-1]
        for pair, each, p in zip(pairs, found, adjusted, strict=True)
        if each is not None and p < 1 - confidence
    ]
    return rank_ranges(len(models), better)


@pytest.mark.parametrize("estimand", ["these", "like-these"])
@given(items=attempts(), confidence=st.floats(0.1, 0.95))
def test_ranks_are_those_of_all_pairs(estimand: str, items: list[Item], confidence: float) -> None:
    """Models are ranked as the differences on their common items say, whatever items they lack."""
    scores = scores_of(items)
    found = rank_models(scores, estimand, confidence)  # type: ignore[arg-type]
    ranked = [row for row in found.models if row.ranks is not None]
    assert [row.ranks for row in ranked] == ranks(scores, [row.model for row in ranked], estimand, confidence)
    for row in found.models:
        means = [fmean(cell.scores().values()) for cell in scores.of(row.model) if cell.totals]
        assert row.score == (fmean(means) if means else None)
