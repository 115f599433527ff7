"""The help of every command says what it does, what each flag means, and how it is typed."""

from __future__ import annotations

import re
from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from fanbench.cli.app import root
from fanbench.cli.command import Command


def commands(
    group: click.Group, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Yield all commands and groups below `group`, each once, with their full names."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None, name
        yield (*path, name), command
        if isinstance(command, click.Group):
            # Most commands below `benchmarks` are those of the root in another spelling.
            below = commands(command, (*path, name))
            yield from (each for each in below if name != "benchmarks" or each[0][1] in ("add", "remove"))


ALL = [((), root), *commands(root)]


@pytest.fixture(params=ALL, ids=lambda pair: " ".join(pair[0]) or "fanbench")
def command(request: pytest.FixtureRequest) -> tuple[tuple[str, ...], click.Command]:
    pair: tuple[tuple[str, ...], click.Command] = request.param
    return pair


def test_a_command_says_what_it_does(command: tuple[tuple[str, ...], click.Command]) -> None:
    """The help begins with a sentence that says what the command does."""
    _, found = command
    assert found.help
    first = found.help.strip().partition("\n\n")[0]
    assert first[0].isupper()
    assert first.rstrip().endswith("."), first


def test_every_flag_and_no_other_has_help(command: tuple[tuple[str, ...], click.Command]) -> None:
    """Every flag has a help text."""
    path, found = command
    for param in found.params:
        if isinstance(param, click.Option):
            assert param.help, (path, param.name)
            assert param.help.rstrip("]).").strip(), (path, param.name)


def test_help_shows_each_option_once(command: tuple[tuple[str, ...], click.Command]) -> None:
    """Each option that is not hidden is in one section of the help."""
    path, found = command
    text = CliRunner().invoke(root, [*path, "--help"], prog_name="fanbench").stdout
    context = click.Context(found)
    for param in found.get_params(context):
        if isinstance(param, click.Option) and (record := param.get_help_record(context)) is not None:
            assert len(re.findall(rf"^  {re.escape(record[0])}(?:  |$)", text, re.MULTILINE)) == 1, record


def test_sections_of_the_help_name_options_that_there_are(
    command: tuple[tuple[str, ...], click.Command],
) -> None:
    """A section of the help has no name that is no option's: that option would be among the others."""
    path, found = command
    sections = found.sections if isinstance(found, Command) else {}
    named = [name for names in sections.values() for name in names]
    assert len(named) == len(set(named)), path
    assert set(named) <= {param.name for param in found.params}, path


def test_examples_are_shown_and_can_be_typed(command: tuple[tuple[str, ...], click.Command]) -> None:
    """Every help has examples, one below the other, and they use only commands and flags that exist."""
    path, _ = command
    text = CliRunner().invoke(root, [*path, "--help"], prog_name="fanbench").stdout
    examples = re.findall(r"(?:Examples|Examples, to begin with):\n((?:\s+\S.*\n?)+)", text)
    assert examples, path
    lines = [line for line in examples[-1].splitlines() if line.strip().startswith("fanbench ")]
    assert len({line.index("fanbench") for line in lines}) == 1, (path, lines)
    for line in lines:
        can_be_typed(line.strip())


def can_be_typed(line: str) -> None:
    words = re.split(r"\s{2,}| [|>] ", line)[0].split()[1:]
    command: click.Command = root
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        found = command.get_command(click.Context(command), words.pop(0))
        assert found is not None, line
        command = found
    known = {name for param in command.params for name in [*param.opts, *param.secondary_opts]}
    flags = {word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)}
    assert flags <= known | {"-h", "--help"}, line
