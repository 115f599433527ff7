"""The page about a folder whose sweep may be running."""

from __future__ import annotations

from pathlib import Path

import pytest

from fanbench.sweeps.journal import Journal
from fanbench.view.live import KEPT, Live, Moment
from fanbench.wire.messages import RunState
from tests.results.folders import add_run
from tests.view.sweeps import collect, schedule


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal.open(tmp_path)


def states(live: Live) -> list[str]:
    _, shown, _ = live.now()
    return [shown.document.states[int(status)] for status in shown.columns["status"]]


def test_nothing_changes_without_a_change(tmp_path: Path, journal: Journal) -> None:
    """A look at a folder that is as it was makes no version."""
    schedule(tmp_path, journal, "quiz", "good")
    live = Live([tmp_path])
    assert [live.refresh() for _ in range(3)] == [Moment(1, 0)] * 3
    assert live.since(Moment(1, 0)) == []


def test_patches_lead_to_what_a_new_page_shows(tmp_path: Path, journal: Journal) -> None:
    """A page that takes each patch has the same columns, texts and cells in the end as one that reads everything."""
    for run_id, model in enumerate(("a", "b", "c"), 1):
        collect(tmp_path, journal, "quiz", model, [True], RunState.COMPLETED, run_id)
        schedule(tmp_path, journal, "sums", model, 10 + run_id)
    live = Live([tmp_path])
    moment, shown, _ = live.now()
    columns = {name: list(values) for name, values in shown.columns.items()}
    texts, cells = list(shown.texts), {(cell.task, cell.model): cell for cell in shown.document.cells}
    collect(tmp_path, journal, "sums", "a", [True, False], RunState.COMPLETED, 11)
    live.refresh()
    collect(tmp_path, journal, "sums", "b", [None, None], RunState.ERRORED, 12)
    live.refresh()
    live._due = 0.0
    live.refresh()
    patches = live.since(moment)
    assert patches
    for patch in patches:
        texts += patch.texts
        cells |= {(cell.task, cell.model): cell for cell in patch.cells}
        for name, (rows, values) in patch.columns.items():
            for row, value in zip(rows, values, strict=True):
                columns[name][row] = value
    _, now, _ = live.now()
    assert {name: repr(values) for name, values in columns.items()} == {
        name: repr(list(values)) for name, values in now.columns.items()
    }
    assert texts == list(now.texts)
    assert list(cells.values()) == now.document.cells


def test_new_runs_make_a_new_generation(tmp_path: Path, journal: Journal) -> None:
    """Where the rows are others, the changes of before are of no use."""
    schedule(tmp_path, journal, "quiz", "good")
    live = Live([tmp_path])
    schedule(tmp_path, journal, "sums", "good", 2)
    assert live.refresh() == Moment(2, 0)
    assert live.since(Moment(1, 0)) is None
    assert states(live) == ["scheduled", "scheduled"]


def test_downloads_are_found_without_a_journal(tmp_path: Path) -> None:
    """A run that appears in a folder is shown, and so is a value that changes; an empty folder is not complete."""
    live = Live([tmp_path])
    assert live.now()[1].document.status == "incomplete"

    def values() -> list[float | None]:
        live._tree_due = live._due = 0.0
        live.refresh()
        return [cell.value for cell in live.now()[1].document.cells]

    folder = add_run(tmp_path, "google/good", [True, False])
    assert values() == [0.5]
    assert live.now()[1].document.status == "complete"
    (file, _) = sorted(folder.glob("*.run.json"))
    file.write_bytes(file.read_bytes().replace(b"true", b"false"))
    assert values() == [0.0]


def test_a_damaged_journal_is_named(tmp_path: Path, journal: Journal) -> None:
    """The page says that a journal could not be read."""
    journal.close()
    (tmp_path / ".fanbench" / "journal.sqlite").write_bytes(b"no database" * 1000)
    (problem,) = Live([tmp_path]).now()[1].document.problems
    assert ".fanbench" in problem


def test_a_page_may_be_far_behind(tmp_path: Path, journal: Journal) -> None:
    """So many changes are kept, and no more."""
    schedule(tmp_path, journal, "quiz", "good")
    live = Live([tmp_path])
    for number in range(KEPT + 1):
        schedule(tmp_path, journal, "quiz", "good", 10 + number)
        live.refresh()
    newest = live.refresh()
    assert newest.version == KEPT + 1
    assert live.since(Moment(1, 0)) is None
    assert len(live.since(Moment(1, 1)) or ()) == KEPT


def test_a_file_that_has_not_changed_is_not_read_again(
    tmp_path: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only new run files are read when a run ends."""
    collect(tmp_path, journal, "quiz", "good", [True], RunState.COMPLETED, 1)
    schedule(tmp_path, journal, "sums", "good", 2)
    live = Live([tmp_path])
    read: list[Path] = []

    def counted(path: Path) -> object:
        from fanbench.results.run_file import read_run_file

        read.append(path)
        return read_run_file(path)

    monkeypatch.setattr("fanbench.view.live.read_run_file", counted)
    collect(tmp_path, journal, "sums", "good", [True], RunState.COMPLETED, 2)
    live._due = 0.0
    live.refresh()
    assert [path.parts[-5] for path in read] == ["sums"]
    assert states(live) == ["done", "done"]
