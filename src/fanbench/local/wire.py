"""What all routes share: the services behind them, errors with an HTTP status, and pages of lists."""

from __future__ import annotations

import base64
import binascii
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import anyio
from starlette.requests import Request
from starlette.responses import Response

from fanbench.local.advertise import Addresses
from fanbench.local.carriers import Carrier
from fanbench.local.environments import Environments
from fanbench.local.folder import DataFolder
from fanbench.local.models.pool import ModelPool
from fanbench.local.outputs import Outputs
from fanbench.local.scheduler import Scheduler
from fanbench.local.settings import ServerSettings
from fanbench.local.state.database import Hold
from fanbench.local.state.store import Store
from fanbench.wire.messages import ErrorBody, encode

if TYPE_CHECKING:
    from fanbench.local.proxy_workers.processes import ProxyWorkers

OWNER = "local"
"""The only user of this server, who owns every task."""

JSON = "application/json"

MAX_BODY = 64 * 1024 * 1024
"""The most bytes of a request. A notebook with all its outputs has a few MB."""

MAX_BODY_OF_STRANGERS = 64 * 1024
"""The most bytes of a request that needs no token."""

BODY_SECONDS = 60.0
"""How long a request may take to arrive."""

TOO_DEEP = "The request is nested too deeply"

DEFAULT_PAGE = 50
MAX_PAGE = 500

T = TypeVar("T")


class WireError(Exception):
    """An error that is reported to the caller with this HTTP status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


async def read_body(request: Request, limit: int = MAX_BODY) -> bytes:
    """Read the whole body. Raises WireError if it has more than `limit` bytes, or takes too long."""
    body = bytearray()
    with anyio.move_on_after(BODY_SECONDS):
        async for piece in request.stream():
            body += piece
            if len(body) > limit:
                raise WireError(413, f"The request is larger than {limit >> 10:,} KB")
        return bytes(body)
    raise WireError(408, f"The request did not arrive within {BODY_SECONDS:g} s")


@dataclass(frozen=True, kw_only=True)
class Services:
    settings: ServerSettings
    folder: DataFolder
    store: Store
    hold: Hold
    pool: ModelPool
    environments: Environments
    carrier: Carrier
    outputs: Outputs
    scheduler: Scheduler
    proxy_workers: ProxyWorkers | None
    addresses: Addresses
    token: str

    @property
    def busy(self) -> bool:
        """Whether there are runs, or requests to models in the processes of the Model Proxy."""
        return self.scheduler.busy or (self.proxy_workers is not None and self.proxy_workers.busy)

    @property
    def last_used(self) -> float:
        """When, by `time.monotonic`, a process of the Model Proxy has last said something."""
        return self.proxy_workers.last_used if self.proxy_workers is not None else 0.0


def error_response(status: int, text: str) -> Response:
    """An error as the protocol has it."""
    return Response(encode(ErrorBody(code=status, message=text)), status_code=status, media_type=JSON)


def authorize(services: Services, request: Request) -> None:
    """Raises WireError if the request does not have the server's token."""
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "basic":
        try:
            given = base64.b64decode(given, validate=True).decode().partition(":")[2]
        except (binascii.Error, UnicodeDecodeError):
            given = ""
    if not secrets.compare_digest(given.encode(), services.token.encode()):
        raise WireError(401, f"Unauthenticated: this server's token is in {services.folder.token_file}")


def page_size(asked: int) -> int:
    if asked < 0:
        raise WireError(400, "pageSize must not be negative")
    return min(asked, MAX_PAGE) or DEFAULT_PAGE


def read_token(token: str) -> int:
    if not token:
        return 0
    if not token.isascii() or not token.isdigit() or len(token) > 18:
        raise WireError(400, f"pageToken {token[:40]!r} was not issued by this server")
    return int(token)


def page_of(rows: list[T], size: int, token: str, skip: int) -> tuple[list[T], str]:
    """The page, and the token of the next one, empty for the last.

    A token is the number of rows before the page; clients must not rely on that.
    """
    start = read_token(token) + max(skip, 0)
    end = start + page_size(size)
    return rows[start:end], str(end) if end < len(rows) else ""
