"""`--fresh`: what a sweep has left is put aside, and nothing of it is lost."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from itertools import count
from pathlib import Path

from fanbench._util.files import sync
from fanbench.errors import JournalError
from fanbench.sweeps._journal_file import JOURNAL, has_summary, reported
from fanbench.sweeps.lock import FolderLock

__all__ = ["set_aside"]

# What else a sweep writes that the next one would write over.
_SUMMARIES = ("summary.json", "summary.csv")

# The name is taken: by a folder with something in it, or by a file.
_TAKEN = (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR, errno.EISDIR)


def set_aside(root: Path) -> Path | None:
    """Keep the sweep in the folder `root` aside, whatever state its journal is in; where it is now.

    The whole folder is renamed, in one step: `results` to the first free one of `results.1`, `results.2`, ...
    If `root` is a link, the folder behind it is, and the link leads to a new empty one. A folder with
    neither a journal nor a summary is no sweep: it stays as it is, and the answer is `None`.

    A folder that cannot be renamed, or in which we stand (`-o .`: it may have files of others, and their
    paths must go on being right), stays. Then its `.fanbench` is renamed to `.fanbench.1`, with the summaries
    in it. Outputs are in folders named by their runs' ids, so no other sweep writes over them.

    The folder's lock is taken meanwhile: the caller must not hold it.

    Raises:
        SweepLocked: a process sweeps into the folder.
        JournalError: it cannot be renamed.
    """
    folder = Path(os.path.realpath(root))
    if not os.path.lexists(folder / JOURNAL) and not has_summary(folder):
        return None
    with FolderLock(folder) as lock:
        if os.name == "nt":
            lock.release()  # there, no folder can be renamed in which a file is open
        if not _we_stand_in(folder):
            target = _renamed_whole(folder)
            if target is not None:
                return target
        return _renamed_within(folder)


def _we_stand_in(folder: Path) -> bool:
    try:
        here = Path.cwd().resolve()
    except FileNotFoundError:
        return False
    return here == folder or folder in here.parents


def _renamed_whole(folder: Path) -> Path | None:
    """`None` if that cannot be done: it is a mount point, or nothing may be changed beside it."""
    try:
        target = _rename(folder)
    except OSError:
        return None
    with reported(folder):
        folder.mkdir()
        sync(folder.parent)
    return target


def _renamed_within(folder: Path) -> Path:
    own = folder / JOURNAL.parent
    with reported(own):
        for name in _SUMMARIES:
            if (folder / name).is_file():
                (folder / name).replace(own / name)
        target = _rename(own)
        sync(folder)
    return target


def _rename(folder: Path) -> Path:
    for target in _free_names(folder):
        try:
            folder.rename(target)
        except OSError as error:
            if error.errno not in _TAKEN:
                raise
        else:
            return target
    raise JournalError(f"No name is free to keep {folder} aside.")


def _free_names(folder: Path) -> Iterator[Path]:
    names = (folder.with_name(f"{folder.name}.{number}") for number in count(1))
    return (path for path in names if not os.path.lexists(path))
