"""Times, lines and tables of text."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

__all__ = ["as_utc", "draw_table", "last_line"]


def as_utc(time: datetime) -> datetime:
    """Return `time` with a time zone: one without is UTC, as in the API's answers."""
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def last_line(text: str, default: str = "") -> str:
    """Return the last line that is not blank, such as the message at the end of a traceback."""
    lines = text.strip().splitlines()
    return lines[-1].strip() if lines else default


def draw_table(
    header: Sequence[str], rows: Sequence[Sequence[str]], widths: Sequence[int] = (), *, ruled: bool = True
) -> list[str]:
    """Return the lines of a table: columns are aligned, and none is narrower than in `widths`.

    A table is `ruled` below its header; without the rule, columns are two spaces apart.
    """
    columns = zip(header, *rows, strict=True)
    least = widths or [0] * len(header)
    widths = [max(low, *map(len, column)) for low, column in zip(least, columns, strict=True)]
    lines = [header, ["─" * width for width in widths], *rows] if ruled else [header, *rows]
    gap = " " if ruled else "  "
    return [
        gap.join(f"{cell:<{width}}" for cell, width in zip(cells, widths, strict=True)).rstrip()
        for cells in lines
    ]
