"""Read folders of results for a command, and say what could not be used."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

import click

from fanbench.cli.command import Settings
from fanbench.errors import NoResults
from fanbench.results import ResultSet

__all__ = ["how_to_look", "read_folders", "sweep_command"]


def sweep_command(folder: Path, *flags: str) -> str | None:
    """Return the command that continues the sweep in a folder; None if there is none."""
    if not (folder / ".fanbench").is_dir():
        return None
    return shlex.join(["fanbench", "sweep", "-o", str(folder), *flags])


def read_folders(settings: Settings, folders: Sequence[Path]) -> ResultSet:
    """Read all runs below `folders`. What is skipped, and sweeps that are running, is said on stderr.

    Raises:
        NoResults: There are no run files. The hint continues the sweep, or names the command that downloads some.
    """
    from fanbench.sweeps.results import read_results

    resume = None
    for folder in folders:
        if command := sweep_command(folder):  # otherwise the lock's module need not be imported
            from fanbench._util.lock import is_locked
            from fanbench.sweeps.folder import LOCK

            if is_locked(folder / LOCK):
                settings.output.note(f"A sweep is running in {folder}: these are its results so far.")
            else:
                resume = resume or command
    found = read_results(folders)
    for problem in found.problems:
        click.echo(str(problem), err=True)
    if not found.runs and not found.has_server_values:
        hint = "Run `fanbench tasks download TASK -o DIR` to download some."
        if resume is not None:
            hint = f"Run `{resume}` to continue the sweep."
        raise NoResults("No run files found.", hint=hint)
    return found


def how_to_look(folders: Sequence[Path]) -> str:
    """Return the sentence that ends a table of results."""
    view, report = (shlex.join(["fanbench", command, *map(str, folders)]) for command in ("view", "report"))
    return f"\nRun `{view}` to look at them in the browser, or `{report}` to write them as one file."
