"""What `fanbench results` shows."""

from __future__ import annotations

from fanbench.cli.output import Output
from fanbench.results import FIELDS, ResultSet, table, to_record, usage_table

__all__ = ["FIELDS", "show_results"]


def show_results(out: Output, found: ResultSet, *, every: bool) -> None:
    """Show tables, or records."""
    rows = [run for run in found.runs if every or not run.superseded]
    out.records([to_record(row) for row in rows], FIELDS)
    if out.for_people:
        # What was made again has been paid for as well.
        out.tables((table(found, every=every), usage_table(found.runs)))
