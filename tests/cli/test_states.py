"""A run has one state, whichever command shows it: `sweep`, `results` or `tasks status`."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fanbench.testing import SimulatedKaggle
from tests.cli.conftest import Cli
from tests.cli.sweeps import swept_kaggle


@pytest.fixture
def kaggle() -> SimulatedKaggle:
    return swept_kaggle()


def test_three_commands_agree_on_each_run(cli: Cli, kaggle: SimulatedKaggle) -> None:
    """Completed and errored runs have the same state in all three commands, run by run."""

    def records(*words: str) -> Any:
        return json.loads(cli(*words, "--format", "json").stdout)

    swept = records("sweep", "there", "--all-models", "--repeats", "2", "-y")
    in_sweep = {run["run_id"]: run["status"] for run in swept}
    on_server = {run["run_id"]: run["state"].lower() for run in records("tasks", "status", "there")["runs"]}
    on_disk = {run["run_id"]: run["state"].lower() for run in records("results", "results", "--all")}
    assert in_sweep == on_server == on_disk
    assert sorted(in_sweep.values()) == ["completed"] * 4 + ["errored"] * 2
