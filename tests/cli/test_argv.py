"""Command lines as users of the Kaggle CLI write them."""

from __future__ import annotations

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanbench import UsageError
from fanbench.cli.argv import expand_flags, one_value_each, optional_wait
from fanbench.testing import SimulatedKaggle
from tests.cli.conftest import Cli

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


OWN = [
    click.Option(["-f", "--file"]),
    click.Option(["--poll-interval"]),
    click.Option(["--page-size"]),
    click.Option(["--logs/--no-logs"]),
]
COMMON = [
    click.Option(["--format"]),
    click.Option(["--no-color"], is_flag=True),
    click.Option(["-q", "--quiet"]),
]


@pytest.mark.parametrize(
    ("words", "full"),
    [
        ("t --poll 5", "t --poll-interval 5"),
        ("t --poll-int=5", "t --poll-interval=5"),
        ("t --f x --fo json --qui", "t --file x --format json --quiet"),
        ("t --no-l --no-c", "t --no-logs --no-color"),
        ("t --pa 5 --x -p", "t --page-size 5 --x -p"),
        ("t -- --poll 5", "t -- --poll 5"),
        ("--", "--"),
    ],
)
def test_long_flags_may_be_abbreviated(words: str, full: str) -> None:
    """The beginning of one flag stands for it, first among those of the command; other words stay."""
    assert expand_flags(words.split(), OWN, COMMON) == full.split()


@pytest.mark.parametrize("word", ["--p", "--p=5"])
def test_ambiguous_flags_are_refused(word: str) -> None:
    """The beginning of several flags is an error that names them."""
    with pytest.raises(UsageError, match=r"^--p may be --poll-interval or --page-size"):
        expand_flags([word], OWN, COMMON)


def test_the_vendors_global_flags(cli: Cli, kaggle: SimulatedKaggle) -> None:
    """`-W` and `--debug` may stand before the command, as with the Kaggle CLI, and after it."""
    kaggle.add_task("t")
    for words in (
        ("-W", "--debug", "b", "t", "status", "t"),
        ("tasks", "status", "t", "-W", "--deb"),
        ("--no-w", "--deb", "b", "t", "status", "t"),
    ):
        assert cli(*words).exit_code == 0


def test_an_abbreviated_flag_of_a_command(cli: Cli, kaggle: SimulatedKaggle) -> None:
    """`run --mod M --poll 5 --wait` works as it does with the Kaggle CLI; an ambiguous flag is refused."""
    kaggle.add_task("t")
    assert cli("b", "t", "run", "t", "--mod", "m", "--poll", "5", "--wait").exit_code == 0
    refused = cli("tasks", "list", "--no", "x")
    assert refused.exit_code == 2
    assert "--no may be --no-color or --no-warn." in refused.stderr
    assert cli("--no", "tasks", "list").stderr == refused.stderr
