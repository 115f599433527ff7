"""`fanbench tasks download`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fanbench.cli.command import Settings, Verb, model_option, pass_settings
from fanbench.cli.exits import say_error
from fanbench.cli.output import format_size, table
from fanbench.cli.session import call, finish
from fanbench.errors import FanbenchError, RunFailed

if TYPE_CHECKING:
    from fanbench.operations import DownloadReport, DownloadRow
    from fanbench.operations.events import Event
    from fanbench.wire.messages import Run

__all__ = ["download"]


@click.command(cls=Verb)
@click.argument("task_names", nargs=-1, required=True, metavar="TASK...")
@model_option("Only the runs of this model; repeat it for several.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    default=Path(),
    metavar="DIR",
    help="Where the task's folder is made (default: here).",
)
@click.option("-s", "--include-source", is_flag=True, help="The notebooks, too.")
@click.option("-f", "--force", is_flag=True, help="Also what is there already.")
@pass_settings
def download(
    settings: Settings,
    task_names: tuple[str, ...],
    models: tuple[str, ...],
    output: Path,
    include_source: bool,
    force: bool,
) -> None:
    """Download the outputs of all ended runs of tasks at once, to DIR/TASK/VERSION/MODEL/RUN/.

    A run that fails ends none of the others, and never harms a good copy from before.

    \b
    Examples:
      fanbench tasks download my-task
      fanbench tasks download my-task -o runs -m gemini-2.5-pro
      fanbench tasks download my-task -f -s
      fanbench tasks download first-task second-task
    """
    from fanbench import operations

    view = _View(settings, several=len(set(task_names)) > 1)
    outcomes = call(
        settings,
        lambda client: view.display.around(
            operations.download_tasks(
                client,
                task_names,
                models,
                output=output,
                include_source=include_source,
                force=force,
                report=view.report,
            )
        ),
    )
    view.end(outcomes, models)


class _View:
    """The table grows row by row, so its widths are those of the list of runs."""

    def __init__(self, settings: Settings, *, several: bool) -> None:
        from fanbench.cli.progress import Display
        from fanbench.cli.views.waiting import DownloadRows

        self.display = Display(settings.output, what="runs")
        self._rows = DownloadRows(self.display, several_tasks=several)
        self._settings = settings
        self._out = settings.output
        self._several = several
        self._widths = (0, 0, 0, 0)

    def report(self, event: Event) -> None:
        from fanbench.operations.download import DownloadsBegan, RowDone
        from fanbench.operations.events import TaskFailed

        self._rows.report(event)
        match event:
            case DownloadsBegan(_, folder, runs):
                self._out.note(f"{self._gap()}{event.text}\nTarget directory:  {folder}/\n")
                self._begin(runs)
            case RowDone(row):
                self._line((row.model, _file(row), format_size(row.size), row.outcome))
                if row.error is not None:
                    self._out.note(f"  {row.error}")
            case TaskFailed(_, error) if self._several:
                say_error(error)
            case _:
                pass

    def _gap(self) -> str:
        """Between the tables of two tasks."""
        return "\n" if any(self._widths) else ""

    def _begin(self, runs: Sequence[Run]) -> None:
        from fanbench.operations.lookup import model_of

        models = [model_of(run) for run in runs]
        files = [f"{model}/{run.id}/" for model, run in zip(models, runs, strict=True)]
        self._widths = (max(20, *map(len, models)), max(40, *map(len, files)), 10, 10)
        for line in table(("Model", "File", "Size", "Progress"), [], self._widths):
            self._out.text(line)

    def _line(self, cells: tuple[str, str, str, str]) -> None:
        *_, line = table(("", "", "", ""), [cells], self._widths)
        self._out.text(line)

    def end(self, outcomes: Sequence[DownloadReport | FanbenchError], models: Sequence[str]) -> None:
        errors = [outcome for outcome in outcomes if isinstance(outcome, FanbenchError)]
        reports = [outcome for outcome in outcomes if not isinstance(outcome, FanbenchError)]
        for report in reports:
            if not report.rows:
                self._say_nothing_there(report, models)
        self._out.rows([_record(report.slug, row) for report in reports for row in report.rows], _FIELDS)
        rows = [row for report in reports for row in report.rows]
        if reports:
            self._out.text(f"\nDone: {_summary(rows)}.")
        lacking = sum(row.lacks_source for row in rows)
        if lacking:
            self._out.note(
                f"\nTip: {lacking} cached run(s) lack source notebooks. Run again with -f -s to fetch them."
            )
        finish(errors, len(outcomes), "tasks")
        _refuse_failed(rows)

    def _say_nothing_there(self, report: DownloadReport, models: Sequence[str]) -> None:
        if report.pending:
            self._out.note(f"No downloadable runs yet — {report.pending} run(s) still in progress.")
            self._out.note(
                f"See how they go on with: {self._settings.command(f'tasks status {report.slug}')}"
            )
        else:
            of = f" for model(s) {', '.join(models)}" if models else ""
            self._out.note(f"No runs found for task '{report.slug}'{of}.")
            self._out.note(f"Start one with: {self._settings.command(f'tasks run {report.slug}')}")


def _file(row: DownloadRow) -> str:
    return f"{row.model}/{row.run.id}/"


def _summary(rows: Sequence[DownloadRow]) -> str:
    outcomes = [row.outcome for row in rows]
    counts = (
        (outcomes.count("Done"), "downloaded"),
        (outcomes.count("Cached"), "cached"),
        (sum(row.error is not None for row in rows), "failed"),
    )
    return ", ".join(f"{number} run(s) {word}" for number, word in counts if number) or "0 runs downloaded"


def _refuse_failed(rows: Sequence[DownloadRow]) -> None:
    failed = sum(row.error is not None for row in rows)
    if failed:
        raise RunFailed(
            f"{failed} of {len(rows)} run(s) could not be downloaded.",
            hint="What is there is kept; run the command again for the rest.",
        )


_FIELDS = ("task", "run_id", "model", "path", "size", "outcome", "error")


def _record(slug: str, row: DownloadRow) -> dict[str, Any]:
    return {
        "task": slug,
        "run_id": row.run.id,
        "model": row.model,
        "path": str(row.path),
        "size": row.size,
        "outcome": row.outcome,
        "error": str(row.error) if row.error else None,
    }
