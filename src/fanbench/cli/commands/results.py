"""`fanbench results DIR…`: a table of tasks and models from downloaded run files."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fanbench.cli.command import Settings, Verb, pass_settings

if TYPE_CHECKING:
    from fanbench.results import ResultSet, Table

__all__ = ["print_tables", "results"]


@click.command(cls=Verb)
@click.argument("folders", nargs=-1, required=True, metavar="DIR…", type=click.Path(path_type=Path))
@click.option("--all", "every", is_flag=True, help="Every run, not only the newest of a task and a model.")
@pass_settings
def results(settings: Settings, folders: tuple[Path, ...], every: bool) -> None:
    """Make a table of the run files below DIR: tasks by models, then what each model used.

    ✓ and ✗ stand for passed and failed, with the assertions that held; ± for the interval that a task gave.

    \b
    Examples:
      fanbench results ./results
      fanbench results ./results --all --format csv > runs.csv
    """
    from fanbench.results import FIELDS, read_results, table, to_record, usage_table

    found = read_results(folders)
    _say_problems(found)
    rows = found.runs if every else found.newest()
    if settings.output.plain:
        print_tables((table(rows), usage_table(rows)), no_color=settings.no_color)
    else:
        settings.output.rows([to_record(row) for row in rows], FIELDS)


def _say_problems(found: ResultSet) -> None:
    from fanbench.results import NoResults

    for problem in found.problems:
        click.echo(f"skipped {problem.path}: {problem.what}", err=True)
    if not found.runs:
        raise NoResults("no run files found.", hint="`fanbench tasks download TASK -o DIR` fetches them.")


def print_tables(tables: Sequence[Table], *, no_color: bool) -> None:
    """To stdout: with lines and colours on a terminal, aligned by spaces elsewhere."""
    if sys.stdout.isatty():
        _print_rich(tables, no_color=no_color)
    else:
        click.echo("\n\n".join(each.plain() for each in tables))


def _print_rich(tables: Sequence[Table], *, no_color: bool) -> None:
    from rich.console import Console
    from rich.table import Table as RichTable
    from rich.text import Text

    console = Console(no_color=no_color or None, highlight=False)
    for each in tables:
        shown = RichTable(*each.header)
        for label, *cells in each.rows:
            shown.add_row(Text(label), *(Text(cell, style=_style(cell)) for cell in cells))
        console.print(shown)


def _style(cell: str) -> str:
    if cell.startswith("✓"):
        return "green"
    return "red" if cell.startswith(("✗", "errored")) else ""
