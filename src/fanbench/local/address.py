"""Where the server of a data folder listens, if one is running. Importable without the extra."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from fanbench._util.lock import is_locked, read_owner
from fanbench.local.folder import DataFolder
from fanbench.local.settings import default_data_folder

__all__ = ["Address", "LocalServer", "find_server"]


class Address(msgspec.Struct, frozen=True):
    """Where a server listens, and which file has its token."""

    url: str
    pid: int
    token_file: str
    stop_timeout: float = 0.0
    """Seconds for which its runs may continue when it is stopped."""


@dataclass(frozen=True)
class LocalServer:
    """A local server at `url`, and the token of its owner."""

    url: str
    token: str = field(repr=False)
    started: bool
    """Whether this call started it."""
    pid: int
    data: Path
    """Its data folder, which identifies it: its port may be another one after each start."""
    stop_timeout: float
    """Seconds for which its runs may continue when it is stopped."""


def find_server(data: Path | None = None) -> LocalServer | None:
    """The server of the data folder, if one is running and listening."""
    folder = DataFolder((data or default_data_folder()).absolute())
    if not is_locked(folder.lock_file):
        return None
    try:
        address = msgspec.json.decode(folder.server_file.read_bytes(), type=Address)
    except (OSError, ValueError):
        return None  # it is starting or ending
    if address.pid != read_owner(folder.lock_file):
        return None  # the file is from a server that was killed; its successor is about to write its own
    token, data = folder.read_token(), folder.root.resolve()
    return LocalServer(
        address.url, token, started=False, pid=address.pid, data=data, stop_timeout=address.stop_timeout
    )
