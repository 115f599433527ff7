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
    """`model | `, in a colour of its own for each run.

    With `several_tasks` the task goes before it, and where two runs have the same name, their ids behind it.
    """

    def __init__(self, *, several_tasks: bool = False) -> None:
        self._several_tasks = several_tasks
        self._models: dict[int, str] = {}

    def add(self, *runs: Run) -> None:
        """Runs that will have lines: the names are as wide as the widest."""
        from fanbench.verbs._tasks import model_of

        for run in runs:
            task = f"{run.task_slug.task_slug} " if self._several_tasks else ""
            self._models.setdefault(run.id, f"{task}{model_of(run)}")

    def line(self, run: Run, line: str) -> str:
        self.add(run)
        width = max(len(self._name(run_id)) for run_id in self._models)
        colour = _COLOURS[list(self._models).index(run.id) % len(_COLOURS)]
        return f"{click.style(f'{self._name(run.id):<{width}} |', fg=colour)} {line}"

    def _name(self, run_id: int) -> str:
        model = self._models[run_id]
        return f"{model} #{run_id}" if list(self._models.values()).count(model) > 1 else model


class WaitView:
    """Progress of a wait, on stderr: one line a change of state, and the log lines that are wanted."""

    def __init__(self, settings: Settings, *, several_tasks: bool = False) -> None:
        self._out = settings.output
        self._several_tasks = several_tasks
        self._verbose = settings.verbose
        self._prefixes = Prefixes(several_tasks=several_tasks)

    def report(self, event: Event) -> None:
        from fanbench.verbs._tasks import model_of, state_word
        from fanbench.verbs.events import LogLine, Polled, PollFailed, RunChanged

        match event:
            case RunChanged(slug, run, _):
                self._prefixes.add(run)
                task = f"{slug} " if self._several_tasks else ""
                self._out.note(f"  {task}{model_of(run)} (Run {run.id}): {state_word(run.state)}")
            case LogLine(run, line):
                self._out.note(self._prefixes.line(run, line))
            case PollFailed(_, error):
                self._out.note(f"  The server did not answer, asking again: {error}")
            case Polled(_, pending, seconds) if self._verbose:
                self._out.note(f"  {pending} run(s) still in progress, next look in {seconds:.1f}s")
            case _:
                pass
