"""The lock between processes. tests/sweeps/test_folder.py tests its use for a sweep's folder, with real processes."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from fanbench._util.lock import LockHeld, lock_file


def test_the_error_names_the_owner(tmp_path: Path) -> None:
    """A lock that is held raises an error with the process id of its owner."""
    lock = lock_file(tmp_path / "lock")
    with pytest.raises(LockHeld) as caught:
        lock_file(tmp_path / "lock")
    assert caught.value.pid == os.getpid()
    lock.release()


def test_waiting_for_a_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lock with `wait` is acquired if its owner releases it within that time."""
    owner, waits = lock_file(tmp_path / "lock"), []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        owner.release()

    monkeypatch.setattr(time, "sleep", sleep)
    lock = lock_file(tmp_path / "lock", wait=30)
    assert (len(waits), lock.is_locked, owner.is_locked) == (1, True, False)
    lock.release()


def test_a_folder_is_created(tmp_path: Path) -> None:
    """Missing folders above the lock file are created, and the file stays after the release."""
    path = tmp_path / "a" / "b" / "lock"
    lock = lock_file(path)
    assert path.read_text() == f" {os.getpid()}\n"
    lock.release()
    assert path.exists()
