"""`fanbench check`."""

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


def test_a_good_file_is_said_to_be_good(good: Path) -> None:
    """One line with the slugs that a push would take; exit 0."""
    result = check(good)
    assert (result.exit_code, result.stdout) == (0, f"{good}: ok, tasks: red-fox\n")


def test_one_bad_file_of_several_fails_the_check(good: Path, idle: Path) -> None:
    """All are checked and shown in their order; the finding has its place and its fix; exit 1."""
    result = check(idle, good)
    lines = result.stdout.splitlines()
    assert result.exit_code == 1
    assert lines[0].startswith(f"{idle}:3:1: error: task 'Red Fox' is never run")
    assert lines[1].startswith("  → Add `f.run(kbench.llm)`")
    assert lines[2] == f"{good}: ok, tasks: red-fox"


def test_no_run_can_be_allowed(idle: Path) -> None:
    """`--allow-no-run` lets the file pass."""
    result = check(idle, "--allow-no-run")
    assert (result.exit_code, result.stdout) == (0, f"{idle}: ok, tasks: red-fox\n")


def test_warnings_alone_do_not_fail(good: Path) -> None:
    """They are shown, and the file is still said to be good."""
    good.write_text(GOOD.replace("(llm)", "(llm) -> str", 1))
    result = check(good)
    assert result.exit_code == 0
    assert ":3:15: warning: the SDK knows no result of type str." in result.stdout
    assert result.stdout.endswith("ok, tasks: red-fox\n")


@pytest.mark.parametrize(
    ("name", "content"), [("missing.py", None), ("a.txt", "x"), ("broken.py", "def f(:")]
)
def test_a_file_that_cannot_be_read_is_a_finding(tmp_path: Path, name: str, content: str | None) -> None:
    """No traceback and no end of the check: a line like any other."""
    if content is not None:
        (tmp_path / name).write_text(content)
    result = check(tmp_path / name)
    assert result.exit_code == 1
    assert result.stdout.startswith(f"{tmp_path / name}:")
    assert ": error: " in result.stdout


def test_programs_get_the_findings_as_records(good: Path, idle: Path) -> None:
    """One object a finding, nothing else on stdout; the exit code is the same."""
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
    """Exit 2."""
    assert check().exit_code == 2
