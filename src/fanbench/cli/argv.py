"""Command lines as users of the Kaggle CLI write them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

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
    before: _Word | None = None
    arguments = gap = False
    for word in _classified(words, options):
        if word.kind != "argument":
            gap = arguments
        elif gap and before and before.kind == "value" and before.option and before.option.multiple:
            flag = before.option.opts[0]
            raise UsageError(
                f"{flag} takes one value, but '{before.text}' is followed by '{word.text}'.",
                hint=f"Repeat the flag: {flag} {before.text} {flag} {word.text}",
            )
        else:
            arguments = True
        before = word


class _Word(NamedTuple):
    kind: Literal["option", "value", "argument"]
    text: str
    option: click.Option | None = None


def _classified(words: Sequence[str], options: Sequence[click.Option]) -> Iterator[_Word]:
    by_name = {name: option for option in options for name in option.opts}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word == "--":
            yield from (_Word("argument", other) for other in rest)
            return
        if not word.startswith("-") or word == "-":
            yield _Word("argument", word)
            continue
        name, _, value = word.partition("=")
        if not word.startswith("--") and word not in by_name:
            name, value = word[:2], word[2:]
        option = by_name.get(name)
        yield _Word("option", word)
        if option is not None and not option.is_flag and (value or rest):
            yield _Word("value", value or rest.pop(0), option)
