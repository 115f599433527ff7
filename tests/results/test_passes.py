"""pass@k and pass^k of repeats."""

from __future__ import annotations

from itertools import chain

import pytest

from fanbench.results.passes import PassRates, pass_rates, passing_tasks
from fanbench.results.scores import Scores, TaskKey, scores_of
from tests.results.items import answers, item


def repeated(*runs: list[bool | None], **fields: str) -> Scores:
    return scores_of(chain(*(answers("m", run, repeat=number, **fields) for number, run in enumerate(runs))))


def test_two_of_three_attempts() -> None:
    """Of an item that passes once in three tries, two tries contain the pass in two of three choices."""
    found = pass_rates(repeated([True], [False], [False]), "m", 2)
    assert found is not None
    assert found.at_k == pytest.approx(2 / 3)
    assert found.hat_k == 0


def test_items_count_the_same_and_so_do_tasks() -> None:
    """The rate is the mean over tasks of the mean over items, whatever their numbers."""
    small = [answers("m", [True], task="small", repeat=repeat) for repeat in (1, 2)]
    large = [answers("m", [True, False, False, False], task="large", repeat=repeat) for repeat in (1, 2)]
    found = pass_rates(scores_of(chain(*small, *large)), "m", 2)
    assert found == PassRates(2, (1 + 0.25) / 2, (1 + 0.25) / 2)


def test_an_item_with_too_few_attempts_leaves_no_rate() -> None:
    """An attempt that errored is not left out of the rate: with one fewer than `k` at any item there is none."""
    scores = repeated([True, True], [True, None])
    assert pass_rates(scores, "m", 2) is None
    assert pass_rates(scores, "m", 1) == PassRates(1, 1.0, 1.0)


def test_only_tasks_that_pass_or_fail_have_rates() -> None:
    """A task with numbers has none, and a model that lacks a task has none."""
    scores = scores_of([*answers("m", [True]), item(0.5, task="numbers"), item(True, task="u", model="n")])
    assert passing_tasks(scores) == (TaskKey("t", "c"), TaskKey("u", "c"))
    assert pass_rates(scores, "m", 1) is None
    assert pass_rates(scores_of([item(0.5)]), "m", 1) is None
