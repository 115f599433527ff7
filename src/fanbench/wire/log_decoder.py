"""Log entries out of what the server sends: an event's payload, or a JSON list that is read bit by bit."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import msgspec

from fanbench.wire.messages import LogEntry

__all__ = ["ArrayReader", "EntryReader", "entries_of_payload", "entry_of", "looks_like_json"]

_BLANK = re.compile(r"[\s,]*")
_DELIMITER = re.compile(r"[\s,\]]")
_BRACKETS = re.compile(r"\[?\s*\]?")


def entry_of(value: Any) -> LogEntry:
    """The entry that a JSON value stands for. A value that is no entry is shown as it is, as a line."""
    if not isinstance(value, dict):
        return _line(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
    data = value.get("data")
    if not isinstance(data, str):
        return _line(json.dumps(value, ensure_ascii=False))
    name, time = value.get("stream_name"), value.get("time")
    return LogEntry(
        stream_name=name if isinstance(name, str) else "stdout",
        time=float(time) if isinstance(time, int | float) else 0.0,
        data=data,
    )


class _Plain(msgspec.Struct, frozen=True, gc=False):
    """An entry as a server should send it. Unlike in `LogEntry`, the text must be there."""

    data: str
    stream_name: str = "stdout"
    time: float = 0.0


_decode_plain = msgspec.json.Decoder(list[_Plain]).decode


def _plain_entries(text: str) -> list[_Plain]:
    """What is in the brackets of a JSON list, if it is entries and nothing else; none: look closer."""
    try:
        return _decode_plain(f"[{text}]")
    except (msgspec.DecodeError, UnicodeEncodeError):
        return []


def entries_of_payload(payload: str) -> Iterator[LogEntry]:
    """The entries of one event: mostly one; each line by itself where the whole is no JSON."""
    if not payload.strip():
        return
    try:
        yield entry_of(json.loads(payload, strict=False))
    except ValueError:
        lines = payload.split("\n")
        if len(lines) == 1:
            yield _line(payload)
        else:
            for line in lines:
                yield from entries_of_payload(line)


class ArrayReader:
    """Reads a JSON array as it arrives, an element at a time: a log of 100 MB never is in memory as a whole.

    JSON values one after another, without the brackets, do as well. What cannot be read as JSON is passed on
    as text, because a log is for people.
    """

    def __init__(self) -> None:
        self._decoder = json.JSONDecoder(strict=False)
        self._pieces: list[str] = []
        self._length = 0
        self._needed = 0
        self._opening = ""
        self._begun = False

    def feed(self, text: str) -> Iterator[Any]:
        """The values that are complete with `text`."""
        self._pieces.append(text)
        self._length += len(text)
        # An element that is incomplete is tried again only once the text has doubled: else a single huge
        # element would be read from its start with every piece.
        if self._length >= self._needed:
            yield from self._complete_values()

    def close(self) -> Iterator[Any]:
        """What is left when the text has ended."""
        yield from self._complete_values(final=True)
        rest = "".join(self._pieces)
        rest = (self._opening + rest if self._opening else rest[_blank_end(rest, 0) :]).strip()
        if not _BRACKETS.fullmatch(rest):
            yield rest

    def _complete_values(self, *, final: bool = False) -> Iterator[Any]:
        text = "".join(self._pieces)
        at = self._begin(text)
        while (found := self._value(text, at, final)) is not None:
            at, value = found
            self._opening = ""
            yield value
        self._pieces, self._length = [text[at:]], len(text) - at
        self._needed = 2 * self._length

    def _begin(self, text: str) -> int:
        """Past the opening bracket, which is kept until a value shows that it was one."""
        start = len(text) - len(text.lstrip())
        if self._begun or start == len(text):
            return 0
        self._begun = True
        self._opening = "[" if text[start] == "[" else ""
        return start + len(self._opening)

    def _value(self, text: str, at: int, final: bool) -> tuple[int, Any] | None:
        try:
            value, end = self._decoder.raw_decode(text, _blank_end(text, at))
        except (ValueError, RecursionError):
            return None
        if not final and not isinstance(value, dict | list | str) and not _DELIMITER.match(text, end):
            return None  # a number may go on in the next piece
        return end, value


class EntryReader(ArrayReader):
    """The same; log entries come as such, many at a time, which is ten times as fast as one by one."""

    def _complete_values(self, *, final: bool = False) -> Iterator[Any]:
        text = "".join(self._pieces)
        begin = self._begin(text)
        # The last bracket may be a part of some text: then there is no entry before it, and nothing is lost.
        end = text.rfind("}") + 1
        if plain := _plain_entries(text[_blank_end(text, begin) : end]):
            self._opening, begin = "", end
        self._pieces, self._length = [text[begin:]], len(text) - begin
        for each in plain:
            yield LogEntry(stream_name=each.stream_name, time=each.time, data=each.data)
        yield from super()._complete_values(final=final)


def looks_like_json(start: str) -> bool | None:
    """Whether a log that starts so is JSON; None while that is too little to tell.

    A bracket alone says nothing: "[2026-11-23] started" is text.
    """
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
    return LogEntry(data=f"{text}\n")
