"""The log of a run as one stream of entries, taken up again where it breaks."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from fanbench.operations.api import Api
from fanbench.wire.messages import LogEntry

__all__ = ["follow_log"]


def follow_log(client: Api, run_id: int) -> AsyncGenerator[LogEntry, None]:
    """The entries from the first on, until the run ends. To be closed (`aclosing`) if left early.

    Raises:
        NotFound: the run is still queued.
        FanbenchError: the stream broke off too often.
    """
    from fanbench.wire.log_stream import follow

    return follow(client, run_id)
