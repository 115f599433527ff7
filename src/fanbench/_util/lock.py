"""A lock between processes, as a locked file that names its owner.

Not `filelock`: over the versions that we support it truncates the file on a failed attempt (the owner's process
id must stay readable), and does not notice that the folder with the lock was moved away in the meantime.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

__all__ = ["LockHeld", "ProcessLock"]

_RETRY_EVERY = 0.05

# The handles of all locks that this process holds.
_held: set[int] = set()


class LockHeld(Exception):
    """Another process, or another lock of this process, holds the lock. `pid` is None if it is not known."""

    def __init__(self, pid: int | None) -> None:
        super().__init__(f"held by process {pid or '?'}")
        self.pid = pid


class ProcessLock:
    """`with ProcessLock(path): ...` locks the file `path`, which contains our process id and a newline.

    The system releases the lock when the process ends, however it ends; a file left behind means nothing.
    Child processes do not inherit the lock. Two locks exclude each other within one process, too. `wait` is
    the number of seconds for which a lock that is held is tried again.

    Raises:
        LockHeld: The lock is held.
        OSError: The folder cannot be created, or the file cannot be written.
    """

    def __init__(self, path: Path, *, wait: float = 0.0) -> None:
        self.path = path
        self._wait = wait
        self._handle: int | None = None

    def acquire(self) -> None:
        deadline = time.monotonic() + self._wait
        while self._handle is None:
            try:
                self._handle = _locked(self.path)
            except LockHeld:
                if time.monotonic() >= deadline:
                    raise
                time.sleep(_RETRY_EVERY)
        _held.add(self._handle)

    def release(self) -> None:
        """Release the lock. The file stays: a process waiting for it must not lock a deleted file."""
        handle, self._handle = self._handle, None
        if handle is not None:
            _held.discard(handle)
            try:
                os.ftruncate(handle, 0)
            finally:
                _unlock(handle)
                os.close(handle)

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def _locked(path: Path) -> int | None:
    """Return the handle of the locked file, or None if the file was moved away at that moment."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        if not _try_to_lock(handle):
            os.lseek(handle, 0, os.SEEK_SET)
            owner = os.read(handle, 32).decode("ascii", "replace").strip()
            raise LockHeld(int(owner) if owner.isdecimal() else None)
        try:
            in_place = os.path.samestat(os.fstat(handle), path.stat())
        except FileNotFoundError:
            in_place = False
        if in_place:
            os.ftruncate(handle, 0)
            os.lseek(handle, 0, os.SEEK_SET)
            os.write(handle, f"{os.getpid()}\n".encode())
            return handle
    except BaseException:
        os.close(handle)
        raise
    os.close(handle)
    return None


if sys.platform == "win32":
    import msvcrt

    # Far behind the process id, because a locked region cannot be read by others.
    _POSITION = 1 << 20

    def _try_to_lock(handle: int) -> bool:
        os.lseek(handle, _POSITION, os.SEEK_SET)
        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        except PermissionError:
            return False
        return True

    def _unlock(handle: int) -> None:
        """Nothing to do: closing the file releases the lock."""

else:
    import fcntl

    def _try_to_lock(handle: int) -> bool:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _unlock(handle: int) -> None:
        # Explicitly, because a forked child may share the handle for a moment.
        fcntl.flock(handle, fcntl.LOCK_UN)

    def _forget_in_child() -> None:
        """Close the handles in a forked child, which would otherwise outlive its parent with the lock."""
        for handle in _held:
            os.close(handle)
        _held.clear()

    os.register_at_fork(after_in_child=_forget_in_child)
