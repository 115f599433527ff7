"""Following the log of a run that may not have one yet."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence

import anyio
import pytest

from fanbench import Anonymous, Config, NotFound
from fanbench.wire.log_stream import follow_log
from fanbench.wire.messages import LogEntry
from tests.operations.virtual_time import anyio_backend as anyio_backend

pytestmark = pytest.mark.anyio


class Source:
    """Answers each call with the next of `answers`: the pieces of a log, where None stands for a 404."""

    def __init__(self, *answers: Sequence[str | None]) -> None:
        self.config = Config("http://fake", Anonymous())
        self.answers = list(answers)

    async def logs(
        self, run_id: int, *, silence: float | None = None, merge: bool = False
    ) -> AsyncGenerator[LogEntry, None]:
        for piece in self.answers.pop(0):
            await anyio.lowlevel.checkpoint()
            if piece is None:
                raise NotFound("No log yet.", call="GetBenchmarkTaskRunLogs", status=404)
            yield LogEntry(data=piece)


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
