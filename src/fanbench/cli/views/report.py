"""What `fanbench report` writes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from fanbench._util import files
from fanbench._util.files import output_errors
from fanbench.cli.command import Settings
from fanbench.cli.folders import read_folders
from fanbench.cli.output import STDOUT, format_size
from fanbench.cli.progress import spinner
from fanbench.errors import UsageError
from fanbench.view.report import report

__all__ = ["write_report"]


def write_report(
    settings: Settings,
    folders: Sequence[Path],
    output: Path | None,
    *,
    against: Path | None,
    margin: float,
    details: bool,
) -> None:
    """Write the report, completely or not at all, and say how to open it.

    Raises:
        UsageError: It needs a name, because what is given first is a file.
        NoResults: There are no run files.
        OutputError: It cannot be written.
    """
    if output is None and folders[0].is_file():
        raise UsageError(f"{folders[0]} is a file.", hint="Add -o FILE to say where the report goes.")
    found = read_folders(settings, folders)
    earlier = None if against is None else (against, read_folders(settings, [against]))
    with spinner(settings.output, "Writing the report"):
        text = report(folders, found, against=earlier, details=details, margin=margin)
    if output == STDOUT:
        click.echo(text, nl=False)
        return
    target = output or folders[0] / "report.html"
    with output_errors(f"write the report to {target}"):
        files.make_folders(target.parent)
        files.write(target, text)
    how = f" To see it, open {target.resolve().as_uri()} in a browser." if target.is_file() else ""
    settings.output.note(f"Wrote {target} ({format_size(len(text))}).{how}")
