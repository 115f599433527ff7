"""Temporary folders: deleted at the end, or by the next process if theirs was killed."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from fanbench._util.files import async_temporary_folder, temporary_folder

_HOLDER = (
    "import sys; from pathlib import Path; from fanbench._util.files import temporary_folder\n"
    "with temporary_folder('.fanbench-test-', Path(sys.argv[1])) as folder:\n"
    "    (folder / 'half').mkdir(); print(folder, flush=True); sys.stdin.read()\n"
)


def _start_holder(place: Path) -> tuple[subprocess.Popen[str], Path]:
    process = subprocess.Popen(
        [sys.executable, "-c", _HOLDER, str(place)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    return process, Path(process.stdout.readline().strip())


@pytest.mark.skipif(os.name == "nt", reason="Windows locks no folders")
def test_only_abandoned_folders_are_deleted(tmp_path: Path) -> None:
    """The next folder with a prefix deletes those of killed processes, and neither one in use nor anything else."""
    alive, used = _start_holder(tmp_path)
    killed, left = _start_holder(tmp_path)
    others = [
        tmp_path / name for name in (".fanbench-test-", ".fanbench-test-mine", ".fanbench-tests-12345678")
    ]
    for folder in others:
        folder.mkdir()
    (link := tmp_path / ".fanbench-test-abcdefgh").symlink_to(others[0], target_is_directory=True)
    killed.kill()
    killed.communicate()
    assert left.is_dir()
    with temporary_folder(".fanbench-test-", tmp_path) as own:
        assert {*tmp_path.iterdir()} == {own, used, link, *others}
    alive.communicate(timeout=30)
    assert {*tmp_path.iterdir()} == {link, *others}


def test_folders_that_are_made_at_once_are_kept(tmp_path: Path) -> None:
    """Many that make folders at the same moment take none of each other's for an abandoned one."""
    together = Barrier(8)

    def use(_: int) -> None:
        for _ in range(20):
            together.wait(30)
            with temporary_folder(".fanbench-test-", tmp_path) as folder:
                (folder / "file").write_text("kept")
                together.wait(30)
                assert (folder / "file").read_text() == "kept"

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(use, range(8)))
    assert not list(tmp_path.iterdir())


@pytest.mark.anyio
async def test_an_error_deletes_the_folder(tmp_path: Path) -> None:
    """The folder is deleted if its block raises, and the error comes through."""

    async def fail() -> None:
        async with async_temporary_folder(".fanbench-test-", tmp_path) as folder:
            (folder / "file").touch()
            raise KeyError

    with pytest.raises(KeyError):
        await fail()
    assert not list(tmp_path.iterdir())
