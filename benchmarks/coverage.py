"""Simulate how often the intervals and tests of fanbench.results.statistics are right.

    python benchmarks/coverage.py [--times 2000] [--only proportion repeats ...]

Each line is one situation; "covered" is the share of simulated experiments whose 95% interval contains the truth,
"width" the mean width of the interval, and "alarms" the share in which a test finds a difference (nominal: 5%, where
there is none). The standard error of a share of 95% is 0.5 points with 2,000 experiments. docs/statistics.md has it.
"""

from __future__ import annotations

import argparse
import random
import statistics
from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from typing import NamedTuple

from fanbench.results.compare import compare_models
from fanbench.results.items import Item, ItemState
from fanbench.results.ranking import rank_models
from fanbench.results.scores import scores_of
from fanbench.results.statistics import (
    Differences,
    Interval,
    holm,
    mean_difference,
    mean_interval,
    paired_difference,
    pass_at_k,
    pass_hat_k,
    stratified_interval,
    wilson,
)


class Situation(NamedTuple):
    """What is simulated: `draw` returns whether the experiment was right, and the width of its interval."""

    name: str
    draw: Callable[[random.Random], tuple[bool, float]]
    #: The result is the share of false alarms rather than that of covered truths.
    alarms: bool = False


def inside(interval: Interval, truth: float) -> tuple[bool, float]:
    return interval.low - 1e-12 <= truth <= interval.high + 1e-12, interval.high - interval.low


def passes(dice: random.Random, n: int, p: float) -> int:
    return sum(dice.random() < p for _ in range(n))


# --- One score ------------------------------------------------------------------------------------------------


def proportion() -> Iterator[Situation]:
    """Items with one attempt each."""

    def draw(dice: random.Random, n: int, p: float) -> tuple[bool, float]:
        return inside(wilson(passes(dice, n, p) / n, n), p)

    for n, p in product((4, 10, 30, 100), (0.5, 0.9, 0.98)):
        yield Situation(f"n = {n}, p = {p}", partial(draw, n=n, p=p))


def repeats() -> Iterator[Situation]:
    """Items with several attempts; `alike` is 0 if all items are equally hard, 1 if each always gives the same."""

    def draw(dice: random.Random, items: int, k: int, p: float, alike: float) -> tuple[bool, float]:
        means = []
        for _ in range(items):
            if alike == 1:
                chance = float(dice.random() < p)
            elif alike == 0:
                chance = p
            else:
                spread = 1 / alike - 1
                chance = dice.betavariate(p * spread, (1 - p) * spread)
            means.append(passes(dice, k, chance) / k)
        return inside(mean_interval(means, items * k), p)

    for items, k, p, alike in product((10, 30, 100), (3, 10), (0.5, 0.9, 0.98), (0.0, 0.5, 1.0)):
        name = f"{items} items × {k}, p = {p}, alike {alike}"
        yield Situation(name, partial(draw, items=items, k=k, p=p, alike=alike))


def these_tasks() -> Iterator[Situation]:
    """The mean over exactly these tasks, of which only the items are drawn."""
    shapes = {
        "5 × 20 items, p = .9": [(0.9, 20)] * 5,
        "5 × 20 items, p from .1 to 1": [(p, 20) for p in (0.1, 0.5, 0.9, 0.95, 1.0)],
        "20 × 10 items, p = .1 or .9": [(0.1, 10), (0.9, 10)] * 10,
        "5, 50 and 500 items": [(0.1, 5), (0.5, 50), (0.9, 500)],
        "4, 200 and 10 items, p = .97": [(0.97, 4), (0.97, 200), (0.97, 10)],
        "50 × 100 items, p = .5": [(0.5, 100)] * 50,
    }

    def draw(dice: random.Random, tasks: list[tuple[float, int]]) -> tuple[bool, float]:
        shares = [passes(dice, n, p) / n for p, n in tasks]
        return inside(
            stratified_interval(shares, [n for _, n in tasks]), statistics.fmean(p for p, _ in tasks)
        )

    for name, tasks in shapes.items():
        yield Situation(name, partial(draw, tasks=tasks))


def tasks_like_these() -> Iterator[Situation]:
    """The mean over tasks like these: the tasks are drawn, too."""

    def draw(dice: random.Random, count: int, items: int, spread: float) -> tuple[bool, float]:
        chances = [dice.betavariate(0.6 * spread, 0.4 * spread) for _ in range(count)]
        return inside(mean_interval([passes(dice, items, p) / items for p in chances], count * items), 0.6)

    for count, items, spread in product((3, 5, 10, 30), (20, 100), (1.5, 8)):
        name = f"{count} tasks × {items} items, tasks differ {'much' if spread < 2 else 'little'}"
        yield Situation(name, partial(draw, count=count, items=items, spread=spread))


# --- Two scores -----------------------------------------------------------------------------------------------


def flips(dice: random.Random, items: int, up: float, down: float) -> Differences:
    drawn = [dice.random() for _ in range(items)]
    return Differences.of([float(u < up) - float(u > 1 - down) for u in drawn])


FLIPS = ((0.05, 0.05), (0.1, 0.0), (0.02, 0.02), (0.3, 0.3))


def differences() -> Iterator[Situation]:
    """The paired difference of two models; of all items, some get better and some worse."""

    def draw(dice: random.Random, tasks: int, items: int, up: float, down: float) -> tuple[bool, float]:
        found = paired_difference([flips(dice, items, up, down) for _ in range(tasks)])
        return inside(found.interval(), up - down)

    for tasks, items, (up, down) in product((1, 5, 20), (10, 30, 100), FLIPS):
        name = f"{tasks} × {items} items, better {up}, worse {down}"
        yield Situation(name, partial(draw, tasks=tasks, items=items, up=up, down=down))


def false_alarms() -> Iterator[Situation]:
    """Tests of models without a difference."""

    def these(dice: random.Random, tasks: int, items: int, share: float) -> tuple[bool, float]:
        return paired_difference([flips(dice, items, share, share) for _ in range(tasks)]).p < 0.05, 0.0

    def like_these(dice: random.Random, tasks: int, items: int) -> tuple[bool, float]:
        shifts = [dice.gauss(0, 0.1) for _ in range(tasks)]
        found = mean_difference([flips(dice, items, 0.15 + shift / 2, 0.15 - shift / 2) for shift in shifts])
        return found is not None and found.p < 0.05, 0.0

    def adjusted(dice: random.Random, tasks: int, items: int) -> tuple[bool, float]:
        p = [paired_difference([flips(dice, items, 0.05, 0.05)]).p for _ in range(tasks)]
        return min(holm(p)) < 0.05, 0.0

    for items, share in product((10, 30, 100, 300), (0.02, 0.05, 0.2)):
        yield Situation(
            f"{items} items, {share} flip either way",
            partial(these, tasks=1, items=items, share=share),
            True,
        )
    for tasks, items in product((5, 20), (10, 100)):
        yield Situation(
            f"{tasks} × {items} items, these tasks",
            partial(these, tasks=tasks, items=items, share=0.05),
            True,
        )
    for tasks in (3, 5, 20):
        yield Situation(f"{tasks} tasks like these", partial(like_these, tasks=tasks, items=50), True)
    for tasks in (10, 50):
        yield Situation(f"any of {tasks} tasks, after Holm", partial(adjusted, tasks=tasks, items=50), True)


# --- Ranks, and repeats ---------------------------------------------------------------------------------------


def item(model: str, number: int, passed: bool, repeat: int = 1) -> Item:
    return Item(
        task="t",
        content="c",
        model=model,
        sweep="s",
        repeat=repeat,
        item=str(number),
        state=ItemState.SCORED,
        value=float(passed),
        kind="boolean",
        path="p",
    )


def ranks() -> Iterator[Situation]:
    """Whether the rank ranges of all models contain their true ranks."""

    def draw(dice: random.Random, models: list[float], items: int) -> tuple[bool, float]:
        hard = [dice.gauss(0, 0.15) for _ in range(items)]
        found = [
            item(str(model), number, dice.random() < min(1, max(0, p - each)))
            for model, p in enumerate(models)
            for number, each in enumerate(hard)
        ]
        rows = {row.model: row.ranks or (0, 0) for row in rank_models(scores_of(found)).models}
        right = all(
            rows[str(model)][0] <= 1 + sum(other > p for other in models)
            and rows[str(model)][1] >= len(models) - sum(other < p for other in models)
            for model, p in enumerate(models)
        )
        return right, statistics.fmean(last - first for first, last in rows.values())

    shapes = {
        "8 equal models": [0.6] * 8,
        "8 models, 3 points apart": [0.5 + 0.03 * model for model in range(8)],
    }
    for (name, models), items in product(shapes.items(), (30, 200)):
        yield Situation(f"{name}, {items} items", partial(draw, models=models, items=items))


def pass_k() -> Iterator[Situation]:
    """pass@3 and pass^3 of 5 attempts at 50 items whose chances differ, with the interval of the items' estimates."""

    def draw(
        dice: random.Random, estimate: Callable[[int, int, int], float], truth: float
    ) -> tuple[bool, float]:
        values = [estimate(passes(dice, 5, dice.random()), 5, 3) for _ in range(50)]
        return inside(mean_interval(values, len(values)), truth)

    yield Situation("pass@3 of 5", partial(draw, estimate=pass_at_k, truth=0.75))
    yield Situation("pass^3 of 5", partial(draw, estimate=pass_hat_k, truth=0.25))


def verdicts() -> Iterator[Situation]:
    """Regressions that a gate reports with a margin of 5 points: without a change, and if 10 points are lost."""

    def draw(dice: random.Random, items: int, drop: float) -> tuple[bool, float]:
        found = []
        for number in range(items):
            before = dice.random() < 0.8
            after = (dice.random() < 0.8 if dice.random() < 0.3 else before) and dice.random() >= drop
            found += [item("a", number, before), item("b", number, after)]
        return compare_models(scores_of(found), "a", "b").verdict(0.05).value == "regression", 0.0

    for items, drop in product((40, 100, 400), (0.0, 0.125)):
        what = "no change" if not drop else "10 points lost"
        yield Situation(f"regression, {items} items, {what}", partial(draw, items=items, drop=drop), True)


GROUPS: dict[str, Callable[[], Iterator[Situation]]] = {
    "proportion": proportion,
    "repeats": repeats,
    "these-tasks": these_tasks,
    "tasks-like-these": tasks_like_these,
    "differences": differences,
    "false-alarms": false_alarms,
    "ranks": ranks,
    "pass-k": pass_k,
    "verdicts": verdicts,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--times", type=int, default=2000)
    parser.add_argument("--only", nargs="+", choices=list(GROUPS), default=list(GROUPS))
    words = parser.parse_args()
    for group in words.only:
        print(f"\n{group}: {(GROUPS[group].__doc__ or '').strip()}")
        shares = []
        for situation in GROUPS[group]():
            dice = random.Random(f"{group} {situation.name}")
            drawn = [situation.draw(dice) for _ in range(words.times)]
            share = 100 * sum(right for right, _ in drawn) / words.times
            shares.append(share)
            width = "" if situation.alarms else f"  width {statistics.fmean(width for _, width in drawn):.3f}"
            print(f"  {situation.name:48} {'alarms' if situation.alarms else 'covered'} {share:5.1f}%{width}")
        print(
            f"  {'':48} least {min(shares):.1f}, median {statistics.median(shares):.1f}, most {max(shares):.1f}"
        )


if __name__ == "__main__":
    main()
