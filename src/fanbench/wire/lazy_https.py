"""An HTTPS transport that is made with its first request."""

from __future__ import annotations

from collections.abc import Callable

import httpx

__all__ = ["LazyHttps"]


class LazyHttps(httpx.AsyncBaseTransport):
    """Passes requests on to the transport that `make` returns, which is called for the first of them."""

    def __init__(self, make: Callable[[], httpx.AsyncBaseTransport]) -> None:
        self._make = make
        self._transport: httpx.AsyncBaseTransport | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if self._transport is None:
            self._transport = self._make()
        return await self._transport.handle_async_request(request)

    async def aclose(self) -> None:
        if self._transport is not None:
            await self._transport.aclose()
