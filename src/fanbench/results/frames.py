"""Results as tables of pandas, Polars and Apache Arrow, which are imported only where they are asked for."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from importlib import import_module
from types import ModuleType
from typing import Any, get_args, get_type_hints

from msgspec.structs import fields

from fanbench._util.text import without_surrogates
from fanbench.results.figures import Figures
from fanbench.results.items import Item
from fanbench.results.records import FIELDS, to_record
from fanbench.results.types import RunResult

__all__ = ["Frame", "Framed", "frame_of_items", "frame_of_runs"]


@dataclass(frozen=True, slots=True)
class Frame:
    """Columns of values, and their types: int, float, bool, str, or list for a list of texts.

    Whole columns may be unknown, so the types are not left to be guessed from the values.
    """

    types: Mapping[str, type]
    columns: Mapping[str, Sequence[Any]]

    @classmethod
    def of(cls, types: Mapping[str, type], records: Sequence[Mapping[str, Any]]) -> Frame:
        return cls(types, {name: [record[name] for record in records] for name in types})

    def to_pandas(self) -> Any:
        """Return a `pandas.DataFrame`."""
        pandas = _import("pandas")
        # Of pandas' own types, only these have integers that may be unknown.
        names = {int: "Int64", float: "float64", bool: "bool"}
        return pandas.DataFrame(
            {
                name: pandas.Series(values, dtype=names.get(self.types[name], "object"))
                for name, values in self._clean().items()
            }
        )

    def to_polars(self) -> Any:
        """Return a `polars.DataFrame`."""
        polars = _import("polars")
        types = {int: polars.Int64, float: polars.Float64, bool: polars.Boolean, str: polars.String}
        types[list] = polars.List(polars.String)
        return polars.DataFrame(
            self._clean(), schema={name: types[kind] for name, kind in self.types.items()}
        )

    def to_arrow(self) -> Any:
        """Return a `pyarrow.Table`."""
        arrow = _import("pyarrow")
        types = {int: arrow.int64(), float: arrow.float64(), bool: arrow.bool_(), str: arrow.string()}
        types[list] = arrow.list_(arrow.string())
        schema = arrow.schema([(name, types[kind]) for name, kind in self.types.items()])
        return arrow.table(self._clean(), schema=schema)

    def to_parquet(self) -> bytes:
        """Return the content of a Parquet file."""
        table, file = self.to_arrow(), io.BytesIO()
        import_module("pyarrow.parquet").write_table(table, file)
        return file.getvalue()

    def _clean(self) -> dict[str, list[Any]]:
        cleaners = {str: _text, int: _integer}
        return {
            name: list(map(cleaners[kind], values))
            if (kind := self.types[name]) in cleaners
            else list(values)
            for name, values in self.columns.items()
        }


def _text(value: Any) -> Any:
    """UTF-8 has no halves of surrogate pairs, which names of files may have."""
    text = value.value if isinstance(value, Enum) else value
    return without_surrogates(text) if isinstance(text, str) else text


def _integer(value: int | None) -> int | None:
    """What does not fit into 64 bits is no number of tokens."""
    return value if value is not None and -(2**63) <= value < 2**63 else None


class Framed:
    """Results that can be made a table of pandas, Polars or Apache Arrow."""

    __slots__ = ()

    def frame(self) -> Frame:
        """Return the columns and their types."""
        raise NotImplementedError

    def to_pandas(self) -> Any:
        """Return a `pandas.DataFrame`: a column for each field of the records that the command prints.

        Raises:
            ImportError: pandas is not installed.
        """
        return self.frame().to_pandas()

    def to_polars(self) -> Any:
        """Return a `polars.DataFrame` with the same columns.

        Raises:
            ImportError: Polars is not installed.
        """
        return self.frame().to_polars()

    def to_arrow(self) -> Any:
        """Return a `pyarrow.Table` with the same columns.

        Raises:
            ImportError: pyarrow is not installed.
        """
        return self.frame().to_arrow()


def frame_of_items(items: Iterable[Item]) -> Frame:
    """Return a row for each item, and a column for each field of `Item`."""
    found = list(items)
    types = {field.name: _column_type(field.type) for field in fields(Item)}
    return Frame(types, {name: [getattr(item, name) for item in found] for name in types})


def frame_of_runs(runs: Iterable[RunResult]) -> Frame:
    """Return a row for each run, and a column for each field of its record.

    A column has one type: `value` is a number, with 1 for true and 0 for false; a dict is in the last, `value_json`.
    """
    hints = get_type_hints(RunResult) | get_type_hints(Figures)
    types = {name: _column_type(hints[name]) for name in FIELDS} | {"value": float, "value_json": str}
    return Frame.of(types, [_run_row(run) for run in runs])


def _run_row(run: RunResult) -> dict[str, Any]:
    record = to_record(run)
    value = record["value"]
    is_dict = isinstance(value, dict)
    return record | {
        "value": None if value is None or is_dict else float(value),
        "value_json": json.dumps(value, ensure_ascii=False) if is_dict else None,
    }


def _column_type(annotation: Any) -> type:
    """`int` for `int | None`, and so on; text for whatever is no number."""
    kinds = {*get_args(annotation), annotation} - {type(None)}
    return next((kind for kind in (bool, int, float) if kind in kinds), str)


def _import(name: str) -> ModuleType:
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise ImportError(f"{name} is not installed. Run `pip install {name}`.", name=name) from None
