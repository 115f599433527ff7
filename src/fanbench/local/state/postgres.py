"""A connection to PostgreSQL that does not wait without end. Needs the extra `postgres`."""

from __future__ import annotations

from typing import Any

import anyio
from psycopg import AsyncConnection, OperationalError

__all__ = ["ANSWER_SECONDS", "BoundedConnection"]

ANSWER_SECONDS = 30.0
"""How long a statement may take. A database whose disk stands still keeps its connections open and answers nothing."""


class BoundedConnection(AsyncConnection[Any]):
    """Fails, and is closed, if a statement takes longer than `ANSWER_SECONDS`."""

    async def wait(self, *args: Any, **kwargs: Any) -> Any:
        try:
            with anyio.fail_after(ANSWER_SECONDS):
                return await super().wait(*args, **kwargs)
        except TimeoutError:
            await self.close()
            raise OperationalError(f"no answer within {ANSWER_SECONDS:g} s") from None
