"""Command lines as users of the Kaggle CLI write them."""

from __future__ import annotations

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanbench import UsageError
from fanbench.cli.argv import one_value_each, optional_wait

OPTIONS = [
    click.Option(["-m", "--model"], multiple=True),
    click.Option(["-o", "--output"]),
    click.Option(["-s", "--source"], is_flag=True),
]


@pytest.mark.parametrize(
    ("words", "tidy"),
    [
        ("t --wait", "t --wait=0"),
        ("t --wait 60 -m a", "t --wait=60 -m a"),
        ("--wait 1.5 t", "--wait=1.5 t"),
        ("--wait t", "--wait=0 t"),
        ("--wait -m a t", "--wait=0 -m a t"),
        ("t --wait -1", "t --wait=-1"),
        ("t --wait=7", "t --wait=7"),
        ("t -- --wait 3", "t -- --wait 3"),
        ("t --wait nan", "t --wait=0 nan"),
    ],
)
def test_wait_takes_a_number_or_nothing(words: str, tidy: str) -> None:
    """--wait takes a number or nothing, and never the next word."""
    assert optional_wait(words.split()) == tidy.split()


@given(st.lists(st.text(max_size=5).filter(lambda word: word != "--wait")))
def test_other_words_stay_as_they_are(words: list[str]) -> None:
    """All other words stay as they are, also empty ones."""
    assert optional_wait(words) == words


@pytest.mark.parametrize(
    "words",
    ["t -m a", "-m a t", "t u -m a -m b", "-m a t u", "t -o x -s", "t -s u", "-s t", "t -m a -s u", "- -m a"],
)
def test_good_command_lines(words: str) -> None:
    """Arguments may stand before or after the options."""
    one_value_each(words.split(), OPTIONS)


@pytest.mark.parametrize("words", ["t -m a b", "t --model a b", "t --model=a b", "t -ma b", "t -s -m a b c"])
def test_two_values_for_one_flag(words: str) -> None:
    """Two values for one flag are refused with a hint that repeats the flag."""
    with pytest.raises(UsageError) as caught:
        one_value_each(words.split(), OPTIONS)
    assert caught.value.hint == "Repeat the flag: -m a -m b"
