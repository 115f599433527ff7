"""A data folder belongs to one database, and a database to one data folder: the ids of runs name folders."""

from __future__ import annotations

import secrets
from pathlib import Path

import anyio.to_thread
import msgspec

from fanbench._util import files
from fanbench.errors import LocalServerError
from fanbench.local.folder import PRIVATE, DataFolder
from fanbench.local.state.database import shown
from fanbench.local.state.store import Store

__all__ = ["claim"]


class _Claim(msgspec.Struct, frozen=True):
    """The content of the folder's `database.json`."""

    id: str
    place: str
    """Where the database was last; it may have moved."""


async def claim(folder: DataFolder, store: Store, database: Path | str) -> str:
    """Tie the data folder and its database to each other, if neither belongs to another one. Return the database's id.

    Raises:
        LocalServerError: One of them does.
    """
    place = folder.database.name if isinstance(database, Path) else shown(database)
    kept = await anyio.to_thread.run_sync(_read, folder)
    identity = await store.identity()
    if kept is not None and kept.id == identity:
        return identity
    # Whoever has deleted the SQLite file wants to begin again.
    own = isinstance(database, Path) and (kept is None or kept.place == place)
    if kept is not None and not own:
        raise LocalServerError(
            f"The data folder {folder.root} belongs to another database: {kept.place}.",
            hint=f"Choose {_option(kept.place)}, or another data folder with --data DIR.",
        )
    if identity and not own:
        raise LocalServerError(
            f"The database {place} belongs to another data folder.",
            hint="Choose that folder with --data DIR, or an empty database.",
        )
    if not own and folder.database.stat().st_size:
        raise LocalServerError(
            f"The data folder {folder.root} has its state in {folder.database.name}.",
            hint="Choose another folder with --data DIR, or no --database.",
        )
    if not identity:
        identity = secrets.token_hex(16)
        await store.name(identity)
    content = msgspec.json.encode(_Claim(identity, place)) + b"\n"
    with files.output_errors(f"write {folder.database_file}", kind=LocalServerError):
        await anyio.to_thread.run_sync(lambda: files.write(folder.database_file, content, mode=PRIVATE))
    return identity


def _read(folder: DataFolder) -> _Claim | None:
    try:
        return msgspec.json.decode(folder.database_file.read_bytes(), type=_Claim)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise LocalServerError(
            f"Cannot read {folder.database_file}: {error}.",
            hint="Choose another data folder with --data DIR.",
        ) from None


def _option(place: str) -> str:
    return f"it with --database {place}" if "://" in place else "it by leaving out --database"
