"""What results offer in Python: scores, comparisons, verdicts and tables."""

from __future__ import annotations

import sys
from typing import Any

import pytest

import fanbench
from fanbench import ResultSet, Verdict
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
    assert found.leaderboard("like-these").estimand == "like-these"
    (pair,) = found.compare("a", "b").pairs
    assert (pair.better, pair.worse) == (0, 40)
    with pytest.raises(fanbench.UnknownModel, match=r"The models are google/a, mirror/b\."):
        found.compare("a", "c")


def test_sweeps_are_compared_and_judged() -> None:
    """Two sets of results are compared on all models or some, and the gate has its verdict."""
    old, new = results(("google/a", 90), ("mirror/b", 50)), results(("google/a", 60), ("mirror/b", 50))
    assert [pair.worse for pair in old.compare_with(new).pairs] == [30, 0]
    assert [pair.model for pair in old.compare_with(new, ["b"]).pairs] == ["mirror/b"]
    assert old.gate(new, margin=0.05).verdict is Verdict.REGRESSION
    assert old.gate(new, margin=0.2, models=["mirror/*"]).verdict is Verdict.NOT_WORSE
    assert old.gate(results(("google/a", 90)), margin=0.05).verdict is Verdict.CANNOT_TELL


ITEMS = (
    item(True, run_id=7, item="1"),
    item(None, run_id=8, cost_usd=None, seconds=None, error="ValueError: no"),
    Item(task="t", content="c", model="m", sweep="s", state=ItemState.MISSING, path=""),
)


def test_items_as_a_table_of_pandas() -> None:
    """Each item is a row, each field a column with its type; what is unknown is missing, and no number."""
    pandas = pytest.importorskip("pandas")
    frame = ResultSet(items=ITEMS).to_pandas()
    assert list(frame.columns) == [*Item.__struct_fields__]
    assert list(frame["state"]) == ["scored", "errored", "missing"]
    assert str(frame["run_id"].dtype) == "Int64"
    assert frame["run_id"].isna().tolist() == [False, False, True]
    assert (frame["value"][0], frame["seconds"].sum()) == (1.0, 2.0)
    assert list(frame["error"])[1] == "ValueError: no"
    assert str(ResultSet().to_pandas()["value"].dtype) == "float64"
    assert isinstance(frame, pandas.DataFrame)


@pytest.mark.parametrize(("package", "convert"), [("polars", "to_polars"), ("pyarrow", "to_arrow")])
def test_items_as_other_tables(package: str, convert: str) -> None:
    """The other packages get the same rows, with columns of the same types even if all values are unknown."""
    pytest.importorskip(package)
    table: Any = getattr(ResultSet(items=ITEMS), convert)()
    rows = table.to_dicts() if package == "polars" else table.to_pylist()
    assert [row["state"] for row in rows] == ["scored", "errored", "missing"]
    assert [row["run_id"] for row in rows] == [7, 8, None]
    unknown: Any = getattr(ResultSet(items=ITEMS[2:]), convert)()
    kind = unknown["cost_usd"].dtype if package == "polars" else unknown.schema.field("cost_usd").type
    assert str(kind) in ("Float64", "double")


@pytest.mark.parametrize("package", ["pandas", "polars", "pyarrow"])
def test_a_package_that_is_not_installed_is_named(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error has the command that installs it."""
    monkeypatch.setitem(sys.modules, package, None)
    convert = {"pandas": "to_pandas", "polars": "to_polars", "pyarrow": "to_arrow"}[package]
    with pytest.raises(ImportError, match=f"^{package} is not installed. Run `pip install {package}`.$"):
        getattr(ResultSet(items=ITEMS), convert)()
