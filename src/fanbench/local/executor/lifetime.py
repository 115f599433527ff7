"""How processes end: with or after their parent, as adopted orphans, without clean-up.

All but the last do nothing except on Linux. As a program, `python -m fanbench.local.executor.lifetime COMMAND…`, it
becomes a command that dies with its parent.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from pathlib import Path
from typing import NoReturn

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent dies, even by SIGKILL."""
    _set_death_signal(signal.SIGKILL)


def outlive_parent() -> None:
    """Undo `die_with_parent`."""
    _set_death_signal(0)


def _set_death_signal(number: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, number)


def adopt_orphans() -> None:
    """Make orphaned descendants children of this process, whatever session or environment they chose."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1)


def children(pid: int) -> list[int]:
    """The child processes of a single-threaded process."""
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def descendants(pid: int) -> list[int]:
    """All processes below a process, whose threads may have started them."""
    found: list[int] = []
    todo = [pid]
    while todo:
        try:
            threads = list(Path(f"/proc/{todo.pop()}/task").iterdir())
        except OSError:  # it has ended
            continue
        for thread in threads:
            try:
                below = [int(word) for word in (thread / "children").read_text().split()]
            except OSError:
                continue
            found += below
            todo += below
    return found


def exit_without_cleanup(code: int) -> NoReturn:
    """End this process without the interpreter's clean-up."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            code = code or 1
    os._exit(code)


if __name__ == "__main__":
    die_with_parent()
    os.execvp(sys.argv[1], sys.argv[1:])  # noqa: S606
