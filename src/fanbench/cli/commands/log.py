"""`fanbench tasks log`, also `logs`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from fanbench.cli.command import Settings, command
from fanbench.cli.options import FOLDER, model_option, task_names_argument, value_option, version_option
from fanbench.cli.session import call

__all__ = ["log"]

#: Seconds for which a call that fails is repeated.
PATIENCE = 20.0


@command()
@task_names_argument
@version_option
@model_option("Show only the logs of runs on this model, or on those that match a pattern. Repeatable.")
@click.option(
    "--interleave/--no-interleave",
    default=None,
    help="Show all live logs together, with the model in front of each line (default: on a terminal, if several "
    "runs are live).",
)
@click.option(
    "--raw",
    is_flag=True,
    help="Print the bytes of logs as they are. Otherwise what could act on a terminal is shown as an escape.",
)
@click.option("--follow", is_flag=True, help="Also wait for queued runs to start.")
@value_option("-o --output", "DIR", "Also save each complete log to DIR/TASK/VERSION/MODEL/RUN.log.", FOLDER)
def log(
    settings: Settings,
    task_names: tuple[str, ...],
    version: int | None,
    models: tuple[str, ...],
    interleave: bool | None,
    raw: bool,
    follow: bool,
    output: Path | None,
) -> None:
    """Show the logs of tasks' runs, live while a run is in progress.

    All logs are read concurrently, whichever is on the screen. A stream that breaks is resumed without losing or
    repeating a line. A queued run has no log yet; use --follow to wait for it.

    \b
    Examples:
      fanbench tasks log my-task
      fanbench tasks log my-task -m gemini-2.5-pro
      fanbench tasks log my-task --follow --interleave
      fanbench tasks log first-task second-task -q -o logs > /dev/null
    """
    from fanbench.cli.views.log import LogView
    from fanbench.operations.task_logs import show_logs

    if interleave is None and not (settings.output.for_people and sys.stdout.isatty()):
        interleave = False
    view = LogView(settings, several_tasks=len(set(task_names)) > 1, raw=raw)
    outcomes = call(
        settings,
        lambda client: show_logs(
            client,
            task_names,
            models,
            interleave=interleave,
            follow=follow,
            output=output,
            version=version or 0,
            emit=view.report,
        ),
        view.progress,
        patience=PATIENCE,
    )
    view.end(outcomes, output)
