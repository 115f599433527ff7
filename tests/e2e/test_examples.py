"""The programs and the notebook in examples/."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.programs import REPOSITORY, run_program

pytestmark = pytest.mark.e2e

EXAMPLES = REPOSITORY / "examples"

#: What each program must print, whatever the models answer.
OUTPUT = {
    "push_run_download.py": ["COMPLETED", "arithmetic"],
    "live_logs.py": ["| TASK: Capital Cities", "COMPLETED"],
    "own_limit_on_trio.py": ["COMPLETED", "0 of them errored"],
    "without_await.py": ["| ", "COMPLETED", "capital-cities  "],
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
    """Every program is tested here, or in tests/testing if it is a test, and its docstring shows how to run it."""
    programs = {path.name: path.read_text() for path in EXAMPLES.glob("*.py") if path.stem[:5] != "test_"}
    assert programs.keys() == OUTPUT.keys()
    assert all(f"python examples/{name}" in text for name, text in programs.items())


@pytest.mark.parametrize("name", OUTPUT)
def test_an_example(name: str, environment: dict[str, str], tmp_path: Path) -> None:
    """Each example succeeds in an empty folder and prints what it demonstrates."""
    printed = run_program(EXAMPLES / name, folder=tmp_path, environment=environment)
    assert [text for text in OUTPUT[name] if text not in printed] == []


def test_the_notebook(environment: dict[str, str], tmp_path: Path) -> None:
    """The cells of the notebook run in order, with top-level `await`, and print the table."""
    (tmp_path / "tasks").symlink_to(EXAMPLES / "tasks")
    environment = {**environment, "IPYTHONDIR": str(tmp_path / "ipython")}
    runner = Path(__file__).with_name("run_notebook.py")
    printed = run_program(runner, EXAMPLES / "sweep.ipynb", folder=tmp_path, environment=environment)
    assert "\ncapital-cities  " in printed  # a row of the table
    assert "'arithmetic'" in printed
    assert printed.count("downloaded") == 6
