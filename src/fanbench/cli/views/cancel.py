"""What `fanbench tasks cancel` asks and shows."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import click

from fanbench._util.text import draw_table, first_few, many
from fanbench.cli.command import Settings
from fanbench.cli.exits import print_error
from fanbench.cli.output import bold, format_time
from fanbench.cli.progress import spinner
from fanbench.cli.prompts import confirm
from fanbench.cli.session import call, finish, split
from fanbench.cli.views.records import RUN_FIELDS, run_record
from fanbench.client import Client
from fanbench.errors import FanbenchError, RunFailed
from fanbench.operations.cancel import (
    CancelledRun,
    EarlierRuns,
    Outcome,
    cancel_runs,
    cancellable,
    earlier_runs,
)
from fanbench.operations.events import Event
from fanbench.operations.lookup import model_of
from fanbench.operations.status import TaskStatus, task_statuses
from fanbench.wire.messages import Run

__all__ = ["FIELDS", "CancelView"]

FIELDS = (*RUN_FIELDS, "outcome")

_LABELS: Mapping[Outcome, str] = {
    "cancelled": "cancelled",
    "ended": "ended before",
    "started": "started before",
    "left": "still there",
}
# With more runs that are left than this, the command to try again does not name them.
_NAMED = 20


@dataclass(frozen=True, slots=True)
class CancelView:
    """One invocation of `fanbench tasks cancel`."""

    settings: Settings
    task_names: Sequence[str]
    models: Sequence[str]
    run_ids: Sequence[int]
    version: int
    queued_only: bool

    def run(self, *, yes: bool, dry_run: bool) -> None:
        """Show what there is to cancel, ask, and cancel exactly that."""
        out, command = self.settings.output, self.settings.fanbench_command

        async def look(client: Client) -> tuple[list[TaskStatus | FanbenchError], list[EarlierRuns]]:
            found = await task_statuses(
                client, self.task_names, self.models, version=self.version, look_back=False
            )
            return found, [] if self.version else await earlier_runs(client, split(found)[0])

        outcomes, before = call(self.settings, look)
        statuses, errors = split(outcomes)
        for error in errors if len(outcomes) > 1 else ():
            print_error(error)
        for each in before:
            cancel = command(f"tasks cancel {each.slug} --version {each.version}")
            out.note(
                f"Version {each.version} of {each.slug} has {many(each.number, 'run')} in progress: {cancel}"
            )
        runs = cancellable(statuses, self.run_ids, queued_only=self.queued_only) if statuses else []
        if not runs and statuses:
            out.note("There are no runs to cancel.")
        if dry_run or not runs:
            for line in _table(runs):
                out.text(line)
            out.records([_record(run, None) for run in runs], FIELDS)
        else:
            self._cancel(runs, yes=yes)
        finish(errors, len(outcomes), "tasks")

    def _cancel(self, runs: Sequence[Run], *, yes: bool) -> None:
        out = self.settings.output
        if not yes:  # also with -q: the question is about it
            click.echo("\n".join(_table(runs)), err=True)
        if not confirm(f"Cancel {many(len(runs), 'run')}?", yes=yes, default=False):
            raise FanbenchError("Nothing was cancelled.")

        async def cancel(client: Client) -> list[CancelledRun]:
            with spinner(out, f"Cancelling {many(len(runs), 'run')}") as show:

                def report(event: Event) -> None:
                    show(event.text or "")

                return await cancel_runs(client, runs, queued_only=self.queued_only, emit=report)

        try:
            self._show(call(self.settings, cancel))
        except KeyboardInterrupt as interrupt:
            again = bold(self._again(runs))
            interrupt.add_note(f"Interrupted: some of the runs may be cancelled. To try again: {again}")
            raise

    def _show(self, done: Sequence[CancelledRun]) -> None:
        out = self.settings.output
        counts = Counter(each.outcome for each in done)
        parts = [
            f"{many(counts[outcome], 'run')} {label}" for outcome, label in _LABELS.items() if counts[outcome]
        ]
        out.text(", ".join(parts))
        out.records([_record(each.run, each.outcome) for each in done], FIELDS)
        if left := [each.run for each in done if each.outcome == "left"]:
            names = first_few([f"{model_of(run)} (Run {run.id})" for run in left])
            raise RunFailed(
                f"{many(len(left), 'run')} of {len(done)} could not be cancelled: {names}. "
                "The server cannot reach them, or they are somebody else's.",
                hint=f"To try again: {self._again(left)}",
            )

    def _again(self, runs: Sequence[Run]) -> str:
        """The command that cancels `runs`, if they are few, or else what was asked for."""
        words = [*self.task_names, *(["--version", str(self.version)] if self.version else [])]
        if len(runs) <= _NAMED:
            words += chain.from_iterable(("--run", str(run.id)) for run in runs)
        else:
            words += chain.from_iterable(("-m", model) for model in self.models)
        words += ["--queued-only"] if self.queued_only else []
        return self.settings.fanbench_command(f"tasks cancel {shlex.join(words)}")


def _table(runs: Sequence[Run]) -> list[str]:
    rows = [
        [
            run.task_slug.task_slug,
            model_of(run),
            str(run.id),
            run.state.label.title(),
            format_time(run.start_time),
        ]
        for run in runs
    ]
    return draw_table(["Task", "Model", "Run", "Status", "Started"], rows) if rows else []


def _record(run: Run, outcome: str | None) -> dict[str, Any]:
    return {**run_record(run.task_slug.task_slug, run), "outcome": outcome}
