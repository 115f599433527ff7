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
    from fanbench.cli.views.results import show_results
    from fanbench.sweeps.results import read_results

    sweep = None
    for folder in folders:
        if (folder / ".fanbench").is_dir():  # otherwise the lock's module need not be imported
            from fanbench._util.lock import is_locked
            from fanbench.sweeps.folder import LOCK

            if is_locked(folder / LOCK):
                settings.output.note(f"A sweep is running in {folder}: these are its results so far.")
            else:
                sweep = sweep or folder
    show_results(settings.output, read_results(folders), every=every, sweep=sweep)
