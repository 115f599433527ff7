"""That no process of a program is left: what the end-to-end tests of `check --run` meet only by chance."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fanbench.operations.process import MARKER, _kill_strays

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="strays are looked for on Linux")


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "600"]) as process:
        yield process
        process.kill()


def entry(processes: Path, process: subprocess.Popen[bytes]) -> Path:
    """It as the system shows it while it is being executed."""
    folder = processes / str(process.pid)
    folder.mkdir()
    (folder / "cmdline").touch()
    (folder / "environ").touch()
    (folder / "exe").symlink_to("/bin/sleep")
    return folder


def test_one_that_is_being_executed_is_looked_at_again(
    tmp_path: Path, sleeper: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It shows its environment only a moment after its parent has gone on, and been killed."""
    folder = entry(tmp_path, sleeper)

    moments = iter(["it has its environment", "it is killed"])

    def moment(seconds: float) -> None:
        if next(moments) == "it is killed":
            sleeper.wait()
            (folder / "exe").unlink()
        (folder / "environ").write_bytes(b"" if sleeper.poll() else f"A=b\0{MARKER}=mark\0".encode())

    monkeypatch.setattr("time.sleep", moment)
    _kill_strays("mark", tmp_path)
    assert sleeper.poll() == -signal.SIGKILL


@pytest.mark.parametrize(
    ("file", "content"),
    [("environ", f"{MARKER}=another\0".encode()), ("cmdline", b"sleep\0600\0")],
)
def test_others_are_left_alone(
    tmp_path: Path,
    sleeper: subprocess.Popen[bytes],
    monkeypatch: pytest.MonkeyPatch,
    file: str,
    content: bytes,
) -> None:
    """Those of another mark, and those without any environment: they are not waited for either."""
    (entry(tmp_path, sleeper) / file).write_bytes(content)
    monkeypatch.setattr("time.sleep", lambda seconds: pytest.fail("it waits"))
    _kill_strays("mark", tmp_path)
    assert sleeper.poll() is None
