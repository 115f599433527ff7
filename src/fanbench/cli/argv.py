"""Reading the words of a command line as the vendor's users write them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

import click

from fanbench.errors import UsageError

__all__ = ["one_value_each", "optional_wait"]


_NUMBER = re.compile(r"-?\d+(\.\d*)?")


def optional_wait(words: Sequence[str]) -> list[str]:
    """`--wait` without a number becomes `--wait=0`, and takes no word that is none."""
    tidy: list[str] = []
    rest = list(words)
    while rest and rest[0] != "--":
        word = rest.pop(0)
        if word == "--wait":
            word = f"--wait={rest.pop(0) if rest and _NUMBER.fullmatch(rest[0]) else 0}"
        tidy.append(word)
    return tidy + rest


class _Word(NamedTuple):
    kind: Literal["option", "value", "argument"]
    text: str
    option: click.Option | None = None


def one_value_each(words: Sequence[str], options: Sequence[click.Option]) -> None:
    """Refuses `TASK -m a b`: `b` would be taken for one more argument.

    Raises:
        UsageError: with the form that repeats the flag.
    """
    before: _Word | None = None
    arguments = False
    gap = False
    for word in _classified(words, options):
        if word.kind != "argument":
            gap = arguments
        elif gap and before and before.kind == "value" and before.option and before.option.multiple:
            flag = before.option.opts[0]
            raise UsageError(
                f"{flag} takes one value, and '{word.text}' follows '{before.text}'.",
                hint=f"Repeat the flag: {flag} {before.text} {flag} {word.text}",
            )
        else:
            arguments = True
        before = word


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
        option, attached = _option_of(word, by_name)
        yield _Word("option", word)
        if option is not None and (attached or rest):
            yield _Word("value", attached or rest.pop(0), option)


def _option_of(word: str, by_name: Mapping[str, click.Option]) -> tuple[click.Option | None, str]:
    """The option that takes a value, and the value if it is in the same word."""
    name, _, attached = word.partition("=")
    if not word.startswith("--") and word not in by_name:
        name, attached = word[:2], word[2:]
    option = by_name.get(name)
    return (None, "") if option is None or option.is_flag else (option, attached)
