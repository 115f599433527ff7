"""Rankings: who leads, within which ranks, and who cannot be ranked."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import chain
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanbench.results.items import Item
from fanbench.results.ranking import Estimand, Ranking, rank_models
from fanbench.results.scores import TaskKey, scores_of
from fanbench.results.statistics import stratified_interval
from tests.results.items import answers, item, passes


def ranking(*items: Iterator[Item] | list[Item], **options: str) -> Ranking:
    return rank_models(scores_of(chain(*items)), **options)  # type: ignore[arg-type]


def names(found: Ranking) -> list[str]:
    return [row.model for row in found.models]


def test_tasks_count_the_same_whatever_their_sizes() -> None:
    """A score is the mean over tasks, and its interval that of exactly these tasks."""
    found = ranking(answers("m", passes(10, 10), task="small"), answers("m", passes(30, 100), task="large"))
    (row,) = found.models
    assert row.score == 0.65
    assert row.interval == stratified_interval([0.3, 1.0], [100, 10])
    assert (row.ranks, row.tasks, row.scored, row.planned) == ((1, 1), 2, 110, 110)


def test_models_that_chance_may_order_share_their_ranks() -> None:
    """Models that differ by little have all of their ranks, and one that is far better has the first alone."""
    found = ranking(
        answers("best", passes(98, 100)), answers("a", passes(60, 100)), answers("b", passes(57, 100))
    )
    assert [(row.model, row.ranks) for row in found.models] == [
        ("best", (1, 1)),
        ("a", (2, 3)),
        ("b", (2, 3)),
    ]


def test_a_model_that_lacks_a_task_is_not_ranked() -> None:
    """A model without a task comes last and has a score but no rank, although the score is the highest."""
    found = ranking(
        answers("whole", passes(5, 10), task="easy"),
        answers("whole", passes(2, 10), task="hard"),
        answers("part", passes(9, 10), task="easy"),
    )
    assert names(found) == ["whole", "part"]
    part = found.models[1]
    assert (part.score, part.tasks, part.ranks, part.interval) == (0.9, 1, None, None)


def test_errors_widen_the_bounds_and_keep_a_model_off_the_front() -> None:
    """A model with errors is ranked by what it has, with bounds, and does not count as efficient."""
    found = ranking(
        answers("sure", passes(6, 10), run_cost_usd=0.5),
        answers("part", [*passes(6, 6), *[None] * 4], run_cost_usd=0.1),
    )
    part, sure = found.models
    assert (part.model, part.scored, part.planned, part.efficient) == ("part", 6, 10, False)
    assert part.bounds is not None
    assert part.bounds.low < 0.6 < part.bounds.high == 1.0
    assert (sure.bounds, sure.efficient) == (None, True)


@given(
    st.lists(
        st.integers(1, 6).flatmap(
            lambda items: st.lists(
                st.lists(st.sampled_from([0.0, 0.1, 0.5, 1.0, None]), min_size=items, max_size=items),
                min_size=1,
                max_size=5,
            )
        ),
        min_size=1,
        max_size=3,
    )
)
def test_bounds_hold_the_interval(tasks: list[list[list[float | None]]]) -> None:
    """Whatever has a score, the interval of a model, and of a task, lies within its bounds."""
    scores = scores_of(
        chain.from_iterable(
            answers("m", values, task=str(task), repeat=repeat)
            for task, runs in enumerate(tasks)
            for repeat, values in enumerate(runs)
        )
    )
    (row,) = rank_models(scores).models
    cells = scores.cells.values()
    for interval, bounds in [(row.interval, row.bounds), *((cell.interval, cell.bounds) for cell in cells)]:
        if interval is not None and bounds is not None:
            assert bounds.low <= interval.low
            assert interval.high <= bounds.high


def test_bounds_know_that_items_differ() -> None:
    """One attempt without a score in a hundred makes the bounds hardly wider than the interval."""
    runs = [answers("m", passes(5, 10), repeat=repeat) for repeat in range(9)]
    (row,) = ranking(*runs, answers("m", [*passes(5, 9), None], repeat=9)).models
    assert row.interval is not None
    assert row.bounds is not None
    assert row.bounds.low == row.interval.low
    assert row.interval.high < row.bounds.high < row.interval.high + 0.01


def test_the_front_of_cost_and_score() -> None:
    """A model is efficient unless another has at least its score for less, or more for the same cost."""
    found = ranking(
        answers("cheap", passes(5, 10), run_cost_usd=0.1),
        answers("dear", passes(9, 10), run_cost_usd=0.9),
        answers("worse", passes(4, 10), run_cost_usd=0.2),
        answers("same", passes(9, 10), run_cost_usd=0.9),
        answers("unknown", passes(10, 10), run_cost_usd=None),
    )
    assert {row.model for row in found.models if row.efficient} == {"cheap", "dear", "same"}


def test_unbounded_tasks_are_named_and_left_out() -> None:
    """A task with values beyond 0 and 1 counts for nobody, and a model without bounded tasks has no score."""
    found = ranking(
        answers("m", passes(5, 10)), [item(70.0, task="elo", model="m"), item(0.5, task="elo", model="n")]
    )
    assert found.unbounded == (TaskKey("elo", "c"),)
    assert [(row.model, row.score, row.interval is None) for row in found.models] == [
        ("m", 0.5, False),
        ("n", None, True),
    ]


def test_few_tasks_say_little_about_tasks_like_them() -> None:
    """For tasks like these, three tasks of many items give a wide interval; for exactly these, a narrow one."""
    runs = [answers("m", passes(right, 200), task=str(right)) for right in (40, 100, 160)]
    items = list(chain(*runs))
    these, like = (
        ranking(items, estimand=estimand).models[0].interval for estimand in ("these", "like-these")
    )
    assert these is not None
    assert like is not None
    assert these.half_width < 0.05 < 0.3 < like.half_width


def test_equal_models_are_seldom_told_apart() -> None:
    """Among ten equal models, the ranks of all of them contain the first, in 19 of 20 experiments."""
    seeded, wrong = random.Random(5), 0
    for _ in range(40):
        runs = [answers(f"m{number}", [seeded.random() < 0.6 for _ in range(30)]) for number in range(10)]
        wrong += any(row.ranks != (1, 10) for row in ranking(*runs).models)
    assert wrong <= 4


@pytest.mark.parametrize("estimand", ["these", "like-these"])
def test_bounds_hold_where_what_is_hard_errors(estimand: Estimand) -> None:
    """If a quarter of what would have been wrong errors, the bounds contain the truth in 95 of 100 experiments.

    The truth is that of the estimand: the mean of the chances of these tasks, or of all tasks that are like them.
    """
    seeded, covered = random.Random(9), 0
    for _ in range(100):
        chances = [seeded.betavariate(6, 4) for _ in range(6)]
        truth = 0.6 if estimand == "like-these" else fmean(chances)
        runs = []
        for task, chance in enumerate(chances):
            values = [seeded.random() < chance for _ in range(20)]
            told = [value if value or seeded.random() > 0.25 else None for value in values]
            runs.append(answers("m", told, task=str(task)))
        bounds = ranking(*runs, estimand=estimand).models[0].bounds
        covered += bounds is not None and bounds.low <= truth <= bounds.high
    assert covered >= 95
