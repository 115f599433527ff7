"""The statistics of results: intervals, tests and estimators, from the standard library alone.

`docs/statistics.md` explains to users what the numbers mean, and has the coverage that `benchmarks/coverage.py`
measured. All intervals and tests are two-sided. Scores are between 0 and 1 where a function says so.

An item is one question of a task, a repeat one attempt at it by the same model. Items are taken as drawn independently
from all items like them; repeats of an item are not independent.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist, fmean

__all__ = [
    "CONFIDENCE",
    "Difference",
    "Differences",
    "Interval",
    "effective_attempts",
    "holm",
    "items_for",
    "mean_difference",
    "mean_interval",
    "normal_quantile",
    "paired_difference",
    "pass_at_k",
    "pass_hat_k",
    "rank_ranges",
    "score_bounds",
    "stratified_interval",
    "t_cdf",
    "t_quantile",
    "wilson",
    "worst_difference",
]

CONFIDENCE = 0.95
POWER = 0.8


@dataclass(frozen=True, slots=True)
class Interval:
    """A confidence interval, and the short name of the method that gave it."""

    low: float
    high: float
    method: str

    @property
    def half_width(self) -> float:
        return (self.high - self.low) / 2

    def with_all_of(self, other: Interval) -> Interval:
        """This one, as much wider as it takes to hold the other."""
        return Interval(min(self.low, other.low), max(self.high, other.high), self.method)


# --- Distributions --------------------------------------------------------------------------------------------


def normal_quantile(probability: float) -> float:
    """Return the quantile of the standard normal distribution."""
    return NormalDist().inv_cdf(probability)


def t_cdf(t: float, df: float) -> float:
    """Return the probability that Student's t with `df` degrees of freedom is at most `t`.

    By the regularized incomplete beta function (Abramowitz and Stegun, 26.7.1).
    """
    if math.isinf(t):
        return 1.0 if t > 0 else 0.0
    if t * t < df:  # here the tail is close to one half, and would lose digits
        return 0.5 + math.copysign(_incomplete_beta(0.5, df / 2, t * t / (df + t * t)) / 2, t)
    tail = _incomplete_beta(df / 2, 0.5, df / (df + t * t)) / 2
    return 1 - tail if t > 0 else tail


@lru_cache(maxsize=4096)
def t_quantile(probability: float, df: float) -> float:
    """Return the quantile of Student's t with `df` degrees of freedom, by bisection."""
    if probability < 0.5:
        return -t_quantile(1 - probability, df)
    low, high = 0.0, 1.0
    while t_cdf(high, df) < probability:
        low, high = high, high * 2
    while (middle := (low + high) / 2) not in (low, high):
        if t_cdf(middle, df) < probability:
            low = middle
        else:
            high = middle
    return high


def _incomplete_beta(a: float, b: float, x: float) -> float:
    """Return the regularized incomplete beta function I_x(a, b).

    By its continued fraction (Abramowitz and Stegun, 26.5.8), evaluated with the modified method of Lentz. The fraction
    converges fast below the mean; above it, the function's symmetry is used.
    """
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):
        return 1 - _incomplete_beta(b, a, 1 - x)
    front = math.exp(
        math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    )
    tiny = 1e-300
    c, d = 1.0, 1 / _not_zero(1 - (a + b) * x / (a + 1), tiny)
    fraction, m = d, 1
    while True:
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        before = fraction
        for term in (even, odd):
            d = 1 / _not_zero(1 + term * d, tiny)
            c = _not_zero(1 + term / c, tiny)
            fraction *= c * d
        if abs(fraction - before) <= 1e-16 * abs(fraction) or m > 10_000:
            return front * fraction / a
        m += 1


def _not_zero(value: float, tiny: float) -> float:
    return value if abs(value) > tiny else tiny


# --- One score ------------------------------------------------------------------------------------------------


def wilson(share: float, n: float, confidence: float = CONFIDENCE) -> Interval:
    """Return the score interval of a share of `n` independent attempts (Wilson 1927).

    `n` may be any positive number, such as an effective one.
    """
    z = normal_quantile((1 + confidence) / 2)
    center = share + z * z / (2 * n)
    spread = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    # At 0 and 1 rounding would leave the value outside of its own interval.
    low = 0.0 if share <= 0 else max(0.0, (center - spread) / scale)
    high = 1.0 if share >= 1 else min(1.0, (center + spread) / scale)
    return Interval(low, high, "Wilson")


def mean_interval(means: Sequence[float], attempts: int, confidence: float = CONFIDENCE) -> Interval:
    """Return an interval for the mean of scores between 0 and 1, for items like these.

    `means` has the mean score of each item over its repeats, and `attempts` is the number of all attempts. This is
    Wilson's interval at the number of `effective_attempts`.
    """
    return wilson(fmean(means), effective_attempts(means, attempts, confidence), confidence)


def effective_attempts(means: Sequence[float], attempts: int, confidence: float = CONFIDENCE) -> float:
    """Return the number of independent attempts that would say as much about the mean as these do.

    This is what the variance between the items says, reduced for having few items (Korn and Graubard 1998), but at
    least the number of items, and at most that of all attempts: whatever the scores between 0 and 1 are, these are
    the bounds. Where all items scored 0, or all scored 1, repeats may add nothing, and are not counted.

    A task with a single item is no sample of items: its attempts are taken as independent, and what follows from them
    is about this item.
    """
    mean, items = fmean(means), len(means)
    if items == 1:
        return attempts
    if attempts == items or not 0 < mean < 1:
        return items
    if not (spread := _variance(means)):
        return attempts
    z = normal_quantile((1 + confidence) / 2)
    t = t_quantile((1 + confidence) / 2, items - 1)
    return max(items, min(attempts, mean * (1 - mean) * items / spread * (z / t) ** 2))


def _variance(values: Sequence[float]) -> float:
    """Return the variance of a sample.

    It is exactly 0 if all values are the same, as that of `statistics`, which takes fifty times as long.
    """
    shifted = [value - values[0] for value in values]
    center = fmean(shifted)
    return math.fsum([(value - center) ** 2 for value in shifted]) / (len(values) - 1)


def stratified_interval(
    shares: Sequence[float], effective: Sequence[float], confidence: float = CONFIDENCE
) -> Interval:
    """Return an interval for the mean over exactly these tasks: each counts the same, and only items are drawn.

    `shares` has the mean score of each task, between 0 and 1, and `effective` the effective number of its attempts (see
    `effective_attempts`). This is Wilson's interval at the number of attempts that has the variance of the mean of all
    tasks. For the variance, each share is moved towards one half by half an attempt of each kind: a task without any
    failure says little about its variance, above all if it has few items.
    """
    smoothed = [(share * n + 0.5) / (n + 1) for share, n in zip(shares, effective, strict=True)]
    center = fmean(smoothed)
    spread = sum(share * (1 - share) / n for share, n in zip(smoothed, effective, strict=True))
    return wilson(fmean(shares), center * (1 - center) * len(shares) ** 2 / spread, confidence)


def score_bounds(
    lowest: Sequence[float], highest: Sequence[float], attempts: int, confidence: float = CONFIDENCE
) -> Interval:
    """Return the interval that holds whatever the attempts without a score would have scored.

    `lowest` and `highest` have the mean score of each item if each of these had scored 0, and if it had scored 1;
    `attempts` is the number of all attempts, with those.
    """
    low = mean_interval(lowest, attempts, confidence).low
    return Interval(low, mean_interval(highest, attempts, confidence).high, "bounds")


# --- Two scores on the same items -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Differences:
    """The differences of two models on the items of one task: their number, sum, and sum of squares.

    The difference of an item is that of its mean scores over repeats. Those of items that are only expected may be
    fractions.
    """

    items: float
    total: float
    squares: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Differences:
        return cls(len(values), math.fsum(values), math.fsum(value * value for value in values))

    def times(self, factor: float) -> Differences:
        """The differences of so many times as many items like these."""
        return Differences(self.items * factor, self.total * factor, self.squares * factor)


@dataclass(frozen=True, slots=True)
class Difference:
    """The estimated difference of two means, its standard error, and its degrees of freedom."""

    mean: float
    error: float
    df: float

    def interval(self, confidence: float = CONFIDENCE) -> Interval:
        spread = t_quantile((1 + confidence) / 2, self.df) * self.error
        return Interval(self.mean - spread, self.mean + spread, "paired")

    @property
    def p(self) -> float:
        """The probability of a difference at least as large, in either direction, if there is none."""
        if not self.error:
            return float(not self.mean)
        return 2 * t_cdf(-abs(self.mean) / self.error, self.df)

    def smallest_seen(self, confidence: float = CONFIDENCE, power: float = POWER) -> float:
        """The true difference that a comparison like this one would find with this `power`."""
        return (t_quantile((1 + confidence) / 2, self.df) + t_quantile(power, self.df)) * self.error


def paired_difference(tasks: Sequence[Differences]) -> Difference:
    """Return the mean difference over exactly these tasks, each counting the same, for scores between 0 and 1.

    Two made-up items, which differ by +1 and -1, are shared by the tasks, so that models that have answered alike so
    far are not equal with certainty. For one task with one attempt per item, this is the interval of Bonett and Price
    (2012) with t in the place of z.
    """
    shared = 2 / len(tasks)
    mean = error = 0.0
    for task in tasks:
        n = task.items + shared
        mean += task.total / n
        error += (task.squares + shared - task.total**2 / n) / (n - 1) / n
    df = sum(task.items - 1 for task in tasks) + 1
    return Difference(mean / len(tasks), math.sqrt(error) / len(tasks), df)


def worst_difference(items: Sequence[int], attempts: int = 1) -> Difference:
    """Return the `paired_difference` to expect, before anything is run, over tasks with so many `items` each.

    At the worst, for scores between 0 and 1: two models that pass half of all `attempts` at each item, independently of
    each other. The difference of an item then has the variance 1/2 by the number of attempts.
    """
    return paired_difference([Differences(number, 0.0, number / 2 / attempts) for number in items])


def mean_difference(tasks: Sequence[Differences]) -> Difference | None:
    """Return the mean difference over tasks like these, each counting the same, or None if there is only one task.

    Student's t over the mean differences of the tasks. The standard error is at least that of `paired_difference`: a
    few tasks may happen to differ by the same, and nothing is surer of tasks like these than of exactly these.
    """
    if len(tasks) < 2:
        return None
    means = [task.total / task.items for task in tasks]
    error = max(math.sqrt(_variance(means) / len(means)), paired_difference(tasks).error)
    return Difference(fmean(means), error, len(means) - 1)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p-values adjusted for their number (Holm 1979), in the order given."""
    adjusted, highest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted


def items_for(
    difference: float, deviation: float, confidence: float = CONFIDENCE, power: float = POWER
) -> int:
    """Return the number of items on which a true `difference` would be found with this `power`.

    `deviation` is the standard deviation of the differences between items.
    """
    z = normal_quantile((1 + confidence) / 2) + normal_quantile(power)
    return math.ceil((z * deviation / difference) ** 2)


# --- Repeats --------------------------------------------------------------------------------------------------


def pass_at_k(passed: int, attempts: int, k: int) -> float:
    """Return the probability that at least one of `k` attempts at an item passes (Chen et al. 2021).

    The estimate without bias: the share of all choices of `k` of the `attempts` that contain one that `passed`.

    Raises:
        ValueError: There are fewer than `k` attempts.
    """
    _check(k, attempts)
    return 1 - math.comb(attempts - passed, k) / math.comb(attempts, k)


def pass_hat_k(passed: int, attempts: int, k: int) -> float:
    """Return the probability that all of `k` attempts at an item pass (Yao et al. 2024), without bias.

    Raises:
        ValueError: There are fewer than `k` attempts.
    """
    _check(k, attempts)
    return math.comb(passed, k) / math.comb(attempts, k)


def _check(k: int, attempts: int) -> None:
    if not 1 <= k <= attempts:
        raise ValueError(f"k must be between 1 and the number of attempts, {attempts}; it is {k}.")


# --- Ranks ----------------------------------------------------------------------------------------------------


def rank_ranges(count: int, better: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the first and the last rank that each of `count` models may have.

    `better` has the pairs of models of which the first is better than the second, beyond chance.
    """
    above, below = [0] * count, [0] * count
    for first, second in better:
        below[first] += 1
        above[second] += 1
    return [(above[model] + 1, count - below[model]) for model in range(count)]
