"""What a plan could show, before anything is run."""

from __future__ import annotations

from pathlib import Path

import pytest

from fanbench.results.scores import scores_of
from fanbench.results.statistics import worst_difference
from fanbench.sweeps.attempts import version_identity
from fanbench.sweeps.plan import PlannedTask, SweepPlan
from fanbench.sweeps.power import known_items, power_sentences
from fanbench.sweeps.preview import preview
from tests.results.items import answers, item, passes


def sentences(repeats: int = 1, **items: int | None) -> list[str]:
    known = {task: number for task, number in items.items() if number is not None}
    return list(power_sentences(list(items), repeats, known))


def test_known_items_give_a_difference() -> None:
    """The smallest difference is that of the comparison over all tasks whose items are known."""
    assert sentences(quiz=100) == [
        "Two models would have to differ by 0.20 to be told apart four times in five: 100 items in 1 task "
        "(by earlier results), of which each passes half at random."
    ]
    smallest = worst_difference([100, 40]).smallest_seen()
    first, second = sentences(quiz=100, words=40, new=None)
    assert f"differ by {smallest:.2f} to" in first
    assert "140 items in 2 tasks" in first
    assert second == "Not counted, because no earlier result tells their items: new."


def test_repeats_add_between_nothing_and_all() -> None:
    """With repeats, there is one number if they are independent, and one if they always agree."""
    first, second = sentences(3, quiz=100)
    assert "differ by 0.12 to be told apart" in first
    assert second == "That is if the repeats of an item are independent; if they always agree, by 0.20."
    assert sentences(9, quiz=6)[1].endswith("if they always agree, more than is possible.")


@pytest.mark.parametrize("items", [{"quiz": 3}, {"quiz": 1, "words": 1}])
def test_too_few_items_tell_nothing(items: dict[str, int]) -> None:
    """Where no difference would be found, it says so, and how many items are needed."""
    (sentence,) = sentences(**items)
    assert sentence.startswith("Too few to tell two models apart: ")
    assert sentence.endswith("To see a difference of 0.1 takes about 393 items.")


def test_without_results_nothing_is_claimed() -> None:
    """Before the first run, the number of items is not known, and no difference is named."""
    (sentence,) = sentences(3, quiz=None, words=None)
    assert (
        "nothing is known yet: 3 runs per task and model, of one item each unless the task has rows."
        in sentence
    )


def test_items_are_those_of_tasks_that_count() -> None:
    """Tasks without any score, or with values beyond their scale, are not counted."""
    found = scores_of(
        [
            *answers("a", passes(3, 5), task="quiz"),
            *answers("b", [True, None], task="quiz"),
            *answers("a", [1.0, 70.0], task="points"),
            item(None, task="failed"),
            item(0.5, task="whole"),
        ]
    )
    assert known_items(found) == {"quiz": 5, "whole": 1}


def test_the_preview_has_it_on_request() -> None:
    """Only with the scores of the results so far, the plan says what it could show, and the items of each task."""
    tasks = tuple(PlannedTask(slug, version_identity(1), None) for slug in ("quiz", "new"))
    plan = SweepPlan(tasks, ("a", "b"), Path("out"))
    assert preview(plan).power == ()
    made = preview(plan, scores=scores_of(answers("a", passes(30, 60), task="quiz")))
    assert [task.items for task in made.tasks] == [60, None]
    assert made.power
    assert set(made.power) <= set(made.lines())
