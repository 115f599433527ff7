"""The notebook examples/results.ipynb, on hand-written run files."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from fanbench import read_results
from tests.e2e.programs import REPOSITORY, run_program
from tests.results.folders import add_run
from tests.results.items import passes

EXAMPLES = REPOSITORY / "examples"

pytestmark = pytest.mark.slow


def add_sweep(folder: Path, right: int) -> None:
    """Two tasks on two models, of which one gets `right` of forty items."""
    for task in ("quiz", "sums"):
        add_run(folder, "google/good", passes(38, 40), task=task, usd=0.01)
        add_run(folder, "mirror/fair", passes(right, 40), task=task, usd=0.001)


def test_the_notebook(tmp_path: Path) -> None:
    """Its cells run in order and show the tables, and the last one prints the conclusion."""
    add_sweep(tmp_path / "before", 28)
    add_sweep(tmp_path / "after", 26)
    runner = REPOSITORY / "tests/e2e/run_notebook.py"
    environment = {**os.environ, "IPYTHONDIR": str(tmp_path / "ipython")}
    printed = run_program(runner, EXAMPLES / "results.ipynb", folder=tmp_path, environment=environment)
    before, after = (read_results(tmp_path / name) for name in ("before", "after"))
    gate = before.gate(after, margin=0.05)
    for shown in (before, before.leaderboard(), before.compare("fair", "good"), gate):
        assert str(shown) in printed
    assert printed.endswith(f"{gate.conclusion}\nRun about {gate.items_to_tell:,} items before you decide.\n")


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.ipynb")), ids=lambda path: path.name)
def test_notebooks_have_no_outputs(path: Path) -> None:
    """Notebooks are stored as they are before they run."""
    cells = json.loads(path.read_text())["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert code
    assert [(cell["outputs"], cell["execution_count"]) for cell in code] == [([], None)] * len(code)
