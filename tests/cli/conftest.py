"""Fixtures for the tests of the command line: a simulated server, and ways to call the program."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import pytest
from click.testing import CliRunner, Result

from fanbench.cli.app import root
from fanbench.testing import RunScript, Scenario, ScriptOf, SimulatedKaggle, SimulatedServer, serve
from fanbench.wire.messages import RunState
from fanbench.wire.retry import RetryPolicy
from tests.ctrl_c import obeyed_ctrl_c

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


#: Longer than any test. `kaggle.finish()` ends what takes so long.
FOREVER = 999.0


def script(model: str, **fields: Any) -> RunScript:
    """A run that prints one line and ends at once, unless `fields` change that."""
    usual = {
        "running": 0.0,
        "log": ((0.0, f"hello from {model}\n"),),
        "output": {"one.run.json": b"{}"},
    }
    return RunScript(**{**usual, **fields})


def scripts(
    *, errored: Collection[str] = (), results: Mapping[str, bool | float] | None = None, **fields: Any
) -> ScriptOf:
    """The script of each model. Runs on the models `errored` fail; with `results`, run files have a result."""

    def choose(task: str, model: str, number: int) -> RunScript:
        more = dict(fields)
        if model in errored:
            more |= {"end": RunState.ERRORED, "error": "Traceback\nValueError: no answer"}
        if results is not None:
            more |= {"result": results.get(model), "output": None}
        return script(model, **more)

    return choose


@pytest.fixture
def kaggle() -> SimulatedKaggle:
    """A Kaggle without delays, whose creations and runs end at once."""
    kaggle = SimulatedKaggle(Scenario(latency=0.0, creation=0.0, runs=scripts()))
    kaggle.first_run_id = 10
    return kaggle


@pytest.fixture
def server(kaggle: SimulatedKaggle) -> Iterator[SimulatedServer]:
    with serve(kaggle) as server:
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
def cli(folder: Path, server: SimulatedServer, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """Call the program in this process, on the simulated Kaggle."""
    monkeypatch.setenv("FANBENCH_ENDPOINT", server.url)
    monkeypatch.setenv("FANBENCH_DEBUG", "1")  # unexpected errors show their traceback

    def call(*words: str, input: str | None = None) -> Result:  # noqa: A002
        result = CliRunner().invoke(root, list(words), input=input, prog_name="fanbench")
        # pytest shows this if the test fails.
        print(f"$ fanbench {' '.join(words)}\n{result.stdout}--- stderr\n{result.stderr}")
        return result

    return call


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Repeat failed calls as often as usual, but at once."""
    delay = RetryPolicy.delay_after
    monkeypatch.setattr(RetryPolicy, "delay_after", lambda *given: delay(*given) and 0.0)


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
