"""Times with the precision of the protocol: UTC, milliseconds."""

from __future__ import annotations

from datetime import UTC, datetime

__all__ = ["now", "today"]


def now() -> datetime:
    moment = datetime.now(UTC)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def today() -> datetime:
    """The beginning of this day, in UTC."""
    return now().replace(hour=0, minute=0, second=0, microsecond=0)
