"""Reading what a run has left. It may be anything: links to files of this machine, pipes that never end, deep folders.

A link is never followed, and nothing but regular files is opened.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from fanbench._util.files import open_regular

__all__ = ["read_regular", "regular_files"]

MOST_READ = 256 << 20
"""The most bytes of a file that is read as a whole."""


def read_regular(path: Path) -> bytes:
    """The content of a file. Raises OSError as `open_regular` does, and if it is larger than `MOST_READ`."""
    with open_regular(path) as file:
        content = file.read(MOST_READ + 1)
    if len(content) > MOST_READ:
        raise OSError(f"{path} is larger than {MOST_READ >> 20} MB")
    return content


def regular_files(root: Path) -> Iterator[Path]:
    """The regular files in the folder and in those below it, in no order. What cannot be read is left out."""
    folders = [] if root.is_symlink() else [root]
    while folders:
        try:
            entries = [*os.scandir(folders.pop())]
        except OSError:  # such as a path that is too long
            continue
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                folders.append(Path(entry.path))
            elif entry.is_file(follow_symlinks=False):
                yield Path(entry.path)
