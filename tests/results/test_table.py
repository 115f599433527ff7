"""Results as tables and records."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from fanbench.results import (
    FIELDS,
    Item,
    ItemState,
    ResultSet,
    RunResult,
    to_record,
    usage,
    usage_table,
)
from fanbench.results.figures import Figures
from fanbench.results.table import cell
from fanbench.wire.messages import RunState
from tests.results.items import answers, item

RUN = RunResult(
    task="a",
    name="A",
    version=1,
    model="m",
    run_id=1,
    state=RunState.COMPLETED,
    kind="boolean",
    value=True,
    interval=None,
    rows=1,
    rows_errored=0,
    assertions_passed=0,
    assertions_total=0,
    tokens_in=None,
    tokens_out=None,
    cost_usd=None,
    latency=None,
    seconds=None,
    started=None,
    error=None,
    path=Path("p"),
)


def shown(*items: Item, runs: Sequence[RunResult] = ()) -> str:
    """The only cell of the table of `items`."""
    ((_, text),) = ResultSet(tuple(runs), items=items).table().rows
    return text


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([True], "✓"),
        ([False], "✗"),
        ([0.0], "0"),
        ([2 / 3], "0.6667"),
        ([12345.6], "12346"),
        ([1.5e12], "1.5e+12"),
        ([True, True, False], "0.6667 [0.21, 0.94]"),
        ([0.5, 0.75], "0.625 [0.14, 0.94]"),
        ([4.0, 6.0], "5 (4 to 6)"),
        ([4.0, 4.0], "4"),
        ([0.9, 0.9, 0.9, None], "0.9 [0.36, 0.99] 3/4"),
        ([True, None], "1 1/2"),
        ([None], "errored"),
        ([None, None], "errored"),
    ],
)
def test_a_cell_shows_the_mean_of_all_repeats(values: list[bool | float | None], text: str) -> None:
    """A cell has a mark or a mean, the interval of several attempts, and how many have a score if not all."""
    assert shown(*(item(value, repeat=repeat) for repeat, value in enumerate(values, 1))) == text


@pytest.mark.parametrize(
    ("state", "text"),
    [(ItemState.MISSING, "–"), (ItemState.NO_VALUE, "no run file"), (ItemState.ERRORED, "errored")],
)
def test_a_cell_without_a_score_shows_why(state: ItemState, text: str) -> None:
    """What has no score is missing, has no value, or errored; of several kinds, each has its number."""
    without = item(None, state=state)
    assert shown(without) == text
    assert shown(without, structs.replace(without, state=ItemState.ERRORED, repeat=2)).startswith(
        "errored" if state is ItemState.ERRORED else "1 errored, 1 "
    )


def test_items_of_other_models_are_planned() -> None:
    """An item that only another model has left is lacking."""
    items = (*answers("a", [True, True, True]), *answers("b", [True]))
    assert ResultSet(items=items).table().rows == (("t", "1 [0.44, 1]", "1 1/3"),)


def test_a_stated_interval_is_told_apart() -> None:
    """The interval that a task stated is a half-width, and counts only for a single run."""
    assert shown(item(2 / 3, low=0.36, high=0.97)) == "0.6667 ± 0.3"
    assert shown(item(0.5, low=0.5, high=0.5)) == "0.5 ± 0"
    assert shown(item(0.5, low=0.4, high=0.6), item(0.7, repeat=2)) == "0.6 [0.13, 0.94]"


def test_an_errored_run_whose_items_all_have_scores_is_marked() -> None:
    """If a run errored, there may have been more items than anybody knows."""
    run = replace(RUN, task="t", content="c", state=RunState.ERRORED)
    assert shown(*answers("m", [True, True]), runs=[run]) == "1 [0.34, 1] (errored)"
    assert shown(*answers("m", [True, True]), runs=[replace(run, superseded=True)]) == "1 [0.34, 1]"


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"value": {"f1": 0.51234, "n": 3, "ok": True}}, "f1=0.5123, n=3, ok=True"),
        ({"value": {"a": "x\ny"}}, r"a=x\ny"),
        ({"value": {"a": math.nan, "b": -math.inf}}, "a=–, b=–"),
        ({"value": {}}, "{}"),
        ({"value": None, "state": RunState.SCORE_PENDING}, "score_pending"),
        ({"value": math.nan}, "no value"),
        ({"value": None, "rows": 0}, "no run file"),
    ],
)
def test_a_run_without_a_number_shows_what_it_has(changes: dict[str, Any], text: str) -> None:
    """A run without a score shows its dict in one line, that it left no run file, or its state."""
    run = replace(RUN, task="t", content="c", **changes)
    assert shown(item(None, state=ItemState.NO_VALUE), runs=[run]) == text
    assert cell(run) == text


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({}, "✓"),
        ({"assertions_passed": 3, "assertions_total": 4, "value": False}, "✗ 3/4"),
        ({"value": 2 / 3, "interval": 0.30364}, "0.6667 ± 0.3"),
        (
            {"value": 0.75, "figures": Figures(items_planned=8, items_scored=4, low=0.3, high=0.95)},
            "0.75 [0.3, 0.95] 4/8",
        ),
        ({"state": RunState.ERRORED, "value": None}, "errored"),
        ({"state": RunState.ERRORED}, "✓ (errored)"),
    ],
)
def test_one_run_is_shown_alike(changes: dict[str, Any], text: str) -> None:
    """A run by itself shows its mark or number, its interval, and its coverage."""
    assert cell(replace(RUN, **changes)) == text


def test_tasks_are_rows_and_models_are_columns() -> None:
    """Tasks and models are sorted whatever the order of the items, and a pair without any run is a dash."""
    items = (item(True, task="b", model="z"), item(True, task="a", model="z"), item(0.5, task="a", model="k"))
    assert ResultSet(items=items).table().plain() == "task  k    z\na     0.5  ✓\nb     –    ✓"
    assert ResultSet(items=items).table() == ResultSet(items=items[::-1]).table()


def test_many_models_become_rows() -> None:
    """With more models than fit across, and more than tasks, the models become the rows."""
    found = ResultSet(items=tuple(item(True, model=f"m{index}") for index in range(5))).table()
    assert found.header == ("model", "t")
    assert [line[0] for line in found.rows] == ["m0", "m1", "m2", "m3", "m4"]


def test_owners_and_contents_are_apart() -> None:
    """Models of several owners have their owners, and tasks of several contents what tells them apart."""
    items = (
        item(0.0, model="x/other", content="", version=None),
        item(0.4, model="x/other", content="content-1:0123456789", version=11),
        item(0.1, model="google/flash", content="v2", version=2),
        item(0.2, model="mirror/flash", content="v10", version=10),
        item(0.3, model="x/other", content="v10", version=10),
    )
    assert ResultSet(items=items).table().plain().splitlines() == [
        "task            google/flash  mirror/flash  other",
        "t (no version)  –             –             0",
        "t (v2)          0.1           –             –",
        "t (v10)         –             0.2           0.3",
        "t (01234567)    –             –             0.4",
    ]


def test_each_run_can_be_shown_by_itself() -> None:
    """With `every`, the runs of a pair share a cell, in the order given, and those that were made again say so."""
    run = replace(RUN, task="t", content="c")
    found = ResultSet((run, replace(run, value=False, superseded=True)), items=(item(True),))
    assert found.table(every=True).rows == (("t", "✓, ✗ (made again)"),)
    assert found.table().rows == (("t", "✓"),)


def test_a_run_without_a_model_has_a_column() -> None:
    """Runs without a model have a column of their own."""
    assert ResultSet(items=(item(True, model=""),)).table().header == ("task", "(no model)")


def test_usage_adds_up_per_model() -> None:
    """Unknown figures stay unknown, and a cost that only some runs report is a lower bound."""
    rows = [
        replace(RUN, tokens_in=5, tokens_out=1, cost_usd=0.5, seconds=1.0),
        replace(RUN, task="b", tokens_in=2, cost_usd=0.25, seconds=2.0),
        replace(RUN, model="half", cost_usd=1.0),
        replace(RUN, model="half", task="b"),
    ]
    half, whole = usage(rows)
    assert (whole.runs, whole.tokens_in, whole.tokens_out, whole.cost_usd, whole.seconds) == (
        2,
        7,
        1,
        0.75,
        3.0,
    )
    assert (half.runs, half.tokens_in, half.cost_usd, half.seconds) == (2, None, None, None)
    assert (whole.judge_tokens_in, whole.judge_cost.known) == (None, 0)
    assert usage_table(rows).plain().splitlines() == [
        "model  runs  tokens in  tokens out  seconds  cost",
        "half   2     –          –           –        at least $1.0000 (1 of 2 runs)",
        "m      2     7          1           3.0      $0.7500",
    ]


def test_a_judge_has_columns_of_its_own() -> None:
    """What a judge used is not in the tokens and the cost of the model under test."""
    judged: dict[str, Any] = {"judge_tokens_in": 300, "judge_tokens_out": 66, "judge_cost_usd": 0.5}
    rows = [replace(RUN, tokens_in=5, tokens_out=1, cost_usd=0.25, **judged), replace(RUN, model="n")]
    assert usage_table(rows).plain().splitlines() == [
        "model  runs  tokens in  tokens out  seconds  cost     judge in  judge out  judge cost",
        "m      1     5          1           –        $0.2500  300       66         $0.5000",
        "n      1     –          –           –        –        –         –          –",
    ]


def test_an_unknown_cost_has_no_column() -> None:
    """The column for the cost is omitted if no model has one."""
    assert usage_table([RUN]).header == ("model", "runs", "tokens in", "tokens out", "seconds")


def test_a_record_is_json_with_stable_fields() -> None:
    """A record has every field in order, the state without its prefix, and null for NaN at any depth."""
    record = to_record(replace(RUN, value={"a": math.nan, "b": [math.inf, 1]}, interval=math.nan))
    assert tuple(record) == FIELDS
    assert (record["state"], record["path"], record["interval"]) == ("COMPLETED", "p", None)
    assert record["value"] == {"a": None, "b": [None, 1]}
    assert json.loads(json.dumps(record, allow_nan=False)) == record
