"""Combine the run files of one run into its result.

A task that was evaluated row by row leaves one run file per row. The run's value is then the mean of the rows'
numbers, the share of rows that passed, or, for dicts, the mean of each number in them; no interval can be derived
from that. Errored rows have no value and are counted separately. The run is errored only if all of its rows are.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from fanbench._util.text import as_utc, iso_time
from fanbench.results.run_file import Metrics, RunFile
from fanbench.results.types import Kind, RunResult, Value
from fanbench.wire.messages import RunState

__all__ = ["combine", "cost_of", "sum_known"]

NANODOLLARS = 1_000_000_000
PASSED = "BENCHMARK_TASK_RUN_ASSERTION_STATUS_PASSED"


def combine(runs: Sequence[RunFile], path: Path) -> RunResult:
    """Return the result of the run that left `runs`, named after the first of them."""
    first = runs[0]
    good = [run for run in runs if run.state is not RunState.ERRORED]
    kind, value, interval = _value(good) if good else (None, None, None)
    assertions = [item for run in runs for part in (run, *run.nested()) for item in part.assertions]
    metrics = [item for run in runs for item in run.metrics()]
    latency = sum_known(item.total_backend_latency_ms for item in metrics)
    starts = [_in_utc(run.start_time) for run in runs if run.start_time]
    ends = [_in_utc(run.end_time) for run in runs if run.end_time]
    return RunResult(
        task=first.task,
        name=first.task_version.name,
        version=first.task_version.version_number,
        model=first.model,
        state=(good or runs)[0].state,
        kind=kind,
        value=value,
        interval=interval,
        rows=len(runs),
        rows_errored=len(runs) - len(good),
        assertions_passed=sum(item.status == PASSED for item in assertions),
        assertions_total=len(assertions),
        tokens_in=sum_known(item.input_tokens for item in metrics),
        tokens_out=sum_known(item.output_tokens for item in metrics),
        cost_usd=cost_of(metrics),
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
    values = [value for _, value, _ in outcomes]
    if numbers := [float(value) for value in values if isinstance(value, bool | int | float)]:
        return "numeric", _mean(numbers), None
    if dicts := [value for value in values if isinstance(value, dict)]:
        means = {
            key: _mean([item[key] for item in dicts])
            for key in dicts[0]
            if all(isinstance(item.get(key), bool | int | float) for item in dicts)
        }
        return "dict", means, None
    return None, None, None


def _mean(values: Sequence[float]) -> float:
    try:
        return math.fsum(values) / len(values)
    except (OverflowError, ValueError):
        # The values contain both infinities, or their sum exceeds the largest float.
        return math.nan


def _in_utc(moment: datetime) -> datetime:
    return as_utc(moment).astimezone(UTC)


def cost_of(metrics: Iterable[Metrics]) -> float | None:
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
