"""How a sweep is to be run: limits and policies, without what is run."""

from __future__ import annotations

import math

import msgspec

from fanbench._util.polling import POLL_INTERVAL
from fanbench.errors import UsageError

__all__ = ["MaxFailures", "Rules"]

STREAMS = 64
DOWNLOADS = 16


class MaxFailures(msgspec.Struct, frozen=True):
    """From how many failed runs on nothing more is scheduled: a number, or a percentage of the planned."""

    value: float
    percent: bool = False

    @classmethod
    def parse(cls, text: str) -> MaxFailures:
        """`5` or `10%`.

        Raises:
            UsageError: it is neither.
        """
        number, percent = text.strip().removesuffix("%"), text.strip().endswith("%")
        try:
            value = float(number) if percent else int(number)
        except ValueError:
            value = -1
        if not 0 <= value < math.inf or (percent and value > 100):
            raise UsageError(f"--max-failures takes a number or a percentage (5, 10%), not {text!r}.")
        return cls(float(value), percent)

    def reached(self, failures: int, planned: int) -> bool:
        """Whether `failures` of `planned` runs are too many. One failure is the least that can be."""
        most = self.value * planned / 100 if self.percent else self.value
        return failures > 0 and failures >= most

    def __str__(self) -> str:
        return f"{self.value:g}%" if self.percent else f"{self.value:g}"


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """Times are in seconds, `max_cost` in US dollars; `None` is without limit.

    `streams` log streams and `downloads` outputs are read at the same time; how many calls are under way is
    the client's `concurrency`, which adapts itself downwards. `timeout` is for each run from when it was
    scheduled, and as long again for what is in its way before; `deadline` for the whole.
    """

    retry_errored: int = 0
    max_failures: MaxFailures | None = None
    timeout: float | None = None
    deadline: float | None = None
    max_cost: float | None = None
    poll_interval: float = POLL_INTERVAL
    streams: int = STREAMS
    downloads: int = DOWNLOADS
    include_source: bool = False
