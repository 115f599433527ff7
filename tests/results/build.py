"""Builds minimal run files in the form in which the SDK writes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

STATE = "BENCHMARK_TASK_RUN_STATE_"
STATUS = "BENCHMARK_TASK_RUN_ASSERTION_STATUS_"


def run(name: str = "My Task", result: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    """A completed run. `result` is its first result without the type; `None` omits it."""
    return {
        "taskVersion": {"name": name, "versionNumber": 1},
        "modelVersion": {"slug": "google/gemma-3"},
        "state": f"{STATE}COMPLETED",
        "startTime": "2026-01-01T00:00:00Z",
        "endTime": "2026-01-01T00:00:02.500Z",
        "results": [] if result is None else [{"type": "AGGREGATED", **result}],
        **fields,
    }


def errored(message: str = "Traceback:\n  x\nValueError: no\n\n", **fields: Any) -> dict[str, Any]:
    return run(result={"booleanResult": False}, state=f"{STATE}ERRORED", errorMessage=message, **fields)


def number(value: float, name: str = "My Task", **fields: Any) -> dict[str, Any]:
    return run(name, {"numericResult": {"value": value}}, **fields)


def passed(value: bool = True, name: str = "My Task", **fields: Any) -> dict[str, Any]:
    return run(name, {"booleanResult": value}, **fields)


def talk(**metrics: Any) -> dict[str, Any]:
    """A conversation with one request."""
    return {"id": "c", "requests": [{"metrics": metrics}], "metrics": metrics}


def write(path: Path, content: dict[str, Any] | str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = content if isinstance(content, str | bytes) else json.dumps(content)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path
