"""`fanbench view` as a process of its own."""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from click.testing import CliRunner

from fanbench.cli.app import root
from tests.results.folders import add_run

pytestmark = pytest.mark.slow


def start(folder: Path, *more: str, stdin: int | None = subprocess.DEVNULL) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "fanbench", "view", str(folder), "--no-open", *more],
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"BROWSER": "false"},
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    add_run(tmp_path, "google/good", [True, False])
    return tmp_path


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_until_a_signal(folder: Path, number: signal.Signals) -> None:
    """The address is printed once the page is there, and a signal ends it without an error."""
    with start(folder) as process:
        address = urlsplit(first_line(process))
        assert re.fullmatch(r"token=[\w-]{32}", address.fragment)
        assert httpx.get(f"http://{address.netloc}/").status_code == 200
        process.send_signal(number)
        assert process.wait(60) == 0
        assert process.stderr is not None
        assert process.stderr.read() == "Ctrl-C ends the page.\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_while_a_page_is_open(folder: Path, number: signal.Signals) -> None:
    """A signal ends the streams of open pages, and neither they nor what is no HTTP leave a word on the terminal."""
    with start(folder) as process:
        address = urlsplit(first_line(process))
        headers = {"Authorization": f"Bearer {address.fragment.removeprefix('token=')}"}
        url = f"http://{address.netloc}/api/events?generation=1&version=0"
        with socket.create_connection((address.hostname or "", address.port or 0)) as other:
            other.sendall(b"\x16\x03\x01 no HTTP\r\n\r\n")
            assert b" 400 " in other.recv(100)
        with httpx.stream("GET", url, headers=headers) as stream:
            assert stream.status_code == 200
            process.send_signal(number)
            assert stream.read() == b"", "the stream ends as a whole answer does"
        assert process.wait(60) == 0
        assert process.stderr is not None
        assert process.stderr.read() == "Ctrl-C ends the page.\n"


def test_a_signal_ends_it_before_its_parent(folder: Path) -> None:
    """The page beside a sweep obeys SIGTERM while the sweep goes on."""
    with start(folder, "--with-parent", stdin=subprocess.PIPE) as process:
        assert first_line(process).startswith("http://127.0.0.1:")
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""


def test_it_ends_with_its_parent(folder: Path) -> None:
    """The page that a sweep started ends when the sweep does, however that ended."""
    with start(folder, "--with-parent", stdin=subprocess.PIPE) as process:
        assert first_line(process).startswith("http://127.0.0.1:")
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(60) == 0


def test_a_port_that_is_taken(folder: Path) -> None:
    """The error names the port, and what to do."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with start(folder, "--port", str(taken.getsockname()[1])) as process:
            assert process.wait(60) == 2
            assert process.stderr is not None
            text = process.stderr.read()
    assert re.search(r"error: Cannot listen on port \d+: .*\nhint: Add --port 0\.", text)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    """Nothing is served of a folder that does not exist."""
    result = CliRunner().invoke(root, ["view", str(tmp_path / "none"), "--no-open"])
    assert (result.exit_code, "There is no folder" in result.stderr) == (4, True)


def test_without_the_extra(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra, the error names the command that installs it, also for a sweep before it has begun."""
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "starlette" else find(name))
    for words in (["view", str(folder)], ["sweep", "a-task", "-m", "a-model", "--view"]):
        result = CliRunner().invoke(root, words)
        assert (result.exit_code, "pip install 'fanbench[view]'" in result.stderr) == (2, True)
