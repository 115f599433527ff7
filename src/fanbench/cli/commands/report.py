"""`fanbench report DIR...`."""

from __future__ import annotations

from pathlib import Path

import click

from fanbench.cli.command import Settings, command
from fanbench.cli.options import PATH, against_options, value_option

__all__ = ["report"]


@command()
@click.argument("folders", nargs=-1, required=True, metavar="DIR...", type=PATH)
@value_option("-o --output", "FILE", "The file to write; - is stdout (default: report.html in DIR).", PATH)
@against_options
@click.option(
    "--no-details",
    is_flag=True,
    help="Leave out what was said in the runs, their logs, and the messages of errors.",
)
def report(
    settings: Settings,
    folders: tuple[Path, ...],
    output: Path | None,
    against: Path | None,
    margin: float,
    no_details: bool,
) -> None:
    """Write the results in DIR as one HTML file, to look at, to print or to send.

    The file needs nothing else, and requests nothing. It has a matrix of models and tasks, the leaderboard with its
    intervals, all runs with what was said in them, comparisons of models, cost and score, and how the sweep went.

    \b
    Examples:
      fanbench report ./results
      fanbench report ./results -o report.html --no-details
      fanbench report ./results --against ./last-week
    """
    from fanbench.cli.views.report import write_report

    write_report(settings, folders, output, against=against, margin=margin, details=not no_details)
