"""What `fanbench results` shows."""

from __future__ import annotations

from pathlib import Path

from fanbench.cli.output import Output
from fanbench.cli.views.plot import plot_lines
from fanbench.results import FIELDS, Item, ResultSet, Table, to_record, usage_table
from fanbench.results.frames import frame_of_items, frame_of_runs
from fanbench.results.selection import Selection
from fanbench.results.table import MADE_AGAIN, table

__all__ = ["FIELDS", "ITEM_FIELDS", "show_items", "show_results"]

ITEM_FIELDS = Item.__struct_fields__


def show_results(
    out: Output, found: ResultSet, only: Selection, *, every: bool, file: Path | None, plot: bool = False
) -> None:
    """Show tables, or records; write Parquet to `file`. For people, also `plot` the intervals of the leaderboard."""
    for run in found.runs:
        if run.contradicted and only.has(run.task, run.full_model):
            out.warn(run.contradiction)
    if out.for_people:
        _show_tables(out, found, only, every=every)
        if plot:
            out.text()
            for line in plot_lines([row for row in found.leaderboard().models if only.has_model(row.model)]):
                out.text(line)
        return
    # Of many results, the items that failed take long to read, and tables do without them.
    runs = only.runs(found.runs, found.items, found.scales, every=every)
    if out.format.binary:
        out.parquet(frame_of_runs(runs), file)
    else:
        out.records([to_record(run) for run in runs], FIELDS)


def _show_tables(out: Output, found: ResultSet, only: Selection, *, every: bool) -> None:
    shown = table(found.scores(), found.runs, every=every, only=only)
    if not shown.rows:
        out.note("There are no such results.")
    # What was made again has been paid for as well.
    used = [run for run in found.runs if only.has(run.task, run.full_model)]
    out.tables((*([shown] if shown.rows else []), usage_table(used, only)))


def show_items(out: Output, found: ResultSet, only: Selection, *, every: bool, file: Path | None) -> None:
    """Show the items in a table, or all that is known of them as records; write Parquet to `file`."""
    items = only.items(found.items, found.scales, every=every)
    if out.format.binary:
        out.parquet(frame_of_items(items), file)
        return
    out.records([{name: getattr(item, name) for name in ITEM_FIELDS} for item in items], ITEM_FIELDS)
    if out.for_people:
        if not items:
            out.note("There are no such results.")
        header = ("task", "version", "model", "repeat", "item", "state", "value", "error")
        out.tables([Table(header, tuple(map(_item_row, items)))])


def _item_row(item: Item) -> tuple[str, ...]:
    version = "" if item.version is None else f"v{item.version}"
    value = "" if item.value is None else f"{item.value:.4g}"
    state = item.state.value.replace("_", " ") + MADE_AGAIN * item.superseded
    told = (version, item.model, str(item.repeat), item.item, state, value)
    return (item.task, *told, item.error or "")
