"""Command lines as users of the Kaggle CLI write them."""

from __future__ import annotations

import re
from collections.abc import Sequence

import click

from fanbench.errors import UsageError

__all__ = ["expand_flags", "one_value_each", "optional_wait"]

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


def expand_flags(
    words: Sequence[str], own: Sequence[click.Option], common: Sequence[click.Option] = ()
) -> list[str]:
    """Complete abbreviated long flags, such as `--poll` for `--poll-interval`.

    The beginning must be that of one flag: of those of the command itself, or else of the `common` ones. What begins
    no flag is left as it is, for click's error message.

    Raises:
        UsageError: The beginning is that of several flags.
    """
    flags = [
        [flag for option in options for flag in (*option.opts, *option.secondary_opts)]
        for options in (own, common)
    ]
    known = {*flags[0], *flags[1]}
    full: list[str] = []
    rest = list(words)
    while rest and rest[0] != "--":
        name, equals, value = rest.pop(0).partition("=")
        if name.startswith("--") and name not in known:
            candidates = ([flag for flag in each if flag.startswith(name)] for each in flags)
            matches = next(filter(None, candidates), [name])
            if len(matches) > 1:
                raise UsageError(f"{name} may be {' or '.join(matches)}.", hint="Write the flag in full.")
            name = matches[0]
        full.append(f"{name}{equals}{value}")
    return full + rest


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
