"""The output folder of a sweep: one process at a time works in it, and `--fresh` keeps an earlier sweep aside."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from fanbench._util.files import sync
from fanbench._util.lock import LockHeld, lock_file
from fanbench.errors import JournalError, SweepLocked
from fanbench.sweeps.journal import JOURNAL, SUMMARY, has_summary, journal_errors, own_folder

if TYPE_CHECKING:
    from filelock import BaseFileLock

__all__ = ["LOCK", "lock_folder", "refuse_locked", "set_aside"]

#: Relative to the output folder.
LOCK = JOURNAL.parent / "lock"


@contextmanager
def lock_folder(root: Path) -> Iterator[BaseFileLock]:
    """Lock `<root>/.fanbench/lock` during the block; see `lock_file` for what that means.

    Raises:
        SweepLocked: Another process, or another sweep of this process, works in the folder.
        JournalError: The folder cannot be created or written.
    """
    path = own_folder(root) / LOCK.name
    with journal_errors(path):
        try:
            lock = lock_file(path)
        except LockHeld as held:
            holder = "another process" if held.pid is None else f"process {held.pid}"
            raise SweepLocked(
                f"{path.parent.parent} is in use by another sweep: {holder}.",
                pid=held.pid,
                hint="Wait until it has ended, or name another folder with -o.",
            ) from None
    try:
        yield lock
    finally:
        with journal_errors(path):
            lock.release()


def refuse_locked(root: Path) -> None:
    """Raise now what `lock_folder` would raise later. Nothing is created, and the lock is not kept.

    Raises:
        SweepLocked: Another process, or another sweep of this process, works in the folder.
        JournalError: The folder cannot be written.
    """
    if (root / LOCK).exists():
        with lock_folder(root):
            pass


# Errors of `rename` that mean that the name is taken: by a folder with something in it, or by a file.
_TAKEN = (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR, errno.EISDIR)


def set_aside(root: Path) -> Path | None:
    """Keep the sweep in the folder `root` aside, whatever state its journal is in. Return its new place.

    The whole folder is renamed in one step: `results` to the first free of `results.1`, `results.2`, ... If
    `root` is a link, the folder behind it is renamed, and the link leads to a new empty folder. A folder with
    neither a journal nor a summary holds no sweep: it stays as it is, and the result is None.

    A folder that cannot be renamed stays, and so does the current folder (`-o .`), which may have other files,
    whose paths must remain valid. Then its `.fanbench` is renamed to `.fanbench.1`, with the summaries in it.
    Outputs are in folders named by their runs' ids, so no other sweep overwrites them.

    The folder's lock is held meanwhile: the caller must not hold it.

    Raises:
        SweepLocked: A process works in the folder.
        JournalError: Nothing can be renamed.
    """
    folder = Path(os.path.realpath(root))
    if not os.path.lexists(folder / JOURNAL) and not has_summary(folder):
        return None
    with lock_folder(folder) as lock:
        if os.name == "nt":
            lock.release()  # Windows cannot rename a folder in which a file is open.
        try:
            here = Path.cwd().resolve()
        except FileNotFoundError:
            here = Path(os.path.sep)
        if here != folder and folder not in here.parents:
            target = None
            with suppress(OSError):  # It may be a mount point, or its parent may be read-only.
                target = _rename(folder)
            if target is not None:
                with journal_errors(folder):
                    folder.mkdir()
                    sync(folder.parent)
                return target
        own = folder / JOURNAL.parent
        with journal_errors(own):
            for name in (SUMMARY, "summary.csv"):
                if (folder / name).is_file():
                    (folder / name).replace(own / name)
            target = _rename(own)
            sync(folder)
        return target


def _rename(folder: Path) -> Path:
    """Rename `folder` to the first free of `folder.1`, `folder.2`, ... Another process may take one first."""
    for number in count(1):
        target = folder.with_name(f"{folder.name}.{number}")
        if os.path.lexists(target):
            continue
        try:
            folder.rename(target)
        except OSError as error:
            if error.errno not in _TAKEN:
                raise
        else:
            return target
    raise JournalError(f"No name is free to keep {folder} aside.")
