"""Runs that left no run file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from fanbench.results import read_results
from fanbench.results.table import cell
from fanbench.wire.messages import RunState


@pytest.mark.parametrize("left", [[], ["One.task.json"], ["__notebook__.ipynb", "out.txt"]])
def test_a_run_without_a_run_file_is_errored(tmp_path: Path, left: list[str]) -> None:
    """A run folder without a run file is an errored run with the reason, rather than missing from the results."""
    folder = tmp_path / "one/2/model-a/17"
    folder.mkdir(parents=True)
    for name in left:
        (folder / name).write_text("{}")
    (row,) = read_results([tmp_path]).runs
    assert (row.task, row.version, row.model, row.run_id, row.errored) == ("one", 2, "model-a", 17, True)
    assert row.value is None
    assert "no run file" in str(row.error)


def test_folders_that_only_resemble_runs_are_ignored(tmp_path: Path) -> None:
    """Folders of a task's own output are not runs, and a run with a damaged file is not reported as missing, too."""
    run = tmp_path / "one/2/model-a/17"
    (run / "data/2020/x/1").mkdir(parents=True)
    (run / "data/2020/x/1/table.csv").write_text("a,b\n")
    file = {
        "taskVersion": {"name": "One"},
        "modelVersion": {"slug": "x/model-a"},
        "results": [{"booleanResult": True}],
    }
    (run / "One-run_id_Run_1.run.json").write_text(
        json.dumps({**file, "state": "BENCHMARK_TASK_RUN_STATE_COMPLETED"})
    )
    (tmp_path / "two/1/model-a/18").mkdir(parents=True)
    (tmp_path / "two/1/model-a/18/Two.task.json").write_text("{}")
    (tmp_path / "two/1/model-a/18/x.run.json").write_text("{damaged")
    found = read_results([tmp_path])
    assert [(row.task, row.errored, row.value) for row in found.runs] == [
        ("one", False, True),
        ("two", False, None),
    ]
    assert [problem.path.name for problem in found.problems] == ["x.run.json"]


def in_the_folder(folder: Path) -> Path:
    """Where earlier versions of fanbench wrote the log."""
    folder.mkdir(parents=True)
    return folder / "run.log"


def beside_the_folder(folder: Path) -> Path:
    folder.parent.mkdir(parents=True, exist_ok=True)
    return folder.with_name(f"{folder.name}.log")


@pytest.mark.parametrize("log_of", [beside_the_folder, in_the_folder])
def test_a_run_with_only_a_log_has_an_unknown_state(tmp_path: Path, log_of: Callable[[Path], Path]) -> None:
    """A run of which there is only the log is in an unknown state; with any other output, it is errored."""
    for run in (17, 18):
        folder = tmp_path / f"one/2/model-a/{run}"
        log_of(folder).write_text("said\n")
    folder.mkdir(exist_ok=True)
    (folder / "One.task.json").write_text("{}")
    newest, row = read_results([tmp_path]).runs
    assert (newest.run_id, newest.errored) == (18, True)
    assert (row.task, row.version, row.model, row.run_id) == ("one", 2, "model-a", 17)
    assert (row.state, row.value, row.rows) == (RunState.UNSPECIFIED, None, 0)
    assert str(row.error).startswith("no run file: only the log was found")
    assert cell(row) == "no run file"
