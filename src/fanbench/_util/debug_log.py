"""Debug lines through structlog, for programs that use it."""

from __future__ import annotations

import sys

__all__ = ["debug"]


def debug(event: str, **fields: object) -> None:
    """Log, if the program has set structlog up: unconfigured, it would print to the user's stdout.

    Nor is it imported here: a program that never did has no use for it, and the import takes a while.
    """
    structlog = sys.modules.get("structlog")
    # While another thread imports it, it is there and has nothing in it yet.
    is_configured = getattr(structlog, "is_configured", None)
    if structlog is not None and is_configured is not None and is_configured():
        structlog.get_logger("fanbench.wire").debug(event, **fields)
