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
    "--all", "every", is_flag=True, help="Include every run, not only the newest per task and model."
)
def results(settings: Settings, folders: tuple[Path, ...], every: bool) -> None:
    """Tabulate the results in the run files below DIR: tasks by models, then what each model used.

    ✓ and ✗ mean passed and failed, followed by the assertions that held; ± is the interval that a task reported.

    \b
    Examples:
      fanbench results ./results
      fanbench results ./results --all --format csv > runs.csv
    """
    from fanbench.cli.folders import read_folders
    from fanbench.cli.views.results import show_results

    show_results(settings.output, read_folders(settings, folders), every=every)
