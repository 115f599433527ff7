"""What `fanbench queue` shows, once or until no run is left in the queue."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from fanbench._util.text import draw_table, many
from fanbench.cli.command import Settings
from fanbench.cli.output import Fields, Output
from fanbench.cli.progress import Display, render
from fanbench.cli.session import call
from fanbench.operations.events import Event
from fanbench.operations.queue import Queue, QueueCount, QueueSeen, watch_queue
from fanbench.wire.messages import QueueSettings

__all__ = ["FIELDS", "show_changes", "show_queue"]

_COUNTS: Fields[QueueCount] = {
    "scope": lambda one: one.scope,
    "name": lambda one: one.name,
    "withheld": lambda one: one.withheld,
    "queued": lambda one: one.queued,
    "running": lambda one: one.running,
    "completed": lambda one: one.completed,
    "errored": lambda one: one.errored,
}
FIELDS = (*_COUNTS, "enabled", "limit", "limit_per_model")

_NUMBERS = ("Queued", "Running", "Completed", "Errored")


def show_queue(out: Output, queue: Queue) -> None:
    for line in _lines(queue):
        out.text(line)
    limits = queue.settings or QueueSettings()
    of_all = (limits.enabled, limits.max_concurrency, limits.max_concurrency_per_candidate_model)
    records = []
    for one in queue.counts:
        shown = of_all if one.scope == "all" and queue.settings is not None else (None, None, None)
        counts = {name: read(one) for name, read in _COUNTS.items()}
        records.append(counts | dict(zip(FIELDS[-3:], shown, strict=True)))
    out.records(records, FIELDS)


def _lines(queue: Queue) -> Iterator[str]:
    total = queue.counts[0]
    yield f"Now:        {_now(total)}"
    yield f"Last 24 h:  {total.completed} completed, {total.errored} errored"
    if queue.settings is not None:
        yield f"Limits:     {_limits(queue.settings)}"
    for scope in ("model", "benchmark"):
        # That all runs are of tasks in no benchmark is not worth a table.
        counts = [one for one in queue.counts if one.scope == scope]
        if any(one.name or one.withheld for one in counts):
            yield ""
            header = (scope.title(), *_NUMBERS)
            yield from draw_table(header, [_row(one) for one in counts], (20, 6, 7, 9, 7))


def _now(total: QueueCount) -> str:
    return f"{total.queued} queued, {total.running} running"


def _limits(settings: QueueSettings) -> str:
    if not settings.enabled:
        return "nothing leaves the server's queue now: it is switched off"
    all_models, each = settings.max_concurrency, settings.max_concurrency_per_candidate_model
    limits = [
        f"{many(all_models, 'run')} at a time" if all_models is not None else "",
        f"{many(each, 'run')} per model" if each is not None else "",
    ]
    return ", ".join(filter(None, limits)) or "none"


def _row(one: QueueCount) -> list[str]:
    name = "(not shown to you)" if one.withheld else one.name or "-"
    return [name, *(str(number) for number in (one.queued, one.running, one.completed, one.errored))]


# --- Watching -------------------------------------------------------------------------------------------------


def show_changes(settings: Settings, poll_interval: float) -> Queue:
    """Show the queue until no run is queued or running, and return it."""
    display = _QueueDisplay(settings)
    return call(
        settings,
        lambda client: watch_queue(client, poll_interval=poll_interval, emit=display.report),
        display,
    )


class _QueueDisplay(Display):
    """The queue as it is now; where there is no terminal, a line per change on stderr."""

    keep_on_interrupt = True

    def __init__(self, settings: Settings) -> None:
        super().__init__(shown=settings.output.for_people, stream=sys.stdout)
        self._out = settings.output
        self._text = ""
        self._said = ""

    def report(self, event: Event) -> None:
        if not isinstance(event, QueueSeen):
            return
        self._text = "\n".join(_lines(event.queue))
        now = _now(event.queue.counts[0])
        if not self.shown and now != self._said:
            self._said = now
            self._out.note(f"  {now}")

    def lines(self, size: tuple[int, int]) -> list[str]:
        from rich.text import Text

        lines = render([Text(self._text, no_wrap=True, overflow="ellipsis")], size[0], color=self.color)
        room = max(1, size[1] - 1)
        return lines if len(lines) <= room else [*lines[: room - 1], "…"]
