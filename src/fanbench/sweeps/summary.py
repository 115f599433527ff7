"""A report for other programs: records, `summary.json` and `summary.csv`. Their fields are in docs/sweep.md."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from fanbench._util import files
from fanbench._util.text import last_line
from fanbench._version import __version__
from fanbench.errors import OutputError
from fanbench.results import to_record
from fanbench.sweeps.journal import SUMMARY
from fanbench.sweeps.report import RunRow, SweepReport

__all__ = ["FIELDS", "SUMMARY_CSV", "SUMMARY_JSON", "records", "summary", "write_summary"]

FORMAT = 1
SUMMARY_JSON, SUMMARY_CSV = SUMMARY, "summary.csv"

_OF_RESULT = (
    "kind",
    "value",
    "interval",
    "assertions_passed",
    "assertions_total",
    "tokens_in",
    "tokens_out",
    "cost_usd",
    "seconds",
)
FIELDS = (
    "task",
    "model",
    "repeat",
    "version",
    "attempt",
    "attempts",
    "run_id",
    "status",
    "error",
    *_OF_RESULT,
    "output",
    "log",
)


def records(report: SweepReport) -> list[dict[str, Any]]:
    """A record for each planned run, in the order of the plan; what is not known is `None`."""
    return [_record(row) for row in report.rows]


def _record(row: RunRow) -> dict[str, Any]:
    result = to_record(row.result) if row.result else {}
    return {
        "task": row.planned_run.task,
        "model": row.planned_run.model,
        "repeat": row.planned_run.repeat,
        "version": row.version or None,
        "attempt": row.attempt or None,
        "attempts": row.attempts,
        "run_id": row.run_id,
        "status": row.status.value,
        "error": row.error or None,
        **{name: result.get(name) for name in _OF_RESULT},
        "output": row.output,
        "log": row.log,
    }


def summary(report: SweepReport, *, now: datetime | None = None) -> dict[str, Any]:
    """What `summary.json` holds."""
    return {
        "format": FORMAT,
        "fanbench": __version__,
        "written": (now or datetime.now(UTC)).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "ok": report.ok,
        "stopped": report.stopped.value if report.stopped else None,
        "seconds": report.seconds,
        "tasks": list(report.tasks),
        "models": list(report.models),
        "repeats": report.repeats,
        "planned": len(report.rows),
        **{status.value: number for status, number in report.counts.items()},
        "tokens_in": report.tokens_in,
        "tokens_out": report.tokens_out,
        "cost_usd": report.cost_usd,
        "runs": records(report),
    }


def write_summary(report: SweepReport) -> None:
    """Writes `summary.json` and `summary.csv` into the sweep's folder, each as a whole or not at all.

    Raises:
        OutputError: they cannot be written.
    """
    content = summary(report)
    try:
        files.write(report.output / SUMMARY_JSON, _encoded(_json(content)))
        files.write(report.output / SUMMARY_CSV, _encoded(_csv(content["runs"])))
    except OSError as error:
        raise OutputError(
            f"Cannot write the summary to {report.output}: {error.strerror}.",
            hint="Is there space, and may you write there?",
        ) from None


def _encoded(text: str) -> bytes:
    """Names of files in errors may be no text."""
    return text.encode("utf-8", "replace")


def _json(content: dict[str, Any]) -> str:
    return json.dumps(content, ensure_ascii=False, indent=2) + "\n"


def _csv(rows: list[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, FIELDS, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _cell(value) for name, value in _short(row).items()} for row in rows)
    return text.getvalue()


def _short(row: dict[str, Any]) -> dict[str, Any]:
    """With the last line of its error: a traceback makes no cell."""
    return row | {"error": last_line(row["error"])} if row["error"] else row


def _cell(value: object) -> object:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, Mapping | list | bool) else value
