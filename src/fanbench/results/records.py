"""Results for other programs: the names of the fields are the same in JSON and CSV, and stay."""

from __future__ import annotations

import math
from typing import Any

from fanbench.results.model import RunResult

__all__ = ["FIELDS", "to_record"]

FIELDS = (
    "task",
    "name",
    "version",
    "model",
    "run_id",
    "state",
    "kind",
    "value",
    "interval",
    "rows",
    "rows_errored",
    "assertions_passed",
    "assertions_total",
    "tokens_in",
    "tokens_out",
    "cost_usd",
    "latency",
    "seconds",
    "started",
    "error",
    "path",
)


def to_record(row: RunResult) -> dict[str, Any]:
    """`row` as plain JSON values, in the order of `FIELDS`. Not-a-number is null: JSON has no word for it."""
    record = {field: getattr(row, field) for field in FIELDS}
    record["state"] = row.state.label
    record["path"] = str(row.path)
    return {field: _finite(value) for field, value in record.items()}


def _finite(value: Any) -> Any:
    match value:
        case float() if not math.isfinite(value):
            return None
        case dict():
            return {key: _finite(item) for key, item in value.items()}
        case list():
            return [_finite(item) for item in value]
    return value
