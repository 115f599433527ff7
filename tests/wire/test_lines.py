"""Log entries, cut into lines and counted."""

from __future__ import annotations

import pytest

from fanbench.wire.log_lines import LineCounter, Lines
from fanbench.wire.messages import LogEntry


def entry(data: str, stream: str = "stdout") -> LogEntry:
    return LogEntry(stream_name=stream, data=data)


def test_streams_do_not_mix_within_a_line() -> None:
    """A line of stderr between two halves of a line of stdout leaves that line whole."""
    lines = Lines()
    fed = [lines.feed(entry("ab")), lines.feed(entry("err\n", "stderr")), lines.feed(entry("cd\n"))]
    assert fed == [[], ["err"], ["abcd"]]
    assert lines.flush() == []


def test_a_line_without_an_end_does_not_fill_the_memory() -> None:
    """A line that does not end is cut at some length."""
    lines = Lines()
    assert lines.feed(entry("x" * 70_000)) == ["x" * 70_000]
    assert lines.flush() == []


@pytest.mark.parametrize(
    ("pieces", "count"),
    [([], 0), (["a"], 1), (["a\n"], 1), (["a", "b"], 1), (["a\nb\n", ""], 2), (["a\n", "b"], 2)],
)
def test_lines_are_counted_as_a_reader_sees_them(pieces: list[str], count: int) -> None:
    """The number of lines does not depend on how they are cut into entries."""
    counter = LineCounter()
    for piece in pieces:
        counter.feed(piece)
    assert counter.lines == count
