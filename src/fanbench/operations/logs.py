"""Following the log of a run. Everything that reads a live log does it here."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing

from fanbench.errors import NotFound
from fanbench.wire.log_stream import LogSource, follow
from fanbench.wire.messages import LogEntry

__all__ = ["follow_log"]


async def follow_log(
    client: LogSource,
    run_id: int,
    *,
    ended: Callable[[], Awaitable[bool]] | None = None,
    missing: Callable[[], Awaitable[bool]] | None = None,
) -> AsyncGenerator[LogEntry, None]:
    """Yield the entries of a run's log, from its start to the end of the run. Close it when leaving early.

    A stream that breaks is resumed without losing or repeating text. One that ends in good order is taken for
    the end of the run, unless `ended()` says that the run continues.

    A run has no log while it is queued, and for a moment after. `missing()` is then called: it waits until it is
    time to try again, and returns False if that is pointless. Without it, a missing log is an error.

    Raises:
        NotFound: The server has no log of the run (yet).
        FanbenchError: The stream broke too often.
    """
    found = False
    while True:
        try:
            async with aclosing(follow(client, run_id, ended=ended)) as entries:
                async for entry in entries:
                    found = True
                    yield entry
            return
        except NotFound:
            if found or missing is None or not await missing():
                raise
