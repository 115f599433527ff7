"""Results as tables: tasks by models, and what each model used."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from fanbench._util.text import align_rows
from fanbench.results.combine import sum_known
from fanbench.results.types import Cost, RunResult

__all__ = ["MISSING", "Table", "Usage", "cell", "table", "usage", "usage_table"]

MISSING = "–"
NO_MODEL = "(no model)"
# With more models than this, models become rows: a terminal has more lines than columns.
MODELS_ACROSS = 4


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of text under a header. The first column is the label."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def plain(self) -> str:
        """The table as text, aligned with spaces, with one line per row."""
        return "\n".join(align_rows([self.header, *self.rows]))


@dataclass(frozen=True, slots=True)
class Usage:
    """The totals of one model's runs; `None` if no run reported the figure. Seconds are wall time."""

    model: str
    runs: int
    tokens_in: int | None
    tokens_out: int | None
    cost: Cost
    seconds: float | None

    @property
    def cost_usd(self) -> float | None:
        """The cost of all runs; `None` if any run does not report it."""
        return self.cost.total


def table(results: Sequence[RunResult]) -> Table:
    """Return tasks by models, both in alphabetical order.

    Several runs of a pair share a cell, in the order given. With many models, the models become rows.
    """
    tasks = sorted({run.task for run in results})
    models = sorted({run.model for run in results})
    cells: dict[tuple[str, str], list[str]] = {}
    for run in results:
        cells.setdefault((run.task, run.model), []).append(cell(run))

    def text(task: str, model: str) -> str:
        return ", ".join(cells.get((task, model), [MISSING]))

    if len(models) <= max(MODELS_ACROSS, len(tasks)):
        rows = tuple((task, *(text(task, model) for model in models)) for task in tasks)
        return Table(("task", *(model or NO_MODEL for model in models)), rows)
    rows = tuple((model or NO_MODEL, *(text(task, model) for task in tasks)) for model in models)
    return Table(("model", *tasks), rows)


def cell(run: RunResult) -> str:
    """Return the run's result as the text of a table cell.

    That is ✓ or ✗ with the number of assertions that passed, a number with its interval, a dict's numbers,
    "errored", "no run file", or the run's state.
    """
    if run.errored:
        return "errored"
    match run.value:
        case None:
            text = run.state.label.lower() if run.rows else "no run file"
        case bool(passed):
            text = "✓" if passed else "✗"
            if run.assertions_total:
                text += f" {run.assertions_passed}/{run.assertions_total}"
        case dict(values):
            shown = {
                key: _number(item) if isinstance(item, float) else str(item) for key, item in values.items()
            }
            text = ", ".join(f"{key}={item}" for key, item in shown.items()) or "{}"
        case number:
            text = _number(number) + (f" ± {run.interval:.2g}" if run.interval is not None else "")
    if run.rows > 1:
        counted = f"{run.rows - run.rows_errored} of {run.rows}" if run.rows_errored else f"{run.rows}"
        text += f" ({counted} rows)"
    return text


def _number(value: float) -> str:
    """Four significant digits: enough to compare models, and easy to read."""
    if math.isfinite(value) and abs(value) < 1e6:
        return f"{value:.4g}" if abs(value) < 1e4 else f"{value:.0f}"
    return f"{value:g}"


def usage(results: Sequence[RunResult]) -> tuple[Usage, ...]:
    """Return one entry per model of `results`, in alphabetical order."""
    entries: list[Usage] = []
    for model in sorted({run.model for run in results}):
        runs = [run for run in results if run.model == model]
        seconds = [run.seconds for run in runs if run.seconds is not None]
        entries.append(
            Usage(
                model=model,
                runs=len(runs),
                tokens_in=sum_known(run.tokens_in for run in runs),
                tokens_out=sum_known(run.tokens_out for run in runs),
                cost=Cost.of([run.cost_usd for run in runs]),
                seconds=sum(seconds) if seconds else None,
            )
        )
    return tuple(entries)


def usage_table(results: Sequence[RunResult]) -> Table:
    """Return the runs, tokens and seconds of each model, and its cost if any run has one."""
    entries = usage(results)
    header = ["model", "runs", "tokens in", "tokens out", "seconds"]
    rows = [
        [
            entry.model or NO_MODEL,
            str(entry.runs),
            MISSING if entry.tokens_in is None else str(entry.tokens_in),
            MISSING if entry.tokens_out is None else str(entry.tokens_out),
            MISSING if entry.seconds is None else f"{entry.seconds:.1f}",
        ]
        for entry in entries
    ]
    if any(entry.cost.known for entry in entries):
        header.append("cost")
        for row, entry in zip(rows, entries, strict=True):
            row.append(str(entry.cost) if entry.cost.known else MISSING)
    return Table(tuple(header), tuple(map(tuple, rows)))
