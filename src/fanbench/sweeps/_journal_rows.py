"""Attempts and tasks as rows of the journal, and back.

Each row ends with a checksum of the rest: SQLite notices pages that are broken, and not a value that is wrong.
"""

from __future__ import annotations

import zlib
from typing import Any

import msgspec

from fanbench.sweeps.attempts import Attempt, Phase, PlannedRun, SavedLog, SavedOutput, TaskPhase, TaskRecord
from fanbench.wire.messages import RunState

__all__ = [
    "ATTEMPT_COLUMNS",
    "SCHEMA",
    "TASK_COLUMNS",
    "attempt_row",
    "read_attempt",
    "read_task",
    "storable",
    "task_row",
]

TASK_COLUMNS = ("task", "identity", "phase", "version", "error", "pushed_at", "checksum")
ATTEMPT_COLUMNS = (
    *("task", "model", "repeat", "number"),
    *("identity", "version", "phase", "intended_at", "run_id", "state", "error"),
    *("output_path", "output_files", "output_size", "output_digest", "output_changed"),
    *("log_path", "log_lines", "log_size"),
    "checksum",
)

# Rows lie in the tree of their key itself: one page is written for each, and they are read in their order.
SCHEMA = (
    """
    CREATE TABLE task (
        task TEXT PRIMARY KEY, identity TEXT NOT NULL, phase TEXT NOT NULL, version INTEGER NOT NULL,
        error TEXT NOT NULL, pushed_at REAL NOT NULL, checksum INTEGER NOT NULL
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE attempt (
        task TEXT, model TEXT, repeat INTEGER, number INTEGER,
        identity TEXT NOT NULL, version INTEGER NOT NULL, phase TEXT NOT NULL, intended_at REAL NOT NULL,
        run_id INTEGER, state TEXT, error TEXT NOT NULL,
        output_path TEXT, output_files INTEGER, output_size INTEGER, output_digest TEXT, output_changed INTEGER,
        log_path TEXT, log_lines INTEGER, log_size INTEGER, checksum INTEGER NOT NULL,
        PRIMARY KEY (task, model, repeat, number)
    ) WITHOUT ROWID
    """,
    "CREATE TABLE stranger (task TEXT, run_id INTEGER, PRIMARY KEY (task, run_id)) WITHOUT ROWID",
    "CREATE TABLE value (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
)

# Looked up instead of called: an enum's call is slow, and 100,000 rows are read at a start.
_PHASES = {phase.value: phase for phase in Phase}
_STATES = {state.value: state for state in RunState}


def storable(text: str) -> str:
    """`text` as SQLite can keep it: UTF-8, thus without halves of surrogate pairs."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def _add_checksum(*values: Any) -> tuple[Any, ...]:
    return (*values, _checksum(values))


def _verify_checksum(row: tuple[Any, ...]) -> tuple[Any, ...]:
    *values, checksum = row
    if checksum != _checksum(tuple(values)):
        raise ValueError("a row is not what was written")
    return tuple(values)


def _real(number: float) -> float:
    """As it comes back: SQLite knows no -0.0."""
    return float(number) + 0.0


def _checksum(values: tuple[Any, ...]) -> int:
    return zlib.crc32(repr(values).encode())


def task_row(record: TaskRecord) -> tuple[Any, ...]:
    phase, error = record.phase.value, storable(record.error)
    return _add_checksum(record.task, record.identity, phase, record.version, error, _real(record.pushed_at))


def read_task(row: tuple[Any, ...]) -> TaskRecord:
    """
    Raises:
        ValueError: it is none.
    """
    task, identity, phase, version, error, pushed_at = _verify_checksum(row)
    return TaskRecord(task, identity, TaskPhase(phase), version, error, pushed_at)


def attempt_row(attempt: Attempt) -> tuple[Any, ...]:
    planned_run, output, log = attempt.planned_run, attempt.output, attempt.log
    return _add_checksum(
        *(planned_run.task, planned_run.model, planned_run.repeat, attempt.number),
        *(attempt.identity, attempt.version, attempt.phase.value, _real(attempt.intended_at), attempt.run_id),
        *(None if attempt.state is None else attempt.state.value, storable(attempt.error)),
        *(msgspec.structs.astuple(output) if output else (None,) * 5),
        *((log.path, log.lines, log.size) if log else (None,) * 3),
    )


def read_attempt(row: tuple[Any, ...]) -> Attempt:
    """
    Raises:
        ValueError: it is none.
    """
    row = _verify_checksum(row)
    output, log = row[11:16], row[16:19]
    return Attempt(
        PlannedRun(row[0], row[1], row[2]),
        row[3],
        row[4],
        row[5],
        _PHASES.get(row[6]) or Phase(row[6]),
        row[7],
        row[8],
        None if row[9] is None else _STATES.get(row[9]) or RunState(row[9]),
        row[10],
        None if output[0] is None else SavedOutput(*output),
        None if log[0] is None else SavedLog(*log),
    )
