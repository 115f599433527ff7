"""Results as tables and records."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fanbench.results import FIELDS, RunResult, table, to_record, usage, usage_table
from fanbench.results.table import cell
from fanbench.wire.messages import RunState

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


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({}, "✓"),
        ({"value": False}, "✗"),
        ({"assertions_passed": 3, "assertions_total": 4, "value": False}, "✗ 3/4"),
        ({"value": 0.0}, "0"),
        ({"value": 2 / 3, "interval": 0.30364}, "0.6667 ± 0.3"),
        ({"value": 0.5, "interval": 0.0}, "0.5 ± 0"),
        ({"value": 0.25, "rows": 4}, "0.25 (4 rows)"),
        ({"value": 0.25, "rows": 4, "rows_errored": 1}, "0.25 (3 of 4 rows)"),
        ({"value": 12345.6}, "12346"),
        ({"value": 1.5e12}, "1.5e+12"),
        ({"value": math.nan}, "nan"),
        ({"value": {"f1": 0.51234, "n": 3, "ok": True}}, "f1=0.5123, n=3, ok=True"),
        ({"value": {}}, "{}"),
        ({"state": RunState.ERRORED, "value": None}, "errored"),
        ({"value": None}, "completed"),
        ({"state": RunState.SCORE_PENDING, "value": None}, "score_pending"),
    ],
)
def test_a_cell_shows_the_result(changes: dict[str, Any], text: str) -> None:
    """A cell shows a mark, a number with its interval and rows, a dict, or the state if there is no value."""
    assert cell(replace(RUN, **changes)) == text


def test_tasks_are_rows_and_models_are_columns() -> None:
    """Tasks and models are sorted whatever the order of the runs, and a missing run is a dash."""
    rows = [
        replace(RUN, task="b", model="z"),
        replace(RUN, task="a", model="z"),
        replace(RUN, model="k", value=0.5),
    ]
    assert table(rows).plain() == "task  k    z\na     0.5  ✓\nb     –    ✓"
    assert table(rows) == table(rows[::-1])


def test_many_models_become_rows() -> None:
    """With more models than fit across, and more than tasks, the models become the rows."""
    rows = [replace(RUN, model=f"m{index}") for index in range(5)]
    assert table(rows).header == ("model", "a")
    assert [line[0] for line in table(rows).rows] == ["m0", "m1", "m2", "m3", "m4"]


def test_all_runs_of_a_pair_share_a_cell() -> None:
    """Several runs of a task and model share a cell, in the order given."""
    assert table([RUN, replace(RUN, value=False)]).rows == (("a", "✓, ✗"),)


def test_a_run_without_a_model_has_a_column() -> None:
    """Runs without a model have a column of their own."""
    assert table([replace(RUN, model="")]).header == ("task", "(no model)")


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
    assert usage_table(rows).plain().splitlines() == [
        "model  runs  tokens in  tokens out  seconds  cost",
        "half   2     –          –           –        at least $1.0000 (1 of 2 runs)",
        "m      2     7          1           3.0      $0.7500",
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
