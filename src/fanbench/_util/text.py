"""Small conversions that several packages need."""

from __future__ import annotations

from datetime import UTC, datetime

__all__ = ["as_utc", "last_line"]


def as_utc(time: datetime) -> datetime:
    """Return `time` with a time zone: one without is UTC, as in the API's answers."""
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def last_line(text: str, default: str = "") -> str:
    """Return the last line that is not blank, such as the message at the end of a traceback."""
    lines = text.strip().splitlines()
    return lines[-1].strip() if lines else default
