"""Combine the run files of one run into its result.

A task that was evaluated row by row leaves one run file per row. The run's value is then the mean of the rows' numbers,
the share of rows that passed, or, for dicts, the mean of each number in the rows that have it. Errored rows, those that
are still running, and those without a finite number have no value. A boolean among numbers is not a value either: an
assertion failed. The run is errored if all of its rows are, or if the server says so.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TypedDict

from fanbench._util.text import as_utc, iso_time
from fanbench.results.run_file import Metrics, RunFile
from fanbench.results.types import Kind, RunResult, Value
from fanbench.wire.messages import RunState

__all__ = ["PASSED", "Usage", "combine", "sum_known", "usage_of"]

NANODOLLARS = 1_000_000_000
PASSED = "BENCHMARK_TASK_RUN_ASSERTION_STATUS_PASSED"


def combine(runs: Sequence[RunFile], path: Path) -> RunResult:
    """Return the result of the run that left `runs`, named after the first of them."""
    first = runs[0]
    good = [run for run in runs if run.has_ended]
    kind, value, interval = _value(good) if good else (None, None, None)
    assertions = [item for run in runs for part in (run, *run.nested()) for item in part.assertions]
    roles = [run.requests_by_role() for run in runs]
    own = [item for metrics, _ in roles for item in metrics]
    judge = [item for _, metrics in roles for item in metrics]
    metrics = [*own, *judge]
    latency = sum_known(item.total_backend_latency_ms for item in metrics)
    starts = [_in_utc(run.start_time) for run in runs if run.start_time]
    ends = [_in_utc(run.end_time) for run in runs if run.end_time]
    return RunResult(
        task=first.task,
        name=first.task_version.name,
        version=first.task_version.version_number,
        definition=first.task_version.digest,
        model=first.model,
        model_owner=first.model_version.slug.rpartition("/")[0] or None,
        state=(good or runs)[0].state,
        kind=kind,
        value=value,
        interval=interval,
        rows=len(runs),
        rows_errored=sum(run.state is RunState.ERRORED for run in runs),
        assertions_passed=sum(item.status == PASSED for item in assertions),
        assertions_total=len(assertions),
        **usage_of(own, judge),
        total_cost_usd=_cost_of(metrics),
        latency=None if latency is None else latency / 1000,
        # Rows may have run side by side.
        seconds=max(0.0, (max(ends) - min(starts)).total_seconds()) if starts and ends else None,
        started=iso_time(min(starts)) if starts else None,
        error=next((error for run in runs if (error := run.last_error())), None),
        path=path,
    )


def _value(rows: Sequence[RunFile]) -> tuple[Kind | None, Value | None, float | None]:
    outcomes = [row.outcome() for row in rows]
    if len(outcomes) == 1:
        return outcomes[0]
    values = [value for _, value, _ in outcomes if value is not None]
    numeric = any(kind == "numeric" for kind, _, _ in outcomes)
    numbers = [
        float(value)
        for value in values
        if isinstance(value, float) or (isinstance(value, bool) and not numeric)
    ]
    if numbers:
        return "numeric", _mean(numbers), None
    dicts = [value for value in values if isinstance(value, dict)]
    if not dicts:
        return None, None, None
    columns: dict[str, list[float]] = {}
    for values_of_row in dicts:
        for key, value in values_of_row.items():
            if isinstance(value, bool | int | float):
                columns.setdefault(key, []).append(float(value))
    means = {key: mean for key, column in columns.items() if (mean := _mean(column)) is not None}
    return "dict", means, None


def _mean(values: Iterable[float]) -> float | None:
    """Return the mean of the finite values, or None if there is none."""
    finite = [value for value in values if math.isfinite(value)]
    # Divided first, because the sum may exceed the largest float.
    return math.fsum(value / len(finite) for value in finite) if finite else None


def _in_utc(moment: datetime) -> datetime:
    return as_utc(moment).astimezone(UTC)


class Usage(TypedDict):
    """The tokens, and costs in US dollars, of the model under test and of judges, as fields of results and items."""

    tokens_in: int | None
    tokens_out: int | None
    cost_usd: float | None
    judge_tokens_in: int | None
    judge_tokens_out: int | None
    judge_cost_usd: float | None


def usage_of(own: Sequence[Metrics], judge: Sequence[Metrics]) -> Usage:
    """Return what the requests of both roles used, with the names of the fields of a result; None is unknown."""
    return Usage(
        tokens_in=sum_known(item.input_tokens for item in own),
        tokens_out=sum_known(item.output_tokens for item in own),
        cost_usd=_cost_of(own),
        judge_tokens_in=sum_known(item.input_tokens for item in judge),
        judge_tokens_out=sum_known(item.output_tokens for item in judge),
        judge_cost_usd=_cost_of(judge),
    )


def _cost_of(metrics: Iterable[Metrics]) -> float | None:
    """Return the cost of requests in US dollars.

    It is unknown if any request that used a model did not report its cost: half a sum would mislead.
    """
    costs = [
        sum_known((item.input_tokens_cost_nanodollars, item.output_tokens_cost_nanodollars))
        for item in metrics
        if item.input_tokens or item.output_tokens
    ]
    cost = None if None in costs else sum_known(costs)
    return None if cost is None else cost / NANODOLLARS


def sum_known(values: Iterable[int | None]) -> int | None:
    """Return the sum of the values that are not `None`, or `None` if there are none."""
    known = [value for value in values if value is not None]
    return sum(known) if known else None
