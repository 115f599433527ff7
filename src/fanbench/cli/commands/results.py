"""`fanbench results DIR...`."""

from __future__ import annotations

from pathlib import Path

import click

from fanbench.cli.command import Settings, command
from fanbench.cli.options import PATH

__all__ = ["results"]


@command()
@click.argument("folders", nargs=-1, required=True, metavar="DIR...", type=PATH)
@click.option(
    "--all", "every", is_flag=True, help="Show every run by itself, also those that were made again."
)
@click.option(
    "--items",
    is_flag=True,
    help="Show the items that runs are made of: rows, sub-runs, or the runs themselves.",
)
def results(settings: Settings, folders: tuple[Path, ...], every: bool, items: bool) -> None:
    """Tabulate the results in the run files below DIR: tasks by models, then what each model used.

    ✓ and ✗ mean passed and failed, followed by the assertions that held. A number is the mean over the items of the
    task and all repeats. ± is the interval that the task reported, [LOW, HIGH] the 95% confidence interval that
    fanbench computes. 3/4 means that 3 of 4 items have a score: the others errored, have no value, or left nothing.

    \b
    Examples:
      fanbench results ./results
      fanbench results ./results --all --format csv > runs.csv
      fanbench results ./results --items --format jsonl > items.jsonl
    """
    from fanbench.cli.folders import read_folders
    from fanbench.cli.views.results import show_items, show_results

    found = read_folders(settings, folders)
    if items:
        show_items(settings.output, found, every=every)
    else:
        show_results(settings.output, found, every=every)
