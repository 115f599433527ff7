"""The results that are kept in their folder."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

import fanbench
from fanbench.results import KnownRun, ResultSet, cache, read
from fanbench.results.cache import Cache
from fanbench.results.result_set import KeptItems
from fanbench.results.scores import scores_of
from fanbench.version import __version__
from tests.results.build import errored, number, passed, run, write

KEPT = ".fanbench-items.jsonl"
YESTERDAY = 1_700_000_000


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "_LARGE", 0)


def put(folder: Path, run_id: int, content: dict[str, object], at: int = YESTERDAY) -> Path:
    path = write(folder / f"my-task/1/gemma-3/{run_id}/a.run.json", content)
    os.utime(path, (at, at))
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Results of all kinds: a mark, a number, a dict, an error, and a run without a run file."""
    contents = [passed(), number(0.5), run(result={"dictResult": {"a": 1, "b": "x"}}), errored()]
    for run_id, content in enumerate(contents, 1):
        put(tmp_path / "r", run_id, content)
    (tmp_path / "r/my-task/1/gemma-3/5").mkdir()
    return tmp_path / "r"


def read_only_kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> ResultSet:
    """Read the results in a way that fails for a run file."""
    with monkeypatch.context() as patch:
        patch.setattr(read, "read_run_file", lambda path: pytest.fail(f"read {path}"))
        return fanbench.read_results(folder)


def test_the_second_time_no_run_file_is_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was kept is equal to what was read, and one line each has the runs, the scores and the items."""
    found = fanbench.read_results(folder)
    assert read_only_kept(folder, monkeypatch) == found
    header, *lines = map(json.loads, (folder / KEPT).read_text().splitlines())
    assert [header[name] for name in ("fanbench", "runs", "scores", "items")] == [__version__, 5, 1, 5]
    assert [line["run_id"] for line in lines[6:]] == [item.run_id for item in found.items]


def changed(folder: Path) -> None:
    """The size stays the same: the time tells."""
    put(folder, 2, number(0.7), YESTERDAY + 5)


def touched(folder: Path) -> None:
    put(folder, 2, number(0.5), YESTERDAY + 1)


def added(folder: Path) -> None:
    put(folder, 9, number(0.7))


def deleted(folder: Path) -> None:
    (folder / "my-task/1/gemma-3/2/a.run.json").unlink()


def log_added(folder: Path) -> None:
    write(folder / "my-task/1/gemma-3/8.log", "said\n")


@pytest.mark.parametrize("change", [changed, touched, added, deleted, log_added])
def test_a_change_is_noticed(folder: Path, change: Callable[[Path], None]) -> None:
    """After any change of a run file, or another file by which a run is known, all is read again."""
    fanbench.read_results(folder)
    before = (folder / KEPT).read_bytes()
    change(folder)
    found = fanbench.read_results(folder)
    assert found == read.read_results(folder)
    assert (folder / KEPT).read_bytes() != before


@pytest.mark.parametrize("content", [b"", b"{}\n", b"\xff", b"x" * 1000])
def test_a_damaged_file_is_not_used(folder: Path, content: bytes) -> None:
    """A file that is cut, empty or something else is as if there were none."""
    found = fanbench.read_results(folder)
    kept = (folder / KEPT).read_bytes()
    for damaged in (content, kept[: len(kept) // 2], kept.replace(b'"items":5', b'"items":6')):
        (folder / KEPT).write_bytes(damaged)
        assert fanbench.read_results(folder) == found


def test_what_cannot_be_kept_is_read_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """NaN, problems, and files that were written just now are not kept, nor what is small."""
    put(folder, 2, run(result={"numericResult": {"value": "NaN"}}))
    fanbench.read_results(folder)
    assert not (folder / KEPT).exists()
    broken = write(folder / "broken.run.json", "{")
    put(folder, 2, number(0.5))
    fanbench.read_results(folder)
    assert not (folder / KEPT).exists()
    broken.unlink()
    os.utime(put(folder, 2, number(0.5)))
    fanbench.read_results(folder)
    assert not (folder / KEPT).exists()
    put(folder, 2, number(0.5))
    monkeypatch.setattr(cache, "_LARGE", 1_000_000)
    fanbench.read_results(folder)
    assert not (folder / KEPT).exists()


def test_many_small_files_are_kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes long to read is kept, be it many bytes or many files."""
    monkeypatch.setattr(cache, "_LARGE", 1_000_000)
    for many, kept in ((5, False), (4, True)):
        monkeypatch.setattr(cache, "_MANY", many)
        fanbench.read_results(folder)
        assert (folder / KEPT).exists() == kept


def test_a_folder_that_cannot_be_written_is_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If nothing can be kept, the results are read as before."""

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError

    monkeypatch.setattr("fanbench._util.files.replacing", refuse)
    assert fanbench.read_results(folder) == read.read_results(folder)
    assert not (folder / KEPT).exists()


def test_in_a_sweep_the_journal_counts(folder: Path) -> None:
    """In the folder of a sweep, the results are kept beside the journal, and only as long as it says the same."""
    (folder / ".fanbench").mkdir()
    known = KnownRun(sweep=folder, task="my-task", model="other", content="c")
    found = read.read_results(folder, known=[known])
    Cache(folder, [known]).save(found)
    assert (folder / ".fanbench/items.jsonl").exists()
    again = partial(read.read_results, folder, known=[known])
    assert Cache(folder, [known]).load(again) == found
    assert Cache(folder, []).load(again) is None


def test_scores_need_no_items(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The scores that were kept are those of the items, and no item is decoded for them, nor for a table."""
    found = fanbench.read_results(folder)
    monkeypatch.setattr(KeptItems, "_items", property(lambda _: pytest.fail("items were decoded")))
    kept = read_only_kept(folder, monkeypatch)
    assert kept.scores() == found.scores() == scores_of(tuple(found.items))
    assert kept.table() == found.table()


def test_items_of_a_folder_that_has_changed_since(folder: Path) -> None:
    """If what was kept is gone or another when the items are needed, the run files are read again."""
    fanbench.read_results(folder)
    gone, other = fanbench.read_results(folder), fanbench.read_results(folder)
    (folder / KEPT).unlink()
    assert gone.items == read.read_results(folder).items
    added(folder)
    fanbench.read_results(folder)
    assert len(other.items) == 6
    assert pickle.loads(pickle.dumps(other.items)) == tuple(other.items)
