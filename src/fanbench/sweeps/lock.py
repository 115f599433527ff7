"""One process at a time works on an output folder."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Self

from fanbench._util.lock import LockHeld, ProcessLock
from fanbench.errors import SweepLocked
from fanbench.sweeps._journal_file import own_folder, reported

__all__ = ["FolderLock"]

NAME = "lock"


class FolderLock:
    """`with FolderLock(root): ...` holds a `ProcessLock` on `<root>/.fanbench/lock`.

    Raises:
        SweepLocked: Another process, or another sweep of this one, holds the lock.
        JournalError: The folder cannot be created or written.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._lock: ProcessLock | None = None

    def acquire(self) -> None:
        lock = ProcessLock(own_folder(self.root) / NAME)
        with reported(lock.path):
            try:
                lock.acquire()
            except LockHeld as held:
                owner = "another process" if held.pid is None else f"process {held.pid}"
                raise SweepLocked(
                    f"{lock.path.parent.parent} is in use by another sweep: {owner}.",
                    pid=held.pid,
                    hint="Wait until it has ended, or name another folder with -o.",
                ) from None
        self._lock = lock

    def release(self) -> None:
        lock, self._lock = self._lock, None
        if lock is not None:
            with reported(self.root):
                lock.release()

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
