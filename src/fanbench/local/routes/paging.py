"""Pages of a list. A page token is the number of rows before the page, opaque to clients."""

from __future__ import annotations

from typing import TypeVar

from fanbench.local.wire import WireError

DEFAULT_PAGE = 50
MAX_PAGE = 500

T = TypeVar("T")


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
    """The page, and the token of the next one, empty for the last."""
    start = read_token(token) + max(skip, 0)
    end = start + page_size(size)
    return rows[start:end], str(end) if end < len(rows) else ""
