"""Single polls of a task's runs, for the loops that do not use `RunWatcher` yet."""

from __future__ import annotations

from collections.abc import Sequence

from fanbench.errors import FanbenchError
from fanbench.operations.api import Api
from fanbench.operations.events import Report
from fanbench.operations.lookup import runs_of
from fanbench.operations.watch import FailedPolls
from fanbench.wire.messages import Run

__all__ = ["RunPoll"]


class RunPoll:
    """The runs of a task: one list call for all of them."""

    def __init__(self, client: Api, slug: str, models: Sequence[str], report: Report) -> None:
        self._client = client
        self._slug = slug
        self._models = models
        self._failed_polls = FailedPolls(slug, report)

    async def ask(self) -> list[Run] | None:
        """The runs, or `None` if the server did not answer this time.

        Raises:
            FanbenchError: The server refused, or too many polls in a row have failed.
        """
        try:
            runs = await runs_of(self._client, self._slug, self._models)
        except FanbenchError as error:
            self._failed_polls.add(error)
            return None
        self._failed_polls.reset()
        return runs
