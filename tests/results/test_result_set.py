"""What results offer in Python: scores, comparisons, verdicts and tables."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas
import polars
import pytest

import fanbench
from fanbench import ResultSet, RunResult, RunState, Verdict
from fanbench.errors import UsageError
from fanbench.results import FIELDS
from fanbench.results.items import Item, ItemState
from tests.results.items import answers, item, passes


def results(*runs: tuple[str, int]) -> ResultSet:
    """Runs of a hundred items, each of a model and the number of items that passed."""
    return ResultSet(items=tuple(one for model, right in runs for one in answers(model, passes(right, 100))))


def test_models_are_ranked_and_compared() -> None:
    """The leaderboard has the models in their order, and a comparison finds them by their short names."""
    found = results(("google/a", 90), ("mirror/b", 50))
    assert [(row.model, row.ranks) for row in found.leaderboard().models] == [
        ("google/a", (1, 1)),
        ("mirror/b", (2, 2)),
    ]
    (pair,) = found.compare("a", "b").pairs
    assert (pair.better, pair.worse) == (0, 40)
    with pytest.raises(fanbench.UnknownModel, match=r"The models are google/a, mirror/b\."):
        found.compare("a", "c")


def test_sweeps_are_compared_and_judged() -> None:
    """Two sets of results are compared on all models or some, and the gate has its verdict."""
    old, new = results(("google/a", 90), ("mirror/b", 50)), results(("google/a", 60), ("mirror/b", 50))
    assert [pair.worse for pair in old.compare_with(new).pairs] == [30, 0]
    for some in ("b", ["b"], "m*/b"):
        assert [pair.model for pair in old.compare_with(new, some).pairs] == ["mirror/b"]
    assert old.gate(new, margin=0.05).verdict is Verdict.REGRESSION
    assert old.gate(new, margin=0.2, models="mirror/*").verdict is Verdict.NOT_WORSE
    assert old.gate(results(("google/a", 90)), margin=0.05).verdict is Verdict.CANNOT_TELL


ITEMS = (
    item(True, run_id=7, item="1"),
    item(None, run_id=8, cost_usd=None, seconds=None, error="ValueError: no"),
    Item(task="t", content="c", model="m", sweep="s", state=ItemState.MISSING, path=""),
)
RUN = RunResult(
    task="t",
    name="T",
    model="m",
    run_id=7,
    state=RunState.COMPLETED,
    kind="boolean",
    value=True,
    path=Path("p"),
)
RUNS = (RUN, replace(RUN, kind="dict", value={"a": 1.0}), replace(RUN, kind=None, value=None))
PACKAGES = {"pandas": "to_pandas", "polars": "to_polars", "pyarrow": "to_arrow"}


def test_items_as_a_table_of_pandas() -> None:
    """Each item is a row, each field a column with its type; what is unknown is missing, and no number."""
    frame = ResultSet(items=ITEMS).to_pandas()
    assert list(frame.columns) == [*Item.__struct_fields__]
    assert list(frame["state"]) == ["scored", "errored", "missing"]
    assert str(frame["run_id"].dtype) == "Int64"
    assert frame["run_id"].isna().tolist() == [False, False, True]
    assert (frame["value"][0], frame["seconds"].sum()) == (1.0, 2.0)
    assert list(frame["error"])[1] == "ValueError: no"
    assert str(ResultSet().to_pandas()["value"].dtype) == "float64"
    assert isinstance(frame, pandas.DataFrame)


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda found: found.gate(found, margin=5), "margin is 5."),
        (lambda found: found.gate(found, margin=math.nan), "margin is nan."),
        (lambda found: found.gate(found, margin=0.1, min_coverage=0), "min_coverage is 0."),
        (lambda found: found.leaderboard(k=0), "k is 0."),
        (lambda found: found.leaderboard("those"), "tasks is 'those'."),
        (lambda found: found.leaderboard("like-these"), "One task says nothing about tasks like it"),
        (lambda found: found.table(sort="size"), "sort is 'size'."),
        (lambda found: found.frame("tasks"), "of is 'tasks'."),
    ],
)
def test_arguments_are_checked_as_options_are(ask: Callable[[ResultSet], Any], message: str) -> None:
    """What no option of a command would accept is refused in Python with a sentence and a hint."""
    with pytest.raises(UsageError, match=re.escape(message)) as caught:
        ask(results(("a", 90)))
    assert caught.value.hint


@pytest.mark.parametrize("convert", ["to_polars", "to_arrow"])
def test_items_as_other_tables(convert: str) -> None:
    """The other packages get the same rows, with columns of the same types even if all values are unknown."""
    rows = rows_of(getattr(ResultSet(items=ITEMS), convert)())
    assert [row["state"] for row in rows] == ["scored", "errored", "missing"]
    assert [row["run_id"] for row in rows] == [7, 8, None]
    unknown: Any = getattr(ResultSet(items=ITEMS[2:]), convert)()
    kind = unknown["cost_usd"].dtype if convert == "to_polars" else unknown.schema.field("cost_usd").type
    assert str(kind) in ("Float64", "double")


def rows_of(table: Any) -> list[dict[str, Any]]:
    """The rows of a table of any of the packages; what is unknown is None."""
    if isinstance(table, pandas.DataFrame):
        return [
            {name: None if value is pandas.NA or value != value else value for name, value in row.items()}
            for row in table.to_dict("records")
        ]
    rows: list[dict[str, Any]] = (
        table.to_dicts() if isinstance(table, polars.DataFrame) else table.to_pylist()
    )
    return rows


@pytest.mark.parametrize("convert", PACKAGES.values())
def test_everything_is_a_table(convert: str) -> None:
    """Runs, a leaderboard and a comparison are tables with the fields of their records."""
    found = ResultSet(RUNS, items=(*answers("m", passes(5, 9)), *answers("n", passes(6, 9))))
    runs = rows_of(getattr(found.frame("runs"), convert)())
    assert tuple(runs[0]) == (*FIELDS, "value_json")
    assert [(run["value"], run["value_json"]) for run in runs] == [
        (1.0, None),
        (None, '{"a": 1.0}'),
        (None, None),
    ]
    ranking = found.leaderboard()
    assert [row["model"] for row in rows_of(getattr(ranking, convert)())] == ["n", "m"]
    assert tuple(rows_of(getattr(ranking, convert)())[0]) == tuple(ranking.records()[0])
    pair, overall = rows_of(getattr(found.compare("m", "n"), convert)())
    assert (pair["task"], pair["better"], overall["status"], overall["p_adjusted"]) == (
        "t",
        1,
        "overall",
        None,
    )
    assert not len(getattr(ResultSet(items=()).leaderboard(), convert)())


@pytest.mark.parametrize("convert", PACKAGES.values())
def test_what_columns_cannot_hold(convert: str) -> None:
    """Names that are no UTF-8, and numbers beyond 64 bits, do not prevent a table: the rest of it is there."""
    odd = (item(True, item="a\udc80", tokens_in=2**70, tokens_out=2**63 - 1),)
    (row,) = rows_of(getattr(ResultSet(items=odd), convert)())
    assert (row["item"], row["tokens_in"], row["tokens_out"]) == ("a\ufffd", None, 2**63 - 1)


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_that_is_not_installed_is_named(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error has the command that installs it."""
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=f"^{package} is not installed. Run `pip install {package}`.$"):
        getattr(ResultSet(items=ITEMS), PACKAGES[package])()
