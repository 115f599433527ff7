"""What `fanbench results` shows."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from fanbench.cli.output import Output
from fanbench.results import FIELDS, NoResults, ResultSet, table, to_record, usage_table

__all__ = ["FIELDS", "show_results"]


def show_results(out: Output, found: ResultSet, *, every: bool, sweep: Path | None = None) -> None:
    """Show tables, or records. `sweep` is one of the folders, if it holds a sweep that is not running.

    Raises:
        NoResults: There are no run files. The hint continues the sweep, or names the command that downloads some.
    """
    for problem in found.problems:
        click.echo(f"Skipped {problem.path}: {problem.what}", err=True)
    if not found.runs:
        hint = "Run `fanbench tasks download TASK -o DIR` to download some."
        if sweep is not None:
            hint = f"Run `fanbench sweep -o {shlex.quote(str(sweep))}` to continue the sweep."
        raise NoResults("No run files found.", hint=hint)
    rows = found.runs if every else found.newest()
    out.records([to_record(row) for row in rows], FIELDS)
    if out.for_people:
        out.tables((table(rows), usage_table(rows)))
