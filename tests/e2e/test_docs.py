"""The Python code in docs/python.md and README.md."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import pytest

from tests.e2e.programs import REPOSITORY, run_program

pytestmark = pytest.mark.e2e

PAGE = (REPOSITORY / "docs/python.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


def test_the_page(environment: dict[str, str], tmp_path: Path) -> None:
    """The first block of docs/python.md runs as a program, and the others run in order in an `async with` block."""
    program, *rest = BLOCKS
    assert len(rest) >= 7
    (tmp_path / "examples").symlink_to(REPOSITORY / "examples")
    (tmp_path / "program.py").write_text(program)
    printed = run_program("program.py", folder=tmp_path, environment=environment)
    assert "COMPLETED" in printed
    body = textwrap.indent("\n".join(rest), " " * 8)
    (tmp_path / "page.py").write_text(
        "import anyio\nimport fanbench\n\nasync def main() -> None:\n"
        f"    async with fanbench.Client.local() as client:\n{body}\n\nanyio.run(main)\n"
    )
    printed = run_program("page.py", folder=tmp_path, environment=environment)
    assert "404 " in printed
    assert "arithmetic" in printed


def test_the_readme(environment: dict[str, str], tmp_path: Path) -> None:
    """The program in README.md runs after `fanbench init`, with the server's models in the place of its own."""
    blocks = re.findall(
        r"^```python\n(.*?)^```$", (REPOSITORY / "README.md").read_text(), re.DOTALL | re.MULTILINE
    )
    named = '["smollm2-135m-instruct", "gemma-3-270m"]'
    (program,) = (block for block in blocks if named in block)
    (tmp_path / "program.py").write_text(program.replace(named, '"*"'))
    run_program("-m", "fanbench", "init", "-y", "-q", "--local", folder=tmp_path, environment=environment)
    assert run_program("program.py", folder=tmp_path, environment=environment).count("COMPLETED") >= 2
