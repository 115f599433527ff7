"""The Python programs and the notebook of examples/ run as they stand."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.programs import REPOSITORY, run_program

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("documentation")]

EXAMPLES = REPOSITORY / "examples"

#: What each must say at least, whatever the models answer.
SAYS = {
    "push_run_download.py": ["COMPLETED", "arithmetic"],
    "live_logs.py": ["| TASK: Capital Cities", "COMPLETED"],
    "own_limit_on_trio.py": ["COMPLETED", "0 of them errored"],
    "sweep_events.py": ["arithmetic: version ", "downloaded", "6 of 6 runs completed"],
    "handling_errors.py": [
        "is never run",
        "HTTP 404",
        "Unknown model",
        "failing: pushed",
        "still running",
        "ERRORED: ValueError: this task always fails",
    ],
}


def test_all_are_tried() -> None:
    """A new example needs a line above, and each says how it is run. (Tests: tests/testing/test_docs.py.)"""
    programs = {path.name: path.read_text() for path in EXAMPLES.glob("*.py") if path.stem[:5] != "test_"}
    assert programs.keys() == SAYS.keys()
    assert all(f"python examples/{name}" in text for name, text in programs.items())


@pytest.mark.parametrize("name", SAYS)
def test_an_example(name: str, environment: dict[str, str], tmp_path: Path) -> None:
    """It ends well in an empty folder, and says what it is about."""
    said = run_program(EXAMPLES / name, folder=tmp_path, environment=environment)
    assert [words for words in SAYS[name] if words not in said] == []


def test_the_notebook(environment: dict[str, str], tmp_path: Path) -> None:
    """Its cells run one after another, with `await` at the top level, and show the table."""
    (tmp_path / "tasks").symlink_to(EXAMPLES / "tasks")
    environment = {**environment, "IPYTHONDIR": str(tmp_path / "ipython")}
    runner = Path(__file__).with_name("run_notebook.py")
    said = run_program(runner, EXAMPLES / "sweep.ipynb", folder=tmp_path, environment=environment)
    assert "\ncapital-cities  " in said  # a row of the table
    assert "'arithmetic'" in said
    assert said.count("downloaded") == 6
