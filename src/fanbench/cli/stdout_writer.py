"""Writing to a pipe at its reader's pace: a slow or stopped reader must not block the event loop."""

from __future__ import annotations

import os
import select
import sys
from typing import TextIO

import anyio.to_thread
import click

__all__ = ["wait_for_reader", "write_stdout"]

# Seconds that a thread waits for a full pipe; a cancelled caller leaves the thread behind for that long.
_WAIT = 0.2

# What a pipe that is writable takes at once, in characters of at most four bytes.
_PIECE = getattr(select, "PIPE_BUF", 4096) // 4


async def write_stdout(text: str) -> None:
    """Write to stdout as fast as it is read. If this is cancelled, part of `text` may have been written."""
    for start in range(0, len(text), _PIECE):
        await wait_for_reader(sys.stdout)
        click.echo(text[start : start + _PIECE], nl=False)


async def wait_for_reader(stream: TextIO) -> None:
    """Wait until a short line can be written to `stream` without blocking."""
    if os.name == "nt":
        return  # nothing is known of a pipe there
    try:
        handle = stream.fileno()
    except (OSError, ValueError):
        return
    while not _is_writable(handle, 0.0):
        await anyio.to_thread.run_sync(_is_writable, handle, _WAIT, abandon_on_cancel=True)


def _is_writable(handle: int, seconds: float) -> bool:
    return bool(select.select([], [handle], [], seconds)[1])
