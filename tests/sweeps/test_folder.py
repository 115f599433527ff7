"""The output folder: only one process at a time works in it, and `--fresh` sets an earlier sweep aside."""

from __future__ import annotations

import errno
import os
import signal
import sys
from pathlib import Path

import pytest

from fanbench import JournalError, SweepLocked
from fanbench.sweeps.folder import lock_folder, set_aside
from fanbench.sweeps.journal import JOURNAL, Journal
from tests.sweeps.processes import begun

HOLDER = """
import subprocess, sys
from pathlib import Path
from fanbench.sweeps.folder import lock_folder

with lock_folder(Path(sys.argv[1])):
    print("ready")
    sys.stdin.read()
"""

# Holds the lock and starts a child, as a program or by a fork, that lives until its stdin ends.
PARENT = """
import os, subprocess, sys
from pathlib import Path
from fanbench.sweeps.folder import lock_folder

holding = lock_folder(Path(sys.argv[1]))
holding.__enter__()
if sys.argv[2] == "program":
    child = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], close_fds=False).pid
else:
    up, say_up = os.pipe()
    if (child := os.fork()) == 0:
        os.write(say_up, b"!")
        sys.stdin.read()
        os._exit(0)
    os.read(up, 1)  # until then it may still be on its way out of the fork, with the lock
print("ready")
print(child)
sys.stdin.read()
"""


def refused(root: Path) -> SweepLocked:
    with pytest.raises(SweepLocked) as caught, lock_folder(root):
        pass
    return caught.value


def test_a_second_process_is_refused(tmp_path: Path) -> None:
    """A second process is told which process holds the lock, and gets it once that has ended."""
    with begun(HOLDER, tmp_path) as holder:
        error = refused(tmp_path)
        assert error.pid == holder.pid
        assert f"process {holder.pid}" in str(error)
        assert str(tmp_path) in str(error)
        assert error.hint
        holder.communicate()
    with lock_folder(tmp_path):
        assert (tmp_path / ".fanbench" / "lock").read_text() == f" {os.getpid()}\n"


def test_a_killed_process_holds_nothing(tmp_path: Path) -> None:
    """The file that a killed process leaves, with its process id, is not an obstacle."""
    with begun(HOLDER, tmp_path) as holder:
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        assert (tmp_path / ".fanbench" / "lock").read_text() == f" {holder.pid}\n"
        with lock_folder(tmp_path):
            assert refused(tmp_path).pid == os.getpid()


@pytest.mark.skipif(sys.platform == "win32", reason="forks")
@pytest.mark.parametrize("kind", ["program", "fork"])
def test_children_do_not_hold_the_lock(tmp_path: Path, kind: str) -> None:
    """The lock of a killed process is free even if a child of it lives on, and held until then."""
    with begun(PARENT, tmp_path, kind) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert refused(tmp_path).pid == parent.pid
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        os.kill(child, 0)
        with lock_folder(tmp_path):
            os.kill(child, 0)


@pytest.mark.skipif(sys.platform == "win32", reason="forks")
def test_the_end_of_a_forked_child_does_not_release_the_lock(tmp_path: Path) -> None:
    """A forked child that ends does not release its parent's lock."""
    with lock_folder(tmp_path):
        child = os.fork()
        if child == 0:
            os._exit(0)
        os.waitpid(child, 0)
        assert refused(tmp_path).pid == os.getpid()


def test_two_sweeps_in_one_process(tmp_path: Path) -> None:
    """Two locks exclude each other within one process, and a refused one takes nothing from the other."""
    with lock_folder(tmp_path):
        for _ in range(3):
            assert refused(tmp_path).pid == os.getpid()
    with lock_folder(tmp_path):
        pass


def test_other_folders_are_free(tmp_path: Path) -> None:
    """Each folder has its own lock, and missing folders are created."""
    with lock_folder(tmp_path / "one"), lock_folder(tmp_path / "two" / "three"):
        assert (tmp_path / "two" / "three").is_dir()


def test_two_ways_to_one_folder(tmp_path: Path) -> None:
    """A link to a folder leads to the same lock."""
    (tmp_path / "link").symlink_to(tmp_path / "one")
    with lock_folder(tmp_path / "one"):
        assert refused(tmp_path / "link").pid == os.getpid()


def test_releasing_twice_is_harmless(tmp_path: Path) -> None:
    """A second release does not release the lock of another holder."""
    with lock_folder(tmp_path) as lock:
        lock.release()
        with lock_folder(tmp_path):
            lock.release()
            assert refused(tmp_path).pid == os.getpid()


def test_the_lock_of_a_renamed_folder_is_not_that_of_the_new_one(tmp_path: Path) -> None:
    """A process that holds a renamed folder does not hold the new one."""
    with lock_folder(tmp_path / "out"):
        (tmp_path / "out").rename(tmp_path / "out.1")
        with lock_folder(tmp_path / "out"):
            assert refused(tmp_path / "out").pid == os.getpid()


@pytest.mark.skipif(sys.platform == "win32", reason="fcntl")
def test_a_file_that_is_moved_while_it_is_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the lock's file is moved at that moment, the new file is locked instead."""
    import fcntl

    moved: list[Path] = []
    real = fcntl.flock

    def moved_away(handle: int, operation: int) -> None:
        if not moved:
            moved.append((tmp_path / "out").rename(tmp_path / "out.1"))
        real(handle, operation)

    monkeypatch.setattr(fcntl, "flock", moved_away)
    with lock_folder(tmp_path / "out"):
        assert refused(tmp_path / "out").pid == os.getpid()


def test_a_holder_without_a_process_id(tmp_path: Path) -> None:
    """If the file has no process id, the error names none."""
    with lock_folder(tmp_path):
        (tmp_path / ".fanbench" / "lock").write_text("")
        error = refused(tmp_path)
    assert error.pid is None
    assert "another process" in str(error)


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lock whose process id cannot be written is not held."""
    with monkeypatch.context() as full:

        def no_space(handle: int, data: bytes) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        full.setattr(os, "write", no_space)
        with pytest.raises(JournalError, match="No space left"), lock_folder(tmp_path):
            pass
    with lock_folder(tmp_path):
        pass


def test_a_folder_that_cannot_be_created(tmp_path: Path) -> None:
    """The error names the folder that cannot be created."""
    (tmp_path / "out").touch()
    with pytest.raises(JournalError, match=r"Cannot write .*out"), lock_folder(tmp_path / "out"):
        pass


# --- Set aside ----------------------------------------------------------------------------------------------


def swept(root: Path) -> Path:
    with Journal.open(root) as journal:
        journal.save_spec(root.name)
    (root / "t").mkdir()
    (root / "t" / "output").write_text("kept")
    (root / "summary.json").write_text("{}")
    return root


def spec_of(root: Path) -> str | None:
    journal = Journal.read(root)
    assert journal is not None
    with journal:
        return journal.saved_spec()


def test_a_sweep_is_set_aside_whole(tmp_path: Path) -> None:
    """The folder is renamed to the first free name, and an empty one takes its place."""
    root = swept(tmp_path / "out")
    (tmp_path / "out.1").touch()
    aside = set_aside(root)
    assert aside == tmp_path / "out.2"
    assert spec_of(aside) == "out"
    assert (aside / "t" / "output").read_text() == "kept"
    assert list(root.iterdir()) == []
    swept(root)
    assert set_aside(root) == tmp_path / "out.3"


@pytest.mark.parametrize("damage", [b"", b"no journal at all" * 100])
def test_a_damaged_journal_is_set_aside(tmp_path: Path, damage: bytes) -> None:
    """The state of the journal does not matter."""
    root = swept(tmp_path / "out")
    (root / JOURNAL).write_bytes(damage)
    assert set_aside(root) == tmp_path / "out.1"


def test_a_folder_without_a_sweep_stays(tmp_path: Path) -> None:
    """A folder without a journal stays, and a missing folder stays missing."""
    (tmp_path / "out" / ".fanbench").mkdir(parents=True)
    (tmp_path / "out" / "photo").touch()
    assert set_aside(tmp_path / "out") is None
    assert (tmp_path / "out" / "photo").exists()
    assert set_aside(tmp_path / "none") is None
    assert not (tmp_path / "none").exists()


def test_a_link_leads_to_the_new_folder(tmp_path: Path) -> None:
    """The folder behind a link is renamed, and the link leads to a new folder."""
    (tmp_path / "disk").mkdir()
    swept(tmp_path / "disk" / "real")
    link = tmp_path / "out"
    link.symlink_to(tmp_path / "disk" / "real")
    assert set_aside(link) == tmp_path / "disk" / "real.1"
    assert link.is_symlink()
    swept(link)
    assert spec_of(tmp_path / "disk" / "real") == "out"


def test_a_broken_link_leads_to_a_new_folder(tmp_path: Path) -> None:
    """After a kill between the two renames, the link's folder is created."""
    link = tmp_path / "out"
    link.symlink_to(tmp_path / "real")
    with lock_folder(link), Journal.open(link):
        assert (tmp_path / "real" / JOURNAL).exists()


@pytest.mark.parametrize("place", [".", "t"])
def test_the_current_folder_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    """In the current folder, only what belongs to the sweep is renamed, within it."""
    root = swept(tmp_path / "out")
    monkeypatch.chdir(root / place)
    assert set_aside(Path(os.path.relpath(root))) == root / ".fanbench.1"
    assert (root / "t" / "output").exists()
    assert not (root / ".fanbench").exists()
    assert not (root / "summary.json").exists()
    assert (root / ".fanbench.1" / "summary.json").exists()
    Journal.open(root).close()
    assert set_aside(root) == root / ".fanbench.2"


def test_a_folder_that_cannot_be_renamed_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a folder that cannot be renamed, such as a mount point, the journal is renamed within it."""
    root = swept(tmp_path / "out")
    rename = Path.rename

    def refused(self: Path, target: Path) -> Path:
        if self == root:
            raise OSError(16, "Device or resource busy")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refused)
    assert set_aside(root) == root / ".fanbench.1"
    assert (root / "t" / "output").exists()


def test_a_sweep_at_work_is_not_set_aside(tmp_path: Path) -> None:
    """A folder whose lock is held is not renamed."""
    root = swept(tmp_path / "out")
    with lock_folder(root), pytest.raises(SweepLocked):
        set_aside(root)
    assert root.exists()
    assert not (tmp_path / "out.1").exists()
