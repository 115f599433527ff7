"""The instructions for coding agents."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

import fanbench
from fanbench.cli.app import root
from fanbench.operations.environment import write_skill
from tests.cli.conftest import Cli

PAGE = (Path(__file__).parents[2] / "docs/skill/SKILL.md").read_text("utf-8")
COMMANDS = [
    line
    for block in re.findall(r"^```sh\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    for line in block.splitlines()
]


def test_the_command_prints_the_page() -> None:
    """`fanbench skill` prints docs/skill/SKILL.md unchanged."""
    assert CliRunner().invoke(root, ["skill"]).stdout == PAGE


def test_the_page_is_written_once(tmp_path: Path) -> None:
    """The page is written to a new folder of skills, and an existing page is left as it is."""
    page = tmp_path / "new" / "skills" / "fanbench" / "SKILL.md"
    first = write_skill(tmp_path / "new" / "skills")
    assert (first.path, first.existed, page.read_text("utf-8")) == (page, False, PAGE)
    page.write_text("Mine.")
    assert write_skill(tmp_path / "new" / "skills").existed
    assert page.read_text() == "Mine."


def test_init_writes_the_page_without_credentials(folder: Path) -> None:
    """Without credentials, init writes the page, and fails with the names of the files that are left."""
    result = CliRunner().invoke(root, ["init", "-y", "--skill", "skills"])
    assert result.exit_code == 3
    assert [path.relative_to(folder) for path in folder.rglob("*.*")] == [Path("skills/fanbench/SKILL.md")]
    left = ".env, example_task.py and kaggle_benchmarks_reference.md."
    written = f"skills/fanbench/SKILL.md has been written. This is left of init: {left}"
    assert written in result.stderr.splitlines()


def test_init_lists_the_page(cli: Cli) -> None:
    """The list of what init has written shows the page with its folders."""
    result = cli("init", "-y", "--skill", "skills")
    assert re.search(r"^  skills/fanbench/SKILL\.md +\(Instructions", result.stderr, re.MULTILINE)


def test_every_message_in_the_table_is_one_of_ours() -> None:
    """The table of errors quotes messages that the commands print; `…` stands for what varies."""
    table = PAGE.partition("## Errors and what to do\n")[2].partition("\n## ")[0]
    cells = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    quoted = [text for cell in cells for text in re.findall(r"`([^`]+)`", cell)]
    assert len(quoted) > 12
    sources = "\n".join(path.read_text("utf-8") for path in Path(fanbench.__file__).parent.rglob("*.py"))
    parts = {part.strip() for text in quoted for part in text.split("…")}
    others = {"401", "429", "AuthenticationError", "ModuleNotFoundError"}
    assert {part for part in parts - others if part not in sources} == set()


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_can_be_parsed(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every command of the page exists and has the options that the page gives it."""
    monkeypatch.chdir(tmp_path)
    Path("task.py").touch()
    Path("results").mkdir()
    Path("runs").mkdir()
    Path("datasets").mkdir()
    words = shlex.split(line)
    name: str | None = words.pop(0)
    assert name == "fanbench"
    command: click.Command | None = root
    context: click.Context | None = None
    while isinstance(command, click.Group):
        context = click.Context(command, parent=context, info_name=name)
        name, command, words = command.resolve_command(context, words)
    assert command is not None, line
    command.make_context(name, words, parent=context)
