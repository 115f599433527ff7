"""Runs whose rows the SDK merged into one run file, with `merge_results_from_runfiles`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from fanbench.results import ItemState, KnownRun, ResultSet, RunResult, read_results
from fanbench.results.scores import Cell
from fanbench.results.transcript import read_transcript
from fanbench.wire.messages import RunState
from tests.results.build import number, passed, talk, write

RIGHT = [True] * 9 + [False]


def add_rows(root: Path, model: str, values: Sequence[bool | float]) -> list[Path]:
    """Write a run that was evaluated row by row."""
    paths = []
    for row, value in enumerate(values):
        name = f"quiz-run_param_id_{row}_o_{model}.run.json"
        content = passed(value, "quiz") if isinstance(value, bool) else number(value, "quiz")
        content |= {"modelVersion": {"slug": f"o/{model}"}, "pyRunId": f"quiz-Run #{row + 1}"}
        content["conversations"] = [talk(inputTokens=3, outputTokens=1)]
        paths.append(write(root / f"quiz/1/{model}/1/{name}", content))
    return paths


def merge(paths: Sequence[Path], value: bool | float, *, delete: bool = False) -> Path:
    """Merge rows as the SDK does: into a copy of the first one without what was said, with stubs of all of them."""
    rows = [json.loads(path.read_text()) for path in paths]
    stubs: list[dict[str, Any]] = [
        {name: row[name] for name in ("pyRunId", "modelVersion", "state", "results")}
        | {"taskVersion": {"name": "quiz"}}
        for row in rows
    ]
    result = {"booleanResult": value} if isinstance(value, bool) else {"numericResult": {"value": value}}
    results = [{"type": "AGGREGATED", **result}]
    own = {"pyRunId": "quiz-Run aggregated", "conversations": [], "subruns": stubs, "results": results}
    if delete:
        for path in paths:
            path.unlink()
    return write(paths[0].parent / "quiz-Run_aggregated.run.json", rows[0] | own)


def cells(found: ResultSet) -> list[Cell]:
    """The cells of both models."""
    assert not found.problems
    scores = found.scores()
    (task,) = scores.tasks
    return [scores.cells[task, model] for model in ("o/a", "o/b")]


def result_of(found: ResultSet, model: str) -> RunResult:
    (result,) = (run for run in found.runs if run.model == model)
    return result


def test_rows_whose_mean_is_the_value_are_the_items(tmp_path: Path) -> None:
    """Rows beside the file that they were merged into count once, with their names, texts and usage."""
    merge(add_rows(tmp_path, "a", RIGHT), 0.9)
    add_rows(tmp_path, "b", RIGHT)
    found = read_results(tmp_path)
    a, b = cells(found)
    assert (a.totals, a.planned, a.scored) == (b.totals, 10, 10)
    assert [item.path for item in found.items if item.model == "o/a"][3].endswith("_3_o_a.run.json")
    result = result_of(found, "a")
    assert (result.value, result.kind, result.tokens_in, result.seconds) == (0.9, "numeric", 30, 2.5)


@pytest.mark.parametrize("value", [0.42, True])
@pytest.mark.parametrize("delete", [False, True])
def test_any_other_value_is_one_item(tmp_path: Path, value: bool | float, delete: bool) -> None:
    """A run with another value than the mean of its rows is one item, and the rows of others count as before."""
    merge(add_rows(tmp_path, "a", RIGHT), value, delete=delete)
    add_rows(tmp_path, "b", [True] * 5 + [False] * 5)
    found = read_results(tmp_path)
    a, b = cells(found)
    assert (a.totals, a.planned) == ({"": (float(value), 1)}, 1)
    assert (b.mean, b.scored, b.planned) == (0.5, 10, 10)
    assert result_of(found, "a").value == value


def test_a_boolean_for_rows_with_numbers_is_no_failed_assertion(tmp_path: Path) -> None:
    """A function that merges numbers into a boolean says whether the run passed."""
    merge(add_rows(tmp_path, "a", [0.9, 0.1]), False)
    add_rows(tmp_path, "b", [0.9, 0.1])
    a, b = cells(read_results(tmp_path))
    assert (a.mean, a.scored, b.mean, b.scored) == (0.0, 1, 0.5, 2)


def test_one_opaque_value_makes_all_merged_runs_opaque(tmp_path: Path) -> None:
    """If the value of one run is not the mean of its rows, that of another one may be so by chance."""
    merge(add_rows(tmp_path, "a", [True, True]), 1.0)
    merge(add_rows(tmp_path, "b", [True, False]), 0.667)
    a, b = cells(read_results(tmp_path))
    assert (a.totals, b.totals) == ({"": (1.0, 1)}, {"": (0.667, 1)})


def test_deleted_rows_are_named_as_those_of_other_models(tmp_path: Path) -> None:
    """Rows of which only stubs are left have the names of the rows with the same ids in other runs."""
    path = merge(add_rows(tmp_path, "a", RIGHT), 0.9, delete=True)
    add_rows(tmp_path, "b", RIGHT)
    found = read_results(tmp_path)
    a, b = cells(found)
    assert (a.totals, a.planned, a.scored) == (b.totals, 10, 10)
    assert (result_of(found, "a").value, result_of(found, "a").tokens_in) == (0.9, None)
    (stub,) = (item for item in found.items if item.model == "o/a" and item.item == "9")
    assert (stub.part, stub.value) == (9, 0.0)
    assert read_transcript(path, stub.part).messages == ()


def test_deleted_rows_without_names_are_one_item(tmp_path: Path) -> None:
    """Where nothing tells which row a stub is of, the run is one item."""
    for model in ("a", "b"):
        merge(add_rows(tmp_path, model, RIGHT), 0.9, delete=True)
    a, b = cells(read_results(tmp_path))
    assert a.totals == b.totals == {"": (0.9, 1)}


def test_merged_rows_keep_their_values_if_the_run_errored(tmp_path: Path) -> None:
    """Rows that were merged before the run errored on the server are as good as those that were not."""
    folder = merge(add_rows(tmp_path, "a", [True, False]), 0.5).parent
    known = KnownRun(
        sweep=tmp_path, folder=folder, task="quiz", model="a", content="v1", run_id=1, state=RunState.ERRORED
    )
    assert [item.value for item in read_results(tmp_path, known=[known]).items] == [1.0, 0.0]


def test_merged_rows_in_a_flat_folder(tmp_path: Path) -> None:
    """Outside the layout of downloads, rows are those of the file that they were merged into, too."""
    paths = add_rows(tmp_path, "a", RIGHT)
    merge(paths, 0.9)
    flat = paths[0].parent.rename(tmp_path / "flat")
    found = read_results(flat)
    assert [item.state for item in found.items] == [ItemState.SCORED] * 10
    assert [run.value for run in found.runs] == [0.9]
