"""The command `fanbench check`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from fanbench.cli.app import root

GOOD = "import kaggle_benchmarks as kb\n@kb.task(name='Red Fox')\ndef f(llm): ...\nf.run(kb.llm)\n"
NO_RUN = GOOD.replace("f.run(kb.llm)\n", "")


def check(*arguments: str | Path) -> Result:
    return CliRunner().invoke(root, ["check", *map(str, arguments)])


@pytest.fixture
def good(tmp_path: Path) -> Path:
    (path := tmp_path / "good.py").write_text(GOOD)
    return path


@pytest.fixture
def idle(tmp_path: Path) -> Path:
    (path := tmp_path / "idle.py").write_text(NO_RUN)
    return path


def test_a_valid_file_passes(good: Path) -> None:
    """A file without findings prints one line with the slugs that a push would use, and exits with 0."""
    result = check(good)
    assert (result.exit_code, result.stdout) == (0, f"{good}: ok, tasks: red-fox\n")


def test_one_invalid_file_fails_the_check(good: Path, idle: Path) -> None:
    """All files are checked in the order given; a finding shows its place and its fix, and the exit code is 1."""
    result = check(idle, good)
    lines = result.stdout.splitlines()
    assert result.exit_code == 1
    assert lines[0].startswith(f"{idle}:3:1: error: Task 'Red Fox' is never run")
    assert lines[1].startswith("  → Add `f.run(kbench.llm)`")
    assert lines[2] == f"{good}: ok, tasks: red-fox"


def test_no_run_can_be_allowed(idle: Path) -> None:
    """With `--allow-no-run`, a task that is never run passes the check."""
    result = check(idle, "--allow-no-run")
    assert (result.exit_code, result.stdout) == (0, f"{idle}: ok, tasks: red-fox\n")


def test_warnings_alone_do_not_fail(good: Path) -> None:
    """A file that only has warnings passes, and the warnings are printed."""
    good.write_text(GOOD.replace("(llm)", "()", 1))
    result = check(good)
    assert result.exit_code == 0
    assert ":3:1: warning: The function takes no model" in result.stdout
    assert result.stdout.endswith("ok, tasks: red-fox\n")


@pytest.mark.parametrize(
    ("name", "content"), [("missing.py", None), ("a.txt", "x"), ("broken.py", "def f(:")]
)
def test_a_file_that_cannot_be_read_is_a_finding(tmp_path: Path, name: str, content: str | None) -> None:
    """A file that is missing, not Python, or broken is reported as a finding, without a traceback."""
    if content is not None:
        (tmp_path / name).write_text(content)
    result = check(tmp_path / name)
    assert result.exit_code == 1
    assert result.stdout.startswith(f"{tmp_path / name}:")
    assert ": error: " in result.stdout


def test_findings_are_printed_as_records(good: Path, idle: Path) -> None:
    """`--format jsonl` prints one object per finding and nothing else, with the same exit code."""
    result = check(good, idle, "--format", "jsonl")
    (record,) = [json.loads(line) for line in result.stdout.splitlines()]
    assert result.exit_code == 1
    assert {key: record[key] for key in ("file", "line", "column", "level", "rule")} == {
        "file": str(idle),
        "line": 3,
        "column": 1,
        "level": "error",
        "rule": "no-run",
    }


def test_no_file_is_a_usage_error() -> None:
    """Without a file, the command exits with 2."""
    assert check().exit_code == 2
