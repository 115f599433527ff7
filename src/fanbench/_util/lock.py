"""A lock between processes that names its owner: a `FileLock` whose file contains the owner's process id."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from filelock import BaseFileLock

__all__ = ["LockHeld", "is_locked", "lock_file", "read_owner"]

# Windows locks the first byte of the file, which others then cannot read.
_POSITION = 1 if os.name == "nt" else 0


class LockHeld(Exception):
    """Another process, or another lock of this process, holds the lock. `pid` is None if it is not known."""

    def __init__(self, pid: int | None) -> None:
        super().__init__(f"held by process {pid or '?'}")
        self.pid = pid


def lock_file(path: Path, *, wait: float = 0.0) -> BaseFileLock:
    """Lock the file `path` until the result's `release()`, and write our process id into it.

    The system releases the lock when the process ends, however it ends; a file left behind means nothing.
    Child processes do not inherit the lock. Two locks exclude each other within one process, too. `wait` is
    the number of seconds for which a lock that is held is tried again.

    Raises:
        LockHeld: The lock is held.
        OSError: The folder cannot be created, or the file cannot be written.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(
        path, wait, thread_local=False, preserve_lock_file=True, on_acquired=partial(_write_owner, path)
    )
    while not lock.is_locked:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire()
        except Timeout:
            raise LockHeld(read_owner(path)) from None
        except FileNotFoundError:
            continue  # it was moved away while we locked it
    return lock


def _write_owner(path: Path, handle: int) -> None:
    if not os.path.samestat(os.fstat(handle), path.stat()):
        raise FileNotFoundError
    os.ftruncate(handle, 0)
    os.write(handle, f" {os.getpid()}\n".encode())


def is_locked(path: Path) -> bool:
    """Whether a process holds the lock. The file alone means nothing: its process may be long gone."""
    try:
        import fcntl
    except ImportError:
        return False  # Windows cannot ask without locking.
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def read_owner(path: Path) -> int | None:
    """The process id in the file, which its owner writes a moment after locking it."""
    try:
        with path.open("rb", buffering=0) as file:
            file.seek(_POSITION)
            owner = file.read(32).strip()
    except OSError:
        return None
    return int(owner) if owner.isdigit() else None
