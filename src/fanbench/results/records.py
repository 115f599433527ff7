"""Results as records for other programs. The field names are the same in JSON and CSV, and they are stable."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Any

from fanbench.results.figures import FIGURES
from fanbench.results.types import RunResult

__all__ = ["FIELDS", "to_record"]

#: The names of a record's fields, in order.
FIELDS = tuple(
    name for field in fields(RunResult) for name in (FIGURES if field.name == "figures" else (field.name,))
)


def to_record(run: RunResult) -> dict[str, Any]:
    """Return `run` as plain JSON values in the order of `FIELDS`. NaN and the infinities become null."""
    record = {field: getattr(run.figures if field in FIGURES else run, field) for field in FIELDS}
    record |= {"state": run.state.label, "path": str(run.path)}
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
