"""How a sweep does what waits for the disk."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

__all__ = ["Offload"]

T = TypeVar("T")


class Offload(Protocol):
    """Runs what blocks, so that the event loop does not: in a thread, or, in tests, at once."""

    def __call__(self, job: Callable[[], T], /) -> Awaitable[T]: ...
