"""Times as the wire writes them: UTC, milliseconds."""

from __future__ import annotations

from datetime import UTC, datetime


def now() -> datetime:
    moment = datetime.now(UTC)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def parse(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
