"""Comparisons: items in common, better and worse, and three verdicts."""

from __future__ import annotations

import math
import random
from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanbench.results.compare import Comparison, Flip, Verdict, compare_models, compare_sweeps
from fanbench.results.display import change_text
from fanbench.results.gate import gate
from fanbench.results.scores import Scores, TaskKey, scores_of
from tests.results.items import answers, item, passes

T = TaskKey("t", "c")


def sweep(*runs: tuple[str, str, list[bool]]) -> Scores:
    """The scores of runs, each of a task, a model and its items."""
    return scores_of(chain(*(answers(model, values, task=task) for task, model, values in runs)))


def test_only_common_items_are_compared() -> None:
    """Items that one side lacks are counted, and do not enter the difference."""
    scores = scores_of([*answers("a", [True, False, True, None]), *answers("b", [True, True, None, True])])
    (pair,) = compare_models(scores, "a", "b").pairs
    assert (pair.items, pair.lacking, pair.better, pair.worse, pair.difference) == (2, 2, 1, 0, 0.5)
    assert pair.flips == (Flip(T, "", "1", 0.0, 1.0),)


def test_the_sides_may_be_exchanged() -> None:
    """The other way round, the difference has the other sign, and the p-value is the same."""
    scores = scores_of([*answers("a", passes(30, 50)), *answers("b", passes(40, 50))])
    there, back = compare_models(scores, "a", "b"), compare_models(scores, "b", "a")
    assert there.mean == -back.mean == pytest.approx(0.2)  # type: ignore[operator]
    assert there.pairs[0].p == back.pairs[0].p < 0.01
    assert there.pairs[0].interval.low == pytest.approx(-back.pairs[0].interval.high)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_p_and_interval_say_the_same(items: list[tuple[bool, bool]]) -> None:
    """A difference is significant exactly if its interval excludes 0, and that of all tasks is that of the only one."""
    before, after = zip(*items, strict=True)
    found = compare_sweeps(sweep(("t", "m", [*before])), sweep(("t", "m", [*after])))
    (pair,) = found.pairs
    assert (pair.p < 0.05) == (pair.interval.low > 0 or pair.interval.high < 0)
    assert found.difference is not None
    assert (found.difference.p, found.interval()) == (pair.p, pair.interval)


def test_repeats_are_no_items() -> None:
    """Ten repeats of two items that differ are two items, not twenty."""
    runs = [
        answers(model, [model == "b"] * 2, repeat=repeat) for model in ("a", "b") for repeat in range(1, 11)
    ]
    (pair,) = compare_models(scores_of(chain(*runs)), "a", "b").pairs
    assert (pair.items, pair.better) == (2, 2)
    assert pair.p > 0.05


def test_p_values_are_adjusted_for_the_number_of_tasks() -> None:
    """Of twenty tasks of which one fell by chance, that one is not found; alone, it would be."""
    fallen, same = passes(20, 30), passes(26, 30)
    before = [(str(task), "m", list(same)) for task in range(20)]
    after = [(str(task), "m", list(fallen if task == 7 else same)) for task in range(20)]
    pairs = compare_sweeps(sweep(*before), sweep(*after)).pairs
    assert pairs[7].key.task == sorted(map(str, range(20)))[7]
    (changed,) = [pair for pair in pairs if pair.difference]
    assert changed.p < 0.05 < changed.adjusted


def test_tasks_with_other_content_are_not_compared() -> None:
    """A task whose content changed is named on either side, and compared on neither."""
    before = scores_of([*answers("m", passes(5, 10)), *answers("m", passes(5, 10), task="u")])
    after = scores_of([*answers("m", passes(9, 10), content="d"), *answers("m", passes(5, 10), task="u")])
    found = compare_sweeps(before, after)
    assert [pair.key.task for pair in found.pairs] == ["u"]
    assert (found.only_first, found.only_second) == ((T,), (TaskKey("t", "d"),))


def test_a_side_without_a_journal_is_named() -> None:
    """If only a version tells the content on one side, that is why it cannot be compared."""
    journal, versions = (
        scores_of(answers("m", [True], content=content)) for content in ("content-1:d", "v1")
    )
    sentence = "B has no journal that tells the content of t."
    assert sentence in compare_sweeps(journal, versions).display().remarks
    assert sentence.replace("B", "A") in compare_sweeps(versions, journal).display().remarks
    assert compare_sweeps(journal, journal).side_without_journal() is None
    assert (
        compare_sweeps(versions, scores_of(answers("m", [True], content="v2"))).side_without_journal() is None
    )


def test_without_common_items_nothing_is_claimed() -> None:
    """Sides without a common item have no difference, and no verdict but that it cannot be told."""
    found = compare_models(sweep(("t", "a", [True])), "a", "b")
    assert (found.pairs, found.mean, found.difference, found.like_these) == ((), None, None, None)
    assert found.verdict(0.05) is Verdict.CANNOT_TELL
    assert found.items_to_tell(0.05) is None


def test_unbounded_tasks_are_named_and_left_out() -> None:
    """A task with values beyond 0 and 1 is not compared."""
    found = compare_models(scores_of([item(70.0, model="a"), item(0.5, model="b")]), "a", "b")
    assert (found.pairs, found.unbounded) == ((), (T,))


def test_what_has_no_item_in_common_is_named() -> None:
    """A task that both sides have, but none of its items with a score on both, is named with its model."""
    before = sweep(("t", "m", [True, False]), ("u", "m", [True]), ("u", "n", [True]), ("t", "n", [True]))
    errored = [*answers("m", [None, None]), *answers("m", [True], task="u"), *answers("n", [True])]
    found = compare_sweeps(before, scores_of(errored))
    assert [(pair.key.task, pair.model) for pair in found.pairs] == [("t", "n"), ("u", "m")]
    assert found.apart == ((T, "m"), (TaskKey("u", "c"), "n"))


def test_models_on_the_same_item_are_not_independent() -> None:
    """Fifty models that all lose the same two of twenty items are no more evidence than one."""
    names = [f"m{number}" for number in range(50)]
    before = sweep(*(("t", name, list(passes(20, 20))) for name in names))
    after = sweep(*(("t", name, list(passes(18, 20))) for name in names))
    one = compare_sweeps(before, after, ["m0"])
    all_of_them = compare_sweeps(before, after)
    assert all_of_them.difference == one.difference
    assert len(all_of_them.pairs) == 50


def test_runs_are_compared_where_only_one_side_has_their_parts() -> None:
    """A collapse of an F1 score to 0, which is then the mean of its parts, is seen, and covers the task."""
    before = scores_of([item(0.8, repeat=1), item(0.6, repeat=2)])
    after = scores_of([*answers("m", [0.0, 0.0, 0.0]), *answers("m", [0.0, 0.0, 0.0], repeat=2)])
    (pair,) = compare_sweeps(before, after).pairs
    assert (pair.items, pair.lacking, pair.worse) == (1, 0, 1)
    assert pair.difference == pytest.approx(-0.7)
    assert gate(before, after, 0.1).refusal is None


def test_a_rounding_error_is_no_change() -> None:
    """Items with the same scores in three and in seven repeats did not change, although their means differ."""
    before, after = (
        scores_of(chain(*(answers("m", [0.7, 0.1], repeat=repeat) for repeat in range(times))))
        for times in (3, 7)
    )
    (pair,) = compare_sweeps(before, after).pairs
    assert (pair.better, pair.worse, pair.flips, pair.difference) == (0, 0, (), 0.0)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (0.0, "+0.000"),
        (-0.0, "+0.000"),
        (-1e-12, "+0.000"),
        (-0.00042, "-0.0004"),
        (0.00001, "+1e-05"),
        (-0.0005, "-0.001"),
        (0.0254, "+0.025"),
    ],
)
def test_a_change_is_no_zero_with_a_sign(change: float, text: str) -> None:
    """A change that three decimals would show as 0 is shown with its first digit, and none at all as +0.000."""
    assert change_text(change) == text


# --- Verdicts -------------------------------------------------------------------------------------------------


def experiment(seeded: random.Random, items: int, drop: float, asked_anew: float = 0.3) -> Comparison:
    """The same items before and after: of some, chance decides anew, so that a tenth flips, and some more fall."""

    def after(value: bool) -> bool:
        if seeded.random() < asked_anew:
            value = seeded.random() < 0.8
        return value and seeded.random() >= drop

    before = [seeded.random() < 0.8 for _ in range(items)]
    return compare_sweeps(sweep(("t", "m", before)), sweep(("t", "m", [after(value) for value in before])))


def share(verdict: Verdict, items: int, drop: float, times: int = 100) -> float:
    seeded = random.Random(3)
    found = [experiment(seeded, items, drop).verdict(0.05) for _ in range(times)]
    return found.count(verdict) / len(found)


def test_few_items_cannot_tell() -> None:
    """With 40 items and no change, a margin of 5 points cannot be told; with 1,000, it can."""
    assert share(Verdict.CANNOT_TELL, 40, 0.0, times=50) > 0.8
    assert share(Verdict.NOT_WORSE, 1000, 0.0, times=10) == 1.0


def test_false_alarms_are_rare() -> None:
    """Without a change, at most a few of a hundred comparisons say that there is a regression."""
    assert share(Verdict.REGRESSION, 100, 0.0) <= 0.05


def test_a_broad_loss_is_a_regression() -> None:
    """A loss of a quarter is found with 100 items."""
    assert share(Verdict.REGRESSION, 100, 0.25) > 0.95


def test_one_task_that_collapses_is_a_regression() -> None:
    """One of twenty tasks that falls by 30 points is found, although the mean falls by less than the margin."""
    same, fallen = list(passes(80, 100)), list(passes(50, 100))
    before = sweep(*((str(task), "m", same) for task in range(20)))
    after = sweep(*((str(task), "m", fallen if task == 3 else same) for task in range(20)))
    found = compare_sweeps(before, after)
    assert found.mean == pytest.approx(-0.015)
    assert [pair.key.task for pair in found.fallen(0.05)] == ["3"]
    assert found.verdict(0.05) is Verdict.REGRESSION


@given(
    st.lists(st.sampled_from([-1.0, -0.5, 0.0, 0.0, 0.0, 0.5, 1.0]), min_size=1, max_size=20),
    st.sampled_from([0.02, 0.05, 0.2, 0.5]),
)
def test_the_number_of_items_that_would_tell(changes: list[float], margin: float) -> None:
    """As often the same items as are said to be needed tell, and one time less does not."""

    def times(number: int) -> Comparison:
        before = [max(0.0, -change) for change in changes] * number
        after = [max(0.0, change) for change in changes] * number
        return compare_sweeps(scores_of(answers("m", before)), scores_of(answers("m", after)))

    needed = times(1).items_to_tell(margin)
    if needed is None or needed > 2000:
        return
    factor = math.ceil(needed / len(changes))
    assert times(factor).verdict(margin) is not Verdict.CANNOT_TELL
    assert factor == 1 or times(factor - 1).verdict(margin) is Verdict.CANNOT_TELL


def test_a_loss_of_the_margin_is_never_shown_to_be_less() -> None:
    """No number of items is named if the loss is the margin or more, or if more than a million would be needed."""
    before, after = sweep(("t", "m", list(passes(18, 20)))), sweep(("t", "m", list(passes(16, 20))))
    found = compare_sweeps(before, after)
    assert found.verdict(0.1) is Verdict.CANNOT_TELL
    assert [found.items_to_tell(margin) for margin in (0.05, 0.1 - 1e-9)] == [None, None]
    assert compare_sweeps(before, before).items_to_tell(1e-300) is None
