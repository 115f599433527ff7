"""One process at a time works on an output folder."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

from fanbench.errors import SweepLocked
from fanbench.sweeps._journal_file import own_folder, reported

__all__ = ["FolderLock"]

NAME = "lock"

# Handles of the locks that this process holds.
_held: set[int] = set()


class FolderLock:
    """`with FolderLock(root): ...` holds `<root>/.fanbench/lock`, in which our process id is.

    The system itself lets go of it when the process ends, however it ends; a file that is left means nothing.
    Programs that we start do not inherit it. Two locks exclude each other within one process as well.

    Raises:
        SweepLocked: another process, or another sweep of this one, holds it.
        JournalError: the folder cannot be made or written.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._handle: int | None = None

    def acquire(self) -> None:
        path = own_folder(self.root) / NAME
        with reported(path):
            while self._handle is None:
                self._handle = _locked(path)
            _held.add(self._handle)

    def release(self) -> None:
        """The file stays: whoever waits for it must not hold one that is gone."""
        handle, self._handle = self._handle, None
        if handle is not None:
            _held.discard(handle)
            with reported(self.root):
                try:
                    os.ftruncate(handle, 0)
                finally:
                    _let_go(handle)

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def _locked(path: Path) -> int | None:
    """A handle that has the lock, with our process id in the file; `None` if the file was moved away in that moment."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        if not _try_to_lock(handle):
            raise _locked_by(path, _read_pid(handle))
        if _is_at(handle, path):
            _write_pid(handle)
            return handle
    except BaseException:
        os.close(handle)
        raise
    os.close(handle)
    return None


def _locked_by(path: Path, pid: int | None) -> SweepLocked:
    who = "another process" if pid is None else f"process {pid}"
    return SweepLocked(
        f"{path.parent.parent} is in use by another sweep: {who}.",
        pid=pid,
        hint="Wait until it has ended, or name another folder with -o.",
    )


def _is_at(handle: int, path: Path) -> bool:
    """Whether `handle` is the file at `path` still: its folder may have been set aside since it was opened."""
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def _write_pid(handle: int) -> None:
    os.ftruncate(handle, 0)
    os.lseek(handle, 0, os.SEEK_SET)
    os.write(handle, f"{os.getpid()}\n".encode())


def _read_pid(handle: int) -> int | None:
    os.lseek(handle, 0, os.SEEK_SET)
    text = os.read(handle, 32).decode("ascii", "replace").strip()
    return int(text) if text.isdecimal() else None


if sys.platform == "win32":
    import msvcrt

    # Far behind the process id: what is locked there cannot be read by others.
    _PLACE = 1 << 20

    def _try_to_lock(handle: int) -> bool:
        os.lseek(handle, _PLACE, os.SEEK_SET)
        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        except PermissionError:
            return False
        return True

    def _let_go(handle: int) -> None:
        os.close(handle)

else:
    import fcntl

    def _try_to_lock(handle: int) -> bool:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _let_go(handle: int) -> None:
        # Said aloud: a child that was forked without a new program may have the handle, too.
        fcntl.flock(handle, fcntl.LOCK_UN)
        os.close(handle)

    def _forget_in_child() -> None:
        """A forked process must not keep the lock when its parent is gone. The parent's stays as it is."""
        for handle in _held:
            os.close(handle)
        _held.clear()

    os.register_at_fork(after_in_child=_forget_in_child)
