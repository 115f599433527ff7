"""`fanbench tasks publish`."""

from __future__ import annotations

import click

from fanbench.cli.command import Settings, command
from fanbench.cli.options import task_names_argument
from fanbench.cli.session import call

__all__ = ["publish"]


@command()
@task_names_argument
@click.option(
    "--publish-backing-notebook/--no-publish-backing-notebook",
    "notebook",
    default=True,
    help="Also publish the notebook behind the task (default), or leave it private.",
)
def publish(settings: Settings, task_names: tuple[str, ...], notebook: bool) -> None:
    """Make tasks public, together with the notebooks behind them.

    Publishing a task that is already public changes nothing.

    \b
    Examples:
      fanbench tasks publish my-task
      fanbench tasks publish my-task --no-publish-backing-notebook
      fanbench tasks publish first-task second-task
    """
    from fanbench.cli.views.publish import show_published
    from fanbench.operations.publish import publish_tasks

    outcomes = call(settings, lambda client: publish_tasks(client, task_names, publish_notebook=notebook))
    show_published(settings.output, outcomes)
