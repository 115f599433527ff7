"""The Python blocks of docs/testing.md and docs/faults.md, and the example, are tests that pass as they stand."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parents[2]
EXAMPLE = REPOSITORY / "examples/test_my_pipeline.py"


@pytest.fixture(scope="module")
def passed(tmp_path_factory: pytest.TempPathFactory) -> Counter[str]:
    """How many tests of each file pass, run in an empty folder, as a user would. All must pass."""
    folder = tmp_path_factory.mktemp("docs")
    for name in ("testing", "faults"):
        text = (REPOSITORY / f"docs/{name}.md").read_text()
        blocks = re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
        (folder / f"test_{name}.py").write_text("\n\n".join(blocks))
    shutil.copy(EXAMPLE, folder)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FANBENCH_")}
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rp", "-W", "error", "-p", "no:cacheprovider"],
        cwd=folder,
        env={**environment, "HOME": str(folder)},
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return Counter(re.findall(r"^PASSED (\w+\.py)::", ended.stdout, re.MULTILINE))


@pytest.mark.parametrize(("page", "tests"), [("testing", 5), ("faults", 1)])
def test_the_page(page: str, tests: int, passed: Counter[str]) -> None:
    """The Python blocks of the page form one test module that passes."""
    assert passed[f"test_{page}.py"] == tests


def test_the_example(passed: Counter[str]) -> None:
    """The example passes as a test module, and its docstring has the command that runs it."""
    assert "pytest examples/test_my_pipeline.py" in EXAMPLE.read_text()
    assert passed[EXAMPLE.name] == 2


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
