"""Command lines as users of the Kaggle CLI write them."""

from __future__ import annotations

import re
from collections.abc import Sequence

import click

from fanbench.errors import UsageError

__all__ = ["one_value_each", "optional_wait"]

_NUMBER = re.compile(r"-?\d+(\.\d*)?")


def optional_wait(words: Sequence[str]) -> list[str]:
    """Turn `--wait` without a number into `--wait=0`, so that it does not take the next word as its value."""
    tidy: list[str] = []
    rest = list(words)
    while rest and rest[0] != "--":
        word = rest.pop(0)
        if word == "--wait":
            word = f"--wait={rest.pop(0) if rest and _NUMBER.fullmatch(rest[0]) else 0}"
        tidy.append(word)
    return tidy + rest


def one_value_each(words: Sequence[str], options: Sequence[click.Option]) -> None:
    """Refuse `TASK -m a b`, in which click would take `b` for another TASK.

    Raises:
        UsageError: The hint repeats the flag for each value.
    """
    by_name = {name: option for option in options for name in option.opts}
    value_before: tuple[click.Option, str] | None = None
    arguments = False
    rest = list(words)
    while rest:
        word = rest.pop(0)
        only_arguments = word == "--"
        if only_arguments:
            if not rest:
                return
            word, rest = rest[0], []
        if only_arguments or not word.startswith("-") or word == "-":
            if arguments and value_before:
                option, value = value_before
                raise UsageError(
                    f"{option.opts[0]} takes one value, but '{value}' is followed by '{word}'.",
                    hint=f"Repeat the flag: {option.opts[0]} {value} {option.opts[0]} {word}",
                )
            arguments, value_before = True, None
            continue
        name, _, value = word.partition("=")
        if not word.startswith("--") and word not in by_name:
            name, value = word[:2], word[2:]
        named = by_name.get(name)
        value_before = None
        if named is not None and not named.is_flag and (value or rest):
            value = value or rest.pop(0)
            value_before = (named, value) if named.multiple else None
