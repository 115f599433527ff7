"""The `fanbench` program: commands that are imported when they are called, and views that show their results."""

from __future__ import annotations

import errno
import gc
import io
import os
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any, NoReturn, cast

__all__ = ["main"]


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Run the program, and end the process with one of the exit codes of `fanbench.cli.exits`."""
    _open_streams()
    # httpcore imports trio if it is installed, which takes long. This program runs on asyncio only.
    sys.modules.setdefault("trio", cast("ModuleType", None))
    # A command leaves little garbage in cycles, and most of what it allocates are its modules.
    gc.set_threshold(10_000, 20, 50)

    from fanbench.cli.app import root
    from fanbench.cli.exits import use_utf8

    use_utf8()
    root.main(args=args, prog_name="fanbench")
    raise SystemExit(0)


class _Messages(io.FileIO):
    """Standard error. Messages that a full disk or a lost terminal does not take are dropped.

    The command continues: its result, and its exit code, do not depend on who reads the messages.
    """

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO):
                raise
            return len(data)


def _open_streams() -> None:
    """Open a stream that the shell has closed, as in `fanbench tasks list >&-`, on the null device.

    Python has None in its place, and the next file that is opened would get its descriptor.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
    if sys.stdin is None:
        sys.stdin = os.fdopen(0)
    if sys.stdout is None:
        sys.stdout = os.fdopen(1, "w")
    messages = io.BufferedWriter(_Messages(2, "w", closefd=False))
    sys.stderr = io.TextIOWrapper(messages, errors="replace", line_buffering=True)
