"""Log entries from what the server sends: the payload of an event, or a JSON list that is read in pieces."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from itertools import groupby
from operator import attrgetter
from typing import Any, Literal

import msgspec

from fanbench.wire.messages import LogEntry

__all__ = [
    "ArrayReader",
    "EntryTooLong",
    "LogCutOff",
    "OddEntry",
    "StoredLogReader",
    "check_length",
    "entries_of_payload",
    "entry_of",
]

# An entry is in memory as a whole. A line of a log is far shorter.
_LONGEST_ENTRY = 64 << 20

_BLANK = re.compile(r"[\s,]*")
_DELIMITER = re.compile(r"[\s,\]]")
_BRACKETS = re.compile(r"\[?\s*\]?")


class _StrictEntry(msgspec.Struct, frozen=True, gc=False):
    """A complete entry: unlike in `LogEntry`, the text is required."""

    data: str
    stream_name: str = "stdout"
    time: float = 0.0


_decode_entries = msgspec.json.Decoder(list[_StrictEntry]).decode


class OddEntry(LogEntry, frozen=True, kw_only=True):
    """An entry that was read from something else than the JSON of one entry.

    `why`: it is a piece of a log in plain "text", which has no streams; it is "garbled", which is to say not what
    the protocol has at this place, perhaps because it was damaged; or it is "repeated", the entry before once more.
    """

    why: Literal["text", "garbled", "repeated"]


class LogCutOff(ValueError):
    """The JSON list of a log has no end."""


class EntryTooLong(ValueError):
    """An entry of a log is longer than can be kept in memory."""


def check_length(length: int) -> None:
    """Raise EntryTooLong if an entry that is still incomplete has this many characters."""
    if length > _LONGEST_ENTRY:
        raise EntryTooLong(f"an entry of the log has more than {_LONGEST_ENTRY >> 20} million characters")


def entry_of(value: Any) -> LogEntry:
    """Return the entry that a JSON value represents. A value of another form is a garbled one, shown as a line."""
    if isinstance(value, LogEntry):
        return value
    data = value.get("data") if isinstance(value, dict) else value
    if not isinstance(data, str):
        return _line(json.dumps(value, ensure_ascii=False))
    if not isinstance(value, dict):
        return _line(data)
    name, time = value.get("stream_name"), value.get("time")
    return LogEntry(
        stream_name=name if isinstance(name, str) else "stdout",
        time=float(time) if isinstance(time, int | float) else 0.0,
        data=data,
    )


def entries_of_payload(payload: str) -> Iterator[LogEntry]:
    """Yield the entries of one event: usually one; if the payload is not JSON, one per line, each garbled."""
    if not payload.strip():
        return
    try:
        yield entry_of(json.loads(payload, strict=False))
    except (ValueError, RecursionError):
        lines = payload.split("\n")
        if len(lines) == 1:
            yield _line(payload)
        else:
            for line in lines:
                yield from entries_of_payload(line)


class ArrayReader:
    """Reads a JSON array one element at a time, so that a log of 100 MB is never in memory as a whole.

    Complete entries come as `LogEntry`, other values as they are. It also reads JSON values that follow each
    other without brackets. Text that is not JSON is passed on as it is, because a log is for people.

    With `merge`, the entries of one stream that arrive together become one.
    """

    def __init__(self, *, merge: bool = False) -> None:
        self._merge = merge
        self._decoder = json.JSONDecoder(strict=False)
        self._pieces: list[str] = []
        self._length = 0
        self._needed = 0
        self._opening = ""
        self._begun = False
        self._is_list = False

    def feed(self, text: str) -> Iterator[Any]:
        """Yield the values that `text` completes."""
        self._pieces.append(text)
        self._length += len(text)
        check_length(self._length)
        # An incomplete element is read again only once the text has doubled: otherwise a single huge element
        # would be read from its start with every piece.
        if self._length >= self._needed:
            yield from self._complete_values()

    def close(self) -> Iterator[Any]:
        """Yield what is left at the end of the text."""
        yield from self._complete_values(final=True)
        rest = "".join(self._pieces)
        if self._is_list and not rest.rstrip().endswith("]"):
            raise LogCutOff("the list of entries has no end")
        rest = (self._opening + rest if self._opening else rest[_blank_end(rest, 0) :]).strip()
        if not _BRACKETS.fullmatch(rest):
            yield rest

    def _complete_values(self, *, final: bool = False) -> Iterator[Any]:
        text = "".join(self._pieces)
        at = self._begin(text)
        # Complete entries are decoded in bulk, ten times as fast as one by one. If the last brace belongs to some
        # text, the bulk fails to decode as a whole, and nothing is lost.
        end = text.rfind("}") + 1
        try:
            entries = _decode_entries(f"[{text[_blank_end(text, at) : end]}]")
        except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
            entries = []
        if entries:
            at, self._opening = end, ""
        for each in _merge(entries) if self._merge else entries:
            yield LogEntry(stream_name=each.stream_name, time=each.time, data=each.data)
        while True:
            try:
                value, end = self._decoder.raw_decode(text, _blank_end(text, at))
            except (ValueError, RecursionError):
                break
            if not final and not isinstance(value, dict | list | str) and not _DELIMITER.match(text, end):
                break  # A number may continue in the next piece.
            at, self._opening = end, ""
            yield value
        self._pieces, self._length = [text[at:]], len(text) - at
        self._needed = 2 * self._length

    def _begin(self, text: str) -> int:
        """Skip the opening bracket, which is kept until the first value shows that it was one."""
        start = len(text) - len(text.lstrip())
        if self._begun or start == len(text):
            return 0
        self._begun = True
        self._is_list = text[start] == "["
        self._opening = "[" if self._is_list else ""
        return start + len(self._opening)


class StoredLogReader:
    """Reads the log of a run that has ended: a JSON list of values, or plain text, which becomes entries.

    With `must_be_json`, plain text is garbled.
    """

    def __init__(self, *, merge: bool = False, must_be_json: bool = False) -> None:
        self._why: Literal["text", "garbled"] = "garbled" if must_be_json else "text"
        self._start = ""
        self._is_json: bool | None = None
        self._reader = ArrayReader(merge=merge)

    def feed(self, text: str) -> Iterator[Any]:
        """Yield the entries, or other JSON values, that `text` completes."""
        if self._is_json is None:
            self._start = text = self._start + text
            check_length(len(text))
            self._is_json = _looks_like_json(text)
        if self._is_json:
            yield from self._reader.feed(text)
        elif self._is_json is False:
            yield OddEntry(data=text, why=self._why)

    def close(self) -> Iterator[Any]:
        """Yield what is left at the end of the text.

        Raises:
            LogCutOff: A list has begun, and has no end.
        """
        if self._is_json:
            yield from self._reader.close()
        elif self._is_json is None and self._start:
            if self._start.strip() == "[":
                raise LogCutOff("the list of entries has no end")
            yield OddEntry(data=self._start, why=self._why)


def _merge(entries: Iterable[_StrictEntry]) -> Iterator[_StrictEntry]:
    for stream_name, group in groupby(entries, key=attrgetter("stream_name")):
        same = list(group)
        text = "".join([each.data for each in same])
        yield _StrictEntry(data=text, stream_name=stream_name, time=same[-1].time)


def _looks_like_json(start: str) -> bool | None:
    """Return None while `start` is too short to decide: "[2026-11-23] started" is text."""
    text = start.lstrip()
    match text[:1] + text[1:].lstrip()[:1]:
        case "" | "[":
            return None
        case "[{" | "[]" | '["':
            return True
        case other:
            return other[0] == "{"


def _blank_end(text: str, at: int) -> int:
    match = _BLANK.match(text, at)
    return match.end() if match else at


def _line(text: str) -> LogEntry:
    return OddEntry(data=f"{text}\n", why="garbled")
