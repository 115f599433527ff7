"""Results as a table of tasks and models, and what each model used."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fanbench.results.model import RunResult

__all__ = ["MISSING", "Table", "Usage", "cell", "table", "usage", "usage_table"]

MISSING = "–"
NO_MODEL = "(no model)"
# Above this, models go downwards: a terminal has more lines than columns.
MODELS_ACROSS = 4


@dataclass(frozen=True, slots=True)
class Table:
    """Text in rows and columns; the first column is the label."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def plain(self) -> str:
        """Aligned by spaces, without colour, one line a row."""
        lines = [self.header, *self.rows]
        widths = [max(len(line[column]) for line in lines) for column in range(len(self.header))]
        return "\n".join(
            "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()
            for line in lines
        )


@dataclass(frozen=True, slots=True)
class Usage:
    """What the runs of one model used in sum; `None` where no run said. Seconds are wall time."""

    model: str
    runs: int
    tokens_in: int | None
    tokens_out: int | None
    cost_usd: float | None
    seconds: float | None


def table(results: Sequence[RunResult]) -> Table:
    """Tasks by models, both in alphabetical order; several runs of a pair share a cell, newest first."""
    tasks = sorted({row.task for row in results})
    models = sorted({row.model for row in results})
    cells: dict[tuple[str, str], list[str]] = {}
    for row in results:
        cells.setdefault((row.task, row.model), []).append(cell(row))

    def text(task: str, model: str) -> str:
        return ", ".join(cells.get((task, model), [MISSING]))

    if len(models) <= max(MODELS_ACROSS, len(tasks)):
        rows = tuple((task, *(text(task, model) for model in models)) for task in tasks)
        return Table(("task", *(model or NO_MODEL for model in models)), rows)
    rows = tuple((model or NO_MODEL, *(text(task, model) for task in tasks)) for model in models)
    return Table(("model", *tasks), rows)


def cell(row: RunResult) -> str:
    """✓ and ✗ with the share of assertions that passed, a number with its interval, "errored", or "no run file"."""
    if row.errored:
        return "errored"
    text = _value(row)
    if row.rows > 1:
        counted = row.rows - row.rows_errored
        text += f" ({counted} rows)" if not row.rows_errored else f" ({counted} of {row.rows} rows)"
    return text


def _value(row: RunResult) -> str:
    match row.value:
        case None:
            return row.state.label.lower() if row.rows else "no run file"
        case bool(passed):
            mark = "✓" if passed else "✗"
            return f"{mark} {row.assertions_passed}/{row.assertions_total}" if row.assertions_total else mark
        case dict(values):
            return ", ".join(f"{key}={_item(value)}" for key, value in values.items()) or "{}"
        case number:
            return _number(number) + (f" ± {row.interval:.2g}" if row.interval is not None else "")


def _item(value: Any) -> str:
    return _number(value) if isinstance(value, float) else str(value)


def _number(value: float) -> str:
    """Four significant digits: enough to tell two models apart, few enough to read (an interval has two)."""
    if math.isfinite(value) and abs(value) < 1e6:
        return f"{value:.4g}" if abs(value) < 1e4 else f"{value:.0f}"
    return f"{value:g}"


def usage(results: Sequence[RunResult]) -> tuple[Usage, ...]:
    """One entry per model of `results`, in alphabetical order."""
    return tuple(
        _usage(model, [row for row in results if row.model == model])
        for model in sorted({row.model for row in results})
    )


def _usage(model: str, rows: Sequence[RunResult]) -> Usage:
    costs = [row.cost_usd for row in rows]
    known = [cost for cost in costs if cost is not None]
    seconds = [row.seconds for row in rows if row.seconds is not None]
    return Usage(
        model=model,
        runs=len(rows),
        tokens_in=_sum([row.tokens_in for row in rows]),
        tokens_out=_sum([row.tokens_out for row in rows]),
        cost_usd=sum(known) if known and len(known) == len(costs) else None,
        seconds=sum(seconds) if seconds else None,
    )


def _sum(values: Sequence[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def usage_table(results: Sequence[RunResult]) -> Table:
    """Runs, tokens, seconds and, where any model has one, cost of each model."""
    entries = usage(results)
    priced = any(entry.cost_usd is not None for entry in entries)
    header = ("model", "runs", "tokens in", "tokens out", "seconds") + (("cost",) if priced else ())
    return Table(header, tuple(_usage_row(entry, priced=priced) for entry in entries))


def _usage_row(entry: Usage, *, priced: bool) -> tuple[str, ...]:
    row = (
        entry.model or NO_MODEL,
        str(entry.runs),
        MISSING if entry.tokens_in is None else str(entry.tokens_in),
        MISSING if entry.tokens_out is None else str(entry.tokens_out),
        MISSING if entry.seconds is None else f"{entry.seconds:.1f}",
    )
    cost = MISSING if entry.cost_usd is None else f"${entry.cost_usd:.4f}"
    return (*row, cost) if priced else row
