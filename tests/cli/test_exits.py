"""Errors become exit codes in one place."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from fanbench import (
    CannotTell,
    ConnectionFailed,
    CredentialsError,
    FanbenchError,
    NoResults,
    NotFound,
    Regression,
    TaskFileError,
    Unauthorized,
    UsageError,
    WaitTimeout,
)
from fanbench.cli.app import root
from fanbench.cli.exits import explain


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (FanbenchError("x"), 1),
        (TaskFileError("x", file="a.py", line=1), 1),
        (ConnectionFailed("x", endpoint="http://x"), 1),
        (UsageError("x"), 2),
        (CredentialsError("x"), 3),
        (Unauthorized("x", call="C", status=401), 3),
        (NotFound("x", call="C", status=404), 4),
        (NoResults("x"), 4),
        (WaitTimeout("x"), 5),
        (Regression("x"), 7),
        (CannotTell("x"), 8),
        (KeyboardInterrupt(), 130),
        (click.Abort(), 130),
        (BaseExceptionGroup("g", [ValueError(), KeyboardInterrupt()]), 130),
        (ExceptionGroup("g", [ExceptionGroup("h", [UsageError("x")])]), 2),
        (ValueError("x"), 1),
    ],
)
def test_exit_codes(error: BaseException, code: int) -> None:
    """Every kind of error has its exit code, also inside exception groups."""
    assert explain(error, {}) == code


def test_each_of_several_errors_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """Of several errors each is printed once."""
    errors = [ValueError("v"), UsageError("first", hint="do"), UsageError("second"), UsageError("second")]
    explain(ExceptionGroup("g", errors), {})
    said = capsys.readouterr().err
    assert said.startswith("error: first\nhint: do\nerror: second\nerror: Unexpected ValueError: v\n")
    assert said.count("second") == 1


def test_an_interrupt_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """An interrupt prints nothing."""
    explain(KeyboardInterrupt())
    assert capsys.readouterr().err == ""


def test_a_bug_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """An unexpected error is one line that names --debug, which shows, like FANBENCH_DEBUG, the traceback."""
    explain(ZeroDivisionError("oops"), {})
    first = capsys.readouterr().err
    assert first.startswith("error: Unexpected ZeroDivisionError: oops\n")
    assert "--debug" in first
    assert "Traceback" not in first
    explain(ZeroDivisionError("oops"), {"FANBENCH_DEBUG": "1"})
    assert "ZeroDivisionError: oops" in capsys.readouterr().err


def test_the_current_folder_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that needs the current folder says that somebody has removed it."""
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    result = CliRunner().invoke(root, ["results", "."])
    assert result.exit_code == 1
    assert result.stderr == "error: The current folder does not exist any more.\n"
