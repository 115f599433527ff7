"""The journal's file: how it is made, opened and read, and what its errors are called."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from fanbench._util import files
from fanbench.errors import JournalError
from fanbench.sweeps._journal_rows import SCHEMA

__all__ = [
    "JOURNAL",
    "copy_of",
    "damaged",
    "durably",
    "has_summary",
    "in_memory",
    "open_for_writing",
    "own_folder",
    "path_of",
    "prepare",
    "reported",
]

JOURNAL = Path(".fanbench") / "journal.sqlite"
SUMMARY = "summary.json"

# In the header of the file: whose it is ("fbsw"), and the version of its tables. One of another version is refused.
APPLICATION = 0x66627377
VERSION = 2

# Pages of 4 KiB until they are taken over into the main file, which costs two waits for the disk.
_CHECKPOINT = 4000
# Seconds that one waits for somebody who looks at the journal with another program.
_BUSY = 1.0
# How often one tries to copy a journal that changes meanwhile.
_COPIES = 20

ANEW = "`--fresh` keeps the folder aside and begins anew."


def path_of(root: Path) -> Path:
    """The one path of the journal of `root`, whichever way leads there."""
    return Path(os.path.realpath(root)) / JOURNAL


def own_folder(root: Path) -> Path:
    """`<root>/.fanbench`, made if it is not there. Who may read the outputs may read it, too.

    Raises:
        JournalError: it cannot be made.
    """
    # Resolved: a link to a folder that was moved aside leads to a new one again.
    folder = path_of(root).parent
    with reported(folder):
        files.make_folders(folder)
    return folder


def prepare(root: Path) -> Path:
    """The path of the journal of `root`, which is there, with its tables.

    A new one is made under another name: what has the journal's own name is whole, and if it is empty, it is
    damaged, and not taken for a new one.
    """
    path = own_folder(root) / JOURNAL.name
    with reported(path):
        if not _is_there(path):
            _make(path)
    return path


def _is_there(path: Path) -> bool:
    if path.exists():
        return True
    if _beside(path, "-wal").exists():
        raise damaged(path, "it is gone, and its newest part alone was left")
    if has_summary(path.parent.parent):
        raise damaged(path, "it is gone, though the results of a sweep are there")
    return False


def has_summary(root: Path) -> bool:
    """Whether a sweep has come to its end here. (A summary.json may be anybody's.)"""
    try:
        summary = json.loads((root / SUMMARY).read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(summary, dict) and "fanbench" in summary


def _make(path: Path) -> None:
    new = path.with_name("journal.new")
    for leftover in (new, _beside(new, "-journal")):
        leftover.unlink(missing_ok=True)
    with closing(_connect(new, "rwc")) as connection:
        _make_tables(connection)
    files.move(new, path)


def _make_tables(connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN")
    for statement in SCHEMA:
        connection.execute(statement)
    connection.execute(f"PRAGMA application_id = {APPLICATION}")
    connection.execute(f"PRAGMA user_version = {VERSION}")
    connection.execute("COMMIT")


def open_for_writing(path: Path) -> sqlite3.Connection:
    """A connection that is alone with the journal, and that does not wait for the disk (but see `durably`)."""
    with reported(path):
        connection = _connect(path, "rw")
        try:
            # Alone: no shared memory beside it, which network file systems do not have, and nobody in between.
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            _check(connection, path)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT}")
            # Whether one may write: SQLite opens a file that is read-only without a word.
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")
        except BaseException:
            connection.close()
            raise
    return connection


@contextmanager
def durably(connection: sqlite3.Connection) -> Iterator[None]:
    """What is written in the block is on the disk after it, and all that was written before it."""
    connection.execute("PRAGMA synchronous = FULL")
    try:
        yield
    finally:
        connection.execute("PRAGMA synchronous = NORMAL")


def copy_of(path: Path) -> sqlite3.Connection | None:
    """The journal at `path` in memory, with all that was written by now; `None` if there is none.

    Any look at a journal through SQLite writes beside it (it has to, to see what a killed process has left
    in the write-ahead log). So the files are copied to a temporary folder, and looked at there.
    """
    with reported(path, "read"):
        if not _is_there(path):
            return None
    with reported(path, "read"), tempfile.TemporaryDirectory(prefix="fanbench-") as folder:
        copy = Path(folder) / path.name
        _copy_consistently(path, copy)
        with closing(_connect(copy, "rw")) as connection:
            _check(connection, path)
            return in_memory(connection, path)


def in_memory(connection: sqlite3.Connection, path: Path) -> sqlite3.Connection:
    """What `connection` has now, in memory, and not to be changed."""
    memory = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    with reported(path, "read"):
        connection.backup(memory)
        memory.execute("PRAGMA query_only = ON")
    return memory


def _copy_consistently(path: Path, copy: Path) -> None:
    """Main file and write-ahead log, as they were at one moment.

    The main file is copied first. Pages that are taken over into it meanwhile are in the log as well, and
    the log's count. So the copy is good unless the log has begun anew in between.
    """
    for _ in range(_COPIES):
        before = _generation(path)
        for suffix in ("", "-wal", "-journal"):
            _copy_if_there(_beside(path, suffix), _beside(copy, suffix))
        if _generation(path) == before:
            return
    raise JournalError(
        f"Cannot read {path}: it changes all the time.", hint="Another process is at work on it: try again."
    )


def _generation(path: Path) -> tuple[object, ...]:
    """What changes when the write-ahead log begins anew; where there is none, when the main file changes."""
    state = path.stat()
    try:
        with _beside(path, "-wal").open("rb") as log:
            header = log.read(32)
    except FileNotFoundError:
        header = b""
    return (state.st_ino, header) if header else (state.st_ino, state.st_size, state.st_mtime_ns)


def _copy_if_there(source: Path, target: Path) -> None:
    target.unlink(missing_ok=True)
    try:
        shutil.copyfile(source, target)
    except FileNotFoundError:
        if not source.name.endswith(("-wal", "-journal")):
            raise


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    # Opened in one thread, used in another, never in two at once.
    return sqlite3.connect(
        f"{path.as_uri()}?mode={mode}",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
        timeout=_BUSY,
        cached_statements=32,
    )


# --- What it must be ----------------------------------------------------------------------------------------


def _check(connection: sqlite3.Connection, path: Path) -> None:
    """Ours, of this version, whole."""
    application = _number(connection, "application_id")
    version = _number(connection, "user_version")
    if application != APPLICATION:
        if application == version == 0 and _number(connection, "page_count") == 0:
            raise damaged(path, "it is empty")
        raise JournalError(f"{path} is no journal of a sweep, but of another program.", hint=ANEW)
    if version != VERSION:
        age, update = ("a newer", "Update fanbench; or ") if version > VERSION else ("an older", "")
        raise JournalError(
            f"The journal {path} was made by {age} fanbench (its format is {version}, this one knows {VERSION}).",
            hint=f"{update}{ANEW}",
        )
    [first, *_] = connection.execute("PRAGMA quick_check(1)").fetchone()
    if first != "ok":
        raise damaged(path, first)


def _number(connection: sqlite3.Connection, pragma: str) -> int:
    [number] = connection.execute(f"PRAGMA {pragma}").fetchone()
    return int(number)


# --- Errors -------------------------------------------------------------------------------------------------


def damaged(path: Path, why: str) -> JournalError:
    return JournalError(f"The journal {path} is damaged: {' '.join(why.split())}.", hint=ANEW)


@contextmanager
def reported(path: Path, deed: str = "write") -> Iterator[None]:
    """What SQLite and the system raise, as `JournalError`."""
    try:
        yield
    except (sqlite3.Error, UnicodeError, OverflowError) as error:
        raise _of_sqlite(error, path, deed) from error
    except OSError as error:
        raise _cannot(path, deed, error.strerror or str(error)) from error


def _of_sqlite(error: Exception, path: Path, deed: str) -> JournalError:
    if isinstance(error, UnicodeDecodeError) or "Could not decode" in str(error):
        return damaged(path, "a text in it is not UTF-8")
    # The low byte is the kind; the rest is finer than anybody needs.
    match getattr(error, "sqlite_errorcode", 0) & 0xFF:
        case sqlite3.SQLITE_NOTADB:
            return damaged(path, "it is not a database")
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_ERROR:
            # Our statements are right: if one is not understood, a table is missing.
            return damaged(path, str(error))
        case sqlite3.SQLITE_FULL:
            return _cannot(path, deed, "the disk is full")
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return _cannot(path, deed, "another process has it open")
        case _:
            return _cannot(path, deed, str(error))


def _cannot(path: Path, deed: str, why: str) -> JournalError:
    hint = "Is there space, and may you write there? The same command goes on with what is done."
    return JournalError(f"Cannot {deed} {path}: {why}.", hint=hint if deed == "write" else None)
