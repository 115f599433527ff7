"""One process at a time works on an output folder."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fanbench import JournalError, SweepLocked
from fanbench.sweeps.folder import FolderLock
from tests.sweeps.processes import begun

HOLDER = """
import subprocess, sys
from pathlib import Path
from fanbench.sweeps.folder import FolderLock

with FolderLock(Path(sys.argv[1])):
    print("ready")
    sys.stdin.read()
"""

# Holds the lock, and has a child, by a new program or by a fork, that lives until its stdin ends.
PARENT = """
import os, subprocess, sys
from pathlib import Path
from fanbench.sweeps.folder import FolderLock

lock = FolderLock(Path(sys.argv[1]))
lock.acquire()
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
    with pytest.raises(SweepLocked) as caught:
        FolderLock(root).acquire()
    return caught.value


def test_a_second_process_is_refused(tmp_path: Path) -> None:
    """It is told which process is at work, and goes on when that has ended."""
    with begun(HOLDER, tmp_path) as holder:
        error = refused(tmp_path)
        assert error.pid == holder.pid
        assert f"process {holder.pid}" in str(error)
        assert str(tmp_path) in str(error)
        assert error.hint
        holder.communicate()
    with FolderLock(tmp_path):
        assert (tmp_path / ".fanbench" / "lock").read_text() == f"{os.getpid()}\n"


def test_a_killed_process_holds_nothing(tmp_path: Path) -> None:
    """Its file is there still, with its process id, and is no obstacle."""
    with begun(HOLDER, tmp_path) as holder:
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        assert (tmp_path / ".fanbench" / "lock").read_text() == f"{holder.pid}\n"
        with FolderLock(tmp_path):
            assert refused(tmp_path).pid == os.getpid()


@pytest.mark.skipif(sys.platform == "win32", reason="forks")
@pytest.mark.parametrize("kind", ["program", "fork"])
def test_children_do_not_hold_it(tmp_path: Path, kind: str) -> None:
    """A process that is killed lets go of it, though a child of it lives on; until then it holds it."""
    with begun(PARENT, tmp_path, kind) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert refused(tmp_path).pid == parent.pid
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        os.kill(child, 0)
        with FolderLock(tmp_path):
            os.kill(child, 0)


@pytest.mark.skipif(sys.platform == "win32", reason="forks")
def test_the_end_of_a_forked_child_does_not_let_go(tmp_path: Path) -> None:
    """It is the parent's."""
    with FolderLock(tmp_path):
        child = os.fork()
        if child == 0:
            os._exit(0)
        os.waitpid(child, 0)
        assert refused(tmp_path).pid == os.getpid()


def test_two_sweeps_in_one_process(tmp_path: Path) -> None:
    """They exclude each other, and the refused one takes nothing from the other."""
    with FolderLock(tmp_path):
        for _ in range(3):
            assert refused(tmp_path).pid == os.getpid()
    with FolderLock(tmp_path):
        pass


def test_other_folders_are_free(tmp_path: Path) -> None:
    """Each has a lock of its own; they are made where they are not there."""
    with FolderLock(tmp_path / "one"), FolderLock(tmp_path / "two" / "three"):
        assert (tmp_path / "two" / "three").is_dir()


def test_two_ways_to_one_folder(tmp_path: Path) -> None:
    """A link is no way around it."""
    (tmp_path / "link").symlink_to(tmp_path / "one")
    with FolderLock(tmp_path / "one"):
        assert refused(tmp_path / "link").pid == os.getpid()


def test_letting_go_twice_is_letting_go(tmp_path: Path) -> None:
    """Nobody else's lock is given away by it."""
    lock = FolderLock(tmp_path)
    lock.acquire()
    lock.release()
    with FolderLock(tmp_path):
        lock.release()
        assert refused(tmp_path).pid == os.getpid()
    lock.release()
    with lock:
        assert refused(tmp_path).pid == os.getpid()


def test_a_folder_that_was_set_aside_is_not_the_one_that_is_there(tmp_path: Path) -> None:
    """Who holds the moved one does not hold the new one."""
    with FolderLock(tmp_path / "out"):
        (tmp_path / "out").rename(tmp_path / "out.1")
        with FolderLock(tmp_path / "out"):
            assert refused(tmp_path / "out").pid == os.getpid()


def test_who_waited_for_a_folder_that_went_away_takes_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lock on a file that was moved in that very moment is none."""
    from fanbench._util import lock

    moved: list[Path] = []
    real: Callable[[int], bool] = lock._try_to_lock

    def moved_away(handle: int) -> bool:
        if not moved:
            moved.append((tmp_path / "out").rename(tmp_path / "out.1"))
        return real(handle)

    monkeypatch.setattr(lock, "_try_to_lock", moved_away)
    with FolderLock(tmp_path / "out"):
        assert refused(tmp_path / "out").pid == os.getpid()


def test_a_holder_that_has_not_said_who_it_is(tmp_path: Path) -> None:
    """Then nobody is named, rather than somebody."""
    with FolderLock(tmp_path):
        (tmp_path / ".fanbench" / "lock").write_text("")
        error = refused(tmp_path)
    assert error.pid is None
    assert "another process" in str(error)


def test_a_disk_that_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who cannot say who it is holds nothing."""
    with monkeypatch.context() as full:

        def no_space(handle: int, data: bytes) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        full.setattr(os, "write", no_space)
        with pytest.raises(JournalError, match="No space left"):
            FolderLock(tmp_path).acquire()
    with FolderLock(tmp_path):
        pass


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    """The error names the place."""
    (tmp_path / "out").touch()
    with pytest.raises(JournalError, match=r"Cannot write .*out"):
        FolderLock(tmp_path / "out").acquire()


def test_programs_started_meanwhile_have_no_handle_of_it(tmp_path: Path) -> None:
    """Not even where all handles are passed on."""
    with FolderLock(tmp_path) as lock:
        handle = lock._handle
        assert handle is not None
        assert not os.get_inheritable(handle)
        code = f"import os; os.fstat({handle})"
        asked = subprocess.run([sys.executable, "-c", code], close_fds=False, stderr=subprocess.DEVNULL)
        assert asked.returncode == 1
