"""`fanbench tasks cancel`."""

from __future__ import annotations

import click

from fanbench.cli.command import Settings, command
from fanbench.cli.options import (
    AT_LEAST_1,
    model_option,
    task_names_argument,
    value_option,
    version_option,
    yes_option,
)

__all__ = ["cancel"]


@command()
@task_names_argument
@version_option
@model_option("Cancel only the runs on this model, or on those that match a pattern. Repeatable.")
@value_option(
    "--run run_ids", "ID", "Cancel only this run of the tasks. Repeatable.", AT_LEAST_1, multiple=True
)
@click.option("--queued-only", is_flag=True, help="Do not cancel runs that have begun.")
@click.option("--dry-run", is_flag=True, help="Show the runs without cancelling them.")
@yes_option
def cancel(
    settings: Settings,
    task_names: tuple[str, ...],
    version: int | None,
    models: tuple[str, ...],
    run_ids: tuple[int, ...],
    queued_only: bool,
    dry_run: bool,
    yes: bool,
) -> None:
    """Cancel your runs of tasks, queued or running.

    The server is asked again, for a minute, as long as its lists show any of the runs. The exit code is 1 if some are
    left after that. Cancelled runs are not listed any more.

    \b
    Examples:
      fanbench tasks cancel my-task
      fanbench tasks cancel first-task second-task -m 'gemini-*' --dry-run
      fanbench tasks cancel my-task --queued-only -y
      fanbench tasks cancel my-task --run 4711
    """
    from fanbench.cli.views.cancel import CancelView

    view = CancelView(settings, task_names, models, run_ids, version=version or 0, queued_only=queued_only)
    view.run(yes=yes, dry_run=dry_run)
