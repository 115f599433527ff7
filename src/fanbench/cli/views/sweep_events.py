"""The events of a sweep: as lines on stderr, and with `--format jsonl` as JSON lines on stdout.

They are written at the reader's pace: a slow or stopped reader of a pipe must not block the event loop.
"""

from __future__ import annotations

import os
import select
import stat
import sys
from collections.abc import Iterator
from datetime import datetime
from functools import partial
from typing import TextIO

import anyio.to_thread
import click

from fanbench._util.text import error_line, many
from fanbench.cli.command import Settings
from fanbench.cli.redact import redact
from fanbench.operations.events import VersionSuperseded
from fanbench.operations.queue import NotAttributed, NotEnqueued
from fanbench.operations.unanswered import CallUnanswered
from fanbench.sweeps.events import (
    CancelEnded,
    Draining,
    PageEdited,
    RunLogLine,
    RunMissing,
    RunStateChanged,
    RunUnlisted,
    SweepEnded,
    SweepEvent,
    TaskPreparationFailed,
    write_event,
)
from fanbench.wire.messages import RunState

__all__ = ["EventPrinter", "wait_for_reader"]

# Seconds that a thread waits for a full pipe; a cancelled caller leaves the thread behind for that long.
_WAIT = 0.2

# What a pipe that is writable takes at once, in characters of at most four bytes.
_PIECE = getattr(select, "PIPE_BUF", 4096) // 4


class EventPrinter:
    """Prints events. Below a display (`terse`), which shows the rest, only failures and what ends the sweep.

    The end of a single `stage` is not printed: it would look like the end of the whole sweep.
    """

    def __init__(self, settings: Settings, *, terse: bool, stage: bool = False) -> None:
        self._out = settings.output
        self._verbose = settings.verbose
        self._terse = terse and not settings.verbose
        self._stage = stage
        self._last_reason = ("", "", "")
        self._repeated = 0
        self._page_errors: set[str] = set()
        #: Those of the two streams that are files, which never make their writer wait for a reader.
        self._files = {stream for stream in (sys.stdout, sys.stderr) if _is_file(stream)}

    async def print(self, event: SweepEvent, at: datetime) -> None:
        """Print an event; the sweep continues meanwhile, and later events wait.

        If this is cancelled, part of a line may have been written.
        """
        if self._out.format.streams:
            line = write_event(event, at).decode()
            # Log lines are data; everything else may repeat our credentials.
            text = f"{line if isinstance(event, RunLogLine) else redact(line)}\n"
            for start in range(0, len(text), _PIECE):
                if sys.stdout not in self._files:
                    await wait_for_reader(sys.stdout)
                click.echo(text[start : start + _PIECE], nl=False)
        for line in self._lines(event):
            if sys.stderr not in self._files:
                await wait_for_reader(sys.stderr)
            self._out.note(line)

    def _lines(self, event: SweepEvent) -> Iterator[str]:
        """The lines for an event. Of runs that are missing for one reason, the first is named and the rest counted."""
        reason = _reason(event) if isinstance(event, RunMissing) else None
        printed = self._is_printed(event)
        if printed and reason is not None and reason == self._last_reason:
            self._repeated += 1
            return
        if self._repeated and (printed or isinstance(event, SweepEnded)):
            yield f"{many(self._repeated, 'more run')} of {self._last_reason[0]}: missing for the same reason"
        if printed:
            self._last_reason, self._repeated = reason or ("", "", ""), 0
            yield event.text

    def _is_printed(self, event: SweepEvent) -> bool:
        if self._stage and isinstance(event, Draining | SweepEnded):
            return False
        if isinstance(event, RunMissing) and event.stage == "push":
            return False  # The line of its task has said it, for all of its runs.
        if isinstance(event, PageEdited) and event.error:
            is_known = event.error in self._page_errors
            self._page_errors.add(event.error)
            return not is_known  # A server without the call says the same of each task.
        if self._terse:
            errored = isinstance(event, RunStateChanged) and event.state == RunState.ERRORED
            important = (
                TaskPreparationFailed
                | RunMissing
                | RunUnlisted
                | Draining
                | CancelEnded
                | CallUnanswered
                | NotAttributed
                | NotEnqueued
                | VersionSuperseded
            )
            unknown_tags = isinstance(event, PageEdited) and bool(event.unknown_tags)
            return errored or unknown_tags or isinstance(event, important)
        return not event.quiet or (self._verbose and isinstance(event, RunLogLine))


def _reason(event: RunMissing) -> tuple[str, str, str]:
    return event.planned_run.task, event.stage, error_line(event.error)


async def wait_for_reader(stream: TextIO) -> None:
    """Wait until a short line can be written to `stream` without blocking."""
    if os.name == "nt":
        return  # nothing is known of a pipe there
    try:
        handle = stream.fileno()
    except (OSError, ValueError):
        return
    poll = partial(select.select, [], [handle], [])
    while not poll(0.0)[1]:
        await anyio.to_thread.run_sync(poll, _WAIT, abandon_on_cancel=True)


def _is_file(stream: TextIO) -> bool:
    try:
        return stat.S_ISREG(os.fstat(stream.fileno()).st_mode)
    except (OSError, ValueError):
        return False
