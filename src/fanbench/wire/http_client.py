"""An HTTP client that reads the cookies of a response only if it sets some."""

from __future__ import annotations

from typing import Any

import httpx

__all__ = ["HttpClient"]


class _Cookies(httpx.Cookies):
    def extract_cookies(self, response: httpx.Response) -> None:
        """Keep the cookies that the response sets. Looking for them takes longer than building the request."""
        if "set-cookie" in response.headers:
            super().extract_cookies(response)


class HttpClient(httpx.AsyncClient):
    """An `httpx.AsyncClient` that starts without cookies."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._kept = _Cookies()

    @property
    def cookies(self) -> httpx.Cookies:
        """The cookies of earlier responses, which are sent with the next request."""
        return self._kept

    @cookies.setter
    def cookies(self, cookies: Any) -> None:
        self._kept = _Cookies(cookies)
