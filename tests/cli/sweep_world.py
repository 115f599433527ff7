"""Helpers for the tests of `fanbench sweep`: a small Kaggle, task files, and what has been changed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from click.testing import Result

from tests.cli.conftest import TASK, Cli
from tests.cli.world import World
from tests.results.build import number, passed
from tests.wire.fake_server import FakeServer

__all__ = ["Sweep", "changes", "plain", "sweep_of", "sweep_world", "task_files"]

#: `fanbench sweep` with these words, without a question.
Sweep = Callable[..., Result]

_CHANGING = (
    "CreateBenchmarkTask",
    "BatchScheduleBenchmarkTaskRuns",
    "DownloadBenchmarkTaskRunOutput",
    "GetBenchmarkTaskRunLogs",
)


def sweep_world() -> World:
    """A server with three models, of which the last one's runs error, and with one task."""
    world = World(ends={"c": "ERRORED"})
    for model in "abc":
        world.add_model(model, model.upper())
    world.add_task("there")
    world.results = {"a": passed(name="First"), "b": number(0.5, name="First")}
    return world


def task_files(folder: Path) -> list[Path]:
    made = [folder / f"{name}.py" for name in ("first", "second")]
    for path in made:
        path.write_text(TASK.replace("My Task", path.stem.title()))
    return made


def sweep_of(cli: Cli) -> Sweep:
    """Return the command line; the default is one file and the task on the server."""

    def call(*words: str) -> Result:
        return cli("sweep", *(words or ("first.py", "there", "-m", "a", "-m", "b")), "-y")

    return call


def changes(server: FakeServer) -> int:
    """Return how many calls have changed something, or downloaded results."""
    return sum(len(server.calls(call)) for call in _CHANGING)


def plain(text: str) -> str:
    """Return a table with single spaces."""
    return "\n".join(" ".join(line.split()) for line in text.splitlines())
