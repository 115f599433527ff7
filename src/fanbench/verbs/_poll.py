"""Asking again and again for the runs of a task."""

from __future__ import annotations

from collections.abc import Sequence

from fanbench._errors import ConnectionFailed, RateLimited, ServerFault
from fanbench.api.messages import Run
from fanbench.verbs._api import Api
from fanbench.verbs._tasks import runs_of
from fanbench.verbs.events import PollFailed, Report

__all__ = ["RunPoll"]

# A poll that fails for one of these reasons is made again; the client has tried several times by then.
_PASSING = (ConnectionFailed, ServerFault, RateLimited)
_MAY_FAIL = 5


class RunPoll:
    """One list call an `ask`. A wait of hours outlives a server that is away for a while."""

    def __init__(self, client: Api, slug: str, models: Sequence[str], report: Report) -> None:
        self._client = client
        self._slug = slug
        self._models = models
        self._report = report
        self._failures = 0

    async def ask(self) -> list[Run] | None:
        """The runs, or `None` where the server did not answer this time.

        Raises:
            FanbenchError: it refused, or has not answered for too many times in a row.
        """
        try:
            runs = await runs_of(self._client, self._slug, self._models)
        except _PASSING as error:
            self._failures += 1
            if self._failures > _MAY_FAIL:
                raise
            self._report(PollFailed(self._slug, error))
            return None
        self._failures = 0
        return runs
