"""What `fanbench results` shows."""

from __future__ import annotations

from fanbench.cli.output import Output
from fanbench.results import FIELDS, Item, ResultSet, Table, table, to_record, usage_table

__all__ = ["FIELDS", "ITEM_FIELDS", "show_items", "show_results"]

ITEM_FIELDS = Item.__struct_fields__


def show_results(out: Output, found: ResultSet, *, every: bool) -> None:
    """Show tables, or records."""
    rows = [run for run in found.runs if every or not run.superseded]
    out.records([to_record(row) for row in rows], FIELDS)
    if out.for_people:
        # What was made again has been paid for as well.
        out.tables((table(found, every=every), usage_table(found.runs)))


def show_items(out: Output, found: ResultSet, *, every: bool) -> None:
    """Show the items in a table, or all that is known of them as records."""
    items = [item for item in found.items if every or not item.superseded]
    out.records([{name: getattr(item, name) for name in ITEM_FIELDS} for item in items], ITEM_FIELDS)
    if out.for_people:
        header = ("task", "version", "model", "repeat", "item", "state", "value", "error")
        out.tables([Table(header, tuple(map(_item_row, items)))])


def _item_row(item: Item) -> tuple[str, ...]:
    version = "" if item.version is None else f"v{item.version}"
    value = "" if item.value is None else f"{item.value:.4g}"
    told = (version, item.model, str(item.repeat), item.item, item.state.value.replace("_", " "), value)
    return (item.task, *told, item.error or "")
