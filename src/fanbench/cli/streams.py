"""The standard streams of the program."""

from __future__ import annotations

import errno
import io
import os
import sys
from typing import Any, TextIO

from fanbench._util.text import neutralize

__all__ = ["open_streams", "write_raw"]


class SafeStream(io.TextIOWrapper):
    """A stream on which nothing can act on the terminal, because most texts come from servers and files.

    It prints UTF-8 whatever the locale: a character that it lacks must not end the program.
    """

    def __init__(self, binary: Any, *, line_buffering: bool) -> None:
        super().__init__(binary, encoding="utf-8", errors="replace", line_buffering=line_buffering)

    def write(self, text: str) -> int:
        super().write(neutralize(text))
        return len(text)

    def write_raw(self, text: str) -> None:
        super().write(text)


def write_raw(stream: TextIO, text: str) -> None:
    """Write what fanbench itself has made to move the cursor, or what the user wants as it is."""
    (stream.write_raw if isinstance(stream, SafeStream) else stream.write)(text)


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


def open_streams() -> None:
    """Set up the standard streams.

    A stream that the shell has closed, as in `fanbench tasks list >&-`, is opened on the null device: Python has None
    in its place, and the next file that is opened would get its descriptor. Standard output is opened for reading
    only: a command with a result fails, as `ls >&-` does, because nobody gets it.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
    if sys.stdin is None:
        sys.stdin = os.fdopen(0)
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(encoding="utf-8", errors="surrogateescape")
    if sys.stdout is None:
        unwritable = os.open(os.devnull, os.O_RDONLY)
        os.dup2(unwritable, 1)
        os.close(unwritable)
        sys.stdout = os.fdopen(1, "w")
    if isinstance(sys.stdout, io.TextIOWrapper):
        line_buffering = sys.stdout.line_buffering
        sys.stdout = SafeStream(sys.stdout.detach(), line_buffering=line_buffering)
    sys.stderr = SafeStream(io.BufferedWriter(_Messages(2, "w", closefd=False)), line_buffering=True)
