"""Times, lines and tables of text, and what is safe to show of a text from elsewhere."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

__all__ = [
    "align_rows",
    "as_utc",
    "draw_table",
    "duration",
    "error_in_one_line",
    "error_line",
    "first_few",
    "in_terms_of_toml",
    "is_pattern",
    "iso_time",
    "last_line",
    "many",
    "neutralize",
    "one_line",
    "result_text",
    "without_surrogates",
]


def as_utc(time: datetime) -> datetime:
    """Return `time` with a time zone: one without is UTC, as in the API's answers."""
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def iso_time(time: datetime) -> str:
    """Return `time` as ISO 8601 in UTC, with milliseconds and a Z, as in `2026-01-31T12:00:00.000Z`."""
    return as_utc(time).astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def duration(seconds: float) -> str:
    """Return `45 s`, `20 min` or `3 h`, rounded up so that a wait of this length suffices."""
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{math.ceil(seconds / size):,} {unit}"
    return f"{math.ceil(seconds)} s"


def many(number: int, what: str) -> str:
    """Return `1 run`, `2 runs`, `1,000 runs`."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def result_text(result: float | bool | None, digits: int = 6) -> str:
    """Return `Pass`, `Fail`, a number with so many significant digits, or nothing for no result."""
    match result:
        case bool(passed):
            return "Pass" if passed else "Fail"
        case None:
            return ""
        case number:
            return f"{number:.{digits}g}"


def first_few(names: Sequence[str], most: int = 5) -> str:
    """Return `a, b and 3 more`: at most so many names, which must not be empty."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return f"{', '.join(names[:most])}{more}"


# The names that msgspec has for types.
_TYPES = {
    "`array`": "an array",
    "`bool`": "true or false",
    "`float`": "a number",
    "`int`": "an integer",
    "`null`": "nothing",
    "`object`": "a table",
    "`str`": "a string",
}


def in_terms_of_toml(said: str) -> str:
    """Return what msgspec says of a value with the words of TOML: `expected a table, got an integer`."""
    for name, words in _TYPES.items():
        said = said.replace(name, words)
    return said.replace("Expected", "expected").replace(" | ", " or ")


_SURROGATES = re.compile("[\ud800-\udfff]")


def without_surrogates(text: str) -> str:
    """Return `text` with U+FFFD for halves of surrogate pairs, which Python allows in a str, and UTF-8 does not."""
    return text if text.isascii() else _SURROGATES.sub("\ufffd", text)


def is_pattern(name: str) -> bool:
    """Whether `name` has wildcards of `fnmatch`, such as `*` and `google/gemini-*`, and may stand for several."""
    return any(sign in name for sign in "*?[")


def last_line(text: str, default: str = "") -> str:
    """Return the last line that is not blank, such as the message at the end of a traceback."""
    lines = text.strip().splitlines()
    return lines[-1].strip() if lines else default


# A frame of a traceback by Python, and by IPython.
_FRAME = re.compile(r'  File "|(?:Cell In|Input In )\s*\[\d+\]|File \S+:\d+, in ')
# What precedes the lines of an exception group, and the lines between its exceptions.
_GROUP = re.compile(r"^ *(?:\| ?|\+[-+ ].*-$|\+ (?=Exception Group))", re.MULTILINE)
_EXCEPTION = re.compile(r"(?:[A-Za-z_]\w*\.)*[A-Z]\w*(?::|$)")
_NAMED_ERROR = re.compile(r"(?:[A-Za-z_]\w*\.)*(?:[A-Z]\w*)?(?:Error|Exception|Exit|Interrupt|Timeout): ")


def error_line(text: str, default: str = "") -> str:
    """Return the line that names the exception in a traceback, or the last line that says something.

    The message of an exception may have several lines, of which the last says little: a link, or the edge of a box.
    """
    if "Exception Group Traceback" in text:
        text = _GROUP.sub("", text)
    lines = text.splitlines()
    frame = next((at for at in reversed(range(len(lines))) if _FRAME.match(lines[at])), None)
    if frame is not None:
        # Lines of code are indented by Python, and numbered by IPython.
        after = [line for line in lines[frame + 1 :] if line.strip() and not line[0].isspace()]
        if after:
            return next((line for line in after if _EXCEPTION.match(line)), after[0]).rstrip()
    named = next((line for line in reversed(lines) if _NAMED_ERROR.match(line)), None)
    if named is not None:
        return named.rstrip()
    return next(
        (line.strip() for line in reversed(lines) if any(map(str.isalnum, line))), last_line(text, default)
    )


def error_in_one_line(record: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return `record` with the `error_line` of its field `error`, if it has one: a traceback makes no cell."""
    error = record.get("error")
    return {**record, "error": error_line(error)} if isinstance(error, str) else record


# Colors and weights of text, without those that hide it.
_STYLE = (
    r"\x1b\[(?:[0-479]|2[1-9]|[34][0-79]|9[0-7]|10[0-7]|[34]8[;:](?:5[;:]\d{1,3}|2(?:[;:]\d{1,3}){3})|;)*m"
)
_UNSAFE = re.compile(
    rf"(?P<keep>{_STYLE}|\r\n)|[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


def neutralize(text: str) -> str:
    """Return `text` without anything that acts on a terminal; it may come from a server or from a file.

    What would move the cursor, change the title or reverse the direction of writing is shown as an escape such as
    `\\u001b`, which is also valid in JSON. Colors and line ends stay. A carriage return, after which a program
    writes its line again, becomes a line end.
    """
    return _UNSAFE.sub(lambda match: match["keep"] or ("\n" if match[0] == "\r" else _escape(match[0])), text)


def one_line(text: str) -> str:
    """Return `text` with an escape for everything that cannot be printed, also line ends: for the cell of a table."""
    return text if text.isprintable() else "".join(c if c.isprintable() else _escape(c) for c in text)


def _escape(character: str) -> str:
    return {"\n": r"\n", "\r": r"\r", "\t": " "}.get(character) or json.dumps(character)[1:-1]


def align_rows(
    rows: Sequence[Sequence[str]], widths: Sequence[int] = (), *, gap: str = "  ", ruled: bool = False
) -> list[str]:
    """Return the lines of a table: columns are aligned, and none is narrower than in `widths`.

    Cells are text from anywhere (see `one_line`). A table is `ruled` below its first row.
    """
    if not rows:
        return []
    rows = [[one_line(cell) for cell in row] for row in rows]
    least = widths or [0] * len(rows[0])
    widths = [max(low, *map(len, column)) for low, column in zip(least, zip(*rows, strict=True), strict=True)]
    lines = [rows[0], ["─" * width for width in widths], *rows[1:]] if ruled else rows
    return [
        gap.join(f"{cell:<{width}}" for cell, width in zip(cells, widths, strict=True)).rstrip()
        for cells in lines
    ]


def draw_table(header: Sequence[str], rows: Sequence[Sequence[str]], widths: Sequence[int] = ()) -> list[str]:
    """Return the lines of a table for people, with a rule below the header."""
    return align_rows([header, *rows], widths, gap=" ", ruled=True)
