"""The rule that decides whether a log that was read live is complete."""

from __future__ import annotations

import math

import pytest

from fanbench.sweeps.run import reaches_the_end


@pytest.mark.parametrize(
    ("ahead", "ended_at", "seconds", "whole"),
    [
        # Our clock showed 90 when the run's clock showed 0, and 100 at the end of the stream.
        (-90.0, 100.0, 10.0, True),
        (-90.0, 100.0, 10.5, True),
        (-90.0, 100.0, 10.6, False),
        (-90.0, 100.0, 9.0, True),
        (-90.0, 100.0, 3600.0, False),
        # Without a line, the run's clock is unknown.
        (-math.inf, 100.0, 10.0, False),
        # The server does not report how long the run took.
        (-90.0, 100.0, None, True),
        (-math.inf, 100.0, None, True),
    ],
)
def test_whether_a_stream_ended_with_its_run(
    ahead: float, ended_at: float, seconds: float | None, whole: bool
) -> None:
    """A stream ended with its run if it lasted as long as the run, within half a second, by the run's clock."""
    assert reaches_the_end(ahead, ended_at, seconds) is whole
