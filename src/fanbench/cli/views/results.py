"""What `fanbench results` shows."""

from __future__ import annotations

import click

from fanbench.cli.output import Output
from fanbench.results import FIELDS, NoResults, ResultSet, table, to_record, usage_table

__all__ = ["FIELDS", "show_results"]


def show_results(out: Output, found: ResultSet, *, every: bool) -> None:
    for problem in found.problems:
        click.echo(f"Skipped {problem.path}: {problem.what}", err=True)
    if not found.runs:
        raise NoResults(
            "No run files found.", hint="Run `fanbench tasks download TASK -o DIR` to download some."
        )
    rows = found.runs if every else found.newest()
    out.records([to_record(row) for row in rows], FIELDS)
    if out.for_people:
        out.tables((table(rows), usage_table(rows)))
