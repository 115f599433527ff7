"""The log of a run as one stream of entries, taken up again where it breaks."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, cast

from fanbench.api.messages import LogEntry
from fanbench.verbs._api import Api

if TYPE_CHECKING:
    from fanbench.api.client import Client

__all__ = ["follow_log"]


def follow_log(client: Api, run_id: int) -> AsyncGenerator[LogEntry, None]:
    """The entries from the first on, until the run ends. To be closed (`aclosing`) if left early.

    Raises:
        NotFound: the run is still queued.
        FanbenchError: the stream broke off too often.
    """
    from fanbench.api.logs import follow

    return follow(cast("Client", client), run_id)
