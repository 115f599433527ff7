"""The events of a sweep: as lines on stderr, and with `--format jsonl` as JSON lines on stdout."""

from __future__ import annotations

import sys
from datetime import datetime

from fanbench.cli.command import Settings
from fanbench.cli.redact import hidden
from fanbench.cli.stdout_writer import wait_for_reader, write_stdout
from fanbench.sweeps.events import (
    Draining,
    RunLogLine,
    RunMissing,
    RunStateChanged,
    SweepEnded,
    SweepEvent,
    TaskPreparationFailed,
    write_event,
)
from fanbench.wire.messages import RunState

__all__ = ["EventPrinter"]


class EventPrinter:
    """Prints events. Below a display (`terse`), which shows the rest, only failures and what ends the sweep.

    The end of a single `stage` is not printed: it would look like the end of the whole sweep.
    """

    def __init__(self, settings: Settings, *, terse: bool, stage: bool = False) -> None:
        self._out = settings.output
        self._verbose = settings.verbose
        self._terse = terse and not settings.verbose
        self._stage = stage

    async def print(self, event: SweepEvent, at: datetime) -> None:
        """Print at the reader's pace: the sweep continues meanwhile, and later events wait."""
        if self._out.format.streams:
            line = write_event(event, at).decode()
            # Log lines are data; everything else may repeat our credentials.
            await write_stdout(f"{line if isinstance(event, RunLogLine) else hidden(line)}\n")
        if self._is_printed(event):
            await wait_for_reader(sys.stderr)
            self._out.note(event.text)

    def _is_printed(self, event: SweepEvent) -> bool:
        if self._stage and isinstance(event, Draining | SweepEnded):
            return False
        if self._terse:
            errored = isinstance(event, RunStateChanged) and event.state == RunState.ERRORED
            return errored or isinstance(event, TaskPreparationFailed | RunMissing | Draining)
        return not event.quiet or (self._verbose and isinstance(event, RunLogLine))
