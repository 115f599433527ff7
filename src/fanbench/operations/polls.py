"""Asking again and again for a task, or for its runs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Generic, TypeVar

from fanbench.errors import FanbenchError
from fanbench.operations.api import Api
from fanbench.operations.events import PollFailed, Report
from fanbench.operations.lookup import existing_task, runs_of
from fanbench.wire import protocol
from fanbench.wire.messages import Run, Task
from fanbench.wire.retry import may_retry

__all__ = ["RunPoll", "TaskPoll"]

T = TypeVar("T")

# Polls in a row that may fail, each after the retries of the client.
_MAY_FAIL = 5


class _Poll(ABC, Generic[T]):
    """One call an `ask`. A wait of hours outlives a server that is away for a while."""

    def __init__(self, client: Api, slug: str, report: Report) -> None:
        self._client = client
        self._slug = slug
        self._report = report
        self._failures = 0

    @abstractmethod
    async def _look(self) -> T: ...

    async def ask(self) -> T | None:
        """What there is, or `None` where the server did not answer this time.

        Raises:
            FanbenchError: it refused, or has not answered for too many times in a row.
        """
        try:
            found = await self._look()
        except FanbenchError as error:
            self._failures += 1
            if self._failures > _MAY_FAIL or not may_retry(error, protocol.LIST_RUNS):
                raise
            self._report(PollFailed(self._slug, error))
            return None
        self._failures = 0
        return found


class RunPoll(_Poll[list[Run]]):
    """The runs of a task: one list call for all of them."""

    def __init__(self, client: Api, slug: str, models: Sequence[str], report: Report) -> None:
        super().__init__(client, slug, report)
        self._models = models

    async def _look(self) -> list[Run]:
        return await runs_of(self._client, self._slug, self._models)


class TaskPoll(_Poll[Task]):
    """The task itself."""

    async def _look(self) -> Task:
        return await existing_task(self._client, self._slug)
