"""`fanbench queue`."""

from __future__ import annotations

import click

from fanbench.cli.command import Settings, command
from fanbench.cli.options import poll_interval_option
from fanbench.cli.session import call

__all__ = ["queue"]


@command()
@click.option("--watch", is_flag=True, help="Keep the numbers up to date until no run is queued or running.")
@poll_interval_option(10, "With --watch: the longest pause")
def queue(settings: Settings, watch: bool, poll_interval: float) -> None:
    """Show how many of your runs are queued and running, and how those of the last 24 hours ended.

    All your runs are counted, however they were scheduled: together, per model, and per benchmark. Runs of the
    benchmark `-` are those of tasks in no benchmark. Limits are those of the server's queue, for all its users.

    With --watch, the numbers stay on the screen until no run is queued or running. Without a terminal, each change is a
    line on stderr, and the final numbers are printed at the end.

    \b
    Examples:
      fanbench queue
      fanbench queue --watch
      fanbench queue --format json
    """
    from fanbench.cli.views.queue import show_changes, show_queue
    from fanbench.operations.queue import fetch_queue

    found = show_changes(settings, poll_interval) if watch else call(settings, fetch_queue)
    show_queue(settings.output, found)
