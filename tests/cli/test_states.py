"""A run has one state, whichever command shows it: `sweep`, `results` or `tasks status`."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fanbench.testing import SimulatedKaggle
from fanbench.wire.messages import RunState
from tests.cli.conftest import Cli, scripts
from tests.cli.sweeps import kaggle as kaggle
from tests.cli.sweeps import plain


def states(cli: Cli, *words: str) -> dict[int, str]:
    """The state of each run by its id, as a command has it in its records."""
    printed: Any = json.loads(cli(*words, "--format", "json").stdout)
    runs = printed["runs"] if isinstance(printed, dict) else printed
    return {run["run_id"]: (run.get("state") or run["status"]).lower() for run in runs}


def test_three_commands_agree_on_each_run(cli: Cli, kaggle: SimulatedKaggle) -> None:
    """Completed and errored runs have the same state in all three commands, run by run."""
    swept = states(cli, "sweep", "there", "--all-models", "--repeats", "2", "-y")
    assert sorted(swept.values()) == ["completed"] * 4 + ["errored"] * 2
    assert states(cli, "tasks", "status", "there") == swept
    assert states(cli, "results", "results", "--all") == swept


@pytest.mark.parametrize("end", [RunState.COMPLETED, RunState.ERRORED])
@pytest.mark.parametrize("output", [{}, {"there.task.json": b"{}"}], ids=["only a log", "no run file"])
def test_they_agree_on_runs_without_a_run_file(
    cli: Cli, kaggle: SimulatedKaggle, end: RunState, output: dict[str, bytes]
) -> None:
    """The server's state counts for a run that left no run file, and the table of the sweep shows the same."""
    kaggle.change(runs=scripts(output=output, end=end))
    swept = states(cli, "sweep", "there", "-m", "a", "-y")
    assert swept == {10: end.label.lower()}
    assert states(cli, "tasks", "status", "there") == states(cli, "results", "results") == swept
    shown = "errored" if end == RunState.ERRORED else "no run file"
    for words in (("sweep", "-o", "results", "-y"), ("results", "results")):
        assert plain(cli(*words).stdout).splitlines()[1] == f"there {shown}"
