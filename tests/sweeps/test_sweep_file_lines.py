"""The lines of keys in TOML, which locate mistakes."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fanbench.sweeps.sweep_file import KeyPath, line_of, lines_of

SCALARS = [
    "1",
    "-0.5e3",
    "inf",
    "true",
    "1979-05-27 07:32:00",
    '"a # no comment, [no] {list}"',
    r'"\"quoted\" \\"',
    r"'C:\path\'",
    '""',
    "''",
    '"""\nfour\n[lines] = 1\n"""',
    r'''"""a \""" b""""''',
    '"""""a"""""',
    "'''\nkey = 'x'\n'''''",
    '""""""',
]
GAPS = ["", " ", "\n", "\t# a comment ] } , [x]\n  ", "\n\n"]


class Writer:
    """Writes TOML in one of many ways, and records the line of each value."""

    def __init__(self, draw: st.DrawFn) -> None:
        self._draw = draw
        self._keys = 0
        self.text = ""
        self.lines: dict[KeyPath, int] = {}

    def document(self) -> None:
        self._pairs(())
        for _ in range(self._draw(st.integers(0, 4))):
            self._table(())

    def _table(self, above: KeyPath, depth: int = 0) -> None:
        """Write a `[table]`, or several of a `[[list]]`, with tables below them."""
        name, written = self._key()
        path = (*above, name)
        several = self._draw(st.booleans())
        for index in range(self._draw(st.integers(1, 3)) if several else 1):
            self._write(self._draw(st.sampled_from(["", "# [x]\n", "\n"])))
            header = ".".join([*(self._names(above)), written])
            self._mark(path)
            place = (*path, index) if several else path
            self._mark(place)
            self._write(f"[[ {header} ]]\n" if several else f"[{header}] # ]\n")
            self._pairs(place)
            if depth < 2 and self._draw(st.booleans()):
                self._table(place, depth + 1)

    def _names(self, path: KeyPath) -> Iterator[str]:
        return (json.dumps(key) for key in path if isinstance(key, str))

    def _pairs(self, path: KeyPath) -> None:
        for _ in range(self._draw(st.integers(0, 3))):
            self._write(self._draw(st.sampled_from(["", "  ", "\n", "# a = 1\n"])))
            self._pair(path, 0)
            self._write(self._draw(st.sampled_from(["\n", " # x = [\n", "\n\n"])))

    def _pair(self, path: KeyPath, depth: int) -> None:
        """Write a key, perhaps dotted, and its value."""
        for number in range(self._draw(st.integers(1, 3))):
            name, written = self._key()
            path = (*path, name)
            self._mark(path)
            self._write((" . " if number else "") + written)
        self._write(self._draw(st.sampled_from(["=", " = ", "\t=\t"])))
        self._value(path, depth)

    def _key(self) -> tuple[str, str]:
        """Return a new key and how it is written."""
        self._keys += 1
        odd = self._draw(st.sampled_from(["", " ", ".", "=", '"', "#", "]", "é", "\\"]))
        name = f"k{odd}{self._keys}"
        bare = [name] if not odd else []
        literal = [f"'{name}'"]
        return name, self._draw(st.sampled_from([*bare, *literal, json.dumps(name)]))

    def _value(self, path: KeyPath, depth: int) -> None:
        match self._draw(st.sampled_from(["scalar", "list", "table"] if depth < 3 else ["scalar"])):
            case "list":
                self._list(path, depth)
            case "table":
                self._write("{ ")
                for number in range(self._draw(st.integers(0, 2))):
                    self._write(" , " if number else "")
                    self._pair(path, depth + 1)
                self._write(" }")
            case _:
                self._write(self._draw(st.sampled_from(SCALARS)))

    def _list(self, path: KeyPath, depth: int) -> None:
        count = self._draw(st.integers(0, 3))
        self._write("[")
        for index in range(count):
            self._gap()
            self._mark((*path, index))
            self._value((*path, index), depth + 1)
            self._gap()
            self._write("," if index < count - 1 else self._draw(st.sampled_from(["", ","])))
        self._gap()
        self._write("]")

    def _gap(self) -> None:
        self._write(self._draw(st.sampled_from(GAPS)))

    def _write(self, text: str) -> None:
        self.text += text

    def _mark(self, path: KeyPath) -> None:
        self.lines.setdefault(path, self.text.count("\n") + 1)


@st.composite
def documents(draw: st.DrawFn) -> Writer:
    writer = Writer(draw)
    writer.document()
    return writer


def paths(value: Any, above: KeyPath = ()) -> Iterator[KeyPath]:
    """Yield the path of every value that tomllib read."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*above, key)
        yield from paths(item, (*above, key))


@settings(deadline=None)
@given(documents())
def test_every_value_has_its_line(written: Writer) -> None:
    """Every value has its line, however it is written, and nothing else has one."""
    content = tomllib.loads(written.text)
    assert lines_of(written.text) == written.lines
    assert set(written.lines) == set(paths(content))


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ((), 1),
        (("a",), 1),
        (("a", 1), 3),
        (("a", 7), 1),
        (("t", "x", "y"), 6),
        (("t", "nothing"), 5),
        (("nothing", 3, "x"), 1),
    ],
)
def test_a_missing_key_has_the_line_of_its_table(path: KeyPath, line: int) -> None:
    """A path without a line has the line of the closest value around it."""
    assert line_of(lines_of("a = [\n1,\n2,\n]\n[t]\nx = 1\n"), path) == line


def test_deep_nesting_keeps_the_lines_above() -> None:
    """Values above a very deep list still have their lines."""
    assert lines_of("a = 1\nb = " + "[" * 10_000 + "]" * 10_000)["b",] == 2
