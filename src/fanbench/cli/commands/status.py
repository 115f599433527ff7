"""`fanbench tasks status`."""

from __future__ import annotations

import click

from fanbench.cli.command import Settings, command
from fanbench.cli.options import model_option, poll_interval_option, task_names_argument, version_option
from fanbench.cli.session import call
from fanbench.errors import UsageError

__all__ = ["status"]


@command()
@task_names_argument
@version_option
@model_option("Show only the runs of this model, or of those that match a pattern. Repeatable.")
@click.option(
    "--results",
    is_flag=True,
    help="Show only the results that the server reports, in a table of tasks and models.",
)
@click.option("--watch", is_flag=True, help="Keep the status up to date until all runs have ended.")
@poll_interval_option(10, "With --watch: the longest pause")
def status(
    settings: Settings,
    task_names: tuple[str, ...],
    version: int | None,
    models: tuple[str, ...],
    results: bool,
    watch: bool,
    poll_interval: float,
) -> None:
    """Show the state of tasks and of their runs, with the last line of each error.

    With --watch, the status stays on the screen and is updated until every run has ended. Without a terminal, each
    change is a line on stderr, and the final status is printed at the end.

    With --results, nothing is downloaded: each cell has the results that the server reports for a model's runs, or the
    state of a run that has none. JSON and CSV have one record per run.

    \b
    Examples:
      fanbench tasks status my-task
      fanbench tasks status first-task second-task --watch
      fanbench tasks status first-task second-task --results
      fanbench tasks status owner/their-task -m gemini-2.5-pro
      fanbench tasks status my-task --format json
    """
    from fanbench.cli.views.status import show_changes, show_results, show_statuses
    from fanbench.operations.status import task_statuses

    if watch and version:
        raise UsageError("--watch follows the newest version of a task.", hint="Remove --version.")
    if watch:
        outcomes = show_changes(settings, task_names, models, poll_interval)
    else:
        outcomes = call(
            settings, lambda client: task_statuses(client, task_names, models, version=version or 0)
        )
    (show_results if results else show_statuses)(settings, outcomes)
