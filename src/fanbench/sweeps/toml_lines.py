"""On which line of a TOML text each key and each item of a list begins, which `tomllib` does not tell."""

from __future__ import annotations

import re
import tomllib
from bisect import bisect_right
from contextlib import suppress

__all__ = ["KeyPath", "line_of", "lines_of"]

#: The way to a value: keys of tables, and indexes of lists.
KeyPath = tuple[str | int, ...]

_BLANK = re.compile(r"[ \t]*")
_SPACE = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_GAP = re.compile(r"(?:[ \t\r\n,]|#[^\n]*)*")
_BARE = re.compile(r"[A-Za-z0-9_-]+")
# The long forms first. Two more quotes than the three that end one belong to it.
_STRING = re.compile(
    r'"""(?:\\.|[^\\])*?"""(?:"{0,2})' r"|'''.*?'''(?:'{0,2})" r'|"(?:\\.|[^"\\])*"' r"|'[^']*'", re.DOTALL
)
_SCALAR = re.compile(r"[^,\]}#\n]+")


def lines_of(text: str) -> dict[KeyPath, int]:
    """The line (from 1) of every value in `text`, which must be good TOML: `tomllib` has read it.

    A key that is written in several places, such as a table in the keys of others, is where it is first.
    """
    scanner = _Scanner(text)
    # Nested beyond reason, what was found so far has to do.
    with suppress(RecursionError):
        scanner.document()
    return scanner.lines


def line_of(lines: dict[KeyPath, int], path: KeyPath) -> int:
    """The line of the value at `path`, or of the closest value around it that has one."""
    for length in range(len(path), 0, -1):
        if path[:length] in lines:
            return lines[path[:length]]
    return 1


class _Scanner:
    """Walks over TOML that is known to be good, so that only what has an inside needs to be looked at."""

    def __init__(self, text: str) -> None:
        self.lines: dict[KeyPath, int] = {}
        self._text = text
        self._at = 0
        self._breaks = [match.start() for match in re.finditer("\n", text)]
        #: How many tables each `[[list]]` has by now.
        self._tables: dict[KeyPath, int] = {}

    def document(self) -> None:
        table: KeyPath = ()
        while self._more():
            if self._text.startswith("[[", self._at):
                table = self._list_header()
            elif self._text[self._at] == "[":
                table = self._header()
            else:
                self._pair(table)

    def _more(self) -> bool:
        self._take(_SPACE)
        return self._at < len(self._text)

    def _take(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self._text, self._at)
        assert match is not None, f"no TOML at {self._at}"
        self._at = match.end()
        return match[0]

    def _mark(self, path: KeyPath) -> None:
        self.lines.setdefault(path, bisect_right(self._breaks, self._at - 1) + 1)

    # --- Headers and keys ---

    def _header(self) -> KeyPath:
        self._at += 1
        path = self._below((), self._keys())
        self._at += 1
        return path

    def _list_header(self) -> KeyPath:
        """The newest table of the list that the header names."""
        self._at += 2
        *above, name = self._keys()
        path = (*self._below((), above), name)
        self._mark(path)
        index = self._tables[path] = self._tables.get(path, -1) + 1
        self._mark((*path, index))
        self._at += 2
        return (*path, index)

    def _below(self, path: KeyPath, names: list[str]) -> KeyPath:
        """Down from `path`; of a list of tables on the way, the newest is meant."""
        for name in names:
            path = (*path, name)
            self._mark(path)
            if path in self._tables:
                path = (*path, self._tables[path])
        return path

    def _keys(self) -> list[str]:
        """The parts of a dotted key, up to what follows it."""
        names = [self._key()]
        while self._text[self._at] == ".":
            self._at += 1
            names.append(self._key())
        return names

    def _key(self) -> str:
        self._take(_BLANK)
        quoted = self._text[self._at] in "\"'"
        token = self._take(_STRING if quoted else _BARE)
        self._take(_BLANK)
        return str(tomllib.loads(f"key = {token}")["key"]) if quoted else token

    # --- Values ---

    def _pair(self, table: KeyPath) -> None:
        path = self._below(table, self._keys())
        self._at += 1
        self._take(_BLANK)
        self._value(path)

    def _value(self, path: KeyPath) -> None:
        match self._text[self._at]:
            case '"' | "'":
                self._take(_STRING)
            case "[":
                self._list(path)
            case "{":
                self._inline_table(path)
            case _:
                self._take(_SCALAR)

    def _list(self, path: KeyPath) -> None:
        self._at += 1
        index = 0
        while self._another("]"):
            self._mark((*path, index))
            self._value((*path, index))
            index += 1

    def _inline_table(self, path: KeyPath) -> None:
        self._at += 1
        while self._another("}"):
            self._pair(path)

    def _another(self, end: str) -> bool:
        """Whether an item follows, and then up to it; else past the `end`."""
        self._take(_GAP)
        if self._text[self._at] != end:
            return True
        self._at += 1
        return False
