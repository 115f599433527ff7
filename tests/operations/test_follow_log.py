"""Following the log of a run that may not have one yet."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence

import anyio
import pytest

from fanbench import Anonymous, Config, ConnectionFailed, NotFound
from fanbench.wire.log_decoder import OddEntry
from fanbench.wire.log_stream import follow_log
from fanbench.wire.messages import LogEntry
from tests.operations.virtual_time import anyio_backend as anyio_backend

pytestmark = pytest.mark.anyio


class Source:
    """Answers each call with the next of `answers`: the pieces of a log, where None stands for a 404."""

    def __init__(self, *answers: Sequence[str | LogEntry | None]) -> None:
        self.config = Config("http://fake", Anonymous())
        self.answers = list(answers)

    async def logs(
        self, run_id: int, *, silence: float | None = None, merge: bool = False
    ) -> AsyncGenerator[LogEntry, None]:
        for piece in self.answers.pop(0):
            await anyio.lowlevel.checkpoint()
            if piece is None:
                raise NotFound("No log yet.", call="GetBenchmarkTaskRunLogs", status=404)
            yield piece if isinstance(piece, LogEntry) else LogEntry(data=piece)


def garbled(text: str) -> OddEntry:
    return OddEntry(data=text, why="garbled")


def repeated(text: str) -> OddEntry:
    return OddEntry(data=text, why="repeated")


def plain(text: str) -> OddEntry:
    return OddEntry(data=text, why="text")


async def followed(source: Source) -> str:
    """The text of a log that is followed to the end of its run, which each stream announces."""
    log = follow_log(source, 1, ended=yes, read_on=True)
    text = "".join([entry.data async for entry in log])
    assert source.answers == []
    return text


async def yes() -> bool:
    return True


async def test_a_missing_log_is_an_error_by_default() -> None:
    """Without `missing`, the log of a queued run raises NotFound."""
    with pytest.raises(NotFound):
        _ = [entry async for entry in follow_log(Source([None]), 1)]


async def test_a_missing_log_is_opened_again_while_missing_returns_true() -> None:
    """As long as `missing()` returns True, the log is opened again, and read from its start."""
    source = Source([None], [None], ["a\n", "b\n"])
    assert [entry.data async for entry in follow_log(source, 1, missing=yes)] == ["a\n", "b\n"]
    assert source.answers == []


async def test_a_log_is_given_up_when_missing_returns_false() -> None:
    """If `missing()` returns False, NotFound is raised and the log is not opened again."""

    async def no() -> bool:
        return False

    source = Source([None], ["never read"])
    with pytest.raises(NotFound):
        _ = [entry async for entry in follow_log(source, 1, missing=no)]
    assert len(source.answers) == 1


async def test_a_log_that_vanishes_is_not_read_twice() -> None:
    """A log that vanishes after some text is a broken stream: no text is repeated, and `missing` is not called."""
    source = Source(["a\n", None], *[[None]] * 4, ["a\n", "b\n"])
    received: list[str] = []

    async def read() -> None:
        async for entry in follow_log(source, 1, missing=yes):
            received.append(entry.data)

    with pytest.raises(NotFound):
        await read()
    assert received == ["a\n"]
    assert source.answers == [["a\n", "b\n"]]


async def test_a_stream_that_ends_early_is_resumed() -> None:
    """If `ended()` says that the run continues, the stream is opened again, and its old text skipped."""
    answers = [False, True]

    async def ended() -> bool:
        return answers.pop(0)

    source = Source(["a\n"], ["a\n", "b\n"])
    assert [entry.data async for entry in follow_log(source, 1, ended=ended)] == ["a\n", "b\n"]


async def test_a_stream_that_ends_before_its_run_does_is_read_on() -> None:
    """With `read_on`, what comes between the end of a stream and the end of the run is read in the stored log."""
    assert await followed(Source(["a\n"], ["a\nb\n"])) == "a\nb\n"


async def test_a_run_that_has_ended_is_read_once() -> None:
    """If the run is known to have ended, its log is read once."""
    source = Source(["a\n"])
    log = follow_log(source, 1, ended=yes, read_on=True, over=True)
    assert [entry.data async for entry in log] == ["a\n"]


async def test_an_empty_log_that_is_stored_late() -> None:
    """A live log that is not stored at once is asked for again, even if it was empty."""
    assert await followed(Source([], [None], ["a\n"])) == "a\n"


@pytest.mark.parametrize("stored", ["err\na\nb\n", "err\na\n"])
async def test_a_log_that_is_stored_as_text(stored: str) -> None:
    """The text of a live log with two streams is found again in a stored log that has none."""
    live = [LogEntry(stream_name="stderr", data="err\n"), LogEntry(data="a\n")]
    assert await followed(Source(live, [plain(stored)])) == stored


async def test_a_garbled_entry_is_read_again() -> None:
    """A garbled entry makes the log be opened again, and is not passed on if it comes whole."""
    assert await followed(Source(["a\n", garbled("?")], ["a\n", "b\n"], ["a\nb\n"])) == "a\nb\n"


@pytest.mark.parametrize("pieces", [["?\n", "!\n"], ["?\n!", "\n"]])
async def test_what_comes_again_is_no_damage(pieces: Sequence[str]) -> None:
    """An entry that is garbled each time is what the server has, however it is cut."""
    live: list[str | LogEntry] = ["a\n", garbled("?\n"), garbled("!\n")]
    source = Source(live, ["a\n", *map(garbled, pieces)], ["a\n?\n!\n"])
    assert await followed(source) == "a\n?\n!\n"


@pytest.mark.parametrize("garbage", ["01234", ["null\n"] * 5])
async def test_garbage_that_is_never_the_same_ends(garbage: Sequence[str]) -> None:
    """If something else is garbled each time, or all is null, the log is given up after some tries."""
    source = Source(*[[garbled(text)] for text in garbage])
    with pytest.raises(ConnectionFailed, match="cannot be read"):
        await followed(source)
    assert source.answers == []


async def test_a_repeated_entry_is_left_out() -> None:
    """A repeated entry is passed on once, and the stored log continues after it."""
    assert await followed(Source(["a\n", repeated("a\n")], ["a\nb\n"])) == "a\nb\n"


@pytest.mark.parametrize(
    "live",
    [
        ["a\n", repeated("a\n"), "b\n"],  # The program wrote it twice after all.
        ["a\n", "a\n", "a\n", repeated("a\n"), "b\n"],
    ],
)
async def test_a_log_that_was_damaged_is_an_error(live: Sequence[str | LogEntry]) -> None:
    """If something was odd, and the text was not what is stored, the log ends in an error."""
    with pytest.raises(ConnectionFailed, match="damaged on its way"):
        await followed(Source(live, ["a\na\nb\n"]))
