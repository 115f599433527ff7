"""Scores: pooled over repeats, with what is lacking, and an interval only where there can be one."""

from __future__ import annotations

from itertools import chain
from typing import Any

import pytest

from fanbench.results.items import ItemState
from fanbench.results.scales import Scale
from fanbench.results.scores import TaskKey, scores_of
from fanbench.results.statistics import wilson
from tests.results.items import answers, item, passes

T = TaskKey("t", "c")


def test_an_error_lowers_the_coverage_and_not_the_mean() -> None:
    """Of eight items, 3 right, 1 wrong and 4 errored are 0.75 of four scored, within the bounds of all eight."""
    cell = scores_of(answers("m", [True, True, True, False, None, None, None, None])).cells[T, "m"]
    assert (cell.mean, cell.scored, cell.errored, cell.planned, cell.complete) == (0.75, 4, 4, 8, False)
    assert cell.bounds is not None
    assert (cell.bounds.low, cell.bounds.high) == (wilson(3 / 8, 8).low, wilson(7 / 8, 8).high)


def test_items_that_left_nothing_are_known_from_other_models() -> None:
    """A model of which five items left nothing has them planned, because another model has them."""
    scores = scores_of(chain(answers("whole", passes(8, 10)), answers("part", passes(5, 5))))
    part = scores.cells[T, "part"]
    assert (part.planned, part.scored, part.missing, part.errored) == (10, 5, 5, 0)
    assert part.bounds is not None
    assert part.bounds.low < 0.5 < 1.0 == part.bounds.high


def test_a_run_that_errored_stands_for_all_of_its_items() -> None:
    """A run that errored as a whole counts once for each item of the task, and is no item itself."""
    scores = scores_of(chain(answers("good", passes(8, 10)), [item(None, model="bad")]))
    bad = scores.cells[T, "bad"]
    assert (bad.planned, bad.errored, bad.missing, bad.mean) == (10, 10, 0, None)
    assert bad.items == {str(number): 1 for number in range(10)}


def test_a_run_may_have_several_attempts_at_an_item() -> None:
    """An item that is asked three times in each run is planned three times for each run of each model."""
    whole = [item(True, model="whole", item=name, repeat=repeat) for repeat in (1, 2) for name in "aaab"]
    part = [
        item(value, model="part", item=name) for name, value in zip("aab", (True, False, None), strict=True)
    ]
    scores = scores_of([*whole, *part, item(None, model="bad")])
    cells = [scores.cells[T, model] for model in ("whole", "part", "bad")]
    assert [(cell.planned, cell.scored, cell.errored, cell.missing) for cell in cells] == [
        (8, 8, 0, 0),
        (4, 2, 1, 1),
        (4, 0, 4, 0),
    ]
    assert cells[1].items == {"a": 3, "b": 1}
    assert cells[1].mean == 0.5
    lowest, highest = cells[1].extremes()
    assert lowest == pytest.approx([1 / 3, 0])
    assert highest == pytest.approx([2 / 3, 1])


def test_a_mean_that_overflows_is_no_value() -> None:
    """Repeats whose sum exceeds the largest float have no mean."""
    assert scores_of([item(1.7e308, repeat=repeat) for repeat in (1, 2)]).cells[T, "m"].mean is None


def test_repeats_are_pooled_by_item() -> None:
    """The mean is over items, and repeats that always agree do not narrow the interval."""
    runs = [answers("m", passes(5, 10), repeat=repeat) for repeat in (1, 2, 3)]
    cell = scores_of(chain(*runs)).cells[T, "m"]
    assert (cell.mean, cell.repeats, cell.scored, cell.planned) == (0.5, 3, 30, 30)
    assert cell.interval == wilson(0.5, 10)


def test_a_repeat_that_is_lacking_is_within_the_bounds() -> None:
    """Of two repeats of one item, one passed and one errored: the bounds are those of one half and of one."""
    cell = scores_of([item(True), item(None, repeat=2)]).cells[T, "m"]
    assert (cell.planned, cell.scored, cell.errored) == (2, 1, 1)
    assert cell.bounds is not None
    assert (cell.bounds.low, cell.bounds.high) == (wilson(0.5, 2).low, 1.0)


def test_attempts_that_were_made_again_do_not_count() -> None:
    """Of an attempt and the one that was made instead of it, only the later one is counted."""
    cell = scores_of([item(None, superseded=True), item(True, attempt=2)]).cells[T, "m"]
    assert (cell.scored, cell.errored, cell.planned, cell.complete) == (1, 0, 1, True)


def test_contents_are_apart_and_versions_of_one_content_are_together() -> None:
    """Versions with other content are other tasks; versions with the same content are one."""
    found = [item(True, version=1), item(False, version=2, repeat=2), item(False, version=3, content="d")]
    scores = scores_of(found)
    assert scores.tasks == (T, TaskKey("t", "d"))
    assert scores.cells[T, "m"].mean == 0.5
    assert scores.cells[T, "m"].versions == {1, 2}


@pytest.mark.parametrize(
    ("value", "fields", "interval"),
    [
        (True, {}, (wilson(1, 1).low, 1.0, "Wilson")),
        (0.5, {}, None),
        (0.5, {"low": 0.3, "high": 0.7}, (0.3, 0.7, "stated")),
        (70.0, {}, None),
    ],
)
def test_one_value_has_the_interval_that_is_stated(
    value: float, fields: dict[str, Any], interval: tuple[float, float, str] | None
) -> None:
    """One number has the interval that its task states, or none; one pass has that of one attempt."""
    found = scores_of([item(value, **fields)]).cells[T, "m"].interval
    assert (found and (found.low, found.high, found.method)) == interval


def test_values_beyond_the_scale_have_no_interval() -> None:
    """Values that may be anything have a mean, but neither an interval nor bounds, and their task is not bounded."""
    scores = scores_of([*answers("m", [12.0, -3.0, None]), *answers("n", [0.5, 0.5, 0.5])])
    cell = scores.cells[T, "m"]
    assert (cell.mean, cell.interval, cell.bounds) == (4.5, None, None)
    assert scores.bounded() == ()


def test_a_declared_scale_may_be_turned_around() -> None:
    """On a scale of seconds from 10 down to 0, low values score high, and intervals are in seconds."""
    scale = Scale(0, 10, higher_is_better=False)
    scores = scores_of(answers("m", [2.0, 4.0, 3.0, 3.0]), {"t": scale})
    cell = scores.cells[T, "m"]
    assert cell.scores() == {"0": 0.8, "1": 0.6, "2": 0.7, "3": 0.7}
    assert cell.mean == 3.0
    assert cell.interval is not None
    assert 0 < cell.interval.low < 3.0 < cell.interval.high < 10
    assert scores.bounded() == (T,)


def test_what_has_no_value_is_counted_apart() -> None:
    """An attempt without a value is neither an error nor a zero."""
    cell = scores_of([*answers("m", [True, False]), item(None, item="2", state=ItemState.NO_VALUE)]).cells[
        T, "m"
    ]
    assert (cell.scored, cell.no_value, cell.errored, cell.planned, cell.mean) == (2, 1, 0, 3, 0.5)


def test_a_cost_that_is_not_reported_makes_the_sum_unknown() -> None:
    """The cost and the time of a cell are those of all its runs, each counted once, or unknown."""
    runs = [*answers("m", [True, None]), *answers("m", [True, True], repeat=2)]
    cell = scores_of(runs).cells[T, "m"]
    assert (cell.cost, cell.time) == (0.02, 4.0)
    unknown = answers("m", [True, True], repeat=3, run_cost_usd=None)
    assert scores_of([*runs, *unknown]).cells[T, "m"].cost is None
