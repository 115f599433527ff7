"""A data folder belongs to one database, and a database to one data folder, whose folders have the ids of its runs."""

from __future__ import annotations

import secrets
import sqlite3
from contextlib import closing
from pathlib import Path

import anyio.to_thread
import msgspec

from fanbench._util import files
from fanbench.errors import LocalServerError
from fanbench.local.folder import PRIVATE, DataFolder
from fanbench.local.state.database import shown
from fanbench.local.state.store import Store

__all__ = ["Claim", "check_claim", "claim", "read_claim"]


class Claim(msgspec.Struct, frozen=True):
    """The content of the folder's `database.json`."""

    id: str
    place: str
    """Where the database was last; it may have moved."""


async def check_claim(folder: DataFolder, store: Store, database: Path | str) -> Claim:
    """What ties the data folder and its database to each other, for `claim`. Neither is changed.

    A folder whose own SQLite file has no task may go to another database.

    Raises:
        LocalServerError: One of them belongs to another one.
    """
    place = folder.database.name if isinstance(database, Path) else shown(database)
    kept = await anyio.to_thread.run_sync(read_claim, folder)
    identity = await store.identity()
    if kept is not None and kept.id == identity:
        return Claim(identity, place)
    if kept is not None and kept.place != folder.database.name:
        raise LocalServerError(
            f"The data folder {folder.root} belongs to another database: {kept.place}.",
            hint=f"Choose it with --database {kept.place}, or another data folder with --data DIR.",
        )
    # A user who has deleted the SQLite file wants to start afresh.
    own = isinstance(database, Path)
    if identity and not own:
        raise LocalServerError(
            f"The database {place} belongs to another data folder.",
            hint="Choose that folder with --data DIR, or an empty database.",
        )
    if not own and await anyio.to_thread.run_sync(_has_tasks, folder.database):
        raise LocalServerError(
            f"The data folder {folder.root} has its state in {folder.database.name}.",
            hint="Choose another folder with --data DIR, or leave out --database.",
        )
    return Claim(identity or secrets.token_hex(16), place)


async def claim(folder: DataFolder, store: Store, checked: Claim) -> None:
    """Tie the data folder and its database to each other, as `check_claim` allows it.

    Raises:
        LocalServerError: The folder cannot be written.
    """
    if not await store.identity():
        await store.name(checked.id)
    content = msgspec.json.encode(checked) + b"\n"
    with files.output_errors(f"write {folder.database_file}", kind=LocalServerError):
        await anyio.to_thread.run_sync(lambda: files.write(folder.database_file, content, mode=PRIVATE))


def _has_tasks(file: Path) -> bool:
    """Whether the SQLite file has tasks, whichever version of fanbench has written it."""
    with closing(sqlite3.connect(file)) as connection:
        try:
            return connection.execute("SELECT 1 FROM task_version").fetchone() is not None
        except sqlite3.DatabaseError as error:
            return "no such table" not in str(error)


def read_claim(folder: DataFolder) -> Claim | None:
    """What the data folder says of its database; None if it has none yet.

    Raises:
        LocalServerError: Its file cannot be read.
    """
    try:
        return msgspec.json.decode(folder.database_file.read_bytes(), type=Claim)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise LocalServerError(
            f"Cannot read {folder.database_file}: {error}.",
            hint="Choose another data folder with --data DIR.",
        ) from None
