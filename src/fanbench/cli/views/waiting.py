"""What is seen while runs are waited for, and how log lines of several runs stand side by side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from typing import TYPE_CHECKING

import click

from fanbench.cli.command import Settings

if TYPE_CHECKING:
    from fanbench.cli.progress import Display, End, Row
    from fanbench.operations import Launch
    from fanbench.operations.events import Downloading, Event
    from fanbench.wire.messages import Run, RunState

__all__ = ["DownloadRows", "LogRows", "Prefixes", "RunRows", "WaitView"]

_COLOURS = ("cyan", "magenta", "green", "yellow", "blue", "bright_cyan", "bright_magenta", "bright_green")


class Prefixes:
    """`model | `, in a colour of its own for each run.

    With `several_tasks` the task goes before it, and where two runs have the same name, their ids behind it.
    """

    def __init__(self, *, several_tasks: bool = False) -> None:
        self._several_tasks = several_tasks
        self._models: dict[int, str] = {}
        self._prefixes: dict[int, str] = {}

    def add(self, *runs: Run) -> None:
        """Runs that will have lines: the names are as wide as the widest."""
        from fanbench.operations.lookup import model_of

        for run in runs:
            task = f"{run.task_slug.task_slug} " if self._several_tasks else ""
            self._models.setdefault(run.id, f"{task}{model_of(run)}")
        self._prefixes.clear()

    def line(self, run: Run, line: str) -> str:
        if run.id not in self._models:
            self.add(run)
        if not self._prefixes:
            self._prefixes = self._made()
        return f"{self._prefixes[run.id]} {line}"

    def _made(self) -> dict[int, str]:
        times = Counter(self._models.values())
        names = {
            run_id: f"{model} #{run_id}" if times[model] > 1 else model
            for run_id, model in self._models.items()
        }
        width = max(map(len, names.values()))
        return {
            run_id: click.style(f"{name:<{width}} |", fg=_COLOURS[number % len(_COLOURS)])
            for number, (run_id, name) in enumerate(names.items())
        }


_NO_END: End = ""
_GOOD: End = "good"
_BAD: End = "bad"


def _name(slug: str, run: Run, *, several_tasks: bool) -> str:
    from fanbench.operations.lookup import model_of

    return f"{slug} {model_of(run)}" if several_tasks else model_of(run)


class RunRows:
    """A row a run on the display, in the order of the plan."""

    def __init__(self, display: Display, *, several_tasks: bool = False) -> None:
        self._display = display
        self._several_tasks = several_tasks
        self._keys: dict[int, Hashable] = {}

    def plan(self, launch: Launch) -> None:
        """Keeps a place for each run that is to come; a model that was skipped may have one in flight."""
        for row in launch.rows:
            key, skipped = (launch.slug, row.model), not row.scheduled
            state, end = ("Skipped", _GOOD) if skipped else ("Scheduled", _NO_END)
            self._show(key, launch.slug, row.model, state, end, hidden=skipped)

    def report(self, event: Event) -> None:
        from fanbench.operations.events import RunChanged, RunEnding
        from fanbench.operations.lookup import model_of

        match event:
            case RunChanged(slug, run, _):
                model = model_of(run)
                self._show(self._key(slug, run), slug, model, run.state.label, _end(run.state))
            case RunEnding(slug, run):
                self._display.change(self._key(slug, run), "ENDING")
            case _:
                pass

    def _key(self, slug: str, run: Run) -> Hashable:
        from fanbench.operations.lookup import model_of

        if run.id not in self._keys:
            planned = (slug, model_of(run))
            taken = planned in self._keys.values()
            self._keys[run.id] = (*planned, run.id) if taken else planned
        return self._keys[run.id]

    def _show(
        self, key: Hashable, slug: str, model: str, state: str, end: End, *, hidden: bool = False
    ) -> None:
        from fanbench.cli.progress import Row

        name = f"{slug} {model}" if self._several_tasks else model
        self._display.show(key, Row(name, state, group=slug, end=end, hidden=hidden))


def _end(state: RunState) -> End:
    from fanbench.wire.messages import RunState

    if not state.terminal:
        return ""
    return _BAD if state == RunState.ERRORED else _GOOD


class DownloadRows:
    """A bar a download that is under way; all are counted."""

    def __init__(self, display: Display, *, several_tasks: bool = False) -> None:
        self._display = display
        self._several_tasks = several_tasks
        self._bytes: dict[int, tuple[int, int | None]] = {}

    def report(self, event: Event) -> None:
        from fanbench.operations.events import Downloading

        if not isinstance(event, Downloading) or not self._display.shown:
            return
        if event.received is not None:
            self._bytes[event.run.id] = (event.received, event.total)
        self._display.show(event.run.id, self._row(event))
        self._display.sum_up(self._summary())

    def _row(self, event: Downloading) -> Row:
        from fanbench.cli.output import format_size
        from fanbench.cli.progress import Row

        name = _name(event.slug, event.run, several_tasks=self._several_tasks)
        if event.outcome is not None:
            end = _GOOD if event.outcome in ("Done", "Cached") else _BAD
            return Row(name, event.outcome, group=event.slug, end=end, hidden=True)
        if event.received is None:
            return Row(name, "waiting", group=event.slug, hidden=True)
        of = f" of {format_size(event.total)}" if event.total is not None else ""
        share = event.received / event.total if event.total else 0.0
        return Row(name, "downloading", event.slug, f"{format_size(event.received)}{of}", share)

    def _summary(self) -> str:
        from fanbench.cli.output import format_size

        return format_size(sum(received for received, _ in self._bytes.values()))


class LogRows:
    """A row a log that is being read, where there are several; all are counted."""

    def __init__(self, display: Display, *, several_tasks: bool = False) -> None:
        self._display = display
        self._several_tasks = several_tasks
        self._runs: list[Run] = []
        self._planned = False

    def report(self, event: Event) -> None:
        from fanbench.operations.events import LogRead
        from fanbench.operations.task_logs import LogsBegan

        match event:
            case LogsBegan(_, runs):
                self._runs += runs
            case LogRead(run, lines, ended) if len(self._runs) > 1:
                self._plan()
                self._show(run, "read" if ended else "reading", f"{lines:,} lines", ended=ended)
            case _:
                pass

    def _plan(self) -> None:
        """Only logs that are shown one after another come here: the others' lines say how far they are."""
        if not self._planned:
            self._planned = True
            for run in self._runs:
                self._show(run, "waiting")

    def _show(self, run: Run, state: str, detail: str = "", *, ended: bool = False) -> None:
        from fanbench.cli.progress import Row

        slug, end = run.task_slug.task_slug, _GOOD if ended else _NO_END
        name = _name(slug, run, several_tasks=self._several_tasks)
        hidden = ended or not detail
        self._display.show(run.id, Row(name, state, slug, detail, end=end, hidden=hidden))


class WaitView:
    """Progress of a wait, on stderr: the states of runs, and the log lines that are wanted.

    States are rows where there is a `display`, and elsewhere a line a change.
    """

    def __init__(
        self, settings: Settings, *, several_tasks: bool = False, display: Display | None = None
    ) -> None:
        self._rows = RunRows(display, several_tasks=several_tasks) if display and display.shown else None
        self._out = settings.output
        self._several_tasks = several_tasks
        self._verbose = settings.verbose
        self._prefixes = Prefixes(several_tasks=several_tasks)

    def plan(self, launch: Launch) -> None:
        """These runs are waited for."""
        if self._rows is not None:
            self._rows.plan(launch)

    def report(self, event: Event) -> None:
        from fanbench.operations.events import LogLine, Polled, PollFailed, RunChanged

        if self._rows is not None:
            self._rows.report(event)
        match event:
            case RunChanged(_, run, _) if self._rows is not None:
                self._prefixes.add(run)
            case RunChanged(slug, run, _):
                self._prefixes.add(run)
                text = event.text if self._several_tasks else event.text.removeprefix(f"{slug} ")
                self._out.note(f"  {text}")
            case LogLine(run, line):
                self._out.note(self._prefixes.line(run, line))
            case PollFailed():
                self._out.note(f"  {event.text}")
            case Polled() if self._verbose:
                self._out.note(f"  {event.text}")
            case _:
                pass
