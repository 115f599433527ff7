"""docs/sweep.md and the code agree on events, keys of the sweep file and exit codes."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from fanbench.cli.app import root
from fanbench.sweeps.events import ALL_EVENTS
from fanbench.sweeps.sweep_file import Limits, Loaded, Policy, SweepFile, TaskTable

DOCUMENT = (Path(__file__).parents[2] / "docs" / "sweep.md").read_text(encoding="utf-8")


def section(heading: str) -> str:
    return re.split(r"\n## ", DOCUMENT.partition(f"\n## {heading}\n")[2])[0]


def names(cell: str) -> tuple[str, ...]:
    return tuple(re.findall(r"`(\w+)`", cell))


def rows(text: str) -> list[list[str]]:
    return [line.strip("|").split("|") for line in text.splitlines() if line.startswith("| `")]


def test_every_event() -> None:
    """Every event is documented with all of its fields, in the order in which they are written."""
    documented = {
        names(cells[0])[0]: names(cells[1]) for cells in rows(section("Events").partition("| field |")[0])
    }
    fields = {kind.__struct_config__.tag: kind.__struct_encode_fields__ for kind in ALL_EVENTS}
    assert documented == fields


def test_every_field() -> None:
    """Every field is explained once."""
    explained = [
        name for cells in rows(section("Events").partition("| field |")[2]) for name in names(cells[0])
    ]
    assert sorted(explained) == sorted(
        {name for kind in ALL_EVENTS for name in kind.__struct_encode_fields__}
    )


def test_every_key_of_the_sweep_file() -> None:
    """Every key of the sweep file is documented, in the order of the schema."""
    tables = [
        tuple(names(cells[0])[0] for cells in rows(part))
        for part in re.split(r"\| key \|", section("sweep.toml"))
    ]
    assert tables[1:] == [
        tuple(each.name for each in msgspec.structs.fields(kind))
        for kind in (SweepFile, TaskTable, Limits, Policy)
    ]


def test_the_examples(tmp_path: Path) -> None:
    """The examples are valid sweep files."""
    examples = re.findall(r"```toml\n(.*?)```", DOCUMENT, re.DOTALL)
    files = [Loaded(tmp_path / "sweep.toml", example).file for example in examples]
    assert [file.repeats for file in files] == [3, msgspec.UNSET, msgspec.UNSET]


def test_flags() -> None:
    """Every long flag that the page names exists."""
    text = CliRunner().invoke(root, ["sweep", "--help"]).stdout
    for flag in set(re.findall(r"`(--[a-z-]+)", DOCUMENT)):
        assert flag in text, flag


@pytest.mark.parametrize("code", [0, 1, 2, 3, 4, 5, 6, 130, 143])
def test_exit_codes(code: int) -> None:
    """Every exit code is documented."""
    assert f"\n| {code} |" in section("What is seen")
