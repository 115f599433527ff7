"""Secrets that this process has read are never printed, even if a server repeats them."""

from __future__ import annotations

from typing import Final

__all__ = ["hide", "redact"]

_REPLACEMENT = "[hidden]"
# Shorter texts are not secrets, and replacing them would make output unreadable.
_SHORTEST = 6

_secrets: Final[set[str]] = set()


def hide(*secrets: str) -> None:
    """Remove `secrets` from everything that is printed from now on."""
    _secrets.update(secret for secret in secrets if len(secret) >= _SHORTEST)


def redact(text: str) -> str:
    """Return `text` with its secrets replaced. Longer ones go first: a secret may contain another."""
    for secret in sorted(_secrets, key=len, reverse=True):
        text = text.replace(secret, _REPLACEMENT)
    return text
