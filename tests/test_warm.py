"""A program in a fork of a warm Python behaves like one in a Python of its own."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryFile

import pytest

from tests.warm import Forked, WarmPython

pytestmark = pytest.mark.slow

PROGRAM = """
import atexit, os, sys, time

def preload():
    global loaded
    loaded = os.getpid()

def main():
    atexit.register(print, "bye")
    print(os.getcwd(), sorted(os.environ), sys.stdin.read(), loaded != os.getpid())
    print("wörds", *sys.argv[1:], file=sys.stderr)
    exec(sys.argv[1])
"""


@pytest.fixture
def python(tmp_path: Path) -> Iterator[WarmPython]:
    (tmp_path / "program.py").write_text(PROGRAM)
    python = WarmPython(tmp_path / "program.py")
    yield python
    python.close()


def run(python: WarmPython, code: str, folder: Path) -> tuple[int, str, str]:
    with TemporaryFile() as out, TemporaryFile() as err:
        forked = python.start(
            [code], folder=folder, environment={"A": "1"}, out=out.fileno(), err=err.fileno()
        )
        ended = forked.wait(30)
        out.seek(0)
        err.seek(0)
        return ended, out.read().decode(), err.read().decode()


@pytest.mark.parametrize(
    ("code", "exit_code", "last"),
    [
        ("pass", 0, "wörds pass"),
        ("sys.exit()", 0, "wörds sys.exit()"),
        ("sys.exit(3)", 3, "wörds sys.exit(3)"),
        ("sys.exit('a reason')", 1, "a reason"),
        ("1 / 0", 1, "ZeroDivisionError: division by zero"),
    ],
)
def test_ends(python: WarmPython, tmp_path: Path, code: str, exit_code: int, last: str) -> None:
    """Each end has Python's exit code and last words, after the exit functions, and each program its own request."""
    for _ in range(2):
        ended, out, err = run(python, code, tmp_path)
        assert (ended, out) == (exit_code, f"{tmp_path} ['A']  True\nbye\n")
        assert err.splitlines()[-1] == last


def start(python: WarmPython, code: str, folder: Path) -> Forked:
    with TemporaryFile() as nothing:
        return python.start([code], folder=folder, environment={}, out=nothing.fileno(), err=nothing.fileno())


def test_signals(python: WarmPython, tmp_path: Path) -> None:
    """A program that runs has no exit code, can be waited for in vain, and is ended by signals."""
    first, second = [start(python, "time.sleep(60)", tmp_path) for _ in range(2)]
    assert first.poll() is None
    with pytest.raises(subprocess.TimeoutExpired):
        first.wait(0)
    first.terminate()
    second.kill()
    assert (first.wait(30), second.wait(30)) == (-signal.SIGTERM, -signal.SIGKILL)
    assert (first.poll(), first.returncode) == (-signal.SIGTERM, -signal.SIGTERM)
