"""What runs are called, in rows and in front of log lines."""

from __future__ import annotations

from collections import Counter

import click

from fanbench.operations.lookup import model_of
from fanbench.wire.messages import Run

__all__ = ["Prefixes", "run_name"]

_COLORS = ("cyan", "magenta", "green", "yellow", "blue", "bright_cyan", "bright_magenta", "bright_green")


def run_name(slug: str, run: Run, *, several_tasks: bool) -> str:
    return f"{slug} {model_of(run)}" if several_tasks else model_of(run)


class Prefixes:
    """`model | ` in front of the log lines of several runs, in a color for each run.

    With `several_tasks` the task comes first. Runs of the same name are told apart by their ids.
    """

    def __init__(self, *, several_tasks: bool = False) -> None:
        self._several_tasks = several_tasks
        self._names: dict[int, str] = {}
        self._prefixes: dict[int, str] = {}

    def add(self, *runs: Run) -> None:
        """Add runs that will have lines: all names are padded to the same width."""
        for run in runs:
            name = run_name(run.task_slug.task_slug, run, several_tasks=self._several_tasks)
            self._names.setdefault(run.id, name)
        times = Counter(self._names.values())
        names = {
            run_id: f"{name} #{run_id}" if times[name] > 1 else name for run_id, name in self._names.items()
        }
        width = max(map(len, names.values()), default=0)
        self._prefixes = {
            run_id: click.style(f"{name:<{width}} |", fg=_COLORS[number % len(_COLORS)])
            for number, (run_id, name) in enumerate(names.items())
        }

    def line(self, run: Run, line: str) -> str:
        if run.id not in self._prefixes:
            self.add(run)
        return f"{self._prefixes[run.id]} {line}"
