"""How things look: tables as the vendor prints them, JSON, CSV; data to stdout, all else to stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import click

from fanbench._util.text import as_utc
from fanbench.cli.redact import hidden

__all__ = ["Output", "bold", "format_size", "format_time", "iso_time", "red", "table", "yellow"]


class Output:
    """One command's output in the `format` that the user asked for."""

    def __init__(self, format: str = "table", *, quiet: bool = False) -> None:  # noqa: A002 - the flag's name
        self.format = format
        self.quiet = quiet

    @property
    def plain(self) -> bool:
        """For people: tables and sentences, rather than for programs."""
        return self.format == "table"

    def text(self, text: str = "", *, end: bool = True) -> None:
        """Data for people, to stdout; nothing where programs read it."""
        if self.plain:
            click.echo(text, nl=end)

    def note(self, text: str = "") -> None:
        """What is good to know, to stderr."""
        if not self.quiet:
            click.echo(hidden(text), err=True)

    def warn(self, text: str, *details: str) -> None:
        click.echo(click.style(f"⚠ Warning: {hidden(text)}", fg="yellow", bold=True), err=True)
        for detail in details:
            click.echo(click.style(f"  {detail}", fg="yellow"), err=True)

    def record(self, record: Mapping[str, Any]) -> None:
        """One thing for programs."""
        if self.format == "json":
            click.echo(json.dumps(_safe(record), ensure_ascii=False, indent=2))
        else:
            self.rows([record])

    def one_or_rows(self, records: Sequence[Mapping[str, Any]], fields: Sequence[str], *, one: bool) -> None:
        """For programs, what was asked of `one` thing (then an object in JSON), or of several (a list)."""
        if not one or self.format != "json":
            self.rows(records, fields)
        elif records:
            self.record(records[0])

    def rows(self, rows: Sequence[Mapping[str, Any]], fields: Sequence[str] = ()) -> None:
        """A list for programs. `fields` name the columns of a CSV, also of an empty one."""
        match self.format:
            case "json":
                click.echo(json.dumps([_safe(row) for row in rows], ensure_ascii=False, indent=2))
            case "jsonl":
                for row in rows:
                    click.echo(json.dumps(_safe(row), ensure_ascii=False))
            case "csv":
                _csv([_safe(row) for row in rows], fields)
            case _:
                pass


def _safe(record: Mapping[str, Any]) -> dict[str, Any]:
    """A server may say our credentials back in an error; all else is data, and stays as it is."""
    error = record.get("error")
    return {**record, "error": hidden(error)} if isinstance(error, str) else dict(record)


def _csv(rows: Sequence[Mapping[str, Any]], fields: Sequence[str]) -> None:
    import csv

    names = list(fields) or list(rows[0] if rows else [])
    writer = csv.DictWriter(sys.stdout, names, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: _cell(row.get(name)) for name in names})


def _cell(value: object) -> object:
    """Lists and objects as JSON, so that a CSV holds what the other formats hold."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict | bool) else value


def table(headers: Sequence[str], rows: Sequence[Sequence[str]], least: Sequence[int]) -> list[str]:
    """Aligned lines under a ruled header; no column is narrower than its `least` width."""
    columns = list(zip(headers, *rows, strict=True))
    widths = [max(low, *map(len, column)) for low, column in zip(least, columns, strict=True)]
    ruled = ["─" * width for width in widths]
    return [_line(cells, widths) for cells in (headers, ruled, *rows)]


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return " ".join(f"{cell:<{width}}" for cell, width in zip(cells, widths, strict=True)).rstrip()


def bold(text: str) -> str:
    return click.style(text, bold=True)


def red(text: str, *, strong: bool = False) -> str:
    return click.style(text, fg="red", bold=strong or None)


def yellow(text: str) -> str:
    return click.style(text, fg="yellow")


def format_time(time: datetime | None) -> str:
    """To the second; empty where there is none."""
    return time.strftime("%Y-%m-%d %H:%M:%S") if time else ""


def iso_time(time: datetime | None) -> str | None:
    """For programs: ISO 8601, UTC."""
    if time is None:
        return None
    return as_utc(time).astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def format_size(size: int | None) -> str:
    """`512B`, `1.06KB`, `2.34MB`; empty where there is none."""
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
