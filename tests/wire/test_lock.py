"""The lock between processes. tests/sweeps/test_folder.py tests its use for a sweep's folder, with real processes."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from fanbench._util.lock import LockHeld, ProcessLock


def test_the_error_names_the_owner(tmp_path: Path) -> None:
    """A lock that is held raises an error with the process id of its owner."""
    with ProcessLock(tmp_path / "lock"), pytest.raises(LockHeld) as caught:
        ProcessLock(tmp_path / "lock").acquire()
    assert caught.value.pid == os.getpid()


def test_waiting_for_a_lock(tmp_path: Path) -> None:
    """A lock with `wait` is acquired as soon as its owner releases it within that time."""
    owner, waiting = ProcessLock(tmp_path / "lock"), ProcessLock(tmp_path / "lock", wait=30)
    owner.acquire()
    thread = threading.Thread(target=waiting.acquire)
    thread.start()
    owner.release()
    thread.join(timeout=20)
    assert not thread.is_alive()
    with pytest.raises(LockHeld):
        owner.acquire()
    waiting.release()


def test_a_folder_is_created(tmp_path: Path) -> None:
    """Missing folders above the lock file are created, and the file stays after the release."""
    path = tmp_path / "a" / "b" / "lock"
    with ProcessLock(path):
        assert path.read_text() == f"{os.getpid()}\n"
    assert path.read_text() == ""
