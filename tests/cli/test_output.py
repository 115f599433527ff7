"""Tables, sizes, times and output formats."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from fanbench._util.text import draw_table
from fanbench.cli.output import Output, format_size, format_time, iso_time


def test_a_table_is_as_wide_as_its_widest() -> None:
    """A column is as wide as its widest cell and its least width, and lines do not end with spaces."""
    assert draw_table(("A", "B"), [("x", "long"), ("y", "")], (3, 1)) == [
        "A   B",
        "─── ────",
        "x   long",
        "y",
    ]


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (None, ""),
        (0, "0B"),
        (1023, "1023B"),
        (1024, "1.00KB"),
        (1536, "1.50KB"),
        (5 << 20, "5.00MB"),
        (1 << 40, "1.00TB"),
    ],
)
def test_sizes(size: int | None, text: str) -> None:
    """Sizes are printed as the Kaggle CLI prints them."""
    assert format_size(size) == text


def test_times() -> None:
    """Times are in seconds for people, and in UTC with a Z for programs."""
    time = datetime(2030, 1, 2, 3, 4, 5, 678000, tzinfo=timezone(timedelta(hours=1)))
    assert (format_time(None), iso_time(None)) == ("", None)
    assert iso_time(time) == "2030-01-02T02:04:05.678Z"
    assert format_time(time.astimezone(UTC)) == "2030-01-02 02:04:05"


ROWS: list[dict[str, Any]] = [{"a": 1, "b": "x,y", "c": ["p"]}, {"a": None, "b": "é", "c": []}]


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("table", ""),
        ("jsonl", '{"a": 1, "b": "x,y", "c": ["p"]}\n{"a": null, "b": "é", "c": []}\n'),
        ("csv", 'a,b,c\n1,"x,y","[""p""]"\n,é,[]\n'),
    ],
)
def test_rows(capsys: pytest.CaptureFixture[str], kind: str, text: str) -> None:
    """JSON lines and CSV have one line per record, with tuples as lists, and a table is left to the command."""
    Output(kind).records(ROWS)
    assert capsys.readouterr().out == text
    Output(kind).records([{**row, "c": tuple(row["c"])} for row in ROWS])
    assert capsys.readouterr().out == text


def test_an_error_is_one_line_in_csv(capsys: pytest.CaptureFixture[str]) -> None:
    """A traceback is the line with its exception in CSV, and all of it in JSON."""
    error = 'Traceback (most recent call last):\n  File "a.py", line 1\nValueError: no\n  See elsewhere.\n'
    Output("csv").records([{"error": error}, {"error": None}])
    assert capsys.readouterr().out == 'error\nValueError: no\n""\n'
    Output("json").records([{"error": error}])
    assert json.loads(capsys.readouterr().out) == [{"error": error}]


def test_rows_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    """JSON is one list."""
    Output("json").records(ROWS)
    assert json.loads(capsys.readouterr().out) == ROWS


def test_quiet_omits_notes_but_not_warnings(capsys: pytest.CaptureFixture[str]) -> None:
    """With -q, notes are omitted, but warnings are not."""
    out = Output("table", quiet=True)
    out.note("n")
    out.warn("w", "d")
    out.text("t")
    caught = capsys.readouterr()
    assert caught.out == "t\n"
    assert caught.err == "⚠ Warning: w\n  d\n"
