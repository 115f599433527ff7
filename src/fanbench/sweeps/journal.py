"""The durable record of a sweep: `<output>/.fanbench/journal.sqlite`.

A record is written after the fact or, for calls that must not be made twice, before it as an intent. Each write
is one transaction, and a process that is killed at any instant loses nothing that it wrote.

A machine that loses power loses no intent: attempts that are `INTENDED` and tasks that are `PUSHING` are on the
disk, with everything written before them, before the call is made. Other writes do not wait for the disk, and the
last of them may be lost. The server and the output folder still have what they recorded, and are asked again, as
after an interrupted call. (The cost of an ended run may be lost in this way, but the quota includes it.)

Its history tells how the sweep went, for people only: no decision depends on it. See `fanbench.sweeps.history`.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import zlib
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self, TypeAlias
from weakref import WeakValueDictionary

import msgspec

from fanbench._util import files
from fanbench.errors import JournalError
from fanbench.sweeps.attempts import (
    Attempt,
    Phase,
    PlannedRun,
    SavedLog,
    SavedOutput,
    TaskPhase,
    TaskRecord,
)
from fanbench.wire.messages import RunState

__all__ = [
    "FRESH",
    "JOURNAL",
    "SUMMARY",
    "HistoryRow",
    "Journal",
    "has_summary",
    "journal_errors",
    "own_folder",
    "storable",
]

#: Relative to the output folder.
JOURNAL = Path(".fanbench") / "journal.sqlite"
SUMMARY = "summary.json"

#: The hint for a journal that cannot be used.
FRESH = "`--fresh` keeps the folder aside and starts again."

#: A row of the history, without its number. `fanbench.sweeps.history` tells what its columns mean.
HistoryRow: TypeAlias = tuple[int | str | None, ...]

# The header of the file has these: whose it is ("fbsw"), and the version of its tables. Other versions are refused.
APPLICATION = 0x66627377
VERSION = 2


# --- Rows ---------------------------------------------------------------------------------------------------

# Rows are stored in the tree of their key: each write touches one page, and they are read in their order.
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

# Journals of earlier versions get this table when they are opened for writing; without it, all the rest is the same.
# Rows are only ever appended, and have no checksum: what is wrong in one is skipped.
HISTORY = """
    CREATE TABLE IF NOT EXISTS history (
        id INTEGER PRIMARY KEY, at INTEGER, kind INTEGER, task INTEGER, model INTEGER, repeat INTEGER,
        attempt INTEGER, a INTEGER, b INTEGER, c INTEGER, text TEXT
    )
"""

# They also get this one, of what the server reports for ended runs: a number, or (1 or 0) whether the model passed.
RESULT = """
    CREATE TABLE IF NOT EXISTS result (
        task TEXT, model TEXT, repeat INTEGER, number INTEGER, score REAL, passed INTEGER,
        PRIMARY KEY (task, model, repeat, number)
    ) WITHOUT ROWID
"""

# The values of a row are in the order of its table's columns.
_SAVE_TASK = "INSERT OR REPLACE INTO task VALUES (?, ?, ?, ?, ?, ?, ?)"
_SAVE_ATTEMPT = f"INSERT OR REPLACE INTO attempt VALUES ({', '.join('?' * 20)})"  # noqa: S608
_SAVE_RESULT = "INSERT OR REPLACE INTO result VALUES (?, ?, ?, ?, ?, ?)"
_SAVE_HISTORY = f"INSERT INTO history VALUES (NULL, {', '.join('?' * 10)})"  # noqa: S608

# Looked up instead of called: calling an enum is slow, and 100,000 rows are read at a start.
_PHASES = {phase.value: phase for phase in Phase}
_STATES = {state.value: state for state in RunState}


def storable(text: str) -> str:
    """Return `text` as SQLite can store it: as UTF-8, thus without halves of surrogate pairs."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def _real(number: float) -> float:
    """Return `number` as SQLite returns it: SQLite has no -0.0."""
    return float(number) + 0.0


# SQLite detects broken pages, but not a value that is wrong, so each row ends with a checksum of the rest.


def _add_checksum(*values: Any) -> tuple[Any, ...]:
    return (*values, zlib.crc32(repr(values).encode()))


def _verify_checksum(row: tuple[Any, ...]) -> tuple[Any, ...]:
    *values, checksum = row
    if checksum != zlib.crc32(repr(tuple(values)).encode()):
        raise ValueError("a row is not what was written")
    return tuple(values)


def _attempt_row(attempt: Attempt) -> tuple[Any, ...]:
    planned, output, log = attempt.planned_run, attempt.output, attempt.log
    return _add_checksum(
        *(planned.task, planned.model, planned.repeat, attempt.number),
        *(attempt.identity, attempt.version, attempt.phase.value, _real(attempt.intended_at), attempt.run_id),
        *(None if attempt.state is None else attempt.state.value, storable(attempt.error)),
        *(msgspec.structs.astuple(output) if output else (None,) * 5),
        *((log.path, log.lines, log.size) if log else (None,) * 3),
    )


def _result_row(attempt: Attempt) -> tuple[Any, ...]:
    planned, result = attempt.planned_run, attempt.result
    values = (None, int(result)) if isinstance(result, bool) else (result and _real(result), None)
    return (planned.task, planned.model, planned.repeat, attempt.number, *values)


def _read_attempt(row: tuple[Any, ...]) -> Attempt:
    *of_attempt, score, passed = row
    row = _verify_checksum(tuple(of_attempt))
    result = bool(passed) if passed is not None else score
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
        result if row[6] == Phase.ENDED else None,
    )


# --- The journal --------------------------------------------------------------------------------------------

# The name of the sweep's spec among the values; no other name begins with a dot.
_SPEC = ".spec"


class Journal:
    """The journal of one output folder. One process writes it, while it holds the folder's lock.

    All methods take well below 1 ms, except for intents, which wait for the disk: one write before each call that
    pushes or schedules.

    Nothing is cached: each answer is what is on disk. Every method raises `JournalError` for a journal that cannot
    be read or written.
    """

    # The journals that this process has open for writing. Nothing but SQLite may open and close their files: the
    # system would drop SQLite's locks with that (POSIX locks belong to a process, not to a handle).
    _writing: ClassVar[WeakValueDictionary[Path, Journal]] = WeakValueDictionary()

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self.path = path
        self._connection = connection

    @classmethod
    def open(cls, root: Path) -> Journal:
        """Open the journal of the output folder `root` for writing; both are created if missing.

        Raises:
            JournalError: The file is damaged, was made by a newer fanbench, is no journal, or cannot be written.
        """
        path = own_folder(root) / JOURNAL.name
        with journal_errors(path):
            if not _exists(path):
                _create(path)
            journal = cls(_open_for_writing(path), path)
        cls._writing[path] = journal
        return journal

    @classmethod
    def read(cls, root: Path) -> Journal | None:
        """Open a copy of the journal of `root` as it is now, for reading only; None if there is none.

        Neither the journal nor anything else in `root` is touched, and another process may be writing it.

        Raises:
            JournalError: The file is damaged, was made by a newer fanbench, is no journal, or cannot be read.
        """
        path = _path_of(root)
        with journal_errors(path, "read"):
            live = cls._writing.get(path)
            connection = _in_memory(live._connection) if live is not None else _copy_of(path)
        return cls(connection, path) if connection is not None else None

    def close(self) -> None:
        """Collect everything in the one file. A journal that was not closed has lost nothing."""
        if self._writing.get(self.path) is self:
            del self._writing[self.path]
        with journal_errors(self.path):
            self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def tasks(self) -> dict[str, TaskRecord]:
        records = {}
        with self._reading():
            for row in self._connection.execute("SELECT * FROM task ORDER BY task"):
                task, identity, phase, version, error, pushed_at = _verify_checksum(row)
                records[task] = TaskRecord(task, identity, TaskPhase(phase), version, error, pushed_at)
        return records

    def save_task(self, record: TaskRecord) -> None:
        row = _add_checksum(
            *(record.task, record.identity, record.phase.value, record.version),
            *(storable(record.error), _real(record.pushed_at)),
        )
        self._write(_SAVE_TASK, [row], durable=record.phase is TaskPhase.PUSHING)

    def attempts(self) -> list[Attempt]:
        """Return all attempts at all planned runs, by planned run and number."""
        with self._reading():
            rows = self._connection.execute(
                "SELECT attempt.*, score, passed FROM attempt LEFT JOIN result USING (task, model, repeat, number) "
                "ORDER BY task, model, repeat, number"
            )
            return [_read_attempt(row) for row in rows]

    def save_attempts(self, attempts: Iterable[Attempt]) -> None:
        """Insert or replace each attempt by its planned run and number, all in one transaction.

        The results of those that have ended are written before.
        """
        made = list(attempts)
        ended = [attempt for attempt in made if attempt.phase is Phase.ENDED]
        self._write(_SAVE_RESULT, [_result_row(attempt) for attempt in ended])
        intended = any(attempt.phase is Phase.INTENDED for attempt in made)
        self._write(_SAVE_ATTEMPT, [_attempt_row(attempt) for attempt in made], durable=intended)

    def foreign_runs(self, task: str) -> frozenset[int]:
        """Return the ids of the task's runs that this sweep did not schedule."""
        with self._reading():
            rows = self._connection.execute("SELECT run_id FROM stranger WHERE task = ?", (task,))
            return frozenset(chain.from_iterable(rows))

    def save_foreign_runs(self, task: str, run_ids: Iterable[int]) -> None:
        statement = "INSERT OR IGNORE INTO stranger VALUES (?, ?)"
        self._write(statement, [(task, run_id) for run_id in run_ids])

    def history(self, after: int = 0) -> list[tuple[Any, ...]]:
        """Return the rows of the history whose numbers are above `after`, each after its number, in their order.

        Nothing is known of the types of their values. A journal of an earlier version has no rows.
        """
        with self._reading():
            # A text that is not UTF-8 would be an error for all rows.
            self._connection.text_factory = lambda text: text.decode("utf-8", "replace")
            try:
                rows = self._connection.execute("SELECT * FROM history WHERE id > ? ORDER BY id", (after,))
                return rows.fetchall()
            finally:
                self._connection.text_factory = str

    def save_history(self, rows: list[HistoryRow]) -> None:
        """Append rows to the history, in one transaction that does not wait for the disk."""
        self._write(_SAVE_HISTORY, rows)

    def value(self, name: str) -> str | None:
        """Return a small value by its name, such as the first reading of the quota."""
        with self._reading():
            found = self._connection.execute("SELECT value FROM value WHERE name = ?", (name,)).fetchone()
            return None if found is None else found[0]

    def save_value(self, name: str, value: str) -> None:
        self._write("INSERT OR REPLACE INTO value VALUES (?, ?)", [(storable(name), storable(value))])

    def saved_spec(self) -> str | None:
        """Return the sweep of the folder as JSON; None before `save_spec`."""
        return self.value(_SPEC)

    def save_spec(self, text: str) -> None:
        self.save_value(_SPEC, text)

    @contextmanager
    def _reading(self) -> Iterator[None]:
        with journal_errors(self.path):
            try:
                yield
            except (ValueError, TypeError) as error:
                raise _damaged(self.path, str(error)) from None

    def _write(self, statement: str, rows: list[tuple[Any, ...]], *, durable: bool = False) -> None:
        """Write all of `rows` or none, in one transaction (a single statement is one by itself).

        After a `durable` write, it is on the disk, with everything that was written before.
        """
        with journal_errors(self.path):
            if durable:
                self._connection.execute("PRAGMA synchronous = FULL")
            try:
                if len(rows) == 1:
                    self._connection.execute(statement, rows[0])
                elif rows:
                    self._connection.execute("BEGIN IMMEDIATE")
                    try:
                        self._connection.executemany(statement, rows)
                        self._connection.execute("COMMIT")
                    except BaseException:
                        # A full disk has already rolled back.
                        if self._connection.in_transaction:
                            self._connection.execute("ROLLBACK")
                        raise
            finally:
                if durable:
                    self._connection.execute("PRAGMA synchronous = NORMAL")


# --- The file -----------------------------------------------------------------------------------------------

# The number of 4 KiB pages until the log is merged into the main file, which waits for the disk twice.
_CHECKPOINT = 4000
# Seconds to wait for another program that reads the journal.
_BUSY = 1.0
# The number of attempts to copy a journal that changes meanwhile.
_COPIES = 20


def _path_of(root: Path) -> Path:
    """Return the one path of the journal of `root`, whichever links lead there."""
    return Path(os.path.realpath(root)) / JOURNAL


def own_folder(root: Path) -> Path:
    """Return `<root>/.fanbench`, created if missing. Whoever may read the outputs may read it, too.

    Raises:
        JournalError: The folder cannot be created.
    """
    # Resolved, because a link to a folder that was moved aside leads to a new one again.
    folder = _path_of(root).parent
    with journal_errors(folder):
        files.make_folders(folder)
    return folder


def has_summary(root: Path) -> bool:
    """Return True if a sweep has ended here. (Other programs write a summary.json, too.)"""
    try:
        summary = json.loads((root / SUMMARY).read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(summary, dict) and "fanbench" in summary


def _exists(path: Path) -> bool:
    """Return True if the journal exists. A journal that is missing where there was one is damaged, not new."""
    if path.exists():
        return True
    if _beside(path, "-wal").exists():
        raise _damaged(path, "the file is gone, and only its newest part was left")
    if has_summary(path.parent.parent):
        raise _damaged(path, "the file is gone, though the results of a sweep are there")
    return False


def _create(path: Path) -> None:
    """Create a journal under another name, then rename it: a file that has the journal's own name is complete."""
    new = path.with_name("journal.new")
    for leftover in (new, _beside(new, "-journal")):
        leftover.unlink(missing_ok=True)
    with closing(_connect(new, "rwc")) as connection:
        connection.execute("BEGIN")
        for statement in (*SCHEMA, HISTORY, RESULT):
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION}")
        connection.execute(f"PRAGMA user_version = {VERSION}")
        connection.execute("COMMIT")
    files.move(new, path)


def _open_for_writing(path: Path) -> sqlite3.Connection:
    """Return an exclusive connection that does not wait for the disk (but see `Journal._write`)."""
    connection = _connect(path, "rw")
    try:
        # Exclusive, so that no shared memory is needed, which network file systems do not have.
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        _check(connection, path)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT}")
        # Test that writing is possible: SQLite opens a read-only file without complaint.
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(HISTORY)
        connection.execute(RESULT)
        connection.execute("COMMIT")
    except BaseException:
        connection.close()
        raise
    return connection


def _copy_of(path: Path) -> sqlite3.Connection | None:
    """Return a copy in memory of the journal at `path`; None if there is none.

    Reading a journal through SQLite writes beside it, because what a killed process has left in the write-ahead
    log must be replayed. So the files are copied to a temporary folder and read there.
    """
    if not _exists(path):
        return None
    with files.temporary_folder(".fanbench-journal-") as folder:
        copy = folder / path.name
        _copy_consistently(path, copy)
        with closing(_connect(copy, "rw")) as connection:
            _check(connection, path)
            return _in_memory(connection)


def _in_memory(connection: sqlite3.Connection) -> sqlite3.Connection:
    """Return a read-only copy in memory of what `connection` has now."""
    memory = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    connection.backup(memory)
    for statement in (HISTORY, RESULT):  # which a journal of an earlier version lacks
        memory.execute(statement)
    memory.execute("PRAGMA query_only = ON")
    return memory


def _copy_consistently(path: Path, copy: Path) -> None:
    """Copy the main file and the write-ahead log as they were at one moment.

    The main file is copied first. Pages that are merged into it meanwhile are in the log as well, and the log
    takes precedence. So the copy is good unless the log was restarted in between.
    """
    for _ in range(_COPIES):
        before = _generation(path)
        shutil.copyfile(path, copy)
        for suffix in ("-wal", "-journal"):
            _beside(copy, suffix).unlink(missing_ok=True)
            with suppress(FileNotFoundError):
                shutil.copyfile(_beside(path, suffix), _beside(copy, suffix))
        if _generation(path) == before:
            return
    raise JournalError(
        f"Cannot read {path}: It keeps changing.", hint="Another process is writing it: try again."
    )


def _generation(path: Path) -> tuple[object, ...]:
    """Return a value that changes when the write-ahead log is restarted, or without one, when the main file changes."""
    state = path.stat()
    try:
        with _beside(path, "-wal").open("rb") as log:
            header = log.read(32)
    except FileNotFoundError:
        header = b""
    return (state.st_ino, header) if header else (state.st_ino, state.st_size, state.st_mtime_ns)


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    # The connection may be used in another thread than it was opened in, but never in two at once.
    return sqlite3.connect(
        f"{path.as_uri()}?mode={mode}",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
        timeout=_BUSY,
        cached_statements=32,
    )


def _check(connection: sqlite3.Connection, path: Path) -> None:
    """Raise unless the file is a journal of this version, and intact."""

    def number(pragma: str) -> int:
        [value] = connection.execute(f"PRAGMA {pragma}").fetchone()
        return int(value)

    application, version = number("application_id"), number("user_version")
    if application != APPLICATION:
        if application == version == 0 and number("page_count") == 0:
            raise _damaged(path, "the file is empty")
        raise JournalError(
            f"{path} is not the journal of a sweep, but belongs to another program.", hint=FRESH
        )
    if version != VERSION:
        age, update = (
            ("a newer", "Update fanbench, or start again: ") if version > VERSION else ("an older", "")
        )
        raise JournalError(
            f"The journal {path} was made by {age} fanbench (its format is {version}, this one reads {VERSION}).",
            hint=f"{update}{FRESH}",
        )
    [first, *_] = connection.execute("PRAGMA quick_check(1)").fetchone()
    if first != "ok":
        raise _damaged(path, first)


# --- Errors -------------------------------------------------------------------------------------------------


def _damaged(path: Path, why: str) -> JournalError:
    return JournalError(f"The journal {path} is damaged: {' '.join(why.split())}.", hint=FRESH)


@contextmanager
def journal_errors(path: Path, deed: str = "write") -> Iterator[None]:
    """Turn errors of SQLite and of the system into `JournalError`."""
    try:
        yield
    except (sqlite3.Error, UnicodeError, OverflowError, OSError) as error:
        reason = error.strerror or str(error) if isinstance(error, OSError) else str(error)
        if isinstance(error, UnicodeDecodeError) or "Could not decode" in reason:
            raise _damaged(path, "a text in it is not UTF-8") from error
        # The low byte is the kind of error; the rest is detail.
        match getattr(error, "sqlite_errorcode", 0) & 0xFF:
            case sqlite3.SQLITE_NOTADB:
                raise _damaged(path, "it is not a database") from error
            case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_ERROR:
                # Our statements are correct: if one is not understood, a table is missing.
                raise _damaged(path, reason) from error
            case sqlite3.SQLITE_FULL:
                reason = "the disk is full"
            case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
                reason = "another process has it open"
        hint = "Check the free space and the permissions. The same command then continues with what is left."
        raise JournalError(
            f"Cannot {deed} {path}: {reason}.", hint=hint if deed == "write" else None
        ) from error
