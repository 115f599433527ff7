"""What is seen while runs are waited for, and how log lines of several runs stand side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from fanbench.cli.options import Settings

if TYPE_CHECKING:
    from fanbench.api.messages import Run
    from fanbench.verbs.events import Event

__all__ = ["Prefixes", "WaitView"]

_COLOURS = ("cyan", "magenta", "green", "yellow", "blue", "bright_cyan", "bright_magenta", "bright_green")


class Prefixes:
    """`model | `, in a colour of its own for each run; with the run's id where a model has several."""

    def __init__(self) -> None:
        self._names: dict[int, str] = {}
        self._width = 0

    def add(self, run: Run) -> None:
        from fanbench.verbs._tasks import model_of

        if run.id not in self._names:
            model = model_of(run)
            name = f"{model} #{run.id}" if model in self._names.values() else model
            self._names[run.id] = name
            self._width = max(self._width, len(name))

    def line(self, run: Run, line: str) -> str:
        self.add(run)
        number = list(self._names).index(run.id)
        name = f"{self._names[run.id]:<{self._width}} |"
        return f"{click.style(name, fg=_COLOURS[number % len(_COLOURS)])} {line}"


class WaitView:
    """Progress of a wait, on stderr: one line a change of state, and the log lines that are wanted."""

    def __init__(self, settings: Settings) -> None:
        self._out = settings.output
        self._verbose = settings.verbose
        self._prefixes = Prefixes()

    def report(self, event: Event) -> None:
        from fanbench.verbs._tasks import model_of, state_word
        from fanbench.verbs.events import LogLine, Polled, PollFailed, RunChanged

        match event:
            case RunChanged(_, run, _):
                self._prefixes.add(run)
                self._out.note(f"  {model_of(run)} (Run {run.id}): {state_word(run.state)}")
            case LogLine(run, line):
                self._out.note(self._prefixes.line(run, line))
            case PollFailed(_, error):
                self._out.note(f"  The server did not answer, asking again: {error}")
            case Polled(_, pending, seconds) if self._verbose:
                self._out.note(f"  {pending} run(s) still in progress, next look in {seconds:.1f}s")
            case _:
                pass
