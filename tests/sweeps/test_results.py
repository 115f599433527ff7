"""The results in folders of sweeps, with their journals."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

import fanbench
from fanbench.results import Item, ItemState
from fanbench.sweeps.attempts import (
    Attempt,
    Phase,
    PlannedRun,
    SavedLog,
    SavedOutput,
    TaskPhase,
    TaskRecord,
    version_identity,
)
from fanbench.sweeps.journal import JOURNAL, Journal
from fanbench.sweeps.resume import Saved
from fanbench.sweeps.spec import to_json
from fanbench.wire.messages import RunState
from tests.results.build import passed, write

SAVED = to_json(
    Saved(endpoint="http://localhost", tasks=("my-task", "other"), models=("gemma-3", "flash"), repeats=1)
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A sweep of two tasks on two models: one run was made twice, one only errored, and two were never made."""
    root = tmp_path / "sweeps" / "one"
    with Journal.open(root) as journal:
        journal.save_spec(SAVED)
        journal.save_task(TaskRecord("my-task", "content-1:a", TaskPhase.READY, 3))
        journal.save_task(TaskRecord("other", "content-1:b", TaskPhase.REFUSED, 0, "too large"))
        journal.save_attempts(attempts(root))
    return root


def attempts(root: Path) -> Iterator[Attempt]:
    for number, run_id, state in ((1, 7, RunState.ERRORED), (2, 8, RunState.COMPLETED)):
        path = f"my-task/3/gemma-3/{run_id}"
        write(root / path / "a.run.json", passed())
        yield Attempt(
            *(
                PlannedRun("my-task", "gemma-3"),
                number,
                "content-1:a",
                3,
                Phase.ENDED,
                0.0,
                run_id,
                state,
                "no",
            ),
            output=SavedOutput(path, 1, 1, "d"),
        )
    yield Attempt(
        *(PlannedRun("my-task", "flash"), 1, "content-1:a", 3, Phase.ENDED, 0.0, 9, RunState.ERRORED, "no"),
        log=SavedLog("my-task/3/flash/9.log", 1, 1),
    )
    yield Attempt(PlannedRun("my-task", "flash"), 2, "content-1:a", 3, Phase.VOID, 0.0)


def shown(items: Iterable[Item]) -> list[tuple[str, str, int | None, bool, ItemState, str | None]]:
    return [
        (item.task, item.model, item.run_id, item.superseded, item.state, item.error)
        for item in sorted(items, key=lambda item: (item.task, item.model, item.attempt))
    ]


ALL = [
    ("my-task", "flash", 9, False, ItemState.ERRORED, "no"),
    ("my-task", "google/gemma-3", 7, True, ItemState.ERRORED, "no"),
    ("my-task", "google/gemma-3", 8, False, ItemState.SCORED, None),
    ("other", "flash", None, False, ItemState.MISSING, "push: too large"),
    ("other", "google/gemma-3", None, False, ItemState.MISSING, "push: too large"),
]


def test_the_items_of_a_sweep_are_those_of_its_plan(root: Path) -> None:
    """Every planned run has an item, also if it errored without files or was never made."""
    found = fanbench.read_results(root)
    assert found.problems == ()
    assert shown(found.items) == ALL
    assert {item.content for item in found.items} == {"content-1:a", "content-1:b"}
    assert {item.sweep for item in found.items} == {str(root)}
    assert [run.run_id for run in found.runs] == [8, 7]


def test_sweeps_are_found_below_a_folder(root: Path) -> None:
    """The journals of sweeps below the folder that is given are read, too, and each only once."""
    assert shown(fanbench.read_results(root.parent).items) == ALL
    assert shown(fanbench.read_results([root.parent, str(root), root / "my-task"]).items) == ALL


def test_a_sweep_by_two_names_counts_once(root: Path, tmp_path: Path) -> None:
    """A sweep that is given by its path and by a link to it has each of its runs and items once."""
    link = tmp_path / "link"
    link.symlink_to(root)
    once = fanbench.read_results(root)
    for paths in ([root, link], [link, root]):
        twice = fanbench.read_results(paths)
        assert shown(twice.items) == shown(once.items)
        assert (len(twice.runs), twice.problems) == (len(once.runs), ())
    part = fanbench.read_results([link / "my-task", root])
    assert shown(part.items) == shown(once.items)


def test_a_folder_of_ours_without_a_journal_hides_no_sweep(root: Path) -> None:
    """A `.fanbench` folder above the sweeps that has no journal changes nothing."""
    expected = fanbench.read_results(root.parent)
    (root.parent / ".fanbench").mkdir()
    (root.parent.parent / ".fanbench").mkdir()
    assert fanbench.read_results(root.parent) == expected
    assert any(item.state is ItemState.MISSING for item in expected.items)


def test_of_a_part_of_a_sweep_only_what_left_something_is_known(root: Path) -> None:
    """For a folder within a sweep, the journal tells of the runs in it, and not of others."""
    found = fanbench.read_results(root / "my-task/3/gemma-3").items
    assert shown(found) == ALL[1:3]
    assert {item.sweep for item in found} == {str(root)}


def test_a_version_that_was_not_pushed_has_its_number(tmp_path: Path) -> None:
    """A task that the sweep found on the server has the same content as its version in a download."""
    with Journal.open(tmp_path) as journal:
        path = "my-task/3/gemma-3/7"
        write(tmp_path / path / "a.run.json", passed())
        planned = PlannedRun("my-task", "gemma-3")
        state = RunState.COMPLETED
        made = Attempt(planned, 1, version_identity(3), 3, Phase.ENDED, 0.0, 7, state)
        journal.save_attempts([made.with_(output=SavedOutput(path, 1, 1, "d"))])
    (item,) = fanbench.read_results(tmp_path).items
    (alone,) = fanbench.read_results(
        write(tmp_path.parent / "my-task/3/gemma-3/7/a.run.json", passed())
    ).items
    assert (item.content, alone.content) == ("v3", "v3")


def test_a_damaged_journal_is_a_problem(root: Path) -> None:
    """Without its journal, the runs of a sweep are read as any others, and the problem is told."""
    (root / JOURNAL).write_bytes(b"damaged" * 1000)
    found = fanbench.read_results(root)
    assert [problem.path for problem in found.problems] == [root / ".fanbench"]
    assert [(item.content, item.repeat, item.state) for item in found.items] == [
        ("v3", 1, ItemState.SCORED),
        ("v3", 2, ItemState.SCORED),
    ]
