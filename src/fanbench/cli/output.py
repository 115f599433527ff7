"""How results are printed: data to stdout, everything else to stderr.

To add an output format, write a function that prints records, and add a line to FORMATS.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from fanbench._util import text
from fanbench._util.text import align_rows, draw_table, error_in_one_line, one_line
from fanbench.cli.redact import redact
from fanbench.errors import UsageError

if TYPE_CHECKING:
    from fanbench.results.display import Display, Table
    from fanbench.results.frames import Frame

__all__ = [
    "FORMATS",
    "STDOUT",
    "TEXT_FORMATS",
    "Fields",
    "Format",
    "Output",
    "bold",
    "format_size",
    "format_time",
    "iso_time",
    "red",
    "split_table",
]

T = TypeVar("T")
Record = Mapping[str, Any]
#: The fields of a record, each with how it is read from an item.
Fields = Mapping[str, Callable[[T], Any]]

# --- Formats --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Format:
    """An output format.

    `write` prints records given the names of their fields, and whether one thing was asked for rather than a list.
    `for_people`: each command prints tables and sentences, and no records. `nested`: records contain lists of
    records, rather than being flattened to the innermost. `tabular`: a table is printed as it is. `streams`: events
    are printed as they happen. `binary`: only the commands that say so have it.
    """

    write: Callable[[Sequence[Record], Sequence[str], bool], None]
    for_people: bool = False
    nested: bool = False
    tabular: bool = False
    streams: bool = False
    binary: bool = False


def _write_json(records: Sequence[Record], fields: Sequence[str], single: bool) -> None:
    if single:
        records = records[:1]
    for document in records if single else [list(records)]:
        click.echo(json.dumps(document, ensure_ascii=False, indent=2))


def _write_jsonl(records: Sequence[Record], fields: Sequence[str], single: bool) -> None:
    for record in records:
        click.echo(json.dumps(record, ensure_ascii=False))


def _write_csv(records: Sequence[Record], fields: Sequence[str], single: bool) -> None:
    import csv

    names = list(fields) or list(records[0] if records else [])
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(names)
    for record in map(error_in_one_line, records):
        cells = [record.get(name) for name in names]
        # Lists and objects as JSON, so that a CSV contains what the other formats contain.
        writer.writerow(
            [
                json.dumps(cell, ensure_ascii=False) if isinstance(cell, list | tuple | dict | bool) else cell
                for cell in cells
            ]
        )


FORMATS: Mapping[str, Format] = {
    "table": Format(lambda records, fields, single: None, for_people=True),
    "json": Format(_write_json, nested=True),
    "jsonl": Format(_write_jsonl, streams=True),
    "csv": Format(_write_csv, tabular=True),
    "parquet": Format(lambda records, fields, single: None, binary=True),
}
#: As the name of a file, it stands for stdout.
STDOUT = Path("-")
#: The formats of all commands.
TEXT_FORMATS = tuple(name for name, each in FORMATS.items() if not each.binary)


class Output:
    """The output of one command, in the format that the user asked for."""

    def __init__(self, format: str = "table", *, quiet: bool = False, no_color: bool = False) -> None:  # noqa: A002
        self.format = FORMATS[format]
        self.quiet = quiet
        self._no_color = no_color

    @property
    def for_people(self) -> bool:
        """Whether tables and sentences are printed, rather than records."""
        return self.format.for_people

    def records(self, records: Sequence[Record], fields: Sequence[str] = (), *, single: bool = False) -> None:
        """Print records to stdout; nothing where people read. `fields` are the columns of a CSV.

        With `single`, one thing was asked for, and JSON is an object rather than a list.
        """
        # Servers may repeat our credentials in an error; everything else is data, and stays as it is.
        safe = [
            {**record, "error": redact(error)} if isinstance(error := record.get("error"), str) else record
            for record in records
        ]
        self.format.write(safe, fields, single)

    def items(self, items: Iterable[T], fields: Fields[T]) -> None:
        """Print one record per item to stdout; nothing where people read."""
        self.records([{name: read(item) for name, read in fields.items()} for item in items], tuple(fields))

    def parquet(self, frame: Frame, file: Path | None) -> None:
        """Write a table as Parquet to `file`, which it replaces when it is complete, or to stdout.

        Raises:
            UsageError: pyarrow is not installed.
            OutputError: The file cannot be written.
        """
        try:
            content = frame.to_parquet()
        except ImportError as error:
            raise UsageError(
                f"{error.name} is not installed.", hint=f"Run `pip install {error.name}`."
            ) from None
        if file is None:
            click.echo(content, nl=False)
            return
        from fanbench._util import files  # It imports anyio, which `--help` does without.

        with files.output_errors(f"write {file}"):
            files.write(file, content)

    def text(self, text: str = "", *, end: bool = True) -> None:
        """Print a line of data for people to stdout; nothing where programs read."""
        if self.for_people:
            click.echo(text, nl=end)

    def table(self, header: Sequence[str], rows: Sequence[Sequence[str]], widths: Sequence[int] = ()) -> None:
        """Print a table for people to stdout."""
        for line in draw_table(header, rows, widths):
            self.text(line)

    def rows(self, rows: Sequence[Sequence[str]], widths: Sequence[int] = (), *, gap: str = " ") -> None:
        """Print aligned rows for people to stdout: those of a table that grows, or of one without a header."""
        for line in align_rows(rows, widths, gap=gap):
            self.text(line)

    def tables(self, tables: Sequence[Table], *, split: bool = False) -> None:
        """Print tables of results for people: with lines and colors on a terminal.

        `split` prints one that is wider than the terminal as several.
        """
        if not sys.stdout.isatty():
            self.text("\n\n".join(table.plain() for table in tables))
            return
        from shutil import get_terminal_size

        from rich.console import Console
        from rich.table import Table as RichTable
        from rich.text import Text

        if split:
            width = get_terminal_size().columns
            tables = [part for table in tables for part in split_table(table, width)]
        console = Console(no_color=self._no_color or None, highlight=False)
        for table in tables:
            shown = RichTable(*map(one_line, table.header))
            for label, *cells in table.rows:
                values = (Text(one_line(cell), style=_cell_style(cell)) for cell in cells)
                shown.add_row(Text(one_line(label)), *values)
            console.print(shown)

    def display(self, display: Display) -> None:
        """Print the tables and the sentences of a result; where programs read, only what it leaves out, to stderr."""
        if self.for_people and display.tables:
            self.tables(display.tables)
            self.text()
            for sentence in display.legend:
                self.text(one_line(sentence))
        for sentence in display.remarks:
            self.remark(sentence)

    def remark(self, sentence: str) -> None:
        """Print what belongs to a result: below its table for people, and to stderr beside records."""
        if self.for_people:
            self.text(one_line(sentence))
        else:
            self.note(one_line(sentence))

    def note(self, text: str = "") -> None:
        """Print a message to stderr, unless the user asked for quiet."""
        if not self.quiet:
            click.echo(redact(text), err=True)

    def warn(self, text: str, *details: str) -> None:
        """Print a warning to stderr, even if the user asked for quiet."""
        click.echo(click.style(f"⚠ Warning: {redact(text)}", fg="yellow", bold=True), err=True)
        for detail in details:
            click.echo(click.style(f"  {detail}", fg="yellow"), err=True)


# --- What is in a cell ------------------------------------------------------------------------------------------


def split_table(table: Table, width: int | None) -> Iterator[Table]:
    """Yield `table` as tables that are at most `width` columns wide on a terminal, each with the first column."""
    from fanbench.results.display import Table

    # Each column has a line and two spaces around it.
    widths = [max(map(len, column)) + 3 for column in zip(table.header, *table.rows, strict=True)]
    left = list(range(1, len(widths)))
    while left:
        shown = [0, left.pop(0)]
        while left and (width is None or 1 + sum(widths[at] for at in (*shown, left[0])) <= width):
            shown.append(left.pop(0))
        yield Table(
            tuple(table.header[at] for at in shown),
            tuple(tuple(row[at] for at in shown) for row in table.rows),
        )


def _cell_style(cell: str) -> str:
    if cell.startswith("✓"):
        return "green"
    return "red" if cell.startswith(("✗", "errored")) else ""


def bold(text: str) -> str:
    return click.style(text, bold=True)


def red(text: str, *, strong: bool = False) -> str:
    return click.style(text, fg="red", bold=strong or None)


def format_time(time: datetime | None) -> str:
    """To the second; empty for None."""
    return time.strftime("%Y-%m-%d %H:%M:%S") if time else ""


def iso_time(time: datetime | None) -> str | None:
    """As `fanbench._util.text.iso_time`; None for None."""
    return text.iso_time(time) if time else None


def format_size(size: int | None) -> str:
    """`512B`, `1.06KB`, `2.34MB`; empty for None."""
    if size is None:
        return ""
    if size < 1024:
        return f"{size}B"
    amount = float(size)
    for unit in ("KB", "MB", "GB"):
        amount /= 1024
        if amount < 1024:
            return f"{amount:.2f}{unit}"
    return f"{amount / 1024:.2f}TB"
