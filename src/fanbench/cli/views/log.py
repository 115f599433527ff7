"""What `fanbench tasks log` shows: one log after another, or the lines of all live logs together."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fanbench._util.text import many
from fanbench.cli.command import Settings
from fanbench.cli.exits import print_error
from fanbench.cli.progress import Progress, Row
from fanbench.cli.session import finish, split
from fanbench.cli.streams import write_raw
from fanbench.cli.views.names import Prefixes, run_name
from fanbench.errors import FanbenchError
from fanbench.operations.events import (
    Event,
    LogBegan,
    LogEnded,
    LogLine,
    LogRead,
    LogSilent,
    LogText,
    PollFailed,
    TaskFailed,
)
from fanbench.operations.lookup import model_of
from fanbench.operations.task_logs import LogReport, LogsBegan
from fanbench.wire.messages import Run

__all__ = ["FIELDS", "LogView"]

_NO_STYLE = "\x1b[0m"

FIELDS = ("task", "run_id", "model", "state", "lines", "text", "path", "error")


class LogView:
    """On the progress display, several logs that are shown one after another are rows.

    With `raw`, people see the bytes of the logs, and no display, which would be mixed up with them.
    """

    def __init__(self, settings: Settings, *, several_tasks: bool, raw: bool = False) -> None:
        self.progress = Progress(settings.output, what="logs")
        if raw:
            self.progress.shown = False
        self._raw = raw
        self._settings = settings
        self._out = settings.output
        self._several_tasks = several_tasks
        self._prefixes = Prefixes(several_tasks=several_tasks)
        self._runs: list[Run] = []
        self._rows_shown = False
        self._together = True
        self._line_is_open = False
        self._texts: dict[int, list[str]] = {}

    # --- While they are read ---

    def report(self, event: Event) -> None:
        match event:
            case LogsBegan(_, runs):
                self._runs += runs
                self._prefixes.add(*runs)
            case LogRead():
                self._show_rows(event)
            case LogBegan(run):
                self._together = self._line_is_open = False
                name = run_name(run.task_slug.task_slug, run, several_tasks=self._several_tasks)
                self._out.text(f"\n═══ Logs for {name} (Run {run.id}) [{run.state.label}] ═══")
            case LogText(run, text):
                self._line_is_open = not text.endswith("\n")
                self._show_or_keep(run, text)
            case LogLine(run, line) if self._out.for_people:
                self._print(f"{self._prefixes.line(run, line)}\n")
            case LogLine(run, line):
                self._show_or_keep(run, f"{line}\n")
            case LogEnded():
                self._end_log(event)
            case PollFailed() | LogSilent():
                self._out.note(str(event.text))
            case TaskFailed(_, error) if self._several_tasks:
                print_error(error)
            case _:
                pass

    def _show_rows(self, event: LogRead) -> None:
        """Only logs that are shown one after another report how far they are read."""
        if len(self._runs) < 2:
            return
        if not self._rows_shown:
            self._rows_shown = True
            for run in self._runs:
                self._show_row(run, "waiting", hidden=True)
        state, end = ("read", "good") if event.ended else ("reading", "")
        self._show_row(event.run, state, detail=f"{event.lines:,} lines", end=end, hidden=event.ended)

    def _show_row(self, run: Run, state: str, **settings: Any) -> None:
        slug = run.task_slug.task_slug
        name = run_name(slug, run, several_tasks=self._several_tasks)
        self.progress.show(run.id, Row(name, state, group=slug, **settings))

    def _show_or_keep(self, run: Run, text: str) -> None:
        """People see it at once; in a record it is one field."""
        if self._out.for_people:
            self._print(text)
        else:
            self._texts.setdefault(run.id, []).append(text)

    def _print(self, text: str) -> None:
        if self._raw:
            write_raw(sys.stdout, text)
        else:
            # A log that leaves its color on must not color what follows.
            self._out.text(f"{text}{_NO_STYLE}" if "\x1b[" in text else text, end=False)

    def _end_log(self, event: LogEnded) -> None:
        if self._line_is_open:
            self._out.text()
        if self._together and event.error is not None:
            status = getattr(event.error, "status", None)
            why = f"server returned {status}" if status else event.error
            self._out.note(self._prefixes.line(event.run, f"(No logs available — {why})"))
        elif event.error is not None:
            self._out.note(f"  {event.text}")
        if not self._together:
            self._out.text(f"═══ ({event.lines} lines) ═══")

    # --- At the end ---

    def end(self, outcomes: Sequence[LogReport | FanbenchError], output: Path | None) -> None:
        reports, errors = split(outcomes)
        for report in reports:
            if not report.logs:
                start = self._settings.fanbench_command(f"tasks run {report.slug}")
                self._out.note(f"No runs found for task '{report.slug}'. Start one with: {start}")
        records = [
            {
                "task": report.slug,
                "run_id": log.run.id,
                "model": model_of(log.run),
                "state": log.run.state.label,
                "lines": log.lines,
                "text": "".join(self._texts.get(log.run.id, [])),
                "path": str(log.path) if log.path else None,
                "error": str(log.error) if log.error else None,
            }
            for report in reports
            for log in report.logs
        ]
        self._out.records(records, FIELDS)
        if logs := [log for report in reports for log in report.logs]:
            number_of_models = len({model_of(log.run) for log in logs})
            self._out.note(f"\nShowed logs for {len(logs)} run(s) across {number_of_models} model(s).")
            if output is not None:
                saved = sum(log.path is not None for log in logs)
                self._out.note(f"Saved {many(saved, 'complete log')} in {output}/")
        finish(errors, len(outcomes), "tasks")
        failed = [log.error for report in reports for log in report.failed if log.error]
        finish(failed, len(logs), "logs")
