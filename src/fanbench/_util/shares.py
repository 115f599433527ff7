"""Shares of a whole, as users give them."""

from __future__ import annotations

from fanbench.errors import UsageError

__all__ = ["check_share"]


def check_share(name: str, value: float) -> float:
    """Return `value` if it is above 0 and at most 1.

    Raises:
        UsageError: It is not, or is NaN.
    """
    if not 0 < value <= 1:
        raise UsageError(f"{name} is {value:g}.", hint="Write a number above 0, up to 1, such as 0.05.")
    return value
