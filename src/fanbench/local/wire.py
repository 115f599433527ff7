"""What all routes share: the services behind them, and errors with an HTTP status."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from starlette.requests import Request

from fanbench.local.folder import DataFolder
from fanbench.local.models.pool import ModelPool
from fanbench.local.proxy.service import ModelProxy
from fanbench.local.settings import Settings
from fanbench.local.store import Store

if TYPE_CHECKING:
    from fanbench.local.scheduler import Scheduler

OWNER = "local"
"""The only user of this server, who owns every task."""

MAX_BODY = 64 * 1024 * 1024
"""The most bytes of a request. A notebook with all its outputs has a few MB."""


class WireError(Exception):
    """An error that is reported to the caller with this HTTP status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


async def read_body(request: Request) -> bytes:
    """Read the whole body. Raises WireError if it is too large."""
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_BODY:
            raise WireError(413, f"The request is larger than {MAX_BODY >> 20} MB")
    return bytes(body)


@dataclass(frozen=True, kw_only=True)
class Services:
    settings: Settings
    folder: DataFolder
    store: Store
    pool: ModelPool
    proxy: ModelProxy
    scheduler: Scheduler
    base_url: str
    token: str
