"""A sweep elsewhere than on its screen: a line a change on stderr, and events as JSON lines on stdout."""

from __future__ import annotations

import sys
from datetime import datetime
from typing import TYPE_CHECKING

from fanbench.cli.command import Settings
from fanbench.cli.redact import hidden
from fanbench.cli.stdout_writer import room, say

if TYPE_CHECKING:
    from fanbench.sweeps.events import SweepEvent

__all__ = ["Narrator"]


class Narrator:
    """Says events. Below a screen (`terse`), which shows the rest, only what went wrong or ends something.

    The end of a `stage`, with which a whole sweep would end too early, is not said.
    """

    def __init__(self, settings: Settings, *, terse: bool, stage: bool = False) -> None:
        self._out = settings.output
        self._verbose = settings.verbose
        self._terse = terse and not settings.verbose
        self._stage = stage
        self._as_json = settings.format == "jsonl"

    async def tell(self, event: SweepEvent, at: datetime) -> None:
        """As fast as it is read: the sweep goes on meanwhile, and what comes after this one waits."""
        if self._as_json:
            await say(_line(event, at))
        if self._is_told(event):
            await room(sys.stderr)
            self._out.note(event.text)

    def _is_told(self, event: SweepEvent) -> bool:
        from fanbench.sweeps.events import Draining, LogLine, RunMissing, SweepEnded, TaskFailed

        if self._stage and isinstance(event, Draining | SweepEnded):
            return False
        if self._terse:
            return isinstance(event, TaskFailed | RunMissing | Draining) or _is_bad(event)
        return not event.quiet or (self._verbose and isinstance(event, LogLine))


def _is_bad(event: SweepEvent) -> bool:
    from fanbench.sweeps.events import RunChanged
    from fanbench.wire.messages import RunState

    return isinstance(event, RunChanged) and event.state == RunState.ERRORED


def _line(event: SweepEvent, at: datetime) -> str:
    """What a run has written is data; all else may say our credentials back."""
    from fanbench.sweeps.events import LogLine, write_event

    line = write_event(event, at).decode()
    return f"{line if isinstance(event, LogLine) else hidden(line)}\n"
