"""A task may give any name to its files: its output keeps every byte, and its log has a place of its own."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from fanbench.sweeps.attempts import SavedLog
from fanbench.testing import RunScript, Scenario
from tests.sweeps.world import World

pytestmark = pytest.mark.usefixtures("no_jitter", "quick_disk")

NAMES = st.sampled_from(
    ["run.log", "RUN.LOG", "run.log/x", "1001.log", "1001", "1001/1001.log", ".fanbench/a", "a.part", "a/b"]
)


def is_a_tree(names: set[str]) -> bool:
    """Whether no name is both a file and a folder."""
    return not any(other.startswith(f"{name}/") for name in names for other in names)


def sweep_of(folder: Path, files: dict[str, bytes]) -> World:
    """A sweep of one run with this output, carried out."""
    world = World(folder, Scenario(runs=RunScript(log=((0.5, "said\n"),), output=files)))
    assert world.run()
    return world


@given(st.dictionaries(NAMES, st.binary(max_size=8), max_size=5).filter(lambda files: is_a_tree(set(files))))
@example({"run.log": b"the task's own"})
@example({"run.log/x": b"in a folder"})
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_an_output_keeps_its_files_whatever_their_names(
    tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes]
) -> None:
    """Every file of an output and the log are on the disk byte for byte, and a second start has nothing to do."""
    world = sweep_of(tmp_path_factory.mktemp("sweep"), files)
    world.check_all_done()
    assert world.run()
    assert world.calls.total() == 0


def earlier_sweep(folder: Path) -> World:
    """The same as an earlier version left it, which wrote the log into the folder of the output."""
    world = sweep_of(folder, {"a": b"1"})
    (attempt,) = world.attempts()
    assert attempt.log is not None
    (folder / attempt.log.path).rename(folder / "t1/1/m1/1001/run.log")
    saved = SavedLog("t1/1/m1/1001/run.log", attempt.log.lines, attempt.log.size)
    world.records.save_attempts([attempt.with_(log=saved)])
    return world


def test_a_folder_of_an_earlier_version_is_done(tmp_path: Path) -> None:
    """A log that an earlier version wrote into the folder of the output is found there, and nothing is fetched."""
    world = earlier_sweep(tmp_path)
    assert world.run()
    assert world.calls.total() == 0
    assert world.counts == (1, 0, 0, 0)


def test_a_lost_log_of_an_earlier_version(tmp_path: Path) -> None:
    """A log of an earlier version that was cut is read again, to its new place, and the output is left alone."""
    world = earlier_sweep(tmp_path)
    (tmp_path / "t1/1/m1/1001/run.log").write_text("s")
    assert world.run()
    assert world.calls == {"logs": 1}
    assert (tmp_path / "t1/1/m1/1001.log").read_text() == "said\n"
    assert world.run()
    assert world.calls.total() == 0


def test_a_lost_output_of_an_earlier_version(tmp_path: Path) -> None:
    """An output is fetched again with the log, if that was in its folder, which the download replaces."""
    world = earlier_sweep(tmp_path)
    (tmp_path / "t1/1/m1/1001/a").unlink()
    assert world.run()
    assert world.calls == {"logs": 1, "download_output": 1}
    world.check_all_done()


def test_a_lost_output_does_not_cost_its_log(tmp_path: Path) -> None:
    """An output that was changed is fetched again without its log, which is not in its folder."""
    world = sweep_of(tmp_path, {"a": b"1"})
    (tmp_path / "t1/1/m1/1001/a").unlink()
    assert world.run()
    assert world.calls == {"download_output": 1}
    world.check_all_done()
