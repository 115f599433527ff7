"""What only all runs together tell of the items: repeats, owners, contents, and which results are values."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fanbench.results import Item, ItemState, KnownRun, read_results
from fanbench.results.names import find_models
from fanbench.wire.messages import RunState
from tests.results.build import STATE, errored, number, passed, run, talk, write


def states(items: Iterable[Item]) -> list[tuple[str, ItemState, float | None]]:
    return [(item.item, item.state, item.value) for item in items]


def known(folder: Path, run_id: int | None, **fields: Any) -> KnownRun:
    """What a journal has of a run of "my-task", version 1, on gemma-3; its folder exists unless `run_id` is None."""
    place = None if run_id is None else folder / f"my-task/1/gemma-3/{run_id}"
    default = {"task": "my-task", "model": "gemma-3", "content": "c", "version": 1, "run_id": run_id}
    return KnownRun(sweep=folder, folder=place, **{**default, **fields})


def test_runs_without_a_journal_are_repeats_by_their_age(tmp_path: Path) -> None:
    """Runs of the same task, version and model are repeats, the oldest first, whatever their ids."""
    for run_id, month in ((900, "01"), (5, "11")):
        at = {"startTime": f"2026-{month}-01T00:00:00Z", "endTime": f"2026-{month}-01T00:00:01Z"}
        write(tmp_path / f"my-task/1/gemma-3/{run_id}/a.run.json", number(run_id / 1000, **at))
    write(tmp_path / "my-task/2/gemma-3/6/a.run.json", number(0.6))
    found = read_results(tmp_path).items
    assert [(item.content, item.repeat, item.run_id) for item in found] == [
        ("v1", 1, 900),
        ("v1", 2, 5),
        ("v2", 1, 6),
    ]
    assert found[0].sweep == str(tmp_path)
    assert found[0].path == "my-task/1/gemma-3/900/a.run.json"


def test_a_journal_names_the_run(tmp_path: Path) -> None:
    """Repeat, attempt, content and what supersedes a run are those of the journal."""
    for run_id in (7, 8, 9):
        write(tmp_path / f"my-task/1/gemma-3/{run_id}/a.run.json", passed())
    journal = [
        known(tmp_path, 7, repeat=2, superseded=True),
        known(tmp_path, 8, repeat=2, attempt=2),
    ]
    found = read_results(tmp_path, known=journal).items
    assert [(item.run_id, item.content, item.repeat, item.attempt, item.superseded) for item in found] == [
        (7, "c", 2, 1, True),
        (8, "c", 2, 2, False),
        (9, "c", 3, 1, False),  # not in the journal, but of a version that is
    ]


def test_what_left_nothing_is_missing_or_errored(tmp_path: Path) -> None:
    """Each known run that left nothing is an item that says why."""
    journal = [
        known(tmp_path, None, repeat=1, error="push: no"),
        known(tmp_path, None, repeat=2),
        replace(known(tmp_path, None, repeat=3), run_id=5),
        known(tmp_path, 6, repeat=4, state=RunState.COMPLETED),  # deleted since
        known(tmp_path, None, repeat=5, state=RunState.ERRORED, error="Traceback:\nOSError: x"),
    ]
    assert [(item.state, item.error) for item in read_results(tmp_path, known=journal).items] == [
        (ItemState.MISSING, "push: no"),
        (ItemState.MISSING, "it was not run"),
        (ItemState.MISSING, "it has not ended"),
        (ItemState.MISSING, "no result of it is on the disk"),
        (ItemState.ERRORED, "OSError: x"),
    ]


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (RunState.ERRORED, ItemState.ERRORED),
        (RunState.COMPLETED, ItemState.NO_VALUE),
        (RunState.RUNNING, ItemState.MISSING),
        (None, ItemState.ERRORED),
    ],
)
def test_a_folder_without_a_run_file(tmp_path: Path, state: RunState | None, expected: ItemState) -> None:
    """A run that left a folder without a run file has the state of the server; without one, it errored."""
    write(tmp_path / "my-task/1/gemma-3/7/x.task.json", "{}")
    (item,) = read_results(tmp_path, known=[known(tmp_path, 7, state=state)]).items
    assert (item.item, item.state, item.run_id, item.path) == ("", expected, 7, "my-task/1/gemma-3/7")


def test_an_errored_run_has_no_value_whatever_its_file_says(tmp_path: Path) -> None:
    """A run that errored on the server after it had recorded a value is one errored item."""
    write(tmp_path / "my-task/1/gemma-3/7/a.run.json", number(0.9))
    journal = [known(tmp_path, 7, state=RunState.ERRORED, error="Traceback:\nValueError: late")]
    (item,) = read_results(tmp_path, known=journal).items
    assert (item.item, item.state, item.value, item.error) == (
        "",
        ItemState.ERRORED,
        None,
        "ValueError: late",
    )


def test_rows_have_states_of_their_own(tmp_path: Path) -> None:
    """Rows keep their values if the run errored: some of them raised, or left no file."""
    folder = tmp_path / "my-task/1/gemma-3/7"
    for row, content in enumerate((passed(), errored(), passed(False))):
        write(folder / f"My_Task-run_param_id_{row}.run.json", content)
    found = read_results(tmp_path, known=[known(tmp_path, 7, state=RunState.ERRORED)]).items
    assert states(found) == [
        ("0", ItemState.SCORED, 1.0),
        ("1", ItemState.ERRORED, None),
        ("2", ItemState.SCORED, 0.0),
    ]


def test_the_only_row_that_left_a_file_is_a_row(tmp_path: Path) -> None:
    """A single file that is named after a row is that row, not the run."""
    write(tmp_path / "my-task/1/gemma-3/7/My_Task-run_param_id_3.run.json", passed())
    found = read_results(tmp_path, known=[known(tmp_path, 7, state=RunState.ERRORED)]).items
    assert states(found) == [("3", ItemState.SCORED, 1.0)]


def test_owners_are_apart_and_known_from_other_runs(tmp_path: Path) -> None:
    """Models have their owners; a run that left no file has the owner of its model if only one is known."""
    for folder, slug in (("1", "google/gemma@3"), ("2", "google/flash"), ("3", "mirror/flash")):
        model = slug.rpartition("/")[2].replace("@", "-")
        content = passed(modelVersion={"slug": slug})
        write(tmp_path / f"my-task/1/{model}/{folder}/a.run.json", content)
    for run_id, model in ((4, "gemma-3"), (5, "flash")):
        (tmp_path / f"my-task/1/{model}/{run_id}").mkdir()
    found = {item.run_id: (item.model, item.repeat) for item in read_results(tmp_path).items}
    assert found == {
        1: ("google/gemma-3", 1),
        2: ("google/flash", 1),
        3: ("mirror/flash", 1),
        4: ("google/gemma-3", 2),
        5: ("flash", 1),
    }


def test_efforts_and_agents_are_apart(tmp_path: Path) -> None:
    """A run file has the model only: its effort, or its agent, is the name of the folder, or in the journal."""
    labels = ["gemma", "gemma@low", "gemma-default@high", "coder-1", "gemma@max", "gemma@low"]
    for run_id, label in enumerate(labels):
        slug = "mirror/flash" if label == "coder-1" else "google/gemma"
        content = passed(modelVersion={"slug": slug}, startTime=f"2026-01-0{run_id + 1}T00:00:00Z")
        write(tmp_path / f"my-task/1/{label}/{run_id}/a.run.json", content)
    journal = [known(tmp_path, None, model="gemma@max"), known(tmp_path, None, model="other@max")]
    results = read_results(tmp_path, known=journal)
    assert [(item.run_id, item.model) for item in results.items] == [
        (3, "coder-1"),
        (0, "google/gemma"),
        (2, "google/gemma@high"),
        (1, "google/gemma@low"),
        (5, "google/gemma@low"),
        (None, "google/gemma@max"),
        (4, "google/gemma@max"),
        (None, "other@max"),
    ]
    high = next(run for run in results.runs if run.run_id == 2)
    models = results.scores().models
    assert (high.model, high.model_owner) == ("gemma-default@high", "google")
    assert find_models(["google/gemma@low", "gemma@high", "coder-1"], models) == [
        "google/gemma@low",
        "google/gemma@high",
        "coder-1",
    ]
    assert find_models(["gemma@m*"], models) == ["google/gemma@max"]
    assert find_models(["gemma"], models) == ["google/gemma"]
    assert find_models(["o/m@turbo", "m@t*"], ["m-turbo", "m-tiny"]) == ["m-turbo", "m-tiny"]


def test_a_failed_assertion_among_numbers_is_no_value(tmp_path: Path) -> None:
    """False is no 0 where the other results of the task are numbers, in the same run or in others."""
    for run_id, content in enumerate((number(0.9), number(0.9), passed(False), number(0.9)), 1):
        write(tmp_path / f"my-task/1/gemma-3/{run_id}/a.run.json", content)
    assert [item.value for item in read_results(tmp_path).items] == [0.9, 0.9, None, 0.9]
    rows = tmp_path / "rows/my-task/1/gemma-3/1"
    for row, content in enumerate((number(0.9), passed(False))):
        write(rows / f"a-run_param_id_{row}.run.json", content)
    assert states(read_results(tmp_path / "rows").items) == [
        ("0", ItemState.SCORED, 0.9),
        ("1", ItemState.NO_VALUE, None),
    ]


def with_parts(value: float, *right: bool) -> dict[str, Any]:
    """A run with this value, and a sub-run for each of `right`."""
    parts = [
        passed(each, "Part", startTime=f"2026-01-01T00:00:0{at}Z", pyRunId=f"p{at}")
        for at, each in enumerate(right)
    ]
    return number(value, subruns=parts)


def test_sub_runs_are_items_in_all_runs_or_in_none(tmp_path: Path) -> None:
    """If the value of one run is not the mean of its sub-runs, no run's sub-runs are items."""
    one, other = (tmp_path / f"my-task/1/gemma-3/{run_id}/a.run.json" for run_id in (1, 2))
    write(one, with_parts(0.5, True, False))
    assert len(read_results(tmp_path).items) == 2
    write(other, with_parts(0.8, True, False))
    assert states(read_results(tmp_path).items) == [
        ("", ItemState.SCORED, 0.5),
        ("", ItemState.SCORED, 0.8),
    ]


@pytest.mark.parametrize("value", [0.9, 0.675])
def test_a_failed_assertion_among_sub_runs_is_no_0(tmp_path: Path, value: float) -> None:
    """The value of a run is the mean of the sub-runs that have one, whatever the task counted the others as."""
    parts = [number(0.9, "Part", startTime=f"2026-01-01T00:00:0{at}Z", pyRunId=f"p{at}") for at in range(3)]
    parts.append(passed(False, "Part", startTime="2026-01-01T00:00:04Z", pyRunId="p4"))
    write(tmp_path / "my-task/1/gemma-3/1/a.run.json", number(value, subruns=parts))
    (result,) = read_results(tmp_path).runs
    assert result.value == pytest.approx(0.9)
    assert (result.figures.items_scored, result.figures.items_planned) == (3, 4)


def test_numbers_that_overflow_are_nowhere(tmp_path: Path) -> None:
    """Repeats and intervals that exceed the largest float have no mean and no ends."""
    stated = run(result={"numericResult": {"value": 1.7e308, "confidenceInterval": 1.7e308}})
    for run_id in (1, 2):
        write(tmp_path / f"my-task/1/gemma-3/{run_id}/a.run.json", stated)
    found = read_results(tmp_path)
    assert [(item.low, item.high) for item in found.items] == [(None, None)] * 2
    assert found.table().rows == (("my-task", "no value"),)


def test_a_failed_assertion_before_the_sub_runs_is_no_value(tmp_path: Path) -> None:
    """A run that failed before its sub-runs has no value, and the sub-runs of others stay items."""
    write(tmp_path / "my-task/1/gemma-3/1/a.run.json", with_parts(0.5, True, False))
    write(tmp_path / "my-task/1/gemma-3/2/a.run.json", passed(False))
    assert [(item.state, item.value) for item in read_results(tmp_path).items] == [
        (ItemState.SCORED, 1.0),
        (ItemState.SCORED, 0.0),
        (ItemState.NO_VALUE, None),
    ]


def test_a_run_that_is_still_running_has_no_value(tmp_path: Path) -> None:
    """A value in the file of a run that has not ended is not final."""
    write(tmp_path / "my-task/1/gemma-3/1/a.run.json", number(0.9, state=f"{STATE}RUNNING"))
    assert states(read_results(tmp_path).items) == [("", ItemState.NO_VALUE, None)]


def test_a_run_that_errored_on_the_server_keeps_its_usage(tmp_path: Path) -> None:
    """Of a run that the server says has errored, the run file tells tokens, cost and time, and nothing else counts."""
    said = [
        talk(inputTokens=3, outputTokens=4, inputTokensCostNanodollars="1", outputTokensCostNanodollars="2")
    ]
    parts = [passed(pyRunId=str(at), taskVersion={"name": "Part"}) for at in range(2)]
    path = write(tmp_path / "my-task/1/gemma-3/5/a.run.json", number(1.0, conversations=said, subruns=parts))
    (item,) = read_results(tmp_path, known=[known(tmp_path, 5, state=RunState.ERRORED, error="E: no")]).items
    assert (item.state, item.value, item.kind, item.error) == (ItemState.ERRORED, None, None, "E: no")
    assert (item.tokens_in, item.tokens_out, item.cost_usd, item.seconds) == (3, 4, 3e-9, 2.5)
    assert item.path == str(path.relative_to(tmp_path))


def test_a_run_costs_what_its_own_requests_and_those_of_its_items_cost(tmp_path: Path) -> None:
    """Requests around the sub-runs count for the run, and one that errored before any does not hide its cost."""

    def asked(dollars: int) -> list[dict[str, Any]]:
        cost = str(dollars * 1_000_000_000)
        return [talk(inputTokens=3, inputTokensCostNanodollars=cost, outputTokensCostNanodollars="0")]

    parts = [
        passed(pyRunId="1", taskVersion={"name": "Part"}, conversations=asked(1)),
        errored(pyRunId="2", taskVersion={"name": "Part"}),
    ]
    write(tmp_path / "my-task/1/gemma-3/5/a.run.json", number(1.0, conversations=asked(100), subruns=parts))
    found = read_results(tmp_path)
    assert [(item.cost_usd, item.run_cost_usd, item.run_seconds) for item in found.items] == [
        (1.0, 101.0, 2.5),
        (None, 101.0, 2.5),
    ]
    (row,) = found.leaderboard().models
    assert (row.cost_usd, row.seconds) == (101.0, 2.5)
