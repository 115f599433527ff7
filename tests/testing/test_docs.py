"""The Python blocks of docs/testing.md and docs/faults.md, and the example, are tests that pass as they stand."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parents[2]


def passed(folder: Path, text: str) -> int:
    """Run the tests in `text` in an empty folder, as a user would, and return how many pass. All must pass."""
    (folder / "test_copy.py").write_text(text)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FANBENCH_")}
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", "test_copy.py"],
        cwd=folder,
        env={**environment, "HOME": str(folder)},
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    found = re.search(r"(\d+) passed", ended.stdout)
    assert found is not None
    return int(found[1])


@pytest.mark.parametrize(("page", "tests"), [("testing.md", 5), ("faults.md", 1)])
def test_the_page(page: str, tests: int, tmp_path: Path) -> None:
    """The Python blocks of the page form one test module that passes."""
    text = (REPOSITORY / "docs" / page).read_text()
    blocks = re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    assert passed(tmp_path, "\n\n".join(blocks)) == tests


def test_the_example(tmp_path: Path) -> None:
    """The example passes as a test module, and its docstring has the command that runs it."""
    text = (REPOSITORY / "examples/test_my_pipeline.py").read_text()
    assert "pytest examples/test_my_pipeline.py" in text
    assert passed(tmp_path, text) == 2


def test_the_page_names_every_field() -> None:
    """The tables list each field of a scenario and of a run's script, and nothing else."""
    from dataclasses import fields

    from fanbench.testing import RunScript, Scenario

    page = (REPOSITORY / "docs/testing.md").read_text()
    for kind in (Scenario, RunScript):
        table = page.partition(f"| `{kind.__name__}` |")[2].partition("\n\n")[0]
        rows = table.splitlines()[2:]
        named = [name for row in rows for name in re.findall(r"`(\w+)`", row.split("|")[1])]
        assert sorted(named) == sorted(field.name for field in fields(kind))


def test_the_page_of_faults(tmp_path: Path) -> None:
    """docs/faults.md names every preset, field and damage, and its file of faults is one."""
    from dataclasses import fields
    from typing import get_args

    from fanbench.faults.fault import FaultyCall
    from fanbench.faults.files import PRESETS
    from fanbench.testing import Damage, Fault, read_faults

    page = (REPOSITORY / "docs/faults.md").read_text()
    named = set(re.findall(r"`([\w-]+)`", page))
    wanted = {field.name for field in fields(Fault)} - {"raises"}
    assert named >= {*PRESETS, *get_args(Damage), *get_args(FaultyCall), *wanted}
    example = re.findall(r"^```toml\n(seed.*?)^```$", page, re.DOTALL | re.MULTILINE)
    (tmp_path / "faults.toml").write_text(example[0])
    assert len(read_faults(tmp_path / "faults.toml").faults) == 4
