"""Readers of stdout and stderr may be slow, or asleep: the event loop does not wait for them."""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Iterator
from typing import TextIO

import anyio.to_thread

__all__ = ["room", "say"]

# Seconds for which a thread looks at a full pipe; whoever is cancelled leaves it behind for so long.
_LOOK = 0.2

# What a pipe that takes something takes at once, in characters: none has more than four bytes.
_PIECE = getattr(select, "PIPE_BUF", 4096) // 4


async def say(text: str) -> None:
    """Write to stdout as fast as it is read. Cancelled while nobody reads, it leaves a line half written."""
    import click

    for piece in _pieces(text):
        await room(sys.stdout)
        click.echo(piece, nl=False)


def _pieces(text: str) -> Iterator[str]:
    return (text[start : start + _PIECE] for start in range(0, len(text), _PIECE))


async def room(stream: TextIO) -> None:
    """Wait until `stream` takes at least a short line at once."""
    handle = _pipe(stream)
    while handle is not None and not _takes(handle, 0.0):
        await anyio.to_thread.run_sync(_takes, handle, _LOOK, abandon_on_cancel=True)


def _pipe(stream: TextIO) -> int | None:
    """The handle to look at; of what is none, or cannot be asked, nothing is known."""
    if os.name == "nt":
        return None
    try:
        return stream.fileno()
    except (OSError, ValueError):
        return None


def _takes(handle: int, seconds: float) -> bool:
    return bool(select.select([], [handle], [], seconds)[1])
