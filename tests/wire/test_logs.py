"""Logs: every line appears once, whatever the form of the stream, and however often it breaks."""

from __future__ import annotations

import json
import threading
import tracemalloc
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import aclosing
from functools import partial
from itertools import groupby, pairwise
from typing import Any

import anyio
import httpx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fanbench import BadAnswer, Bearer, Client, Config, ConnectionFailed, NotFound, ServerFault
from fanbench.wire.log_decoder import ArrayReader, LogCutOff, OddEntry, entries_of_payload, entry_of
from fanbench.wire.log_lines import lines
from fanbench.wire.log_stream import follow_log
from fanbench.wire.messages import LogEntry
from fanbench.wire.retry import RetryPolicy
from tests.wire.conftest import Connect
from tests.wire.fake_server import CUT, Answer, FakeServer, events, problem
from tests.wire.scripted import Scripted, in_virtual_time, sequence

CALL = "GetBenchmarkTaskRunLogs"
EVENTS = {"Content-Type": "text/event-stream"}
TEXT = {"Content-Type": "text/plain"}
AT_ONCE = RetryPolicy(attempts=3, random=lambda: 0.0)


def entry(data: str, stream: str = "stdout", time: float = 1.0) -> dict[str, Any]:
    return {"stream_name": stream, "time": time, "data": data}


async def given_entries(*entries: LogEntry) -> AsyncIterator[LogEntry]:
    for each in entries:
        yield each


async def texts(source: AsyncIterator[LogEntry]) -> list[str]:
    return [each.data async for each in source]


# --- Lines ---


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("parts", "whole"),
    [
        ([], []),
        (["a\n"], ["a"]),
        (["a\nb\n"], ["a", "b"]),
        (["a", "b\nc", "", "\n"], ["ab", "c"]),
        (["a\n\n", "\nb"], ["a", "", "", "b"]),
        (["a\r\nb\r", "\n"], ["a", "b"]),
        (["no end"], ["no end"]),
        (["one\u2028still one\x0b\n"], ["one\u2028still one\x0b"]),
    ],
)
async def test_lines(parts: list[str], whole: list[str]) -> None:
    """Parts of a line are joined, entries of several lines are split, and only \\n ends a line."""
    entries = given_entries(*(LogEntry(data=part) for part in parts))
    assert [line async for line in lines(entries)] == whole


@pytest.mark.anyio
async def test_lines_of_two_streams() -> None:
    """A line of stderr does not end up in the middle of a line of stdout."""
    entries = given_entries(
        LogEntry(data="out"), LogEntry(stream_name="stderr", data="error\n"), LogEntry(data="put\n")
    )
    assert [line async for line in lines(entries)] == ["error", "output"]


@given(st.lists(st.text("ab\n", max_size=8), max_size=8))
def test_lines_do_not_depend_on_the_parts(parts: list[str]) -> None:
    """The lines do not depend on how the text is cut into entries."""

    async def read(*pieces: str) -> list[str]:
        return [line async for line in lines(given_entries(*(LogEntry(data=piece) for piece in pieces)))]

    assert anyio.run(read, *parts, backend="trio") == anyio.run(read, "".join(parts), backend="trio")


# --- One stream ---


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("answer", "data"),
    [
        (events(entry("one\n"), entry("two")), ["one\n", "two"]),
        (events(entry("a\u2028b\n")), ["a\u2028b\n"]),
        (events("plain words"), ["plain words\n"]),
        (events("5", '"text"', '{"no": "data"}', "[1]"), ["5\n", "text\n", '{"no": "data"}\n', "[1]\n"]),
        (events(b"data: one\ndata: two\n\n"), ["one\n", "two\n"]),
        (events(b'data: {"data": "no blank line"}\n'), ["no blank line"]),
        (events(b'data: {"data": "no line end"}'), ["no line end"]),
        (events(b'data: {"da', b'ta": "in pieces"}\r\n\r\n'), ["in pieces"]),
        (events(b": comment\n\nevent: end\n\ndata:\n\n", entry("x")), ["x"]),
        (events('{"data": "\u00e4"}'.encode()[:11], b"\xa4"), []),
        (events(), []),
        (Answer([]), []),
        (Answer(json.dumps([entry("one\n"), entry("two", "stderr")]).encode()), ["one\n", "two"]),
        (Answer(b' \n [ {"data": "a"} , {"data": "b"} ] \n'), ["a", "b"]),
        (Answer(b'{"data": "a"}\n{"data": "b"}\n'), ["a", "b"]),
        (Answer(b"[INFO] started\nall well\n"), ["[INFO] started\nall well\n"]),
        (Answer(b"[INFO] started\n", headers=TEXT), ["[INFO] started\n"]),
        (Answer(b"[2026-11-23] started"), ["[2026-11-23] started"]),
        (Answer(b"[{oh no}]"), ["[{oh no}]\n"]),
        (Answer([b" ", b"[", b" ", b'{"data": "slowly"}]']), ["slowly"]),
        (Answer(b'["a", 5]'), ["a\n", "5\n"]),
        (Answer(b"started\n\n"), ["started\n\n"]),
        (Answer(b""), []),
        (Answer(b"  \n", headers=TEXT), ["  \n"]),
        (Answer(b"caf\xc3", headers=TEXT), ["caf", "\ufffd"]),
    ],
)
async def test_entries(connect: Connect, answer: Answer, data: list[str]) -> None:
    """Live or stored, JSON or text, whole or in pieces: nothing is lost, and text that is not JSON is unchanged."""
    with FakeServer({CALL: [answer]}) as server:
        async with connect(server) as client:
            assert await texts(client.logs(7)) == data
    assert server.requests[0].json == {"runId": 7}


@pytest.mark.anyio
@pytest.mark.parametrize(
    "body", [b"[", b' [{"data": "a"}, {"da', b'[{"data": "a"}', b'[{"da', b'[{"data": "]"}, ']
)
async def test_half_a_stored_log_is_an_error(connect: Connect, body: bytes) -> None:
    """A JSON list without its end is a log that broke off, although the answer has as many bytes as announced."""
    with FakeServer({CALL: [Answer(body)]}) as server:
        async with connect(server) as client:
            with pytest.raises(ConnectionFailed, match="has no end"):
                await texts(client.logs(7))


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("times", "repeated"),
    [([1.0, 1.0, 1.0], [1, 2]), ([1.0, 2.0, 2.5], []), ([0.0, 0.0, 0.0], [1]), ([1.0, 0.0, 0.0], [])],
)
async def test_repeated_events(connect: Connect, times: list[float], repeated: list[int]) -> None:
    """An event is a repeated one if its text and its time are those before; at time 0, only the first one counts."""
    with FakeServer({CALL: [events(*(entry(".", time=time) for time in times))]}) as server:
        async with connect(server) as client:
            got = [each async for each in client.logs(7)]
    assert [number for number, each in enumerate(got) if isinstance(each, OddEntry)] == repeated
    assert [each.data for each in got] == ["."] * 3


@pytest.mark.anyio
async def test_entries_have_their_fields(connect: Connect) -> None:
    """The stream, time and data of an entry are kept."""
    with FakeServer({CALL: [events(entry("x", "stderr", 1.25))]}) as server:
        async with connect(server) as client:
            assert [each async for each in client.logs(7)] == [
                LogEntry(stream_name="stderr", time=1.25, data="x")
            ]


@pytest.mark.anyio
async def test_live_entries_come_at_once(connect: Connect) -> None:
    """An entry is available before the server sends the next one, and a stream may be left early."""
    more = threading.Event()
    with FakeServer({CALL: [events(entry("one"), more, entry("two"), end=False)]}) as server:
        async with connect(server) as client:
            async with aclosing(client.logs(7)) as entries:
                assert (await anext(entries)).data == "one"
                more.set()
                assert (await anext(entries)).data == "two"
            assert client.transport.limits.streams.borrowed_tokens == 0


@pytest.mark.anyio
@pytest.mark.parametrize("answer", [problem(404, "Queued."), Answer({"code": 404, "message": "Queued."})])
async def test_queued(connect: Connect, answer: Answer) -> None:
    """The log of a queued run raises NotFound, whatever form the server's answer has."""
    with FakeServer({CALL: [answer]}) as server:
        async with connect(server) as client:
            with pytest.raises(NotFound, match="Queued"):
                await texts(client.logs(7))


@pytest.mark.anyio
async def test_a_page_is_no_log(connect: Connect) -> None:
    """HTML, as a proxy sends it, is an error and not the text of a log."""
    page = Answer(b"<html>Log in</html>", headers={"Content-Type": "text/html; charset=utf-8"})
    with FakeServer({CALL: [page]}) as server:
        async with connect(server) as client:
            with pytest.raises(BadAnswer, match="expected a log"):
                await texts(client.logs(7))


@pytest.mark.anyio
async def test_a_cut_stream_is_an_error(connect: Connect) -> None:
    """A stream that breaks raises an error after the entries that arrived."""
    seen: list[str] = []

    async def collect(client: Client) -> None:
        async for each in client.logs(7):
            seen.append(each.data)

    with FakeServer({CALL: [events(entry("one"), CUT)]}) as server:
        async with connect(server) as client:
            with pytest.raises(ConnectionFailed, match="broke off in GetBenchmarkTaskRunLogs"):
                await collect(client)
    assert seen == ["one"]


@pytest.mark.anyio
async def test_opening_is_tried_again(connect: Connect) -> None:
    """A server that is busy for a moment is asked again, whatever form its answer has."""
    busy = Answer(b"data: busy\n\n", status=502, headers=EVENTS)
    with FakeServer({CALL: [busy, problem(429), events(entry("one"))]}) as server:
        async with connect(server) as client:
            assert await texts(client.logs(7)) == ["one"]


@pytest.mark.anyio
async def test_many_streams_of_one_task(connect: Connect) -> None:
    """One task can read several streams alternately."""
    with FakeServer({CALL: [events(entry("a"), entry("b"))]}) as server:
        async with (
            connect(server) as client,
            aclosing(client.logs(1)) as first,
            aclosing(client.logs(2)) as second,
        ):
            read = [(await anext(stream)).data for _ in range(2) for stream in (first, second)]
    assert read == ["a", "a", "b", "b"]


@pytest.mark.anyio
async def test_streams_are_bounded(connect: Connect) -> None:
    """At most as many streams are open as the limiter allows."""
    with FakeServer({CALL: [Answer([], delay=0.02)]}) as server:
        async with connect(server) as client:
            client.transport.limits.streams.total_tokens = 2
            async with anyio.create_task_group() as group:
                for run in range(6):
                    group.start_soon(texts, client.logs(run))
    assert (len(server.requests), server.most_at_once) == (6, 2)


# --- The incremental reader ---


def pieces_of(text: str, cuts: Iterable[int]) -> list[str]:
    places = sorted({0, len(text), *(cut % (len(text) + 1) for cut in cuts)})
    return [text[start:end] for start, end in pairwise(places)]


def read_all(pieces: Iterable[str]) -> list[Any]:
    reader = ArrayReader()
    values = [value for piece in pieces for value in reader.feed(piece)]
    return values + list(reader.close())


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(st.text(max_size=60), st.lists(st.integers(0, 60), max_size=5))
def test_any_text_is_read(text: str, cuts: list[int]) -> None:
    """Any text is read to its end, unless it is the start of a list."""
    if text.lstrip().startswith("[") and not text.rstrip().endswith("]"):
        with pytest.raises(LogCutOff):
            read_all(pieces_of(text, cuts))
    else:
        read_all(pieces_of(text, cuts))


brackets = st.text(st.sampled_from('{}[]",:\\\n ae'), max_size=12)
plain_entries = st.fixed_dictionaries(
    {"data": brackets | st.text()},
    optional={"time": st.floats() | st.integers(), "stream_name": st.sampled_from(["stdout", "stderr"])},
)


@given(
    st.lists(plain_entries | json_values, max_size=6),
    st.lists(st.integers(0, 300), max_size=10),
    st.sampled_from([None, 2]),
)
@example([{"data": "},{"}, {"data": "}"}], [16], None)
@example([0, [], -0.0], [14], 2)
@example([1.5e300, True, None], [4, 5, 6, 7], None)
def test_entries_in_pieces(values: list[Any], cuts: list[int], indent: int | None) -> None:
    """The entries of an array depend neither on the pieces of the text nor on being decoded in bulk."""
    read = read_all(pieces_of(json.dumps(values, indent=indent), cuts))
    assert repr([entry_of(value) for value in read]) == repr([entry_of(value) for value in values])


@given(
    st.lists(st.tuples(st.sampled_from(["stdout", "stderr"]), st.text()), max_size=20), st.integers(1, 300)
)
def test_merged_entries_have_the_same_text(parts: list[tuple[str, str]], size: int) -> None:
    """Merging keeps the text and the order of the streams, and the time of the last of the merged entries."""
    values = [entry(data, stream, float(second)) for second, (stream, data) in enumerate(parts)]
    text = json.dumps(values)
    reader = ArrayReader(merge=True)
    pieces = [text[start : start + size] for start in range(0, len(text), size)]
    read = [value for piece in pieces for value in reader.feed(piece)] + list(reader.close())
    merged = [entry_of(value) for value in read]
    assert list(characters(merged)) == list(characters(map(entry_of, values)))
    if len(pieces) == 1:
        runs = [list(group) for _, group in groupby(values, key=lambda value: value["stream_name"])]
        assert [each.time for each in merged] == [run[-1]["time"] for run in runs]


def characters(entries: Iterable[LogEntry]) -> Iterator[tuple[str, str]]:
    return ((each.stream_name, character) for each in entries for character in each.data)


def test_values_come_before_the_end() -> None:
    """A value is returned as soon as it is complete."""
    reader = ArrayReader()
    assert list(reader.feed('[{"data": "a"}, {"da')) == [LogEntry(data="a")]
    assert list(reader.feed('ta": "b"}, {"data": "some more to double the length')) == [LogEntry(data="b")]


def test_a_long_log_is_never_whole_in_memory() -> None:
    """Reading five megabytes takes less than one megabyte of memory."""
    piece = json.dumps(entry("x" * 80))
    tracemalloc.start()
    reader = ArrayReader()
    count = sum(1 for value in reader.feed("["))
    for _ in range(50):
        count += sum(1 for value in reader.feed(f"{piece},\n" * 800))
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 40_000
    assert most < 1 << 20


def test_one_huge_entry_is_read_in_linear_time() -> None:
    """An entry of ten megabytes in small pieces is not decoded from its start with every piece."""
    reader = ArrayReader()
    attempts = 0
    decode = reader._decoder.raw_decode

    class Counting(json.JSONDecoder):
        def raw_decode(self, s: str, idx: int = 0) -> tuple[Any, int]:
            nonlocal attempts
            attempts += 1
            return decode(s, idx)

    reader._decoder = Counting()
    for piece in ['[{"data": "', *["x" * 1000] * 10_000, '"}]']:
        list(reader.feed(piece))
    assert [len(entry.data) for entry in reader.close()] == [10_000_000]
    assert attempts < 30


@given(st.text())
def test_payloads_are_never_refused(payload: str) -> None:
    """Any payload of an event becomes entries."""
    for each in entries_of_payload(payload):
        assert isinstance(each.data, str)


@given(json_values)
def test_any_value_is_an_entry(value: Any) -> None:
    """Any JSON value in a log becomes an entry."""
    assert isinstance(entry_of(value).data, str)


# --- Following ---


async def follow_texts(client: Client, **options: Any) -> list[str]:
    return await texts(follow_log(client, 7, retry=AT_ONCE, **options))


@pytest.mark.anyio
async def test_a_broken_stream_is_resumed(connect: Connect) -> None:
    """A stream that breaks twice is resumed, and every entry appears exactly once."""
    one, two, three = entry("one\n"), entry("two\n", "stderr"), entry("three\n")
    script = [events(one, CUT), events(one, two, CUT), events(one, two, three)]
    with FakeServer({CALL: script}) as server:
        async with connect(server) as client:
            assert await follow_texts(client) == ["one\n", "two\n", "three\n"]


@pytest.mark.anyio
async def test_a_log_stored_in_the_meantime_is_resumed(connect: Connect) -> None:
    """If the run ended after the break, the stored log continues the stream, though its entries are cut differently."""
    live = [entry("one\ntw"), entry("err", "stderr"), entry("o\n")]
    kept = [entry("one\ntwo\nthree\n"), entry("error\n", "stderr")]
    with FakeServer({CALL: [events(*live, CUT), Answer(kept)]}) as server:
        async with connect(server) as client:
            assert [line async for line in lines(follow_log(client, 7, retry=AT_ONCE))] == [
                "one",
                "two",
                "three",
                "error",
            ]


@given(st.data())
def test_no_text_is_lost_or_doubled(data: st.DataObject) -> None:
    """Wherever a stream breaks and however its text is cut into entries, the text appears once."""
    written = data.draw(
        st.lists(st.tuples(st.sampled_from(["stdout", "stderr"]), st.text("ab\n", min_size=1)))
    )
    cuts = data.draw(st.lists(st.integers(0, len(written)), max_size=2))

    async def main() -> list[LogEntry]:
        whole = [entry(text, stream) for stream, text in written]
        steps = [_broken_off(whole[:cut]) for cut in sorted(cuts)]
        http = Scripted(*steps, httpx.Response(200, json=whole))
        async with Client(Config("http://server", Bearer("t")), http=http) as client:
            return [each async for each in follow_log(client, 7, retry=RetryPolicy(random=lambda: 0.0))]

    got = in_virtual_time(main)
    for stream in ("stdout", "stderr"):
        text = "".join(text for name, text in written if name == stream)
        assert "".join(each.data for each in got if each.stream_name == stream) == text


def _broken_off(entries: list[dict[str, Any]]) -> httpx.Response:
    """Simulate a break in memory: the next entry is replaced by an error of status 503."""
    return httpx.Response(200, json=[*entries, {"code": 503, "message": "later"}])


@pytest.mark.anyio
async def test_not_found_before_the_first_entry(connect: Connect) -> None:
    """The missing log of a queued run is an error at once."""
    with FakeServer({CALL: [problem(404)]}) as server:
        async with connect(server) as client:
            with pytest.raises(NotFound):
                await follow_texts(client)
    assert len(server.requests) == 1


@pytest.mark.anyio
async def test_not_found_in_between(connect: Connect) -> None:
    """A log that is missing for a moment, while the server stores it, is asked for again."""
    script = [events(entry("one"), CUT), problem(404), Answer([entry("one"), entry("two")])]
    with FakeServer({CALL: script}) as server:
        async with connect(server) as client:
            assert await follow_texts(client) == ["one", "two"]


@pytest.mark.anyio
async def test_no_progress_ends(connect: Connect) -> None:
    """A stream that breaks repeatedly without new text ends with its error."""
    with FakeServer({CALL: [events(entry("one"), CUT)]}) as server:
        async with connect(server) as client:
            with pytest.raises(ConnectionFailed, match="broke off"):
                await follow_texts(client)
    assert len(server.requests) == 1 + 2


@pytest.mark.anyio
async def test_a_stream_that_ends_before_its_run(connect: Connect) -> None:
    """A stream that ends in good order is resumed if the run has not ended."""
    states = iter([False, True])

    async def ended() -> bool:
        return next(states)

    with FakeServer({CALL: [events(entry("one")), events(entry("one"), entry("two"))]}) as server:
        async with connect(server) as client:
            assert await follow_texts(client, ended=ended) == ["one", "two"]


def test_waits_between_streams() -> None:
    """The waits double while there is no progress, and new text resets them."""

    async def main(http: Scripted) -> None:
        async with Client(Config("http://server", Bearer("t")), http=http) as client:
            with pytest.raises(ServerFault):
                await texts(
                    follow_log(client, 7, retry=RetryPolicy(attempts=4, base=1.0, random=lambda: 1.0))
                )

    one, two = [entry("one")], [entry("one"), entry("two")]
    http = Scripted(*(_broken_off(entries) for entries in (one, one, one, two, two)))
    in_virtual_time(partial(main, http))
    assert sequence(http.times) == [1, 2, 4, 1, 2, 4]


def test_a_connection_that_died_unnoticed() -> None:
    """A stream that is silent for too long is resumed any number of times: silence is not a failure."""

    async def main(http: Scripted) -> list[str]:
        policy = RetryPolicy(attempts=2, random=lambda: 0.0)
        async with Client(
            Config("http://server", Bearer("t")), http=http, retry=RetryPolicy(attempts=1)
        ) as client:
            return await texts(follow_log(client, 7, retry=policy))

    silent = (300.0, httpx.ReadTimeout(""))
    http = Scripted(silent, silent, silent, httpx.Response(200, json=[entry("at last")]))
    assert in_virtual_time(partial(main, http)) == ["at last"]
    assert http.times == [0, 300, 600, 900]
    assert http.requests[0].extensions["timeout"]["read"] == 300.0


@pytest.mark.anyio
async def test_following_can_be_left(connect: Connect) -> None:
    """A caller that leaves in the middle of a line leaves nothing open and no slot taken."""
    with FakeServer({CALL: [events(entry("one\ntwo\n"), end=False)]}) as server:
        async with connect(server) as client:
            async with aclosing(lines(follow_log(client, 7))) as shown:
                assert await anext(shown) == "one"
            assert client.transport.limits.streams.borrowed_tokens == 0


@pytest.mark.anyio
async def test_following_can_be_cancelled(connect: Connect) -> None:
    """A reader that is cancelled while waiting for a line leaves no slot taken."""
    seen: list[str] = []
    with FakeServer({CALL: [events(entry("one\n"), end=False)]}) as server:
        async with connect(server) as client:
            with anyio.move_on_after(0.2):
                async for line in lines(follow_log(client, 7)):
                    seen.append(line)
            assert client.transport.limits.streams.borrowed_tokens == 0
    assert seen == ["one"]
