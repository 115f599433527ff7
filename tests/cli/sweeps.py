"""Fixtures and helpers for the tests of `fanbench sweep`: a Kaggle to sweep, task files, and what has been changed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from fanbench.testing import Scenario, SimulatedKaggle
from fanbench.wire.messages import TaskQuota
from tests.cli.conftest import TASK, Cli, scripts

__all__ = ["RESULTS", "Sweep", "changes", "files", "kaggle", "plain", "sweep"]

#: `fanbench sweep` with these words, without a question.
Sweep = Callable[..., Result]

#: What the models' run files say. The runs of model `c` error.
RESULTS = {"a": 1.0, "b": 0.5}


@pytest.fixture
def kaggle() -> SimulatedKaggle:
    """A server with three models and one task."""
    runs = scripts(errored=["c"], results=RESULTS)
    kaggle = SimulatedKaggle(Scenario(latency=0.0, creation=0.0, runs=runs), models=["a", "b", "c"])
    kaggle.first_run_id = 10
    kaggle.run_quota = TaskQuota(daily_quota_used=12, total_daily_quota_allowed=100)
    kaggle.add_task("there")
    return kaggle


@pytest.fixture
def files(folder: Path) -> list[Path]:
    made = [folder / f"{name}.py" for name in ("first", "second")]
    for path in made:
        path.write_text(TASK.replace("My Task", path.stem.title()))
    return made


@pytest.fixture
def sweep(cli: Cli, files: list[Path]) -> Sweep:
    """The command line; the default is one file and the task on the server."""

    def call(*words: str) -> Result:
        return cli("sweep", *(words or ("first.py", "there", "-m", "a", "-m", "b")), "-y")

    return call


def changes(kaggle: SimulatedKaggle) -> int:
    """Return how many calls have changed something, or downloaded results."""
    return sum(kaggle.calls[call] for call in ("create_task", "schedule_runs", "download_output", "logs"))


def plain(text: str) -> str:
    """Return a table with single spaces."""
    return "\n".join(" ".join(line.split()) for line in text.splitlines())
