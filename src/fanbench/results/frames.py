"""Items as tables of pandas, Polars and Apache Arrow, which are imported only where they are asked for."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from types import ModuleType
from typing import Any

from fanbench.results.items import Item

__all__ = ["to_arrow", "to_pandas", "to_polars"]

# Whole columns may be unknown, so the types are not left to be guessed from the values.
_TYPES = {
    "version": int,
    "run_id": int,
    "repeat": int,
    "attempt": int,
    "superseded": bool,
    "value": float,
    "low": float,
    "high": float,
    "tokens_in": int,
    "tokens_out": int,
    "cost_usd": float,
    "judge_tokens_in": int,
    "judge_tokens_out": int,
    "judge_cost_usd": float,
    "seconds": float,
}
_COLUMNS = {name: _TYPES.get(name, str) for name in Item.__struct_fields__}


def to_pandas(items: Iterable[Item]) -> Any:
    """Return a `pandas.DataFrame`; see `ResultSet.to_pandas`."""
    pandas = _import("pandas")
    # Of pandas' own types, only these have integers that may be unknown.
    names = {int: "Int64", float: "float64", bool: "bool"}
    data = {
        name: pandas.Series(values, dtype=names.get(_COLUMNS[name], "object"))
        for name, values in _columns(items).items()
    }
    return pandas.DataFrame(data)


def to_polars(items: Iterable[Item]) -> Any:
    """Return a `polars.DataFrame`; see `ResultSet.to_polars`."""
    polars = _import("polars")
    types = {int: polars.Int64, float: polars.Float64, bool: polars.Boolean, str: polars.String}
    return polars.DataFrame(_columns(items), schema={name: types[kind] for name, kind in _COLUMNS.items()})


def to_arrow(items: Iterable[Item]) -> Any:
    """Return a `pyarrow.Table`; see `ResultSet.to_arrow`."""
    arrow = _import("pyarrow")
    types = {int: arrow.int64(), float: arrow.float64(), bool: arrow.bool_(), str: arrow.string()}
    schema = arrow.schema([(name, types[kind]) for name, kind in _COLUMNS.items()])
    return arrow.table(_columns(items), schema=schema)


def _columns(items: Iterable[Item]) -> dict[str, list[Any]]:
    found = list(items)
    columns = {name: [getattr(item, name) for item in found] for name in _COLUMNS}
    return columns | {"state": [item.state.value for item in found]}


def _import(name: str) -> ModuleType:
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise ImportError(f"{name} is not installed. Run `pip install {name}`.", name=name) from None
