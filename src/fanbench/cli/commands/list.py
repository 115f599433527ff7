"""`fanbench tasks list`."""

from __future__ import annotations

import click

from fanbench.cli.command import Command, Settings, pass_settings
from fanbench.cli.session import call

__all__ = ["list_"]


@click.command("list", cls=Command)
@click.option("--name-regex", metavar="REGEX", help="Only tasks whose names match.")
@click.option("--status", metavar="STATE", help="Only tasks in this state, such as completed or errored.")
@click.option("--page-size", type=click.IntRange(min=1), metavar="N", help="Tasks per page (default: 20).")
@click.option("--all", "show_all", is_flag=True, help="Show all tasks on one page.")
@pass_settings
def list_(
    settings: Settings, name_regex: str | None, status: str | None, page_size: int | None, show_all: bool
) -> None:
    """List your tasks and their states.

    On a terminal, tasks are shown page by page; elsewhere, all at once.

    \b
    Examples:
      fanbench tasks list
      fanbench tasks list --name-regex '^math' --status completed
      fanbench tasks list --format csv > tasks.csv
    """
    from fanbench import operations
    from fanbench.cli.views.list import show_tasks

    tasks = call(settings, lambda client: operations.list_tasks(client, regex=name_regex, status=status))
    show_tasks(
        settings, tasks, page_size=None if show_all else page_size or 20, filtered=bool(name_regex or status)
    )
