"""Fixtures for the tests of the command line: a simulated server, and ways to call the program."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest
from click.testing import CliRunner, Result

from fanbench.cli.app import root
from tests.cli.world import World
from tests.ctrl_c import obeyed_ctrl_c
from tests.wire.fake_server import FakeServer

TASK = """\
# %%
import kaggle_benchmarks as kbench

@kbench.task(name="My Task")
def one(llm) -> bool:
    return True

one.run(kbench.llm)
"""


class Cli(Protocol):
    def __call__(self, *words: str, input: str | None = None) -> Result: ...  # noqa: A002


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def server(world: World) -> Iterator[FakeServer]:
    with world.server() as server:
        yield server


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Change to an empty folder, with no credentials in the environment."""
    here = tmp_path / "work"
    here.mkdir()
    monkeypatch.chdir(here)
    for name in [
        name for name in os.environ if name.startswith(("KAGGLE_", "FANBENCH_", "MODEL_PROXY_", "LLM"))
    ]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("NO_COLOR", raising=False)
    return here


@pytest.fixture
def cli(folder: Path, server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """Call the program in this process, on the world's server."""
    monkeypatch.setenv("FANBENCH_ENDPOINT", server.url)
    monkeypatch.setenv("FANBENCH_DEBUG", "1")  # unexpected errors show their traceback

    def call(*words: str, input: str | None = None) -> Result:  # noqa: A002
        result = CliRunner().invoke(root, list(words), input=input, prog_name="fanbench")
        # pytest shows this if the test fails.
        print(f"$ fanbench {' '.join(words)}\n{result.stdout}--- stderr\n{result.stderr}")
        return result

    return call


@pytest.fixture
def task_file(folder: Path) -> Path:
    path = folder / "task.py"
    path.write_text(TASK)
    return path


def program(*words: str, **env: str) -> subprocess.Popen[bytes]:
    """Start the program in a process of its own that obeys Ctrl-C."""
    with obeyed_ctrl_c():
        return subprocess.Popen(
            [sys.executable, "-m", "fanbench", *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **env},
        )
