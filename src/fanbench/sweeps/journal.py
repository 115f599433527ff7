"""What a sweep has done, durable: `<output>/.fanbench/journal.sqlite`.

Written after the deed (or, for calls that must not be made twice, the intent before it), never before. Each
write is one transaction, and a process that is killed at any instant loses nothing that it wrote.

A machine that loses its power loses no intent: attempts that are `INTENDED` and tasks that are `PUSHING` are
on the disk, with all that was written before them, before the call is made. Other writes do not wait for the
disk, and the last of them may be lost. The server, or the output folder, has what they said, and is asked
again: as after a call that was cut off. (What an ended run has cost may be lost in this way; the quota has it.)
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Protocol, Self
from weakref import WeakValueDictionary

from fanbench.sweeps import _journal_file as file
from fanbench.sweeps._journal_rows import (
    ATTEMPT_COLUMNS,
    TASK_COLUMNS,
    attempt_row,
    read_attempt,
    read_task,
    storable,
    task_row,
)
from fanbench.sweeps.archive import set_aside
from fanbench.sweeps.attempts import Attempt, Phase, TaskPhase, TaskRecord

__all__ = ["JOURNAL", "Journal", "Records", "set_aside"]


class Records(Protocol):
    """What the engine needs of a journal. All methods are synchronous.

    They are short (well below 1 ms), but for intents, which wait for the disk: one write before each call that
    pushes or schedules.
    """

    def tasks(self) -> dict[str, TaskRecord]: ...
    def save_task(self, record: TaskRecord) -> None: ...
    def attempts(self) -> list[Attempt]:
        """All of them, of every unit, by unit and number."""
        ...

    def save_attempts(self, attempts: Iterable[Attempt]) -> None:
        """Insert or replace each by its unit and number, all in one transaction."""
        ...

    def foreign_runs(self, task: str) -> frozenset[int]:
        """Ids of the task's runs that are none of ours: there before we scheduled any."""
        ...

    def save_foreign_runs(self, task: str, run_ids: Iterable[int]) -> None: ...
    def value(self, name: str) -> str | None:
        """Small things by name, such as the quota's first reading."""
        ...

    def save_value(self, name: str, value: str) -> None: ...


JOURNAL = file.JOURNAL

# The name of the sweep's spec among the values; no other name begins with a dot.
_SPEC = ".spec"


def _upsert(table: str, columns: tuple[str, ...]) -> str:
    # The names are ours, from the tables of columns.
    return f"INSERT OR REPLACE INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"  # noqa: S608


def _select(table: str, columns: tuple[str, ...], order: str) -> str:
    return f"SELECT {', '.join(columns)} FROM {table} ORDER BY {order}"  # noqa: S608


_SAVE_TASK = _upsert("task", TASK_COLUMNS)
_SAVE_ATTEMPT = _upsert("attempt", ATTEMPT_COLUMNS)
_SAVE_STRANGER = "INSERT OR IGNORE INTO stranger (task, run_id) VALUES (?, ?)"
_SAVE_VALUE = _upsert("value", ("name", "value"))
_TASKS = _select("task", TASK_COLUMNS, "task")
_ATTEMPTS = _select("attempt", ATTEMPT_COLUMNS, "task, model, repeat, number")


class Journal(Records):
    """The journal of one output folder. One process writes it, and holds the folder's lock meanwhile.

    Nothing is kept in memory: what it answers is what is on disk. Every method raises `JournalError` for a
    journal that cannot be read or written.
    """

    # Those that this process has open for writing. Their files must not be opened and closed by anything but
    # SQLite: the system would drop SQLite's locks with that (POSIX locks are a process's, not a handle's).
    _writing: ClassVar[WeakValueDictionary[Path, Journal]] = WeakValueDictionary()

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self.path = path
        self._connection = connection

    @classmethod
    def open(cls, root: Path) -> Journal:
        """The journal of the output folder `root`, for writing; both are made if they are not there.

        Raises:
            JournalError: it is damaged, of a newer fanbench or no journal, or cannot be written.
        """
        path = file.prepare(root)
        journal = cls(file.open_for_writing(path), path)
        cls._writing[path] = journal
        return journal

    @classmethod
    def read(cls, root: Path) -> Journal | None:
        """The journal of `root` as it is now, to look at only; `None` if there is none.

        Neither the journal nor anything else in `root` is touched, and another process may be writing it.

        Raises:
            JournalError: it is damaged, of a newer fanbench or no journal, or cannot be read.
        """
        path = file.path_of(root)
        live = cls._writing.get(path)
        connection = file.in_memory(live._connection, path) if live else file.copy_of(path)
        return cls(connection, path) if connection is not None else None

    def close(self) -> None:
        """Put everything into the one file. A journal that was not closed has lost nothing."""
        if self._writing.get(self.path) is self:
            del self._writing[self.path]
        with file.reported(self.path):
            self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- Tasks and attempts ---

    def tasks(self) -> dict[str, TaskRecord]:
        with self._read():
            return {row[0]: read_task(row) for row in self._connection.execute(_TASKS)}

    def save_task(self, record: TaskRecord) -> None:
        self._write(_SAVE_TASK, [task_row(record)], durable=record.phase is TaskPhase.PUSHING)

    def attempts(self) -> list[Attempt]:
        with self._read():
            return [read_attempt(row) for row in self._connection.execute(_ATTEMPTS)]

    def save_attempts(self, attempts: Iterable[Attempt]) -> None:
        made = list(attempts)
        intended = any(attempt.phase is Phase.INTENDED for attempt in made)
        self._write(_SAVE_ATTEMPT, [attempt_row(attempt) for attempt in made], durable=intended)

    # --- Strangers ---

    def foreign_runs(self, task: str) -> frozenset[int]:
        with self._read():
            rows = self._connection.execute("SELECT run_id FROM stranger WHERE task = ?", (task,))
            return frozenset(chain.from_iterable(rows))

    def save_foreign_runs(self, task: str, run_ids: Iterable[int]) -> None:
        self._write(_SAVE_STRANGER, [(task, run_id) for run_id in run_ids])

    # --- Values ---

    def value(self, name: str) -> str | None:
        with self._read():
            found = self._connection.execute("SELECT value FROM value WHERE name = ?", (name,)).fetchone()
            return None if found is None else found[0]

    def save_value(self, name: str, value: str) -> None:
        self._write(_SAVE_VALUE, [(storable(name), storable(value))])

    def saved_spec(self) -> str | None:
        """What the folder's sweep is, as JSON; `None` before `save_spec`."""
        return self.value(_SPEC)

    def save_spec(self, text: str) -> None:
        self.save_value(_SPEC, text)

    # --- Within ---

    @contextmanager
    def _read(self) -> Iterator[None]:
        with file.reported(self.path):
            try:
                yield
            except (ValueError, TypeError) as error:
                raise file.damaged(self.path, str(error)) from None

    def _write(self, statement: str, rows: list[tuple[Any, ...]], *, durable: bool = False) -> None:
        """All of `rows` or none, as one transaction: a single one is a transaction by itself."""
        with file.reported(self.path), file.durably(self._connection) if durable else nullcontext():
            if len(rows) == 1:
                self._connection.execute(statement, rows[0])
            elif rows:
                self._write_together(statement, rows)

    def _write_together(self, statement: str, rows: list[tuple[Any, ...]]) -> None:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            self._connection.executemany(statement, rows)
            self._connection.execute("COMMIT")
        except BaseException:
            # A disk that is full has rolled back by itself already.
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise
