"""Debug messages through structlog, for programs that use it."""

from __future__ import annotations

import sys

__all__ = ["debug"]


def debug(event: str, **fields: object) -> None:
    """Log an event if the program has configured structlog, which otherwise prints to the user's stdout.

    structlog is not imported here: a program that has not imported it has no use for it, and the import is slow.
    """
    structlog = sys.modules.get("structlog")
    # While another thread imports it, the module exists but is still empty.
    is_configured = getattr(structlog, "is_configured", None)
    if structlog is not None and is_configured is not None and is_configured():
        structlog.get_logger("fanbench.wire").debug(event, **fields)
