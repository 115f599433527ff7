"""The statistics agree with scipy and statsmodels, and their intervals cover what they claim."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from itertools import combinations
from statistics import fmean
from typing import Any

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from fanbench.results.statistics import (
    Differences,
    effective_attempts,
    holm,
    items_for,
    mean_difference,
    mean_interval,
    paired_difference,
    pass_at_k,
    pass_hat_k,
    rank_ranges,
    score_bounds,
    stratified_interval,
    t_cdf,
    t_quantile,
    wilson,
    worst_difference,
)

probabilities = st.floats(0.0005, 0.9995)
freedom = st.floats(0.5, 5000)
p_values = st.lists(st.floats(0, 1), min_size=1, max_size=30)
scores = st.lists(st.floats(0, 1), min_size=1, max_size=30)


def near(value: Any) -> Any:
    return pytest.approx(value, rel=1e-9, abs=1e-12)


# --- Witnesses ------------------------------------------------------------------------------------------------


@given(st.floats(-60, 60), freedom)
@example(1e-7, 8.0)
def test_the_distribution_of_t(t: float, df: float) -> None:
    """The distribution function is scipy's, in the tails as well."""
    assert t_cdf(t, df) == near(stats.t.cdf(t, df))


@given(probabilities, freedom)
def test_the_quantiles_of_t(probability: float, df: float) -> None:
    """The quantile is scipy's."""
    assert t_quantile(probability, df) == near(stats.t.ppf(probability, df))


@given(st.integers(1, 5000), st.data())
def test_wilsons_interval(n: int, data: st.DataObject) -> None:
    """The interval is statsmodels', and contains the share also at 0 and 1."""
    passed = data.draw(st.integers(0, n))
    ours = wilson(passed / n, n)
    low, high = proportion_confint(passed, n, method="wilson")
    assert (ours.low, ours.high) == (near(max(0, low)), near(min(1, high)))
    assert ours.low <= passed / n <= ours.high


@given(p_values)
@settings(max_examples=10)  # theirs takes 0.1 s
def test_holms_p_values(p: list[float]) -> None:
    """The adjusted p-values are those of statsmodels."""
    assert holm(p) == near(list(multipletests(p, method="holm")[1]))


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=40))
def test_the_mean_difference_over_tasks(values: list[float]) -> None:
    """The p-value and the interval are those of scipy's t test of one sample, if tasks differ more than items do."""
    tasks = [Differences(10**9, value * 10**9, value * value * 10**9) for value in values]
    difference = mean_difference(tasks)
    assert difference is not None
    assume(difference.error > paired_difference(tasks).error)
    witness = stats.ttest_1samp(values, 0)
    assert difference.p == pytest.approx(witness.pvalue, rel=1e-6, abs=1e-12)
    interval, theirs = difference.interval(), witness.confidence_interval()
    assert interval.low == pytest.approx(theirs.low)
    assert interval.high == pytest.approx(theirs.high)


@given(st.integers(0, 50), st.integers(0, 50), st.integers(0, 50))
def test_one_task_is_bonett_and_price(better: int, worse: int, same: int) -> None:
    """For one task with one attempt per item, the estimate and its error are those of Bonett and Price."""
    n = better + worse + same
    assume(n > 0)
    values = [1.0] * better + [-1.0] * worse + [0.0] * same
    difference = paired_difference([Differences.of(values)])
    p12, p21 = (better + 1) / (n + 2), (worse + 1) / (n + 2)
    assert difference.mean == near(p12 - p21)
    error = math.sqrt((p12 + p21 - (p12 - p21) ** 2) / (n + 2))
    # Bonett and Price divide by n + 2, where the variance of a sample has n + 1.
    assert difference.error == near(error * math.sqrt((n + 2) / (n + 1)))


@given(st.integers(1, 12), st.data())
def test_pass_at_k_counts_the_choices(attempts: int, data: st.DataObject) -> None:
    """Both estimates are the shares of all choices of k attempts in which one passes, and in which all do."""
    passed = data.draw(st.integers(0, attempts))
    k = data.draw(st.integers(1, attempts))
    choices = list(combinations([True] * passed + [False] * (attempts - passed), k))
    assert pass_at_k(passed, attempts, k) == near(fmean(map(any, choices)))
    assert pass_hat_k(passed, attempts, k) == near(fmean(map(all, choices)))


def test_pass_at_more_than_there_are() -> None:
    """More attempts than there are cannot be estimated."""
    for estimate in (pass_at_k, pass_hat_k):
        with pytest.raises(ValueError, match="between 1 and the number of attempts, 3"):
            estimate(1, 3, 4)


# --- Properties -----------------------------------------------------------------------------------------------


@given(scores, st.integers(1, 20))
def test_an_interval_contains_its_mean(means: list[float], repeats: int) -> None:
    """The interval lies between 0 and 1, contains the mean, and counts at least all items, and at most all attempts."""
    interval = mean_interval(means, repeats * len(means))
    assert 0 <= interval.low <= fmean(means) + 1e-12
    assert fmean(means) - 1e-12 <= interval.high <= 1
    assert len(means) <= effective_attempts(means, repeats * len(means)) <= repeats * len(means)


def test_repeats_that_agree_add_nothing() -> None:
    """Ten repeats of ten items that always give the same are ten attempts."""
    assert effective_attempts([1.0] * 10, 100) == 10
    assert effective_attempts([1.0] * 5 + [0.0] * 5, 100) == 10


@pytest.mark.parametrize("last", [0.499, 0.5, 0.501])
def test_items_that_happen_to_score_the_same_are_no_special_case(last: float) -> None:
    """Two items that each pass half of a hundred repeats say as much as two that nearly do."""
    assert effective_attempts([0.5, last], 200) == 200


@given(st.floats(0, 1), st.integers(1, 50))
def test_repeats_of_one_item_are_its_sample(mean: float, repeats: int) -> None:
    """Of a single item, each repeat is an attempt by itself, and the interval is about this item."""
    assert mean_interval([mean], repeats) == wilson(mean, repeats)


@given(scores, st.integers(0, 20))
def test_bounds_contain_every_completion(means: list[float], missing: int) -> None:
    """Whatever the missing items would have scored, the interval of all items lies within the bounds."""
    lowest, highest = [*means, *[0.0] * missing], [*means, *[1.0] * missing]
    bounds = score_bounds(lowest, highest, len(means) + missing)
    for share in (0.0, 0.5, 1.0):
        interval = mean_interval([*means, *[share] * missing], len(means) + missing)
        assert bounds.low <= interval.low + 1e-12
        assert interval.high <= bounds.high + 1e-12


def test_ranks_without_differences_are_open() -> None:
    """Models that cannot be told apart share all ranks; one that is better than all others is first."""
    assert rank_ranges(3, []) == [(1, 3)] * 3
    assert rank_ranges(3, [(1, 0), (1, 2)]) == [(2, 3), (1, 1), (2, 3)]


def test_two_models_that_answer_alike() -> None:
    """Without a single difference, the interval still has a width, and fewer items give a wider one."""
    few, many = (paired_difference([Differences(n, 0.0, 0.0)]) for n in (10, 1000))
    assert few.p == many.p == 1
    assert few.smallest_seen() > 10 * many.smallest_seen() > 0


def test_all_tasks_differ_by_the_same() -> None:
    """Tasks that happen to differ by the same are no less a sample of items, and one task says nothing of others."""
    task = Differences(20, 5.0, 5.0)
    assert mean_difference([task]) is None
    difference = mean_difference([task] * 3)
    assert difference is not None
    assert difference.mean == pytest.approx(0.25)
    assert difference.error == paired_difference([task] * 3).error > 0


def test_the_items_that_find_a_difference() -> None:
    """With as many items as are said to be needed, the smallest difference that is seen is the one asked for."""
    n = items_for(0.05, 0.3)
    difference = paired_difference([Differences(n, 0.0, 0.09 * n)])
    # The two made-up items of a comparison cost a little.
    assert 0.05 <= difference.smallest_seen() <= 0.052


@pytest.mark.parametrize(("items", "repeats"), [([40], 1), ([100], 3), ([20, 20, 20], 1), ([100, 10], 2)])
def test_the_difference_that_a_plan_would_show(items: list[int], repeats: int) -> None:
    """Models that differ by as much as is foretold are told apart four times in five, and rarely if they are equal."""
    smallest = worst_difference(items, repeats).smallest_seen()

    def found(seeded: random.Random, difference: float) -> bool:
        def attempts(share: float) -> float:
            return fmean(seeded.random() < share for _ in range(repeats))

        tasks = [
            Differences.of(
                [attempts(0.5 + difference / 2) - attempts(0.5 - difference / 2) for _ in range(n)]
            )
            for n in items
        ]
        return paired_difference(tasks).p < 0.05

    assert 0.75 < covered(lambda seeded: found(seeded, smallest)) < 0.9
    assert covered(lambda seeded: found(seeded, 0.0)) < 0.08


# --- Coverage, in small: benchmarks/coverage.py has the whole -------------------------------------------------


def covered(draw: Callable[[random.Random], bool], times: int = 400) -> float:
    """The share of simulated experiments whose interval contains the truth."""
    seeded = random.Random(11)
    return sum(draw(seeded) for _ in range(times)) / times


def binomial(seeded: random.Random, n: int, p: float) -> int:
    return sum(seeded.random() < p for _ in range(n))


@pytest.mark.parametrize("shape", [None, 1.0, 0.2])
@pytest.mark.parametrize("p", [0.5, 0.9])
def test_coverage_with_repeats(p: float, shape: float | None) -> None:
    """With 30 items and 3 repeats, the interval covers, whether items are alike, differ, or differ very much."""

    def draw(seeded: random.Random) -> bool:
        chances = [p if shape is None else seeded.betavariate(p * shape, (1 - p) * shape) for _ in range(30)]
        means = [binomial(seeded, 3, chance) / 3 for chance in chances]
        interval = mean_interval(means, 90)
        return interval.low <= p <= interval.high

    assert covered(draw) >= 0.91


def test_coverage_of_exactly_these_tasks() -> None:
    """With tasks of very different sizes and scores, the interval of their mean covers."""
    tasks = [(0.1, 5), (0.5, 50), (0.99, 200), (0.97, 10)]

    def draw(seeded: random.Random) -> bool:
        shares = [binomial(seeded, n, p) / n for p, n in tasks]
        interval = stratified_interval(shares, [n for _, n in tasks])
        return interval.low <= fmean(p for p, _ in tasks) <= interval.high

    assert covered(draw) >= 0.93


@pytest.mark.parametrize("tasks", [1, 4])
@pytest.mark.parametrize(("up", "down"), [(0.1, 0.0), (0.05, 0.05), (0.02, 0.02)])
def test_coverage_of_a_difference(tasks: int, up: float, down: float) -> None:
    """The interval of a difference covers with few items, few flips, and flips in one direction only."""

    def draw(seeded: random.Random) -> bool:
        found = []
        for _ in range(tasks):
            flips = [seeded.random() for _ in range(20)]
            found.append(Differences.of([float(u < up) - float(u > 1 - down) for u in flips]))
        interval = paired_difference(found).interval()
        return interval.low <= up - down <= interval.high

    assert covered(draw) >= 0.93
