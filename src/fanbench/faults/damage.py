"""What a fault does to an answer, and to a stream of events."""

from __future__ import annotations

import json
import math
import re
import zlib
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import lru_cache, partial
from random import Random
from typing import Any

import anyio
import anyio.lowlevel

from fanbench.faults.answers import HttpAnswer, drop, pieces_of, whole
from fanbench.faults.fault import Damage, Fault, connection_lost

__all__ = ["damaged", "delay_of", "emptied", "error_answer", "html_answer", "http_date"]

#: Seconds of silence after which a server hangs up.
SILENCE = 3600.0
HEARTBEAT = 1.0
_BLOCK = 64 << 10
# What is said to have no end has one, far beyond what anybody should read.
_FLOOD = 256 << 20
_HTML = b"<!doctype html>\n<html><head><title>Log in</title></head><body>Please log in.</body></html>\n"
_ENUM = re.compile(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)+")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")
# The standard deviations between the median and the 99th percentile.
_TO_99TH_PERCENTILE = 2.3263
# What a damage of bodies means for a stream, of which no half is known.
_OF_STREAMS: dict[Damage, Damage] = {
    "cut": "sse_cut",
    "short": "sse_cut",
    "half": "sse_end",
    "stall": "sse_silence",
    "flood": "sse_endless",
}


def delay_of(fault: Fault, random: Random) -> float:
    """The seconds by which a call is late."""
    if not isinstance(fault.delay, tuple):
        return fault.delay
    median, slow = fault.delay
    return random.lognormvariate(math.log(median), math.log(slow / median) / _TO_99TH_PERCENTILE)


def http_date(wall: float) -> str:
    return format_datetime(datetime.fromtimestamp(wall, UTC), usegmt=True)


def html_answer(status: int = 200) -> HttpAnswer:
    """The page of somebody else, as of a proxy that wants a login."""
    return HttpAnswer(status, {"Content-Type": "text/html"}, _HTML)


def error_answer(fault: Fault, wall: float, *, of_model: bool = False) -> HttpAnswer:
    """The answer of a fault with a status. `of_model`: in the shape of the Model Proxy's errors."""
    assert fault.status is not None
    if fault.status < 400:
        return html_answer(fault.status)
    problem: dict[str, Any] = {"code": fault.status, "message": fault.message}
    body = json.dumps({"error": problem} if of_model else problem).encode()
    return HttpAnswer(fault.status, {"Content-Type": "application/json", **_waits(fault, wall)}, body)


def _waits(fault: Fault, wall: float) -> dict[str, str]:
    if fault.retry_after_date is not None:
        return {"Date": http_date(wall), "Retry-After": http_date(wall + fault.retry_after_date)}
    match fault.retry_after:
        case None:
            return {}
        case str(text):
            return {"Retry-After": text}
        case seconds:
            return {"Retry-After": str(int(seconds)) if seconds == int(seconds) else f"{seconds:g}"}


async def damaged(fault: Fault, random: Random, answer: HttpAnswer, wall: float) -> HttpAnswer:
    """The answer with the damage of `fault`. A damage of JSON, or of events, does nothing to other answers."""
    damage = fault.damage
    if damage is None:
        return answer
    if damage == "html":
        await drop(answer)
        return html_answer(fault.status or 200)
    if damage == "drip":
        return replace(answer, body=_drip(answer, fault.rate), length=_length(answer))
    if damage == "bomb":
        await drop(answer)
        return HttpAnswer(200, {**answer.headers, "Content-Encoding": "gzip"}, _bomb())
    if answer.is_events:
        defect = _DEFECTS.get(_OF_STREAMS.get(damage, damage))
        return answer if defect is None else replace(answer, body=defect(_events(answer), fault.events))
    answer = await whole(answer)
    if (change := _VALUES.get(damage)) is not None:
        answer = _with_value(answer, lambda value: change(value, fault, random))
        skewed = {**answer.headers, "Date": http_date(wall + fault.skew)}
        return replace(answer, headers=skewed) if damage == "clock" else answer
    return _with_body(damage, answer)


def _with_body(damage: Damage, answer: HttpAnswer) -> HttpAnswer:
    body = answer.body
    assert isinstance(body, bytes)
    half = body[: len(body) // 2]
    match damage:
        case "cut":
            return replace(answer, body=_break_off(half), length=len(body))
        case "stall":
            return replace(answer, body=_fall_silent(half), length=len(body))
        case "short":
            return replace(answer, body=half, length=len(body))
        case "long":
            return replace(answer, body=body + b"more than was announced", length=len(body))
        case "half":
            return replace(answer, body=half)
        case "flood":
            return replace(answer, body=_flood(body))
        case _:
            return answer


def _length(answer: HttpAnswer) -> int | None:
    return len(answer.body) if isinstance(answer.body, bytes) else answer.length


# --- Bodies in time -----------------------------------------------------------------------------------------


async def _break_off(start: bytes) -> AsyncGenerator[bytes, None]:
    yield start
    raise connection_lost()


async def _fall_silent(start: bytes) -> AsyncGenerator[bytes, None]:
    yield start
    await anyio.sleep(SILENCE)
    raise connection_lost()


async def _drip(answer: HttpAnswer, rate: float) -> AsyncGenerator[bytes, None]:
    """The body at `rate` bytes a second, in drops of a second, or of one byte."""
    size = max(1, int(rate))
    async with aclosing(pieces_of(answer)) as pieces:
        async for piece in pieces:
            for start in range(0, len(piece), size):
                yield piece[start : start + size]
                await anyio.sleep(size / rate)


async def _flood(start: bytes) -> AsyncGenerator[bytes, None]:
    """The body, and white space without an end."""
    yield start
    for _ in range(_FLOOD // _BLOCK):
        yield b" " * _BLOCK
        await anyio.lowlevel.checkpoint()
    raise connection_lost()


async def _bomb() -> AsyncGenerator[bytes, None]:
    """A gigabyte of spaces, compressed."""
    head, block = _bomb_parts()
    yield head
    for _ in range(64):
        yield block
        await anyio.lowlevel.checkpoint()


@lru_cache(maxsize=1)
def _bomb_parts() -> tuple[bytes, bytes]:
    """The header of gzip, and 16 MB in a form that may be repeated."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    block = packer.compress(b" " * (16 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    return b"\x1f\x8b\x08\0\0\0\0\0\0\xff", block


# --- Values in JSON -----------------------------------------------------------------------------------------


def _with_value(answer: HttpAnswer, change: Callable[[Any], Any]) -> HttpAnswer:
    assert isinstance(answer.body, bytes)
    try:
        value = json.loads(answer.body)
    except ValueError:
        return answer
    return replace(answer, body=json.dumps(change(value)).encode())


def _map(value: Any, change: Callable[[Any], Any]) -> Any:
    """The value with `change` applied to each part, the inner ones first."""
    if isinstance(value, dict):
        value = {key: _map(each, change) for key, each in value.items()}
    elif isinstance(value, list):
        value = [_map(each, change) for each in value]
    return change(value)


def emptied(value: Any) -> Any:
    """The value with empty lists and no further pages, as it was before anything happened."""
    value = _map(value, lambda each: [] if isinstance(each, list) else each)
    if isinstance(value, dict):
        value = {key: each for key, each in value.items() if key not in ("nextPageToken", "totalResults")}
    return value


def _nulls(value: Any, _fault: Fault, _random: Random) -> Any:
    return dict.fromkeys(value) if isinstance(value, dict) else [None for _ in value] if value else None


def _wrong_type(value: Any, _fault: Fault, random: Random) -> Any:
    places = list(_places(value))
    if not places:
        return [value]
    container, key = random.choice(places)
    match container[key]:
        case str() | None:
            container[key] = {"unexpected": 1}
        case bool() | int() | float():
            container[key] = "unexpected"
        case _:
            container[key] = random.choice([7, "unexpected", True])
    return value


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Each container in the value with each of its keys or indexes."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield value, key
        yield from _places(value[key])


def _unknown_enums(value: Any, _fault: Fault, _random: Random) -> Any:
    return _map(
        value, lambda each: f"{each}_NEWER" if isinstance(each, str) and _ENUM.fullmatch(each) else each
    )


def _twice(value: Any, _fault: Fault, _random: Random) -> Any:
    return _map(
        value, lambda each: [item for item in each for _ in (1, 2)] if isinstance(each, list) else each
    )


def _page_loop(value: Any, _fault: Fault, _random: Random) -> Any:
    return {**value, "nextPageToken": "0"} if isinstance(value, dict) else value


def _page_flood(value: Any, _fault: Fault, random: Random) -> Any:
    # As numbers, tokens are understood by servers that count rows, which have none there.
    token = str(random.randrange(10**14, 10**15))
    return {**value, "nextPageToken": token} if isinstance(value, dict) else value


def _clock(value: Any, fault: Fault, _random: Random) -> Any:
    def shift(each: Any) -> Any:
        if not isinstance(each, str) or not _TIME.fullmatch(each):
            return each
        return (datetime.fromisoformat(each) + timedelta(seconds=fault.skew)).isoformat()

    return _map(value, shift)


_VALUES: dict[Damage, Callable[[Any, Fault, Random], Any]] = {
    "null": _nulls,
    "wrong_type": _wrong_type,
    "unknown_enum": _unknown_enums,
    "duplicated": _twice,
    "page_loop": _page_loop,
    "page_flood": _page_flood,
    "clock": _clock,
}


# --- Streams of events --------------------------------------------------------------------------------------

Events = AsyncGenerator[bytes, None]


async def _events(answer: HttpAnswer) -> Events:
    """The events of a stream, each with the blank line after it."""
    waiting = b""
    async with aclosing(pieces_of(answer)) as pieces:
        async for piece in pieces:
            *complete, waiting = (waiting + piece).split(b"\n\n")
            for event in complete:
                yield event + b"\n\n"
    if waiting:
        yield waiting


async def _then(events: Events, number: int, end: Callable[[], Events]) -> Events:
    """The first events of a stream, and then an end of another kind."""
    async with aclosing(events):
        for _ in range(number):
            async for event in events:
                yield event
                break
    async with aclosing(end()) as last:
        async for piece in last:
            yield piece


async def _good_end() -> Events:
    return
    yield b""


async def _cut() -> Events:
    raise connection_lost()
    yield b""


async def _silence() -> Events:
    await anyio.sleep(SILENCE)
    raise connection_lost()
    yield b""


async def _heartbeats() -> Events:
    while True:
        yield b": heartbeat\n\n"
        await anyio.sleep(HEARTBEAT)


async def _endless_event() -> Events:
    yield b'data: {"data": "'
    for _ in range(_FLOOD // _BLOCK):
        yield b"x" * _BLOCK
        await anyio.lowlevel.checkpoint()
    raise connection_lost()


async def _duplicated(events: Events, _number: int) -> Events:
    async with aclosing(events):
        async for event in events:
            yield event
            yield event


async def _garbled(events: Events, number: int) -> Events:
    """The event after the first ones is neither JSON nor UTF-8, and has control characters."""
    async with aclosing(events):
        async for event in events:
            yield b'data: {"data": \xff\xfe\x1b]0;title\x07\n\n' if number == 0 else event
            number -= 1


async def _no_end(events: Events, _number: int) -> Events:
    async with aclosing(events):
        async for event in events:
            yield event
    async with aclosing(_silence()) as silence:
        async for piece in silence:
            yield piece


_DEFECTS: dict[Damage, Callable[[Events, int], Events]] = {
    "sse_cut": partial(_then, end=_cut),
    "sse_end": partial(_then, end=_good_end),
    "sse_silence": partial(_then, end=_silence),
    "sse_heartbeats": partial(_then, end=_heartbeats),
    "sse_endless": partial(_then, end=_endless_event),
    "sse_duplicated": _duplicated,
    "sse_garbled": _garbled,
    "sse_no_end": _no_end,
}
