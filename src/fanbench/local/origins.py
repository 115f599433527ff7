"""Refuses requests of web pages, which must not reach the server through the browser of its user.

A page can send requests to every address of this machine. Its browser then names the page in `Origin`. With DNS
rebinding, the page's own name leads to this machine; then the browser names it in `Host`.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from fanbench.local.wire import error_response

__all__ = ["OwnNames", "refusal"]


class OwnNames:
    """Refuses requests to a server of another name than `names`, and those of pages of another server."""

    def __init__(self, app: ASGIApp, names: Collection[str]) -> None:
        self._app = app
        self._names = names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refused = refusal(Headers(scope=scope), self._names) if scope["type"] == "http" else None
        answer = self._app if refused is None else error_response(403, refused)
        await answer(scope, receive, send)


def refusal(headers: Headers, names: Collection[str]) -> str | None:
    """Why a request with these headers is refused; None if it is not. `names` are the names of this server."""
    host = headers.get("host", "")
    if not _is_ours(host, names):
        return (
            f"Host {host[:100]!r} is not a name of this server. Use its address, or allow the name with "
            "`fanbench serve --allow-host NAME`"
        )
    for origin in headers.getlist("origin"):
        if not host or _place(origin) != host.lower():
            return f"A page of {origin[:100]!r} may not use this server"
    return None


def _is_ours(host: str, names: Collection[str]) -> bool:
    if not host:
        return True  # HTTP/1.0, which no browser sends
    try:
        name = (urlsplit(f"//{host}").hostname or "").removesuffix(".")
    except ValueError:
        return False
    if name in names or name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return False
    return True  # an address cannot be made to lead elsewhere


def _place(origin: str) -> str:
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""
