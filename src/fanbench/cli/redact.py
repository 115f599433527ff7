"""The secrets that this process has read: they are never said, also if a server says them back to us."""

from __future__ import annotations

from typing import Final

__all__ = ["hidden", "hide"]

_INSTEAD = "[hidden]"
# Shorter ones are no secrets, and would make every text unreadable.
_SHORTEST = 6

_secrets: Final[set[str]] = set()


def hide(*secrets: str) -> None:
    """From now on none of `secrets` is shown."""
    _secrets.update(secret for secret in secrets if len(secret) >= _SHORTEST)


def hidden(text: str) -> str:
    """`text` without the secrets in it; of one that is a part of another, the longer goes first."""
    for secret in sorted(_secrets, key=len, reverse=True):
        text = text.replace(secret, _INSTEAD)
    return text
